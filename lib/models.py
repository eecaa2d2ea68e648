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

Images = Float[Tensor, "n c h w"]
Logits = Float[Tensor, "n classes"]


def _check_width(widen_factor: float, narrowest: float) -> None:
    if not narrowest <= widen_factor < math.inf:
        raise ValueError(f"widen_factor must be ≥ {narrowest:g} (a channel a layer) and finite, given {widen_factor!r}")


class _PixelGradient(torch.autograd.Function):
    """A convolution whose gradient to the image is computed for blocks of pixels at once.

    That gradient is a convolution with as few output channels as the image has, one or three: a processor's vectors run
    all but empty. Here each block×block pixels of the image become block² output channels of a strided convolution
    (its kernel, k + block - 1 wide, is the flipped one at each offset), and are laid out as pixels again. The sums are the
    same but for their order. For 1 channel and a 5×5 kernel, blocks of 4 take a quarter of the time.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None, block: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.block, ctx.has_bias = block, bias is not None
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        channels_out, channels_in, k, _ = weight.shape
        block, width = ctx.block, k + ctx.block - 1
        flipped = weight.flip(2, 3).transpose(0, 1)
        kernel = weight.new_zeros(channels_in, block, block, channels_out, width, width)
        for dy in range(block):
            for dx in range(block):
                kernel[:, dy, dx, :, dy : dy + k, dx : dx + k] = flipped
        kernel = kernel.view(-1, channels_out, width, width).contiguous(memory_format=torch.channels_last)
        to_x = F.pixel_shuffle(F.conv2d(gradient, kernel, stride=block, padding=k // 2), block)
        needs = [False, ctx.needs_input_grad[1], ctx.needs_input_grad[2]]
        if not any(needs):
            return to_x, None, None, None
        sizes = [channels_out] if ctx.has_bias else None
        _, to_weight, to_bias = torch.ops.aten.convolution_backward(
            gradient, x, weight, sizes, [1, 1], [k // 2] * 2, [1, 1], False, [0, 0], 1, needs
        )
        return to_x, to_weight, to_bias, None


class PixelConv2d(nn.Conv2d):
    """The first convolution of a network, stride 1 and same padding, with a fast gradient to the image on a processor."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, bias: bool = True, block: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias)
        self.block = block

    def forward(self, x: Images) -> Tensor:
        """The convolution of images whose height and width are multiples of the block."""
        if x.requires_grad and x.device.type == "cpu":
            return _PixelGradient.apply(x, self.weight, self.bias, self.block)
        return super().forward(x)


def lenet5(widen_factor: float = 1.0, *, in_channels: int = 1, classes: int = 10, image_size: int = 28) -> nn.Sequential:
    """LeNet5 as the paper has it: two 5×5 convolutions with pooling, 32 and 64 channels, then 1024 units.

    Kernel size 5 and padding 2 are not in the paper; they are those of Madry et al. (2017), whose settings it follows.
    Channels and units are int(widen_factor · width). Raises ValueError where that leaves a layer empty.
    """
    _check_width(widen_factor, 1 / 32)
    first, second, units = (int(widen_factor * width) for width in (32, 64, 1024))
    # ReLU after pooling is the same function as before it, on a quarter of the elements.
    return nn.Sequential(
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

    It stands inside the model, so that an attack's eps is in units of pixels.
    """

    def forward(self, x: Images) -> Images:
        """Standardised images."""
        std, mean = torch.std_mean(x, dim=(1, 2, 3), correction=0, keepdim=True)
        return (x - mean) / std.clamp(min=x[0].numel() ** -0.5)


class _Block(nn.Module):
    """BN-ReLU-conv twice, with a 1×1 shortcut where the shape changes (Zagoruyko and Komodakis, 2016)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.shortcut = None
        if channels_in != channels_out or stride != 1:
            self.shortcut = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm1(x).relu_()
        residual = self.conv2(self.norm2(self.conv1(out)).relu_())
        # Where the shape changes, the shortcut starts from the activation; elsewhere it is the identity.
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
                blocks.append(_Block(channels_in if i == 0 else channels_out, channels_out, stride))
        self.standardize = PerImageStandardization()
        self.stem = PixelConv2d(in_channels, widths[0], 3, bias=False, block=2)
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(widths[-1])
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Images) -> Logits:
        """Logits of images in [0, 1]."""
        out = self.blocks(self.stem(self.standardize(x)))
        return self.head(self.norm(out).relu_().mean(dim=(2, 3)))


def wide_resnet28(widen_factor: float = 4.0, *, in_channels: int = 3, classes: int = 10) -> WideResNet:
    """WRN-28-k (Zagoruyko and Komodakis, 2016): four blocks a stage, widths 16·k, 32·k and 64·k, the stem 16.

    k = `widen_factor`; the paper takes 4, and .25, 1 and 4 in Section 5.3. Raises ValueError where a layer is empty.
    """
    _check_width(widen_factor, 1 / 16)
    return WideResNet(28, widen_factor, in_channels, classes).to(memory_format=torch.channels_last)


BUILDERS = {"lenet5": lenet5, "wide_resnet28": wide_resnet28}


def build(name: str, widen_factor: float) -> nn.Module:
    """The network called `name`; ValueError, listing the names, for any other."""
    if name not in BUILDERS:
        raise ValueError(f"unknown model {name!r}; allowed: {', '.join(BUILDERS)}")
    return BUILDERS[name](widen_factor)
