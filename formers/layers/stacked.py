"""An encoder's blocks as one compiled call (`formers.kernels.stack`), prepared beside the first calls of a model.

It computes what `Block` computes, for the common kind of block only; `Block` is the reference and does the rest.
"""

from __future__ import annotations

import threading
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
from formers.layers.block import Block, FeedForward
from formers.layers.layout import Run
from formers.layers.linear import Linear
from formers.layers.watch import Watch

if TYPE_CHECKING:
    from formers.kernels.packed import LayerWeights, Norm, PackedLayers, Product

# Compiled code is fetched, or made, for models that are called so often: a process that answers once does without.
CALLS = 3

# By the names of `formers.kernels.stack.Activation`.
_ACTIVATIONS = {
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
        self._packed: PackedLayers | None = None
        self._watch: Watch | None = None
        self._calls = 0
        self._work: threading.Thread | None = None

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
        watch = Watch(self._modules())
        if self._packed is None or self._watch is None or not self._watch.same():
            self._packed, self._watch = self._pack(), watch
            for block in self._blocks:
                _unpack(block)

    def serves(self, x: Tensor, context: AttentionContext) -> bool:
        """Whether this computes the pass of x (T, W): float32 on a CPU, no gradients, nothing asked for on the way.

        To be asked once a pass. After some passes that this could compute, preparing begins in a thread of its own.
        """
        if torch.is_grad_enabled() or x.dtype is not torch.float32 or x.device.type != "cpu":
            return False
        if context.function is not sdpa or context.weights is not None or context.position_bias is not None:
            return False
        if torch.compiler.is_compiling() or any(run.causal or run.mask is not None for run in context.runs):
            return False
        if self._packed is not None and self._watch is not None:
            if self._watch.same():
                return self._watch.unseen()
            # Other weights: preparing begins anew.
            self._packed, self._watch, self._calls = None, None, 0
        if self._work is None:
            self._calls += 1
            if self._calls == CALLS and not any(block.training for block in self._blocks):
                self._work = threading.Thread(target=self._prepare_beside, name="formers-prepare")
                self._work.start()
        return False

    def wait(self) -> None:
        """Until what has begun is done."""
        if (work := self._work) is not None:
            work.join()

    def __call__(self, x: Tensor, runs: Sequence[Run], narrow: bool) -> Tensor:
        """(T, W) to (T, W); `narrow`: to (B, W), those of each sequence's first token."""
        assert self._packed is not None
        return self._packed(x, [run.length for run in runs for _ in range(run.batch)], narrow)

    def _modules(self) -> list[nn.Module]:
        return [*self._blocks, *([] if self._norm is None else [self._norm])]

    def _prepare_beside(self) -> None:
        try:
            # Step by step: a process that ends meanwhile waits for one step only.
            for step in (_import_numba, _import_kernels, self.prepare):
                if not threading.main_thread().is_alive():
                    return
                step()
        except (ImportError, RuntimeError, OSError):
            # numba is not for this machine, or finds no folder for its cache: blocks remain as they are.
            return
        finally:
            if self._packed is not None:
                self._work = None

    @torch.no_grad()
    def _pack(self) -> PackedLayers:
        from formers.kernels.packed import PackedLayers, Shape
        from formers.kernels.stack import Activation

        attention, mlp, norm = self._blocks[0].self_attn, self._blocks[0].mlp, self._blocks[0].mlp_norm
        assert isinstance(norm, nn.LayerNorm)
        shape = Shape(
            width=norm.normalized_shape[0],
            heads=attention.heads,
            head_width=attention.head_dim,
            inner=mlp.up_proj.out_features,
            activation=Activation[_ACTIVATIONS[mlp.activation]],
            epsilon=norm.eps,
            scale=attention.scale,
        )
        firsts = [_norm(block.attn_norm) for block in self._blocks]
        seconds = [_norm(block.mlp_norm) for block in self._blocks]
        # A layer's second norm is where the next one begins, where norms come first.
        if self._norm is None:
            layers = [_weights(*each) for each in zip(self._blocks, firsts, seconds, strict=True)]
            return PackedLayers(shape, [layers[index] for index in self._order], None)
        nexts = [*firsts[1:], _norm(self._norm)]
        return PackedLayers(
            shape, [_weights(*each) for each in zip(self._blocks, seconds, nexts, strict=True)], firsts[0]
        )


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


def _import_numba() -> None:
    import numba  # noqa: F401


def _import_kernels() -> None:
    import formers.kernels.stack  # noqa: F401


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
        and mlp.activation in _ACTIVATIONS
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


def _norm(norm: nn.Module | None) -> Norm:
    from formers.kernels.packed import Norm

    assert isinstance(norm, nn.LayerNorm)
    return Norm(norm.weight, norm.bias)


def _weights(block: Block, middle: Norm, last: Norm) -> LayerWeights:
    from formers.kernels.packed import LayerWeights, Product

    def product(layer: Linear) -> Product:
        return Product(layer.weight, layer.bias)

    attention, mlp = block.self_attn, block.mlp
    return LayerWeights(
        query=product(attention.q_proj),
        key=product(attention.k_proj),
        value=product(attention.v_proj),
        output=product(attention.o_proj),
        up=product(mlp.up_proj),
        down=product(mlp.down_proj),
        middle=middle,
        last=last,
    )
