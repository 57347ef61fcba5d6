"""Cross-attention: decoder tokens that read the states of an encoder.

Keys and values of the encoder's states are computed once for each source and kept (`CrossMemory`); rows of a batch that
read the same source, as beams do, share them, and their queries attend together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from formers.errors import InputError
from formers.layers.attention import AttentionFunction
from formers.layers.dropout import dropout
from formers.layers.layout import Layout, plan
from formers.layers.linear import JointWeight, Linear, Packing
from formers.layers.norms import make_norm

if TYPE_CHECKING:
    from formers.layers.causal import CausalContext
    from formers.models.spec import ModelSpec

# Sources that no row reads any more are kept until they are so many, as a part of all.
IDLE = 0.25


@dataclass
class CrossMemory:
    """What decoders read of an encoder: its states, or the keys and values that each layer made of them.

    `states` are flat (T, W), as `layout` says; `mask` (sources, 1, 1, S) is True where a token counts, None if all do.
    """

    states: Tensor | None
    layout: Layout
    mask: Tensor | None
    # (sources, heads, S, D) by layer.
    pairs: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    # The source of each row; None: row i reads source i.
    sources: list[int] | None = None

    def __post_init__(self) -> None:
        self.count = self.layout.batch
        # What `penalty` returns, and the mask that it was made of.
        self._penalty: tuple[Tensor, Tensor] | None = None
        # How many rows read each source at most, and where each row lies among so many a source, unless in order.
        self.each = 1
        self.places: Tensor | None = None

    @staticmethod
    def of(states: Any, attention_mask: Tensor | None) -> CrossMemory:
        """That of hidden states (B, S, W) with their mask (B, S)."""
        if not isinstance(states, Tensor) or states.dim() != 3:
            shape = tuple(states.shape) if isinstance(states, Tensor) else type(states).__name__
            raise InputError(
                f"The encoder's hidden states have the shape {shape}; (batch, length, width) is expected.",
                "Pass what model.get_encoder()(…) returned.",
            )
        batch, length = states.shape[:2]
        if attention_mask is not None and attention_mask.shape != (batch, length):
            raise InputError(
                f"The mask has the shape {tuple(attention_mask.shape)}; the encoder's states have {(batch, length)}.",
                "Pass the attention_mask that the encoder was given.",
            )
        layout = plan(batch, length, attention_mask, pack=True, anywhere=True)
        return CrossMemory(layout.gather(states), layout, visible(layout, attention_mask))

    @property
    def rows(self) -> int:
        """How many rows read."""
        return self.count if self.sources is None else len(self.sources)

    def heads(self, flat: Tensor, heads: int) -> Tensor:
        """Flat (T, heads * D) of all sources as (sources, heads, S, D)."""
        padded = self.layout.scatter(flat)
        return padded.view(*padded.shape[:2], heads, -1).transpose(1, 2)

    def penalty(self) -> Tensor | None:
        """The mask as numbers (sources, S) to be added to scores; None where all tokens count."""
        if self.mask is None:
            return None
        if self._penalty is None or self._penalty[0] is not self.mask:
            counts = self.mask[:, 0, 0]
            zeros = torch.zeros(counts.shape, device=counts.device)
            self._penalty = self.mask, zeros.masked_fill_(~counts, torch.finfo(torch.float32).min)
        return self._penalty[1]

    def keep(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Store a layer's keys and values (sources, heads, S, D)."""
        self.pairs[layer] = (key.detach().contiguous(), value.detach().contiguous())

    def settle(self) -> None:
        """Every layer has its keys and values: the states are not needed any more."""
        self.states = None

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows in this order; what they read is moved only if much of it has no reader left."""
        sources = [row if self.sources is None else self.sources[row] for row in rows]
        used = sorted(set(sources))
        if self.states is None and len(used) < self.count * (1 - IDLE):
            kept = torch.tensor(used, device=next(iter(self.pairs.values()))[0].device)
            self.pairs = {
                layer: (key.index_select(0, kept), value.index_select(0, kept))
                for layer, (key, value) in self.pairs.items()
            }
            self.mask = None if self.mask is None else self.mask.index_select(0, kept)
            self.count = len(used)
            sources = [used.index(source) for source in sources]
        self.sources = None if sources == list(range(self.count)) else sources
        self._arrange()

    def _arrange(self) -> None:
        self.each, self.places = 1, None
        if self.sources is None:
            return
        seen = [0] * self.count
        turns = []
        for source in self.sources:
            turns.append(seen[source])
            seen[source] += 1
        self.each = max(seen)
        places = [source * self.each + turn for source, turn in zip(self.sources, turns, strict=True)]
        if places != list(range(self.count * self.each)):
            self.places = torch.tensor(places)

    def gather(self, rows: Tensor) -> Tensor:
        """Queries (rows, L, W) as (sources, rows of a source * L, W)."""
        if self.places is not None:
            slots = rows.new_zeros(self.count * self.each, *rows.shape[1:])
            rows = slots.index_copy(0, self.places.to(rows.device), rows)
        return rows if self.each == 1 else rows.reshape(self.count, -1, rows.shape[-1])

    def scatter(self, mixed: Tensor, length: int) -> Tensor:
        """The way back: (sources, rows of a source * L, W) to (rows, L, W)."""
        rows = mixed if self.each == 1 else mixed.reshape(-1, length, mixed.shape[-1])
        return rows if self.places is None else rows.index_select(0, self.places.to(rows.device))

    def spread(self, weights: Tensor, length: int) -> Tensor:
        """Weights (sources, heads, rows of a source * L, S) as (rows, heads, L, S)."""
        heads, keys = weights.shape[1], weights.shape[3]
        rows = weights.view(self.count, heads, self.each, length, keys).transpose(1, 2).flatten(0, 1)
        return rows if self.places is None else rows[self.places.to(rows.device)]


def visible(layout: Layout, attention_mask: Tensor | None) -> Tensor | None:
    """The mask (B, 1, 1, S) of a layout's states, made with `attention_mask` (B, S); None where all count."""
    ragged = layout.kept is not None or (bool(layout.runs) and layout.runs[0].mask is not None)
    return (attention_mask != 0)[:, None, None] if ragged and attention_mask is not None else None


@dataclass
class Reading:
    """What one forward of a decoder hands to its cross-attention."""

    memory: CrossMemory
    # How the decoder's tokens lie.
    layout: Layout
    function: AttentionFunction
    # Whether keys and values are kept for later forwards.
    keep: bool
    # Filled with one (B, heads, L, S) a layer when the caller wants the weights.
    weights: list[Tensor] | None = None


class CrossAttention(nn.Module):
    """Multi-head attention of flat decoder tokens to the states of an encoder."""

    def __init__(self, spec: ModelSpec, index: int) -> None:
        super().__init__()
        assert spec.cross_width is not None
        self.index = index
        self.num_heads, self.scale, self.dropout = spec.heads, spec.attention_scale, spec.attention_dropout
        inner, bias = spec.heads * spec.head_dim, spec.attention_bias
        self.q_proj = Linear(spec.width, inner, bias=bias)
        self.k_proj = Linear(spec.cross_width, inner, bias=bias if spec.key_bias is None else spec.key_bias)
        self.v_proj = Linear(spec.cross_width, inner, bias=bias)
        self.o_proj = Linear(inner, spec.width, bias=bias if spec.output_bias is None else spec.output_bias)
        self.joint: JointWeight | None = None

    def pack(self, packing: Packing | None = None) -> None:
        """Join the products for keys and values into one for inference."""
        parts = (self.k_proj, self.v_proj)
        if all(type(part) is Linear for part in parts) and self.k_proj.weight.device.type == "cpu":
            self.joint = JointWeight.packed(parts, packing, self.joint)

    def joined(self) -> Sequence[nn.Module]:
        """The projections that `pack` has joined."""
        return () if self.joint is None else (self.k_proj, self.v_proj)

    def pair(self, reading: Reading) -> tuple[Tensor, Tensor]:
        """Keys and values (sources, heads, S, D), computed where this layer has none yet."""
        memory = reading.memory
        held = memory.pairs.get(self.index)
        if held is not None:
            return held
        states = memory.states
        assert states is not None
        if self.joint is not None and not torch.is_grad_enabled() and self.joint.holds((self.k_proj, self.v_proj)):
            key, value = self.joint(states, 0).chunk(2, dim=-1)
        else:
            key, value = self.k_proj(states), self.v_proj(states)
        key, value = memory.heads(key, self.num_heads), memory.heads(value, self.num_heads)
        if reading.keep:
            memory.keep(self.index, key, value)
            return (key, value) if torch.is_grad_enabled() else memory.pairs[self.index]
        return key, value

    def forward(self, x: Tensor, reading: Reading) -> Tensor:
        """(T, W) to (T, W)."""
        memory, layout = reading.memory, reading.layout
        key, value = self.pair(reading)
        query = memory.gather(layout.scatter(self.q_proj(x)))
        query = query.view(*query.shape[:2], self.num_heads, -1).transpose(1, 2)
        out = reading.function(
            query,
            key,
            value,
            mask=memory.mask,
            bias=None,
            scale=self.scale,
            dropout=self.dropout if self.training else 0.0,
        )
        mixed, weights = out if isinstance(out, tuple) else (out, None)
        if reading.weights is not None:
            if weights is None:
                raise InputError(
                    "The attention function returned no weights, but output_attentions=True asks for them.",
                    'Return (output, weights) from it, or use attn_implementation="eager".',
                )
            reading.weights.append(memory.spread(weights, layout.length))
        rows = memory.scatter(mixed.transpose(1, 2).flatten(2), layout.length)
        projected: Tensor = self.o_proj(layout.gather(rows))
        return projected


class CrossLayer(nn.Module):
    """Cross-attention with its norm and residual, between the two halves of a decoder's block."""

    def __init__(self, spec: ModelSpec, index: int) -> None:
        super().__init__()
        self.norm_first = spec.norm_first
        self.probability = spec.dropout if spec.attention_output_dropout is None else spec.attention_output_dropout
        self.attention = CrossAttention(spec, index)
        self.norm = make_norm(spec)

    def forward(self, x: Tensor, context: CausalContext) -> Tensor:
        """(T, W) to (T, W); x itself where there is nothing to read."""
        if context.reading is None:
            return x
        mixed = self.attention(self.norm(x) if self.norm_first else x, context.reading)
        x = x + dropout(mixed, self.probability, self.training)
        return x if self.norm_first else self.norm(x)
