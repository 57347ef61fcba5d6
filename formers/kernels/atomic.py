"""Memory that threads share, in code compiled by numba: addresses are 64-bit integers."""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_WORD = ir.IntType(64)
_ORDER = "seq_cst"
_PAUSES = platform.machine().lower() in ("x86_64", "amd64", "i686")


def _operation(function: Any) -> Any:
    """An intrinsic, whose typing context callers do not pass."""
    return intrinsic(function)


@_operation
def load(_typing: Any, address: Any) -> Any:
    """The word at an address, as other threads left it."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.load_atomic(_pointer(builder, args[0]), _ORDER, 8, typ=_WORD)

    return types.int64(types.int64), generate


@_operation
def store(_typing: Any, address: Any, value: Any) -> Any:
    """Put a word where other threads see it."""

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        builder.store_atomic(args[1], _pointer(builder, args[0]), _ORDER, 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@_operation
def add(_typing: Any, address: Any, value: Any) -> Any:
    """Add to a word; what it was before."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", _pointer(builder, args[0]), args[1], _ORDER)

    return types.int64(types.int64, types.int64), generate


@_operation
def replace(_typing: Any, address: Any, old: Any, new: Any) -> Any:
    """Put `new` where `old` still stands; whether it did."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        pair = builder.cmpxchg(_pointer(builder, args[0]), args[1], args[2], _ORDER, _ORDER)
        return builder.extract_value(pair, 1)

    return types.boolean(types.int64, types.int64, types.int64), generate


@_operation
def pause(_typing: Any) -> Any:
    """Tell the processor that this thread waits for another."""

    def generate(context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        if _PAUSES:
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), generate


def _pointer(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, _WORD.as_pointer())
