"""Dense layers with int8 weights, one scale an output, whose inputs are quantized as they come."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Sequence
from operator import is_
from typing import Any

import torch
from torch import Tensor, nn

from formers.errors import UnsupportedError
from formers.layers.linear import hooked

# By speed; the first that this build of torch has.
_ENGINES = ("onednn", "x86", "fbgemm", "qnnpack")

# Of the magnitude of a row: what is divided by.
_LEAST = 1e-30
# At a time: what lies between two operations stays in the processor's cache.
_ROWS = 512


class Int8Linear(nn.Module):
    """x (…, in) to (…, out) in float32: each row of x becomes integers of 8 bits, and the product is theirs.

    `weight` (out, in) is int8 and `weight_scale` (out,) float32. For inference alone: nothing flows back.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = nn.Parameter(torch.empty(out_features, in_features, dtype=torch.int8), requires_grad=False)
        self.weight_scale = nn.Parameter(torch.empty(out_features), requires_grad=False)
        self.bias = nn.Parameter(torch.empty(out_features), requires_grad=False) if bias else None
        # Made at the first call, and what it was made of.
        self._product: tuple[Product, list[tuple[int, int]]] | None = None

    @staticmethod
    def like(layer: nn.Linear) -> Int8Linear:
        """A layer of the same size, without values."""
        made = Int8Linear(layer.in_features, layer.out_features, layer.bias is not None)
        return made.to(layer.weight.device)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_product": None}

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) to (…, out)."""
        now = [(each.data_ptr(), 0 if each.is_inference() else each._version) for each in self._tensors()]
        if self._product is None or self._product[1] != now:
            self._product = Product([self]), now
        return self._product[0](x)

    def _tensors(self) -> list[Tensor]:
        return [each for each in self._parameters.values() if each is not None]

    def reference(self, x: Tensor) -> Tensor:
        """The product with the weights as float32, and x as it is."""
        weight = self.weight.float() * self.weight_scale[:, None]
        return torch.nn.functional.linear(x, weight, self.bias)

    def extra_repr(self) -> str:
        """As torch's dense layer."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


def per_row(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix as int8, and the scale (float32) of each row: its largest magnitude / 127."""
    weight = weight.detach().float()
    scale = weight.abs().amax(1) / 127
    steps = torch.where(scale > 0, scale, 1.0)
    return (weight / steps[:, None]).round_().clamp_(-127, 127).to(torch.int8), steps


class Product:
    """The weights of some layers with the same input, in the order in which one product of integers reads them."""

    def __init__(self, layers: Sequence[Int8Linear]) -> None:
        engine = next((name for name in _ENGINES if name in torch.backends.quantized.supported_engines), None)
        if engine is None:
            raise UnsupportedError("This build of torch has no int8 products.", "Load the model without quantize=.")
        with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
            # torch means to drop tensors of integers, not their products, which take nothing else yet.
            warnings.filterwarnings("ignore", ".*quantize_per_tensor", UserWarning)
            scale = torch.cat([layer.weight_scale.clone() for layer in layers])
            weight = torch.cat([layer.weight.clone() for layer in layers])
            zeros = torch.zeros(len(scale), dtype=torch.long)
            matrix = torch._make_per_channel_quantized_tensor(weight, scale.double(), zeros, 0)
            biases = [
                each.weight_scale.new_zeros(each.out_features) if each.bias is None else each.bias for each in layers
            ]
            self._bias, self._width = torch.cat(biases), len(scale)
            # The engine is torch's global setting; it decides here alone.
            before = torch.backends.quantized.engine
            torch.backends.quantized.engine = engine
            try:
                self._packed = torch.ops.quantized.linear_prepack(matrix, None)
            finally:
                torch.backends.quantized.engine = before
        # Processors without these products add two of 8 bits in 16, where the eighth bit may be one too many.
        self._narrow = _narrow()

    def __call__(self, x: Tensor) -> Tensor:
        """(…, in) to (…, out), for all layers side by side."""
        if x.dim() == 2 and len(x) <= _ROWS:
            return self._rows(x, None)
        flat = x.reshape(-1, x.shape[-1])
        out = flat.new_empty(len(flat), self._width)
        for start in range(0, len(flat), _ROWS):
            self._rows(flat[start : start + _ROWS], out[start : start + _ROWS])
        return out.view(*x.shape[:-1], self._width)

    def _rows(self, x: Tensor, out: Tensor | None) -> Tensor:
        # The operation has one scale for all of x. With rows of one size none loses by another, nor by its neighbours.
        sizes = torch.maximum(x.amax(-1, True), -x.amin(-1, True)).clamp_(min=_LEAST)
        product: Tensor = torch.ops.quantized.linear_dynamic(x / sizes, self._packed, self._narrow)
        return torch.addcmul(self._bias, product, sizes, out=product if out is None else out)


class Int8Joint:
    """One product for layers with the same input, as `formers.layers.linear.JointWeight`."""

    bias = None

    def __init__(self, layers: Sequence[Int8Linear]) -> None:
        self._sources = [each for layer in layers for each in layer._tensors()]
        self._state = [each._version for each in self._sources]
        self._product = Product(layers)
        sizes = [layer.out_features for layer in layers]
        self._starts = [sum(sizes[:index]) for index in range(len(sizes))]

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()

    def __call__(self, x: Tensor, first: int) -> Tensor:
        """The outputs of all layers from `first` on, side by side."""
        return self._product(x)[..., self._starts[first] :]

    def compacted(self, x: Tensor) -> bool:
        """Whether products are made with the weights in fewer bytes: always."""
        return True

    def holds(self, layers: Sequence[nn.Module]) -> bool:
        """Whether the layers may be computed as one: none has changed, and none has a hook."""
        tensors = [each for layer in layers for each in layer._parameters.values() if each is not None]
        same = len(tensors) == len(self._sources) and all(map(is_, tensors, self._sources))
        return same and [each._version for each in tensors] == self._state and not hooked(layers)


def _narrow() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64") and not torch.cpu._is_vnni_supported()
