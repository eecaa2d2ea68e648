"""The operations between the convolutions of wide networks, done in one pass over the activations, on a processor.

The framework takes a pass for each operation. Everything here takes tensors of bfloat16, float32 or float64; the compiler does
not know bfloat16, and gets its bits as integers. `lib.fast.program` attacks narrow networks instead.
"""

import ctypes
import math
from collections.abc import Callable
from functools import cache
from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Float
from numba import carray, cfunc, types
from numba.extending import overload
from torch import Tensor
from torch.autograd.function import once_differentiable

from lib.fast import cache as compiling

# What the elements are to the compiler: numbers, or their bits where it does not know them.
_NUMBERS = {torch.bfloat16: types.int16, torch.float32: types.float32, torch.float64: types.float64}


def _compile(function: Callable, element: types.Type, arrays: int, numbers: int) -> Callable:
    """`function` of arrays, given by their addresses, and of whole numbers; called in a microsecond or two.

    Arrays of numpy would take that long each.
    """
    signature = types.void(*[types.CPointer(element)] * arrays, *[types.int64] * numbers)
    compiled = compiling.function(cfunc, signature)(function)
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * arrays, *[ctypes.c_int64] * numbers)(compiled.address)


def _dense(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _check(function: str, x: Tensor, others: dict[str, Tensor | None]) -> None:
    """ValueError unless x is what the compiled passes take and the others are of its type and device: they trust addresses."""
    if x.dtype not in _NUMBERS or x.device.type != "cpu":
        allowed = ", ".join(str(dtype).removeprefix("torch.") for dtype in _NUMBERS)
        raise ValueError(f"{function} takes {allowed} on cpu; given {x.dtype} on {x.device}")
    for name, tensor in others.items():
        if tensor is not None and (tensor.dtype, tensor.device) != (x.dtype, x.device):
            raise ValueError(f"{name} must be {x.dtype} on {x.device} as x is, given {tensor.dtype} on {tensor.device}")


@no_type_check
def _value(element):
    """The number that an element of an array stands for; the body is `_compiled_value`'s."""
    raise TypeError("_value is for compiled code only")


@no_type_check
@overload(_value)
def _compiled_value(element):
    if isinstance(element, types.Integer):
        return lambda element: np.uint32(np.uint32(np.uint16(element)) << np.uint32(16)).view(np.float32)
    return lambda element: element


@no_type_check
def _element(value, like):
    """`value` as an element of an array whose elements are of `like`'s type; the body is `_compiled_element`'s."""
    raise TypeError("_element is for compiled code only")


@no_type_check
@overload(_element)
def _compiled_element(value, like):
    if isinstance(like, types.Integer):

        def to_nearest_even(value, like):
            bits = np.float32(value).view(np.uint32)
            return np.int16(np.uint32(bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))

        return to_nearest_even
    return lambda value, like: value


@no_type_check
def _sum_and_affine_relu(x_, other_, scale_, shift_, total_, out_, rows, length):
    scale, shift = carray(scale_, length), carray(shift_, length)
    x, other = carray(x_, (rows, length)), carray(other_, (rows, length))
    total, out = carray(total_, (rows, length)), carray(out_, (rows, length))
    for i in range(rows):
        for j in range(length):
            element = _element(_value(x[i, j]) + _value(other[i, j]), x[i, j])
            value = _value(element) * _value(scale[j]) + _value(shift[j])
            total[i, j] = element
            if value <= 0:
                out[i, j] = 0
            else:
                out[i, j] = _element(value, element)


@no_type_check
def _affine_relu(x_, scale_, shift_, out_, rows, length):
    scale, shift = carray(scale_, length), carray(shift_, length)
    x, out = carray(x_, (rows, length)), carray(out_, (rows, length))
    for i in range(rows):
        for j in range(length):
            value = _value(x[i, j]) * _value(scale[j]) + _value(shift[j])
            if value <= 0:
                out[i, j] = 0
            else:
                out[i, j] = _element(value, x[i, j])


@no_type_check
def _gradient_with_the_sums(to_total_, to_out_, out_, scale_, to_x_, rows, length):
    scale, out = carray(scale_, length), carray(out_, (rows, length))
    to_total, to_out, to_x = carray(to_total_, (rows, length)), carray(to_out_, (rows, length)), carray(to_x_, (rows, length))
    for i in range(rows):
        for j in range(length):
            if out[i, j] == 0:
                to_x[i, j] = to_total[i, j]
            else:
                to_sum = _value(to_out[i, j]) * _value(scale[j])
                to_x[i, j] = _element(_value(to_total[i, j]) + to_sum, out[i, j])


@no_type_check
def _gradient(to_out_, out_, scale_, to_x_, rows, length):
    scale, out = carray(scale_, length), carray(out_, (rows, length))
    to_out, to_x = carray(to_out_, (rows, length)), carray(to_x_, (rows, length))
    for i in range(rows):
        for j in range(length):
            if out[i, j] == 0:
                to_x[i, j] = 0
            else:
                to_x[i, j] = _element(_value(to_out[i, j]) * _value(scale[j]), out[i, j])


@cache
def _affine(dtype: torch.dtype) -> tuple[Callable, ...]:
    """The four above, for rows of `length` elements and as many factors."""
    functions = {_sum_and_affine_relu: 6, _affine_relu: 4, _gradient_with_the_sums: 5, _gradient: 4}
    return tuple(_compile(function, _NUMBERS[dtype], arrays, 2) for function, arrays in functions.items())


class _AddAffineReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, other: Tensor | None, scale: Tensor, shift: Tensor) -> tuple[Tensor | None, Tensor]:
        ctx.set_materialize_grads(False)
        n, c, h, w = x.shape
        pixels = math.gcd(h * w, len(scale) // c)
        ctx.sizes = n * h * w // pixels, pixels * c
        sum_and_affine_relu, affine_relu, *ctx.gradients = _affine(x.dtype)
        x = _dense(x)
        out = torch.empty_like(x)
        ctx.save_for_backward(out, scale)
        factors = scale.data_ptr(), shift.data_ptr()
        if other is None:
            affine_relu(x.data_ptr(), *factors, out.data_ptr(), *ctx.sizes)
            return None, out
        other, total = _dense(other), torch.empty_like(x)
        sum_and_affine_relu(x.data_ptr(), other.data_ptr(), *factors, total.data_ptr(), out.data_ptr(), *ctx.sizes)
        return total, out

    @staticmethod
    @once_differentiable
    def backward(ctx, to_total: Tensor | None, to_out: Tensor | None) -> tuple[Tensor | None, ...]:
        out, scale = ctx.saved_tensors
        gradient_with_the_sums, gradient = ctx.gradients
        to_out = torch.zeros_like(out) if to_out is None else _dense(to_out)
        to_x = torch.empty_like(out)
        addresses = to_out.data_ptr(), out.data_ptr(), scale.data_ptr(), to_x.data_ptr()
        if to_total is None:
            gradient(*addresses, *ctx.sizes)
        else:
            to_total = _dense(to_total)
            gradient_with_the_sums(to_total.data_ptr(), *addresses, *ctx.sizes)
        return to_x, to_x if ctx.needs_input_grad[1] else None, None, None


def add_affine_relu(
    x: Float[Tensor, "n c h w"], other: Float[Tensor, "n c h w"] | None, scale: Float[Tensor, " f"], shift: Float[Tensor, " f"]
) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n c h w"]]:
    """x + other (x itself, where that is None), and relu((x + other) · scale + shift), channel by channel, on the processor.

    `scale` and `shift` hold the channels' factors over and over, so that several pixels, as many as divide the image, are
    taken at once: an innermost loop over four channels would be all overhead. Gradients go to x and `other` only. Raises
    ValueError for another type, device or shape, or where the channels do not divide the factors.
    """
    _check("add_affine_relu", x, {"other": other, "scale": scale, "shift": shift})
    if other is not None and other.shape != x.shape:
        raise ValueError(f"other must have x's shape {tuple(x.shape)}, given {tuple(other.shape)}")
    if len(scale) % x.shape[1] or scale.shape != shift.shape:
        raise ValueError(f"scale and shift must repeat {x.shape[1]} channels' factors, given {len(scale)} and {len(shift)}")
    total, out = _AddAffineReLU.apply(x, other, scale, shift)
    return x if total is None else total, out


_NONE = 4  # of the four pixels of a window: none is positive, so the ReLU lets no gradient through


@no_type_check
def _pool_relu(x_, out_, winner_, rows, width, channels):
    x = carray(x_, (rows, 2, width, 2, channels))
    out, winner = carray(out_, (rows, width, channels)), carray(winner_, (rows, width, channels))
    for r in range(rows):
        for s in range(width):
            for c in range(channels):
                best, which = x[r, 0, s, 0, c], 0
                for pixel in range(1, 4):
                    other = x[r, pixel // 2, s, pixel % 2, c]
                    if _value(other) > _value(best) or _value(other) != _value(other):
                        best, which = other, pixel
                if _value(best) <= 0:
                    best, which = _element(0.0, best), _NONE
                out[r, s, c], winner[r, s, c] = best, which


@no_type_check
def _pool_relu_gradient(gradient_, winner_, to_x_, rows, width, channels):
    gradient, winner = carray(gradient_, (rows, width, channels)), carray(winner_, (rows, width, channels))
    to_x = carray(to_x_, (rows, 2, width, 2, channels))
    for r in range(rows):
        for s in range(width):
            for pixel in range(4):
                for c in range(channels):
                    to_x[r, pixel // 2, s, pixel % 2, c] = gradient[r, s, c] if winner[r, s, c] == pixel else 0


@cache
def _pooling(dtype: torch.dtype) -> tuple[Callable, ...]:
    """The two above."""
    return tuple(_compile(function, _NUMBERS[dtype], 3, 3) for function in (_pool_relu, _pool_relu_gradient))


def _empty(x: Tensor, height: int, width: int) -> Tensor:
    return torch.empty((*x.shape[:2], height, width), dtype=x.dtype, memory_format=torch.channels_last)


class _PoolReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        x, out, ctx.winner = _dense(x), _empty(x, h // 2, w // 2), _empty(x, h // 2, w // 2)
        pool_and_relu, ctx.gradient = _pooling(x.dtype)
        pool_and_relu(x.data_ptr(), out.data_ptr(), ctx.winner.data_ptr(), n * h // 2, w // 2, c)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> Tensor:
        n, c, h, w = gradient.shape
        gradient, to_x = _dense(gradient), _empty(gradient, 2 * h, 2 * w)
        ctx.gradient(gradient.data_ptr(), ctx.winner.data_ptr(), to_x.data_ptr(), n * h, w, c)
        return to_x


def pool_relu(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h/2 w/2"]:
    """`relu(max_pool2d(x, 2))` and its gradient, bit for bit, of a tensor on the processor.

    ValueError for another type or device, or an odd height or width.
    """
    _check("pool_relu", x, {})
    if x.shape[2] % 2 or x.shape[3] % 2:
        raise ValueError(f"pool_relu takes an even height and width, given {x.shape[2]}×{x.shape[3]}")
    return _PoolReLU.apply(x)
