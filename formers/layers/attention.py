"""Attention: one function for every model, replaceable, and the layer around it.

An attention function takes `query` (B, heads, S, D), `key` and `value` (B, heads, K, D) and, by keyword, `mask`
(boolean, broadcast to (B, heads, S, K), True = attend, or None), `bias` (added to the scores, or None), `scale` and
`dropout`; it returns (B, heads, S, D), alone or with the weights (B, heads, S, K).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from formers.errors import InputError
from formers.layers.dropout import dropout as drop
from formers.layers.int8 import Int8Joint, Int8Linear
from formers.layers.layout import Queries, Rectangle, Run
from formers.layers.linear import JointWeight, Linear, Packing
from formers.layers.positions import rotate

if TYPE_CHECKING:
    from formers.layers.compiled import Sequences
    from formers.models.spec import ModelSpec

AttentionFunction = Callable[..., Any]


def sdpa(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: Tensor | None,
    bias: Tensor | None,
    scale: float,
    dropout: float,
) -> Tensor:
    """Torch's fused attention; with dropout on a CPU, where torch has none that is fused, spelled out."""
    if dropout and query.device.type == "cpu":
        return eager(query, key, value, mask=mask, bias=bias, scale=scale, dropout=dropout)[0]
    if bias is not None:
        mask = bias if mask is None else bias.masked_fill(~mask, torch.finfo(bias.dtype).min)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, scale=scale)


def eager(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: Tensor | None,
    bias: Tensor | None,
    scale: float,
    dropout: float,
) -> tuple[Tensor, Tensor]:
    """Attention spelled out (Vaswani et al., 2017); returns the weights too."""
    scores = query @ key.transpose(-1, -2) * scale
    if bias is not None:
        scores = scores + bias
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = drop(scores.softmax(-1, dtype=torch.float32).to(query.dtype), dropout)
    return weights @ value, weights


ATTENTION: dict[str, AttentionFunction] = {"sdpa": sdpa, "eager": eager}


def attention_function(choice: str | AttentionFunction | None) -> AttentionFunction:
    """The function of a name, a callable itself, or the default."""
    if choice is None:
        return sdpa
    if callable(choice):
        return choice
    if choice in ATTENTION:
        return ATTENTION[choice]
    near = get_close_matches(choice, ATTENTION) or list(ATTENTION)
    raise InputError(
        f"Unknown attn_implementation {choice!r}.",
        f"Use {' or '.join(map(repr, near))}, or pass a function (see formers.layers.attention).",
    )


# What is added to the scores of one run: (B or 1, heads, S, S) from its queries and keys (B, heads, S, D), or None.
RunBias = Callable[[Tensor, Tensor, Run], Tensor | None]
# Made once a layer, for all its runs.
LayerBias = Callable[["SelfAttention"], RunBias]


class PositionBias(Protocol):
    """What a family adds to attention scores."""

    def __call__(self, runs: Sequence[Run]) -> LayerBias:
        """Compute what all layers of one forward share."""
        ...


@dataclass
class AttentionContext:
    """What one forward hands to its attention layers."""

    runs: Sequence[Run]
    function: AttentionFunction
    position_bias: LayerBias | None = None
    # Rotary tables (cos, sin), each (T, rotary width), by base frequency.
    rotary: dict[float, tuple[Tensor, Tensor]] | None = None
    # Filled with one (B, heads, S, S) a layer when the caller wants the weights.
    weights: list[Tensor] | None = None
    # All runs as one, for attention alone: a training computes padding there rather than make many small calls.
    rectangle: Rectangle | None = None
    # Where sequences lie, for blocks that are computed by compiled passes.
    sequences: Sequences | None = None


class SelfAttention(nn.Module):
    """Multi-head self-attention over flat tokens."""

    def __init__(self, spec: ModelSpec, index: int) -> None:
        super().__init__()
        self.index = index
        self.heads = spec.heads
        self.head_dim = spec.head_dim
        self.scale = spec.attention_scale
        self.dropout = spec.attention_dropout
        self.even_padding = spec.even_padding
        self.window = spec.windows[index] if spec.windows else None
        self.rope_theta = spec.rope_thetas[index] if spec.rope_thetas else None
        inner = spec.heads * spec.head_dim
        self.q_proj = Linear(spec.width, inner, bias=spec.attention_bias)
        self.k_proj = Linear(spec.width, inner, bias=spec.attention_bias if spec.key_bias is None else spec.key_bias)
        self.v_proj = Linear(spec.width, inner, bias=spec.attention_bias)
        self.o_proj = Linear(inner, spec.width, bias=spec.attention_bias)
        self.joint: JointWeight | None = None
        self.integers: Int8Joint | None = None

    def pack(self, packing: Packing | None = None) -> None:
        """Join the three input projections into one product for inference."""
        parts = (self.q_proj, self.k_proj, self.v_proj)
        if all(type(part) is Linear for part in parts) and self.q_proj.weight.device.type == "cpu":
            self.joint = JointWeight.packed(parts, packing, self.joint)
        named = self.named_children()
        integers = [part for name, part in named if isinstance(part, Int8Linear) and name != "o_proj"]
        if len(integers) == len(parts):
            self.integers = Int8Joint(integers)

    def joined(self) -> Sequence[nn.Module]:
        """The projections that `pack` has joined."""
        return () if self.joint is None else (self.q_proj, self.k_proj, self.v_proj)

    def project(self, x: Tensor, queries: Queries | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (T or B, heads, D), keys and values (T, heads, D) of x (T, W)."""
        parts = (self.q_proj, self.k_proj, self.v_proj)
        joint = self.integers or self.joint
        if joint is None or torch.is_grad_enabled() or not joint.holds(parts):
            q = self.q_proj(x if queries is None else x[queries.places])
            k, v = self.k_proj(x), self.v_proj(x)
        elif queries is None:
            q, k, v = joint(x, 0).chunk(3, dim=-1)
        elif joint.compacted(x):
            q, k, v = joint(x, 0).chunk(3, dim=-1)
            q = q[queries.places]
        else:
            q = self.q_proj(x[queries.places])
            k, v = joint(x, 1).chunk(2, dim=-1)
        shape = (self.heads, self.head_dim)
        return q.unflatten(-1, shape), k.unflatten(-1, shape), v.unflatten(-1, shape)

    def forward(self, x: Tensor, context: AttentionContext, queries: Queries | None = None) -> Tensor:
        """(T, W) to (T, W); with `queries`, to theirs alone (B, W)."""
        if queries is None and (plain := self._plain(x, context)) is not None:
            return plain
        query, key, value = self.project(x, queries)
        if self.rope_theta is not None and context.rotary is not None:
            cos, sin = context.rotary[self.rope_theta]
            key = rotate(key, cos, sin)
            query = rotate(query, *((cos, sin) if queries is None else (cos[queries.places], sin[queries.places])))
        bias = context.position_bias and context.position_bias(self)
        rectangle = context.rectangle
        if rectangle is not None and bias is None and self.window is None and context.function is sdpa:
            return self._padded(query, key, value, rectangle, queries)
        asked = context.runs if queries is None else queries.runs
        mixed = [self._mix(q, k, query, key, value, bias, context) for q, k in zip(asked, context.runs, strict=True)]
        out: Tensor = self.o_proj(mixed[0] if len(mixed) == 1 else torch.cat(mixed))
        return out

    def _padded(
        self, query: Tensor, key: Tensor, value: Tensor, rectangle: Rectangle, queries: Queries | None
    ) -> Tensor:
        key, value = rectangle.pad(key), rectangle.pad(value)
        query = rectangle.pad(query) if queries is None else query[:, :, None]
        dropout = self.dropout if self.training else 0.0
        mixed = sdpa(query, key, value, mask=rectangle.mask, bias=None, scale=self.scale, dropout=dropout)
        flat = mixed.transpose(1, 2).flatten(0, 1).flatten(1)
        out: Tensor = self.o_proj(flat if queries is not None else flat.index_select(0, rectangle.kept))
        return out

    def _plain(self, x: Tensor, context: AttentionContext) -> Tensor | None:
        """The output for one rectangle of texts that see all of themselves, without detours; None for anything else.

        With few tokens the calls between the products would cost as much as these.
        """
        joint = self.integers or self.joint
        if joint is None or torch.is_grad_enabled() or len(context.runs) != 1 or context.function is not sdpa:
            return None
        run = context.runs[0]
        if run.visible(self.window, x.device) is not None or context.weights is not None or self.training:
            return None
        if context.position_bias is not None or self.rope_theta is not None:
            return None
        if not joint.holds((self.q_proj, self.k_proj, self.v_proj)):
            return None
        shape = (run.batch, run.length, 3, self.heads, self.head_dim)
        query, key, value = joint(x, 0).view(shape).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value, scale=self.scale)
        out: Tensor = self.o_proj(mixed.transpose(1, 2).reshape(x.shape[0], -1))
        return out

    def _mix(
        self,
        asked: Run,
        run: Run,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias: RunBias | None,
        context: AttentionContext,
    ) -> Tensor:
        query, key, value = asked.rows(query), run.rows(key), run.rows(value)
        mask = run.visible(self.window, query.device)
        mask = mask if mask is None or asked is run else mask[..., :1, :]
        if self.even_padding and mask is not None and run.mask is not None:
            counts = run.mask.transpose(-1, -2)[:, :, : query.shape[2]]
            query, mask = query * counts, mask | ~counts
        out = context.function(
            query,
            key,
            value,
            mask=mask,
            bias=bias and bias(query, key, run),
            scale=self.scale,
            dropout=self.dropout if self.training else 0.0,
        )
        values: Tensor
        values, weights = out if isinstance(out, tuple) else (out, None)
        if context.weights is not None:
            if weights is None:
                raise InputError(
                    "The attention function returned no weights, but output_attentions=True asks for them.",
                    'Return (output, weights) from it, or use attn_implementation="eager".',
                )
            context.weights.append(weights)
        return values.transpose(1, 2).reshape(asked.batch * asked.length, self.heads * self.head_dim)
