"""A whole block as one operation of torch's, for few tokens, where the calls between the products cost most.

The operation is the one behind torch.nn.TransformerEncoderLayer. It computes what `Block` computes, for the common kind
of block only; `Block` is the reference and does the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from formers.layers.attention import AttentionContext, sdpa
from formers.layers.linear import Linear, hooked

if TYPE_CHECKING:
    from formers.layers.block import Block

# From here on the products outweigh the calls, and the operation's attention is the slower one.
MOST_TOKENS = 128


def fused_block(block: Block, x: Tensor, context: AttentionContext) -> Tensor | None:
    """The output (T, W) of a block for x (T, W), or None if this block, pass or input is not of the common kind."""
    attention, mlp = block.self_attn, block.mlp
    if x.shape[0] > MOST_TOKENS or attention.joint is None or attention.joint.bias is None:
        return None
    if attention.joint.compacted(x):
        return None
    if torch.is_grad_enabled() or x.dtype != torch.float32 or not _is_plain(block, context):
        return None
    parts = (attention.q_proj, attention.k_proj, attention.v_proj)
    first, second = block.attn_norm, block.mlp_norm
    assert isinstance(first, nn.LayerNorm)
    assert isinstance(second, nn.LayerNorm)
    products = (attention.o_proj, mlp.up_proj, mlp.down_proj)
    if not attention.joint.holds(parts) or any(type(layer) is not Linear for layer in products):
        return None
    if any(layer.bias is None for layer in (first, second, *products)):
        return None
    if hooked((attention, mlp, first, second, *products)):
        return None
    run = context.runs[0]
    out: Tensor = torch._transformer_encoder_layer_fwd(
        x.view(run.batch, run.length, -1),
        x.shape[1],
        attention.heads,
        attention.joint.weight,
        attention.joint.bias,
        attention.o_proj.weight,
        attention.o_proj.bias,
        mlp.activation is F.gelu,
        block.norm_first,
        first.eps,
        first.weight,
        first.bias,
        second.weight,
        second.bias,
        mlp.up_proj.weight,
        mlp.up_proj.bias,
        mlp.down_proj.weight,
        mlp.down_proj.bias,
        None,
        None,
    )
    return out.view(x.shape)


def _is_plain(block: Block, context: AttentionContext) -> bool:
    """Whether nothing but the common parts of a block is at work: one rectangle of texts that see all of themselves."""
    attention, norm = block.self_attn, block.mlp_norm
    return (
        len(context.runs) == 1
        and isinstance(norm, nn.LayerNorm)
        and context.function is sdpa
        and context.weights is None
        and context.position_bias is None
        and context.rotary is None
        and not block.training
        and not attention.even_padding
        and attention.scale == attention.head_dim**-0.5
        and attention.heads * attention.head_dim == norm.normalized_shape[0]
        and block.attn_norm is not None
        and block.mlp.gate_proj is None
        and block.mlp.activation in (F.gelu, F.relu)
        and context.runs[0].visible(attention.window, norm.weight.device) is None
    )
