"""The changes of the images: the paper's transforms, common edits of photographs, and the user's own functions.

A change maps images in [0, 1], `N×C×H×W`, to images of the same shape in [0, 1]. The changes made
with Pillow work on 8-bit images.
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
    """A change is unknown, or does not return images. The message is always one line."""

    def __init__(self, message: str) -> None:
        super().__init__(schema.one_line(message))


def _each_array(function: Callable[[np.ndarray], np.ndarray], x: Images) -> Images:
    """Apply `function` to each image as scikit-image takes it: float64, H×W or H×W×3."""
    arrays = x.detach().cpu().double().permute(0, 2, 3, 1).numpy()
    grey = arrays.shape[3] == 1
    outputs = [function(array[..., 0] if grey else array) for array in arrays]
    stacked = torch.from_numpy(np.stack(outputs)) if outputs else torch.zeros(arrays.shape)
    stacked = stacked[:, None] if grey and outputs else stacked.permute(0, 3, 1, 2)
    return stacked.clamp(0, 1).to(x).contiguous()


def _each_picture(function: Callable[[Image.Image], Image.Image], x: Images) -> Images:
    """Apply `function` to each image as Pillow takes it: 8 bits, mode L or RGB."""

    def on_array(array: np.ndarray) -> np.ndarray:
        return np.asarray(function(Image.fromarray(np.round(array * 255).astype(np.uint8)))) / 255

    return _each_array(on_array, x)


def _jpeg(quality: int, picture: Image.Image) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    with Image.open(file, formats=("JPEG",)) as decoded:
        decoded.load()
        return decoded


def _resized(factor: float, picture: Image.Image) -> Image.Image:
    small = [max(1, round(factor * side)) for side in picture.size]
    return picture.resize(small, Image.Resampling.BICUBIC).resize(picture.size, Image.Resampling.BICUBIC)


def _enhanced(kind: type, factor: float, picture: Image.Image) -> Image.Image:
    return kind(picture).enhance(factor)


def _clahe(array: np.ndarray) -> np.ndarray:
    from skimage.exposure import equalize_adapthist  # a slow import, for the changes that need it

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
        raise ValueError("the images are already grey")
    return _each_array(lambda array: gray2rgb(rgb2gray(array)), x)


def _within(name: str, low: float, high: float, text: str) -> float:
    value = float(text)
    if not low <= value <= high:
        raise ValueError(f"{name} must be in [{low:g}, {high:g}], given {text}")
    return value


_NUMBER = r"([0-9]*\.?[0-9]+)"
# As `transforms.FORMS`.
_DECLARED: tuple[tuple[str, str, str, str, Callable], ...] = (
    ("jpeg-QUALITY", "saved as JPEG with quality {} and read again (Pillow)", "jpeg-30", r"jpeg-([0-9]+)",
     lambda q: partial(_each_picture, partial(_jpeg, int(_within("the quality", 1, 100, q))))),
    ("resize-FACTOR", "resized to {} times the size, then back (Pillow)", "resize-0.5", rf"resize-{_NUMBER}",
     lambda f: partial(_each_picture, partial(_resized, _within("the factor", 0.05, 1, f)))),
    ("contrast-FACTOR", "contrast multiplied by {} (Pillow)", "contrast-0.5", rf"contrast-{_NUMBER}",
     lambda f: partial(_each_picture, partial(_enhanced, ImageEnhance.Contrast, _within("the factor", 0, 10, f)))),
    ("brightness-FACTOR", "brightness multiplied by {} (Pillow)", "brightness-1.5", rf"brightness-{_NUMBER}",
     lambda f: partial(_each_picture, partial(_enhanced, ImageEnhance.Brightness, _within("the factor", 0, 10, f)))),
    ("clahe", "local contrast normalisation: adaptive histogram equalisation (scikit-image)", "clahe", r"clahe",
     lambda: partial(_each_array, _clahe)),
    ("equalise", "histogram equalisation of the whole image (Pillow)", "equalise", r"equalise",
     lambda: partial(_each_picture, ImageOps.equalize)),
    ("blur-SIGMA", "Gaussian blur with a standard deviation of {} pixels (scikit-image)", "blur-1", rf"blur-{_NUMBER}",
     lambda s: partial(_each_array, partial(_blurred, _within("sigma", 0.01, 20, s)))),
    ("denoise-WEIGHT", "noise removal by total variation, weight {} (scikit-image)", "denoise-0.1", rf"denoise-{_NUMBER}",
     lambda w: partial(_each_array, partial(_denoised, _within("the weight", 0.001, 10, w)))),
    ("grey", "converted to grey, in three equal channels (scikit-image)", "grey", r"grey", lambda: _grey),
    ("quantise-BITS", "each channel reduced to {} bits (Pillow)", "quantise-2", r"quantise-([0-9]+)",
     lambda b: partial(_each_picture, partial(ImageOps.posterize, bits=int(_within("the number of bits", 1, 8, b))))),
)  # fmt: skip
DEFAULTS = ("gamma-0.6", "contrast-0.5", "jpeg-30", "resize-0.5", "clahe", "quantise-2", "edges")


def _in_words(name: str) -> str:
    """What a change does, with the level in its name, such as 0.6 in gamma-0.6; of several joined by +, one after another."""
    return ", then ".join(
        description.format(*match.groups())
        for step in name.split("+")
        for _, description, _, pattern, _ in (*transforms.FORMS, *_DECLARED)
        if (match := re.fullmatch(pattern, step))
    )


def descriptions(channels: int) -> dict[str, str]:
    """An example of every change for images with so many channels, what it does, and how other levels are named."""
    return {
        example: _in_words(example) + (f"; other levels: {form}" if form != example else "")
        for form, _, example, *_ in (*transforms.FORMS, *_DECLARED)
        if channels == 3 or example != "grey"
    }


@dataclass(frozen=True)
class Change:
    """A change by its name. A call checks what it returns: ChangeError for another shape, NaN, or values outside [0, 1]."""

    name: str
    function: Callable[[Images], Images]
    does: str = "your own function"  # what it does, in words
    source: str = ""  # the sha256 of a user's file

    def __call__(self, x: Images) -> Images:
        """The changed images: contiguous, with the type and device of `x`. They have a gradient only if `x` requires one."""
        try:
            changed = self.function(x.clone())  # a copy, since it may work in place
        except (Exception, SystemExit) as error:  # a user's function may raise anything
            raise ChangeError(f"change {self.name}: {reason(error)}") from None
        if not isinstance(changed, Tensor) or not changed.is_floating_point():
            given = f"{changed.dtype}" if isinstance(changed, Tensor) else f"a {type(changed).__name__}"
            raise ChangeError(f"change {self.name} must return a float tensor of images in [0, 1], it returned {given}")
        if changed.layout != torch.strided or changed.is_meta:
            raise ChangeError(f"change {self.name} must return a dense tensor that holds pixels, on any device")
        if changed.shape != x.shape:
            raise ChangeError(
                f"change {self.name} must keep the shape {tuple(x.shape)}, it returned {tuple(changed.shape)}; resize back"
            )
        low, high = (value.item() for value in changed.detach().aminmax()) if changed.numel() else (0.0, 0.0)
        if not changed.isfinite().all():
            raise ChangeError(f"change {self.name} must return finite numbers, it returned NaN or infinity")
        if not 0 <= low <= high <= 1:
            raise ChangeError(f"change {self.name} must stay in [0, 1], it returned {low:g} to {high:g}; end with .clamp(0, 1)")
        return (changed if x.requires_grad else changed.detach()).to(x)


def reason(error: BaseException) -> str:
    """What a user's code raised, in a few words."""
    return f"{type(error).__name__}: {error}"[:200]


def load_function(spec: str, what: str) -> tuple[Callable, str]:
    """The function that `file.py:function` names, and the sha256 of the file. ChangeError if there is no such function.

    Only this file is loaded, and nothing is written beside it.
    """
    file, _, name = spec.rpartition(":")
    path = Path(file)
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
        sys.modules[unique] = module  # dataclasses look their module up there
        try:
            exec(compile(content, str(path), "exec"), module.__dict__)
        except (Exception, SystemExit) as error:
            del sys.modules[unique]
            raise ChangeError(f"{what} {spec}: the file does not run ({reason(error)})") from None
    function = getattr(sys.modules[unique], name, None)
    if not callable(function):
        functions = [key for key, value in vars(sys.modules[unique]).items() if callable(value) and not key.startswith("_")]
        raise ChangeError(f"{what} {spec}: the file has no function {name}; it has {', '.join(functions) or 'none'}")
    return function, digest


def parse(name: str) -> Change:
    """The change called `name`: one of this module, a transform of `lib.transforms`, or `file.py:function`.

    Raises ChangeError for any other name, with a list of the allowed ones, and for a level that is out of range.
    """
    if ".py:" in name:
        function, digest = load_function(name, "--change")
        return Change(schema.one_line(name), function, source=digest)
    for form, *_, pattern, make in _DECLARED:
        if match := re.fullmatch(pattern, name):
            try:
                return Change(name, make(*match.groups()), _in_words(name))
            except ValueError as error:
                raise ChangeError(f"change {form}: {error}") from None
    try:
        return Change(name, transforms.parse(name), _in_words(name))
    except ValueError as error:
        if not str(error).startswith("unknown"):
            raise ChangeError(str(error)) from None
        forms = ", ".join(form for form, *_ in _DECLARED)
        message = str(error).replace("unknown transform", "unknown change").replace(", rescale-to-TRANSFORM", "")
        raise ChangeError(f"{message}; {forms}; file.py:function") from None


def select(names: list[str], channels: int) -> list[Change]:
    """The changes called `names`, each once, after the original; the default changes if there are no names."""
    names = [name for name in names or [*DEFAULTS, *(["grey"] if channels == 3 else [])] if name != ORIGINAL]
    return [parse(name) for name in dict.fromkeys([ORIGINAL, *names])]


class _StraightThrough(torch.autograd.Function):
    """A change with its gradient. Where this is 0, not finite or missing, the gradient passes straight through (BPDA)."""

    @staticmethod
    def forward(ctx, x: Tensor, change: Change) -> Tensor:
        with torch.enable_grad():
            inputs = x.detach().requires_grad_(True)
            outputs = change(inputs)
        ctx.inputs, ctx.outputs = inputs, outputs
        return outputs.detach().clone()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        if not ctx.outputs.requires_grad:
            return gradient, None
        (true_gradient,) = torch.autograd.grad(ctx.outputs, ctx.inputs, gradient, allow_unused=True)
        if true_gradient is None:
            return gradient, None
        return torch.where(true_gradient.isfinite() & (true_gradient != 0), true_gradient, gradient), None


class Preprocessed(torch.nn.Module):
    """A model with a change in front of it. An attack goes through the change."""

    def __init__(self, change: Change, model: torch.nn.Module) -> None:
        super().__init__()
        self.change, self.model = change, model

    def forward(self, x: Images) -> Float[Tensor, "n classes"]:
        """Logits of the changed images."""
        # An attack may leave [0, 1] by a rounding error, which the transforms refuse.
        return self.model(_StraightThrough.apply(x.clamp(0, 1), self.change))
