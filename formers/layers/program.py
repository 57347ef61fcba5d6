"""A decoder's blocks as tables for one compiled call (`formers.kernels.decode`): few new tokens, and a cache.

It computes what `CausalBlock` computes, for the common kind of block only; `CausalBlock` is the reference and does the
rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from formers.kernels.blocks import MOST_ROWS, TILE, BlockWeight, Tiles
from formers.layers.activations import gelu_tanh
from formers.layers.attention import sdpa
from formers.layers.block import FeedForward
from formers.layers.causal import CausalBlock, CausalContext
from formers.layers.linear import Compact, JointWeight
from formers.layers.norms import RMSNorm
from formers.layers.prefill import Tables, prefill
from formers.layers.prompt import Prompt
from formers.layers.rotary import Rotary
from formers.layers.watch import Watch

if TYPE_CHECKING:
    from formers.layers.cache import Cache


@dataclass(frozen=True)
class _Weights:
    """The matrices of a block in the form that the kernel reads."""

    joint: BlockWeight
    output: BlockWeight
    gate: Tiles
    up: Tiles
    down: BlockWeight


class Program:
    """The tables of some blocks, and what they were made from: once that changes, they are not used any more."""

    def __init__(self, blocks: Sequence[CausalBlock], weights: Sequence[_Weights]) -> None:
        import numpy

        from formers.kernels import decode

        attention, mlp = blocks[0].self_attn, blocks[0].mlp
        assert isinstance(mlp, FeedForward)
        self.heads, self.key_heads, self.head_dim = attention.heads, attention.key_heads, attention.head_dim
        self.width, self.joint, self.ff = weights[0].joint.columns, weights[0].joint.width, weights[0].down.columns
        self.blocks, self.activation = blocks, _ACTIVATIONS[mlp.activation]
        self.windows = [block.self_attn.window for block in blocks]
        # Which blocks share a store of the cache, in its order, and which rotate alike.
        self._stores = [_equal(self.windows, window) for window in dict.fromkeys(self.windows)]
        rotary = [block.self_attn.rotary for block in blocks]
        self._rotary = [(kind, _equal(rotary, kind)) for kind in dict.fromkeys(rotary) if kind is not None]
        self._layers = numpy.zeros((len(blocks), decode.LAYER), dtype=numpy.int64)
        self._numbers = numpy.zeros((len(blocks), decode.NUMBERS), dtype=numpy.float64)
        shape = (self.width, self.heads, self.key_heads, self.head_dim, len(blocks), self.joint, self.ff)
        self._model = numpy.array(shape, dtype=numpy.int64)
        # Tables and tensors that others point to.
        self._kept: list[Any] = list(weights)
        for block, weight, row, numbers in zip(blocks, weights, self._layers, self._numbers, strict=True):
            self._describe(block, weight, row, numbers)
        self._watch = Watch(blocks)
        self._whole_blocks = all(map(_in_whole_blocks, blocks))

    @staticmethod
    def of(blocks: Iterable[nn.Module]) -> Program | None:
        """The program of a decoder's blocks, None where one is not of the common kind or has other weights."""
        every = list(blocks)
        chosen = [block for block in every if type(block) is CausalBlock]
        found = [_weights(block) for block in chosen if _is_plain(block)]
        weights = [each for each in found if each is not None]
        return Program(chosen, weights) if weights and len(weights) == len(every) else None

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        # A copy of a model has memory of its own and is prepared itself.
        return type(None), ()

    def current(self) -> bool:
        """Whether the blocks are what they were, and nobody looks at what happens inside of them."""
        return self._watch.unseen() and self._watch.same()

    def serves(self, x: Tensor, context: CausalContext, fresh: bool) -> bool:
        """Whether this computes the pass of x (T, W): float32, no gradients, nothing asked for on the way.

        More rows than few must be `fresh`: they see nothing but one another.
        """
        if x.dtype is not torch.float32 or context.function is not sdpa or torch.is_grad_enabled():
            return False
        if context.weights is not None or context.bias is not None or context.reading is not None:
            return False
        if x.shape[0] > MOST_ROWS and not (fresh and self._whole(context)):
            return False
        return not torch.compiler.is_compiling() and self.current()

    def _whole(self, context: CausalContext) -> bool:
        """Whether the tokens of each run see all before them."""
        longest = max(run.length for run in context.runs)
        return all(run.mask is None for run in context.runs) and all(w is None or w >= longest for w in self.windows)

    def run(
        self,
        x: Tensor,
        context: CausalContext,
        cache: Cache,
        rows: Sequence[int],
        counts: Sequence[int],
        last: Tensor | None,
    ) -> Tensor:
        """(T, W) to (T, W): `counts` new tokens of each cache row, those of `rows`, in this order, in x.

        The cache has room for them; they are stored there. With `last` (B), the places of the last token of each
        sequence, only these are given.
        """
        if x.shape[0] > MOST_ROWS and not self._whole_blocks:
            return Prompt(x, context, cache, rows, last).run(self.blocks, self.activation)
        state, sequences = self._state(cache, context, rows, counts)
        if x.shape[0] > MOST_ROWS:
            x = prefill(x, Tables(self._model, self._layers, state, self._numbers), [counts[row] for row in rows])
        else:
            x = self._few(x, state, max(cache.lengths) + max(counts), len(sequences[0]))
        return x if last is None else x[last]

    def _state(self, cache: Cache, context: CausalContext, rows: Sequence[int], counts: Sequence[int]) -> Any:
        """The table of the layers' places in the cache and of rotations, and the sequences that it points to."""
        import numpy

        from formers.kernels import decode

        state = numpy.zeros((len(self._layers), decode.STATE), dtype=numpy.int64)
        sequences = numpy.array([self._sequences(cache, store, rows, counts) for store in range(len(cache.stores))])
        for each, layers, store in zip(sequences, self._stores, cache.stores, strict=True):
            first, steps = store.memory.data_ptr(), [4 * step for step in store.memory.stride()]
            keys = numpy.arange(first, first + len(layers) * steps[1], steps[1])
            state[layers, 0], state[layers, 1] = keys, keys + steps[0]
            state[layers, 2], state[layers, 3], state[layers, 6] = steps[2], steps[3], each.ctypes.data
        for kind, layers in self._rotary:
            cos, sin = context.rotary[kind]
            state[layers, 4], state[layers, 5] = cos.data_ptr(), sin.data_ptr()
        return state, sequences

    def _few(self, x: Tensor, state: Any, longest: int, sequences: int) -> Tensor:
        import numpy

        from formers.kernels import decode
        from formers.kernels.team import together

        x = x.clone(memory_format=torch.contiguous_format)
        tokens = x.shape[0]
        threads = torch.get_num_threads()
        scratch = max(self.head_dim * (1 + tokens) + longest, 2 * tokens * TILE)
        sizes = (tokens * self.joint, tokens * self.heads * self.head_dim, tokens * self.ff)
        private = _lines(tokens * self.width) + _lines(scratch)
        work = torch.empty(sum(map(_lines, sizes)) + threads * private + 16)
        places = [work.data_ptr() + 63 & -64]
        for size in sizes:
            places.append(places[-1] + _lines(size) * 4)
        counters = numpy.zeros(len(self._layers) * 5 * 8 + 8, dtype=numpy.int64)
        tables = (self._model, self._layers, state, self._numbers)
        job = [0, 0, tokens, threads, *(table.ctypes.data for table in tables), x.data_ptr(), *places[:3]]
        job += [sequences, places[3], private * 4, counters.ctypes.data]
        together(decode.decode_body, numpy.array(job, dtype=numpy.int64), threads)
        return x

    def _sequences(self, cache: Cache, store: int, rows: Sequence[int], counts: Sequence[int]) -> list[list[int]]:
        """For each row with new tokens: the first of them, how many, the row, where they go, how far they see."""
        found, first, held = [], 0, cache.stores[store]
        window = -1 if held.window is None else held.window
        for row in rows:
            if counts[row]:
                found.append([first, counts[row], row, max(cache.lengths[row] - held.bases[row], 0), window])
            first += counts[row]
        return found

    def _describe(self, block: CausalBlock, weights: _Weights, row: Any, numbers: Any) -> None:
        attention = block.self_attn
        norms = (block.attn_norm, block.mlp_norm, attention.q_norm, attention.k_norm)
        for index, norm in enumerate(norms):
            if isinstance(norm, RMSNorm):
                row[index] = norm.weight.data_ptr()
                numbers[2 * index : 2 * index + 2] = norm.eps, norm.offset
        numbers[8] = attention.scale
        bias = weights.joint.bias
        if bias is not None:
            filled = F.pad(bias, (0, self.joint - len(bias)))
            self._kept.append(filled)
            row[4] = filled.data_ptr()
        segments = (weights.joint.tiles, weights.output.tiles, [weights.gate], [weights.up], weights.down.tiles)
        for index, tiles in enumerate(segments, 5):
            row[index] = self._segments(tiles)
        row[13] = 0 if attention.rotary is None else attention.rotary.dim
        row[14] = self.activation

    def _segments(self, tiles: Sequence[Tiles]) -> int:
        """The address of a table of tiles."""
        import numpy

        from formers.kernels import decode

        table = numpy.zeros((len(tiles), decode.SEGMENT), dtype=numpy.int64)
        for row, each in zip(table, tiles, strict=True):
            groups, blocks, size = each.data.shape
            row[:7] = each.form, each.data.data_ptr(), size, blocks, each.columns, groups, each.start
        self._kept.append(table)
        return int(table.ctypes.data)


def _equal(values: Sequence[object], value: object) -> list[int]:
    """The places of what equals `value`."""
    return [place for place, each in enumerate(values) if each == value]


# By their numbers in formers.kernels.decode.
_ACTIVATIONS: Mapping[Any, int] = {F.silu: 0, gelu_tanh: 1}


def _lines(floats: int) -> int:
    """So many floats, filled up to whole lines of the processor's caches."""
    return -(-floats // 16) * 16


def _is_plain(block: CausalBlock) -> bool:
    """Whether a block is of the common kind: RMS norms first, rotary positions or none, a gated feed-forward."""
    attention, mlp = block.self_attn, block.mlp
    rotary: Rotary | None = attention.rotary
    return (
        block.norm_first
        and not (block.norm_after or block.parallel or block.attn_dropout or block.mlp_dropout)
        and block.attn_output_norm is None
        and block.mlp_output_norm is None
        and block.cross is None
        and all(type(norm) is RMSNorm for norm in (block.attn_norm, block.mlp_norm))
        and all(norm is None or type(norm) is RMSNorm for norm in (attention.q_norm, attention.k_norm))
        and not (attention.whole_norms or attention.dropout or attention.slopes or attention.cap)
        and (rotary is None or not rotary.interleaved)
        and type(mlp) is FeedForward
        and mlp.gate_proj is not None
        and not mlp.dropout
        and mlp.activation in _ACTIVATIONS
    )


def _in_whole_blocks(block: CausalBlock) -> bool:
    """Whether heads and what turns of them fill whole blocks of 32 columns, and only the blocks have norms."""
    attention = block.self_attn
    norms = (block.attn_norm, block.mlp_norm)
    return (
        attention.head_dim % TILE == 0
        and attention.q_norm is None
        and attention.k_norm is None
        and (attention.rotary is None or attention.rotary.dim % TILE == 0)
        and all(isinstance(norm, RMSNorm) and not norm.offset for norm in norms)
    )


def _weights(block: CausalBlock) -> _Weights | None:
    """The matrices of a block, None where they are not all here and of whole tiles."""
    attention, mlp = block.self_attn, block.mlp
    assert isinstance(mlp, FeedForward)
    joint, both, output, down = map(
        _blocks, (attention.joint, mlp.joint, attention.o_proj.compact, mlp.down_proj.compact)
    )
    if joint is None or both is None or output is None or down is None:
        return None
    if both.bias is not None or output.bias is not None or down.bias is not None:
        return None
    gate, up = both.cut(0, down.columns), both.cut(down.columns, 2 * down.columns)
    if joint.columns % TILE or gate is None or up is None:
        return None
    return _Weights(joint, output, gate, up, down)


def _blocks(weight: JointWeight | Compact | None) -> BlockWeight | None:
    product = None if weight is None else weight.product
    return product if isinstance(product, BlockWeight) else None
