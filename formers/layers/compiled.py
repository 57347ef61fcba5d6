"""A block of the common kind for many tokens, with one compiled pass between its products (extra `fast`).

Beside the products, a block is passes over its values: bias, GELU, dropout, residuals, norms, and attention, for which
torch goes to memory and back a dozen times forwards and more backwards. `formers.kernels` does each group of them at
once. It computes what `Block` computes; `Block` is the reference and does the rest. Only what is dropped
differs: it comes from one random number a pass. Gradients of these gradients are not there, so that a model takes this
road where it has been prepared for training (`for_training`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from formers.layers.attention import AttentionContext, SelfAttention, sdpa
from formers.layers.dropout import dropout
from formers.layers.layout import Queries, Run
from formers.layers.linear import JointWeight, Linear, hooked

if TYPE_CHECKING:
    from formers.kernels.passes import Drop, Places
    from formers.layers.block import Block


@dataclass
class Sequences:
    """Where the sequences of a batch lie, for the compiled blocks of one forward."""

    runs: Sequence[Run]
    _places: dict[bool, Places] = field(default_factory=dict)

    @classmethod
    def of(cls, runs: Sequence[Run], x: Tensor) -> Sequences | None:
        """Those of some runs, None where compiled passes do not serve them or the hidden states x."""
        if any(run.causal or run.mask is not None for run in runs) or type(x) is not Tensor:
            return None
        plain = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        # Transformed functions (torch.func) and traced ones see no memory.
        inside = torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is not None
        return cls(runs) if plain and not inside else None

    def places(self, first_only: bool) -> Places:
        """For all queries, or for each sequence's first alone."""
        from formers.kernels.passes import Places

        if first_only not in self._places:
            runs = [(run.start, run.batch, run.length) for run in self.runs]
            self._places[first_only] = Places.of(runs, first_only)
        return self._places[first_only]


def suits(block: Block) -> bool:
    """Whether a block is of the common kind, and numba is here."""
    attention, mlp = block.self_attn, block.mlp
    return (
        not block.norm_first
        and all(type(norm) is nn.LayerNorm and norm.weight is not None for norm in (block.attn_norm, block.mlp_norm))
        and mlp.gate_proj is None
        and all(type(layer) is Linear for layer in _layers(block))
        and attention.joint is not None
        and attention.window is None
        and attention.rope_theta is None
        and not attention.even_padding
        and attention.head_dim % 16 == 0
        and attention.scale > 0
        and attention.q_proj.weight.dtype == torch.float32
        and available()
    )


@lru_cache(maxsize=1)
def available() -> bool:
    """Whether compiled passes are here."""
    try:
        import formers.kernels.passes
    except (ImportError, RuntimeError):
        # RuntimeError: numba finds no folder for its cache.
        return False
    return formers.kernels.passes is not None


def compiled_block(block: Block, x: Tensor, context: AttentionContext, queries: Queries | None) -> Tensor | None:
    """The output (T, W) of a block for x (T, W), or (B, W) for `queries`; None if it is not to be computed here."""
    attention, mlp, sequences = block.self_attn, block.mlp, context.sequences
    if sequences is None or not block.compiled or context.function is not sdpa or context.weights is not None:
        return None
    joint, parts = attention.joint, (attention.q_proj, attention.k_proj, attention.v_proj)
    first, second = block.attn_norm, block.mlp_norm
    if context.position_bias is not None or joint is None or not joint.holds(parts) or not x.is_contiguous():
        return None
    if any(type(layer) is not Linear for layer in _layers(block)):
        return None
    assert isinstance(first, nn.LayerNorm)
    assert isinstance(second, nn.LayerNorm)
    if hooked((attention, mlp, first, second, attention.o_proj, mlp.up_proj, mlp.down_proj)):
        return None
    mixed = _attention(attention, joint, x, sequences, queries, block.training)
    residual = x if queries is None else x.index_select(0, queries.places)
    attn_dropout, mlp_dropout = (p if block.training else 0.0 for p in (block.attn_dropout, block.mlp_dropout))
    x = _add_norm(F.linear(mixed, attention.o_proj.weight), attention.o_proj.bias, residual, first, attn_dropout)
    if mlp.activation is F.gelu and mlp.up_proj.bias is not None:
        up: Tensor = _gelu(F.linear(x, mlp.up_proj.weight), mlp.up_proj.bias)
    else:
        up = mlp.activation(mlp.up_proj(x))
    up = dropout(up, mlp.dropout, block.training)
    return _add_norm(F.linear(up, mlp.down_proj.weight), mlp.down_proj.bias, x, second, mlp_dropout)


def _layers(block: Block) -> tuple[nn.Module, ...]:
    attention, mlp = block.self_attn, block.mlp
    return attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj, mlp.up_proj, mlp.down_proj


def _attention(
    layer: SelfAttention,
    joint: JointWeight,
    x: Tensor,
    sequences: Sequences,
    queries: Queries | None,
    training: bool,
) -> Tensor:
    from formers.kernels.passes import Drop

    parts = (layer.q_proj, layer.k_proj, layer.v_proj)
    weights, biases = [part.weight for part in parts], [part.bias for part in parts]
    width = weights[0].shape[0]
    stacked = x.new_zeros(3, width) if joint.bias is None else joint.bias.view(3, width)
    query = None
    if queries is None:
        product = _joint(x, joint.weight, *weights)
    else:
        query = F.linear(x.index_select(0, queries.places), weights[0])
        product = _joint(x, joint.weight[width:], *weights[1:])
    drop = Drop.of(layer.dropout if training else 0.0)
    places = sequences.places(queries is not None)
    out: Tensor = _attend(product, query, stacked, places, drop, layer.scale, layer.heads, *biases)
    return out


def _add_norm(x: Tensor, bias: Tensor | None, residual: Tensor, norm: nn.LayerNorm, probability: float) -> Tensor:
    """The norm of dropout(x + bias) + residual; x is a product of its own, and is overwritten."""
    from formers.kernels.passes import Drop

    out: Tensor = _normed(x, residual, Drop.of(probability), norm.eps, bias, norm.weight, norm.bias)
    return out


class _Joint(Function):
    """The product of x with several weights that lie one after another in `weight`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, *weights: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.sizes = [each.shape[0] for each in weights]
        return x @ weight.t()

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        asked = any(ctx.needs_input_grad[2:])
        parts = (grad.t() @ x).split(ctx.sizes) if asked else [None] * len(ctx.sizes)
        return (grad @ weight if ctx.needs_input_grad[0] else None, None, *parts)


class _Attention(Function):
    """Attention over sequences that lie end to end.

    `product` (T, 3 W) holds queries, keys and values, or (T, 2 W) keys and values for a `query` (B, W) of its own, all
    without their biases (3, W).
    """

    @staticmethod
    def forward(
        ctx: Any,
        product: Tensor,
        query: Tensor | None,
        biases: Tensor,
        places: Places,
        drop: Drop,
        scale: float,
        heads: int,
        *_biases: Tensor | None,
    ) -> Tensor:
        from formers.kernels import passes

        out, logs = passes.attend(*_parts(product, query), biases, places, drop, scale, heads)
        ctx.save_for_backward(product, query, biases, logs)
        ctx.how = places, drop, scale, heads
        return out

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        from formers.kernels import passes

        product, query, biases, logs = ctx.saved_tensors
        to_product = torch.empty_like(product)
        to_query = None if query is None else torch.empty_like(query)
        gradients = _parts(to_product, to_query)
        places, drop, scale, heads = ctx.how
        given = (grad.contiguous(), *_parts(product, query))
        totals = passes.attend_back(*given, biases, places, drop, scale, heads, logs, gradients).unbind(0)
        of_biases = [b if needed else None for b, needed in zip(totals, ctx.needs_input_grad[7:], strict=True)]
        return (to_product, to_query, None, None, None, None, None, *of_biases)


def _parts(product: Tensor, query: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values."""
    if query is not None:
        key, value = product.chunk(2, dim=-1)
        return query, key, value
    query, key, value = product.chunk(3, dim=-1)
    return query, key, value


class _Gelu(Function):
    """GELU(x + bias)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor) -> Tensor:
        from formers.kernels import passes

        ctx.save_for_backward(x, bias)
        return passes.gelu(x, bias)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        from formers.kernels import passes

        return passes.gelu_back(grad.contiguous(), *ctx.saved_tensors)


class _AddNorm(Function):
    """Layer norm of dropout(x + bias) + residual; x is overwritten by what is normalised."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        residual: Tensor,
        drop: Drop,
        eps: float,
        bias: Tensor | None,
        weight: Tensor,
        offset: Tensor | None,
    ) -> Tensor:
        from formers.kernels import passes

        parameters = torch.stack([x.new_zeros(x.shape[1]) if p is None else p for p in (bias, weight, offset)])
        out, statistics = passes.norm(x, residual, parameters, drop, eps)
        ctx.save_for_backward(x, parameters, statistics)
        ctx.drop = drop
        return out

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        from formers.kernels import passes

        summed, parameters, statistics = ctx.saved_tensors
        to_residual, to_x, totals = passes.norm_back(grad.contiguous(), summed, parameters, statistics, ctx.drop)
        given = [t if needed else None for t, needed in zip(totals.unbind(0), ctx.needs_input_grad[4:], strict=True)]
        return (to_x, to_residual, None, None, *given)


# Without types, as torch has them.
_joint: Any = _Joint.apply
_attend: Any = _Attention.apply
_gelu: Any = _Gelu.apply
_normed: Any = _AddNorm.apply
