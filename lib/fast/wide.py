"""Rewrites a wide ResNet, or a LeNet5, into the form in which the steps of an attack are fastest."""

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lib import models
from lib.base.layers import scale_and_shift

Images = Float[Tensor, "n c h w"]
Logits = Float[Tensor, "n classes"]


class _AddAffineReLU(nn.Module):
    """A sum, and batch normalisation in eval mode and ReLU of it; the images are on a processor."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        for name, value in zip(("scale", "shift"), scale_and_shift(norm), strict=True):
            self.register_buffer(name, value.repeat(16))

    def forward(self, x: Tensor, other: Tensor | None) -> tuple[Tensor, Tensor]:
        from lib.fast.kernels import add_affine_relu  # its compiler takes a while to import, and only an attack needs it

        return add_affine_relu(x, other, self.scale, self.shift)


class _SpecializedBlock(nn.Module):
    """A `models.Block` in eval mode, up to its sum: its second normalisation is part of the convolution before it."""

    def __init__(self, block: models.Block) -> None:
        super().__init__()
        scale, shift = scale_and_shift(block.norm2)
        self.activation = _AddAffineReLU(block.norm1)
        self.conv1 = copy.deepcopy(block.conv1)
        weight = block.conv1.weight * scale[:, None, None, None]
        self.conv1.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last))
        self.conv1.bias = nn.Parameter(shift)
        self.conv2, self.shortcut = block.conv2, block.shortcut

    def forward(self, x: Tensor, other: Tensor | None) -> tuple[Tensor, Tensor]:
        """Of the block's input, x + other, the two terms of its output."""
        total, out = self.activation(x, other)
        residual = self.conv2(self.conv1(out).relu_())
        return residual, total if self.shortcut is None else self.shortcut(out)


class _SpecializedWideResNet(nn.Module):
    """A `models.WideResNet` in eval mode for fixed weights."""

    def __init__(self, model: models.WideResNet) -> None:
        super().__init__()
        self.standardize, self.stem, self.head = model.standardize, model.stem.specialized(), model.head
        self.blocks = nn.ModuleList(map(_SpecializedBlock, model.blocks))
        self.activation = _AddAffineReLU(model.norm)

    def forward(self, x: Images) -> Logits:
        terms = self.stem(self.standardize(x)), None
        for block in self.blocks:
            terms = block(*terms)
        _, out = self.activation(*terms)
        return self.head(out.mean(dim=(2, 3)))


class _PoolReLU(nn.Module):
    """Pooling and ReLU at once; the images are on a processor."""

    def forward(self, x: Tensor) -> Tensor:
        from lib.fast.kernels import pool_relu  # as above

        return pool_relu(x)


def specialized(model: models.WideResNet | models.LeNet5) -> nn.Module:
    """A network in eval mode for its present weights, frozen."""
    if isinstance(model, models.LeNet5):
        pixels, _, _, convolution, _, _, *rest = model
        return nn.Sequential(pixels.specialized(), _PoolReLU(), convolution, _PoolReLU(), *rest)
    with torch.no_grad():
        return _SpecializedWideResNet(model).eval().requires_grad_(False)
