"""Dense layers, and what makes them fast where few tokens pass: half the bytes to read, or one product for several."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import is_

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Up to so many rows a product waits for its weights rather than for arithmetic.
MOST_ROWS = 64


class HalfWeight:
    """A dense layer's weights as 16-bit floats, for products of few rows: the same numbers for half the reading.

    Only for weights that 16-bit floats hold exactly, as those of checkpoints stored so; products and sums are float32.
    `sources` are the parameters that the weights come from: once they change or move, these are not used any more.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, sources: Iterable[Tensor | None]) -> None:
        self._packed = torch.ops.quantized.linear_prepack_fp16(weight, bias)
        product = torch.ops.quantized.linear_dynamic_fp16.default
        # Without torch's checks of the arguments on the way, which take as long as a small product.
        self._product = getattr(product, "_op", product)
        self._state = _state(sources)

    @staticmethod
    def of(weight: Tensor, bias: Tensor | None, sources: Iterable[Tensor | None]) -> HalfWeight | None:
        """These weights (out, in) and bias (out,), or None where they are not exact or the CPU has no such product."""
        if weight.device.type != "cpu" or weight.dtype != torch.float32 or weight.is_inference():
            return None
        if torch.backends.quantized.engine not in _ENGINES or not (_exact(weight[:1]) and _exact(weight)):
            return None
        return HalfWeight(weight.detach(), None if bias is None else bias.detach(), sources)

    def serves(self, x: Tensor, sources: Iterable[Tensor | None]) -> bool:
        """Whether x is a few rows (T, in) in float32 without gradients, and the parameters are as they were."""
        few = x.dim() == 2 and x.shape[0] <= MOST_ROWS and x.dtype is torch.float32
        return few and not torch.is_grad_enabled() and _state(sources) == self._state

    def __call__(self, x: Tensor) -> Tensor:
        """(T, in) to (T, out)."""
        out: Tensor = self._product(x, self._packed)
        return out


# The engines whose 16-bit products run on x86.
_ENGINES = ("x86", "fbgemm", "onednn")


class Linear(nn.Linear):
    """torch's dense layer, which for inference also keeps its weights as 16-bit floats where that loses nothing."""

    half_weight: HalfWeight | None = None

    def pack(self) -> None:
        """Prepare for inference with few tokens."""
        self.half_weight = HalfWeight.of(self.weight, self.bias, self._parameters.values())

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) to (…, out)."""
        half = self.half_weight
        if half is not None and half.serves(x, self._parameters.values()):
            return half(x)
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
        self._half = HalfWeight.of(self.weight, self.bias, self._sources)

    def __call__(self, x: Tensor, first: int) -> Tensor:
        """The outputs of all layers from `first` on, side by side."""
        start = self.starts[first]
        if self._half is not None and self._half.serves(x, self._sources):
            out = self._half(x)
            return out if start == 0 else out[:, start:]
        if start == 0:
            return F.linear(x, self.weight, self.bias)
        return F.linear(x, self.weight[start:], None if self.bias is None else self.bias[start:])

    def halved(self, x: Tensor) -> bool:
        """Whether the product with x is made with 16-bit weights."""
        return self._half is not None and self._half.serves(x, self._sources)

    def holds(self, layers: Sequence[nn.Linear]) -> bool:
        """Whether the layers may be computed as one: they still use this memory, and none has a hook.

        Assigning or moving a parameter ends the former.
        """
        if hooked(layers):
            return False
        parameters = _parameters(layers)
        return (
            len(parameters) == len(self._sources)
            and all(map(is_, parameters, self._sources))
            and [parameter.data_ptr() for parameter in parameters] == self._places
        )


def hooked(modules: Iterable[nn.Module]) -> bool:
    """Whether any of the modules has a forward hook, which a joint operation would not call."""
    return any(module._forward_hooks or module._forward_pre_hooks for module in modules)


def _exact(weight: Tensor) -> bool:
    return torch.equal(weight.half().float(), weight)


def _state(parameters: Iterable[Tensor | None]) -> list[tuple[int, int]]:
    return [(each.data_ptr(), each._version) for each in parameters if each is not None]


def _bias(layer: nn.Linear) -> Tensor | None:
    return layer.bias


def _parameters(layers: Sequence[nn.Linear]) -> list[Tensor]:
    return [each for layer in layers for each in layer._parameters.values() if each is not None]
