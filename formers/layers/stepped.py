"""A decoder's blocks for one new token of each row as one compiled call (`formers.kernels.step`).

It computes what `CausalBlock` computes with weights as they are, for the common kind of block only; `CausalBlock` is
the reference and does the rest. It is made beside the first steps of a model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from formers.layers.attention import sdpa
from formers.layers.beside import Beside
from formers.layers.block import FeedForward
from formers.layers.causal import CausalBlock, CausalContext
from formers.layers.linear import Linear
from formers.layers.norms import RMSNorm
from formers.layers.relative import CausalRelativeBias
from formers.layers.stacked import ACTIVATIONS, norm_of, product_of

if TYPE_CHECKING:
    from formers.kernels.dense import DecoderLayers, DecoderWeights
    from formers.layers.cache import Cache

# With more rows than so many, torch's products are as fast.
MOST_ROWS = 256
# Numbers of a vector: heads are read by whole ones.
_LANES = 16


class Stepped:
    """Some blocks, and how they see distances. What it keeps are all matrices in the order in which they are read."""

    def __init__(self, blocks: Sequence[CausalBlock], bias: CausalRelativeBias | None) -> None:
        self._blocks, self._bias = blocks, bias
        self.beside = Beside(blocks, self._made, ("numba", "formers.kernels.dense"))

    @staticmethod
    def of(blocks: Iterable[nn.Module], bias: object) -> Stepped | None:
        """The blocks of a decoder; None where one is not of the common kind, or numba is missing (extra `fast`)."""
        every = list(blocks)
        chosen = [block for block in every if type(block) is CausalBlock and _is_plain(block)]
        if not chosen or len(chosen) < len(every) or find_spec("numba") is None:
            return None
        if len({_shape(block) for block in chosen}) > 1 or not isinstance(bias, CausalRelativeBias | None):
            return None
        return Stepped(chosen, bias)

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()

    def prepare(self) -> None:
        """Be ready when this returns; it compiles, or reads what an earlier process has compiled."""
        self.beside.wait()
        self.beside.prepare()

    def compiled(self, x: Tensor, context: CausalContext) -> DecoderLayers | None:
        """What computes the pass of x (R, W): one new token of each row, in float32, nothing asked for on the way."""
        if x.dtype is not torch.float32 or context.function is not sdpa or torch.is_grad_enabled():
            return None
        if context.weights is not None or context.rotary or x.shape[0] > MOST_ROWS or x.device.type != "cpu":
            return None
        if any(run.length != 1 or run.mask is not None for run in context.runs) or torch.compiler.is_compiling():
            return None
        if (self._blocks[0].cross is None) != (context.reading is None):
            return None
        if context.reading is not None and context.reading.memory.states is not None:
            # The sources are read for the first time.
            return None
        return self.beside.ready()

    def run(
        self, layers: DecoderLayers, x: Tensor, context: CausalContext, cache: Cache, rows: Sequence[int]
    ) -> Tensor:
        """(R, W) to (R, W): a new token of each cache row, those of `rows`, in this order; it is stored there."""
        from formers.kernels.dense import Held

        memory = None if context.reading is None else context.reading.memory
        sources = memory.sources if memory is not None and memory.sources is not None else range(cache.rows)
        about = [(row, cache.lengths[row], sources[row] if memory is not None else 0) for row in rows]
        reach = max(cache.lengths) + 1
        held = []
        for index, (store, place) in enumerate(cache.slots):
            keys, values = cache.stores[store].keys[place], cache.stores[store].values[place]
            bias = None if self._bias is None else self._bias.distances(index, reach)
            held.append(Held(keys, values, bias, None if memory is None else memory.pairs[index]))
        origins = cache.stores[0].origins
        if origins is not None:
            # New tokens lie in their own rows, which are all as long.
            origins[:, cache.lengths[0]] = torch.arange(cache.rows)
        return layers(x, about, held, None if memory is None else memory.penalty(), origins)

    @torch.no_grad()
    def _made(self) -> DecoderLayers:
        from formers.kernels.dense import DecoderLayers, DecoderShape
        from formers.kernels.rows import Activation

        first = self._blocks[0]
        attention, mlp, norm = first.self_attn, first.mlp, first.mlp_norm
        assert isinstance(mlp, FeedForward)
        assert isinstance(norm, nn.LayerNorm | RMSNorm)
        shape = DecoderShape(
            width=mlp.up_proj.in_features,
            heads=attention.heads,
            head_width=attention.head_dim,
            inner=mlp.up_proj.out_features,
            activation=Activation[ACTIVATIONS[mlp.activation]],
            epsilon=norm.eps,
            scale=attention.scale,
            centred=isinstance(norm, nn.LayerNorm),
            norm_first=first.norm_first,
        )
        return DecoderLayers(shape, [_weights(block) for block in self._blocks])


def _shape(block: CausalBlock) -> tuple[object, ...]:
    attention, mlp, cross = block.self_attn, block.mlp, block.cross
    assert isinstance(mlp, FeedForward)
    return (
        attention.heads,
        attention.head_dim,
        attention.scale,
        None if cross is None else (cross.attention.num_heads, cross.attention.scale, cross.norm_first),
        mlp.up_proj.out_features,
        mlp.activation,
        block.norm_first,
        getattr(block.mlp_norm, "eps", None),
    )


def _is_plain(block: CausalBlock) -> bool:
    """Whether a block is of the common kind: one norm a half, heads of their own, no rotation, weights as they are."""
    attention, mlp, cross = block.self_attn, block.mlp, block.cross
    norms = [block.attn_norm, block.mlp_norm, *([] if cross is None else [cross.norm])]
    layers = [module for module in block.modules() if isinstance(module, nn.Linear)]
    return (
        block.norm_first != block.norm_after
        and not block.parallel
        and block.attn_output_norm is None
        and block.mlp_output_norm is None
        and (all(type(n) is nn.LayerNorm for n in norms) or all(_is_rms(n) for n in norms))
        and len({norm.eps for norm in norms if isinstance(norm, nn.LayerNorm | RMSNorm)}) == 1
        and attention.rotary is None
        and attention.window is None
        and attention.key_heads == attention.heads
        and attention.head_dim % _LANES == 0
        and not (attention.q_norm or attention.k_norm or attention.slopes or attention.cap)
        and (cross is None or (cross.attention.num_heads, cross.attention.scale) == (attention.heads, attention.scale))
        and type(mlp) is FeedForward
        and mlp.activation in ACTIVATIONS
        and all(type(layer) is Linear for layer in layers)
        and all(p.dtype is torch.float32 and p.device.type == "cpu" for p in block.parameters())
    )


def _is_rms(norm: nn.Module | None) -> bool:
    return type(norm) is RMSNorm and not norm.offset


def _weights(block: CausalBlock) -> DecoderWeights:
    from formers.kernels.dense import CrossWeights, DecoderWeights

    attention, mlp, cross = block.self_attn, block.mlp, block.cross
    assert isinstance(mlp, FeedForward)
    reads = None
    if cross is not None:
        query, output = product_of(cross.attention.q_proj), product_of(cross.attention.o_proj)
        reads = CrossWeights(query, output, norm_of(cross.norm))
    return DecoderWeights(
        query=product_of(attention.q_proj),
        key=product_of(attention.k_proj),
        value=product_of(attention.v_proj),
        output=product_of(attention.o_proj),
        up=product_of(mlp.up_proj),
        gate=None if mlp.gate_proj is None else product_of(mlp.gate_proj),
        down=product_of(mlp.down_proj),
        first=norm_of(block.attn_norm),
        last=norm_of(block.mlp_norm),
        cross=reads,
    )
