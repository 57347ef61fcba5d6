"""Vectors of 16 float32 numbers as values of compiled code, in LLVM's words; it cuts them to the machine's width.

What LLVM's own vectoriser makes of loops differs from version to version; this does not. Addresses are 64-bit integers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

LANES = 16

WORD, NUMBER, FLOAT = ir.IntType(64), ir.IntType(32), ir.FloatType()
VECTOR = ir.VectorType(FLOAT, LANES)
_NUMBERS = ir.VectorType(NUMBER, LANES)
_FUSE = ("contract",)
BYTE = ir.IntType(8)
_HALVES, _BYTES = ir.VectorType(ir.HalfType(), LANES), ir.VectorType(BYTE, LANES)
PREFETCH = ir.FunctionType(ir.VoidType(), [BYTE.as_pointer(), NUMBER, NUMBER, NUMBER])


class Vector(types.Type):
    """The type of a vector."""

    def __init__(self) -> None:
        super().__init__(name="Float32x16")


vector = Vector()


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, VECTOR)  # type: ignore[no-untyped-call]


Generate = Callable[[Any, list[Any]], Any]


def _operation(result: Any, arguments: int | tuple[Any, ...], generate: Generate) -> Any:
    """An intrinsic of so many vectors, or of arguments of the types given; `generate` takes (builder, values)."""
    kinds = (vector,) * arguments if isinstance(arguments, int) else arguments

    def code(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        made = generate(builder, list(values))
        return context.get_dummy_value() if made is None else made

    # numba reads the number of arguments off the function.
    makers: dict[int, Any] = {
        1: lambda _typing, a: (result(*kinds), code),
        2: lambda _typing, a, b: (result(*kinds), code),
        3: lambda _typing, a, b, c: (result(*kinds), code),
    }
    return intrinsic(makers[len(kinds)])


def spread(builder: Any, value: Any, kind: Any = VECTOR) -> Any:
    """LLVM's code for a vector of one value."""
    undefined = ir.Constant(kind, ir.Undefined)
    single = builder.insert_element(undefined, value, ir.Constant(NUMBER, 0))
    return builder.shuffle_vector(single, undefined, ir.Constant(_NUMBERS, [0] * LANES))


def multiply_add(builder: Any, left: Any, right: Any, addend: Any) -> Any:
    """LLVM's code for left * right + addend, rounded once where the machine can."""
    return builder.fadd(builder.fmul(left, right, flags=_FUSE), addend, flags=_FUSE)


def place(builder: Any, address: Any, kind: Any, offset: int = 0) -> Any:
    """LLVM's pointer to an address and so many bytes."""
    address = builder.add(address, ir.Constant(WORD, offset)) if offset else address
    return builder.inttoptr(address, kind.as_pointer())


def _reduced(name: str, start: float | None) -> Generate:
    kinds = [VECTOR] if start is None else [FLOAT, VECTOR]
    kind = ir.FunctionType(FLOAT, kinds)

    def generate(builder: Any, values: list[Any]) -> Any:
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.{name}.v{LANES}f32")
        first = [] if start is None else [ir.Constant(FLOAT, start)]
        return builder.call(function, [*first, *values], fastmath=("reassoc",))

    return generate


def _nearest(builder: Any, values: list[Any]) -> Any:
    kind = ir.FunctionType(VECTOR, [VECTOR])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.rint.v{LANES}f32"), values)


def _power(builder: Any, values: list[Any]) -> Any:
    exponent = builder.add(builder.fptosi(values[0], _NUMBERS), ir.Constant(_NUMBERS, [127] * LANES))
    return builder.bitcast(builder.shl(exponent, ir.Constant(_NUMBERS, [23] * LANES)), VECTOR)


def _first(builder: Any, values: list[Any]) -> Any:
    lanes = ir.Constant(_NUMBERS, list(range(LANES)))
    count = spread(builder, builder.trunc(values[1], NUMBER), _NUMBERS)
    return builder.select(builder.icmp_signed("<", lanes, count), values[0], values[2])


def _load(kind: Any) -> Generate:
    align = 4 if kind in (VECTOR, FLOAT) else 1
    return lambda builder, values: builder.load(place(builder, values[0], kind), align=align, typ=kind)


def _nibbles(builder: Any, values: list[Any], shift: int) -> Any:
    wide = builder.zext(_load(_BYTES)(builder, values), _NUMBERS)
    moved = builder.lshr(wide, ir.Constant(_NUMBERS, [shift] * LANES))
    return builder.sitofp(builder.and_(moved, ir.Constant(_NUMBERS, [15] * LANES)), VECTOR)


def _store(builder: Any, address: Any, value: Any) -> None:
    builder.store(value, place(builder, address, value.type), align=4)


def _ask(builder: Any, address: Any) -> None:
    prefetch = cgutils.get_or_insert_function(builder.module, PREFETCH, "llvm.prefetch.p0")
    builder.call(prefetch, [place(builder, address, BYTE), *(ir.Constant(NUMBER, value) for value in (0, 3, 1))])


def _select(comparison: str) -> Generate:
    return lambda b, v: b.select(b.fcmp_ordered(comparison, v[0], v[1]), v[0], v[1])


load = _operation(vector, (types.int64,), _load(VECTOR))
load_one = _operation(types.float32, (types.int64,), _load(FLOAT))
store = _operation(types.void, (types.int64, vector), lambda b, v: _store(b, v[0], v[1]))
store_one = _operation(types.void, (types.int64, types.float32), lambda b, v: _store(b, v[0], v[1]))
# One number from an address to another: (to, from).
copy_one = _operation(types.void, (types.int64, types.int64), lambda b, v: _store(b, v[0], _load(FLOAT)(b, [v[1]])))
# Sixteen 16-bit floats, and sixteen integers of 8 bits or of the lower and the upper 4 bits of bytes, as float32.
halves = _operation(vector, (types.int64,), lambda b, v: b.fpext(_load(_HALVES)(b, v), VECTOR))
integers = _operation(vector, (types.int64,), lambda b, v: b.sitofp(b.sext(_load(_BYTES)(b, v), _NUMBERS), VECTOR))
lows = _operation(vector, (types.int64,), lambda b, v: _nibbles(b, v, 0))
highs = _operation(vector, (types.int64,), lambda b, v: _nibbles(b, v, 4))
# Ask for the memory at an address, which is needed soon.
ask = _operation(types.void, (types.int64,), lambda b, v: _ask(b, v[0]))
splat = _operation(vector, (types.float32,), lambda b, v: spread(b, v[0]))
add = _operation(vector, 2, lambda b, v: b.fadd(*v))
subtract = _operation(vector, 2, lambda b, v: b.fsub(*v))
multiply = _operation(vector, 2, lambda b, v: b.fmul(*v))
divide = _operation(vector, 2, lambda b, v: b.fdiv(*v))
# a * b + c
fma = _operation(vector, 3, lambda b, v: multiply_add(b, *v))
# The second where the first is not a number.
smaller = _operation(vector, 2, _select("<"))
larger = _operation(vector, 2, _select(">"))
# Two to the power of whole numbers, from -126 to 127.
power_of_two = _operation(vector, 1, _power)
nearest = _operation(vector, 1, _nearest)
# The first n lanes of a vector, and the others of another: (vector, n, other).
first = _operation(vector, (vector, types.int64, vector), _first)
total = _operation(types.float32, 1, _reduced("fadd", -0.0))
highest = _operation(types.float32, 1, _reduced("fmax", None))


def polynomial(coefficients: Sequence[float]) -> Any:
    """A function of a vector: the sum of coefficients, the constant first, times its powers."""

    def generate(builder: Any, values: list[Any]) -> Any:
        *others, sum_ = [ir.Constant(VECTOR, [each] * LANES) for each in coefficients]
        for each in reversed(others):
            sum_ = multiply_add(builder, sum_, values[0], each)
        return sum_

    return _operation(vector, 1, generate)
