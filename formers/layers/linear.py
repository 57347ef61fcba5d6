"""Dense layers, and the memory order of their weights that suits inference on a CPU.

BLAS multiplies a few rows fastest by a matrix stored (in, out). `pack` stores a weight so; its shape, its values and
its place as a parameter stay as they are, so nothing has to be kept up to date.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Linear(nn.Linear):
    """x W^T + b for x (…, in) and W (out, in)."""

    def pack(self) -> None:
        """Store the weight in (in, out) order."""
        if self.weight.device.type == "cpu":
            self.weight.data = self.weight.data.t().contiguous().t()

    def unpack(self) -> None:
        """Store the weight in (out, in) order again, as optimisers expect."""
        self.weight.data = self.weight.data.contiguous()


class JointWeight:
    """The weights of several layers with the same input, stored side by side so that one product serves all of them.

    The layers' parameters become views of the joint memory: whatever changes them changes it.
    """

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        sizes = [layer.out_features for layer in layers]
        self.starts = [sum(sizes[:index]) for index in range(len(sizes))]
        self.weight = torch.cat([layer.weight.data.t() for layer in layers], dim=1).t()
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
        """Whether the layers still use this memory; assigning or moving a parameter ends it."""
        parameters = _parameters(layers)
        return len(parameters) == len(self._sources) and all(
            parameter is source and source.data_ptr() == place
            for parameter, (source, place) in zip(parameters, self._sources, strict=True)
        )


def _bias(layer: nn.Linear) -> Tensor | None:
    return layer.bias


def _parameters(layers: Sequence[nn.Linear]) -> list[Tensor]:
    biases = (_bias(layer) for layer in layers)
    return [*(layer.weight for layer in layers), *(bias for bias in biases if bias is not None)]
