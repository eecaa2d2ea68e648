"""The paper's networks (Appendix B.1). Each maps images in [0, 1], `N×C×H×W`, to logits, `N×classes`.

Widths grow with `widen_factor`, as in Section 5.3. Parameters start from the framework's default initialisation,
drawn from the global random state. Weights are laid out channels-last, which every backend here runs faster.
"""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lib.base.layers import PixelConv2d, Shortcut, standardize

Images = Float[Tensor, "n c h w"]
Logits = Float[Tensor, "n classes"]


def _check_width(widen_factor: float, narrowest: float) -> None:
    if not narrowest <= widen_factor < math.inf:
        raise ValueError(f"widen_factor must be ≥ {narrowest:g} (a channel a layer) and finite, given {widen_factor!r}")


class LeNet5(nn.Sequential):
    """The layers of `lenet5`."""


def lenet5(widen_factor: float = 1.0, *, in_channels: int = 1, classes: int = 10, image_size: int = 28) -> LeNet5:
    """The paper's LeNet5: two 5×5 convolutions with pooling, 32 and 64 channels, then 1024 units.

    Kernel size 5 and padding 2 are not in the paper; they are those of Madry et al. (2017), whose settings it follows.
    Channels and units are int(widen_factor · width). Raises ValueError where that leaves a layer empty.
    """
    _check_width(widen_factor, 1 / 32)
    if image_size < 4 or image_size % 4:
        raise ValueError(f"image_size must be a multiple of 4, since two layers halve it, given {image_size!r}")
    first, second, units = (int(widen_factor * width) for width in (32, 64, 1024))
    # ReLU after pooling is the same function as before it, on a quarter of the elements.
    return LeNet5(
        PixelConv2d(in_channels, first, 5, block=4),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(first, second, kernel_size=5, padding=2),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(second * (image_size // 4) ** 2, units),
        nn.ReLU(),
        nn.Linear(units, classes),
    ).to(memory_format=torch.channels_last)


class PerImageStandardization(nn.Module):
    """(x - mean) / max(std, 1/√N) over the N values of each image (Appendix B.1, footnote 10).

    It is part of the model, so that an attack's eps is in units of pixels.
    """

    def forward(self, x: Images) -> Images:
        """Standardised images."""
        return standardize(x)


class Block(nn.Module):
    """BN-ReLU-conv twice, with a 1×1 shortcut where the shape changes (Zagoruyko and Komodakis, 2016)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.shortcut = None
        if channels_in != channels_out or stride != 1:
            self.shortcut = Shortcut(channels_in, channels_out, stride)

    def forward(self, x: Tensor) -> Tensor:
        """The activations, `n×c×h×w`, of the next block."""
        out = self.norm1(x).relu_()
        residual = self.conv2(self.norm2(self.conv1(out)).relu_())
        # Where the shape changes, the shortcut takes the activation; elsewhere it is the identity.
        return residual + (x if self.shortcut is None else self.shortcut(out))


class WideResNet(nn.Module):
    """A wide residual network of depth 6n + 4 with per-image standardisation in front."""

    def __init__(self, depth: int, widen_factor: float, in_channels: int, classes: int) -> None:
        super().__init__()
        widths = [16] + [int(widen_factor * width) for width in (16, 32, 64)]
        blocks = []
        for stage, (channels_in, channels_out) in enumerate(pairwise(widths)):
            for i in range((depth - 4) // 6):
                stride = 2 if stage > 0 and i == 0 else 1
                blocks.append(Block(channels_in if i == 0 else channels_out, channels_out, stride))
        self.standardize = PerImageStandardization()
        self.stem = PixelConv2d(in_channels, widths[0], 3, bias=False, block=2)
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(widths[-1])
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Images) -> Logits:
        """Logits of images in [0, 1]."""
        out = self.blocks(self.stem(self.standardize(x)))
        return self.head(self.norm(out).relu_().mean(dim=(2, 3)))


def wide_resnet28(widen_factor: float = 4.0, *, in_channels: int = 3, classes: int = 10, image_size: int = 32) -> WideResNet:
    """WRN-28-k (Zagoruyko and Komodakis, 2016): four blocks a stage, widths 16·k, 32·k and 64·k, the stem 16.

    k = `widen_factor`; the paper takes 4, and .25, 1 and 4 in Section 5.3. Images may have any `image_size`.
    Raises ValueError where a layer is empty.
    """
    _check_width(widen_factor, 1 / 16)
    return WideResNet(28, widen_factor, in_channels, classes).to(memory_format=torch.channels_last)


def small_convnet(widen_factor: float = 1.0, *, in_channels: int = 1, classes: int = 10, image_size: int = 28) -> nn.Sequential:
    """The LP-robust model's network (Appendix B.2): two convolutions with stride 2, 16 and 32 channels, then 100 units.

    4×4 kernels and padding 1 are not in the paper; they are those of Wong and Kolter (2018), whose network it names.
    Channels and units are int(widen_factor · width). Raises ValueError where that leaves a layer empty.
    """
    _check_width(widen_factor, 1 / 16)
    first, second, units = (int(widen_factor * width) for width in (16, 32, 100))
    return nn.Sequential(
        nn.Conv2d(in_channels, first, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(first, second, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(second * (image_size // 4) ** 2, units),
        nn.ReLU(),
        nn.Linear(units, classes),
    )


class _InPlaceOf(torch.autograd.Function):
    """`out` in the forward pass, and in the backward pass the gradient to `x` as if it were `x`."""

    @staticmethod
    def forward(ctx, x: Tensor, out: Tensor) -> Tensor:
        return out.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class Ramp(nn.Module):
    """A steep ramp at 1/2, pixel by pixel, of two ReLUs: 1 - ReLU(1 - ReLU(slope · (x - 1/2) + 1/2)).

    It is 0 up to 1/2 - 1/(2 slope), 1 from 1/2 + 1/(2 slope) on, and monotone, in floating point as well: each operation
    rounds monotonically, and where a ReLU is 0 the rest is exact. So it restores a binarized image whose perturbation is
    below 1/2 - 1/(2 slope).

    `straight_through` lets gradients pass as if it were the identity: for an attack (BPDA, Athalye et al., 2018), since
    its own gradient is 0 wherever it is flat. Raises ValueError for a slope that is not > 0 and finite.
    """

    def __init__(self, slope: float, *, straight_through: bool = False) -> None:
        super().__init__()
        if not 0 < slope < math.inf:
            raise ValueError(f"the ramp's slope must be > 0 and finite, given {slope!r}")
        self.slope, self.straight_through = slope, straight_through

    def forward(self, x: Images) -> Images:
        """Images in [0, 1], for every x."""
        if self.straight_through:
            return _InPlaceOf.apply(x, self._ramp(x.detach()))
        return self._ramp(x)

    def _ramp(self, x: Tensor) -> Tensor:
        return 1 - F.relu(1 - F.relu(self.slope * (x - 0.5) + 0.5))


class Ramped(nn.Sequential):
    """A classifier behind a `Ramp`."""

    def __init__(self, model: nn.Module, slope: float, *, straight_through: bool = False) -> None:
        super().__init__(Ramp(slope, straight_through=straight_through), model)


BUILDERS = {"lenet5": lenet5, "wide_resnet28": wide_resnet28, "small_convnet": small_convnet}


def build(name: str, widen_factor: float, **shape: int) -> nn.Module:
    """The network called `name`, for images of `shape` (`in_channels`, …); ValueError, listing the names, for any other."""
    if name not in BUILDERS:
        raise ValueError(f"unknown model {name!r}; allowed: {', '.join(BUILDERS)}")
    return BUILDERS[name](widen_factor, **shape)
