"""A decoder's blocks for many tokens that see themselves alone: products by torch, one compiled pass between them.

It computes what `CausalBlock` computes, for the blocks that have a program; `CausalBlock` is the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from formers.layers.block import FeedForward
from formers.layers.causal import CausalBlock, CausalContext
from formers.layers.norms import RMSNorm

if TYPE_CHECKING:
    from formers.layers.cache import Cache


class Prompt:
    """One pass of x (T, W), in the runs of `context`; `rows` are those of the cache, in the order of the runs.

    With `last` (B), flat places of the last token of each sequence, the last block answers for those alone.
    """

    def __init__(
        self, x: Tensor, context: CausalContext, cache: Cache | None, rows: Sequence[int], last: Tensor | None
    ) -> None:
        self.x, self.context, self.cache, self.last = x, context, cache, last
        self.places: list[Any] = (
            [] if cache is None else [_places(cache, s, rows, context) for s in range(len(cache.stores))]
        )

    def run(self, blocks: Sequence[CausalBlock], activation: int) -> Tensor:
        """(T, W) to (T, W), or (B, W)."""
        x = self.x.clone(memory_format=torch.contiguous_format)
        for block in blocks:
            attention, mlp = block.self_attn, block.mlp
            assert isinstance(mlp, FeedForward)
            assert attention.joint is not None
            assert mlp.joint is not None
            joint = F.linear(_normed(x, block.attn_norm), attention.joint.weight, attention.joint.bias)
            self._turn(block, joint)
            last = self.last if block is blocks[-1] else None
            mixed = self._mixed(block, joint, last is not None)
            x = x if last is None else x[last]
            x.addmm_(mixed, attention.o_proj.weight.t())
            both = F.linear(_normed(x, block.mlp_norm), mlp.joint.weight)
            x.addmm_(_gated(both, activation), mlp.down_proj.weight.t())
        return x

    def _turn(self, block: CausalBlock, joint: Tensor) -> None:
        """Norm and rotate queries and keys in place, and store keys and values."""
        from formers.kernels import prompt

        attention, tables, stored = block.self_attn, [0, 0], [0, 0]
        dim, place = 0, 0
        if attention.rotary is not None:
            dim = attention.rotary.dim
            tables = [table.data_ptr() for table in self.context.rotary[attention.rotary]]
        if self.cache is not None:
            store, index = self.cache.slots[attention.index]
            held = self.cache.stores[store]
            stored = [held.keys[index].data_ptr(), held.values[index].data_ptr()]
            place = self.places[store].ctypes.data
        weights, numbers = [0, 0], [0.0] * 4
        for part, norm in enumerate((attention.q_norm, attention.k_norm)):
            if isinstance(norm, RMSNorm):
                weights[part] = norm.weight.data_ptr()
                numbers[2 * part : 2 * part + 2] = norm.eps, norm.offset
        sizes = (attention.heads, attention.key_heads, attention.head_dim, dim)
        _together(prompt.HEADS, len(joint), [*sizes, joint.data_ptr(), *tables, *stored, *weights], numbers, place)

    def _mixed(self, block: CausalBlock, joint: Tensor, last: bool) -> Tensor:
        """What the tokens see, (T, heads * D); with `last`, what the last of each sequence sees, (B, heads * D)."""
        attention = block.self_attn
        heads, key_heads = attention.heads, attention.key_heads
        found = []
        for run in (run for run in self.context.runs if run.length):
            every = run.rows(joint.view(len(joint), -1, attention.head_dim))
            query, key, value = every.split((heads, key_heads, key_heads), dim=1)
            query = query[:, :, -1:] if last else query
            out = F.scaled_dot_product_attention(
                query,
                key,
                value,
                is_causal=query.shape[2] > 1,
                scale=attention.scale,
                enable_gqa=heads > key_heads,
            )
            found.append(out.transpose(1, 2).reshape(-1, heads * attention.head_dim))
        return found[0] if len(found) == 1 else torch.cat(found)


def _places(cache: Cache, store: int, rows: Sequence[int], context: CausalContext) -> Any:
    """Where each token goes in the memory of a layer of a store, in bytes."""
    import numpy

    memory = cache.stores[store].keys[0]
    lengths = [run.length for run in context.runs for _ in range(run.batch)]
    step = memory.stride(1) * 4
    starts = [row * memory.stride(0) * 4 for row, length in zip(rows, lengths, strict=True)]
    pieces = [start + step * numpy.arange(length) for start, length in zip(starts, lengths, strict=True)]
    return numpy.concatenate(pieces).astype(numpy.int64)


def _normed(x: Tensor, norm: Any) -> Tensor:
    from formers.kernels import prompt

    out = torch.empty_like(x)
    addresses = [x.shape[1], x.data_ptr(), norm.weight.data_ptr(), out.data_ptr()]
    _together(prompt.NORM, len(x), addresses, [norm.eps, norm.offset])
    return out


def _gated(both: Tensor, activation: int) -> Tensor:
    from formers.kernels import prompt

    rows, width = both.shape
    out = both.new_empty(rows, width // 2)
    _together(prompt.GATED, rows, [width // 2, activation, both.data_ptr(), out.data_ptr()], [])
    return out


def _together(kind: int, rows: int, arguments: Sequence[int], numbers: Sequence[float], place: int = 0) -> None:
    import numpy

    from formers.kernels import prompt
    from formers.kernels.team import together

    floats = numpy.array(numbers, dtype=numpy.float64)
    job = numpy.zeros(prompt.JOB, dtype=numpy.int64)
    job[2:6] = rows, kind, floats.ctypes.data, place
    job[6 : 6 + len(arguments)] = arguments
    together(prompt.prompt_body, job, torch.get_num_threads())
