"""Several networks of one shape as one, whose layers compute all of them in one launch: for many trainings on a GPU.

network = stacked([model, other])    # images n·2×c×h×w, those of the two models in turn, to logits n·2×classes
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lib import models
from lib.base.layers import PixelConv2d, Shortcut, standardize

# Layers without weights that do the same to each channel, and the networks and blocks that are made of such layers.
_AS_THEY_ARE = {nn.Sequential, nn.MaxPool2d, nn.ReLU, nn.Flatten, nn.Identity, models.LeNet5, models.Block, models.WideResNet}


class _Linear(nn.Linear):
    """A dense layer of each member, its inputs n×(members·features)."""

    def __init__(self, layer: nn.Linear, members: int) -> None:
        super().__init__(layer.in_features, members * layer.out_features, layer.bias is not None)
        self.members = members

    def forward(self, x: Tensor) -> Tensor:
        """Outputs n×(members·outputs)."""
        x = x.view(len(x), self.members, -1).transpose(0, 1)
        weight = self.weight.view(self.members, -1, self.in_features).transpose(1, 2)
        out = x @ weight if self.bias is None else torch.baddbmm(self.bias.view(self.members, 1, -1), x, weight)
        return out.transpose(0, 1).flatten(1)


class _Standardization(nn.Module):
    """Per-image standardisation, of images n×(members·channels)×h×w."""

    def __init__(self, members: int) -> None:
        super().__init__()
        self.members = members

    def forward(self, x: Tensor) -> Tensor:
        """The same images, standardised."""
        return standardize(x.reshape(len(x) * self.members, -1, *x.shape[2:])).reshape(x.shape)


def _conv(layer: nn.Conv2d, members: int) -> nn.Conv2d:
    channels = members * layer.in_channels, members * layer.out_channels
    if isinstance(layer, Shortcut):
        return Shortcut(*channels, layer.stride[0], groups=members)
    return nn.Conv2d(
        *channels, layer.kernel_size, layer.stride, layer.padding, groups=members, bias=layer.bias is not None
    )  # fmt: skip


_STACKED = {
    nn.Conv2d: _conv,
    PixelConv2d: _conv,
    Shortcut: _conv,
    nn.Linear: _Linear,
    nn.BatchNorm2d: lambda layer, members: nn.BatchNorm2d(members * layer.num_features, layer.eps, layer.momentum),
    models.PerImageStandardization: lambda layer, members: _Standardization(members),
}


def can_stack(model: nn.Module) -> bool:
    """Whether a network is made of layers that can be stacked, and each of its weights is trained and has one name."""
    return _obstacle(model) is None


def _obstacle(model: nn.Module) -> str | None:
    """What keeps a network from being stacked; None where nothing does."""
    for part in model.modules():
        if type(part) not in _STACKED and type(part) not in _AS_THEY_ARE:
            return type(part).__name__
    names: dict[int, str] = {}
    for name, weight in model.named_parameters(remove_duplicate=False):
        if not weight.requires_grad:
            return f"{name} without gradient"
        if (other := names.setdefault(id(weight), name)) != name:
            return f"{name} tied to {other}"
    return None


class Stacked(nn.Module):
    """The networks' layers, each of all members: along the first dimension of a weight, those of one member after another."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members, first = len(networks), networks[0]
        self.body = copy.deepcopy(first)
        for name, layer in list(first.named_modules()):
            if type(layer) in _STACKED:
                self.body.set_submodule(name, _STACKED[type(layer)](layer, self.members))
        weight = next(first.parameters())
        self.body.to(weight.device, weight.dtype, memory_format=torch.contiguous_format).train(first.training)
        self.body.load_state_dict(joined([network.state_dict() for network in networks]))

    def forward(self, x: Tensor) -> Tensor:
        """Logits n·members×classes of images n·members×c×h×w, image i being of member i modulo members."""
        n = len(x) // self.members
        return self.body(x.reshape(n, -1, *x.shape[2:])).view(len(x), -1)


def stacked(networks: Sequence[nn.Module]) -> Stacked:
    """Networks of one shape as one. ValueError for layers that cannot be stacked, or shapes that differ."""
    if obstacle := next(filter(None, map(_obstacle, networks)), None):
        raise ValueError(f"networks trained together must have layers that can be stacked, given {obstacle}")
    shapes = [{name: value.shape for name, value in network.state_dict().items()} for network in networks]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError(f"networks trained together must have the same shape, given {len(networks)} that differ")
    return Stacked(networks)


def joined(tensors: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The members' tensors as the stacked network has them; counts, which have no dimension, are the same in each."""
    return {
        name: torch.cat([member[name] for member in tensors]) if value.ndim else value.clone()
        for name, value in tensors[0].items()
    }


def part(tensors: dict[str, Tensor], member: int, members: int) -> dict[str, Tensor]:
    """One member's part of what `joined` made."""
    return {name: value.chunk(members)[member] if value.ndim else value for name, value in tensors.items()}
