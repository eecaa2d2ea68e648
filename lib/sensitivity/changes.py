"""The changes of the images: the paper's transforms, common edits of photographs, and the user's own functions.

A change maps images in [0, 1], `N×C×H×W`, to images of the same shape in [0, 1]. Those that Pillow makes see 8-bit images.
"""

import hashlib
import importlib.util
import io
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from lib import transforms
from lib.store import schema

Images = Float[Tensor, "n c h w"]
ORIGINAL = "original"


class ChangeError(ValueError):
    """A change is unknown, or does not give images; said in one line, whatever a user's file is called or raises."""

    def __init__(self, message: str) -> None:
        super().__init__(schema.one_line(message))


def _each_array(function: Callable[[np.ndarray], np.ndarray], x: Images) -> Images:
    """`function` of each image as scikit-image has it: float64, H×W or H×W×3."""
    arrays = x.detach().cpu().double().permute(0, 2, 3, 1).numpy()
    grey = arrays.shape[3] == 1
    found = [function(array[..., 0] if grey else array) for array in arrays]
    stacked = torch.from_numpy(np.stack(found)) if found else torch.zeros(arrays.shape)
    stacked = stacked[:, None] if grey and found else stacked.permute(0, 3, 1, 2)
    return stacked.clamp(0, 1).to(x).contiguous()


def _each_picture(function: Callable[[Image.Image], Image.Image], x: Images) -> Images:
    """`function` of each image as Pillow has it: 8 bits, mode L or RGB."""

    def through(array: np.ndarray) -> np.ndarray:
        return np.asarray(function(Image.fromarray(np.round(array * 255).astype(np.uint8)))) / 255

    return _each_array(through, x)


def _jpeg(quality: int, picture: Image.Image) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    with Image.open(file, formats=("JPEG",)) as opened:
        opened.load()
        return opened


def _resized(factor: float, picture: Image.Image) -> Image.Image:
    small = [max(1, round(factor * side)) for side in picture.size]
    return picture.resize(small, Image.Resampling.BICUBIC).resize(picture.size, Image.Resampling.BICUBIC)


def _enhanced(kind: type, factor: float, picture: Image.Image) -> Image.Image:
    return kind(picture).enhance(factor)


def _clahe(array: np.ndarray) -> np.ndarray:
    from skimage.exposure import equalize_adapthist  # imports of a second, for the changes that need them

    return equalize_adapthist(array, kernel_size=max(4, array.shape[0] // 4))


def _blurred(sigma: float, array: np.ndarray) -> np.ndarray:
    from skimage.filters import gaussian

    return gaussian(array, sigma=sigma, channel_axis=-1 if array.ndim == 3 else None)


def _denoised(weight: float, array: np.ndarray) -> np.ndarray:
    from skimage.restoration import denoise_tv_chambolle

    return denoise_tv_chambolle(array, weight=weight, channel_axis=-1 if array.ndim == 3 else None)


def _grey(x: Images) -> Images:
    from skimage.color import gray2rgb, rgb2gray

    if x.shape[1] == 1:
        raise ValueError("the images are grey already")
    return _each_array(lambda array: gray2rgb(rgb2gray(array)), x)


def _within(name: str, low: float, high: float, text: str) -> float:
    value = float(text)
    if not low <= value <= high:
        raise ValueError(f"{name} must lie in [{low:g}, {high:g}], given {text}")
    return value


_NUMBER = r"([0-9]*\.?[0-9]+)"
# What a name may be, what it does, an example, and how it is read. The paper's transforms come besides, from `lib.transforms`.
_DECLARED: tuple[tuple[str, str, str, str, Callable], ...] = (
    ("jpeg-QUALITY", "saved as JPEG and read again (Pillow)", "jpeg-30", r"jpeg-([0-9]+)",
     lambda q: partial(_each_picture, partial(_jpeg, int(_within("the quality", 1, 100, q))))),
    ("resize-FACTOR", "made smaller by the factor, then as large as before (Pillow)", "resize-0.5", rf"resize-{_NUMBER}",
     lambda f: partial(_each_picture, partial(_resized, _within("the factor", 0.05, 1, f)))),
    ("contrast-FACTOR", "contrast times the factor (Pillow)", "contrast-0.5", rf"contrast-{_NUMBER}",
     lambda f: partial(_each_picture, partial(_enhanced, ImageEnhance.Contrast, _within("the factor", 0, 10, f)))),
    ("brightness-FACTOR", "brightness times the factor (Pillow)", "brightness-1.5", rf"brightness-{_NUMBER}",
     lambda f: partial(_each_picture, partial(_enhanced, ImageEnhance.Brightness, _within("the factor", 0, 10, f)))),
    ("clahe", "local normalisation: adaptive histogram equalisation (scikit-image)", "clahe", r"clahe",
     lambda: partial(_each_array, _clahe)),
    ("equalise", "histogram equalisation of the whole image (Pillow)", "equalise", r"equalise",
     lambda: partial(_each_picture, ImageOps.equalize)),
    ("blur-SIGMA", "Gaussian blur, SIGMA in pixels (scikit-image)", "blur-1", rf"blur-{_NUMBER}",
     lambda s: partial(_each_array, partial(_blurred, _within("sigma", 0.01, 20, s)))),
    ("denoise-WEIGHT", "noise removal, by total variation (scikit-image)", "denoise-0.1", rf"denoise-{_NUMBER}",
     lambda w: partial(_each_array, partial(_denoised, _within("the weight", 0.001, 10, w)))),
    ("grey", "grey, in three equal channels (scikit-image)", "grey", r"grey", lambda: _grey),
    ("quantise-BITS", "so many bits a channel (Pillow)", "quantise-2", r"quantise-([0-9]+)",
     lambda b: partial(_each_picture, partial(ImageOps.posterize, bits=int(_within("the number of bits", 1, 8, b))))),
)  # fmt: skip
_PAPER = {
    "binarize": "every pixel to 0 or 1 (the paper's)",
    "smooth-3": "average filter, 3 pixels of a column, then the maximum with the image (the paper's; smooth-SIZE)",
    "smooth-square-3": "the same with a square filter (smooth-square-SIZE)",
    "saturate-8": "pixels towards 0 and 1 (the paper's; saturate-LEVEL, inf is binarize)",
    "gamma-0.6": "pixels to the power of GAMMA (the paper's; gamma-GAMMA)",
    "rescale-0.5": "pixels towards one half by the factor (the paper's; rescale-FACTOR)",
    "edges": "Canny's edges (the paper's)",
}
DEFAULTS = ("gamma-0.6", "contrast-0.5", "jpeg-30", "resize-0.5", "clahe", "quantise-2", "edges")


def _described(name: str) -> str:
    """What a transform of the paper does, whatever its level; of several, one after another."""
    kinds = {example.partition("-")[0]: does for example, does in _PAPER.items() if "square" not in example}
    return ", then ".join(
        _PAPER["smooth-square-3"] if "square" in step else kinds.get(step.partition("-")[0], "the images as they are")
        for step in name.split("+")
    )


def listed(channels: int) -> dict[str, str]:
    """An example of every change there is for images of so many channels, and what it does."""
    declared = {example: does for _, does, example, _, _ in _DECLARED if channels == 3 or example != "grey"}
    return {ORIGINAL: "the images as they are", **declared, **_PAPER}


@dataclass(frozen=True)
class Change:
    """A change by its name. Calling it checks what it gives: ChangeError for another shape, NaN, or values beyond [0, 1]."""

    name: str
    function: Callable[[Images], Images]
    does: str = "yours"  # in words
    source: str = ""  # of a user's file, its sha256

    def __call__(self, x: Images) -> Images:
        """The changed images: contiguous float32 on the device of `x`, without a gradient's history if it has none."""
        try:
            found = self.function(x.clone())  # it may work in place
        except (Exception, SystemExit) as error:  # a user's function may raise anything
            raise ChangeError(f"change {self.name}: {reason(error)}") from None
        if not isinstance(found, Tensor) or not found.is_floating_point():
            given = f"{found.dtype}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
            raise ChangeError(f"change {self.name} must return a float tensor of images in [0, 1], it returned {given}")
        if found.layout != torch.strided or found.is_meta:
            raise ChangeError(f"change {self.name} must return a dense tensor that holds pixels, on any device")
        if found.shape != x.shape:
            raise ChangeError(
                f"change {self.name} must keep the shape {tuple(x.shape)}, it returned {tuple(found.shape)}; resize back"
            )
        low, high = (value.item() for value in found.detach().aminmax()) if found.numel() else (0.0, 0.0)
        if not found.isfinite().all():
            raise ChangeError(f"change {self.name} must return finite numbers, it returned NaN or infinity")
        if not 0 <= low <= high <= 1:
            raise ChangeError(f"change {self.name} must stay in [0, 1], it returned {low:g} to {high:g}; end with .clamp(0, 1)")
        return (found if x.requires_grad else found.detach()).to(x)


def reason(error: BaseException) -> str:
    """What a user's code raised, in a few words."""
    return f"{type(error).__name__}: {error}"[:200]


def load_function(spec: str, what: str) -> tuple[Callable, str]:
    """The function that `file.py:function` names, and the sha256 of the file. ChangeError where there is none.

    No other file is loaded, and nothing is written beside it.
    """
    place, _, name = spec.rpartition(":")
    path = Path(place)
    if path.suffix != ".py" or not name.isidentifier():
        raise ChangeError(f"{what} must be file.py:function, given {spec}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ChangeError(f"{what} {spec}: cannot read {path} ({error.strerror})") from None
    digest = hashlib.sha256(content).hexdigest()
    unique = f"_named_by_the_user_{digest[:16]}"
    if unique not in sys.modules:
        module = importlib.util.module_from_spec(importlib.util.spec_from_loader(unique, loader=None, origin=str(path)))
        module.__file__ = str(path)
        sys.modules[unique] = module  # dataclasses look for it there
        try:
            exec(compile(content, str(path), "exec"), module.__dict__)
        except (Exception, SystemExit) as error:
            del sys.modules[unique]
            raise ChangeError(f"{what} {spec}: the file does not run ({reason(error)})") from None
    function = getattr(sys.modules[unique], name, None)
    if not callable(function):
        own = [key for key, value in vars(sys.modules[unique]).items() if callable(value) and not key.startswith("_")]
        raise ChangeError(f"{what} {spec}: no function {name} in it; it has {', '.join(own) or 'none'}")
    return function, digest


def parse(name: str) -> Change:
    """The change called `name`: one of this module, a transform of `lib.transforms`, or `file.py:function`.

    Raises ChangeError, which lists what is allowed, for any other name, and for a level that is out of range.
    """
    if ".py:" in name:
        function, digest = load_function(name, "--change")
        return Change(schema.one_line(name), function, source=digest)
    for shown, does, _, pattern, make in _DECLARED:
        if found := re.fullmatch(pattern, name):
            try:
                return Change(name, make(*found.groups()), does)
            except ValueError as error:
                raise ChangeError(f"change {shown}: {error}") from None
    try:
        return Change(name, transforms.parse(name), _described(name))
    except ValueError as error:
        if not str(error).startswith("unknown"):
            raise ChangeError(str(error)) from None
        own, refused = ", ".join(shown for shown, *_ in _DECLARED), str(error).replace("unknown transform", "unknown change")
        raise ChangeError(f"{refused}; {own}; file.py:function") from None


def chosen(names: list[str], channels: int) -> list[Change]:
    """The changes asked for, each once, the original first; the defaults where none is."""
    names = [name for name in names or [*DEFAULTS, *(["grey"] if channels == 3 else [])] if name != ORIGINAL]
    return [parse(name) for name in dict.fromkeys([ORIGINAL, *names])]


class _Through(torch.autograd.Function):
    """A change with its gradient; where that is 0 or not finite, or there is none, the gradient passes straight through."""

    @staticmethod
    def forward(ctx, x: Tensor, change: Change) -> Tensor:
        with torch.enable_grad():
            inside = x.detach().requires_grad_(True)
            out = change(inside)
        ctx.inside, ctx.out = inside, out
        return out.detach().clone()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        if not ctx.out.requires_grad:
            return gradient, None
        (own,) = torch.autograd.grad(ctx.out, ctx.inside, gradient, allow_unused=True)
        if own is None:
            return gradient, None
        return torch.where(own.isfinite() & (own != 0), own, gradient), None


class Preprocessed(torch.nn.Module):
    """A model behind a change, which an attack goes through."""

    def __init__(self, change: Change, model: torch.nn.Module) -> None:
        super().__init__()
        self.change, self.model = change, model

    def forward(self, x: Images) -> Float[Tensor, "n classes"]:
        """Logits of the changed images."""
        # An attack keeps the box up to a rounding error of its own; the transforms insist on it.
        return self.model(_Through.apply(x.clamp(0, 1), self.change))
