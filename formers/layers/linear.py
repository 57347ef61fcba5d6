"""Dense layers, and what makes them fast where few tokens pass: half the bytes to read, or one product for several."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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

    def __init__(self, weight: Tensor, bias: Tensor | None, sources: Sequence[Tensor]) -> None:
        self._packed = torch.ops.quantized.linear_prepack_fp16(weight, bias)
        self._product = torch.ops.quantized.linear_dynamic_fp16.default
        self._state = _state(sources)

    @staticmethod
    def of(weight: Tensor, bias: Tensor | None, sources: Sequence[Tensor]) -> HalfWeight | None:
        """These weights (out, in) and bias (out,), or None where they are not exact or the CPU has no such product."""
        if weight.device.type != "cpu" or weight.dtype != torch.float32 or any(map(torch.is_inference, sources)):
            return None
        if torch.backends.quantized.engine not in _ENGINES or not (_exact(weight[:1]) and _exact(weight)):
            return None
        return HalfWeight(weight.detach(), None if bias is None else bias.detach(), sources)

    def serves(self, x: Tensor, sources: Sequence[Tensor]) -> bool:
        """Whether x is a few rows (T, in) in float32 without gradients, and the parameters are as they were."""
        few = x.dim() == 2 and x.shape[0] <= MOST_ROWS and x.dtype == torch.float32
        return few and not torch.is_grad_enabled() and self._state == _state(sources)

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
        self.half_weight = HalfWeight.of(self.weight, self.bias, _parameters([self]))

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) to (…, out)."""
        half = self.half_weight
        if half is not None and half.serves(x, _parameters([self])):
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
        parameters = _parameters(layers)
        self._sources = [(parameter, parameter.data_ptr()) for parameter in parameters]
        self._half = HalfWeight.of(self.weight, self.bias, parameters)

    def __call__(self, x: Tensor, first: int) -> Tensor:
        """The outputs of all layers from `first` on, side by side."""
        start = self.starts[first]
        if self.halved(x):
            assert self._half is not None
            return self._half(x)[:, start:]
        return F.linear(x, self.weight[start:], None if self.bias is None else self.bias[start:])

    def halved(self, x: Tensor) -> bool:
        """Whether the product with x is made with 16-bit weights."""
        return self._half is not None and self._half.serves(x, [parameter for parameter, _ in self._sources])

    def holds(self, layers: Sequence[nn.Linear]) -> bool:
        """Whether the layers may be computed as one: they still use this memory, and none has a hook.

        Assigning or moving a parameter ends the former.
        """
        if hooked(layers):
            return False
        parameters = _parameters(layers)
        return len(parameters) == len(self._sources) and all(
            parameter is source and source.data_ptr() == place
            for parameter, (source, place) in zip(parameters, self._sources, strict=True)
        )


def hooked(modules: Iterable[nn.Module]) -> bool:
    """Whether any of the modules has a forward hook, which a joint operation would not call."""
    return any(module._forward_hooks or module._forward_pre_hooks for module in modules)


def _exact(weight: Tensor) -> bool:
    return torch.equal(weight.half().float(), weight)


def _state(tensors: Sequence[Tensor]) -> list[tuple[int, int]]:
    return [(tensor.data_ptr(), tensor._version) for tensor in tensors]


def _bias(layer: nn.Linear) -> Tensor | None:
    return layer.bias


def _parameters(layers: Sequence[nn.Linear]) -> list[Tensor]:
    biases = (_bias(layer) for layer in layers)
    return [*(layer.weight for layer in layers), *(bias for bias in biases if bias is not None)]
