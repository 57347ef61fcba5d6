"""Rotary positions (Su et al., 2021) and the ways in which their frequencies are stretched for longer texts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Linear:
    """All frequencies divided by `factor` (Chen et al., 2023)."""

    factor: float


@dataclass(frozen=True)
class Dynamic:
    """A larger base once a text is longer than the model's training `length` (NTK-aware scaling)."""

    factor: float
    length: int


@dataclass(frozen=True)
class Yarn:
    """Low frequencies divided by `factor`, high ones kept, between them a ramp (Peng et al., 2023)."""

    factor: float
    length: int
    fast: float = 32.0
    slow: float = 1.0
    truncate: bool = True


@dataclass(frozen=True)
class Llama3:
    """Frequencies of long waves divided by `factor`, those of short waves kept (Llama 3.1)."""

    factor: float
    low: float
    high: float
    length: int


@dataclass(frozen=True)
class LongRope:
    """A divisor for each frequency, others once a text is longer than the training `length` (Ding et al., 2024)."""

    short: tuple[float, ...]
    long: tuple[float, ...]
    length: int


Scaling = Linear | Dynamic | Yarn | Llama3 | LongRope


@dataclass(frozen=True)
class Rotary:
    """Rotation of a head's first `dim` values, base frequency `theta`.

    `interleaved` pairs neighbours (GPT-J), otherwise value i is paired with i + dim/2. `amplitude` multiplies the
    tables.
    """

    dim: int
    theta: float
    interleaved: bool = False
    scaling: Scaling | None = None
    amplitude: float = 1.0

    def frequencies(self, longest: int, device: torch.device) -> Tensor:
        """Radians a token (dim/2,), for texts of at most `longest` tokens."""
        scaling, theta = self.scaling, self.theta
        if isinstance(scaling, Dynamic) and longest > scaling.length:
            stretch = scaling.factor * longest / scaling.length - (scaling.factor - 1)
            theta = theta * stretch ** (self.dim / (self.dim - 2))
        exponents = torch.arange(0, self.dim, 2, dtype=torch.int64, device=device).float() / self.dim
        waves = 1.0 / theta**exponents
        if isinstance(scaling, Linear):
            return waves / scaling.factor
        if isinstance(scaling, Llama3):
            return _llama3(waves, scaling)
        if isinstance(scaling, Yarn):
            return self._yarn(waves, scaling)
        if isinstance(scaling, LongRope):
            divisors = scaling.long if longest > scaling.length else scaling.short
            return waves / torch.tensor(divisors, dtype=torch.float32, device=device)
        return waves

    def table(self, positions: Tensor, longest: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """What `apply` multiplies by at positions (T,): cosines and signed sines, each (T, 1, dim)."""
        angles = positions[:, None].float() * self.frequencies(longest, positions.device)
        cos, sin = angles.cos(), angles.sin()
        if self.amplitude != 1.0:
            cos, sin = cos * self.amplitude, sin * self.amplitude
        if self.interleaved:
            pairs = torch.stack((cos, cos), dim=-1).flatten(1), torch.stack((-sin, sin), dim=-1).flatten(1)
        else:
            pairs = torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)
        return pairs[0].to(dtype)[:, None], pairs[1].to(dtype)[:, None]

    def apply(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Rotate x (T, heads, D) by the tables."""
        if self.dim < x.shape[-1]:
            turned = self._turn(x[..., : self.dim], cos, sin)
            return torch.cat((turned, x[..., self.dim :]), dim=-1)
        return self._turn(x, cos, sin)

    def _turn(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        if self.interleaved:
            partner = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
        else:
            partner = x.roll(self.dim // 2, dims=-1)
        return torch.addcmul(x * cos, partner, sin)

    def _yarn(self, waves: Tensor, scaling: Yarn) -> Tensor:
        low, high = (
            self.dim * math.log(scaling.length / (turns * 2 * math.pi)) / (2 * math.log(self.theta))
            for turns in (scaling.fast, scaling.slow)
        )
        if scaling.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, self.dim - 1)
        place = torch.arange(self.dim // 2, dtype=torch.float32, device=waves.device)
        ramp = ((place - low) / (high - low or 0.001)).clamp(0, 1)
        return waves / scaling.factor * ramp + waves * (1 - ramp)


def _llama3(waves: Tensor, scaling: Llama3) -> Tensor:
    lengths = 2 * math.pi / waves
    longest, shortest = scaling.length / scaling.low, scaling.length / scaling.high
    smooth = (scaling.length / lengths - scaling.low) / (scaling.high - scaling.low)
    between = (1 - smooth) * waves / scaling.factor + smooth * waves
    return torch.where(lengths < shortest, waves, torch.where(lengths > longest, waves / scaling.factor, between))


def yarn_amplitude(factor: float, mscale: float = 1.0) -> float:
    """What yarn multiplies queries and keys by (Peng et al., 2023)."""
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0
