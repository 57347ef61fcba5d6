"""Encoder layers as `stack` takes them: matrices in panels, tables of addresses, and calls on torch's own threads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy
import torch
from torch import Tensor

from formers.kernels.blocks import Memory
from formers.kernels.stack import CHUNK, Activation, Call, Model, body
from formers.kernels.team import library, together
from formers.kernels.tiles import COLUMNS, ROW, tile

# Tokens a thread takes at once, about, where it takes sequences of its own: each reads all weights once, but with few
# groups a thread waits for the others at the end.
GROUP = (96, 512)
# Groups that a thread shall have before they grow.
_GROUPS = 4


@dataclass(frozen=True)
class Product:
    """Weights (out, in) and bias (out,) of a dense layer."""

    weight: Tensor
    bias: Tensor | None


@dataclass(frozen=True)
class Norm:
    """Weight and bias of a layer norm."""

    weight: Tensor
    bias: Tensor | None


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


@dataclass(frozen=True)
class Shape:
    """What all layers have in common. `scale` multiplies attention scores."""

    width: int
    heads: int
    head_width: int
    inner: int
    activation: Activation
    epsilon: float
    scale: float


class PackedLayers:
    """Layers in memory of their own, for calls from any number of threads.

    Matrices are 16-bit floats where these hold them exactly, else float32. `norm` comes
    before the first layer where norms come first.
    """

    def __init__(self, shape: Shape, layers: Sequence[LayerWeights], norm: Norm | None) -> None:
        self._shape = shape
        self._memory = Memory()
        # What the tables' addresses point to.
        self._kept: list[Tensor] = []
        # A layer may run several times.
        different = {id(layer): layer for layer in layers}
        made = {name: self._layer(layer) for name, layer in different.items()}
        tables = [made[id(layer)] for layer in layers]
        words = [0] * Model.WORDS
        # The kernel looks at the layer that follows; the last one stands in for it.
        words[Model.LAYERS], words[Model.TABLE] = len(layers), self._keep(torch.tensor([*tables, tables[-1]]))
        words[Model.HEADS], words[Model.HEAD_WIDTH] = shape.heads, shape.head_width
        words[Model.WIDTH], words[Model.INNER_BLOCKS] = shape.width, _blocks(shape.inner)
        words[Model.ACTIVATION] = shape.activation
        words[Model.NUMBERS] = self._keep(torch.tensor([shape.epsilon, shape.scale], dtype=torch.float32))
        words[Model.ZEROS] = self._keep(torch.zeros(COLUMNS))
        if norm is not None:
            words[Model.NORM : Model.NORM_BIAS + 1] = self._norm(norm)
        self._model = self._keep(torch.tensor(words))
        # Scratch memory that no call uses now.
        self._free: list[Tensor] = []

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
        scratch = self._scratch(size * threads)
        words[Call.SCRATCH] = scratch.data_ptr()
        call = numpy.array([*words, *table, *places], dtype=numpy.int64)
        call[Call.GROUP] = call.ctypes.data + 8 * len(words)
        call[Call.SEQUENCE] = call[Call.GROUP] + 8 * len(table)
        together(body, call, threads)
        self._free.append(scratch)
        return out

    def _places(self, words: list[int], rows: int, longest: int, sequences: int) -> int:
        """Write where in scratch memory what is; returns the bytes of a thread, those that threads share included."""
        shape = self._shape
        width, head, line = _blocks(shape.width), _blocks(shape.head_width), (rows + 2) * ROW
        shared = {
            Call.STATES: width * line,
            Call.NORMED: width * line,
            Call.FIRST_STATES: width * (sequences + 2) * ROW,
            Call.FIRST_NORMED: width * (sequences + 2) * ROW,
        }
        own = {
            Call.QUERY: head * line,
            Call.KEY: 2 * head * line,
            Call.TURNED: _blocks(longest) * shape.head_width * ROW,
            Call.SCORES: _blocks(longest) * (CHUNK + 2) * ROW,
            Call.MIXED: shape.heads * head * line,
            Call.PART: width * line,
            Call.INNER: _blocks(shape.inner) * (CHUNK + 2) * ROW,
        }
        for places, total in ((shared, Call.SHARED), (own, Call.PRIVATE)):
            for place, size in places.items():
                words[place] = words[total]
                words[total] += size
        return words[Call.SHARED] + words[Call.PRIVATE]

    def _scratch(self, size: int) -> Tensor:
        try:
            found = self._free.pop()
        except IndexError:
            found = torch.empty(0)
        return found if found.nbytes >= size else torch.zeros(-(-size // 4))

    def _layer(self, layer: LayerWeights) -> list[int]:
        shape = self._shape
        head = _blocks(shape.head_width) * COLUMNS
        inputs = (layer.query, layer.key, layer.value)
        joint = torch.zeros(shape.heads, 3, head, shape.width)
        joint_bias = torch.zeros(shape.heads, 3, head)
        for place, part in enumerate(inputs):
            joint[:, place, : shape.head_width] = part.weight.view(shape.heads, shape.head_width, shape.width)
            if part.bias is not None:
                joint_bias[:, place, : shape.head_width] = part.bias.view(shape.heads, shape.head_width)
        output = torch.zeros(shape.width, shape.heads, head)
        output[:, :, : shape.head_width] = layer.output.weight.view(shape.width, shape.heads, shape.head_width)
        down = torch.zeros(shape.width, _blocks(shape.inner) * COLUMNS)
        down[:, : shape.inner] = layer.down.weight
        return [
            *self._product(joint.flatten(0, 2), joint_bias.flatten()),
            *self._product(output.flatten(1), layer.output.bias),
            *self._product(layer.up.weight, layer.up.bias),
            *self._product(down, layer.down.bias),
            *self._norm(layer.middle),
            *self._norm(layer.last),
        ]

    def _product(self, weight: Tensor, bias: Tensor | None) -> tuple[int, int, int]:
        rows, columns = weight.shape
        padded = _blocks(rows) * COLUMNS
        half = torch.equal(weight.half().float(), weight)
        dtype = torch.float16 if half else torch.float32
        panels = self._memory.take(padded * columns * dtype.itemsize).view(dtype).view(-1, columns, COLUMNS)
        whole = rows // COLUMNS
        panels[:whole] = weight[: whole * COLUMNS].view(whole, COLUMNS, columns).transpose(1, 2)
        if rows % COLUMNS:
            panels[whole] = 0
            panels[whole, :, : rows % COLUMNS] = weight[whole * COLUMNS :].t()
        self._kept.append(panels)
        return panels.data_ptr(), self._vector(bias, rows), int(half)

    def _norm(self, norm: Norm) -> tuple[int, int]:
        return self._vector(norm.weight, len(norm.weight)), self._vector(norm.bias, len(norm.weight))

    def _vector(self, vector: Tensor | None, size: int) -> int:
        padded = torch.zeros(_blocks(size) * COLUMNS)
        if vector is not None:
            padded[:size] = vector
        return self._keep(padded)

    def _keep(self, tensor: Tensor) -> int:
        self._kept.append(tensor)
        return tensor.data_ptr()


def _blocks(columns: int) -> int:
    return -(-columns // COLUMNS)


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
