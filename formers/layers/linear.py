"""Dense layers, and their packed form for inference on a CPU.

Packing lays a float32 weight out once in the blocks that oneDNN multiplies by, and lets one call add the bias, apply the
activation or add the residual. The packed copy is used only while gradients are off and the weight is unchanged.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from formers.layers.activations import Activation, gelu_tanh

# Activation function -> (attribute, algorithm) of oneDNN's fused product.
_FUSED: dict[Any, tuple[str, str]] = {
    F.gelu: ("gelu", "none"),
    gelu_tanh: ("gelu", "tanh"),
    F.relu: ("relu", ""),
    torch.tanh: ("tanh", ""),
    F.silu: ("swish", ""),
}
# Rows for which the packed layout is chosen; from ROWS_MAX on, torch's own product is as fast.
_ROWS_HINT = 32
_ROWS_MAX = 256


def can_pack() -> bool:
    """Whether this build of torch has the fused products."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class PackedWeight:
    """A float32 CPU weight (out, in) in oneDNN's blocks, with the state of the weight it was made from."""

    def __init__(self, weights: list[Tensor], biases: list[Tensor | None]) -> None:
        self.sources = [*weights, *(bias for bias in biases if bias is not None)]
        self.versions = [source._version for source in self.sources]
        joined = weights[0] if len(weights) == 1 else torch.cat(weights)
        self.weight = torch.ops.mkldnn._reorder_linear_weight(joined.detach(), _ROWS_HINT)
        kept = [bias.detach() for bias in biases if bias is not None]
        self.bias = None if not kept else (kept[0] if len(kept) == 1 else torch.cat(kept))

    def fresh(self) -> bool:
        """Whether the original weights are still what was packed."""
        return all(s._version == version for s, version in zip(self.sources, self.versions, strict=True))


class Linear(nn.Linear):
    """x W^T + b, with the activation or the residual that follows it when a caller names one."""

    packed: PackedWeight | None = None

    def pack(self) -> None:
        """Prepare the packed copy, where that is possible."""
        if self.weight.dtype == torch.float32 and self.weight.device.type == "cpu" and can_pack():
            self.packed = PackedWeight([self.weight], [self.bias])

    def usable(self, x: Tensor) -> PackedWeight | None:
        """The packed copy if this input may use it."""
        packed = self.packed
        if packed is None or torch.is_grad_enabled() or x.dtype != torch.float32 or x.shape[0] > _ROWS_MAX:
            return None
        return packed if packed.fresh() else None

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) to (…, out)."""
        packed = self.usable(x)
        if packed is None:
            return F.linear(x, self.weight, self.bias)
        return torch.ops.mkldnn._linear_pointwise(x, packed.weight, packed.bias, "none", [], "")

    def activated(self, x: Tensor, activation: Activation) -> Tensor:
        """activation(x W^T + b)."""
        packed = self.usable(x)
        fused = _FUSED.get(activation)
        if packed is None or fused is None:
            return activation(self(x))
        return torch.ops.mkldnn._linear_pointwise(x, packed.weight, packed.bias, fused[0], [], fused[1])

    def added(self, x: Tensor, residual: Tensor) -> Tensor:
        """residual + x W^T + b."""
        packed = self.usable(x)
        if packed is None:
            return residual + self(x)
        return torch.ops.mkldnn._linear_pointwise.binary(x, residual, packed.weight, packed.bias, "add")
