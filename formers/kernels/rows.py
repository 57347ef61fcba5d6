"""What layers in blocks of 32 columns are made of (see `tiles`): products, activations, norms, softmax, copies.

Places are addresses; memory must hold ordinary numbers, for rows past the last one are computed along.
"""

from __future__ import annotations

import math
from enum import IntEnum
from typing import Any

from numba import njit

from formers.kernels.tiles import COLUMNS, ROW, TALLEST, call_tile
from formers.kernels.vectors import (
    LANES,
    add,
    copy_one,
    divide,
    first,
    fma,
    highest,
    larger,
    load,
    load_one,
    multiply,
    nearest,
    polynomial,
    power_of_two,
    smaller,
    splat,
    store,
    store_one,
    subtract,
    total,
)

# Rows that go through the feed-forward layer at a time, and that ask in an attention: what lies between two products
# shall not leave the second cache.
CHUNK, ASKING = 8 * TALLEST, 4 * TALLEST


class Activation(IntEnum):
    """What follows a product."""

    NONE = 0
    GELU = 1
    GELU_TANH = 2
    RELU = 3
    SILU = 4
    QUICK_GELU = 5


_LOG2E, _LN2 = math.log2(math.e), math.log(2)
# The natural logarithm of two, in a part that few bits hold and the rest.
_LN2_HIGH = 0.693359375
_VECTOR = LANES * 4
_ROOT = 2 * math.sqrt(2 / math.pi)
# The exponential function's series, enough for +-log(2) / 2.
_series = polynomial([1 / math.factorial(power) for power in range(8)])
# exp(x ** 2 / 2) * (1 - Phi(x)) from 0 to 6, where Phi is the normal distribution; the error of GELU is below 1.3e-7.
_tail = polynomial(
    [
        *(0.49999968133139194, -0.39892449436781446, 0.2498107601270662, -0.13214090113892424),
        *(0.06049476419644097, -0.023668888300767896, 0.007588487021260029, -0.0018811783184730362),
        *(0.0003377082029733715, -4.0555937400078e-05, 2.878861343741615e-06, -9.059288151277294e-08),
    ]
)


@njit(nogil=True, cache=True)
def exponential(x: Any) -> Any:
    """The exponential function of x, which is cut to [-87, 88]."""
    x = smaller(splat(88.0), larger(splat(-87.0), x))
    power = nearest(multiply(x, splat(_LOG2E)))
    rest = fma(power, splat(_LN2_HIGH - _LN2), fma(power, splat(-_LN2_HIGH), x))
    return multiply(_series(rest), power_of_two(power))


@njit(nogil=True, cache=True)
def _sigmoid_product(x: Any, y: Any) -> Any:
    return divide(x, add(splat(1.0), exponential(multiply(splat(-1.0), y))))


@njit(nogil=True, cache=True)
def activate(kind: int, address: int, vectors: int) -> None:
    """Apply an activation function to numbers in their place."""
    for place in range(address, address + vectors * _VECTOR, _VECTOR):
        x = load(place)
        if kind == Activation.GELU:
            size = smaller(splat(6.0), larger(x, subtract(splat(0.0), x)))
            tail = multiply(exponential(multiply(multiply(size, size), splat(-0.5))), _tail(size))
            store(place, subtract(larger(splat(0.0), x), multiply(size, tail)))
        elif kind == Activation.GELU_TANH:
            cube = multiply(multiply(x, x), x)
            store(place, _sigmoid_product(x, multiply(splat(_ROOT), fma(splat(0.044715), cube, x))))
        elif kind == Activation.RELU:
            store(place, larger(splat(0.0), x))
        elif kind == Activation.SILU:
            store(place, _sigmoid_product(x, x))
        elif kind == Activation.QUICK_GELU:
            store(place, _sigmoid_product(x, multiply(splat(1.702), x)))


@njit(nogil=True, cache=True)
def product(
    tile: int,
    half: int,
    x: int,
    step: int,
    inputs: int,
    panels: int,
    apart: int,
    count: int,
    after: int,
    bias: int,
    bias_step: int,
    rows: int,
    out: int,
    out_step: int,
    activation: int,
) -> None:
    """Rows of x, `inputs` wide, with `count` panels that lie `apart`, to as many blocks of `out`.

    Steps are from block to block, in bytes. `after`: the memory that is needed next. With an odd number of rows one
    more is computed.
    """
    height = -(-rows // -(-rows // TALLEST))
    height += height % 2
    # Every tile asks for its share of what is needed next: memory answers slower than it can be asked.
    line = COLUMNS * (2 if half else 4)
    pace = line * height // rows if rows > height else line
    for number in range(count):
        panel, block = panels + number * apart, out + number * out_step
        ahead = after if number == count - 1 else panel + apart
        for row in range(0, rows, height):
            tall = min(height, rows - row)
            tall += tall % 2
            target, b = block + row * ROW, bias + number * bias_step
            call_tile(tile, half, tall, x + row * ROW, step, inputs, panel, b, target, ahead, pace)
            if activation:
                activate(activation, target, tall * (COLUMNS // LANES))
            ahead += pace * inputs


@njit(nogil=True, cache=True)
def weigh(scores: int, step: int, rows: int, columns: int, scale: Any, shares: int) -> None:
    """exp(scaled scores - their largest) in the place of scores; by what a row's sums are to be multiplied to `shares`.

    Together that is the softmax.
    """
    whole, scale_ = columns // COLUMNS, splat(scale)
    for row in range(rows):
        line = scores + row * ROW
        rest, left = line + whole * step, columns % COLUMNS
        top = splat(-math.inf)
        for block in range(whole):
            place = line + block * step
            top = larger(larger(load(place), load(place + _VECTOR)), top)
        for column in range(0, left, LANES):
            top = larger(first(load(rest + column * 4), left - column, top), top)
        top, sum_, other = splat(highest(top)), splat(0.0), splat(0.0)
        for block in range(whole):
            place = line + block * step
            x = exponential(multiply(subtract(load(place), top), scale_))
            y = exponential(multiply(subtract(load(place + _VECTOR), top), scale_))
            sum_, other = add(sum_, x), add(other, y)
            store(place, x)
            store(place + _VECTOR, y)
        for column in range(0, left, LANES):
            x = exponential(multiply(subtract(load(rest + column * 4), top), scale_))
            x = first(x, left - column, splat(0.0))
            sum_ = add(sum_, x)
            store(rest + column * 4, x)
        store_one(shares + row * 4, 1.0 / total(add(sum_, other)))


@njit(nogil=True, cache=True)
def share_out(out: int, step: int, rows: int, blocks: int, shares: int) -> None:
    """Multiply each row of some blocks by its share."""
    for row in range(rows):
        share = splat(load_one(shares + row * 4))
        for block in range(blocks):
            for place in range(out + block * step + row * ROW, out + block * step + (row + 1) * ROW, _VECTOR):
                store(place, multiply(load(place), share))


@njit(nogil=True, cache=True)
def turn(keys: int, step: int, rows: int, width: int, out: int) -> None:
    """Keys (rows, width) in blocks to panels of 32 keys, a line for each of `width` numbers."""
    for row in range(rows):
        for column in range(width):
            source = keys + column // COLUMNS * step + row * ROW + column % COLUMNS * 4
            copy_one(out + (row // COLUMNS * width + column) * ROW + row % COLUMNS * 4, source)


@njit(nogil=True, cache=True)
def normalise(
    states: int,
    step: int,
    width: int,
    from_row: int,
    to_row: int,
    parts: int,
    apart: int,
    count: int,
    bias: int,
    bias_step: int,
    weight: int,
    norm_bias: int,
    epsilon: Any,
    centred: int,
    out: int,
) -> None:
    """Add `count` parts and a bias to rows of the states; their norm goes to `out`, which may be the states.

    A layer norm, or where it is not `centred`, that of the root mean square.
    """
    size = -(-width // COLUMNS) * COLUMNS
    for row in range(from_row, to_row):
        sum_ = splat(0.0)
        for column in range(0, size, LANES):
            place = column // COLUMNS * step + row * ROW + column % COLUMNS * 4
            # What lies beyond the width is what an earlier call left there.
            x = first(load(states + place), width - column, splat(0.0))
            x = add(x, load(bias + column // COLUMNS * bias_step + column % COLUMNS * 4))
            for part in range(count):
                x = add(x, load(parts + part * apart + place))
            store(states + place, x)
            sum_ = add(sum_, x)
        mean, sum_ = splat(total(sum_) / width if centred else 0.0), splat(0.0)
        for column in range(0, size, LANES):
            x = load(states + column // COLUMNS * step + row * ROW + column % COLUMNS * 4)
            x = first(subtract(x, mean), width - column, splat(0.0))
            sum_ = fma(x, x, sum_)
        factor = splat(1.0 / math.sqrt(total(sum_) / width + epsilon))
        for column in range(0, size, LANES):
            place = column // COLUMNS * step + row * ROW + column % COLUMNS * 4
            x = multiply(subtract(load(states + place), mean), factor)
            store(out + place, fma(x, load(weight + column * 4), load(norm_bias + column * 4)))


@njit(nogil=True, cache=True)
def copy_rows(
    source: int, source_row: int, source_step: int, out: int, out_row: int, out_step: int, rows: int, width: int
) -> None:
    """Copy rows of `width` numbers; `_row` and `_step`: bytes from row to row, and from 32 columns to the next."""
    for row in range(rows):
        for column in range(0, width, LANES):
            offset = column % COLUMNS * 4
            left = source + row * source_row + column // COLUMNS * source_step + offset
            right = out + row * out_row + column // COLUMNS * out_step + offset
            if width - column >= LANES:
                store(right, load(left))
            else:
                for index in range(width - column):
                    copy_one(right + index * 4, left + index * 4)
