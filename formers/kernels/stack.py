"""All layers of an encoder in one compiled call, for float32 activations in blocks of 32 columns (see `tiles`).

A *group* of sequences goes through all layers together. Either there is one group, and the threads share each layer:
a thread computes its own heads and inner columns and what these add to the output, and the norm that follows sums the
threads' parts. Or there are many groups, and each is one thread's, which then never waits for another.

What is passed is addresses: of a table of the model, of one of the call (`Model`, `Call`: the places of words in
them), and of scratch memory, which must hold ordinary numbers: rows past the last one are computed along.
"""

from __future__ import annotations

from enum import IntEnum

from numba import cfunc, njit

from formers.kernels import native
from formers.kernels.native import word
from formers.kernels.rows import ASKING, CHUNK, copy_rows, normalise, product, share_out, turn, weigh
from formers.kernels.tiles import COLUMNS, ROW
from formers.kernels.vectors import load_one


class Model(IntEnum):
    """Words of the table of a model. Weights and biases are addresses; those of a norm may be 0 where there is none."""

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
    # The norm before the first layer, where norms come first.
    NORM = 9
    NORM_BIAS = 10
    WORDS = 11


class Layer(IntEnum):
    """Words of a layer: panels, bias, and whether the weights are 16-bit, of each product; the norms that follow."""

    INPUT = 0
    OUTPUT = 3
    UP = 6
    DOWN = 9
    MIDDLE_NORM = 12
    LAST_NORM = 14
    WORDS = 16


class Call(IntEnum):
    """Words of one call. X and OUT are rows of WIDTH numbers; places in scratch are offsets in bytes."""

    NEXT = 0
    # Functions of the OpenMP library: what waits for the other threads (0: there are none), and what tells about them.
    BARRIER = 1
    THREAD = 2
    THREADS = 3
    MODEL = 4
    X = 5
    OUT = 6
    GROUPS = 7
    # Of (first sequence, sequences, first row, rows) of each group.
    GROUP = 8
    # Of (first row in its group, rows) of each sequence.
    SEQUENCE = 9
    # Whether the last layer answers for the first row of each sequence alone.
    NARROW = 10
    SCRATCH = 11
    SHARED = 12
    PRIVATE = 13
    # The address of `tile`.
    TILE = 14
    # Shared by the threads of a group.
    STATES = 15
    NORMED = 16
    FIRST_STATES = 17
    FIRST_NORMED = 18
    # A thread's own.
    QUERY = 19
    KEY = 20
    TURNED = 21
    SCORES = 22
    MIXED = 23
    PART = 24
    INNER = 25
    WORDS = 26


@njit(nogil=True, cache=True)
def attention(call: int, model: int, group: int, own: int, rows: int, asked: int, narrow: bool, head: int) -> None:
    """Attention of one head, whose queries, keys and values are in this thread's memory, for all sequences."""
    width, numbers = word(model, Model.HEAD_WIDTH), word(model, Model.NUMBERS)
    blocks = -(-width // COLUMNS)
    step, asked_step, chunk_step = (rows + 2) * ROW, (asked + 2) * ROW, (ASKING + 2) * ROW
    key, turned = own + word(call, Call.KEY), own + word(call, Call.TURNED)
    scores, value = own + word(call, Call.SCORES), key + blocks * step
    # Of as many numbers as the two rows have that follow those of the first block.
    shares = scores + ASKING * ROW
    tile, zeros, scale = word(call, Call.TILE), word(model, Model.ZEROS), load_one(numbers + 4)
    start = word(group, 0)
    for index in range(word(group, 1)):
        sequence = word(call, Call.SEQUENCE) + (start + index) * 16
        begin, length = word(sequence, 0), word(sequence, 1)
        turn(key + begin * ROW, step, length, width, turned)
        query, queries = (index, 1) if narrow else (begin, length)
        panels = -(-length // COLUMNS)
        for row in range(query, query + queries, ASKING):
            count = min(ASKING, query + queries - row)
            q = own + word(call, Call.QUERY) + row * ROW
            apart = width * ROW
            product(
                tile, 0, q, asked_step, width, turned, apart, panels, turned, zeros, 0, count, scores, chunk_step, 0
            )
            weigh(scores, chunk_step, count, length, scale, shares)
            v, out = value + begin * ROW, own + word(call, Call.MIXED) + head * blocks * asked_step + row * ROW
            product(tile, 0, scores, chunk_step, length, v, step, blocks, v, zeros, 0, count, out, asked_step, 0)
            share_out(out, asked_step, count, blocks, shares)


@njit(nogil=True, cache=True)
def through_layers(call: int, number: int, scratch: int, rank: int, size: int) -> None:
    """A group of sequences through all layers, by `size` threads of which this one is number `rank`."""
    model = word(call, Call.MODEL)
    group = word(call, Call.GROUP) + number * 32
    barrier, tile = word(call, Call.BARRIER), word(call, Call.TILE)
    rows, width = word(group, 3), word(model, Model.WIDTH)
    blocks, inner = -(-width // COLUMNS), word(model, Model.INNER_BLOCKS)
    heads, head_blocks = word(model, Model.HEADS), -(-word(model, Model.HEAD_WIDTH) // COLUMNS)
    epsilon, zeros = load_one(word(model, Model.NUMBERS)), word(model, Model.ZEROS)
    # Threads' shares.
    head, last_head = rank * heads // size, (rank + 1) * heads // size
    column, last_column = rank * inner // size, (rank + 1) * inner // size
    row, last_row = rank * rows // size, (rank + 1) * rows // size
    parts, apart = scratch + word(call, Call.SHARED), word(call, Call.PRIVATE)
    own = parts + rank * apart
    parts += word(call, Call.PART)
    query, key, mixed = own + word(call, Call.QUERY), own + word(call, Call.KEY), own + word(call, Call.MIXED)
    part, between = own + word(call, Call.PART), own + word(call, Call.INNER)
    chunk_step = (CHUNK + 2) * ROW
    states = scratch + word(call, Call.STATES)
    # Where norms come first, the states are one thing and what a layer reads another.
    norm, normed = word(model, Model.NORM), states
    step, asked, asked_step = (rows + 2) * ROW, rows, (rows + 2) * ROW
    x = word(call, Call.X) + word(group, 2) * width * 4
    copy_rows(x + row * width * 4, width * 4, ROW, states + row * ROW, ROW, step, last_row - row, width)
    if norm:
        normed = scratch + word(call, Call.NORMED)
        bias = word(model, Model.NORM_BIAS)
        normalise(states, step, width, row, last_row, 0, 0, 0, zeros, 0, norm, bias, epsilon, 1, normed)
    if size > 1:
        native.call(barrier)
    for index in range(word(model, Model.LAYERS)):
        layer = word(model, Model.TABLE) + index * 8 * Layer.WORDS
        narrow = word(call, Call.NARROW) != 0 and index == word(model, Model.LAYERS) - 1
        asking = normed
        if narrow:
            # The first row of each sequence goes on alone.
            asked = word(group, 1)
            asked_step = (asked + 2) * ROW
            asking = scratch + word(call, Call.FIRST_NORMED if norm else Call.FIRST_STATES)
            row, last_row = rank * asked // size, (rank + 1) * asked // size
            for each in range(row, last_row):
                begin = word(word(call, Call.SEQUENCE) + (word(group, 0) + each) * 16, 0) * ROW
                target = scratch + word(call, Call.FIRST_STATES) + each * ROW
                copy_rows(states + begin, 0, step, target, 0, asked_step, 1, blocks * COLUMNS)
                if norm:
                    copy_rows(normed + begin, 0, step, asking + each * ROW, 0, asked_step, 1, blocks * COLUMNS)
            states = scratch + word(call, Call.FIRST_STATES)
            if size > 1:
                native.call(barrier)
        panels, bias, half = word(layer, Layer.INPUT), word(layer, Layer.INPUT + 1), word(layer, Layer.INPUT + 2)
        output, out_half = word(layer, Layer.OUTPUT), word(layer, Layer.OUTPUT + 2)
        panel = width * COLUMNS * (2 if half else 4)
        out_line = head_blocks * COLUMNS * COLUMNS * (2 if out_half else 4)
        for each in range(head, last_head):
            q, b = panels + 3 * each * head_blocks * panel, bias + 3 * each * head_blocks * ROW
            k, b_k = q + head_blocks * panel, b + head_blocks * ROW
            after = k + 2 * head_blocks * panel if each < last_head - 1 else output + head * out_line
            product(
                tile, half, asking, asked_step, width, q, panel, head_blocks, k, b, ROW, asked, query, asked_step, 0
            )
            product(tile, half, normed, step, width, k, panel, 2 * head_blocks, after, b_k, ROW, rows, key, step, 0)
            attention(call, model, group, own, rows, asked, narrow, each - head)
        normed = asking
        inputs = (last_head - head) * head_blocks * COLUMNS
        up, up_half = word(layer, Layer.UP), word(layer, Layer.UP + 2)
        panel = width * COLUMNS * (2 if up_half else 4)
        start, line, after = output + head * out_line, heads * out_line, up + column * panel
        product(
            tile, out_half, mixed, asked_step, inputs, start, line, blocks, after, zeros, 0, asked, part, asked_step, 0
        )
        if size > 1:
            native.call(barrier)
        bias = word(layer, Layer.OUTPUT + 1)
        weight, norm_bias = word(layer, Layer.MIDDLE_NORM), word(layer, Layer.MIDDLE_NORM + 1)
        normalise(
            states, asked_step, width, row, last_row, parts, apart, size, bias, ROW, weight, norm_bias, epsilon, 1,
            normed,
        )  # fmt: skip
        if size > 1:
            native.call(barrier)
        down, down_half = word(layer, Layer.DOWN), word(layer, Layer.DOWN + 2)
        down_line = COLUMNS * COLUMNS * (2 if down_half else 4)
        first_up, first_down = up + column * panel, down + column * down_line
        columns, bias = last_column - column, word(layer, Layer.UP + 1) + column * ROW
        kind = word(model, Model.ACTIVATION)
        # The next layer's table follows; the last one's is followed by one that is never computed.
        after = word(layer + 8 * Layer.WORDS, Layer.INPUT)
        for chunk in range(0, asked, CHUNK):
            count, offset = min(CHUNK, asked - chunk), chunk * ROW
            source, out = normed + offset, part + offset
            product(
                tile, up_half, source, asked_step, width, first_up, panel, columns, first_down, bias, ROW, count,
                between, chunk_step, kind,
            )  # fmt: skip
            product(
                tile, down_half, between, chunk_step, columns * COLUMNS, first_down, inner * down_line, blocks, after,
                zeros, 0, count, out, asked_step, 0,
            )  # fmt: skip
        if size > 1:
            native.call(barrier)
        bias = word(layer, Layer.DOWN + 1)
        weight, norm_bias = word(layer, Layer.LAST_NORM), word(layer, Layer.LAST_NORM + 1)
        normalise(
            states, asked_step, width, row, last_row, parts, apart, size, bias, ROW, weight, norm_bias, epsilon, 1,
            normed,
        )  # fmt: skip
        if size > 1:
            native.call(barrier)
    out = word(call, Call.OUT) + (word(group, 0) if word(call, Call.NARROW) else word(group, 2)) * width * 4
    copy_rows(normed + row * ROW, ROW, asked_step, out + row * width * 4, width * 4, ROW, last_row - row, width)


@cfunc("void(int64)", cache=True)
def body(call: int) -> None:
    """What each of the threads does that OpenMP has started, or this one alone."""
    rank, size = 0, 1
    if word(call, Call.BARRIER):
        rank, size = native.ask(word(call, Call.THREAD)), native.ask(word(call, Call.THREADS))
    scratch, groups = word(call, Call.SCRATCH), word(call, Call.GROUPS)
    if groups == 1:
        through_layers(call, 0, scratch, rank, size)
        return
    scratch += rank * (word(call, Call.SHARED) + word(call, Call.PRIVATE))
    number = native.add(call, 1)
    while number < groups:
        through_layers(call, number, scratch, 0, 1)
        number = native.add(call, 1)
