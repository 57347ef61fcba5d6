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


def halves(count: int, width: int, rates: Literal["open", "closed"]) -> Tensor:
    """Position embeddings (count, width): the sines of all rates, then their cosines.

    Rates fall from 1 to 1/10000, which the last one reaches ("closed") or the next one would ("open").
    """
    half = (width + 1) // 2
    last = width / 2 if rates == "open" else width // 2 - 1
    steps = torch.arange(half, dtype=torch.float64)
    angles = torch.arange(count)[:, None] * 10000.0 ** (-steps / last)
    return torch.cat((angles.sin(), angles[:, : width - half].cos()), dim=1).float()


class StoredSinusoids(nn.Embedding):
    """Sines and cosines as a table that is not trained but stands in files (Marian, Pegasus)."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__(count, width, _weight=torch.empty(count, width), _freeze=True)

    @torch.no_grad()
    def reset(self) -> None:
        """Fill the table."""
        count, width = self.weight.shape
        self.weight.copy_(halves(count, width, "open"))


class ComputedSinusoids(nn.Module):
    """Sines and cosines for any position, zeros for one, `zero` (M2M100)."""

    def __init__(self, width: int, zero: int | None) -> None:
        super().__init__()
        self.num_embeddings, self.width, self.zero = UNBOUNDED, width, zero
        self._rows = torch.empty(0, width, device="cpu")

    def forward(self, positions: Tensor) -> Tensor:
        """Positions (T,) to rows (T, W) in float32."""
        needed = int(positions.max()) + 1
        if self._rows.shape[0] < needed or self._rows.device != positions.device:
            with torch.inference_mode(False):
                rows = halves(-(-needed // 1024) * 1024, self.width, "closed")
                if self.zero is not None:
                    rows[self.zero] = 0
                self._rows = rows.to(positions.device)
        return self._rows.index_select(0, positions)


# The number of positions where there is no end to them.
UNBOUNDED = 1 << 30


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
