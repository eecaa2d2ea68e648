"""The transforms that make the variants of a data set: they change the distribution of the images and keep their meaning.

Every transform takes a batch of images, float `N×C×H×W` with values in [0, 1], on any device, and returns the same
shape with values in [0, 1]. All raise ValueError for images of another shape or range.
"""

import math
import re
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lib.base import checks

Images = Float[Tensor, "n c h w"]

FOOTPRINTS = ("column", "square")


def binarize(x: Images) -> Images:
    """Round every pixel to 0 or 1, one half upwards (Section 2.2, footnote 5)."""
    checks.images(x)
    return (x >= 0.5).to(x.dtype)


def smooth(x: Images, size: int, footprint: str = "column") -> Images:
    """Average filter of `size` pixels, then the pixel-wise maximum with the image itself (Section 3.1).

    `footprint="square"` is the filter of the text, size×size. `"column"`, size×1 and vertical, is the one that gives
    the numbers of the paper's Tables 1 and 6, so it is the default. Outside the image the column filter sees the image
    mirrored without repeating the edge (reflect-101), the square one zeros, as a plain filter would; the paper
    specifies neither. For an even size s the window covers rows i - s/2 … i + s/2 - 1. Size 1 is the identity.

    Raises ValueError for a size that is not a whole number ≥ 1, or so large that half of it leaves the image.
    """
    checks.images(x)
    if footprint not in FOOTPRINTS:
        raise ValueError(f"footprint must be one of {', '.join(FOOTPRINTS)}, given {footprint!r}")
    size = checks.whole_number("the filter's size, in pixels,", size, 1)
    before, after = size // 2, size - 1 - size // 2
    if before >= x.shape[2] or (footprint == "square" and before >= x.shape[3]):
        raise ValueError(f"a filter of size {size} is too large for images of {x.shape[2]}×{x.shape[3]} pixels")
    if footprint == "square":
        padded, width = F.pad(x, (before, after, before, after)), size
    else:
        padded, width = F.pad(x, (0, 0, before, after), mode="reflect"), 1
    # An average of values in [0, 1] can leave the interval by a rounding error; the maximum keeps it above x ≥ 0.
    average = F.avg_pool2d(padded, kernel_size=(size, width), stride=1).clamp_(max=1.0)
    return torch.maximum(x, average)


def saturate(x: Images, level: float) -> Images:
    """`sign(2x - 1) |2x - 1|^(2/level) / 2 + 1/2` (Section 3.1): level 2 is the identity.

    `math.inf` is the binarization, except for a pixel of exactly 1/2: it stays 1/2, and the binarization rounds it to 1.
    Raises ValueError for a level that is not positive.
    """
    checks.images(x)
    if not level > 0:
        raise ValueError(f"the saturation level must be > 0 (or inf), given {level!r}")
    if level == 2:
        return x.clone()  # the formula gives the identity; this avoids rounding
    centred = 2 * x - 1
    return centred.sign() * centred.abs() ** (2 / level) / 2 + 0.5


def adjust_gamma(x: Images, gamma: float) -> Images:
    """`x^gamma`, the gamma mapping of Section 4.1: below 1 brighter, above 1 darker.

    Raises ValueError for a gamma that is not positive and finite.
    """
    checks.images(x)
    if not 0 < gamma < math.inf:
        raise ValueError(f"gamma must be > 0 and finite, given {gamma!r}")
    return x**gamma


def rescale(x: Images, factor: float) -> Images:
    """`factor · (x - 1/2) + 1/2` (Section 5.2): below 1 every pixel moves towards the centre at the same rate.

    Raises ValueError for a factor outside [0, 1], which would leave the unit cube.
    """
    checks.images(x)
    if not 0 <= factor <= 1:
        raise ValueError(f"the scale factor must lie in [0, 1], given {factor!r}")
    return factor * (x - 0.5) + 0.5


def edges(x: Images, sigma: float = 1.0) -> Images:
    """Canny's edges, 0 or 1, of every image and channel (Section 4.2; scikit-image's defaults except for `sigma`).

    `sigma` is the standard deviation, in pixels, of the Gaussian filter before the detector. Computed on the CPU.
    Raises ValueError for a sigma that is not positive.
    """
    checks.images(x)
    if not sigma > 0:
        raise ValueError(f"sigma must be > 0 pixels, given {sigma!r}")
    from skimage.feature import canny  # of the edges alone

    planes = x.detach().cpu().to(torch.float64).flatten(0, 1).numpy()
    edge_maps = np.stack([canny(plane, sigma=sigma) for plane in planes]) if len(planes) else planes
    return torch.from_numpy(edge_maps).to(x).view_as(x)


def _identity(x: Images) -> Images:
    checks.images(x)
    return x


# The form of a name, what the transform does ("{}": its level), an example, the pattern of the name, and the function.
FORMS: tuple[tuple[str, str, str, str, Callable[..., Callable[[Tensor], Tensor]]], ...] = (
    ("original", "the unchanged images", "original", r"original", lambda: _identity),
    ("binarize", "each pixel rounded to 0 or 1 (a transform of the paper)", "binarize", r"binarize", lambda: binarize),
    ("smooth-SIZE", "average over {} pixels of a column, then the maximum with the image (the paper's data)", "smooth-3",
     r"smooth-([0-9]+)", lambda s: partial(smooth, size=int(s))),
    ("smooth-square-SIZE", "average over {0}×{0} pixels, then the maximum with the image (the paper's text)", "smooth-square-3",
     r"smooth-square-([0-9]+)", lambda s: partial(smooth, size=int(s), footprint="square")),
    ("saturate-LEVEL", "pixels moved towards 0 and 1, saturation level {} (a transform of the paper; level 2 changes nothing)",
     "saturate-8", r"saturate-([0-9]*\.?[0-9]+|inf)", lambda s: partial(saturate, level=float(s))),
    ("gamma-GAMMA", "pixel values to the power of {} (a transform of the paper)", "gamma-0.6",
     r"gamma-([0-9]*\.?[0-9]+)", lambda s: partial(adjust_gamma, gamma=float(s))),
    ("rescale-FACTOR", "distance of the pixel values from 1/2 multiplied by {} (a transform of the paper)", "rescale-0.5",
     r"rescale-([0-9]*\.?[0-9]+)", lambda s: partial(rescale, factor=float(s))),
    ("edges", "edges found by Canny's detector (a transform of the paper)", "edges", r"edges", lambda: edges),
)  # fmt: skip
_RESCALE_TO = re.compile(r"rescale-to-(.+)")


def rescale_target(name: str) -> str | None:
    """The transform that the step `rescale-to-…` of a name takes its inter-class distance from; None without such a step."""
    match = _RESCALE_TO.fullmatch(name.split("+")[-1])
    return match[1] if match else None


def parse(name: str, factor: float | None = None) -> Callable[[Images], Images]:
    """The transform called `name`; steps joined by `+` are applied from left to right.

    `parse("smooth-3")`, `parse("saturate-inf")`, `parse("binarize+rescale-0.821")`. A last step `rescale-to-TRANSFORM`
    names the set whose inter-class distance is to be reached (Table 1); its `factor` depends on the data, is solved
    for by `run.material.scale_factor`, and is given here.

    Raises ValueError, listing what is allowed, for any other name, and for a level that its transform refuses.
    """
    steps = []
    for i, step in enumerate(parts := name.split("+")):
        match = _RESCALE_TO.fullmatch(step)
        if match:
            if i + 1 < len(parts):
                raise ValueError(f"transform {name!r}: rescale-to-TRANSFORM must be the last step, its factor is solved for")
            parse(match[1])
            if factor is None:
                raise ValueError(f"transform {name!r} needs its scale factor, which is solved for from the data")
            steps.append(partial(rescale, factor=factor))
            continue
        for *_, pattern, make in FORMS:
            match = re.fullmatch(pattern, step)
            if match:
                steps.append(make(*match.groups()))
                break
        else:
            allowed = ", ".join(form for form, *_ in FORMS)
            raise ValueError(f"unknown transform {name!r}; allowed: {allowed}, rescale-to-TRANSFORM, joined by +")
        try:
            steps[-1](torch.zeros(0, 1, 512, 512))  # the level is checked now, before the data are loaded
        except ValueError as error:
            raise ValueError(f"transform {name!r}: {error}") from None

    def apply(x: Images) -> Images:
        for step in steps:
            x = step(x)
        return x

    return apply
