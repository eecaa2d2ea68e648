"""Pictures of a data set for a report: one image a class, as PNG."""

import base64
import io

import torch
from PIL import Image
from torch import Tensor

from lib import data

PICTURES = 6  # of each change


def png(image: Tensor) -> str:
    """One image C×H×W in [0, 1] as a PNG, base64."""
    array = (image.detach().cpu() * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(array[..., 0] if array.shape[2] == 1 else array).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def one_a_class(labels: Tensor) -> list[int]:
    """Indices of `PICTURES` images, one of each of the first classes; several of a class if there are fewer classes."""
    return data.balanced(labels, min(PICTURES, len(labels))).tolist()
