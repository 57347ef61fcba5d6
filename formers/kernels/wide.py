"""The product of a few rows with a wide matrix, such as a vocabulary's, in panels of 32 columns (see `tiles`)."""

from __future__ import annotations

from enum import IntEnum

import numpy
import torch
from numba import cfunc
from torch import Tensor

from formers.kernels import native
from formers.kernels.native import word
from formers.kernels.panels import Panels, Product, Scratch, blocks
from formers.kernels.rows import copy_rows, product
from formers.kernels.team import together
from formers.kernels.tiles import COLUMNS, ROW, tile

# Panels that a thread takes at a time.
_PORTION = 4


class Call(IntEnum):
    """Words of one call; steps are in bytes."""

    NEXT = 0
    TILE = 2
    X = 3
    STEP = 4
    INPUTS = 5
    PANELS = 6
    BIAS = 7
    HALF = 8
    COUNT = 9
    ROWS = 10
    OUT = 11
    # How many columns the result has.
    WIDTH = 12
    # One block for each thread, and how many have been taken.
    SCRATCH = 13
    TAKEN = 14
    WORDS = 15


@cfunc("void(int64)", cache=True)
def wide_body(call: int) -> None:
    """What every thread does: take some panels until there are none."""
    inputs, rows, width, step = (
        word(call, Call.INPUTS),
        word(call, Call.ROWS),
        word(call, Call.WIDTH),
        word(call, Call.STEP),
    )
    half, count, out = word(call, Call.HALF), word(call, Call.COUNT), word(call, Call.OUT)
    scratch = word(call, Call.SCRATCH) + native.add(call + 8 * Call.TAKEN, 1) * (rows + 2) * ROW
    panel = inputs * COLUMNS * (2 if half else 4)
    while True:
        begin = native.add(call, _PORTION)
        if begin >= count:
            return
        for number in range(begin, min(begin + _PORTION, count)):
            panels, bias = word(call, Call.PANELS) + number * panel, word(call, Call.BIAS) + number * ROW
            product(
                word(call, Call.TILE), half, word(call, Call.X), step, inputs, panels, panel, 1, panels + panel, bias,
                0, rows, scratch, 0, 0,
            )  # fmt: skip
            columns = min(COLUMNS, width - number * COLUMNS)
            copy_rows(scratch, ROW, 0, out + number * ROW, width * 4, 0, rows, columns)


class WideWeight:
    """A dense layer's weights (out, in) and bias (out,) in memory of their own, for calls from any thread."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._width, self._inputs = weight.shape
        self._panels = Panels()
        with torch.no_grad():
            self._places = self._panels.product(Product(weight, bias))
        self._scratch = Scratch()

    def __call__(self, x: Tensor) -> Tensor:
        """Float32 (T, in) to (T, out)."""
        rows, threads, count = len(x), torch.get_num_threads(), blocks(self._inputs)
        out = x.new_empty(rows, self._width)
        line = (rows + 2) * ROW
        scratch = self._scratch.take((count + threads) * line)
        inputs = scratch[: count * line // 4].view(count, rows + 2, COLUMNS)
        whole = self._inputs // COLUMNS
        inputs[:whole, :rows] = x[:, : whole * COLUMNS].view(rows, whole, COLUMNS).transpose(0, 1)
        if self._inputs % COLUMNS:
            inputs[whole, :rows, : self._inputs % COLUMNS] = x[:, whole * COLUMNS :]
        words = [0] * Call.WORDS
        words[Call.TILE], words[Call.X], words[Call.STEP] = tile.address or 0, inputs.data_ptr(), line
        words[Call.INPUTS], words[Call.WIDTH], words[Call.COUNT] = self._inputs, self._width, blocks(self._width)
        words[Call.PANELS], words[Call.BIAS], words[Call.HALF] = self._places
        words[Call.ROWS], words[Call.OUT], words[Call.SCRATCH] = rows, out.data_ptr(), inputs.data_ptr() + count * line
        call = numpy.array(words, dtype=numpy.int64)
        together(wide_body, call, threads)
        self._scratch.give(scratch)
        return out
