"""Attention over sequences that lie end to end, with dropout, forwards and backwards.

A portion is one head of one sequence, so that scores stay in a processor's own caches; jobs are as in
`formers.kernels.training`. Compiled code of that file is part of what numba keeps for this one: change both together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.np.numpy_support import carray

from formers.kernels import native
from formers.kernels.training import body, exp, inlined, operation, pointer, random

# Queries that are computed at a time; values of a vector; rows of a product that are summed at a time.
_QUERIES = 64
_LANES = 16
_TILE = 4

_FLOAT, _INT = ir.FloatType(), ir.IntType(32)
_VECTOR = ir.VectorType(_FLOAT, _LANES)
_FAST = ("contract", "nsz")
f32, u32 = np.float32, np.uint32


@operation
def _tile(
    _typing: Any,
    rows: Any,
    vectors: Any,
    add: Any,
    depth: Any,
    a: Any,
    a_row: Any,
    a_column: Any,
    b: Any,
    b_row: Any,
    c: Any,
    c_row: Any,
) -> Any:
    """Some rows and vectors of c = a b, or of c += a b: the first three arguments are written out where it is called.

    Steps are in bytes; a row of b and of c lies in one piece.
    """

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        depth_, a_, a_row_, a_column_, b_, b_row_, c_, c_row_ = args[3:]
        kind = a_.type

        def at(address: Any, step: Any, count: int, offset: int = 0) -> Any:
            place = builder.add(address, builder.mul(step, ir.Constant(kind, count))) if count else address
            return builder.add(place, ir.Constant(kind, offset)) if offset else place

        def vector(address: Any) -> Any:
            return builder.inttoptr(address, _VECTOR.as_pointer())

        count, wide = rows.literal_value, vectors.literal_value
        places = [[vector(at(c_, c_row_, row, 64 * part)) for part in range(wide)] for row in range(count)]
        sums = [[cgutils.alloca_once(builder, _VECTOR) for _ in range(wide)] for _ in range(count)]
        for row in range(count):
            for part in range(wide):
                zero = ir.Constant(_VECTOR, [0.0] * _LANES)
                begin = builder.load(places[row][part], align=4, typ=_VECTOR) if add.literal_value else zero
                builder.store(begin, sums[row][part])
        with cgutils.for_range(builder, depth_) as loop:
            right = builder.add(b_, builder.mul(loop.index, b_row_))
            left = builder.add(a_, builder.mul(loop.index, a_column_))
            parts = [builder.load(vector(at(right, kind, 0, 64 * part)), align=4, typ=_VECTOR) for part in range(wide)]
            for row in range(count):
                pointer = builder.inttoptr(at(left, a_row_, row), _FLOAT.as_pointer())
                value = builder.load(pointer, align=4, typ=_FLOAT)
                single = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), value, ir.Constant(_INT, 0))
                lanes = ir.Constant(ir.VectorType(_INT, _LANES), [0] * _LANES)
                spread = builder.shuffle_vector(single, ir.Constant(_VECTOR, ir.Undefined), lanes)
                for part in range(wide):
                    term = builder.fmul(spread, parts[part], flags=_FAST)
                    total = builder.fadd(builder.load(sums[row][part], typ=_VECTOR), term, flags=_FAST)
                    builder.store(total, sums[row][part])
        for row in range(count):
            for part in range(wide):
                builder.store(builder.load(sums[row][part], typ=_VECTOR), places[row][part], align=4)
        return context.get_dummy_value()

    return types.void(rows, vectors, add, *[types.int64] * 8), generate


@njit(nogil=True, cache=True)
def _product(
    rows: int,
    vectors: int,
    depth: int,
    a: int,
    a_row: int,
    a_column: int,
    b: int,
    b_row: int,
    c: int,
    c_row: int,
    add: bool,
) -> None:
    """Make c = a b, or c += a b, with c of some rows and vectors."""
    row = 0
    while row < rows:
        many = rows - row >= _TILE
        left, out, right = a + row * a_row, c + row * c_row, b
        part = 0
        while part < vectors:
            two = vectors - part >= 2
            if add:
                if many and two:
                    _tile(4, 2, 1, depth, left, a_row, a_column, right, b_row, out, c_row)
                elif many:
                    _tile(4, 1, 1, depth, left, a_row, a_column, right, b_row, out, c_row)
                elif two:
                    _tile(1, 2, 1, depth, left, a_row, a_column, right, b_row, out, c_row)
                else:
                    _tile(1, 1, 1, depth, left, a_row, a_column, right, b_row, out, c_row)
            elif many and two:
                _tile(4, 2, 0, depth, left, a_row, a_column, right, b_row, out, c_row)
            elif many:
                _tile(4, 1, 0, depth, left, a_row, a_column, right, b_row, out, c_row)
            elif two:
                _tile(1, 2, 0, depth, left, a_row, a_column, right, b_row, out, c_row)
            else:
                _tile(1, 1, 0, depth, left, a_row, a_column, right, b_row, out, c_row)
            step = 2 if two else 1
            part += step
            right += 64 * step
            out += 64 * step
        row += _TILE if many else 1


@njit(nogil=True, cache=True)
def _rows(source: int, step: int, bias: int, count: int, width: int, out: Any) -> None:
    """Rows of values with the bias added, in one piece."""
    shift = carray(pointer(bias), width)
    for row in range(count):
        values = carray(pointer(source + row * step), width)
        for i in range(width):
            out[row * width + i] = values[i] + shift[i]


@njit(nogil=True, cache=True)
def _across(rows: Any, count: int, width: int, padded: int, out: Any) -> None:
    """Rows (count, width) as (width, padded), filled up with zeros."""
    for i in range(width):
        for row in range(count):
            out[i * padded + row] = rows[row * width + i]
        for row in range(count, padded):
            out[i * padded + row] = f32(0.0)


@inlined
def _attend(
    q: int,
    q_step: int,
    q_bias: int,
    queries: int,
    k: int,
    v: int,
    step: int,
    k_bias: int,
    v_bias: int,
    keys: int,
    width: int,
    out: int,
    out_step: int,
    logs: int,
    logs_step: int,
    dropped: int,
    low: Any,
    high: Any,
    scale: Any,
    kept_scale: Any,
) -> None:
    """One head of one sequence. `logs`: for each query, the logarithm of the sum of its exponentials."""
    padded = (keys + _LANES - 1) // _LANES * _LANES
    rows, across = np.empty(keys * width, f32), np.empty(width * padded, f32)
    value, asked = np.empty(keys * width, f32), np.empty(_QUERIES * width, f32)
    weights = np.empty(_QUERIES * padded, f32)
    _rows(k, step, k_bias, keys, width, rows)
    _across(rows, keys, width, padded, across)
    _rows(v, step, v_bias, keys, width, value)
    line, row = padded * 4, width * 4
    limit = u32(dropped)
    for start in range(0, queries, _QUERIES):
        count = min(_QUERIES, queries - start)
        _rows(q + start * q_step, q_step, q_bias, count, width, asked)
        _product(
            count, padded // _LANES, width, asked.ctypes.data, row, 4, across.ctypes.data, line,
            weights.ctypes.data, line, False,
        )  # fmt: skip
        for i in range(count):
            scores = weights[i * padded : i * padded + keys]
            largest = scores[0]
            for j in range(keys):
                largest = max(largest, scores[j])
            total = f32(0.0)
            for j in range(keys):
                each = exp((scores[j] - largest) * scale)
                scores[j] = each
                total += each
            factor = kept_scale / total
            if dropped:
                begin = u32((start + i) * keys)
                for j in range(keys):
                    keep = factor if random(u32(begin + u32(j)), low, high) >= limit else f32(0.0)
                    scores[j] = scores[j] * keep
            else:
                for j in range(keys):
                    scores[j] = scores[j] * factor
            carray(pointer(logs + (start + i) * logs_step), 1)[0] = largest * scale + np.log(total)
        _product(
            count, width // _LANES, keys, weights.ctypes.data, line, 4, value.ctypes.data, row,
            out + start * out_step, out_step, False,
        )  # fmt: skip


@njit(nogil=True, cache=True)
def _sum_rows(rows: Any, count: int, width: int, out: int) -> None:
    total = carray(pointer(out), width)
    for i in range(width):
        total[i] = f32(0.0)
    for row in range(count):
        for i in range(width):
            total[i] += rows[row * width + i]


@njit(nogil=True, cache=True)
def _write_rows(rows: Any, count: int, width: int, out: int, step: int) -> None:
    for row in range(count):
        made = carray(pointer(out + row * step), width)
        for i in range(width):
            made[i] = rows[row * width + i]


@inlined
def _attend_back(
    grad: int,
    grad_step: int,
    q: int,
    q_step: int,
    q_bias: int,
    queries: int,
    k: int,
    v: int,
    step: int,
    k_bias: int,
    v_bias: int,
    keys: int,
    width: int,
    logs: int,
    logs_step: int,
    to_q: int,
    to_k: int,
    to_v: int,
    to_q_bias: int,
    to_k_bias: int,
    to_v_bias: int,
    dropped: int,
    low: Any,
    high: Any,
    scale: Any,
    kept_scale: Any,
) -> None:
    """One head of one sequence: gradients of queries, keys and values, and their sums for the biases."""
    padded = (keys + _LANES - 1) // _LANES * _LANES
    key, keys_across = np.empty(keys * width, f32), np.empty(width * padded, f32)
    value, values_across = np.empty(keys * width, f32), np.empty(width * padded, f32)
    asked, given = np.empty(_QUERIES * width, f32), np.empty(_QUERIES * width, f32)
    weights, slopes = np.empty(_QUERIES * padded, f32), np.empty(_QUERIES * padded, f32)
    to_query = np.empty(queries * width, f32)
    to_key, to_value = np.zeros(keys * width, f32), np.zeros(keys * width, f32)
    nothing = np.zeros(width, f32)
    _rows(k, step, k_bias, keys, width, key)
    _across(key, keys, width, padded, keys_across)
    _rows(v, step, v_bias, keys, width, value)
    _across(value, keys, width, padded, values_across)
    line, row, vectors, parts = padded * 4, width * 4, width // _LANES, padded // _LANES
    limit = u32(dropped)
    for start in range(0, queries, _QUERIES):
        count = min(_QUERIES, queries - start)
        _rows(q + start * q_step, q_step, q_bias, count, width, asked)
        _rows(grad + start * grad_step, grad_step, nothing.ctypes.data, count, width, given)
        _product(
            count, parts, width, asked.ctypes.data, row, 4, keys_across.ctypes.data, line,
            weights.ctypes.data, line, False,
        )  # fmt: skip
        _product(
            count, parts, width, given.ctypes.data, row, 4, values_across.ctypes.data, line,
            slopes.ctypes.data, line, False,
        )  # fmt: skip
        for i in range(count):
            weight, slope = weights[i * padded : i * padded + keys], slopes[i * padded : i * padded + keys]
            log = carray(pointer(logs + (start + i) * logs_step), 1)[0]
            mean = f32(0.0)
            if dropped:
                begin = u32((start + i) * keys)
                for j in range(keys):
                    each = exp(min(weight[j] * scale - log, f32(0.0)))
                    keep = kept_scale if random(u32(begin + u32(j)), low, high) >= limit else f32(0.0)
                    slope[j] = slope[j] * keep
                    mean += each * slope[j]
                    # The sign says what was dropped: a weight is never negative.
                    weight[j] = each if keep else -each
                for j in range(keys):
                    each = abs(weight[j])
                    slope[j] = each * (slope[j] - mean) * scale
                    weight[j] = max(weight[j], f32(0.0)) * kept_scale
            else:
                for j in range(keys):
                    each = exp(min(weight[j] * scale - log, f32(0.0)))
                    weight[j] = each
                    mean += each * slope[j]
                for j in range(keys):
                    slope[j] = weight[j] * (slope[j] - mean) * scale
        _product(
            keys, vectors, count, weights.ctypes.data, 4, line, given.ctypes.data, row, to_value.ctypes.data, row, True
        )
        _product(
            keys, vectors, count, slopes.ctypes.data, 4, line, asked.ctypes.data, row, to_key.ctypes.data, row, True
        )
        _product(
            count, vectors, keys, slopes.ctypes.data, line, 4, key.ctypes.data, row,
            to_query.ctypes.data + start * row, row, False,
        )  # fmt: skip
    _write_rows(to_query, queries, width, to_q, q_step)
    _write_rows(to_key, keys, width, to_k, step)
    _write_rows(to_value, keys, width, to_v, step)
    _sum_rows(to_query, queries, width, to_q_bias)
    _sum_rows(to_key, keys, width, to_k_bias)
    _sum_rows(to_value, keys, width, to_v_bias)


@body
def attend_body(job: int) -> None:
    """Job: heads, width of one, dropped, seed, [scale, kept scale], places (sequences, 4): the first query and their
    number, the first key and theirs; q, its row's bytes, k, v, their row's bytes, the biases of the three, out, logs.
    """
    portions, heads, width = native.load(job + 16), native.load(job + 24), native.load(job + 32)
    dropped, seed = native.load(job + 40), native.load(job + 48)
    numbers = carray(pointer(native.load(job + 56)), 2)
    places, q, q_step = native.load(job + 64), native.load(job + 72), native.load(job + 80)
    k, v, step = native.load(job + 88), native.load(job + 96), native.load(job + 104)
    q_bias, k_bias, v_bias = native.load(job + 112), native.load(job + 120), native.load(job + 128)
    out, logs = native.load(job + 136), native.load(job + 144)
    while True:
        portion = native.add(job, 1)
        if portion >= portions:
            return
        place, head = places + portion // heads * 32, portion % heads
        query, queries = native.load(place), native.load(place + 8)
        key, keys = native.load(place + 16), native.load(place + 24)
        at = head * width * 4
        _attend(
            q + query * q_step + at,
            q_step,
            q_bias + at,
            queries,
            k + key * step + at,
            v + key * step + at,
            step,
            k_bias + at,
            v_bias + at,
            keys,
            width,
            out + query * heads * width * 4 + at,
            heads * width * 4,
            logs + (query * heads + head) * 4,
            heads * 4,
            dropped,
            random(u32(portion), u32(seed), u32(seed >> 32)),
            u32(seed >> 32),
            numbers[0],
            numbers[1],
        )


@body
def attend_back_body(job: int) -> None:
    """Job as for `attend_body`, with the gradient of out for out; then the gradients of q, k, v, laid out as these, and
    those of the biases (sequences, 3, heads, width).
    """
    portions, heads, width = native.load(job + 16), native.load(job + 24), native.load(job + 32)
    dropped, seed = native.load(job + 40), native.load(job + 48)
    numbers = carray(pointer(native.load(job + 56)), 2)
    places, q, q_step = native.load(job + 64), native.load(job + 72), native.load(job + 80)
    k, v, step = native.load(job + 88), native.load(job + 96), native.load(job + 104)
    q_bias, k_bias, v_bias = native.load(job + 112), native.load(job + 120), native.load(job + 128)
    grad, logs = native.load(job + 136), native.load(job + 144)
    to_q, to_k, to_v, totals = (
        native.load(job + 152),
        native.load(job + 160),
        native.load(job + 168),
        native.load(job + 176),
    )
    whole = heads * width * 4
    while True:
        portion = native.add(job, 1)
        if portion >= portions:
            return
        sequence, head = portion // heads, portion % heads
        place = places + sequence * 32
        query, queries = native.load(place), native.load(place + 8)
        key, keys = native.load(place + 16), native.load(place + 24)
        at = head * width * 4
        total = totals + sequence * 3 * whole + at
        _attend_back(
            grad + query * whole + at,
            whole,
            q + query * q_step + at,
            q_step,
            q_bias + at,
            queries,
            k + key * step + at,
            v + key * step + at,
            step,
            k_bias + at,
            v_bias + at,
            keys,
            width,
            logs + (query * heads + head) * 4,
            heads * 4,
            to_q + query * q_step + at,
            to_k + key * step + at,
            to_v + key * step + at,
            total,
            total + whole,
            total + 2 * whole,
            dropped,
            random(u32(portion), u32(seed), u32(seed >> 32)),
            u32(seed >> 32),
            numbers[0],
            numbers[1],
        )
