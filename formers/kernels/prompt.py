"""What stands between the products of a decoder's block where tokens are many: one pass over memory for each.

Threads take portions of the rows. Tables and addresses are 64-bit integers; `formers.layers.program` makes them.
Compiled code of `formers.kernels.decode` is part of what numba keeps for this file: change both together.
"""

from __future__ import annotations

import numpy as np
from numba import cfunc, njit
from numba.np.numpy_support import carray

from formers.kernels import native
from formers.kernels.decode import floats, gated, norm, turn, words_at

# Words of a job: rows taken, one that is not used, rows, what to do, addresses of numbers and of places, arguments.
JOB = 20
NORM, HEADS, GATED = 0, 1, 2
_PORTION = 16


@njit(nogil=True, cache=True)
def _norm_row(job: int, row: int) -> None:
    """Arguments: width, x, weights, out; numbers: eps, offset."""
    words = words_at(job, JOB)
    numbers = carray(native.pointer(words[4]), 2, dtype=np.float64)
    step = words[6] * 4
    norm(words[7] + row * step, words[8], words[6], numbers[0], numbers[1], words[9] + row * step)


@njit(nogil=True, cache=True)
def _heads_row(job: int, row: int) -> None:
    """Norm and rotate queries and keys of a token in place, and store its keys and values.

    Arguments: heads, key heads, head width, rotated values, queries with keys and values, cosines, sines, keys and
    values stored, weights of the norms of queries and keys (0: none); numbers: eps and offset of each.
    """
    words = words_at(job, JOB)
    heads, key_heads, width, dim = words[6], words[7], words[8], words[9]
    numbers = carray(native.pointer(words[4]), 4, dtype=np.float64)
    line = words[10] + row * (heads + 2 * key_heads) * width * 4
    for head in range(heads + key_heads):
        at, own = line + head * width * 4, 0 if head < heads else 1
        if words[15 + own]:
            norm(at, words[15 + own], width, numbers[2 * own], numbers[2 * own + 1], at)
        if dim:
            turn(at, dim, words[11] + row * dim * 4, words[12] + row * dim * 4)
    if words[13]:
        place = native.load(words[5] + row * 8)
        size = key_heads * width
        for part in range(2):
            source = floats(line + heads * width * 4 + part * size * 4, size)
            target = floats(words[13 + part] + place, size)
            for i in range(size):
                target[i] = source[i]


@njit(nogil=True, cache=True)
def _gated_row(job: int, row: int) -> None:
    """Arguments: width, activation, gates beside their inputs, out."""
    words = words_at(job, JOB)
    step = words[6] * 4
    gates = words[8] + row * step * 2
    gated(words[7], gates, gates + step, words[6], words[9] + row * step)


@cfunc("void(int64)", cache=True)
def prompt_body(job: int) -> None:
    """What every thread does."""
    words = words_at(job, JOB)
    rows, kind = words[2], words[3]
    while True:
        first = native.add(job, _PORTION)
        if first >= rows:
            return
        for row in range(first, min(first + _PORTION, rows)):
            if kind == NORM:
                _norm_row(job, row)
            elif kind == HEADS:
                _heads_row(job, row)
            else:
                _gated_row(job, row)
