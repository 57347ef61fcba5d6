"""Dense layers with int8 weights, one scale an output, whose inputs are quantized as they come."""

from __future__ import annotations

import platform
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from formers.errors import UnsupportedError

# By speed; the first that this build of torch has.
_ENGINES = ("onednn", "x86", "fbgemm", "qnnpack")


class Int8Linear(nn.Module):
    """x (…, in) to (…, out) in float32: x becomes 8-bit integers with one scale a call, the product is one of integers.

    `weight` (out, in) is int8 and `weight_scale` (out,) float32. For inference alone: nothing flows back.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = nn.Parameter(torch.empty(out_features, in_features, dtype=torch.int8), requires_grad=False)
        self.weight_scale = nn.Parameter(torch.empty(out_features), requires_grad=False)
        self.bias = nn.Parameter(torch.empty(out_features), requires_grad=False) if bias else None
        # The weights in the order in which the product reads them, made at the first call, and what they were made of.
        self._packed: tuple[Any, list[tuple[int, int]]] | None = None

    @staticmethod
    def like(layer: nn.Linear) -> Int8Linear:
        """A layer of the same size, without values."""
        made = Int8Linear(layer.in_features, layer.out_features, layer.bias is not None)
        return made.to(layer.weight.device)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_packed": None}

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) to (…, out)."""
        now = [
            (p.data_ptr(), 0 if p.is_inference() else p._version) for p in self._parameters.values() if p is not None
        ]
        if self._packed is None or self._packed[1] != now:
            self._packed = _packed(self.weight, self.weight_scale, self.bias), now
        # Processors without these products add two of 8 bits in 16, where the eighth bit may be one too many.
        out: Tensor = torch.ops.quantized.linear_dynamic(x.contiguous(), self._packed[0], _narrow())
        return out

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


def _packed(weight: Tensor, scale: Tensor, bias: Tensor | None) -> Any:
    engine = next((name for name in _ENGINES if name in torch.backends.quantized.supported_engines), None)
    if engine is None:
        raise UnsupportedError("This build of torch has no int8 products.", "Load the model without quantize=.")
    with torch.inference_mode(False):
        zeros = torch.zeros(len(scale), dtype=torch.long)
        with warnings.catch_warnings():
            # torch means to drop tensors of integers, not their products, which take nothing else yet.
            warnings.filterwarnings("ignore", ".*quantize_per_tensor", UserWarning)
            matrix = torch._make_per_channel_quantized_tensor(weight.detach(), scale.detach().double(), zeros, 0)
        # The engine is torch's global setting; it decides here alone.
        before = torch.backends.quantized.engine
        torch.backends.quantized.engine = engine
        try:
            return torch.ops.quantized.linear_prepack(matrix, None if bias is None else bias.detach())
        finally:
            torch.backends.quantized.engine = before


def _narrow() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64") and not torch.cpu._is_vnni_supported()
