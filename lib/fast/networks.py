"""The paper's networks, and their gradients to the images, as tables of the operations that `lib.fast.operations` interprets.

`description_of` gives the table of exactly the paper's LeNet5 and WRN-28, and of no network that differs from them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib import models
from lib.base.layers import PixelConv2d, Shortcut, scale_and_shift
from lib.fast.rows import FIELDS, KINDS
from lib.fast.vectors import TILE, UNITS

_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
CPU = torch.device("cpu")  # named everywhere, so that a default device has no effect


@dataclass(frozen=True)
class Table:
    """The operations of one architecture. Whole numbers say where planes, rows and weights begin."""

    rows: Tensor  # int64, operations × fields
    forward: int  # the rows before it give the logits, from it on the gradient; the last one is the attack's step
    weights: Tensor  # int64: of each number that the operations read, its place among the network's own; the last one is 0
    planes: int  # how many there are, those of the borders among them
    shape: tuple[int, int, int]  # of an image
    border: int  # of the images' planes
    images: int
    bounds: int
    logits: int
    to_logits: int
    to_images: int
    classes: int


class Builder:
    """Collects rows, planes and weights; a weight is its place among the network's numbers, and places are what is packed."""

    def __init__(self, sizes: list[tuple[int, ...]]) -> None:
        self.rows: list[list[int]] = []
        self.packed: list[Tensor] = []
        self.planes = self.count = 0
        self.places, at = [], 0
        for size in sizes:
            self.places.append(torch.arange(at, at + math.prod(size), device=CPU).view(size))
            at += math.prod(size)
        self.zero = at

    def room(self, *shape: int) -> int:
        """Reserve planes of zeros, and say where they begin."""
        self.planes += math.prod(shape)
        return self.planes - math.prod(shape)

    def put(self, places: Tensor) -> int:
        """Add weights in the order in which an operation reads them, and say where they begin."""
        self.packed.append(places.reshape(-1))
        self.count += places.numel()
        return self.count - places.numel()

    def padded(self, places: Tensor, multiple: int) -> Tensor:
        """Places, padded with the place of the zero until their first dimension is a multiple of `multiple`."""
        return F.pad(places, (0, 0) * (places.ndim - 1) + (0, -len(places) % multiple), value=self.zero)

    def add(self, kind: str, **fields: int) -> None:
        """Add a row."""
        row = dict.fromkeys(FIELDS, 0) | dict.fromkeys(("winner", "add", "total", "scale", "active", "onto"), -1)
        self.rows.append([(row | fields | {"kind": KINDS.index(kind)})[name] for name in FIELDS])

    def channels(self, count: int, side: int, border: int) -> int:
        """Reserve planes for the output of a convolution, which computes TILE channels at once."""
        return self.room(count + -count % TILE, side + 2 * border, side + 2 * border)

    def convolve(self, w: Tensor, x: int, side: int, margin: int, out: int, bias: Tensor | None = None, **fields: int) -> None:
        """Add a convolution with same padding, which `margin`, x's border, holds; x's planes have `side`² pixels."""
        units = self.padded(w, TILE)
        bias = torch.full((len(w),), self.zero, device=CPU) if bias is None else bias
        packed = units.view(-1, TILE, *w.shape[1:]).permute(0, 2, 3, 4, 1)
        self.add(
            "convolve", x=x, side=side, margin=margin, channels=w.shape[1], kernel=w.shape[-1], w=self.put(packed),
            bias=self.put(self.padded(bias, TILE)), out=out, out_channels=len(units), **{"stride": 1} | fields,
        )  # fmt: skip

    def affine(self, scale: Tensor, shift: Tensor | None = None) -> int:
        """A factor and a shift a channel, as `scale` of a row has it."""
        shift = torch.full_like(scale, self.zero) if shift is None else shift
        return self.put(torch.stack([self.padded(scale, TILE), self.padded(shift, TILE)]))

    def dense(self, w: Tensor, x: int, out: int, bias: Tensor | None = None, **fields: int) -> None:
        """Add a dense layer."""
        units = self.padded(w, UNITS)
        bias = torch.full((len(w),), self.zero, device=CPU) if bias is None else bias
        self.add(
            "dense", x=x, channels=w.shape[1], w=self.put(units.view(-1, UNITS, w.shape[1]).transpose(1, 2)),
            bias=self.put(self.padded(bias, UNITS)), out=out, out_channels=len(units), **fields,
        )  # fmt: skip

    def units(self, count: int) -> int:
        """Reserve planes for the output of a dense layer, which computes UNITS at once."""
        return self.room(count + -count % UNITS)

    def unpool(self, w: Tensor, x: int, side: int, margin: int, winner: int, out: int, **fields: int) -> None:
        """Add the gradient to the input of a 5×5 convolution with pooling; x and `winner` have a border of `margin`.

        With a border that input is the image itself, of few channels; without one it has those of another convolution.
        """
        # For each of nine windows, pixel of a block and winner: the tap of the kernel that leads from it there, 25 for none.
        offset = torch.arange(2, device=CPU)
        shift = offset[None, :, None] - 2 * torch.arange(-1, 2, device=CPU)[:, None, None] - offset + 2  # window, pixel, winner
        y, x_ = shift[:, None, :, None, :, None], shift[None, :, None, :, None, :]
        taps = torch.where((y >= 0) & (y < 5) & (x_ >= 0) & (x_ < 5), 5 * y + x_, 25).reshape(9, 4, 4)
        t = F.pad(w.flatten(2), (0, 1), value=self.zero)[:, :, taps]  # unit, channel, window, pixel, winner
        tile = 1 if margin else TILE  # blocks along a row of the image, or in as many channels
        t = self.padded(t.transpose(0, 1), tile)
        packed = t.view(-1, tile, len(w), 9, 4, 4).permute(0, 2, 3, 1, 4, 5)
        self.add(
            "unpool", x=x, side=side, margin=margin, channels=len(w), out_channels=len(t), winner=winner,
            w=self.put(packed), out=out, **fields,
        )  # fmt: skip

    def table(self, **fields) -> Table:
        """The table of all that was added."""
        return Table(torch.tensor(self.rows, device=CPU), weights=torch.cat(self.packed), planes=self.planes, **fields)


def flipped(w: Tensor) -> Tensor:
    """The kernel of a convolution's gradient."""
    return w.flip(2, 3).transpose(0, 1)


# ---- LeNet5 ----------------------------------------------------------------------------------------------------------------


def _lenet5_numbers(model: models.LeNet5) -> list[Tensor]:
    return [tensor for layer in (model[0], model[3], model[7], model[9]) for tensor in (layer.weight, layer.bias)]


@cache
def _lenet5(sizes: tuple[tuple[int, ...], ...], side: int) -> Table:
    p = Builder(list(sizes))
    w1, b1, w2, b2, w3, b3, w4, b4 = p.places
    half, quarter, colours = side // 2, side // 4, w1.shape[1]
    x, bounds = p.room(colours, side + 4, side + 4), p.room(2, colours, side, side)
    to_x = p.channels(colours, side, 0)
    h1, winner1, to_h1 = (p.channels(len(w1), half, 2) for _ in range(3))
    h2, winner2, to_h2 = (p.channels(len(w2), quarter, 0) for _ in range(3))
    h3, to_h3, logits, to_logits = p.units(len(w3)), p.units(len(w3)), p.units(len(w4)), p.units(len(w4))
    p.convolve(w1, x, side, 2, h1, b1, border=2, relu=1, winner=winner1)
    p.convolve(w2, h1, half, 2, h2, b2, relu=1, winner=winner2)
    p.dense(w3.flatten(1), h2, h3, b3, relu=1)
    p.dense(w4, h3, logits, b4)
    forward = len(p.rows)
    p.add("loss", x=logits, out=to_logits, channels=len(w4))
    p.dense(w4.T, to_logits, to_h3, active=h3)
    p.dense(w3.T, to_h3, to_h2, active=h2)
    p.unpool(w2, to_h2, quarter, 0, winner2, to_h1, active=h1, border=2)
    p.unpool(w1, to_h1, half, 2, winner1, to_x)
    p.add("step", x=x, margin=2, side=side, channels=colours, out=bounds, add=to_x)
    return p.table(
        forward=forward, shape=(colours, side, side), border=2, images=x, bounds=bounds, logits=logits, to_logits=to_logits,
        to_images=to_x, classes=len(w4),
    )  # fmt: skip


# ---- WRN-28 ----------------------------------------------------------------------------------------------------------------


def _wide_resnet_numbers(model: models.WideResNet) -> list[Tensor]:
    """A block's second normalisation becomes part of the convolution before it."""
    numbers = [model.stem.weight]
    for block in model.blocks:
        scale, shift = scale_and_shift(block.norm2)
        shortcut = [] if block.shortcut is None else [block.shortcut.weight]
        numbers += [
            *scale_and_shift(block.norm1),
            block.conv1.weight * scale[:, None, None, None],
            shift,
            block.conv2.weight,
            *shortcut,
        ]
    return [*numbers, *scale_and_shift(model.norm), model.head.weight, model.head.bias]


@cache
def _wide_resnet(sizes: tuple[tuple[int, ...], ...], side: int, strides: tuple[int, ...], shortcuts: tuple[bool, ...]) -> Table:
    p = Builder(list(sizes))
    places = iter(p.places)
    size, stem = side, next(places)
    blocks = [([next(places) for _ in range(5 + extra)], stride) for extra, stride in zip(shortcuts, strides, strict=True)]
    norms = [block[:2] for block, _ in blocks] + [(next(places), next(places))]
    head, bias = places
    x, bounds, image, moments = p.room(3, side, side), p.room(2, 3, side, side), p.room(3, side + 2, side + 2), p.room(3)
    to_x, logits, to_logits = p.channels(3, side, 0), p.units(len(head)), p.units(len(head))
    total, out = p.channels(len(stem), side, 1), p.channels(len(stem), side, 1)
    p.add("standardize", x=x, side=side, channels=3, out=image, border=1, winner=moments)
    p.convolve(stem, image, side, 1, out, total=total, scale=p.affine(*norms[0]), relu=1, border=1)
    backward_blocks = []
    for ((scale, _, w1, shift, w2, *shortcut), stride), next_norm in zip(blocks, norms[1:], strict=True):
        active, large, side = out, side, side // stride
        inner, out = p.channels(len(w1), side, 1), p.channels(len(w1), side, 1)
        p.convolve(w1, active, large, 1, inner, shift, relu=1, border=1, stride=stride)
        if shortcut:
            total = p.channels(len(w1), side, 1)
            p.convolve(shortcut[0], active, large, 1, total, border=1, stride=stride)
        p.convolve(w2, inner, side, 1, out, add=total, total=total, scale=p.affine(*next_norm), relu=1, border=1)
        backward_blocks.append((scale, w1, w2, shortcut, stride, side, active, inner))
    width = len(w2)
    pooled, to_pooled, to_total = p.units(width), p.units(width), p.channels(width, side, 1)
    p.add("mean", x=out, side=side, channels=width, margin=1, out=pooled)
    p.dense(head, pooled, logits, bias)
    forward = len(p.rows)
    p.add("loss", x=logits, out=to_logits, channels=len(head))
    p.dense(head.T, to_logits, to_pooled)
    p.add(
        "mean_gradient", x=to_pooled, side=side, out_channels=width + -width % TILE, channels=width, border=1, out=to_total,
        scale=p.affine(norms[-1][0]), active=out,
    )  # fmt: skip
    for scale, w1, w2, shortcut, stride, side, active, inner in reversed(backward_blocks):
        to_inner = p.channels(len(w1), side, 1)
        p.convolve(flipped(w2), to_total, side, 1, to_inner, active=inner, border=1)
        activation_fields = {"active": active, "scale": p.affine(scale), "border": 1}
        if not shortcut:
            p.convolve(flipped(w1), to_inner, side, 1, to_total, onto=to_total, **activation_fields)
            continue
        large = side * stride
        if stride > 1:
            narrow, (to_inner, to_total) = (to_inner, to_total), [p.channels(len(w1), large, 1) for _ in range(2)]
            for planes, wide in zip(narrow, (to_inner, to_total), strict=True):
                p.add("spread", x=planes, side=side, channels=len(w1), margin=1, out=wide, border=1)
        to_shortcut, to_before = (p.channels(w1.shape[1], large, 1) for _ in range(2))
        p.convolve(flipped(shortcut[0]), to_total, large, 1, to_shortcut, border=1)
        p.convolve(flipped(w1), to_inner, large, 1, to_before, add=to_shortcut, **activation_fields)
        to_total = to_before
    p.convolve(flipped(stem), to_total, size, 1, to_x)
    p.add("standardize_gradient", x=image, margin=1, side=size, channels=3, out=to_x, winner=moments)
    p.add("step", x=x, side=size, channels=3, out=bounds, add=to_x)
    return p.table(
        forward=forward, shape=(3, size, size), border=0, images=x, bounds=bounds, logits=logits, to_logits=to_logits,
        to_images=to_x, classes=len(head),
    )  # fmt: skip


# ---- Which networks --------------------------------------------------------------------------------------------------------


def _plain(module: nn.Module, kind: type, **settings) -> bool:
    """Whether a module is of this very class, with these settings, and nothing of its own changes what it computes.

    Parametrizations change the class, pruning adds a hook, and a `forward` of the instance's own stands among its attributes.
    """
    return (
        type(module) is kind
        and "forward" not in vars(module)
        and not any(getattr(module, hooks) for hooks in _HOOKS)
        and all(getattr(module, name) == value for name, value in settings.items())
    )


def _convolution(module: nn.Module, kernel: int, stride: int = 1, *, bias: bool = False) -> bool:
    padding = (kernel - 1) // 2
    return (
        any(_plain(module, kind) for kind in (nn.Conv2d, PixelConv2d, Shortcut))
        and (module.kernel_size, module.stride, module.padding) == ((kernel, kernel), (stride, stride), (padding, padding))
        and (module.dilation, module.groups, module.padding_mode) == ((1, 1), 1, "zeros")
        and (module.bias is not None) == bias
    )


def is_lenet5(model: nn.Module, side: int) -> bool:
    """Whether the model is exactly the paper's LeNet5 of any width, for images of `side`² pixels."""
    if not _plain(model, models.LeNet5) or len(model) != 10 or side % 4 or side < 2 * TILE:
        return False
    first, pool1, relu1, second, pool2, relu2, flatten, third, relu3, fourth = model
    return (
        _convolution(first, 5, bias=True)
        and _convolution(second, 5, bias=True)
        and all(
            _plain(pool, nn.MaxPool2d, kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False, return_indices=False)
            for pool in (pool1, pool2)
        )
        and all(_plain(relu, nn.ReLU) for relu in (relu1, relu2, relu3))
        and _plain(flatten, nn.Flatten, start_dim=1, end_dim=-1)
        and all(_plain(dense, nn.Linear) and dense.bias is not None for dense in (third, fourth))
        and third.in_features == second.out_channels * (side // 4) ** 2
    )


def is_wide_resnet(model: nn.Module, side: int, *, training: bool = False) -> bool:
    """Whether the model is exactly the paper's WRN-28 of any width, in eval or in train mode, for images of `side`² pixels."""

    def norm(module: nn.Module) -> bool:
        return _plain(module, nn.BatchNorm2d, track_running_stats=True, affine=True, training=training)

    def block(module: nn.Module) -> bool:
        stride = module.conv1.stride[0] if _plain(module, models.Block) else 0
        return (
            stride in (1, 2)
            and set(module._modules) - {"shortcut"} == {"norm1", "conv1", "norm2", "conv2"}
            and norm(module.norm1)
            and norm(module.norm2)
            and _convolution(module.conv1, 3, stride)
            and _convolution(module.conv2, 3)
            and (module.shortcut is None or _convolution(module.shortcut, 1, stride))
            and (module.shortcut is not None or (stride, module.conv1.in_channels) == (1, module.conv2.out_channels))
        )

    return (
        _plain(model, models.WideResNet)
        and set(model._modules) == {"standardize", "stem", "blocks", "norm", "head"}
        and side % 8 == 0
        and _plain(model.standardize, models.PerImageStandardization)
        and _convolution(model.stem, 3)
        and model.stem.in_channels == 3
        and _plain(model.blocks, nn.Sequential)
        and all(block(module) for module in model.blocks)
        and norm(model.norm)
        and _plain(model.head, nn.Linear)
        and model.head.bias is not None
    )


def is_narrow_wide_resnet(model: nn.Module, x: Tensor, *, training: bool = False) -> bool:
    """Whether the model is the paper's WRN-28, of a width at which the program pays, and x are such images as it takes."""
    if x.shape[2] != x.shape[3] or x.shape[1] != 3 or not is_wide_resnet(model, x.shape[2], training=training):
        return False
    return model.blocks[0].conv1.out_channels <= 8


def stages_of(model: models.WideResNet) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """(the stride of each block, whether it has a convolution as its shortcut)."""
    strides = tuple(block.conv1.stride[0] for block in model.blocks)
    return strides, tuple(block.shortcut is not None for block in model.blocks)


def description_of(model: nn.Module, x: Tensor) -> tuple[Callable[..., Table], tuple, list[Tensor]] | None:
    """(the builder of the model's table, its arguments, the model's numbers); None for any other network.

    The framework's own matrix products are as fast for wider networks.
    """
    side = x.shape[2]
    if x.shape[2] != x.shape[3]:
        return None
    if is_lenet5(model, side) and x.shape[1] == model[0].in_channels and model[0].out_channels <= 16:
        numbers, build, arguments = _lenet5_numbers(model), _lenet5, (side,)
    elif is_narrow_wide_resnet(model, x):
        numbers, build, arguments = _wide_resnet_numbers(model), _wide_resnet, (side, *stages_of(model))
    else:
        return None
    return build, (tuple(tuple(tensor.shape) for tensor in numbers), *arguments), numbers
