"""A training step of a narrow wide ResNet in two compiled calls: the loss of a batch, and its gradient to the weights.

step = training_step.of(model, x)     # None: this network, or this processor, is left to the framework
loss, correct = step(x, y)            # the gradients lie in the parameters, as `backward` leaves them
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib import models
from lib.fast import training_operations
from lib.fast.networks import CPU, Builder, flipped, is_narrow_wide_resnet, stages_of
from lib.fast.program import DTYPES, agrees, planes_of_zeros
from lib.fast.rows import KIND, KINDS, PLANES, WIDTH
from lib.fast.training_operations import MEAN, SLOTS, TO_FACTOR
from lib.fast.vectors import TILE, has_avx2

_SHARED = -(1 << 40)  # where planes that all blocks share begin, until it is known how many there are


@dataclass(frozen=True)
class _Table:
    """The rows of one architecture's training step. Whole numbers say where planes and numbers begin."""

    rows: Tensor  # int64, operations × fields
    forward: int  # the rows before it give the pooled activations, those from it on take their gradient
    weights: Tensor  # int64: of each number that the operations read, its place among the network's own; the last one is 0
    gradients: Tensor  # int64: of each of the first shared planes the place of the weight whose gradient it adds up
    shared: int  # planes
    planes: int  # of a block, those below among them
    image: int
    pooled: int
    to_pooled: int
    norms: tuple[int, ...]  # where each normalisation's numbers begin
    sides: tuple[int, ...]  # of the planes that it takes


class _StepBuilder(Builder):
    """Collects rows, planes and numbers, as `Builder` does; some planes are shared by all blocks of the batch."""

    def __init__(self, sizes: Sequence[tuple[int, ...]], blocks: int) -> None:
        super().__init__(list(sizes))
        self.blocks, self.shared = blocks, 0
        self.gradients: list[Tensor] = []
        self.norms: list[_Norm] = []
        self.reused: dict[tuple, int] = {}

    def reuse(self, use: str, channels: int, side: int, border: int, *, shared: bool = False) -> int:
        """Planes that every layer of this shape writes anew; `shared`: and every block."""
        key = (use, channels, side, border)
        if key not in self.reused:
            before = self.planes
            at = self.channels(channels, side, border)
            if shared:
                at, self.shared, self.planes = _SHARED + self.shared, self.shared + self.planes - before, before
            self.reused[key] = at
        return self.reused[key]

    def norm(self, places: Sequence[Tensor], x: int, side: int) -> "_Norm":
        """Add the moments of planes that a normalisation takes; `places` of its factor, its shift and its eps."""
        factor, shift, eps = places
        channels = len(factor)
        norm = _Norm(self, x, side, channels, self.zeros(SLOTS * channels), self.zeros(2 * channels * self.blocks))
        self.norms.append(norm)
        self.add("moments", **norm.fields, w=norm.sums, total=self.room(1))
        self.add(
            "combine", x=norm.sums, side=side, channels=channels, w=self.put(factor), bias=self.put(torch.cat([shift, eps])),
            scale=norm.numbers,
        )  # fmt: skip
        return norm

    def zeros(self, count: int) -> int:
        """Reserve numbers that the operations write."""
        return self.put(torch.full((count,), self.zero, device=CPU))

    def weigh(self, w: Tensor, x: int, side: int, to_out: int, stride: int = 1) -> None:
        """Add the gradient to a convolution's weights: of its input x, with a border of 1, and of its output."""
        units = self.padded(w, TILE)
        at = sum(map(len, self.gradients))
        self.gradients.append(units.view(-1, TILE, *w.shape[1:]).permute(0, 2, 3, 4, 1).reshape(-1))
        self.add(
            "weigh", x=x, margin=1, side=side, channels=w.shape[1], kernel=w.shape[-1], stride=stride, w=at, out=to_out,
            border=1, out_channels=len(units),
        )  # fmt: skip

    def step(self, **fields) -> _Table:
        """The table of all that was added."""
        rows, gradients = torch.tensor(self.rows, device=CPU), torch.cat(self.gradients)
        base = len(gradients) + self.shared
        named = rows[:, PLANES]  # of a barrier they name numbers
        own = torch.where(named >= 0, named + base, torch.where(named < -1, named - _SHARED + len(gradients), named))
        is_barrier = rows[:, KIND, None] >= KINDS.index("combine")
        rows[:, PLANES] = torch.where(is_barrier, named, own)
        return _Table(
            rows, weights=torch.cat(self.packed), gradients=gradients, shared=base, planes=self.planes,
            norms=tuple(norm.numbers for norm in self.norms), sides=tuple(norm.side for norm in self.norms), **fields,
        )  # fmt: skip


@dataclass(frozen=True)
class _Norm:
    """A batch normalisation with the ReLU behind it: what it takes, and where its numbers and the sums of the blocks are."""

    builder: _StepBuilder
    x: int
    side: int
    channels: int
    numbers: int
    sums: int

    @property
    def fields(self) -> dict[str, int]:
        return {"x": self.x, "side": self.side, "channels": self.channels, "scale": self.numbers}

    def forward(self) -> int:
        """Add its output, and say where it is: planes with a border of 1, up to the next layer of this shape."""
        out = self.builder.reuse("active", self.channels, self.side, 1, shared=True)
        self.builder.add("normalize", **self.fields, out=out, border=1)
        return out

    def backward(self, to_out: int) -> None:
        """Add the sums of its gradient; `to_out`, without a border, is taken through the ReLU."""
        self.builder.add("norm_sums", **self.fields, out=to_out, w=self.sums, total=self.builder.room(1))
        self.builder.add("combine_gradient", x=self.sums, side=self.side, channels=self.channels, scale=self.numbers)

    def to_input(self, to_out: int, out: int, onto: int = -1) -> None:
        """Add its gradient to what it takes, after `backward`; `onto`: planes to add."""
        self.builder.add("norm_gradient", **self.fields, active=to_out, out=out, border=1, add=onto)


def _numbers(model: models.WideResNet) -> tuple[list[nn.Parameter], list[nn.BatchNorm2d]]:
    """The parameters in the table's order, but for those of the head; and the normalisations."""
    parameters, norms = [model.stem.weight], []
    for block in model.blocks:
        shortcut = [] if block.shortcut is None else [block.shortcut.weight]
        parameters += [block.conv1.weight, block.conv2.weight, *shortcut]
        norms += [block.norm1, block.norm2]
    norms.append(model.norm)
    return [*parameters, *(weight for norm in norms for weight in (norm.weight, norm.bias))], norms


@cache
def _table(
    sizes: tuple[tuple[int, ...], ...], side: int, strides: tuple[int, ...], shortcuts: tuple[bool, ...], blocks: int
) -> _Table:
    p = _StepBuilder(sizes, blocks)
    places = iter(p.places)
    stem = next(places)
    convolutions = [[next(places) for _ in range(2 + extra)] for extra in shortcuts]
    *norm_places, eps = places
    norms = iter([(*norm_places[i : i + 2], eps) for i in range(0, len(norm_places), 2)])
    x, image, moments = p.room(3, side, side), p.room(3, side + 2, side + 2), p.room(3)
    total = p.channels(len(stem), side, 0)
    p.add("standardize", x=x, side=side, channels=3, out=image, border=1, winner=moments)
    p.convolve(stem, image, side, 1, total)
    outer, backward, size = p.norm(next(norms), total, side), [], side
    for (w1, w2, *shortcut), stride in zip(convolutions, strides, strict=True):
        large, side, before = side, side // stride, total
        active, inside, total = outer.forward(), p.channels(len(w1), side, 0), p.channels(len(w1), side, 0)
        p.convolve(w1, active, large, 1, inside, stride=stride)
        if shortcut:
            p.convolve(shortcut[0], active, large, 1, total, stride=stride)
        inner = p.norm(next(norms), inside, side)
        p.convolve(w2, inner.forward(), side, 1, total, add=total if shortcut else before)
        backward.append((outer, inner, w1, w2, shortcut, stride))
        outer = p.norm(next(norms), total, side)
    width = outer.channels
    pooled, to_pooled = p.units(width), p.units(width)
    p.add("mean", x=outer.forward(), side=side, channels=width, margin=1, out=pooled)
    forward = len(p.rows)
    to_active = p.reuse("to active", width, side, 0)
    p.add("mean_gradient", x=to_pooled, side=side, channels=width, out=to_active)
    outer.backward(to_active)
    to_total = p.reuse("to total", width, side, 1)
    outer.to_input(to_active, to_total)
    for outer, inner, w1, w2, shortcut, stride in reversed(backward):
        width, side, large = len(w1), inner.side, outer.side
        to_active = p.reuse("to active", width, side, 0)
        p.weigh(w2, inner.forward(), side, to_total)
        p.convolve(flipped(w2), to_total, side, 1, to_active)
        inner.backward(to_active)
        to_inside, active = p.reuse("to inside", width, side, 1, shared=True), outer.forward()
        inner.to_input(to_active, to_inside)
        p.weigh(w1, active, large, to_inside, stride)
        if shortcut:
            p.weigh(shortcut[0], active, large, to_total, stride)
        to_wide = {"inside": to_inside, "total": to_total}
        for name, planes in to_wide.items() if stride > 1 else ():
            to_wide[name] = p.reuse(f"to wide {name}", width, large, 1, shared=True)
            p.add("spread", x=planes, side=side, channels=width, margin=1, out=to_wide[name], border=1)
        to_active, onto = p.reuse("to active", outer.channels, large, 0), -1
        if shortcut:
            p.convolve(flipped(shortcut[0]), to_wide["total"], large, 1, to_active)
            onto = to_active
        p.convolve(flipped(w1), to_wide["inside"], large, 1, to_active, add=onto)
        outer.backward(to_active)
        to_before = p.reuse("to total", outer.channels, large, 1)
        outer.to_input(to_active, to_before, onto=-1 if shortcut else to_total)
        to_total = to_before
    p.weigh(stem, image, size, to_total)
    return p.step(forward=forward, image=x, pooled=pooled, to_pooled=to_pooled)


class TrainingStep:
    """The training step of one network on batches of one size. Batch normalisation is in train mode."""

    def __init__(self, model: models.WideResNet, x: Tensor) -> None:
        self.model, self.lanes = model, DTYPES[x.dtype]
        self.blocks = len(x) // self.lanes
        self.parameters, self.norms = _numbers(model)
        self.eps = x.new_tensor([self.norms[0].eps])
        sizes = tuple(tuple(tensor.shape) for tensor in (*self.parameters, self.eps))
        self.table = t = _table(sizes, x.shape[2], *stages_of(model), self.blocks)
        count = t.shared + self.blocks * t.planes
        self.planes = planes_of_zeros(count, self.lanes, x.dtype)
        own = self.planes[t.shared :].view(self.blocks, t.planes, self.lanes)
        self.images = own[:, t.image :][:, : x[0].numel()].view(self.blocks, *x.shape[1:], self.lanes)
        width = model.head.in_features
        self.pooled, self.to_pooled = own[:, t.pooled :][:, :width], own[:, t.to_pooled :][:, :width]
        self.weights = x.new_zeros(len(t.weights))
        self.row = torch.zeros(WIDTH, dtype=torch.int64, device=CPU)
        channels = [norm.num_features for norm in self.norms]
        self.moments, self.to_norms = (
            torch.cat([torch.arange(at + first * c, at + (first + 2) * c) for at, c in zip(t.norms, channels, strict=True)])
            for first in (MEAN, TO_FACTOR)
        )
        # The running variance is of the population, as the framework has it.
        counts = [len(x) * side**2 for side in t.sides]
        self.unbiased = torch.cat(
            [x.new_tensor([1.0, count / (count - 1)]).repeat_interleave(c) for c, count in zip(channels, counts, strict=True)]
        )

    def _run(self, first: int, last: int) -> None:
        t, room = self.table, self.planes.data_ptr()
        addresses = room, room, self.weights.data_ptr(), t.rows.data_ptr()
        call = training_operations.compiled(self.planes.dtype, self.lanes)
        call(*addresses, first, last, self.row.data_ptr(), self.blocks, t.shared, t.planes)

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """(the mean cross entropy, whether each image is classified as its label) of a batch of the size of the first.

        Sets the gradient of every parameter, and takes the batch's moments into batch normalisation's running ones.
        """
        head = self.model.head
        pooled = self.forward(x).requires_grad_()
        self._take_moments()
        head.zero_grad()
        logits = head(pooled)
        loss = F.cross_entropy(logits, y)
        loss.backward()
        self._backward(pooled.grad)
        return loss.detach(), logits.detach().argmax(1) == y

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """The pooled activations, `n×width`, of a batch."""
        weights = [weight.reshape(-1) for weight in self.parameters]
        torch.index_select(torch.cat([*weights, self.eps, self.eps.new_zeros(1)]), 0, self.table.weights, out=self.weights)
        self.images.copy_(x.unflatten(0, (self.blocks, self.lanes)).movedim(1, -1))
        self._run(0, self.table.forward)
        return self.pooled.movedim(-1, 1).flatten(0, 1)

    @torch.no_grad()
    def _backward(self, to_pooled: Tensor) -> None:
        """Set the gradient of every parameter before the head, after `forward`."""
        t, sizes = self.table, [weight.numel() for weight in self.parameters]
        self.to_pooled.copy_(to_pooled.unflatten(0, (self.blocks, self.lanes)).movedim(1, -1))
        sums = self.planes[: len(t.gradients)].zero_()
        self._run(t.forward, len(t.rows))
        flat = sums.new_zeros(sum(sizes) + 2)  # with places for eps, and for the zeros that fill tiles
        flat[t.gradients] = sums.sum(1)
        flat[-2 - len(self.to_norms) : -2] = self.weights[self.to_norms]
        for weight, gradient in zip(self.parameters, flat[:-2].split(sizes), strict=True):
            weight.grad = torch.empty_like(weight).copy_(gradient.view_as(weight))

    @torch.no_grad()
    def _take_moments(self) -> None:
        """Move the running moments towards the batch's."""
        moments = self.weights[self.moments] * self.unbiased
        running = [moment for norm in self.norms for moment in (norm.running_mean, norm.running_var)]
        torch._foreach_lerp_(running, list(moments.split([len(moment) for moment in running])), self.norms[0].momentum)
        torch._foreach_add_([norm.num_batches_tracked for norm in self.norms], 1)


def of(model: nn.Module, x: Tensor) -> TrainingStep | None:
    """The training step of a network in train mode on batches such as `x`, `n×c×h×w`.

    None where the framework is to take it: another network than the paper's WRN-28, a wide one, or one that anything changes;
    weights that are not trained, or tied; another type than float32 or float64; not on a processor with AVX2; batches that do
    not fill the vectors. As a rule may be incomplete, the logits of the first batch are compared with the model's, too.
    """
    if not (has_avx2() and x.device.type == "cpu" and x.dtype in DTYPES and len(x) and len(x) % DTYPES[x.dtype] == 0):
        return None
    if not is_narrow_wide_resnet(model, x, training=True):
        return None
    numbers = [*model.parameters(), *(buffer for buffer in model.buffers() if buffer.is_floating_point())]
    if any(tensor.dtype != x.dtype or tensor.device.type != "cpu" for tensor in numbers):
        return None
    weights = [weight for _, weight in model.named_parameters(remove_duplicate=False)]
    if not all(weight.requires_grad for weight in weights) or len({*map(id, weights)}) < len(weights):
        return None
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    if len({(norm.eps, norm.momentum) for norm in norms}) > 1 or norms[0].momentum is None:
        return None
    step = TrainingStep(model, x)
    with torch.no_grad():
        return step if agrees(model.head(step.forward(x)), copy.deepcopy(model)(x)) else None  # a copy's moments may move
