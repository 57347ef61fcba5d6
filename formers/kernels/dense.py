"""A decoder's layers as `step` takes them: matrices in panels, tables of addresses, calls on torch's own threads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
import torch
from torch import Tensor

from formers.kernels.panels import Norm, Panels, Product, Scratch, Shape, blocks, joined, lay_out
from formers.kernels.step import Call, Layer, Model, State, step_body
from formers.kernels.team import library, together
from formers.kernels.tiles import ROW, tile


@dataclass(frozen=True)
class CrossWeights:
    """What a layer reads an encoder with; the norm stands before the query, or where norms come last after all."""

    query: Product
    output: Product
    norm: Norm


@dataclass(frozen=True)
class DecoderWeights:
    """What a layer computes with; the norms stand before its halves, or after them."""

    query: Product
    key: Product
    value: Product
    output: Product
    up: Product
    gate: Product | None
    down: Product
    first: Norm
    last: Norm
    cross: CrossWeights | None


@dataclass(frozen=True)
class DecoderShape(Shape):
    """The same for a decoder; norms that are not `centred` are RMS."""

    centred: bool
    norm_first: bool


@dataclass(frozen=True)
class Held:
    """What a layer reads: keys and values of the cache (rows, capacity, heads, D), of sources (sources, heads, S, D).

    `bias` (heads, N) is added to the scores of the cache by distances from 1 - N to 0.
    """

    keys: Tensor
    values: Tensor
    bias: Tensor | None
    cross: tuple[Tensor, Tensor] | None


class DecoderLayers:
    """Layers in memory of their own, for calls from any number of threads."""

    def __init__(self, shape: DecoderShape, layers: Sequence[DecoderWeights]) -> None:
        self._shape = shape
        self._panels = panels = Panels()
        # A norm before a half comes after the one before it.
        nexts = [*layers[1:], layers[0]]
        tables = [self._layer(*each) for each in zip(layers, nexts, strict=True)]
        words = [0] * Model.WORDS
        # The kernel looks at the layer that follows; the last one stands in for it.
        words[Model.LAYERS], words[Model.TABLE] = len(layers), panels.keep(torch.tensor([*tables, tables[-1]]))
        words[Model.HEADS], words[Model.HEAD_WIDTH], words[Model.WIDTH] = shape.heads, shape.head_width, shape.width
        words[Model.INNER_BLOCKS], words[Model.ACTIVATION] = blocks(shape.inner), shape.activation
        words[Model.NUMBERS] = panels.keep(torch.tensor([shape.epsilon, shape.scale], dtype=torch.float32))
        words[Model.ZEROS], words[Model.CENTRED] = panels.vector(None, shape.width), int(shape.centred)
        if shape.norm_first:
            words[Model.NORM : Model.NORM_BIAS + 1] = panels.norm(layers[0].first)
        self._model = panels.keep(torch.tensor(words))
        self._scratch = Scratch()

    def __call__(
        self,
        x: Tensor,
        rows: Sequence[tuple[int, int, int]],
        held: Sequence[Held],
        mask: Tensor | None,
        origins: Tensor | None = None,
    ) -> Tensor:
        """Embeddings (R, W) of one new token a row to the states after the last layer, without a norm that follows it.

        rows: of each the row of the cache, how many tokens are there, and its source. mask: added to the scores of the
        sources, (sources, S). origins: in which row of the cache each token of each row lies, (rows, N).
        """
        x = x.contiguous()
        out = torch.empty_like(x)
        openmp = library()
        threads = torch.get_num_threads() if openmp.parallel else 1
        keys, cross = held[0].keys, held[0].cross
        source = 0 if cross is None else cross[0].shape[2]
        longest = max(source, 1 + max(tokens for _, tokens, _ in rows))
        words = [0] * Call.WORDS
        words[Call.MODEL], words[Call.X], words[Call.OUT] = self._model, x.data_ptr(), out.data_ptr()
        words[Call.THREAD], words[Call.THREADS] = openmp.thread, openmp.threads
        words[Call.ROWS], words[Call.TILE] = len(rows), tile.address or 0
        words[Call.ROW_STEP], words[Call.TOKEN_STEP] = keys.stride(0) * 4, keys.stride(1) * 4
        if origins is not None:
            words[Call.ORIGINS], words[Call.CAPACITY] = origins.data_ptr(), origins.shape[1]
        words[Call.SOURCE], words[Call.MASK] = source, 0 if mask is None else mask.data_ptr()
        scratch = self._scratch.take(self._places(words, len(rows), longest, threads))
        words[Call.SCRATCH] = scratch.data_ptr()
        call = numpy.array([*words, *(word for row in rows for word in row), *(w for h in held for w in _state(h))])
        call[Call.ROW] = call.ctypes.data + 8 * len(words)
        call[Call.STATE] = call[Call.ROW] + 24 * len(rows)
        together(step_body, call, threads)
        self._scratch.give(scratch)
        return out

    def _places(self, words: list[int], rows: int, longest: int, threads: int) -> int:
        """Write where in scratch memory what is; returns the bytes of all threads."""
        shape, line = self._shape, (rows + 2) * ROW
        width, head = blocks(shape.width), blocks(shape.head_width)
        # OpenMP may start fewer threads than it was asked for: each has room for all heads and inner columns.
        heads, inner = shape.heads, blocks(shape.inner)
        shared = {Call.STATES: width * line, Call.NORMED: width * line}
        own = {
            Call.JOINT: 3 * heads * head * line,
            Call.SCORES: blocks(longest) * ROW,
            Call.MIXED: heads * head * line,
            Call.PART: width * line,
            Call.INNER: inner * line,
            Call.GATED: inner * line,
        }
        lay_out(words, shared, Call.SHARED)
        lay_out(words, own, Call.PRIVATE)
        return words[Call.SHARED] + threads * words[Call.PRIVATE]

    def _layer(self, layer: DecoderWeights, following: DecoderWeights) -> list[int]:
        shape, panels, cross = self._shape, self._panels, layer.cross
        first, after, last = layer.first, None if cross is None else cross.norm, layer.last
        if shape.norm_first:
            first, after, last = after or layer.last, layer.last, following.first
        words = [0] * Layer.WORDS

        def put(place: int, found: Sequence[int]) -> None:
            words[place : place + len(found)] = found

        put(Layer.INPUT, panels.product(joined((layer.query, layer.key, layer.value), shape.heads)))
        put(Layer.OUTPUT, panels.product(layer.output.filled(shape.heads)))
        put(Layer.FIRST_NORM, panels.norm(first))
        if cross is not None and after is not None:
            put(Layer.CROSS_QUERY, panels.product(joined((cross.query,), shape.heads)))
            put(Layer.CROSS_OUTPUT, panels.product(cross.output.filled(shape.heads)))
            put(Layer.CROSS_NORM, panels.norm(after))
        put(Layer.UP, panels.product(layer.up))
        if layer.gate is not None:
            put(Layer.GATE, panels.product(layer.gate))
        put(Layer.DOWN, panels.product(layer.down.filled()))
        put(Layer.LAST_NORM, panels.norm(last))
        return words


def _state(held: Held) -> list[int]:
    words = [0] * State.WORDS
    words[State.KEYS], words[State.VALUES] = held.keys.data_ptr(), held.values.data_ptr()
    if held.bias is not None:
        words[State.BIAS], words[State.BIAS_WIDTH] = held.bias.data_ptr(), held.bias.shape[1]
    if held.cross is not None:
        words[State.CROSS_KEYS], words[State.CROSS_VALUES] = (each.data_ptr() for each in held.cross)
    return words
