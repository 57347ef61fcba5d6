"""All blocks of a decoder for prompts, as one call: matrices leave their blocks panel by panel, and stay in the caches.

Rows lie in blocks of 32 columns and products are those of `tiles`. The threads take portions of each stage and meet
after it. The tables are those of `decode`; the torch reference is `CausalBlock`.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
from numba import cfunc, njit
from numba.np.numpy_support import carray

from formers.kernels import native
from formers.kernels.decode import GELU_TANH, LAYER, NUMBERS, SEGMENT, SEQUENCE, STATE
from formers.kernels.native import word
from formers.kernels.rows import ASKING, CHUNK, Activation, copy_rows, normalise, product, share_out, turn, weigh
from formers.kernels.tiles import COLUMNS, ROW
from formers.kernels.vectors import (
    LANES,
    add,
    fma,
    halves,
    highs,
    integers,
    load,
    lows,
    multiply,
    splat,
    store,
)

_VECTOR = LANES * 4
_TANH, _SILU = int(Activation.GELU_TANH), int(Activation.SILU)
# Panels that a thread takes at once: rows are read from memory once for all of them.
PANELS = 3
# Meetings of a layer.
STAGES = 8


class Job(IntEnum):
    """Words of one call. RESIDUAL and what follows are blocks that the threads share, or at PRIVATE a thread's own."""

    TAKEN = 0
    BARRIER = 1
    TOKENS = 2
    # As in `decode`: the tables of the model, of the layers, of the call's states, and of the layers' numbers.
    MODEL = 3
    LAYERS = 4
    STATES = 5
    NUMBERS = 6
    SEQUENCES = 7
    CHUNKS = 8
    COUNTERS = 9
    TILE = 10
    ZEROS = 11
    RESIDUAL = 12
    NORMED = 13
    JOINT = 14
    MIXED = 15
    BETWEEN = 16
    TURNED = 17
    # Bytes of the turned keys of a head.
    TURNED_STEP = 18
    PRIVATE = 19
    PRIVATE_STEP = 20
    # Offsets in a thread's memory.
    PANEL = 21
    BLOCK = 22
    SCORES = 23
    ANSWER = 24
    WORDS = 25


@njit(nogil=True, cache=True)
def _numbers(tile: int, place: int, half: bool) -> Any:
    """Sixteen scales or minima of a tile, the `place`th half of them."""
    return halves(tile + place * LANES * 2) if half else load(tile + place * LANES * 4)


@njit(nogil=True, cache=True)
def unpack(segments: int, group: int, panel: int) -> None:
    """32 rows of a matrix in tiles (see `products`) as a panel."""
    while group >= word(segments, 5):
        group -= word(segments, 5)
        segments += SEGMENT * 8
    form, size, blocks, columns = word(segments, 0), word(segments, 2), word(segments, 3), word(segments, 4)
    nibbles, half, minimum = form < 2, form == 0 or form == 2, form == 0 or form == 1 or form == 4
    width = COLUMNS * (2 if half else 4)
    tile = word(segments, 1) + group * blocks * size
    for _ in range(blocks):
        left, right = _numbers(tile, 0, half), _numbers(tile, 1, half)
        low, high = splat(0.0), splat(0.0)
        codes = tile + width
        if minimum:
            low, high = _numbers(codes, 0, half), _numbers(codes, 1, half)
            codes += width
        if nibbles:
            for place in range(codes, codes + columns * LANES, LANES):
                store(panel, fma(lows(place), left, low))
                store(panel + _VECTOR, fma(highs(place), right, high))
                panel += ROW
        else:
            for place in range(codes, codes + columns * COLUMNS, COLUMNS):
                store(panel, fma(integers(place), left, low))
                store(panel + _VECTOR, fma(integers(place + LANES), right, high))
                panel += ROW
        tile += size


@njit(nogil=True, cache=True)
def _product(
    job: int, segments: int, first: int, count: int, x: int, inputs: int, bias: int, own: int, out: int, kind: int
) -> None:
    """The products of `count` panels with all rows of x, to as many blocks. `bias`: 0 where there is none."""
    rows, panels, step = word(job, Job.TOKENS), own + word(job, Job.PANEL), (word(job, Job.TOKENS) + 2) * ROW
    apart, bias_step = inputs * ROW, ROW if bias else 0
    for number in range(count):
        unpack(segments, first + number, panels + number * apart)
    bias = bias if bias else word(job, Job.ZEROS)
    # Few enough rows for them and the panels to stay in the second cache.
    for row in range(0, rows, CHUNK):
        product(
            word(job, Job.TILE), 0, x + row * ROW, step, inputs, panels, apart, count, panels, bias, bias_step,
            min(CHUNK, rows - row), out + row * ROW, step, kind,
        )  # fmt: skip


@njit(nogil=True, cache=True)
def _into_residual(job: int, segments: int, first: int, count: int, x: int, inputs: int, own: int) -> None:
    """Add the products of some panels with all rows of x to the residual."""
    block, rows, step = own + word(job, Job.BLOCK), word(job, Job.TOKENS), (word(job, Job.TOKENS) + 2) * ROW
    _product(job, segments, first, count, x, inputs, 0, own, block, 0)
    target = word(job, Job.RESIDUAL) + first * step
    for start in range(0, count * step, step):
        for offset in range(start, start + rows * ROW, _VECTOR):
            store(target + offset, add(load(target + offset), load(block + offset)))


@njit(nogil=True, cache=True)
def _gated(job: int, layer: int, first: int, count: int, own: int) -> None:
    """Some blocks of the activated gate times the input."""
    rows, width, block = word(job, Job.TOKENS), word(word(job, Job.MODEL), 0), own + word(job, Job.BLOCK)
    step = (rows + 2) * ROW
    x, out = word(job, Job.NORMED), word(job, Job.BETWEEN) + first * step
    kind = _TANH if word(layer, 14) == GELU_TANH else _SILU
    _product(job, word(layer, 8), first, count, x, width, 0, own, block, 0)
    _product(job, word(layer, 7), first, count, x, width, 0, own, out, kind)
    for start in range(0, count * step, step):
        for offset in range(start, start + rows * ROW, _VECTOR):
            store(out + offset, multiply(load(out + offset), load(block + offset)))


@njit(nogil=True, cache=True)
def _rotate(head: int, step: int, rows: int, dim: int, cos: int, sin: int) -> None:
    """Rotate the first `dim` columns of a head in its blocks; the sines of the first half have their sign."""
    half = dim // 2
    for row in range(rows):
        for column in range(0, half, LANES):
            other = column + half
            left = head + column // COLUMNS * step + row * ROW + column % COLUMNS * 4
            right = head + other // COLUMNS * step + row * ROW + other % COLUMNS * 4
            first, second, place = load(left), load(right), row * dim * 4
            store(left, fma(second, load(sin + place + column * 4), multiply(first, load(cos + place + column * 4))))
            store(right, fma(first, load(sin + place + other * 4), multiply(second, load(cos + place + other * 4))))


@njit(nogil=True, cache=True)
def _arrange(job: int, layer: int, state: int, head: int) -> None:
    """Rotate a head of queries or keys; store keys with their values, and turn them."""
    model, rows = word(job, Job.MODEL), word(job, Job.TOKENS)
    heads, key_heads, width, step = word(model, 1), word(model, 2), word(model, 3), (rows + 2) * ROW
    place = word(job, Job.JOINT) + head * (width // COLUMNS) * step
    if word(layer, 13):
        _rotate(place, step, rows, word(layer, 13), word(state, 4), word(state, 5))
    if head < heads:
        return
    own, values = head - heads, place + key_heads * (width // COLUMNS) * step
    turned = word(job, Job.TURNED) + own * word(job, Job.TURNED_STEP)
    for number in range(word(job, Job.SEQUENCES)):
        sequence = word(state, 6) + number * SEQUENCE * 8
        first, count, offset = (
            word(sequence, 0),
            word(sequence, 1),
            word(sequence, 2) * word(state, 2) + own * width * 4,
        )
        token_step = word(state, 3)
        copy_rows(place + first * ROW, ROW, step, word(state, 0) + offset, token_step, ROW, count, width)
        copy_rows(values + first * ROW, ROW, step, word(state, 1) + offset, token_step, ROW, count, width)
        turn(place + first * ROW, step, count, width, turned)
        turned += -(-count // COLUMNS) * width * ROW


@njit(nogil=True, cache=True)
def _attend(job: int, numbers: int, state: int, item: int, own: int) -> None:
    """A head's attention for some neighbouring tokens to those before them and themselves."""
    model, rows = word(job, Job.MODEL), word(job, Job.TOKENS)
    heads, key_heads, width = word(model, 1), word(model, 2), word(model, 3)
    blocks, step, scores = width // COLUMNS, (rows + 2) * ROW, own + word(job, Job.SCORES)
    # Those that see most come first.
    head, chunk = item % heads, word(job, Job.CHUNKS) - 1 - item // heads
    shared = head // (heads // key_heads)
    turned = word(job, Job.TURNED) + shared * word(job, Job.TURNED_STEP)
    sequence, start = word(state, 6), 0
    while chunk >= -(-word(sequence, 1) // ASKING):
        chunk -= -(-word(sequence, 1) // ASKING)
        turned += -(-word(sequence, 1) // COLUMNS) * width * ROW
        sequence += SEQUENCE * 8
    first, start = word(sequence, 0), chunk * ASKING
    count = min(ASKING, word(sequence, 1) - start)
    seen, scale = start + count, np.float32(carray(native.pointer(numbers), NUMBERS, dtype=np.float64)[8])
    tile, zeros, chunk_step, shares = (
        word(job, Job.TILE),
        word(job, Job.ZEROS),
        (ASKING + 2) * ROW,
        scores + ASKING * ROW,
    )
    query = word(job, Job.JOINT) + head * blocks * step + (first + start) * ROW
    value = word(job, Job.JOINT) + (heads + key_heads + shared) * blocks * step + first * ROW
    out = word(job, Job.MIXED) + head * blocks * step + (first + start) * ROW
    panels, apart = -(-seen // COLUMNS), width * ROW
    product(tile, 0, query, step, width, turned, apart, panels, turned, zeros, 0, count, scores, chunk_step, 0)
    for row in range(count):
        line, before = scores + row * ROW, start + row + 1
        weigh(line, chunk_step, 1, before, scale, shares + row * 4)
        # Those that follow have no share; what `weigh` leaves of the vector of the last one is zero.
        for column in range(-(-before // LANES) * LANES, panels * COLUMNS, LANES):
            store(line + column // COLUMNS * chunk_step + column % COLUMNS * 4, splat(0.0))
    # With an odd number of rows one more is computed, which is another's.
    answer = own + word(job, Job.ANSWER)
    product(tile, 0, scores, chunk_step, seen, value, step, blocks, value, zeros, 0, count, answer, chunk_step, 0)
    share_out(answer, chunk_step, count, blocks, shares)
    copy_rows(answer, ROW, chunk_step, out, ROW, step, count, width)


@njit(nogil=True, cache=True)
def _norms(job: int, weight: int, eps: float, row: int, last: int) -> None:
    """Some rows of the residual, normed."""
    states, zeros = word(job, Job.RESIDUAL), word(job, Job.ZEROS)
    width, step = word(word(job, Job.MODEL), 0), (word(job, Job.TOKENS) + 2) * ROW
    out = word(job, Job.NORMED)
    normalise(states, step, width, row, last, 0, 0, 0, zeros, 0, weight, zeros, np.float32(eps), 0, out)


@njit(nogil=True, cache=True)
def _panels(model: int, stage: int) -> Any:
    """How many panels the matrix of a stage has."""
    return word(model, 5 if stage == 1 else 6 if stage == 6 else 0) // COLUMNS


@njit(nogil=True, cache=True)
def _items(job: int, stage: int) -> Any:
    """How many portions a stage has."""
    model = word(job, Job.MODEL)
    if stage == 0 or stage == 5:
        return -(-word(job, Job.TOKENS) // COLUMNS)
    if stage == 2:
        return word(model, 1) + word(model, 2)
    if stage == 3:
        return word(model, 1) * word(job, Job.CHUNKS)
    return -(-_panels(model, stage) // PANELS)


@njit(nogil=True, cache=True)
def _item(job: int, index: int, stage: int, item: int, own: int) -> None:
    """One portion of a stage of a layer."""
    model, layer = word(job, Job.MODEL), word(job, Job.LAYERS) + index * LAYER * 8
    state, rows = word(job, Job.STATES) + index * STATE * 8, word(job, Job.TOKENS)
    width, numbers = word(model, 0), word(job, Job.NUMBERS) + index * NUMBERS * 8
    first, count = item * PANELS, min(PANELS, _panels(model, stage) - item * PANELS)
    if stage == 0 or stage == 5:
        row, which = item * COLUMNS, 0 if stage == 0 else 1
        eps = carray(native.pointer(numbers), NUMBERS, dtype=np.float64)[2 * which]
        _norms(job, word(layer, which), eps, row, min(row + COLUMNS, rows))
    elif stage == 1:
        bias = word(layer, 4) + first * ROW if word(layer, 4) else 0
        out = word(job, Job.JOINT) + first * (rows + 2) * ROW
        _product(job, word(layer, 5), first, count, word(job, Job.NORMED), width, bias, own, out, 0)
    elif stage == 2:
        _arrange(job, layer, state, item)
    elif stage == 3:
        _attend(job, numbers, state, item, own)
    elif stage == 4:
        _into_residual(job, word(layer, 6), first, count, word(job, Job.MIXED), word(model, 1) * word(model, 3), own)
    elif stage == 6:
        _gated(job, layer, first, count, own)
    else:
        _into_residual(job, word(layer, 9), first, count, word(job, Job.BETWEEN), word(model, 6), own)


@cfunc("void(int64)", cache=True)
def prefill_body(job: int) -> None:
    """What every thread does."""
    own = word(job, Job.PRIVATE) + native.add(job, 1) * word(job, Job.PRIVATE_STEP)
    counter = word(job, Job.COUNTERS)
    for index in range(word(word(job, Job.MODEL), 4)):
        for stage in range(STAGES):
            items = _items(job, stage)
            while True:
                item = native.add(counter, 1)
                if item >= items:
                    break
                _item(job, index, stage, item, own)
            if word(job, Job.BARRIER):
                native.call(word(job, Job.BARRIER))
            counter += 64
