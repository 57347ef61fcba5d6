"""Dense layers, and what makes them fast where few tokens pass: half the bytes to read, or one product for several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from operator import is_
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from formers.hub.gguf_blocks import Blocks
from formers.kernels.blocks import BlockWeight, Memory
from formers.layers.beside import Beside

if TYPE_CHECKING:
    from formers.kernels.wide import WideWeight

# Up to so many rows a product waits for its weights rather than for arithmetic.
MOST_ROWS = 64
# Outputs from which a product of few rows is worth memory of its own.
WIDE = 8192

State = Sequence[tuple[int, int]]


class HalfWeight:
    """A dense layer's weights as 16-bit floats, for products of few rows: the same numbers for half the reading.

    Only for weights that 16-bit floats hold exactly, as those of checkpoints stored so; products and sums are float32.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._packed = torch.ops.quantized.linear_prepack_fp16(weight, bias)
        product = torch.ops.quantized.linear_dynamic_fp16.default
        # Without torch's checks of the arguments on the way, which take as long as a small product.
        self._product = getattr(product, "_op", product)

    @staticmethod
    def of(weight: Tensor, bias: Tensor | None) -> HalfWeight | None:
        """These weights (out, in) and bias (out,), or None where they are not exact or the CPU has no such product."""
        if torch.backends.quantized.engine not in _ENGINES or not (_exact(weight[:1]) and _exact(weight)):
            return None
        return HalfWeight(weight.detach(), None if bias is None else bias.detach())

    def serves(self, x: Tensor) -> bool:
        """Whether x is a few rows (T, in) in float32, and no gradients are asked for."""
        few = x.dim() == 2 and x.shape[0] <= MOST_ROWS and x.dtype is torch.float32
        return few and not torch.is_grad_enabled()

    def __call__(self, x: Tensor) -> Tensor:
        """(T, in) to (T, out)."""
        out: Tensor = self._product(x, self._packed)
        return out


# The engines whose 16-bit products run on x86.
_ENGINES = ("x86", "fbgemm", "onednn")


@dataclass
class Packing:
    """What preparing a model for inference works with: the blocks that parameters were read from, by their id()."""

    blocks: Mapping[int, Blocks] = field(default_factory=dict)
    memory: Memory = field(default_factory=Memory)


@dataclass(frozen=True)
class Stored:
    """The blocks of a file that a parameter was read from. They say what it is as long as nothing has changed it."""

    blocks: Blocks
    state: State

    @staticmethod
    def of(parameter: Tensor, blocks: Blocks) -> Stored:
        """A parameter that has just been read."""
        return Stored(blocks, _state((parameter,)))

    def current(self, parameter: Tensor) -> bool:
        """Whether the parameter is as it was."""
        return _comparable(parameter) and _state((parameter,)) == self.state


class Compact:
    """A layer's weights in fewer bytes beside its parameters, for products of few rows.

    `sources` are the parameters that they come from: once these change or move, they are not used any more.
    """

    def __init__(self, product: HalfWeight | BlockWeight, sources: Iterable[Tensor | None]) -> None:
        self.product = product
        self._state = _state(sources)

    @staticmethod
    def of(
        weight: Tensor,
        bias: Tensor | None,
        sources: Sequence[Tensor],
        layers: Sequence[nn.Linear],
        packing: Packing | None,
    ) -> Compact | None:
        """Weights (out, in), those of `layers` one after another, and bias (out,); None if they stay as they are."""
        if not _comparable(weight):
            return None
        packing = packing or Packing()
        blocks = [packing.blocks.get(id(layer.weight)) for layer in layers]
        product = BlockWeight.of(blocks, bias, packing.memory) or HalfWeight.of(weight, bias)
        return None if product is None else Compact(product, sources)

    def fresh(self, sources: Iterable[Tensor | None]) -> bool:
        """Whether the parameters are as they were."""
        return _state(sources) == self._state

    def serves(self, x: Tensor, sources: Iterable[Tensor | None]) -> bool:
        """Whether this computes the product with x (T, in): few rows, float32, no gradients, the same parameters."""
        return self.product.serves(x) and _state(sources) == self._state

    def __call__(self, x: Tensor) -> Tensor:
        """(T, in) to (T, out)."""
        return self.product(x)


class Linear(nn.Linear):
    """torch's dense layer, which for inference also keeps its weights in fewer bytes where that loses nothing."""

    compact: Compact | None = None
    # The weights of a vocabulary, in the order in which a compiled product reads them.
    wide: Beside[WideWeight] | None = None

    def pack(self, packing: Packing | None = None) -> None:
        """Prepare for inference with few tokens."""
        if self.compact is None or not self.compact.fresh(self._parameters.values()):
            self.compact = Compact.of(self.weight, self.bias, _parameters((self,)), (self,), packing)
        dense = self.compact is None or isinstance(self.compact.product, HalfWeight)
        if self.wide is None and dense and self.out_features >= WIDE and find_spec("numba") is not None:
            self.wide = Beside([self], self._widened, ("numba", "formers.kernels.wide"))

    def _widened(self) -> WideWeight:
        from formers.kernels.wide import WideWeight

        made = WideWeight(self.weight, self.bias)
        self.compact = None
        return made

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) to (…, out)."""
        compact = self.compact
        if self.wide is not None:
            few = x.dtype is torch.float32 and x.numel() <= MOST_ROWS * self.in_features and x.device.type == "cpu"
            if few and not torch.is_grad_enabled() and not torch.compiler.is_compiling() and _comparable(self.weight):
                wide = self.wide.ready()
                if wide is not None:
                    return wide(x.reshape(-1, self.in_features)).view(*x.shape[:-1], self.out_features)
        if compact is not None:
            if x.dim() == 3:
                # A step of generation has few rows, whatever their shape.
                flat = x.view(-1, x.shape[-1]) if x.is_contiguous() else x
                if compact.serves(flat, self._parameters.values()):
                    return compact(flat).view(*x.shape[:-1], -1)
            elif compact.serves(x, self._parameters.values()):
                return compact(x)
        return F.linear(x, self.weight, self.bias)


class JointWeight:
    """The weights of several layers with the same input, stored one after another so that one product serves them all.

    The layers' parameters become views of the joint memory: whatever changes them changes it.
    """

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        sizes = [layer.out_features for layer in layers]
        self.starts = [sum(sizes[:index]) for index in range(len(sizes))]
        self.weight = torch.cat([layer.weight.data for layer in layers])
        for layer, weight in zip(layers, self.weight.split(sizes), strict=True):
            layer.weight.data = weight
        self.bias: Tensor | None = None
        biases = [_bias(layer) for layer in layers]
        if any(bias is not None for bias in biases):
            # A layer without a bias adds nothing.
            self.bias = self.weight.new_zeros(sum(sizes))
            for bias, part in zip(biases, self.bias.split(sizes), strict=True):
                if bias is not None:
                    bias.data = part.copy_(bias.data)
        self._sources = _parameters(layers)
        self._places = [parameter.data_ptr() for parameter in self._sources]
        self._compact: Compact | None = None

    @staticmethod
    def packed(layers: Sequence[nn.Linear], packing: Packing | None, earlier: JointWeight | None) -> JointWeight:
        """The joint weights of the layers, in fewer bytes too where that loses nothing; `earlier`, if still good."""
        joint = earlier if earlier is not None and earlier.stores(layers) else JointWeight(layers)
        if joint._compact is None or not joint._compact.fresh(joint._sources):
            joint._compact = Compact.of(joint.weight, joint.bias, joint._sources, layers, packing)
        return joint

    def __call__(self, x: Tensor, first: int) -> Tensor:
        """The outputs of all layers from `first` on, side by side."""
        start, compact = self.starts[first], self._compact
        if compact is not None and compact.serves(x, self._sources):
            out = compact(x)
            return out if start == 0 else out[:, start:]
        if start == 0:
            return F.linear(x, self.weight, self.bias)
        return F.linear(x, self.weight[start:], None if self.bias is None else self.bias[start:])

    def compacted(self, x: Tensor) -> bool:
        """Whether the product with x is made with the weights in fewer bytes."""
        compact = self._compact
        return compact is not None and compact.serves(x, self._sources)

    def unpack(self) -> None:
        """Forget the weights in fewer bytes."""
        self._compact = None

    @property
    def product(self) -> HalfWeight | BlockWeight | None:
        """The weights in fewer bytes."""
        return None if self._compact is None else self._compact.product

    def holds(self, layers: Sequence[nn.Linear]) -> bool:
        """Whether the layers may be computed as one: they still use this memory, and none has a hook.

        Assigning or moving a parameter ends the former.
        """
        return not hooked(layers) and self.stores(layers)

    def stores(self, layers: Sequence[nn.Linear]) -> bool:
        """Whether the layers still use this memory."""
        parameters = _parameters(layers)
        return (
            len(parameters) == len(self._sources)
            and all(map(is_, parameters, self._sources))
            and [parameter.data_ptr() for parameter in parameters] == self._places
        )


def hooked(modules: Iterable[nn.Module]) -> bool:
    """Whether any of the modules has a forward hook, which a joint operation would not call."""
    return any(module._forward_hooks or module._forward_pre_hooks for module in modules)


def _comparable(weight: Tensor) -> bool:
    """Whether these are weights that few rows can meet in another form, and whose changes are counted."""
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and not weight.is_inference()


def _exact(weight: Tensor) -> bool:
    return torch.equal(weight.half().float(), weight)


def _state(parameters: Iterable[Tensor | None]) -> list[tuple[int, int]]:
    return [(each.data_ptr(), each._version) for each in parameters if each is not None]


def _bias(layer: nn.Linear) -> Tensor | None:
    return layer.bias


def _parameters(layers: Sequence[nn.Linear]) -> list[Tensor]:
    return [each for layer in layers for each in layer._parameters.values() if each is not None]
