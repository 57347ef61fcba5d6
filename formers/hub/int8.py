"""Weights stored as int8, one float32 scale per output channel: a quarter of the size, read back as float32.

In a file, the weight `X` (out, in) is int8, and `X_scale` (out,) is float32; `X ≈ int8 · scale`. A scale has four
significant bits, so that the product has eleven: what comes back is exact in 16-bit floats too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from formers.errors import CheckpointError, InputError
from formers.hub.weights import Weights

if TYPE_CHECKING:
    import torch

_SCALE = "_scale"


def quantize(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Every 2-d floating weight as int8 with its scales (symmetric, by the row's largest magnitude); others unchanged.

    The error of an entry is at most half a step, `max|row| / 225`.
    """
    import torch

    stored: dict[str, torch.Tensor] = {}
    for key, tensor in tensors.items():
        if tensor.dim() != 2 or not tensor.is_floating_point() or tensor.numel() == 0:
            stored[key] = tensor
            continue
        if key + _SCALE in tensors:
            raise InputError(f"{key!r} cannot be stored as int8: {key + _SCALE!r} is taken.", "Rename that weight.")
        values = tensor.detach().float()
        scale = values.abs().amax(dim=1) / 127
        if not torch.isfinite(scale).all():
            raise InputError(f"{key!r} holds values that are not finite.", "Repair the weights before storing them.")
        mantissa, exponent = torch.frexp(torch.where(scale > 0, scale, 1.0))
        scale = torch.ldexp((mantissa * 16).ceil() / 16, exponent)
        stored[key] = (values / scale[:, None]).round_().clamp_(-127, 127).to(torch.int8)
        stored[key + _SCALE] = scale
    return stored


class Dequantized:
    """A view of weights in which those stored as int8 come back as float32, and their scales do not show."""

    def __init__(self, weights: Weights) -> None:
        import torch

        self._weights = weights
        keys = set(weights.keys())
        self._quantized = {key for key in keys if key + _SCALE in keys and weights.dtype(key) is torch.int8}
        for key in self._quantized:
            shape, scales = weights.shape(key), weights.shape(key + _SCALE)
            if len(shape) != 2 or scales != shape[:1] or weights.dtype(key + _SCALE) is not torch.float32:
                raise CheckpointError(
                    f"The int8 weight {key!r} of shape {shape} has scales of shape {scales}, "
                    f"{weights.dtype(key + _SCALE)}; expected one float32 per row.",
                    "Store the weights again.",
                )

    def keys(self) -> list[str]:
        """The names of all weights but the scales."""
        scales = {key + _SCALE for key in self._quantized}
        stored = self._weights.keys()
        return [key for key in stored if key not in scales]

    def shape(self, key: str) -> tuple[int, ...]:
        """The shape of one weight."""
        return self._weights.shape(key)

    def dtype(self, key: str) -> torch.dtype:
        """The data type of one weight, float32 for those stored as int8."""
        import torch

        return torch.float32 if key in self._quantized else self._weights.dtype(key)

    def tensor(self, key: str) -> torch.Tensor:
        """One weight; those stored as int8 are computed at each call."""
        tensor = self._weights.tensor(key)
        if key not in self._quantized:
            return tensor
        return tensor.float().mul_(self._weights.tensor(key + _SCALE)[:, None])

    def blocks(self, key: str) -> None:
        """None: no product uses this form."""
