"""An encoder's blocks as one compiled call (`formers.kernels.stack`), prepared beside the first calls of a model.

It computes what `Block` computes, for the common kind of block only; `Block` is the reference and does the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from formers.errors import InputError
from formers.kernels.blocks import BlockWeight
from formers.layers.activations import gelu_tanh, quick_gelu
from formers.layers.attention import AttentionContext, SelfAttention, sdpa
from formers.layers.beside import Beside
from formers.layers.block import Block, FeedForward
from formers.layers.linear import Linear
from formers.layers.norms import RMSNorm

if TYPE_CHECKING:
    from formers.kernels.packed import LayerWeights, PackedLayers
    from formers.kernels.panels import Norm, Product

# By the names of `formers.kernels.rows.Activation`.
ACTIVATIONS = {
    F.gelu: "GELU",
    gelu_tanh: "GELU_TANH",
    F.relu: "RELU",
    F.silu: "SILU",
    quick_gelu: "QUICK_GELU",
}


class Stacked:
    """Some blocks, in the order in which they run, with the norm that follows them where norms come first.

    A copy of it is None: models are prepared one by one. What it keeps are all matrices in the order in which they are
    read, beside the parameters: 16-bit floats where these hold them exactly, else float32.
    """

    def __init__(self, blocks: Sequence[Block], order: Sequence[int], norm: nn.LayerNorm | None) -> None:
        self._blocks, self._order, self._norm = blocks, order, norm
        modules = [*blocks, *([] if norm is None else [norm])]
        self.beside = Beside(modules, self._pack, ("numba", "formers.kernels.packed"))

    @staticmethod
    def of(blocks: Iterable[nn.Module], order: Sequence[int], norm: nn.Module | None) -> Stacked | None:
        """The blocks of an encoder; None where one is not of the common kind, or numba is missing (extra `fast`)."""
        every = list(blocks)
        chosen = [block for block in every if type(block) is Block and _is_common(block)]
        if not chosen or len(chosen) < len(every) or find_spec("numba") is None:
            return None
        first = chosen[0].norm_first
        last = norm if type(norm) is nn.LayerNorm else None
        if first != (last is not None) or len({_shape(block) for block in chosen}) > 1:
            return None
        if first and list(order) != list(range(len(chosen))):
            return None
        return Stacked(chosen, order, last)

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()

    def prepare(self) -> None:
        """Be ready when this returns; it compiles, or reads what an earlier process has compiled."""
        self.beside.prepare()

    def wait(self) -> None:
        """Until what has begun is done."""
        self.beside.wait()

    def compiled(self, x: Tensor, context: AttentionContext) -> PackedLayers | None:
        """What computes the pass of x (T, W): float32 on a CPU, no gradients, nothing asked for on the way.

        To be asked once a pass. After some passes that it could compute, preparing begins in a thread of its own.
        """
        if torch.is_grad_enabled() or x.dtype is not torch.float32 or x.device.type != "cpu":
            return None
        if context.function is not sdpa or context.weights is not None or context.position_bias is not None:
            return None
        if torch.compiler.is_compiling() or any(run.causal or run.mask is not None for run in context.runs):
            return None
        return self.beside.ready()

    @torch.no_grad()
    def _pack(self) -> PackedLayers:
        from formers.kernels.packed import PackedLayers
        from formers.kernels.panels import Shape
        from formers.kernels.rows import Activation

        attention, mlp, norm = self._blocks[0].self_attn, self._blocks[0].mlp, self._blocks[0].mlp_norm
        assert isinstance(norm, nn.LayerNorm)
        shape = Shape(
            width=norm.normalized_shape[0],
            heads=attention.heads,
            head_width=attention.head_dim,
            inner=mlp.up_proj.out_features,
            activation=Activation[ACTIVATIONS[mlp.activation]],
            epsilon=norm.eps,
            scale=attention.scale,
        )
        firsts = [norm_of(block.attn_norm) for block in self._blocks]
        seconds = [norm_of(block.mlp_norm) for block in self._blocks]
        if self._norm is None:
            layers = [_weights(*each) for each in zip(self._blocks, firsts, seconds, strict=True)]
            packed = PackedLayers(shape, [layers[index] for index in self._order], None)
        else:
            # A layer's second norm is where the next one begins.
            nexts = [*firsts[1:], norm_of(self._norm)]
            layers = [_weights(*each) for each in zip(self._blocks, seconds, nexts, strict=True)]
            packed = PackedLayers(shape, layers, firsts[0])
        for block in self._blocks:
            _unpack(block)
        return packed


def require(stacked: Stacked | None) -> None:
    """Prepare at once; an error where that is not possible."""
    if stacked is None:
        raise InputError(
            "compiled=True was asked for, but these layers cannot be compiled.",
            'Leave it out; for BERT and its like, install numba: pip install "formers[fast]".',
        )
    stacked.wait()
    with torch.inference_mode(False):
        stacked.prepare()


def _shape(block: Block) -> tuple[object, ...]:
    attention, mlp = block.self_attn, block.mlp
    return (
        attention.heads,
        attention.head_dim,
        attention.scale,
        mlp.up_proj.out_features,
        mlp.activation,
        block.norm_first,
    )


def _is_common(block: Block) -> bool:
    attention, mlp = block.self_attn, block.mlp
    layers = (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj, mlp.up_proj, mlp.down_proj)
    norms = [norm for norm in (block.attn_norm, block.mlp_norm) if type(norm) is nn.LayerNorm]
    return (
        type(attention) is SelfAttention
        and type(mlp) is FeedForward
        and mlp.gate_proj is None
        and mlp.activation in ACTIVATIONS
        and attention.window is None
        and attention.rope_theta is None
        and not attention.even_padding
        and attention.scale > 0
        and len(norms) == 2
        and len({norm.eps for norm in norms}) == 1
        and all(type(layer) is Linear and not _quantized(layer) for layer in layers)
        and all(p.dtype is torch.float32 and p.device.type == "cpu" for p in block.parameters())
    )


def _quantized(layer: Linear) -> bool:
    return layer.compact is not None and isinstance(layer.compact.product, BlockWeight)


def _unpack(block: Block) -> None:
    """Forget other forms of the weights."""
    if block.self_attn.joint is not None:
        block.self_attn.joint.unpack()
    for module in block.modules():
        if isinstance(module, Linear):
            module.compact = None


def norm_of(norm: nn.Module | None) -> Norm:
    """Weight and bias of a norm."""
    from formers.kernels.panels import Norm

    assert isinstance(norm, nn.LayerNorm | RMSNorm)
    return Norm(norm.weight, norm.bias if isinstance(norm, nn.LayerNorm) else None)


def product_of(layer: Linear) -> Product:
    """Weights and bias of a dense layer."""
    from formers.kernels.panels import Product

    return Product(layer.weight, layer.bias)


def _weights(block: Block, middle: Norm, last: Norm) -> LayerWeights:
    from formers.kernels.packed import LayerWeights

    attention, mlp = block.self_attn, block.mlp
    return LayerWeights(
        query=product_of(attention.q_proj),
        key=product_of(attention.k_proj),
        value=product_of(attention.v_proj),
        output=product_of(attention.o_proj),
        up=product_of(mlp.up_proj),
        down=product_of(mlp.down_proj),
        middle=middle,
        last=last,
    )
