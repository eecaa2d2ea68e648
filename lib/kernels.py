"""Max-pooling and ReLU in one pass over the activations, on a processor: half of a narrow network's attack is spent there.

Bit for bit `relu(max_pool2d(x, 2))` and its gradient. Floating-point numbers are compared as the integers their bits spell:
positive ones are in the same order, and negative ones are below zero, which is all that a ReLU asks. So one kernel serves
bfloat16, which the compiler does not know, float32 and float64.
"""

from collections.abc import Callable
from functools import cache

import torch
from jaxtyping import Float
from numba import njit
from torch import Tensor
from torch.autograd.function import once_differentiable

_INTEGERS = {torch.bfloat16: torch.int16, torch.float32: torch.int32, torch.float64: torch.int64}
_ZERO = 4  # no pixel of the window got through


@cache
def _kernels(channels: int, minus_infinity: int, nan: int) -> tuple[Callable, Callable]:
    """Forward and backward for rows of pixels, channels last: x and its gradient 2R×2WC, the rest R×WC.

    Compiled for each number of channels, since loops of four or eight with an unknown end are all overhead.
    """

    @njit(nogil=True, cache=True)
    def forward(x, out, winner):
        for r in range(out.shape[0]):
            for s in range(out.shape[1] // channels):
                for c in range(channels):
                    i, o = 2 * s * channels + c, s * channels + c
                    best, which = x[2 * r, i], 0
                    if x[2 * r, i + channels] > best:
                        best, which = x[2 * r, i + channels], 1
                    if x[2 * r + 1, i] > best:
                        best, which = x[2 * r + 1, i], 2
                    if x[2 * r + 1, i + channels] > best:
                        best, which = x[2 * r + 1, i + channels], 3
                    if best <= 0:
                        # A NaN with its sign set lies between -inf and zero; it goes on, that the loss may show it.
                        best, which = nan if minus_infinity < best < 0 else 0, _ZERO
                    out[r, o], winner[r, o] = best, which

    @njit(nogil=True, cache=True)
    def backward(gradient, winner, to_x):
        for r in range(gradient.shape[0]):
            for s in range(gradient.shape[1] // channels):
                for c in range(channels):
                    i, o = 2 * s * channels + c, s * channels + c
                    g, which = gradient[r, o], winner[r, o]
                    to_x[2 * r, i] = g if which == 0 else 0
                    to_x[2 * r, i + channels] = g if which == 1 else 0
                    to_x[2 * r + 1, i] = g if which == 2 else 0
                    to_x[2 * r + 1, i + channels] = g if which == 3 else 0

    return forward, backward


def _rows(x: Tensor):
    """The numbers of N×C×H×W, channels last, as an array of integers, (N·H)×(W·C), of the same memory."""
    n, c, h, w = x.shape
    return x.permute(0, 2, 3, 1).view(_INTEGERS[x.dtype]).view(n * h, w * c).numpy()


class _PoolReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        integers = _INTEGERS[x.dtype]
        limits = torch.tensor([-torch.inf, torch.nan], dtype=x.dtype).view(integers).tolist()
        ctx.kernels = _kernels(c, *limits)
        out = torch.empty((n, c, h // 2, w // 2), dtype=x.dtype, memory_format=torch.channels_last)
        ctx.winner = torch.empty((n * h // 2, w // 2 * c), dtype=integers)  # as wide as x: one vector width throughout
        ctx.kernels[0](_rows(x.contiguous(memory_format=torch.channels_last)), _rows(out), ctx.winner.numpy())
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> Tensor:
        n, c, h, w = gradient.shape
        to_x = torch.empty((n, c, 2 * h, 2 * w), dtype=gradient.dtype, memory_format=torch.channels_last)
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        ctx.kernels[1](_rows(gradient), ctx.winner.numpy(), _rows(to_x))
        return to_x


def pool_relu(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h/2 w/2"]:
    """`relu(max_pool2d(x, 2))` of a tensor on the processor: bfloat16, float32 or float64, even height and width.

    A NaN goes through unless its window holds a positive number, too. Raises ValueError for another type, device or size.
    """
    if x.dtype not in _INTEGERS or x.device.type != "cpu" or x.shape[2] % 2 or x.shape[3] % 2:
        allowed = f"{', '.join(str(d).removeprefix('torch.') for d in _INTEGERS)} on cpu, even height and width"
        raise ValueError(f"pool_relu takes {allowed}; given {x.dtype} on {x.device} of shape {tuple(x.shape)}")
    return _PoolReLU.apply(x)
