"""The transformer block: attention and feed-forward, each with its norm and residual."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from formers.layers.activations import activation
from formers.layers.attention import AttentionContext, SelfAttention
from formers.layers.compiled import compiled_block, suits
from formers.layers.dropout import dropout
from formers.layers.fused import fused_block
from formers.layers.layout import Queries
from formers.layers.linear import JointWeight, Linear, Packing
from formers.layers.norms import make_norm

if TYPE_CHECKING:
    from formers.models.spec import ModelSpec


class FeedForward(nn.Module):
    """act(x U) D, or gated: (act(x G) * x U) D."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.activation = activation(spec.activation)
        self.dropout = spec.ff_dropout
        self.gate_proj = Linear(spec.width, spec.ff_width, bias=spec.ff_bias) if spec.gated else None
        self.up_proj = Linear(spec.width, spec.ff_width, bias=spec.ff_bias)
        self.down_proj = Linear(spec.ff_width, spec.width, bias=spec.ff_bias)
        self.joint: JointWeight | None = None

    def pack(self, packing: Packing | None = None) -> None:
        """Join gate and input into one product for inference."""
        parts = self._parts()
        if len(parts) > 1 and all(type(part) is Linear and part.weight.device.type == "cpu" for part in parts):
            self.joint = JointWeight.packed(parts, packing, self.joint)

    def joined(self) -> Sequence[nn.Module]:
        """The layers that `pack` has joined."""
        return () if self.joint is None else self._parts()

    def _parts(self) -> tuple[Linear, ...]:
        return (self.up_proj,) if self.gate_proj is None else (self.gate_proj, self.up_proj)

    def forward(self, x: Tensor) -> Tensor:
        """(T, W) to (T, W)."""
        if self.joint is not None and not torch.is_grad_enabled() and self.joint.holds(self._parts()):
            gate, up = self.joint(x, 0).chunk(2, dim=-1)
            x = self.activation(gate) * up
        elif self.gate_proj is None:
            x = self.activation(self.up_proj(x))
        else:
            x = self.activation(self.gate_proj(x)) * self.up_proj(x)
        x = dropout(x, self.dropout, self.training)
        out: Tensor = self.down_proj(x)
        return out


class Block(nn.Module):
    """One layer over flat tokens (T, W): norms after the residuals (BERT) or before the products (`norm_first`)."""

    def __init__(self, spec: ModelSpec, index: int) -> None:
        super().__init__()
        self.norm_first = spec.norm_first
        given = spec.attention_output_dropout, spec.ff_output_dropout
        self.attn_dropout, self.mlp_dropout = (spec.dropout if p is None else p for p in given)
        self.self_attn = SelfAttention(spec, index)
        self.attn_norm = make_norm(spec) if spec.first_norm or index > 0 else None
        self.mlp = FeedForward(spec)
        self.mlp_norm = make_norm(spec)
        self.compiled = False

    def for_training(self) -> None:
        """Compute by compiled passes from now on, if this is a block of the common kind."""
        self.self_attn.pack()
        self.compiled = type(self) is Block and suits(self)

    def forward(self, x: Tensor, context: AttentionContext, queries: Queries | None = None) -> Tensor:
        """(T, W) to (T, W), or to (B, W) for `queries` alone."""
        if queries is None and (fused := fused_block(self, x, context)) is not None:
            return fused
        if (compiled := compiled_block(self, x, context, queries)) is not None:
            return compiled
        normed = self.attn_norm(x) if self.norm_first and self.attn_norm is not None else x
        mixed = self.self_attn(normed, context, queries)
        x = self._add(x if queries is None else x[queries.places], mixed, self.attn_dropout)
        if self.norm_first:
            return self._add(x, self.mlp(self.mlp_norm(x)), self.mlp_dropout)
        assert self.attn_norm is not None
        x = self.attn_norm(x)
        out: Tensor = self.mlp_norm(self._add(x, self.mlp(x), self.mlp_dropout))
        return out

    def _add(self, residual: Tensor, x: Tensor, probability: float) -> Tensor:
        return residual + dropout(x, probability, self.training)
