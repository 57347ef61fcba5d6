"""Positions: rotary tables and rotation, position ids, and relative position buckets."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn


def rotary_table(positions: Tensor, dim: int, theta: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """What `rotate` multiplies by at positions (T,), for base frequency `theta` (Su et al., 2021).

    Cosines (T, dim), and sines (T, dim) that are negative in their first half.
    """
    exponents = torch.arange(0, dim, 2, dtype=torch.float32, device=positions.device) / dim
    angles = positions[:, None].float() * (1.0 / theta**exponents)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((cos, cos), dim=-1).to(dtype), torch.cat((-sin, sin), dim=-1).to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate x (T, heads, D) by the tables (T, D), pairing dimension i with i + D/2."""
    turned = x.roll(x.shape[-1] // 2, dims=-1)
    return torch.addcmul(x * cos[:, None], turned, sin[:, None])


def sinusoids(count: int, width: int) -> Tensor:
    """Position embeddings (count, width) whose pairs of values are sine and cosine (Vaswani et al., 2017)."""
    rates = 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(count)[:, None] * rates
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)[:, :width].float()


class Sinusoids(nn.Module):
    """Fixed position embeddings: the sines of all rates, then their cosines.

    Rates fall from 1 to 1/10000, which the last one reaches ("closed") or would reach next ("open"). `zero` is a
    position of zeros.
    """

    def __init__(self, count: int, width: int, rates: Literal["open", "closed"], zero: int | None = None) -> None:
        super().__init__()
        self.num_embeddings, self.width, self.rates, self.zero = count, width, rates, zero
        self._rows: Tensor | None = None

    def forward(self, positions: Tensor) -> Tensor:
        """Positions (T,) to rows (T, W) in float32."""
        if self._rows is None or self._rows.device != positions.device:
            self._rows = self._table(positions.device)
        return self._rows.index_select(0, positions)

    def _table(self, device: torch.device) -> Tensor:
        half = (self.width + 1) // 2
        with torch.inference_mode(False):
            last = half if self.rates == "open" else half - 1
            rates = 10000.0 ** (-torch.arange(half, dtype=torch.float64, device=device) / last)
            angles = torch.arange(self.num_embeddings, device=device)[:, None] * rates
            rows = torch.cat((angles.sin(), angles.cos()), dim=1)[:, : self.width].float()
            if self.zero is not None:
                rows[self.zero] = 0
        return rows


def positions_after_padding(input_ids: Tensor, padding_id: int) -> Tensor:
    """Position ids (B, S) that count only real tokens and start at `padding_id` + 1 (RoBERTa)."""
    real = (input_ids != padding_id).long()
    return real.cumsum(1) * real + padding_id


def relative_buckets(distance: Tensor, buckets: int, max_distance: int, bidirectional: bool = True) -> Tensor:
    """Bucket of each key-minus-query distance: exact when near, logarithmic when far (Raffel et al., 2020)."""
    bucket = torch.zeros_like(distance)
    if bidirectional:
        buckets //= 2
        bucket = (distance > 0).long() * buckets
        distance = distance.abs()
    else:
        distance = -distance.clamp(max=0)
    exact = buckets // 2
    far = torch.log(distance.float() / exact) / math.log(max_distance / exact) * (buckets - exact)
    far = (exact + far.clamp(min=0).long()).clamp(max=buckets - 1)
    return bucket + torch.where(distance < exact, distance, far)
