"""Checks of the images and labels that public functions are given, with one-line errors."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor


def _description(x: object) -> str:
    if isinstance(x, Tensor):
        return f"{x.dtype} of shape {tuple(x.shape)}"
    if isinstance(x, np.ndarray):
        return "an array of numpy; torch.from_numpy(…) makes it a tensor"
    return f"a {type(x).__name__}"


def _number(value: float, dtype: torch.dtype) -> str:
    """`value` with as many digits as distinguish it from its neighbours: 1.0000001 is not printed as 1."""
    return (repr(value) if dtype == torch.float64 else str(np.float32(value))).removesuffix(".0")


def images(x: Tensor, bounds: Sequence[float] | None = (0.0, 1.0), *, shape: str = "N×C×H×W") -> None:
    """Raise ValueError unless `x` is a float tensor N×C×H×W of finite values, all within `bounds` if these are given.

    `shape` "N×…": points of any shape, where only their distances or volumes matter.
    """
    fits = isinstance(x, Tensor) and (x.ndim == 4 if shape == "N×C×H×W" else x.ndim >= 2)
    if not fits or not x.is_floating_point():
        hint = "; x.float() / 255 is one" if fits and x.dtype == torch.uint8 else ""
        raise ValueError(f"images must be a float tensor {shape}, given {_description(x)}{hint}")
    if not x.numel():
        return
    low, high = (value.item() for value in x.aminmax())
    if math.isnan(low):
        raise ValueError("images must be numbers, given images with NaN")
    if bounds is not None and not bounds[0] <= low <= high <= bounds[1]:
        hint = "; divide images of 0 to 255 by 255" if tuple(bounds) == (0, 1) and 1 < high <= 255 and high > 2 else ""
        given = f"values from {_number(low, x.dtype)} to {_number(high, x.dtype)}"
        raise ValueError(f"images must lie in [{bounds[0]:g}, {bounds[1]:g}], given {given}{hint}")
    if math.isinf(low) or math.isinf(high):
        raise ValueError(f"images must be finite, given values from {low:g} to {high:g}")


def labels(y: Tensor, x: Tensor, classes: int | None = None) -> None:
    """Raise ValueError unless `y` has one class for each image of `x`: int64, from 0 to `classes` - 1 if that is given."""
    if not isinstance(y, Tensor) or y.ndim != 1 or y.dtype != torch.int64:
        hint = ""
        if isinstance(y, Tensor) and y.ndim == 2:
            hint = "; y.squeeze(1) is one" if y.shape[1] == 1 else "; y.argmax(1) is one of one-hot labels"
        elif isinstance(y, Tensor) and y.ndim == 1 and not (y.is_floating_point() or y.is_complex()):
            hint = "; y.long() is one"
        raise ValueError(f"labels must be an int64 tensor of length N, given {_description(y)}{hint}")
    if len(y) != len(x):
        raise ValueError(f"every image needs one label, given {len(x)} images and {len(y)} labels")
    if y.device != x.device:
        raise ValueError(f"images and labels must be on the same device, given {x.device} and {y.device}")
    if not len(y):
        return
    low, high = (int(value) for value in y.aminmax())
    if low < 0 or (classes is not None and high >= classes):
        last = "" if classes is None else f" to {classes - 1}"
        raise ValueError(f"labels must be classes from 0{last}, given labels from {low} to {high}")


def logits(given: object, images: int) -> None:
    """ValueError unless a model gave logits, N×classes, for so many images."""
    if not isinstance(given, Tensor) or given.ndim != 2:
        shape = f"shape {tuple(given.shape)}" if isinstance(given, Tensor) else _description(given)
        number = "one image" if images == 1 else f"{images} images"
        raise ValueError(f"the model must give logits N×classes, given {shape} for {number}")


def whole_number(name: str, value: float, least: int) -> int:
    """`value` as an int; ValueError unless it is a whole number ≥ `least`."""
    if isinstance(value, bool) or not math.isfinite(value) or not float(value).is_integer() or value < least:
        raise ValueError(f"{name} must be a whole number ≥ {least}, given {value!r}")
    return int(value)


def settings(function: Callable, given: Mapping[str, object], *, but: str) -> None:
    """ValueError for a setting that `function` does not take, or that is missing; `but`: its argument that is no setting."""
    declared = {name: each for name, each in inspect.signature(function).parameters.items() if name != but}
    if unknown := [name for name in given if name not in declared]:
        raise ValueError(f"unknown setting {unknown[0]!r}; allowed: {', '.join(declared)}")
    if missing := [name for name, each in declared.items() if each.default is each.empty and name not in given]:
        raise ValueError(f"settings are missing: {', '.join(missing)}")
