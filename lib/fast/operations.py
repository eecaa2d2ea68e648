"""The compiled operations of a network and its gradient, on vectors that hold one number of each of several images.

A convolution of four channels leaves a processor's vectors all but empty. Here the images fill them. Lane i of every vector
belongs to image i, weights are single numbers that are spread over the lanes, and an activation map is a *plane*, one vector
a pixel. `interpret` runs a table of operations on such planes, as often as the attack has steps, in one call.
`lib.fast.networks` makes the table.

A checker of types, which tests run under, would wrap these functions and be compiled in their place: `no_type_check`.

Arguments of an operation are v, the planes; w, the weights; s, the planes as single numbers; p, the fields of the row.
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

from lib.fast.rows import (  # isort: skip
    ACTIVE, ADD, ATTACK_KINDS, BIAS, BORDER, CHANNELS, KERNEL, KIND, MARGIN, ONTO, OUT, OUT_CHANNELS, RELU, SCALE, SIDE, STRIDE,
    TOTAL, W, WIDTH, WINNER, X,
)  # fmt: skip
from lib.fast.vectors import (  # isort: skip
    TILE, UNITS, Vector, add, beats, chosen, greater, lanes_of, marked, muladd, rectified, registers, spread,
)  # fmt: skip

_SUMS = 4 * TILE

_CONVOLVE, _DENSE, _UNPOOL, _SPREAD, _STANDARDIZE, _STANDARDIZE_GRADIENT, _MEAN, _MEAN_GRADIENT, _LOSS, _STEP = range(
    len(ATTACK_KINDS)
)
_JIT = {"error_model": "numpy", "no_cpython_wrapper": True}


@no_type_check
@njit(forceinline=True, **_JIT)
def _finish(v, w, p, value, unit, at):
    """Write one sum of products, and what follows it, at index `at` of the planes `out` and of those that go with it."""
    if p[ADD] >= 0:
        value = add(value, v[p[ADD] + at])
    if p[TOTAL] >= 0:
        v[p[TOTAL] + at] = value
    if p[SCALE] >= 0:
        value = muladd(w[p[SCALE] + unit], value, spread(v, w[p[SCALE] + p[OUT_CHANNELS] + unit]))
    if p[ACTIVE] >= 0:
        zero = spread(v, 0.0)
        value = greater(v[p[ACTIVE] + at], zero, value, zero)
    if p[RELU] > 0:
        value = rectified(value)
    if p[ONTO] >= 0:
        value = add(value, v[p[ONTO] + at])
    v[p[OUT] + at] = value


@no_type_check
@njit(forceinline=True, **_JIT)
def _convolve(v, w, p, kernel, stride, pooled):
    """A convolution with same padding, TILE channels and 2×2 pixels at once; those four are a window where it is `pooled`.

    `kernel`, `stride` and `pooled` are constants, so that the loop over a kernel's row is unrolled.
    """
    sums = registers(v, _SUMS)
    channels, side, margin = p[CHANNELS], p[SIDE], p[MARGIN]
    span, padding = side + 2 * margin, (kernel - 1) // 2
    tiles = side // stride // 2
    span_out = (tiles if pooled else 2 * tiles) + 2 * p[BORDER]
    for unit in range(0, p[OUT_CHANNELS], TILE):
        for ty in range(tiles):
            for tx in range(tiles):
                for o in range(TILE):
                    for i in range(4):
                        sums[4 * o + i] = spread(v, w[p[BIAS] + unit + o])
                k = p[W] + unit * channels * kernel * kernel
                corner = p[X] + (2 * stride * ty + margin - padding) * span + 2 * stride * tx + margin - padding
                for c in range(channels):
                    for ky in range(kernel):
                        at = corner + (c * span + ky) * span
                        for kx in range(kernel):
                            for i in range(4):
                                pixel = v[at + kx + stride * ((i >> 1) * span + (i & 1))]
                                for o in range(TILE):
                                    sums[4 * o + i] = muladd(w[k + kx * TILE + o], pixel, sums[4 * o + i])
                        k += kernel * TILE
                for o in range(TILE):
                    if pooled:
                        best, winner = sums[4 * o], marked(v, 0)
                        for i in range(1, 4):
                            winner = beats(sums[4 * o + i], best, marked(v, i), winner)
                            best = beats(sums[4 * o + i], best, sums[4 * o + i], best)
                        at = ((unit + o) * span_out + ty + p[BORDER]) * span_out + tx + p[BORDER]
                        v[p[WINNER] + at] = winner
                        _finish(v, w, p, best, unit + o, at)
                    else:
                        for i in range(4):
                            y, x = 2 * ty + (i >> 1) + p[BORDER], 2 * tx + (i & 1) + p[BORDER]
                            _finish(v, w, p, sums[4 * o + i], unit + o, ((unit + o) * span_out + y) * span_out + x)


@no_type_check
@njit(**_JIT)
def _convolve_5(v, w, p):
    _convolve(v, w, p, 5, 1, True)


@no_type_check
@njit(**_JIT)
def _convolve_3(v, w, p):
    if p[STRIDE] == 1:
        _convolve(v, w, p, 3, 1, False)
    else:
        _convolve(v, w, p, 3, 2, False)


@no_type_check
@njit(**_JIT)
def _convolve_1(v, w, p):
    if p[STRIDE] == 1:
        _convolve(v, w, p, 1, 1, False)
    else:
        _convolve(v, w, p, 1, 2, False)


@no_type_check
@njit(**_JIT)
def _dense(v, w, p):
    """A dense layer, UNITS units at once."""
    sums = registers(v, UNITS)
    k = p[W]
    for unit in range(0, p[OUT_CHANNELS], UNITS):
        for j in range(UNITS):
            sums[j] = spread(v, w[p[BIAS] + unit + j])
        for i in range(p[CHANNELS]):
            value = v[p[X] + i]
            for j in range(UNITS):
                sums[j] = muladd(w[k + j], value, sums[j])
            k += UNITS
        for j in range(UNITS):
            _finish(v, w, p, sums[j], unit + j, unit + j)


@no_type_check
@njit(forceinline=True, **_JIT)
def _unpool(v, w, p, across):
    """The gradient to the input of a 5×5 convolution that was pooled, TILE blocks of 2×2 pixels at once.

    A block of pixels has part in nine pooling windows, and only a window's winner lets its gradient through, by one weight that
    the winner tells. That is nine look-ups a pixel where the convolution's gradient has 25 products. `x` is the gradient to the
    windows. The blocks lie in TILE channels or, for images of few channels, `across` a row; then x has a border.
    """
    sums = registers(v, _SUMS)
    side, channels, margin = p[SIDE], p[CHANNELS], p[MARGIN]
    span, span_out = side + 2 * margin, 2 * side + 2 * p[BORDER]
    for unit in range(0, p[OUT_CHANNELS], 1 if across else TILE):
        for by in range(side):
            top, bottom = (-1, 2) if across else (max(-1, -by), min(2, side - by))
            for left in range(0, side, TILE if across else 1):
                bx = min(left, side - TILE) if across else left
                first, last = (-1, 2) if across else (max(-1, -bx), min(2, side - bx))
                for i in range(4 * TILE):
                    sums[i] = spread(v, 0.0)
                k = p[W] + unit * channels * 144
                for c in range(channels):
                    for wy in range(top, bottom):
                        at = (c * span + by + wy + margin) * span + bx + margin
                        for wx in range(first, last):
                            weights = k + (3 * wy + wx + 4) * 16 * (1 if across else TILE)
                            gradient, winner = v[p[X] + at + wx], v[p[WINNER] + at + wx]
                            for o in range(TILE):
                                if across:
                                    gradient, winner = v[p[X] + at + wx + o], v[p[WINNER] + at + wx + o]
                                for i in range(4):
                                    weight = chosen(w, weights + 4 * (i if across else 4 * o + i), winner)
                                    sums[4 * o + i] = muladd(weight, gradient, sums[4 * o + i])
                    k += 144 if across else 144 * TILE
                for o in range(TILE):
                    for i in range(4):
                        channel, block = (unit, bx + o) if across else (unit + o, bx)
                        y, x = 2 * by + (i >> 1) + p[BORDER], 2 * block + (i & 1) + p[BORDER]
                        _finish(v, w, p, sums[4 * o + i], channel, (channel * span_out + y) * span_out + x)


@no_type_check
@njit(**_JIT)
def _unpool_channels(v, w, p):
    _unpool(v, w, p, False)


@no_type_check
@njit(**_JIT)
def _unpool_across(v, w, p):
    _unpool(v, w, p, True)


@no_type_check
@njit(**_JIT)
def _spread_out(v, p):
    """Planes on every other pixel of planes twice as large, whose other pixels are zero: a convolution's stride undone."""
    side, span, span_out = p[SIDE], p[SIDE] + 2 * p[MARGIN], 2 * (p[SIDE] + p[BORDER])
    for c in range(p[CHANNELS]):
        for y in range(side):
            for x in range(side):
                value = v[p[X] + (c * span + y + p[MARGIN]) * span + x + p[MARGIN]]
                v[p[OUT] + (c * span_out + 2 * y + p[BORDER]) * span_out + 2 * x + p[BORDER]] = value


@no_type_check
@njit(forceinline=True, **_JIT)
def index(c, y, x, side, border):
    """Where a pixel of a plane is, planes of `side`² pixels with a border."""
    return (c * (side + 2 * border) + y + border) * (side + 2 * border) + x + border


@no_type_check
@njit(**_JIT)
def _standardize(v, s, p):
    """(x - mean) / max(std, 1/√count), image by image. `winner`: where mean, scale and whether the image varies are kept."""
    side, n, count, zero = p[SIDE], lanes_of(v), p[CHANNELS] * p[SIDE] * p[SIDE], spread(v, 0.0)
    mean, scale, varies = p[WINNER], p[WINNER] + 1, p[WINNER] + 2
    total = zero
    for c in range(p[CHANNELS]):
        for y in range(side):
            row = zero  # sums of sums: adding up thousands of numbers one by one would round too often
            for x in range(side):
                row = add(row, v[p[X] + index(c, y, x, side, p[MARGIN])])
            total = add(total, row)
    v[mean] = muladd(spread(v, -1 / count), total, zero)
    total = zero
    for c in range(p[CHANNELS]):
        for y in range(side):
            row = zero
            for x in range(side):
                value = add(v[p[X] + index(c, y, x, side, p[MARGIN])], v[mean])
                row = muladd(value, value, row)
            total = add(total, row)
    v[scale] = total
    for lane in range(n):
        norm = math.sqrt(s[scale * n + lane])  # std · √count
        s[varies * n + lane] = 1.0 if norm > 1 else 0.0
        s[scale * n + lane] = math.sqrt(count) / (norm if norm > 1 or norm != norm else 1.0)
    for c in range(p[CHANNELS]):
        for y in range(side):
            for x in range(side):
                value = add(v[p[X] + index(c, y, x, side, p[MARGIN])], v[mean])
                v[p[OUT] + index(c, y, x, side, p[BORDER])] = muladd(value, v[scale], zero)


@no_type_check
@njit(**_JIT)
def _standardize_gradient(v, p):
    """In place of the gradient `out`; x: the standardised images, of which `winner` tells the scale and whether they vary."""
    side, count, zero = p[SIDE], p[CHANNELS] * p[SIDE] * p[SIDE], spread(v, 0.0)
    scale, varies = p[WINNER] + 1, p[WINNER] + 2
    mean, along = zero, zero
    for c in range(p[CHANNELS]):
        for y in range(side):
            row, row_along = zero, zero
            for x in range(side):
                gradient = v[p[OUT] + index(c, y, x, side, p[BORDER])]
                row = add(row, gradient)
                row_along = muladd(gradient, v[p[X] + index(c, y, x, side, p[MARGIN])], row_along)
            mean, along = add(mean, row), add(along, row_along)
    mean = muladd(spread(v, -1 / count), mean, zero)
    along = muladd(muladd(spread(v, -1 / count), along, zero), v[varies], zero)
    for c in range(p[CHANNELS]):
        for y in range(side):
            for x in range(side):
                at = p[OUT] + index(c, y, x, side, p[BORDER])
                value = muladd(v[p[X] + index(c, y, x, side, p[MARGIN])], along, add(v[at], mean))
                v[at] = muladd(value, v[scale], zero)


@no_type_check
@njit(**_JIT)
def _mean(v, p):
    """The mean of each plane."""
    side = p[SIDE]
    share = spread(v, 1 / (side * side))
    for c in range(p[CHANNELS]):
        total = spread(v, 0.0)
        for y in range(side):
            for x in range(side):
                total = muladd(share, v[p[X] + index(c, y, x, side, p[MARGIN])], total)
        v[p[OUT] + c] = total


@no_type_check
@njit(**_JIT)
def _mean_gradient(v, w, p):
    side = p[SIDE]
    for c in range(p[CHANNELS]):
        value = muladd(spread(v, 1 / (side * side)), v[p[X] + c], spread(v, 0.0))
        for y in range(side):
            for x in range(side):
                _finish(v, w, p, value, c, index(c, y, x, side, p[BORDER]))


@no_type_check
@njit(**_JIT)
def _loss(s, p, labels, n):
    """The gradient of the cross entropy to the logits, softmax less one-hot. Whether the cross entropies are finite."""
    finite = 1
    logits, out = p[X] * n, p[OUT] * n
    for lane in range(n):
        top = s[logits + lane]
        for c in range(1, p[CHANNELS]):
            top = max(top, s[logits + c * n + lane])
        total = top * 0
        for c in range(p[CHANNELS]):
            e = math.exp(s[logits + c * n + lane] - top)
            s[out + c * n + lane] = e
            total += e
        for c in range(p[CHANNELS]):
            s[out + c * n + lane] /= total
        s[out + labels[lane] * n + lane] -= 1
        if not total >= 1 or total - total != 0:
            finite = 0
    return finite


@no_type_check
@njit(**_JIT)
def _step(v, p, size):
    """One step along the sign of the gradient `add`, in place of the images `x`; `out`: their lower and their upper bounds."""
    zero, up, down = spread(v, 0.0), spread(v, size), spread(v, -size)
    side = p[SIDE]
    low, high = p[OUT], p[OUT] + p[CHANNELS] * side * side
    for c in range(p[CHANNELS]):
        for y in range(side):
            for x in range(side):
                at, i = p[X] + index(c, y, x, side, p[MARGIN]), (c * side + y) * side + x
                gradient = v[p[ADD] + i]
                value = add(v[at], greater(gradient, zero, up, greater(zero, gradient, down, zero)))
                value = greater(v[low + i], value, v[low + i], value)
                v[at] = greater(value, v[high + i], v[high + i], value)


@no_type_check
@njit(**_JIT)
def shared_row(v, s, w, p):
    """Run a row of a kind that the attack and a training step have in common."""
    kind = p[KIND]
    if kind == _CONVOLVE:
        if p[KERNEL] == 5:
            _convolve_5(v, w, p)
        elif p[KERNEL] == 3:
            _convolve_3(v, w, p)
        else:
            _convolve_1(v, w, p)
    elif kind == _SPREAD:
        _spread_out(v, p)
    elif kind == _STANDARDIZE:
        _standardize(v, s, p)
    elif kind == _MEAN:
        _mean(v, p)
    else:
        _mean_gradient(v, w, p)


@no_type_check
def interpret(v, s, w, table, first, last, p, labels, steps, size):
    """Run the rows from `first` to `last` of the table, `steps` times. Whether every loss was finite; `p`: room for a row."""
    finite, n = 1, lanes_of(v)
    for _ in range(steps):
        for row in range(first, last):
            for i in range(WIDTH):
                p[i] = table[row * WIDTH + i]
            kind = p[KIND]
            if kind == _DENSE:
                _dense(v, w, p)
            elif kind == _UNPOOL:
                if p[MARGIN] > 0:
                    _unpool_across(v, w, p)
                else:
                    _unpool_channels(v, w, p)
            elif kind == _STANDARDIZE_GRADIENT:
                _standardize_gradient(v, p)
            elif kind == _LOSS:
                finite &= _loss(s, p, labels, n)
            elif kind == _STEP:
                _step(v, p, size)
            else:
                shared_row(v, s, w, p)
    return finite


@cache
def compiled(dtype: torch.dtype, lanes: int) -> Callable:
    """`interpret` for vectors of so many numbers of float32 or float64, called with addresses."""
    number = {torch.float32: types.float32, torch.float64: types.float64}[dtype]
    v, s, i = types.CPointer(Vector(number, lanes)), types.CPointer(number), types.CPointer(types.int64)
    signature = types.int64(v, s, s, i, types.int64, types.int64, i, i, types.int64, number)
    function = compiling.function(cfunc, signature)(interpret)
    address, integer, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float if number is types.float32 else ctypes.c_double
    return ctypes.CFUNCTYPE(integer, *[address] * 4, integer, integer, address, address, integer, real)(function.address)
