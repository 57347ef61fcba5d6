"""Products of float32 rows with matrices whose weights are small integers with a scale and a minimum a block.

A matrix is cut into tiles of 32 rows and as many columns as one scale spans. A tile lies in one piece of memory: its
32 scales, its 32 minima, then column by column the 32 integers. So one value of x meets a vector of rows, and nothing
is summed across a vector. Where the integers have 4 bits, a byte holds row i and row i + 16.

Vectors are spelled out as LLVM's: what its loop vectoriser makes of loops over bytes and nibbles differs from version
to version. All that is compiled is in this file, since numba's cache of a file does not notice what changes in others.
Addresses are 64-bit integers. The torch reference is `formers.kernels.blocks.BlockWeight.reference`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import cfunc, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from formers.kernels import native

ROWS = 32
# Rows of x that one pass over a tile serves.
MANY = 4

_BYTE, _INT, _HALF, _FLOAT = ir.IntType(8), ir.IntType(32), ir.HalfType(), ir.FloatType()
_HALF_ROWS = ROWS // 2
_VECTOR = ir.VectorType(_FLOAT, _HALF_ROWS)
_PREFETCH = ir.FunctionType(ir.VoidType(), [_BYTE.as_pointer(), _INT, _INT, _INT])
# How far ahead of a tile memory is asked for, in bytes: the processor's own guess ends at a page's border.
_AHEAD = 4096
_FAST = ("contract", "reassoc", "nsz")


# How a tile is stored: bits of an integer, columns, whether scales are 16-bit floats, whether there are minima.
Form = tuple[int, int, bool, bool]
FORMS: tuple[Form, ...] = (
    (4, 32, True, True),
    (4, 32, False, True),
    (8, 32, True, False),
    (8, 16, False, False),
    (8, 32, False, True),
)


def tile_bytes(form: Form) -> int:
    """How many bytes a tile takes."""
    bits, columns, halves, minimum = form
    return ROWS * ((2 if halves else 4) * (2 if minimum else 1) + columns * bits // 8)


def _tile_code(builder: Any, tile: Any, x: Any, x_step: Any, y: Any, y_step: Any, count: int, form: Form) -> None:
    """Add to `count` rows of y what a tile makes of as many rows of x."""
    bits, columns, halves, minimum = form

    def load(address: Any, offset: int, kind: Any, size: int, align: int) -> Any:
        place = builder.add(address, ir.Constant(address.type, offset)) if offset else address
        pointer = builder.inttoptr(place, ir.VectorType(kind, size).as_pointer())
        return builder.load(pointer, align=align, typ=ir.VectorType(kind, size))

    def numbers(offset: int) -> list[Any]:
        kind, width = (_HALF, 2) if halves else (_FLOAT, 4)
        found = [load(tile, offset + part * _HALF_ROWS * width, kind, _HALF_ROWS, 2) for part in range(2)]
        return [builder.fpext(each, _VECTOR) for each in found] if halves else found

    def multiply_add(left: Any, right: Any, addend: Any) -> Any:
        return builder.fadd(builder.fmul(left, right, flags=_FAST), addend, flags=_FAST)

    def spread(value: Any) -> Any:
        single = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), value, ir.Constant(_INT, 0))
        lanes = ir.Constant(ir.VectorType(_INT, _HALF_ROWS), [0] * _HALF_ROWS)
        return builder.shuffle_vector(single, ir.Constant(_VECTOR, ir.Undefined), lanes)

    wide = ir.VectorType(_INT, _HALF_ROWS)
    steps = [builder.mul(x_step, ir.Constant(x_step.type, row)) for row in range(count)]
    inputs = [builder.add(x, step) for step in steps]
    outputs = [builder.add(y, builder.mul(y_step, ir.Constant(y_step.type, row))) for row in range(count)]
    size = ROWS * (2 if halves else 4)
    codes = size * (2 if minimum else 1)
    # Two sums of every vector for a single row: additions wait for one another.
    chains = 2 if count == 1 else 1
    zero = ir.Constant(_VECTOR, [0.0] * _HALF_ROWS)
    sums = [[[zero, zero] for _ in range(chains)] for _ in range(count)]
    for column in range(columns):
        if bits == 4:
            packed = builder.zext(load(tile, codes + column * _HALF_ROWS, _BYTE, _HALF_ROWS, 1), wide)
            low = builder.and_(packed, ir.Constant(wide, [15] * _HALF_ROWS))
            high = builder.lshr(packed, ir.Constant(wide, [4] * _HALF_ROWS))
            values = [builder.sitofp(low, _VECTOR), builder.sitofp(high, _VECTOR)]
        else:
            values = []
            for part in range(2):
                each = load(tile, codes + column * ROWS + part * _HALF_ROWS, _BYTE, _HALF_ROWS, 1)
                values.append(builder.sitofp(builder.sext(each, wide), _VECTOR))
        for row in range(count):
            place = builder.add(inputs[row], ir.Constant(x.type, column * 4))
            value = spread(builder.load(builder.inttoptr(place, _FLOAT.as_pointer()), align=4, typ=_FLOAT))
            sum_ = sums[row][column % chains]
            for part in range(2):
                sum_[part] = multiply_add(values[part], value, sum_[part])
    prefetch = cgutils.get_or_insert_function(builder.module, _PREFETCH, "llvm.prefetch.p0")
    for line in range(0, tile_bytes(form), 64):
        place = builder.inttoptr(builder.add(tile, ir.Constant(tile.type, _AHEAD + line)), _BYTE.as_pointer())
        builder.call(prefetch, [place, *(ir.Constant(_INT, value) for value in (0, 3, 1))])
    scales = numbers(0)
    minima = numbers(size) if minimum else []
    for row in range(count):
        whole = None
        if minimum:
            whole = spread(
                _sum(builder, [load(inputs[row], part * 64, _FLOAT, 16, 4) for part in range(columns // 16)])
            )
        for part in range(2):
            total = sums[row][0][part]
            for chain in sums[row][1:]:
                total = builder.fadd(total, chain[part], flags=_FAST)
            pointer = builder.inttoptr(
                builder.add(outputs[row], ir.Constant(y.type, part * _HALF_ROWS * 4)), _VECTOR.as_pointer()
            )
            out = multiply_add(scales[part], total, builder.load(pointer, align=4, typ=_VECTOR))
            if minimum:
                out = multiply_add(minima[part], whole, out)
            builder.store(out, pointer, align=4)


def _sum(builder: Any, vectors: list[Any]) -> Any:
    """All numbers of some vectors."""
    total = vectors[0]
    for vector in vectors[1:]:
        total = builder.fadd(total, vector, flags=_FAST)
    kind = ir.FunctionType(_FLOAT, [_FLOAT, total.type])
    name = f"llvm.vector.reduce.fadd.v{total.type.count}f32"
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, [ir.Constant(_FLOAT, -0.0), total], fastmath=_FAST)


def _tile_product(_typing: Any, form: Any, count: Any, tile: Any, x: Any, x_step: Any, y: Any, y_step: Any) -> Any:
    """A tile's product with `count` rows; the form's number and the count are written out where it is called."""

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        tile_, x_, x_step_, y_, y_step_ = args[2:]
        chosen = FORMS[form.literal_value]
        _tile_code(builder, tile_, x_, x_step_, y_, y_step_, count.literal_value, chosen)
        return context.get_dummy_value()

    return types.void(form, count, *[types.int64] * 5), generate


_tile: Any = intrinsic(prefer_literal=True)(_tile_product)


@njit(nogil=True, cache=True)
def groups_product(
    form: int,
    tiles: int,
    size: int,
    blocks: int,
    columns: int,
    first: int,
    last: int,
    rows: int,
    x: int,
    x_step: int,
    y: int,
    y_step: int,
) -> None:
    """Add the product of `rows` rows of x with the tiles of some groups of 32 matrix rows to y. Steps are in bytes."""
    for group in range(first, last):
        row = 0
        while row < rows:
            tile = tiles + group * blocks * size
            left, out = x + row * x_step, y + row * y_step + group * ROWS * 4
            many = rows - row >= MANY
            for _ in range(blocks):
                if form == 0:
                    if many:
                        _tile(0, 4, tile, left, x_step, out, y_step)
                    else:
                        _tile(0, 1, tile, left, x_step, out, y_step)
                elif form == 1:
                    if many:
                        _tile(1, 4, tile, left, x_step, out, y_step)
                    else:
                        _tile(1, 1, tile, left, x_step, out, y_step)
                elif form == 2:
                    if many:
                        _tile(2, 4, tile, left, x_step, out, y_step)
                    else:
                        _tile(2, 1, tile, left, x_step, out, y_step)
                elif form == 3:
                    if many:
                        _tile(3, 4, tile, left, x_step, out, y_step)
                    else:
                        _tile(3, 1, tile, left, x_step, out, y_step)
                elif many:
                    _tile(4, 4, tile, left, x_step, out, y_step)
                else:
                    _tile(4, 1, tile, left, x_step, out, y_step)
                tile += size
                left += columns * 4
            row += MANY if many else 1


@cfunc("void(int64)", cache=True)
def portions_body(job: int) -> None:
    """What every thread does: take portions of groups until there are none. `job` is what `shared_product` writes."""
    portion, groups = native.load(job + 8), native.load(job + 56)
    while True:
        first = native.add(job, portion)
        if first >= groups:
            return
        groups_product(
            native.load(job + 16),
            native.load(job + 24),
            native.load(job + 32),
            native.load(job + 40),
            native.load(job + 48),
            first,
            min(first + portion, groups),
            native.load(job + 64),
            native.load(job + 72),
            native.load(job + 80),
            native.load(job + 88),
            native.load(job + 96),
        )


@njit(nogil=True, cache=True)
def shared_product(
    parallel: int,
    body: int,
    threads: int,
    portion: int,
    form: int,
    tiles: int,
    size: int,
    blocks: int,
    columns: int,
    groups: int,
    rows: int,
    x: int,
    x_step: int,
    y: int,
    y_step: int,
) -> None:
    """As `groups_product`, of all groups: `threads` threads take `portion` groups at a time.

    `parallel` and `body` are the addresses of GOMP_parallel and of `portions_body`.
    """
    job = np.empty(13, dtype=np.int64)
    job[0], job[1], job[2], job[3], job[4] = 0, portion, form, tiles, size
    job[5], job[6], job[7], job[8] = blocks, columns, groups, rows
    job[9], job[10], job[11], job[12] = x, x_step, y, y_step
    native.call_parallel(parallel, body, job.ctypes.data, threads)
