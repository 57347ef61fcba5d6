"""Several dense layers with one input as one product."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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
        self._sources = [(parameter, parameter.data_ptr()) for parameter in _parameters(layers)]

    def __call__(self, x: Tensor, first: int) -> Tensor:
        """The outputs of all layers from `first` on, side by side."""
        start = self.starts[first]
        return F.linear(x, self.weight[start:], None if self.bias is None else self.bias[start:])

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


def _bias(layer: nn.Linear) -> Tensor | None:
    return layer.bias


def _parameters(layers: Sequence[nn.Linear]) -> list[Tensor]:
    biases = (_bias(layer) for layer in layers)
    return [*(layer.weight for layer in layers), *(bias for bias in biases if bias is not None)]
