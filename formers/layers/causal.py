"""Attention and blocks of decoders: flat tokens that see themselves and what a cache holds, never what follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from formers.errors import InputError, UnsupportedError
from formers.layers.attention import AttentionFunction, eager, sdpa
from formers.layers.block import FeedForward
from formers.layers.cache import Append, Read
from formers.layers.cross import CrossLayer, Reading
from formers.layers.dropout import dropout as drop
from formers.layers.layout import Run
from formers.layers.linear import JointWeight, Linear, Packing
from formers.layers.moe import MixtureOfExperts
from formers.layers.norms import HeadNorms, make_norm
from formers.layers.rotary import Rotary

if TYPE_CHECKING:
    from formers.models.spec import ModelSpec


class CausalBias(Protocol):
    """What a family adds to the attention scores of a decoder."""

    def prepare(self, runs: Sequence[Run]) -> None:
        """Make what layers share, before any of them is computed."""
        ...

    def fresh(self, layer: int, run: Run) -> Tensor:
        """For tokens of a run that see themselves alone: (1, heads, L, L)."""
        ...

    def stored(self, layer: int, read: Read) -> Tensor:
        """For tokens that see what the cache holds: (batch or 1, heads, L, K)."""
        ...


@dataclass
class CausalContext:
    """What one forward hands to its layers."""

    runs: Sequence[Run]
    function: AttentionFunction
    # Tables (cos, sin), each (T, 1, dim), by kind.
    rotary: dict[Rotary, tuple[Tensor, Tensor]]
    # For each layer what it does with the cache, and which of its store's layers it is; None without a cache.
    appends: Sequence[tuple[Append, int]] | None = None
    # Filled with one (B, heads, S, K) a layer when the caller wants the weights.
    weights: list[Tensor] | None = None
    bias: CausalBias | None = None
    # What cross-attention reads; None: there is nothing to read.
    reading: Reading | None = None


class CausalAttention(nn.Module):
    """Causal self-attention over flat tokens; several query heads may share a key and value head."""

    def __init__(self, spec: ModelSpec, index: int) -> None:
        super().__init__()
        self.index = index
        self.heads, self.key_heads, self.head_dim = spec.heads, spec.key_heads, spec.head_dim
        self.shared = self.heads // self.key_heads
        self.scale = spec.attention_scale
        self.cap = spec.score_cap
        self.dropout = spec.attention_dropout
        self.window = spec.windows[index] if spec.windows else None
        self.rotary = spec.rotary[index] if spec.rotary else None
        self.slopes = spec.slopes
        inner, keys = self.heads * self.head_dim, self.key_heads * self.head_dim
        output_bias = spec.attention_bias if spec.output_bias is None else spec.output_bias
        self.q_proj = Linear(spec.width, inner, bias=spec.attention_bias)
        self.k_proj = Linear(spec.width, keys, bias=spec.attention_bias if spec.key_bias is None else spec.key_bias)
        self.v_proj = Linear(spec.width, keys, bias=spec.attention_bias)
        self.o_proj = Linear(inner, spec.width, bias=output_bias)
        self.joint: JointWeight | None = None
        self.whole_norms = spec.query_key_norm == "whole"
        self.q_norm = _head_norm(spec, self.heads)
        self.k_norm = _head_norm(spec, self.key_heads)

    def pack(self, packing: Packing | None = None) -> None:
        """Join the three input projections into one product for inference."""
        parts = (self.q_proj, self.k_proj, self.v_proj)
        if all(type(part) is Linear for part in parts) and self.q_proj.weight.device.type == "cpu":
            self.joint = JointWeight.packed(parts, packing, self.joint)

    def joined(self) -> Sequence[nn.Module]:
        """The projections that `pack` has joined."""
        return () if self.joint is None else (self.q_proj, self.k_proj, self.v_proj)

    def forward(self, x: Tensor, context: CausalContext) -> Tensor:
        """(T, W) to (T, W)."""
        query, key, value = self._project(x, context)
        if context.appends is None:
            mixed = [self._fresh(query, key, value, run, context) for run in context.runs]
        else:
            append, layer = context.appends[self.index]
            append.write(layer, key, value)
            if append.reads:
                mixed = [self._stored(query, key, value, read, append, layer, context) for read in append.reads]
            else:
                mixed = [self._fresh(query, key, value, run, context) for run in context.runs]
        out: Tensor = self.o_proj(mixed[0] if len(mixed) == 1 else torch.cat(mixed))
        return out

    def _project(self, x: Tensor, context: CausalContext) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (T, heads, D), keys and values (T, key heads, D), rotated to their positions."""
        parts, width = (self.q_proj, self.k_proj, self.v_proj), self.head_dim
        sizes = (self.heads, self.key_heads, self.key_heads)
        if self.joint is not None and not torch.is_grad_enabled() and self.joint.holds(parts):
            joint = self.joint(x, 0)
            if self.q_norm is None and self.rotary is not None:
                # Queries and keys turn alike.
                heads = joint.view(joint.shape[0], -1, width)
                turning = self.heads + self.key_heads
                both = self.rotary.apply(heads[:, :turning], *context.rotary[self.rotary])
                return both[:, : self.heads], both[:, self.heads :], heads[:, turning:]
            query, key, value = joint.split([size * width for size in sizes], dim=-1)
        else:
            query, key, value = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        if self.whole_norms:
            assert self.q_norm is not None
            assert self.k_norm is not None
            query, key = self.q_norm(query), self.k_norm(key)
        query, key, value = (part.unflatten(-1, (-1, width)) for part in (query, key, value))
        if self.q_norm is not None and self.k_norm is not None and not self.whole_norms:
            query, key = self.q_norm(query), self.k_norm(key)
        if self.rotary is not None:
            table = context.rotary[self.rotary]
            query, key = self.rotary.apply(query, *table), self.rotary.apply(key, *table)
        return query, key, value

    def _fresh(self, query: Tensor, key: Tensor, value: Tensor, run: Run, context: CausalContext) -> Tensor:
        """Tokens of a run that see themselves alone: (tokens of the run, heads * D)."""
        query, key, value = run.rows(query), run.rows(key), run.rows(value)
        window = None if self.window is None or self.window >= run.length - 1 else self.window
        plain = run.mask is None and window is None and self.slopes is None and self.cap is None
        plain &= context.bias is None
        if plain and context.function is sdpa:
            dropout = self.dropout if self.training else 0.0
            out = F.scaled_dot_product_attention(
                query,
                key,
                value,
                dropout_p=dropout,
                is_causal=run.length > 1,
                scale=self.scale,
                enable_gqa=self.shared > 1,
            )
        else:
            mask = run.visible(window, query.device)
            bias = None if context.bias is None else context.bias.fresh(self.index, run)
            if self.slopes is not None:
                bias = self._bias(_backwards(run, query.device), run.shared, query)
            out = self._attend(query, key, value, mask, bias, context)
        return out.transpose(1, 2).reshape(run.batch * run.length, -1)

    def _stored(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        read: Read,
        append: Append,
        layer: int,
        context: CausalContext,
    ) -> Tensor:
        """Tokens that see what the cache holds, themselves included: (tokens of the read, heads * D)."""
        count = read.batch * read.length
        keys, values = append.store.keys[layer], append.store.values[layer]
        if count < query.shape[0] or read.batch < keys.shape[0]:
            query, key, value = (part.narrow(0, read.start, count) for part in (query, key, value))
            keys, values = (part.narrow(0, read.row, read.batch) for part in (keys, values))
        query = query.view(read.batch, read.length, self.heads, self.head_dim)
        length = read.high - read.low
        if torch.is_grad_enabled():
            # The cache holds numbers; gradients reach the new tokens alone.
            earlier = (part.narrow(1, read.low, length - read.length) for part in (keys, values))
            fresh = (part.reshape(read.batch, read.length, *part.shape[1:]) for part in (key, value))
            keys, values = (torch.cat(both, dim=1) for both in zip(earlier, fresh, strict=True))
        else:
            keys, values = keys.narrow(1, read.low, length), values.narrow(1, read.low, length)
        bias = None if context.bias is None else context.bias.stored(self.index, read)
        if self.slopes is not None:
            assert read.distances is not None
            bias = self._bias(read.distances, read.shared, query)
        out = self._attend(
            query.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2), read.mask, bias, context
        )
        return out.transpose(1, 2).reshape(read.batch * read.length, -1)

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        bias: Tensor | None,
        context: CausalContext,
    ) -> Tensor:
        """Queries (B, heads, S, D), keys and values (B, key heads, K, D) to (B, heads, S, D)."""
        dropout = self.dropout if self.training else 0.0
        function = context.function
        if self.cap is not None:
            if function not in (sdpa, eager):
                raise UnsupportedError(
                    "This model bounds its attention scores, which a function of your own would not do.",
                    'Use attn_implementation="sdpa" or "eager".',
                )
            out, weights = self._capped(query, key, value, mask, dropout)
        elif function is sdpa and query.shape[2] == 1 and self.shared > 1 and bias is None:
            # One token a row: the queries that share a key head are the rows of one small matrix.
            grouped = query.view(query.shape[0], self.key_heads, self.shared, self.head_dim)
            out = F.scaled_dot_product_attention(grouped, key, value, mask, dropout, scale=self.scale)
            return out.reshape(query.shape)
        elif function is sdpa:
            if bias is not None:
                mask = bias if mask is None else bias.masked_fill(~mask, torch.finfo(bias.dtype).min)
            return F.scaled_dot_product_attention(
                query, key, value, mask, dropout, scale=self.scale, enable_gqa=self.shared > 1
            )
        else:
            if self.shared > 1:
                key, value = (part.repeat_interleave(self.shared, dim=1) for part in (key, value))
            result = function(query, key, value, mask=mask, bias=bias, scale=self.scale, dropout=dropout)
            out, weights = result if isinstance(result, tuple) else (result, None)
        if context.weights is not None:
            if weights is None:
                raise InputError(
                    "The attention function returned no weights, but output_attentions=True asks for them.",
                    'Return (output, weights) from it, or use attn_implementation="eager".',
                )
            context.weights.append(weights)
        return out

    def _capped(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float
    ) -> tuple[Tensor, Tensor]:
        """Attention whose scores are bounded before the mask (Gemma 2)."""
        assert self.cap is not None
        batch, _, length, width = query.shape
        grouped = query.reshape(batch, self.key_heads, self.shared, length, width)
        scores = grouped @ key[:, :, None].transpose(-1, -2) * self.scale
        scores = torch.tanh(scores / self.cap) * self.cap
        if mask is not None:
            scores = scores.masked_fill(~(mask if mask.dim() < 4 else mask[:, :, None]), torch.finfo(scores.dtype).min)
        weights = drop(scores.softmax(-1, dtype=torch.float32).to(query.dtype), dropout)
        return (weights @ value[:, :, None]).flatten(1, 2), weights.flatten(1, 2)

    def _bias(self, distances: Tensor, shared: dict[object, Tensor], query: Tensor) -> Tensor:
        """Minus slope times distance, (batch or 1, heads, 1, K), made once for all layers.

        Distances are those to the last token: for every query they differ from its own by one number, which changes
        no weight.
        """
        if "slopes" not in shared:
            slopes = torch.tensor(self.slopes, dtype=torch.float32, device=query.device)
            shared["slopes"] = (-slopes[:, None] * distances[:, None]).to(query.dtype)[:, :, None]
        return shared["slopes"]


def _backwards(run: Run, device: torch.device) -> Tensor:
    """Distances (batch or 1, K) from a run's last token, counted over real tokens."""
    if run.mask is None:
        return torch.arange(run.length - 1, -1, -1, device=device)[None]
    counts = run.mask[:, 0, 0].long()
    return (counts.sum(1, keepdim=True) - counts.cumsum(1)) * counts


def _head_norm(spec: ModelSpec, heads: int) -> nn.Module | None:
    if spec.query_key_norm is None:
        return None
    if spec.query_key_norm == "each":
        return HeadNorms(heads, spec.head_dim, spec)
    return make_norm(spec, heads * spec.head_dim if spec.query_key_norm == "whole" else spec.head_dim)


class CausalBlock(nn.Module):
    """One layer of a decoder over flat tokens (T, W).

    Norms stand before each half, after it or both, or after the residuals; attention and feed-forward follow one
    another or read the same input.
    """

    def __init__(self, spec: ModelSpec, index: int) -> None:
        super().__init__()
        given = spec.attention_output_dropout, spec.ff_output_dropout
        self.attn_dropout, self.mlp_dropout = (spec.dropout if p is None else p for p in given)
        self.parallel = spec.parallel
        after = not spec.norm_first and not spec.norm_outputs
        self.norm_first, self.norm_after = spec.norm_first, after
        experts = spec.experts[index] if spec.experts else None
        self.self_attn = CausalAttention(spec, index)
        self.attn_norm = make_norm(spec) if spec.norm_first or after else None
        self.attn_output_norm = make_norm(spec) if spec.norm_outputs else None
        self.cross = None if spec.cross_width is None else CrossLayer(spec, index)
        self.mlp: nn.Module = FeedForward(spec) if experts is None else MixtureOfExperts(spec, experts)
        one = spec.parallel and spec.parallel_norms == 1
        self.mlp_norm = make_norm(spec) if (spec.norm_first or after) and not one else None
        self.mlp_output_norm = make_norm(spec) if spec.norm_outputs else None

    def forward(self, x: Tensor, context: CausalContext) -> Tensor:
        """(T, W) to (T, W)."""
        normed = self.attn_norm(x) if self.norm_first and self.attn_norm is not None else x
        mixed = self.self_attn(normed, context)
        if self.attn_output_norm is not None:
            mixed = self.attn_output_norm(mixed)
        if self.parallel:
            fed = self.mlp(normed if self.mlp_norm is None else self.mlp_norm(x))
            return self._add(self._add(x, mixed, self.attn_dropout), fed, self.mlp_dropout)
        x = self._add(x, mixed, self.attn_dropout)
        if self.norm_after and self.attn_norm is not None:
            x = self.attn_norm(x)
        if self.cross is not None:
            x = self.cross(x, context)
        fed = self.mlp(self.mlp_norm(x) if self.norm_first and self.mlp_norm is not None else x)
        if self.mlp_output_norm is not None:
            fed = self.mlp_output_norm(fed)
        x = self._add(x, fed, self.mlp_dropout)
        return self.mlp_norm(x) if self.norm_after and self.mlp_norm is not None else x

    def _add(self, residual: Tensor, x: Tensor, probability: float) -> Tensor:
        return residual + drop(x, probability, self.training)
