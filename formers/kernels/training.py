"""What lies between the products of a transformer's block, forwards and backwards, in one pass each over its values.

Bias and GELU; bias, dropout, residual and layer norm. What dropout drops is a function of a seed and of a value's
place, so that no mask is kept for the way back. The reference is `formers.layers.block`.

A job is an array of 64-bit integers: the number of its next portion, a word that is not used, how many portions there
are, and what `formers.kernels.passes` puts there for each kernel; addresses are integers, too. A portion is the same
work whichever thread does it, and writes to places of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import cfunc, njit, types
from numba.extending import intrinsic
from numba.np.numpy_support import carray

from formers.kernels import native

# Rows of values in a portion.
ROWS = 32

_FLOAT, _INT = ir.FloatType(), ir.IntType(32)
f32, u32, i32 = np.float32, np.uint32, np.int32


def body(function: Any) -> Any:
    """One function in machine code, to be called with a job's address.

    Functions of their own, with leave to reorder sums, would come in several forms, and which of them is called would
    depend on whether numba's cache was there: the same training, other bits.
    """
    return cfunc("void(int64)", cache=True, fastmath={"contract", "reassoc", "nsz"}, error_model="numpy")(function)


def inlined(function: Any) -> Any:
    """A part of the bodies that call it, compiled as these are."""
    return njit(inline="always")(function)


def operation(function: Any) -> Any:
    """An intrinsic, whose typing context callers do not pass."""
    return intrinsic(prefer_literal=True)(function)


@operation
def pointer(_typing: Any, address: Any) -> Any:
    """An address as one of floats."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], _FLOAT.as_pointer())

    return types.CPointer(types.float32)(types.int64), generate


@operation
def _power(_typing: Any, exponent: Any) -> Any:
    """Two to a whole power from -126 on."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        biased = builder.add(args[0], ir.Constant(_INT, 127))
        return builder.bitcast(builder.shl(biased, ir.Constant(_INT, 23)), _FLOAT)

    return types.float32(types.int32), generate


@inlined
def exp(x: Any) -> Any:
    """The exponential of a number that is not positive (Cephes)."""
    x = max(x, f32(-87.0))
    n = i32(x * f32(1.44269504) - f32(0.5))
    r = x - f32(n) * f32(0.693359375) + f32(n) * f32(2.12194440e-4)
    p = f32(1.9875691500e-4)
    p = p * r + f32(1.3981999507e-3)
    p = p * r + f32(8.3334519073e-3)
    p = p * r + f32(4.1665795894e-2)
    p = p * r + f32(1.6666665459e-1)
    p = p * r + f32(5.0000001201e-1)
    return (p * r * r + r + f32(1.0)) * _power(n)


@inlined
def _erf(x: Any) -> Any:
    """The error function, by a quotient of polynomials."""
    x = min(max(x, f32(-4.0)), f32(4.0))
    y = x * x
    p = f32(-2.72614225801306e-10)
    p = p * y + f32(2.77068142495902e-08)
    p = p * y + f32(-2.10102402082508e-06)
    p = p * y + f32(-5.69250639462346e-05)
    p = p * y + f32(-7.34990630326855e-04)
    p = p * y + f32(-2.95459980854025e-03)
    p = p * y + f32(-1.60960333262415e-02)
    q = f32(-1.45660718464996e-05)
    q = q * y + f32(-2.13374055278905e-04)
    q = q * y + f32(-1.68282697438203e-03)
    q = q * y + f32(-7.37332916720468e-03)
    q = q * y + f32(-1.42647390514189e-02)
    return x * p / q


@inlined
def random(place: Any, low: Any, high: Any) -> Any:
    """32 bits of a place, by the two halves of a seed: a mixing function of Chris Wellons'."""
    x = u32(place) ^ low
    x = u32(x ^ u32(x >> u32(16)))
    x = u32(x * u32(0x7FEB352D))
    x = u32(x + high)
    x = u32(x ^ u32(x >> u32(15)))
    x = u32(x * u32(0x846CA68B))
    return u32(x ^ u32(x >> u32(16)))


# -- bias and GELU -----------------------------------------------------------------------------------------------------


@inlined
def _gelu(x: int, bias: int, out: int, rows: int, width: int) -> None:
    shift = carray(pointer(bias), width)
    for row in range(rows):
        given = carray(pointer(x + row * width * 4), width)
        made = carray(pointer(out + row * width * 4), width)
        for i in range(width):
            value = given[i] + shift[i]
            made[i] = f32(0.5) * value * (f32(1.0) + _erf(value * f32(0.70710678)))


@inlined
def _gelu_back(grad: int, x: int, bias: int, out: int, total: int, rows: int, width: int) -> None:
    shift, summed = carray(pointer(bias), width), carray(pointer(total), width)
    summed[:] = f32(0.0)
    for row in range(rows):
        given = carray(pointer(x + row * width * 4), width)
        asked = carray(pointer(grad + row * width * 4), width)
        made = carray(pointer(out + row * width * 4), width)
        for i in range(width):
            value = given[i] + shift[i]
            density = f32(0.39894228) * exp(f32(-0.5) * value * value)
            slope = f32(0.5) + f32(0.5) * _erf(value * f32(0.70710678)) + value * density
            result = asked[i] * slope
            made[i] = result
            summed[i] += result


@body
def gelu_body(job: int) -> None:
    """Job: rows, width, x, bias, out."""
    portions, rows, width = native.load(job + 16), native.load(job + 24), native.load(job + 32)
    while True:
        portion = native.add(job, 1)
        if portion >= portions:
            return
        first = portion * ROWS
        start = first * width * 4
        _gelu(
            native.load(job + 40) + start,
            native.load(job + 48),
            native.load(job + 56) + start,
            min(ROWS, rows - first),
            width,
        )


@body
def gelu_back_body(job: int) -> None:
    """Job: rows, width, grad, x, bias, out, the bias's gradients (portions, width)."""
    portions, rows, width = native.load(job + 16), native.load(job + 24), native.load(job + 32)
    while True:
        portion = native.add(job, 1)
        if portion >= portions:
            return
        first = portion * ROWS
        start = first * width * 4
        _gelu_back(
            native.load(job + 40) + start,
            native.load(job + 48) + start,
            native.load(job + 56),
            native.load(job + 64) + start,
            native.load(job + 72) + portion * width * 4,
            min(ROWS, rows - first),
            width,
        )


# -- bias, dropout, residual and norm ----------------------------------------------------------------------------------


@inlined
def _norm(
    x: int,
    residual: int,
    parameters: int,
    out: int,
    statistics: int,
    first: int,
    rows: int,
    width: int,
    dropped: int,
    seed: int,
    scale: Any,
    eps: Any,
) -> None:
    """X becomes what is normalised. Parameters (3, width): the bias, and weight and bias of the norm."""
    shift = carray(pointer(parameters), width)
    weight = carray(pointer(parameters + width * 4), width)
    offset = carray(pointer(parameters + width * 8), width)
    limit, low, high = u32(dropped), u32(seed), u32(seed >> 32)
    for row in range(first, first + rows):
        values = carray(pointer(x + row * width * 4), width)
        rest = carray(pointer(residual + row * width * 4), width)
        made = carray(pointer(out + row * width * 4), width)
        kept = carray(pointer(statistics + row * 8), 2)
        total = f32(0.0)
        if dropped:
            begin = u32(row * width)
            for i in range(width):
                keep = scale if random(u32(begin + u32(i)), low, high) >= limit else f32(0.0)
                value = (values[i] + shift[i]) * keep + rest[i]
                values[i] = value
                total += value
        else:
            for i in range(width):
                value = values[i] + shift[i] + rest[i]
                values[i] = value
                total += value
        mean = total / f32(width)
        square = f32(0.0)
        for i in range(width):
            difference = values[i] - mean
            square += difference * difference
        inverse = f32(1.0) / np.sqrt(square / f32(width) + eps)
        for i in range(width):
            made[i] = (values[i] - mean) * inverse * weight[i] + offset[i]
        kept[0] = mean
        kept[1] = inverse


@inlined
def _norm_back(
    grad: int,
    summed: int,
    parameters: int,
    statistics: int,
    grad_sum: int,
    grad_x: int,
    totals: int,
    first: int,
    rows: int,
    width: int,
    dropped: int,
    seed: int,
    scale: Any,
) -> None:
    weight = carray(pointer(parameters + width * 4), width)
    of_bias = carray(pointer(totals), width)
    of_weight = carray(pointer(totals + width * 4), width)
    of_offset = carray(pointer(totals + width * 8), width)
    for i in range(width):
        of_bias[i] = f32(0.0)
        of_weight[i] = f32(0.0)
        of_offset[i] = f32(0.0)
    limit, low, high = u32(dropped), u32(seed), u32(seed >> 32)
    for row in range(first, first + rows):
        asked = carray(pointer(grad + row * width * 4), width)
        values = carray(pointer(summed + row * width * 4), width)
        kept = carray(pointer(statistics + row * 8), 2)
        to_sum = carray(pointer(grad_sum + row * width * 4), width)
        to_x = carray(pointer(grad_x + row * width * 4), width)
        mean, inverse = kept[0], kept[1]
        plain, scaled = f32(0.0), f32(0.0)
        for i in range(width):
            normed = (values[i] - mean) * inverse
            each = asked[i] * weight[i]
            plain += each
            scaled += each * normed
        plain = plain / f32(width)
        scaled = scaled / f32(width)
        begin = u32(row * width)
        for i in range(width):
            normed = (values[i] - mean) * inverse
            of_weight[i] += asked[i] * normed
            of_offset[i] += asked[i]
            to_sum[i] = inverse * (asked[i] * weight[i] - plain - normed * scaled)
        if dropped:
            for i in range(width):
                keep = scale if random(u32(begin + u32(i)), low, high) >= limit else f32(0.0)
                value = to_sum[i] * keep
                to_x[i] = value
                of_bias[i] += value
        else:
            for i in range(width):
                of_bias[i] += to_sum[i]


@body
def norm_body(job: int) -> None:
    """Job: rows, width, dropped, seed, [scale, eps], x, residual, parameters, out, statistics."""
    portions, rows, width = native.load(job + 16), native.load(job + 24), native.load(job + 32)
    numbers = carray(pointer(native.load(job + 56)), 2)
    while True:
        portion = native.add(job, 1)
        if portion >= portions:
            return
        first = portion * ROWS
        _norm(
            native.load(job + 64),
            native.load(job + 72),
            native.load(job + 80),
            native.load(job + 88),
            native.load(job + 96),
            first,
            min(ROWS, rows - first),
            width,
            native.load(job + 40),
            native.load(job + 48),
            numbers[0],
            numbers[1],
        )


@body
def norm_back_body(job: int) -> None:
    """Job: rows, width, dropped, seed, [scale, eps], grad, sum, parameters, statistics, the gradients of sum and x,
    and of the parameters (portions, 3, width).
    """
    portions, rows, width = native.load(job + 16), native.load(job + 24), native.load(job + 32)
    numbers = carray(pointer(native.load(job + 56)), 2)
    while True:
        portion = native.add(job, 1)
        if portion >= portions:
            return
        first = portion * ROWS
        _norm_back(
            native.load(job + 64),
            native.load(job + 72),
            native.load(job + 80),
            native.load(job + 88),
            native.load(job + 96),
            native.load(job + 104),
            native.load(job + 112) + portion * width * 12,
            first,
            min(ROWS, rows - first),
            width,
            native.load(job + 40),
            native.load(job + 48),
            numbers[0],
        )
