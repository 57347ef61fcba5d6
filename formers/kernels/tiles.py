"""The product that everything dense is made of: a few rows of x with 32 columns of a matrix.

Rows lie in blocks of 32 columns: a block holds its 32 numbers of every row, one row after the other, so that rows of a
tile are 128 bytes apart whatever the width. A *panel* is 32 columns of the matrix (in, out) with one line of 32
weights for each input, float32, or 16-bit floats where these are exact. What a product gives is again a block.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import cfunc, types
from numba.core import cgutils
from numba.extending import intrinsic

from formers.kernels.native import FEATURES
from formers.kernels.vectors import BYTE, FLOAT, LANES, NUMBER, PREFETCH, VECTOR, WORD, multiply_add, place, spread

COLUMNS = 32
# Bytes of a row in a block.
ROW = COLUMNS * 4

# Sums of so many rows and vectors stay in registers: 14 * 2 of 32 wide ones, 6 * 1 as pairs or fours of narrow ones.
_WIDE = "+avx512f" in FEATURES
TALLEST = 14 if _WIDE else 6
_SIDE = 2 if _WIDE else 1
# Inputs whose code is written out, in the loop over those of a block.
_UNROLLED = 2

_HALF = ir.HalfType()


# How many rows a tile may have.
COUNTS = tuple(range(2, TALLEST + 1, 2))


def _tile_product(
    _typing: Any,
    half: Any,
    count: Any,
    x: Any,
    step: Any,
    inputs: Any,
    panel: Any,
    bias: Any,
    out: Any,
    ahead: Any,
    pace: Any,
) -> Any:
    """`count` rows of x, one of `COUNTS`, with a panel and the bias, to as many rows of a block.

    x is `inputs` wide, its blocks `step` bytes apart; `half`: 16-bit weights. On the way memory from `ahead` on is
    asked for, `pace` bytes further with each input.
    """

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        half_, count_, *addresses = args
        end = builder.append_basic_block("tile.end")
        kind = builder.add(builder.mul(half_, ir.Constant(WORD, 2 * TALLEST)), count_)
        switch = builder.switch(kind, end)
        for half in (False, True):
            for count in COUNTS:
                switch.add_case(ir.Constant(WORD, 2 * TALLEST * half + count), block := builder.append_basic_block())
                builder.position_at_end(block)
                for start in range(0, COLUMNS // LANES, _SIDE):
                    _Tile(builder, count, half, start).emit(*addresses)
                builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 10), generate


def _call(
    _typing: Any, function: Any, half: Any, count: Any, x: Any, step: Any, inputs: Any, panel: Any, bias: Any,
    out: Any, ahead: Any, pace: Any,
) -> Any:  # fmt: skip
    """Call `tile`, which lies at the address `function`."""

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [WORD] * 10)
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 11), generate


call_tile: Any = intrinsic(_call)


class _Tile:
    """LLVM's code for a tile, from the vector `start` of its panel on."""

    def __init__(self, builder: Any, count: int, half: bool, start: int) -> None:
        self.builder, self.count, self.half, self.start = builder, count, half, start
        self.line = COLUMNS * (2 if half else 4)
        # Variables that LLVM keeps in registers.
        self.sums = [[cgutils.alloca_once(builder, VECTOR) for _ in range(_SIDE)] for _ in range(count)]

    def emit(self, x: Any, step: Any, inputs: Any, panel: Any, bias: Any, out: Any, ahead: Any, pace: Any) -> None:
        builder = self.builder

        def word(value: int) -> Any:
            return ir.Constant(WORD, value)

        def from_input(index: Any) -> tuple[Any, Any]:
            weights = builder.add(panel, builder.mul(index, word(self.line)))
            return weights, builder.add(ahead, builder.mul(index, pace))

        for side in range(_SIDE):
            start = self._load(bias, (self.start + side) * LANES * 4, VECTOR)
            for sums in self.sums:
                builder.store(start, sums[side])
        blocks = builder.sdiv(inputs, word(COLUMNS))
        with cgutils.for_range(builder, blocks) as block:
            left = builder.add(x, builder.mul(block.index, step))
            first = builder.mul(block.index, word(COLUMNS))
            with cgutils.for_range(builder, word(COLUMNS // _UNROLLED)) as part:
                inner = builder.mul(part.index, word(_UNROLLED))
                weights, next_ = from_input(builder.add(first, inner))
                self._inputs(builder.add(left, builder.mul(inner, word(4))), weights, next_, pace, _UNROLLED)
        left = builder.add(x, builder.mul(blocks, step))
        first = builder.mul(blocks, word(COLUMNS))
        with cgutils.for_range(builder, builder.sub(inputs, first)) as rest:
            weights, next_ = from_input(builder.add(first, rest.index))
            self._inputs(builder.add(left, builder.mul(rest.index, word(4))), weights, next_, pace, 1)
        for row, sums in enumerate(self.sums):
            for side, value in enumerate(sums):
                target = place(builder, out, VECTOR, row * ROW + (self.start + side) * LANES * 4)
                builder.store(builder.load(value, typ=VECTOR), target, align=4)

    def _inputs(self, x: Any, weights: Any, ahead: Any, pace: Any, count: int) -> None:
        """Add what some inputs that lie side by side contribute."""
        builder = self.builder
        for index in range(count):
            lines = [self._weights(weights, index * self.line + side * self._bytes) for side in range(_SIDE)]
            if self.start == 0:
                for offset in range(0, self.line, 64):
                    self._ask(ahead, offset)
                ahead = builder.add(ahead, pace)
            for row, sums in enumerate(self.sums):
                value = spread(builder, self._load(x, row * ROW + index * 4, FLOAT))
                for line, sum_ in zip(lines, sums, strict=True):
                    builder.store(multiply_add(builder, line, value, builder.load(sum_, typ=VECTOR)), sum_)

    @property
    def _bytes(self) -> int:
        return LANES * (2 if self.half else 4)

    def _weights(self, address: Any, offset: int) -> Any:
        kind = ir.VectorType(_HALF, LANES) if self.half else VECTOR
        found = self._load(address, offset + self.start * self._bytes, kind)
        return self.builder.fpext(found, VECTOR) if self.half else found

    def _load(self, address: Any, offset: int, kind: Any) -> Any:
        return self.builder.load(place(self.builder, address, kind, offset), align=2 if self.half else 4, typ=kind)

    def _ask(self, address: Any, offset: int) -> None:
        """Ask for memory that is not needed at once, into the second cache."""
        prefetch = cgutils.get_or_insert_function(self.builder.module, PREFETCH, "llvm.prefetch.p0")
        where = place(self.builder, address, BYTE, offset)
        self.builder.call(prefetch, [where, *(ir.Constant(NUMBER, value) for value in (0, 2, 1))])


_switched: Any = intrinsic(_tile_product)


@cfunc(types.void(*[types.int64] * 10), cache=True)
def tile(
    half: int, count: int, x: int, step: int, inputs: int, panel: int, bias: int, out: int, ahead: int, pace: int
) -> None:
    """See `_tile_product`. Other compiled code calls it by its address, so that it is compiled once."""
    _switched(half, count, x, step, inputs, panel, bias, out, ahead, pace)
