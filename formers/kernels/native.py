"""Machine operations that numba has no names for. Addresses are 64-bit integers."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_WORD, _NUMBER = ir.IntType(64), ir.IntType(32)
_ADDRESS = ir.IntType(8).as_pointer()
_PARALLEL = ir.FunctionType(ir.VoidType(), [_ADDRESS, _ADDRESS, _NUMBER, _NUMBER])


def _operation(function: Any) -> Any:
    """An intrinsic, whose typing context callers do not pass."""
    return intrinsic(function)


@_operation
def load(_typing: Any, address: Any) -> Any:
    """The word at an address."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.load(builder.inttoptr(args[0], _WORD.as_pointer()), typ=_WORD)

    return types.int64(types.int64), generate


@_operation
def add(_typing: Any, address: Any, value: Any) -> Any:
    """Add to a word that threads share; what it was before."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", builder.inttoptr(args[0], _WORD.as_pointer()), args[1], "seq_cst")

    return types.int64(types.int64, types.int64), generate


@_operation
def call_parallel(_typing: Any, function: Any, body: Any, argument: Any, threads: Any) -> Any:
    """Call GOMP_parallel, which lies at `function`: `threads` threads call body(argument), this one is one of them."""

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        target = builder.inttoptr(args[0], _PARALLEL.as_pointer())
        pointers = [builder.inttoptr(each, _ADDRESS) for each in args[1:3]]
        builder.call(target, [*pointers, builder.trunc(args[3], _NUMBER), ir.Constant(_NUMBER, 0)])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64), generate
