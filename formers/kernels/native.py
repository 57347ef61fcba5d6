"""Machine operations that numba has no names for. Addresses are 64-bit integers.

Importing this raises ImportError on a processor whose compiled code could not read 16-bit floats.
"""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

# What the processor that code is compiled for can do, in LLVM's names.
FEATURES = frozenset(cpu_target.target_context.codegen().magic_tuple()[2].split(","))
if "+f16c" not in FEATURES and platform.machine().lower() in ("x86_64", "amd64"):
    raise ImportError("The compiled kernels need a processor with F16C; without them torch does their work.")

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
def word(_typing: Any, table: Any, index: Any) -> Any:
    """A word of a table; the index may be a member of an enumeration."""

    # Not a compiled function: what numba keeps of one names the enumerations of all its callers.
    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        address = builder.add(args[0], builder.shl(args[1], ir.Constant(_WORD, 3)))
        return builder.load(builder.inttoptr(address, _WORD.as_pointer()), typ=_WORD)

    return types.int64(types.int64, types.int64), generate


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


@_operation
def pointer(_typing: Any, address: Any) -> Any:
    """An address as a pointer."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], _ADDRESS)

    return types.voidptr(types.int64), generate


@_operation
def power_of_two(_typing: Any, exponent: Any) -> Any:
    """2 to the power of a whole number between -126 and 127, as a 32-bit float."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        bits = builder.shl(builder.add(args[0], ir.Constant(_NUMBER, 127)), ir.Constant(_NUMBER, 23))
        return builder.bitcast(bits, ir.FloatType())

    return types.float32(types.int32), generate


@_operation
def call(_typing: Any, function: Any) -> Any:
    """Call the function without arguments or result that lies at an address."""

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [])
        return context.get_dummy_value()

    return types.void(types.int64), generate


@_operation
def ask(_typing: Any, function: Any) -> Any:
    """The number that the function without arguments at an address returns."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(_NUMBER, [])
        return builder.sext(builder.call(builder.inttoptr(args[0], kind.as_pointer()), []), _WORD)

    return types.int64(types.int64), generate
