"""All blocks of a decoder for a few tokens, as one call: what stands between the products costs as much as they do.

Threads go through the layers together and meet after each stage: the product for queries, keys and values; attention,
a head at a time; the output product; gate and input with their activation; the last product. Every thread computes
norms for itself, since that is cheaper than to wait for another. Sums into the residual come with the products.
Tables and addresses are 64-bit integers; `formers.layers.program` makes them. The torch reference is `CausalBlock`.

Compiled code of `formers.kernels.products` is part of what numba keeps for this file: change both together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cfunc, njit
from numba.np.numpy_support import carray

from formers.kernels import native
from formers.kernels.products import ROWS, groups_product

# Columns of a row of each table.
JOB, MODEL, LAYER, SEGMENT, STATE, SEQUENCE, NUMBERS = 16, 16, 16, 8, 8, 5, 16
# Activations by number.
SILU, GELU_TANH = 0, 1

FAST = {"reassoc", "contract", "nsz", "nnan", "ninf", "arcp"}
# Without reassociation: the two parts of ln 2 must stay apart.
_EXACT = {"contract", "nsz", "nnan", "ninf"}
_LOG2E, _LN2, _LN2_REST = np.float32(1.44269504), np.float32(0.693359375), np.float32(-2.12194440e-4)
_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_LOWEST, _HIGHEST = np.float32(-87), np.float32(88)
# exp(r) = 1 + r + r² p(r) between -ln 2 / 2 and ln 2 / 2 (Cephes).
_P0, _P1, _P2 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
_P3, _P4, _P5 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)
_GELU, _CUBIC = np.float32(1.5957691216), np.float32(0.044715)


@njit(nogil=True, cache=True, fastmath=_EXACT, inline="always")
def exp(x: Any) -> Any:
    """The exponential of a 32-bit float."""
    x = min(max(x, _LOWEST), _HIGHEST)
    k = np.floor(x * _LOG2E + _HALF)
    r = x - k * _LN2
    r = r - k * _LN2_REST
    p = _P0 * r + _P1
    p = p * r + _P2
    p = p * r + _P3
    p = p * r + _P4
    p = p * r + _P5
    return (p * r * r + r + _ONE) * native.power_of_two(np.int32(k))


@njit(nogil=True, cache=True)
def floats(address: int, size: int) -> Any:
    """So many 32-bit floats at an address."""
    return carray(native.pointer(address), size, dtype=np.float32)


@njit(nogil=True, cache=True)
def words_at(address: int, size: int) -> Any:
    """So many 64-bit integers at an address."""
    return carray(native.pointer(address), size, dtype=np.int64)


@njit(nogil=True, cache=True, fastmath=FAST)
def norm(x: int, weight: int, width: int, eps: float, offset: float, out: int) -> None:
    """RMS norm of one row."""
    source, scale, target = floats(x, width), floats(weight, width), floats(out, width)
    total = _ZERO
    for i in range(width):
        total += source[i] * source[i]
    factor = np.float32(1 / np.sqrt(total / width + eps))
    more = np.float32(offset)
    for i in range(width):
        target[i] = source[i] * factor * (scale[i] + more)


@njit(nogil=True, cache=True, fastmath=FAST)
def turn(x: int, dim: int, cos: int, sin: int) -> None:
    """Rotate the first `dim` values of a head in place."""
    values, cosines, sines, half = floats(x, dim), floats(cos, dim), floats(sin, dim), dim // 2
    for i in range(half):
        left, right = values[i], values[i + half]
        values[i] = left * cosines[i] + right * sines[i]
        values[i + half] = right * cosines[i + half] + left * sines[i + half]


@njit(nogil=True, cache=True, fastmath=FAST)
def gated(kind: int, gates: int, inputs: int, width: int, out: int) -> None:
    """The activation of some gates times their inputs."""
    gate, up, target = floats(gates, width), floats(inputs, width), floats(out, width)
    if kind == SILU:
        for i in range(width):
            target[i] = gate[i] / (_ONE + exp(-gate[i])) * up[i]
    else:
        for i in range(width):
            inner = _GELU * (gate[i] + _CUBIC * gate[i] * gate[i] * gate[i])
            target[i] = gate[i] / (_ONE + exp(-inner)) * up[i]


@njit(nogil=True, cache=True, fastmath=FAST)
def _scores(query: int, keys: int, step: int, count: int, width: int, out: int) -> Any:
    """Products of a query with `count` keys, `step` bytes apart; the largest."""
    left, scores = floats(query, width), floats(out, count)
    largest = np.float32(-3e38)
    for j in range(count):
        right = floats(keys + j * step, width)
        total = _ZERO
        for i in range(width):
            total += left[i] * right[i]
        scores[j] = total
        largest = max(largest, total)
    return largest


@njit(nogil=True, cache=True, fastmath=FAST)
def _shares(scores: int, count: int, largest: float) -> Any:
    """exp(scores - largest) in place; their sum."""
    values = floats(scores, count)
    total = _ZERO
    for j in range(count):
        values[j] = exp(values[j] - largest)
        total += values[j]
    return total


@njit(nogil=True, cache=True, fastmath=FAST)
def _mix(shares: int, values: int, step: int, count: int, width: int, factor: float, out: int) -> None:
    """Add the sum of `count` values, by their shares, to out."""
    weights, target = floats(shares, count), floats(out, width)
    for j in range(count):
        source, share = floats(values + j * step, width), weights[j] * factor
        for i in range(width):
            target[i] += share * source[i]


@njit(nogil=True, cache=True)
def _head(job: int, layer: int, item: int, scratch: int) -> None:
    """Attention of one head and one sequence: its new tokens see what the cache holds and those before them."""
    words = words_at(job, JOB)
    model, part = words_at(words[4], MODEL), words_at(words[5] + layer * LAYER * 8, LAYER)
    state = words_at(words[6] + layer * STATE * 8, STATE)
    numbers = carray(native.pointer(words[7] + layer * NUMBERS * 8), NUMBERS, dtype=np.float64)
    heads, key_heads, width = model[1], model[2], model[3]
    sequence, head = item // heads, item % heads
    shared = heads // key_heads
    own = head // shared
    place = words_at(state[6] + sequence * SEQUENCE * 8, SEQUENCE)
    first, count, row, start, window = place[0], place[1], place[2], place[3], place[4]
    step = state[3]
    row_keys = state[0] + row * state[2] + own * width * 4
    row_values = state[1] + row * state[2] + own * width * 4
    joint, joint_step = words[9], model[5] * 4
    query, keys, scores = scratch, scratch + width * 4, scratch + width * 4 * (1 + count)
    dim = part[13]
    rotation = dim * 4
    scale = np.float32(numbers[8])
    # The new keys, for this head alone: others make their own.
    for token in range(count):
        source = floats(joint + (first + token) * joint_step + (heads + own) * width * 4, width)
        key_address = keys + token * width * 4
        key = floats(key_address, width)
        for i in range(width):
            key[i] = source[i]
        if part[3]:
            norm(key_address, part[3], width, numbers[6], numbers[7], key_address)
        if dim:
            turn(key_address, dim, state[4] + (first + token) * rotation, state[5] + (first + token) * rotation)
        if head % shared == 0:
            stored = floats(row_keys + (start + token) * step, width)
            for i in range(width):
                stored[i] = key[i]
            kept = floats(row_values + (start + token) * step, width)
            value = floats(joint + (first + token) * joint_step + (heads + key_heads + own) * width * 4, width)
            for i in range(width):
                kept[i] = value[i]
    for token in range(count):
        values = floats(query, width)
        source = floats(joint + (first + token) * joint_step + head * width * 4, width)
        for i in range(width):
            values[i] = source[i]
        if part[2]:
            norm(query, part[2], width, numbers[4], numbers[5], query)
        if dim:
            turn(query, dim, state[4] + (first + token) * rotation, state[5] + (first + token) * rotation)
        for i in range(width):
            values[i] *= scale
        # Places in the row: earlier ones in the cache, then the new ones up to this.
        low = 0 if window < 0 else max(start + token - window, 0)
        old, skipped = max(start - low, 0), max(low - start, 0)
        new = token + 1 - skipped
        largest = _scores(query, row_keys + low * step, step, old, width, scores)
        fresh = _scores(query, keys + skipped * width * 4, width * 4, new, width, scores + old * 4)
        largest = max(largest, fresh)
        factor = np.float32(1) / _shares(scores, old + new, largest)
        out = words[10] + (first + token) * heads * width * 4 + head * width * 4
        target = floats(out, width)
        for i in range(width):
            target[i] = _ZERO
        _mix(scores, row_values + low * step, step, old, width, factor, out)
        fresh_values = joint + (first + skipped) * joint_step + (heads + key_heads + own) * width * 4
        _mix(scores + old * 4, fresh_values, joint_step, new, width, factor, out)


@njit(nogil=True, cache=True)
def _product(segment: int, group: int, rows: int, x: int, x_step: int, y: int, y_step: int) -> None:
    """Add one group of 32 outputs of a segment to y."""
    form = native.load(segment)
    tiles, size, blocks = native.load(segment + 8), native.load(segment + 16), native.load(segment + 24)
    columns = native.load(segment + 32)
    groups_product(form, tiles, size, blocks, columns, group, group + 1, rows, x, x_step, y, y_step)


@njit(nogil=True, cache=True)
def _find(segments: int, group: int) -> tuple[int, int]:
    """The segment of a group of a matrix, and which of its groups it is."""
    while group >= native.load(segments + 40):
        group -= native.load(segments + 40)
        segments += SEGMENT * 8
    return segments, group


@njit(nogil=True, cache=True)
def _sum_into(segments: int, group: int, rows: int, x: int, x_step: int, y: int, y_step: int) -> None:
    """Add a group of the product of a whole matrix to y."""
    segment, place = _find(segments, group)
    _product(segment, place, rows, x, x_step, y + native.load(segment + 48) * 4, y_step)


@njit(nogil=True, cache=True)
def _joint(job: int, layer: int, group: int, normed: int) -> None:
    """A group of queries, keys and values."""
    words = words_at(job, JOB)
    model, part = words_at(words[4], MODEL), words_at(words[5] + layer * LAYER * 8, LAYER)
    rows, step = words[2], model[5] * 4
    for row in range(rows):
        target = floats(words[9] + row * step + group * ROWS * 4, ROWS)
        if part[4]:
            bias = floats(part[4] + group * ROWS * 4, ROWS)
            for i in range(ROWS):
                target[i] = bias[i]
        else:
            for i in range(ROWS):
                target[i] = _ZERO
    _sum_into(part[5], group, rows, normed, model[0] * 4, words[9], step)


@njit(nogil=True, cache=True, fastmath=FAST)
def _gated(job: int, layer: int, group: int, normed: int, scratch: int) -> None:
    """A group of the activated gate times the input."""
    words = words_at(job, JOB)
    model, part = words_at(words[4], MODEL), words_at(words[5] + layer * LAYER * 8, LAYER)
    rows, step = words[2], ROWS * 4
    values = floats(scratch, 2 * rows * ROWS)
    for i in range(2 * rows * ROWS):
        values[i] = _ZERO
    other = scratch + rows * step
    _product(part[7], group, rows, normed, model[0] * 4, scratch - group * step, step)
    _product(part[8], group, rows, normed, model[0] * 4, other - group * step, step)
    for row in range(rows):
        target = words[11] + row * model[6] * 4 + group * step
        gated(part[14], scratch + row * step, other + row * step, ROWS, target)


@njit(nogil=True, cache=True)
def _norms(job: int, weight: int, eps: float, offset: float, out: int) -> None:
    """All rows of the residual, normed."""
    words = words_at(job, JOB)
    width = native.load(words[4])
    for row in range(words[2]):
        norm(words[8] + row * width * 4, weight, width, eps, offset, out + row * width * 4)


@njit(nogil=True, cache=True)
def _stage(job: int, layer: int, kind: int, counter: int, normed: int, scratch: int) -> None:
    """What one thread does of a stage: portions of its items, until there are none left; then wait for the others."""
    words = words_at(job, JOB)
    model, part = words_at(words[4], MODEL), words_at(words[5] + layer * LAYER * 8, LAYER)
    if kind == 1:
        items = words[12] * model[1]
    elif kind == 0:
        items = model[5] // ROWS
    elif kind == 3:
        items = model[6] // ROWS
    else:
        items = model[0] // ROWS
    portion = max(items // (words[3] * 8), 1)
    while True:
        first = native.add(counter, portion)
        if first >= items:
            break
        for item in range(first, min(first + portion, items)):
            if kind == 0:
                _joint(job, layer, item, normed)
            elif kind == 1:
                _head(job, layer, item, scratch)
            elif kind == 2:
                _sum_into(part[6], item, words[2], words[10], model[1] * model[3] * 4, words[8], model[0] * 4)
            elif kind == 3:
                _gated(job, layer, item, normed, scratch)
            else:
                _sum_into(part[9], item, words[2], words[11], model[6] * 4, words[8], model[0] * 4)
    if words[1]:
        native.call(words[1])


@cfunc("void(int64)", cache=True)
def decode_body(job: int) -> None:
    """What every thread does."""
    words = words_at(job, JOB)
    model = words_at(words[4], MODEL)
    private = words[13] + native.add(job, 1) * words[14]
    normed, scratch = private, private + words[2] * model[0] * 4
    counter = words[15]
    for layer in range(model[4]):
        part = words_at(words[5] + layer * LAYER * 8, LAYER)
        numbers = carray(native.pointer(words[7] + layer * NUMBERS * 8), NUMBERS, dtype=np.float64)
        for kind in range(5):
            if kind == 0:
                _norms(job, part[0], numbers[0], numbers[1], normed)
            elif kind == 3:
                _norms(job, part[1], numbers[2], numbers[3], normed)
            _stage(job, layer, kind, counter, normed, scratch)
            counter += 64
