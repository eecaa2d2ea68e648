"""The compiled operations that a training step adds to those of an attack: batch normalisation, and gradients to weights.

Batch normalisation in train mode needs the moments of the whole batch before an image can go on. So all images take the rows of
a table up to the next *barrier* together, a block of as many images as a vector has lanes at a time, and a barrier makes one
number a channel of what each block has counted. `interpret` runs a table so. `lib.fast.training_step` makes the table.

Arguments of an operation are those of `lib.fast.operations`; b is the block. What is counted, and what is computed of it, lies
among the weights w, one number a channel: `SLOTS` of them for each normalisation, and two for each block.
"""

import ctypes
import math
from collections.abc import Callable
from functools import cache
from typing import no_type_check

import torch
from numba import cfunc, njit
from numba.core import types

from lib.fast import cache as compiling
from lib.fast.operations import index, shared_row

from lib.fast.rows import (  # isort: skip
    ACTIVE, ADD, BIAS, BORDER, CHANNELS, KERNEL, KIND, KINDS, MARGIN, OUT, OUT_CHANNELS, PLANES, SCALE, SIDE, STRIDE, TOTAL,
    TRAINING_KINDS, W, WIDTH, X,
)  # fmt: skip
from lib.fast.vectors import TILE, Vector, add, greater, lanes_of, muladd, rectified, registers, spread

# The numbers of a normalisation, each of so many channels, in this order: factor and shift, mean, variance, one over the
# standard deviation, the terms of the gradient in x and without x, and the gradients to its two weights.
SLOTS = 9
_SHIFT, MEAN, _VARIANCE, _INVERSE, _IN_X, _WITHOUT_X, TO_FACTOR, _TO_SHIFT = range(1, SLOTS)

_NORMALIZE, _MOMENTS, _NORM_SUMS, _NORM_GRADIENT, _WEIGH, _COMBINE, _COMBINE_GRADIENT = map(KINDS.index, TRAINING_KINDS)
_SUMS = 3 * TILE  # of a row of a kernel
_JIT = {"error_model": "numpy", "no_cpython_wrapper": True}


@no_type_check
@njit(**_JIT)
def _normalize(v, w, p):
    """Planes normalised, and ReLU of them."""
    side, channels = p[SIDE], p[CHANNELS]
    for c in range(channels):
        factor, shift = spread(v, w[p[SCALE] + c]), spread(v, w[p[SCALE] + _SHIFT * channels + c])
        for y in range(side):
            for x in range(side):
                value = muladd(factor, v[p[X] + index(c, y, x, side, p[MARGIN])], shift)
                v[p[OUT] + index(c, y, x, side, p[BORDER])] = rectified(value)


@no_type_check
@njit(forceinline=True, **_JIT)
def _summed(v, s, at):
    """The sum of the numbers of the vector at index `at`."""
    total, n = s[at * lanes_of(v)], lanes_of(v)
    for lane in range(1, n):
        total += s[at * n + lane]
    return total


@no_type_check
@njit(**_JIT)
def _moments(v, s, w, p, b):
    """Of each plane of a block, the mean and the sum of squares around it, to w; `total`: room for a vector."""
    side, channels, zero = p[SIDE], p[CHANNELS], spread(v, 0.0)
    room, counted = p[TOTAL], p[W] + 2 * channels * b
    for c in range(channels):
        total = zero
        for y in range(side):
            row = zero  # sums of sums: adding up thousands of numbers one by one would round too often
            for x in range(side):
                row = add(row, v[p[X] + index(c, y, x, side, p[MARGIN])])
            total = add(total, row)
        v[room] = total
        average = _summed(v, s, room) / (side * side * lanes_of(v))
        minus, total = spread(v, -average), zero
        for y in range(side):
            row = zero
            for x in range(side):
                value = add(v[p[X] + index(c, y, x, side, p[MARGIN])], minus)
                row = muladd(value, value, row)
            total = add(total, row)
        v[room] = total
        w[counted + c], w[counted + channels + c] = average, _summed(v, s, room)


@no_type_check
@njit(**_JIT)
def _combine(w, p, blocks, n):
    """The moments of the batch from those of its blocks, and what normalises by them. `bias`: the shifts, and then eps."""
    channels, count = p[CHANNELS], p[SIDE] * p[SIDE] * n
    for c in range(channels):
        average, squares = w[p[X] + c] * 0, w[p[X] + c] * 0
        for b in range(blocks):
            average += w[p[X] + 2 * channels * b + c] / blocks
        for b in range(blocks):
            apart = w[p[X] + 2 * channels * b + c] - average
            squares += w[p[X] + (2 * b + 1) * channels + c] + count * apart * apart
        variance = squares / (count * blocks)
        inverse = 1 / math.sqrt(variance + w[p[BIAS] + channels])
        at = p[SCALE] + c
        w[at] = w[p[W] + c] * inverse
        w[at + _SHIFT * channels] = w[p[BIAS] + c] - average * w[at]
        w[at + MEAN * channels], w[at + _VARIANCE * channels], w[at + _INVERSE * channels] = average, variance, inverse


@no_type_check
@njit(**_JIT)
def _norm_sums(v, s, w, p, b):
    """Take the gradient `out` back through the ReLU, and add up what the gradient of the normalisation of x needs, to w."""
    side, channels, zero = p[SIDE], p[CHANNELS], spread(v, 0.0)
    room, counted = p[TOTAL], p[W] + 2 * channels * b
    for c in range(channels):
        factor, shift = spread(v, w[p[SCALE] + c]), spread(v, w[p[SCALE] + _SHIFT * channels + c])
        minus, total, along = spread(v, -w[p[SCALE] + MEAN * channels + c]), zero, zero
        for y in range(side):
            row, row_along = zero, zero
            for x in range(side):
                value, at = v[p[X] + index(c, y, x, side, p[MARGIN])], p[OUT] + index(c, y, x, side, p[BORDER])
                gradient = greater(muladd(factor, value, shift), zero, v[at], zero)
                v[at] = gradient
                row, row_along = add(row, gradient), muladd(gradient, add(value, minus), row_along)
            total, along = add(total, row), add(along, row_along)
        v[room] = total
        w[counted + c] = _summed(v, s, room)
        v[room] = along
        w[counted + channels + c] = _summed(v, s, room)


@no_type_check
@njit(**_JIT)
def _combine_gradient(w, p, blocks, n):
    """The gradients to factor and shift, and what the gradient to x is made of, from the sums of the blocks."""
    channels, count = p[CHANNELS], p[SIDE] * p[SIDE] * n * blocks
    for c in range(channels):
        total, along, at = w[p[X] + c] * 0, w[p[X] + c] * 0, p[SCALE] + c
        for b in range(blocks):
            total += w[p[X] + 2 * channels * b + c]
            along += w[p[X] + (2 * b + 1) * channels + c]
        factor, inverse = w[at], w[at + _INVERSE * channels]
        w[at + TO_FACTOR * channels], w[at + _TO_SHIFT * channels] = along * inverse, total
        in_x = -factor * inverse * inverse * along / count
        w[at + _IN_X * channels] = in_x
        w[at + _WITHOUT_X * channels] = -factor * total / count - in_x * w[at + MEAN * channels]


@no_type_check
@njit(**_JIT)
def _norm_gradient(v, w, p):
    """The gradient to x, which was normalised, from the one behind it, `active`; `add`: planes to add, laid out as `out`."""
    side, channels = p[SIDE], p[CHANNELS]
    for c in range(channels):
        factor, at = spread(v, w[p[SCALE] + c]), p[SCALE] + c
        in_x, without = spread(v, w[at + _IN_X * channels]), spread(v, w[at + _WITHOUT_X * channels])
        for y in range(side):
            for x in range(side):
                inside, to = index(c, y, x, side, p[MARGIN]), index(c, y, x, side, p[BORDER])
                value = muladd(factor, v[p[ACTIVE] + inside], muladd(in_x, v[p[X] + inside], without))
                if p[ADD] >= 0:
                    value = add(value, v[p[ADD] + to])
                v[p[OUT] + to] = value


@no_type_check
@njit(forceinline=True, **_JIT)
def _weigh(v, p, kernel):
    """Add a convolution's gradient to its weights, lane by lane, to the vectors from index w on, in the order of the weights.

    x: what was convolved; `out`: the gradient to what came of it.
    """
    sums = registers(v, _SUMS)
    stride, border, offset = p[STRIDE], p[BORDER], p[MARGIN] - (kernel - 1) // 2
    side = p[SIDE] // stride
    span, span_out = p[SIDE] + 2 * p[MARGIN], side + 2 * border
    plane = span_out * span_out
    for y in range(side):
        k = p[W]
        for unit in range(0, p[OUT_CHANNELS], TILE):
            to = p[OUT] + unit * plane + (y + border) * span_out + border
            for c in range(p[CHANNELS]):
                for ky in range(kernel):
                    at = p[X] + (c * span + stride * y + ky + offset) * span + offset
                    for i in range(TILE * kernel):
                        sums[i] = spread(v, 0.0)
                    for x in range(side):
                        for kx in range(kernel):
                            pixel = v[at + stride * x + kx]
                            for o in range(TILE):
                                sums[kx * TILE + o] = muladd(v[to + o * plane + x], pixel, sums[kx * TILE + o])
                    for i in range(TILE * kernel):
                        v[k + i] = add(v[k + i], sums[i])
                    k += TILE * kernel


@no_type_check
@njit(**_JIT)
def _row(v, s, w, p, b):
    kind = p[KIND]
    if kind == _NORMALIZE:
        _normalize(v, w, p)
    elif kind == _MOMENTS:
        _moments(v, s, w, p, b)
    elif kind == _NORM_SUMS:
        _norm_sums(v, s, w, p, b)
    elif kind == _NORM_GRADIENT:
        _norm_gradient(v, w, p)
    elif kind != _WEIGH:
        shared_row(v, s, w, p)
    elif p[KERNEL] == 1:
        _weigh(v, p, 1)  # a constant, so that the loop over a kernel's row is unrolled
    else:
        _weigh(v, p, 3)


@no_type_check
def interpret(v, s, w, table, first, last, p, blocks, base, size):
    """Run the rows from `first` to `last`, each block up to the next barrier. `p`: room for a row.

    The planes below index `base` are shared by the blocks; from there on each block has `size` of its own.
    """
    row, n = first, lanes_of(v)
    while row < last:
        barrier = row
        while barrier < last and table[barrier * WIDTH + KIND] < _COMBINE:
            barrier += 1
        for b in range(blocks):
            for each in range(row, barrier):
                for i in range(WIDTH):
                    p[i] = table[each * WIDTH + i]
                for i in PLANES:
                    if p[i] >= base:
                        p[i] += b * size
                _row(v, s, w, p, b)
        if barrier < last:
            for i in range(WIDTH):
                p[i] = table[barrier * WIDTH + i]
            if p[KIND] == _COMBINE:
                _combine(w, p, blocks, n)
            else:
                _combine_gradient(w, p, blocks, n)
        row = barrier + 1


@cache
def compiled(dtype: torch.dtype, lanes: int) -> Callable:
    """`interpret` for vectors of so many numbers of float32 or float64, called with addresses."""
    number = {torch.float32: types.float32, torch.float64: types.float64}[dtype]
    v, s, i = types.CPointer(Vector(number, lanes)), types.CPointer(number), types.CPointer(types.int64)
    signature = types.void(v, s, s, i, types.int64, types.int64, i, types.int64, types.int64, types.int64)
    function = compiling.function(cfunc, signature)(interpret)
    address, integer = ctypes.c_void_p, ctypes.c_int64
    return ctypes.CFUNCTYPE(None, *[address] * 4, integer, integer, address, *[integer] * 3)(function.address)
