"""A network as a table of operations with its current weights, and the compiled attack on it.

compiled = program.of(model, x)     # None: this network, or this processor, is left to the framework
compiled.attack(adversarial, y, lower, upper, step_size, num_steps)
"""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lib.fast import operations, wide
from lib.fast.networks import CPU, Table, description_of, is_lenet5, is_wide_resnet
from lib.fast.rows import WIDTH
from lib.fast.vectors import LANES, has_avx2

DTYPES = {torch.float32: LANES, torch.float64: LANES // 2}  # and how many images a vector takes


def planes_of_zeros(count: int, lanes: int, dtype: torch.dtype) -> Tensor:
    """So many vectors of zeros, `count×lanes`, where the processor reads a vector fastest."""
    room = torch.zeros((count + 1) * lanes, dtype=dtype, device=CPU)
    offset = -room.data_ptr() % (lanes * room.element_size()) // room.element_size()
    return room[offset:][: count * lanes].view(count, lanes)


class Program:
    """A table and the present weights of a network: what attacks it."""

    def __init__(self, table: Table, numbers: list[Tensor]) -> None:
        self.table, self.dtype = table, numbers[0].dtype
        flat = torch.cat([*(tensor.reshape(-1) for tensor in numbers), numbers[0].new_zeros(1)])
        self.weights = flat.index_select(0, table.weights)
        self.lanes = DTYPES[self.dtype]

    def attack(self, images: Tensor, y: Tensor, lower: Tensor, upper: Tensor, step_size: float, num_steps: int) -> bool:
        """`num_steps` steps of the attack, in place of `images`, which begin at its start. Whether every loss was finite.

        Each image is attacked by itself, alike on any number of threads. ValueError for a label that is no class.
        """
        t = self.table
        if len(y) != len(images):
            raise ValueError(f"every image needs one label, given {len(images)} images and {len(y)} labels")
        if len(y) and not 0 <= int(y.min()) <= int(y.max()) < t.classes:
            raise ValueError(f"labels must be from 0 to {t.classes - 1}, given labels from {int(y.min())} to {int(y.max())}")

        def attack_blocks(blocks: list[slice]) -> bool:
            finite, block = True, _Block(self)
            bounds = block.planes[t.bounds :][: 2 * math.prod(t.shape)].view(2, *t.shape, self.lanes)
            for part in blocks:
                n = len(y[part])
                for planes, values in ((block.images, images), (bounds[0], lower), (bounds[1], upper)):
                    planes[..., :n] = values[part].movedim(0, -1)
                    planes[..., n:] = 0
                block.labels[:n], block.labels[n:] = y[part], 0
                finite &= block.run(0, len(t.rows), num_steps, step_size)
                # A gradient of NaN moves no pixel, and the loss may still be finite.
                finite &= not block.planes[t.to_images :][: math.prod(t.shape), :n].isnan().any()
                images[part] = block.images[..., :n].movedim(-1, 0)
            return finite

        blocks = list(self._blocks(len(y)))
        threads = min(torch.get_num_threads(), len(blocks))
        if threads < 2:
            return attack_blocks(blocks)
        operations.compiled(self.dtype, self.lanes)
        with ThreadPoolExecutor(threads) as pool:  # a compiled call lets the other threads run
            return all(list(pool.map(attack_blocks, (blocks[i::threads] for i in range(threads)))))

    def logits(self, images: Tensor) -> Tensor:
        """The logits of images."""
        block, t = _Block(self), self.table
        out = images.new_empty(len(images), t.classes)
        for part in self._blocks(len(images)):
            out[part] = block.forward(images[part])
        return out

    def __call__(self, images: Tensor) -> Tensor:
        """The logits, with a gradient to the images alone: for attacks that take their steps themselves."""
        return _Logits.apply(images, self)

    def _blocks(self, count: int) -> Iterator[slice]:
        return (slice(i, min(i + self.lanes, count)) for i in range(0, count, self.lanes))


class _Block:
    """The planes of a program for as many images as a vector has lanes."""

    def __init__(self, program: Program) -> None:
        t, lanes = program.table, program.lanes
        self.program, self.lanes = program, lanes
        self.planes = planes_of_zeros(t.planes, lanes, program.dtype)
        self.row = torch.zeros(WIDTH, dtype=torch.int64, device=CPU)
        self.labels = torch.zeros(lanes, dtype=torch.int64, device=CPU)
        channels, side, _ = t.shape
        span, inside = side + 2 * t.border, slice(t.border, t.border + side)
        self.images = self.planes[t.images :][: channels * span * span].view(channels, span, span, lanes)[:, inside, inside]

    def run(self, first: int, last: int, steps: int = 1, step_size: float = 0.0) -> bool:
        program, room = self.program, self.planes.data_ptr()
        weights, rows = program.weights.data_ptr(), program.table.rows.data_ptr()
        row, labels = self.row.data_ptr(), self.labels.data_ptr()
        call = operations.compiled(program.dtype, self.lanes)
        return bool(call(room, room, weights, rows, first, last, row, labels, steps, step_size))

    def forward(self, images: Tensor) -> Tensor:
        t, n = self.program.table, len(images)
        self.images[..., :n] = images.movedim(0, -1)
        self.run(0, t.forward)
        return self.planes[t.logits :][: t.classes, :n].T

    def backward(self, gradient: Tensor) -> Tensor:
        t, n = self.program.table, len(gradient)
        self.planes[t.to_logits :][: t.classes, :n] = gradient.T
        self.run(t.forward + 1, len(t.rows) - 1)
        return self.planes[t.to_images :][: math.prod(t.shape), :n].T.reshape(n, *t.shape)


class _Logits(torch.autograd.Function):
    @staticmethod
    def forward(ctx, images: Tensor, program: Program) -> Tensor:
        ctx.slices = list(program._blocks(len(images)))
        ctx.blocks = [_Block(program) for _ in ctx.slices]
        return torch.cat([block.forward(images[part]) for part, block in zip(ctx.slices, ctx.blocks, strict=True)])

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        parts = [block.backward(gradient[part]) for part, block in zip(ctx.slices, ctx.blocks, strict=True)]
        return torch.cat(parts), None


def of(model: Callable, x: Tensor) -> Program | None:
    """The program of a network in eval mode for images such as `x`, `n×c×h×w`, and its present weights.

    None where the framework is to run it: another network than the paper's LeNet5 and WRN-28, or one of those that anything
    changes; another type than float32 or float64; not on a processor with AVX2; images of sides that the tiles do not divide.
    As a rule may be incomplete, the program's logits of the first few images are compared with the model's, too.
    """
    if not (has_avx2() and isinstance(model, nn.Module) and len(x) and x.device.type == "cpu" and x.dtype in DTYPES):
        return None
    with torch.no_grad():
        description = description_of(model, x)
        if description is None:
            return None
        build, arguments, numbers = description
        if any(tensor.dtype != x.dtype or tensor.device.type != "cpu" for tensor in numbers):
            return None
        program = Program(build(*arguments), numbers)
        first_images = x[: program.lanes]
        return program if agrees(program.logits(first_images), model(first_images)) else None


def specialized(model: nn.Module, x: Tensor) -> nn.Module:
    """A LeNet5 or WRN-28 that no program attacks, in the form for its present weights; any other network as it is."""
    side = x.shape[2]
    if not (len(x) and x.dtype in DTYPES and side == x.shape[3] and (is_wide_resnet(model, side) or is_lenet5(model, side))):
        return model
    first_images, form = x[:4], wide.specialized(model)
    with torch.no_grad():
        return form if agrees(form(first_images), model(first_images)) else model


def agrees(ours: Tensor, theirs: Tensor) -> bool:
    """Whether logits differ by rounding only. Non-finite ones agree: the attack itself finds them."""
    if ours.shape != theirs.shape:
        return False
    allowed = 1e4 * torch.finfo(ours.dtype).eps * theirs.abs().amax().clamp(min=1.0)
    return not bool(((ours - theirs).abs() > allowed).any())
