"""Encoder layers as `stack` takes them: matrices in panels, tables of addresses, and calls on torch's own threads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy
import torch
from torch import Tensor

from formers.kernels.panels import Norm, Panels, Product, Scratch, Shape, blocks, joined, lay_out
from formers.kernels.rows import ASKING, CHUNK
from formers.kernels.stack import Call, Model, body
from formers.kernels.team import library, together
from formers.kernels.tiles import COLUMNS, ROW, tile

# Tokens a thread takes at once, about, where it takes sequences of its own: each reads all weights once, but with few
# groups a thread waits for the others at the end.
GROUP = (96, 512)
# Groups that a thread shall have before they grow.
_GROUPS = 4


@dataclass(frozen=True)
class LayerWeights:
    """What a layer computes with; `middle` and `last` are the norms after its first and its second half."""

    query: Product
    key: Product
    value: Product
    output: Product
    up: Product
    down: Product
    middle: Norm
    last: Norm


class PackedLayers:
    """Layers in memory of their own, for calls from any number of threads.

    Matrices are 16-bit floats where these hold them exactly, else float32. `norm` comes
    before the first layer where norms come first.
    """

    def __init__(self, shape: Shape, layers: Sequence[LayerWeights], norm: Norm | None) -> None:
        self._shape = shape
        self._panels = panels = Panels()
        # A layer may run several times.
        different = {id(layer): layer for layer in layers}
        made = {name: self._layer(layer) for name, layer in different.items()}
        tables = [made[id(layer)] for layer in layers]
        words = [0] * Model.WORDS
        # The kernel looks at the layer that follows; the last one stands in for it.
        words[Model.LAYERS], words[Model.TABLE] = len(layers), panels.keep(torch.tensor([*tables, tables[-1]]))
        words[Model.HEADS], words[Model.HEAD_WIDTH] = shape.heads, shape.head_width
        words[Model.WIDTH], words[Model.INNER_BLOCKS] = shape.width, blocks(shape.inner)
        words[Model.ACTIVATION] = shape.activation
        words[Model.NUMBERS] = panels.keep(torch.tensor([shape.epsilon, shape.scale], dtype=torch.float32))
        words[Model.ZEROS] = panels.keep(torch.zeros(COLUMNS))
        if norm is not None:
            words[Model.NORM : Model.NORM_BIAS + 1] = panels.norm(norm)
        self._model = panels.keep(torch.tensor(words))
        self._scratch = Scratch()

    def __call__(self, x: Tensor, lengths: Sequence[int], narrow: bool = False) -> Tensor:
        """Hidden states (T, W) of sequences of these lengths, end to end, to those after the last layer.

        `narrow` gives those of each sequence's first token alone, (sequences, W).
        """
        x = x.contiguous()
        out = x.new_empty(len(lengths) if narrow else len(x), self._shape.width)
        openmp = library()
        threads = torch.get_num_threads() if openmp.parallel else 1
        groups = _groups(lengths, threads)
        places: list[int] = []
        for start, count in groups:
            row = 0
            for length in lengths[start : start + count]:
                places += (row, length)
                row += length
        first, table = 0, []
        for start, count in groups:
            rows = sum(lengths[start : start + count])
            table += [start, count, first, rows]
            first += rows
        words = [0] * Call.WORDS
        words[Call.MODEL], words[Call.X], words[Call.OUT] = self._model, x.data_ptr(), out.data_ptr()
        words[Call.GROUPS], words[Call.NARROW] = len(groups), int(narrow)
        words[Call.THREAD], words[Call.THREADS] = openmp.thread, openmp.threads
        words[Call.TILE] = tile.address or 0
        size = self._places(words, max(table[3::4]), max(lengths), max(table[1::4]))
        scratch = self._scratch.take(size * threads)
        words[Call.SCRATCH] = scratch.data_ptr()
        call = numpy.array([*words, *table, *places], dtype=numpy.int64)
        call[Call.GROUP] = call.ctypes.data + 8 * len(words)
        call[Call.SEQUENCE] = call[Call.GROUP] + 8 * len(table)
        together(body, call, threads)
        self._scratch.give(scratch)
        return out

    def _places(self, words: list[int], rows: int, longest: int, sequences: int) -> int:
        """Write where in scratch memory what is; returns the bytes of a thread, those that threads share included."""
        shape = self._shape
        width, head, line = blocks(shape.width), blocks(shape.head_width), (rows + 2) * ROW
        shared = {
            Call.STATES: width * line,
            Call.NORMED: width * line,
            Call.FIRST_STATES: width * (sequences + 2) * ROW,
            Call.FIRST_NORMED: width * (sequences + 2) * ROW,
        }
        own = {
            Call.QUERY: head * line,
            Call.KEY: 2 * head * line,
            Call.TURNED: blocks(longest) * shape.head_width * ROW,
            Call.SCORES: blocks(longest) * (ASKING + 2) * ROW,
            Call.MIXED: shape.heads * head * line,
            Call.PART: width * line,
            Call.INNER: blocks(shape.inner) * (CHUNK + 2) * ROW,
        }
        lay_out(words, shared, Call.SHARED)
        lay_out(words, own, Call.PRIVATE)
        return words[Call.SHARED] + words[Call.PRIVATE]

    def _layer(self, layer: LayerWeights) -> list[int]:
        shape, panels = self._shape, self._panels
        return [
            *panels.product(joined((layer.query, layer.key, layer.value), shape.heads)),
            *panels.product(layer.output.filled(shape.heads)),
            *panels.product(layer.up),
            *panels.product(layer.down.filled()),
            *panels.norm(layer.middle),
            *panels.norm(layer.last),
        ]


def _groups(lengths: Sequence[int], threads: int) -> list[tuple[int, int]]:
    """Neighbouring sequences (first, count) of about as many tokens for each thread to take; one group to share all."""
    tokens = sum(lengths)
    size = min(max(tokens // (threads * _GROUPS), GROUP[0]), GROUP[1])
    count = threads * math.ceil(tokens / (threads * size))
    if count == 1 or tokens < threads * size // 2 or len(lengths) < count:
        return [(0, len(lengths))]
    groups: list[tuple[int, int]] = []
    start = passed = 0
    for index, length in enumerate(lengths):
        passed += length
        if passed * count >= tokens * (len(groups) + 1) or index == len(lengths) - 1:
            groups.append((start, index + 1 - start))
            start = index + 1
    sizes = [sum(lengths[start : start + count]) for start, count in groups]
    # A thread with little to do would wait for the others.
    return groups if max(sizes) * len(groups) < 1.2 * tokens else [(0, len(lengths))]
