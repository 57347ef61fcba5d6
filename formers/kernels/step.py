"""One new token of each row through all blocks of a decoder, in one compiled call on float32 activations (see `tiles`).

The threads share each layer as in `stack`: each computes its own heads and inner columns and what these add to the
output, and the norm that follows sums the threads' parts. New keys and values go to the cache, from where attention
reads them. The torch reference is `CausalBlock`; `formers.kernels.dense` makes the tables.
"""

from __future__ import annotations

import math
from enum import IntEnum
from typing import Any

from numba import cfunc, njit

from formers.kernels import native
from formers.kernels.native import word
from formers.kernels.rows import copy_rows, exponential, normalise, product
from formers.kernels.tiles import COLUMNS, ROW
from formers.kernels.vectors import (
    LANES,
    add,
    ask,
    divide,
    first,
    fma,
    highest,
    larger,
    load,
    load_one,
    multiply,
    splat,
    store,
    store_one,
    subtract,
    total,
)

_VECTOR = LANES * 4
# How many tokens before it is needed a key is asked for.
_AHEAD = 8


class Model(IntEnum):
    """Words of the table of a model. Weights and biases are addresses; those of NORM are 0 where norms come last."""

    LAYERS = 0
    # Of the layers' tables, one after another.
    TABLE = 1
    HEADS = 2
    HEAD_WIDTH = 3
    WIDTH = 4
    INNER_BLOCKS = 5
    ACTIVATION = 6
    # Of the norms' epsilon and the attention's scale, float32.
    NUMBERS = 7
    ZEROS = 8
    # The norm before the first layer.
    NORM = 9
    NORM_BIAS = 10
    # Whether norms subtract the mean.
    CENTRED = 11
    WORDS = 12


class Layer(IntEnum):
    """Words of a layer: panels, bias, and whether the weights are 16-bit, of each product; the norms that follow.

    GATE is 0 where nothing is gated, CROSS_QUERY where the layer reads no encoder.
    """

    INPUT = 0
    OUTPUT = 3
    FIRST_NORM = 6
    CROSS_QUERY = 8
    CROSS_OUTPUT = 11
    CROSS_NORM = 14
    UP = 16
    GATE = 19
    DOWN = 22
    LAST_NORM = 25
    WORDS = 27


class State(IntEnum):
    """Words of a layer in a call: addresses of what it reads beside its weights.

    KEYS and VALUES are of the cache (rows, capacity, heads, D); CROSS_KEYS and CROSS_VALUES of the sources (sources,
    heads, S, D); BIAS, which may be 0, is added to scores (heads, N) by distances from 1 - N to 0.
    """

    KEYS = 0
    VALUES = 1
    BIAS = 2
    # N.
    BIAS_WIDTH = 3
    CROSS_KEYS = 4
    CROSS_VALUES = 5
    WORDS = 6


class Call(IntEnum):
    """Words of one call. X and OUT are rows of WIDTH numbers; places in scratch are offsets in bytes."""

    # Functions of the OpenMP library: what waits for the other threads (0: there are none), and what tells about them.
    BARRIER = 1
    THREAD = 2
    THREADS = 3
    MODEL = 4
    X = 5
    OUT = 6
    ROWS = 7
    # Of each row: (row of the cache, tokens there, source).
    ROW = 8
    # Of the layers' states, one after another.
    STATE = 9
    # Bytes from row to row in the cache, and from token to token.
    ROW_STEP = 10
    TOKEN_STEP = 11
    # For each row and token the row of the cache where it lies (rows, N), and N; 0: each row's own.
    ORIGINS = 12
    CAPACITY = 13
    # S of the sources, and what is added to their scores (sources, S), which may be 0.
    SOURCE = 14
    MASK = 15
    # The address of `tile`.
    TILE = 16
    SCRATCH = 17
    SHARED = 18
    PRIVATE = 19
    # Shared by the threads.
    STATES = 20
    NORMED = 21
    # A thread's own.
    JOINT = 22
    SCORES = 23
    MIXED = 24
    PART = 25
    INNER = 26
    GATED = 27
    WORDS = 28


@njit(nogil=True, cache=True, inline="always")
def _at(token: int, step: int, origins: int, row_step: int) -> int:
    """Where a token lies, in bytes."""
    return token * step + word(origins, token) * row_step if origins else token * step


@njit(nogil=True, cache=True)
def _attend(
    query: int,
    query_step: int,
    width: int,
    keys: int,
    values: int,
    step: int,
    origins: int,
    row_step: int,
    count: int,
    bias: int,
    mask: int,
    scale: Any,
    scores: int,
    out: int,
    out_step: int,
) -> None:
    """A query in blocks against `count` keys, to what it mixes of their values.

    Tokens lie `step` bytes apart, where there are origins in the rows that these tell.
    """
    for token in range(count):
        place, sum_ = _at(token, step, origins, row_step), splat(0.0)
        key, value, next_ = (
            keys + place,
            values + place,
            keys + _at(min(token + _AHEAD, count - 1), step, origins, row_step),
        )
        for column in range(0, width, LANES):
            ask(next_ + column * 4)
            ask(value + column * 4)
            asked = query + column // COLUMNS * query_step + column % COLUMNS * 4
            sum_ = fma(load(asked), load(key + column * 4), sum_)
        score = total(sum_) * scale
        if bias:
            score += load_one(bias + token * 4)
        if mask:
            score += load_one(mask + token * 4)
        store_one(scores + token * 4, score)
    top = splat(-math.inf)
    for token in range(0, count, LANES):
        top = larger(first(load(scores + token * 4), count - token, top), top)
    top, sum_ = splat(highest(top)), splat(0.0)
    for token in range(0, count, LANES):
        x = first(exponential(subtract(load(scores + token * 4), top)), count - token, splat(0.0))
        sum_ = add(sum_, x)
        store(scores + token * 4, x)
    share = divide(splat(1.0), splat(total(sum_)))
    for column in range(0, width, LANES):
        # Two sums: additions wait for one another.
        left, right = splat(0.0), splat(0.0)
        value = values + column * 4
        for token in range(0, count - 1, 2):
            first_, second = _at(token, step, origins, row_step), _at(token + 1, step, origins, row_step)
            left = fma(splat(load_one(scores + token * 4)), load(value + first_), left)
            right = fma(splat(load_one(scores + token * 4 + 4)), load(value + second), right)
        if count % 2:
            last = _at(count - 1, step, origins, row_step)
            left = fma(splat(load_one(scores + (count - 1) * 4)), load(value + last), left)
        store(out + column // COLUMNS * out_step + column % COLUMNS * 4, multiply(add(left, right), share))


@njit(nogil=True, cache=True)
def _itself(call: int, state: int, joint: int, step: int, head: int, scores: int, out: int) -> None:
    """A head's attention of each row to its own tokens, the new one included; `joint`: its queries, keys, values."""
    model = word(call, Call.MODEL)
    width, scale = word(model, Model.HEAD_WIDTH), load_one(word(model, Model.NUMBERS) + 4)
    blocks, token_step, row_step = -(-width // COLUMNS), word(call, Call.TOKEN_STEP), word(call, Call.ROW_STEP)
    reach, bias = word(state, State.BIAS_WIDTH), word(state, State.BIAS)
    for row in range(word(call, Call.ROWS)):
        about = word(call, Call.ROW) + row * 24
        held, own = word(about, 1), word(about, 0)
        keys, values = word(state, State.KEYS) + head * width * 4, word(state, State.VALUES) + head * width * 4
        for part, target in ((1, keys), (2, values)):
            source = joint + part * blocks * step + row * ROW
            copy_rows(source, 0, step, target + own * row_step + held * token_step, 0, ROW, 1, width)
        origins = word(call, Call.ORIGINS)
        if origins:
            origins += own * word(call, Call.CAPACITY) * 8
        else:
            keys, values = keys + own * row_step, values + own * row_step
        line = bias + (head * reach + reach - 1 - held) * 4 if bias else 0
        _attend(
            joint + row * ROW, step, width, keys, values, token_step, origins, row_step, held + 1, line, 0, scale,
            scores, out + row * ROW, step,
        )  # fmt: skip


@njit(nogil=True, cache=True)
def _across(call: int, state: int, queries: int, step: int, head: int, scores: int, out: int) -> None:
    """A head's attention of each row to the tokens of its source."""
    model = word(call, Call.MODEL)
    width, heads, scale = (
        word(model, Model.HEAD_WIDTH),
        word(model, Model.HEADS),
        load_one(word(model, Model.NUMBERS) + 4),
    )
    count, mask = word(call, Call.SOURCE), word(call, Call.MASK)
    for row in range(word(call, Call.ROWS)):
        source = word(word(call, Call.ROW) + row * 24, 2)
        offset = (source * heads + head) * count * width * 4
        keys, values = word(state, State.CROSS_KEYS) + offset, word(state, State.CROSS_VALUES) + offset
        line = mask + source * count * 4 if mask else 0
        query, mixed = queries + row * ROW, out + row * ROW
        _attend(query, step, width, keys, values, width * 4, 0, 0, count, 0, line, scale, scores, mixed, step)


@njit(nogil=True, cache=True)
def _multiply(left: int, right: int, step: int, blocks: int, rows: int) -> None:
    """Blocks of left times those of right, in left's place."""
    for start in range(0, blocks * step, step):
        for offset in range(start, start + rows * ROW, _VECTOR):
            store(left + offset, multiply(load(left + offset), load(right + offset)))


@njit(nogil=True, cache=True)
def _meet(barrier: int) -> None:
    if barrier:
        native.call(barrier)


@njit(nogil=True, cache=True)
def _added(
    call: int, output: int, x: int, count: int, skipped: int, lines: int, after: int, step: int, part: int
) -> None:
    """What `count` blocks of a thread's own columns, the `skipped`th on, add to the residual, by an output product.

    `lines`: how many blocks of inputs all threads have.
    """
    model = word(call, Call.MODEL)
    zeros, half = word(model, Model.ZEROS), word(output, 2)
    line = COLUMNS * COLUMNS * (2 if half else 4)
    blocks = -(-word(model, Model.WIDTH) // COLUMNS)
    panels, rows = word(output, 0) + skipped * line, word(call, Call.ROWS)
    tile = word(call, Call.TILE)
    product(tile, half, x, step, count * COLUMNS, panels, lines * line, blocks, after, zeros, 0, rows, part, step, 0)


@njit(nogil=True, cache=True)
def _settled(call: int, rank: int, size: int, bias: int, norm: int, states: int, normed: int, step: int) -> None:
    """A thread's rows of the residual, once all threads have added their parts, and their norm."""
    model, rows = word(call, Call.MODEL), word(call, Call.ROWS)
    _meet(word(call, Call.BARRIER))
    parts = word(call, Call.SCRATCH) + word(call, Call.SHARED) + word(call, Call.PART)
    normalise(
        states, step, word(model, Model.WIDTH), rank * rows // size, (rank + 1) * rows // size, parts,
        word(call, Call.PRIVATE), size, bias, ROW, word(norm, 0), word(norm, 1), load_one(word(model, Model.NUMBERS)),
        word(model, Model.CENTRED), normed,
    )  # fmt: skip
    _meet(word(call, Call.BARRIER))


@njit(nogil=True, cache=True)
def _through(call: int, rank: int, size: int) -> None:
    """All layers, by `size` threads of which this one is number `rank`."""
    model, tile, rows = word(call, Call.MODEL), word(call, Call.TILE), word(call, Call.ROWS)
    width, heads, inner = word(model, Model.WIDTH), word(model, Model.HEADS), word(model, Model.INNER_BLOCKS)
    each = -(-word(model, Model.HEAD_WIDTH) // COLUMNS)
    head, last_head = rank * heads // size, (rank + 1) * heads // size
    column, columns = rank * inner // size, (rank + 1) * inner // size - rank * inner // size
    row, last_row, step = rank * rows // size, (rank + 1) * rows // size, (rows + 2) * ROW
    scratch = word(call, Call.SCRATCH)
    states, own = scratch + word(call, Call.STATES), scratch + word(call, Call.SHARED) + rank * word(call, Call.PRIVATE)
    joint, scores, mixed = own + word(call, Call.JOINT), own + word(call, Call.SCORES), own + word(call, Call.MIXED)
    part, between, gated = own + word(call, Call.PART), own + word(call, Call.INNER), own + word(call, Call.GATED)
    x = word(call, Call.X) + row * width * 4
    copy_rows(x, width * 4, ROW, states + row * ROW, ROW, step, last_row - row, width)
    normed = states
    if word(model, Model.NORM):
        normed = scratch + word(call, Call.NORMED)
        normalise(
            states, step, width, row, last_row, 0, 0, 0, word(model, Model.ZEROS), 0, word(model, Model.NORM),
            word(model, Model.NORM_BIAS), load_one(word(model, Model.NUMBERS)), word(model, Model.CENTRED), normed,
        )  # fmt: skip
    _meet(word(call, Call.BARRIER))
    for index in range(word(model, Model.LAYERS)):
        layer = word(model, Model.TABLE) + index * 8 * Layer.WORDS
        state = word(call, Call.STATE) + index * 8 * State.WORDS
        output, up, down = layer + 8 * Layer.OUTPUT, layer + 8 * Layer.UP, layer + 8 * Layer.DOWN
        half = word(layer, Layer.INPUT + 2)
        panel, start = width * COLUMNS * (2 if half else 4), 3 * each * head
        panels, bias = word(layer, Layer.INPUT) + start * panel, word(layer, Layer.INPUT + 1) + start * ROW
        count, after = 3 * each * (last_head - head), word(output, 0)
        product(tile, half, normed, step, width, panels, panel, count, after, bias, ROW, rows, joint, step, 0)
        for number in range(last_head - head):
            source, target = joint + 3 * each * number * step, mixed + each * number * step
            _itself(call, state, source, step, head + number, scores, target)
        across = word(layer, Layer.CROSS_QUERY) != 0
        after = word(layer, Layer.CROSS_QUERY) if across else word(up, 0)
        count = each * (last_head - head)
        _added(call, output, mixed, count, each * head, each * heads, after, step, part)
        _settled(call, rank, size, word(output, 1), layer + 8 * Layer.FIRST_NORM, states, normed, step)
        if across:
            output, half = layer + 8 * Layer.CROSS_OUTPUT, word(layer, Layer.CROSS_QUERY + 2)
            panel, start = width * COLUMNS * (2 if half else 4), each * head
            panels = word(layer, Layer.CROSS_QUERY) + start * panel
            bias, after = word(layer, Layer.CROSS_QUERY + 1) + start * ROW, word(output, 0)
            product(tile, half, normed, step, width, panels, panel, count, after, bias, ROW, rows, joint, step, 0)
            for number in range(last_head - head):
                source, target = joint + each * number * step, mixed + each * number * step
                _across(call, state, source, step, head + number, scores, target)
            _added(call, output, mixed, count, start, each * heads, word(up, 0), step, part)
            _settled(call, rank, size, word(output, 1), layer + 8 * Layer.CROSS_NORM, states, normed, step)
        kind, gate = word(model, Model.ACTIVATION), word(layer, Layer.GATE)
        half = word(up, 2)
        panel = width * COLUMNS * (2 if half else 4)
        panels, bias, after = word(up, 0) + column * panel, word(up, 1) + column * ROW, word(down, 0)
        if gate:
            product(tile, half, normed, step, width, panels, panel, columns, gate, bias, ROW, rows, gated, step, 0)
            half = word(layer, Layer.GATE + 2)
            panel = width * COLUMNS * (2 if half else 4)
            panels, bias = gate + column * panel, word(layer, Layer.GATE + 1) + column * ROW
        product(tile, half, normed, step, width, panels, panel, columns, after, bias, ROW, rows, between, step, kind)
        if gate:
            _multiply(between, gated, step, columns, rows)
        # The next layer's table follows; the last one's is followed by one that is never computed.
        after = word(layer + 8 * Layer.WORDS, Layer.INPUT)
        _added(call, down, between, columns, column, inner, after, step, part)
        _settled(call, rank, size, word(down, 1), layer + 8 * Layer.LAST_NORM, states, normed, step)
    out = word(call, Call.OUT) + row * width * 4
    copy_rows(states + row * ROW, ROW, step, out, width * 4, ROW, last_row - row, width)


@cfunc("void(int64)", cache=True)
def step_body(call: int) -> None:
    """What each of the threads does that OpenMP has started, or this one alone."""
    rank, size = 0, 1
    if word(call, Call.BARRIER):
        rank, size = native.ask(word(call, Call.THREAD)), native.ask(word(call, Call.THREADS))
    _through(call, rank, size)
