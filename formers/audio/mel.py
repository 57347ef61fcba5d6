"""Log-mel spectrograms as Whisper wants them (Radford et al., 2022), computed by torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from formers.audio.samples import Held, Wave

# Frames whose spectrum is computed at once, at most.
_BLOCK = 3000
_FLOOR = 1e-10
# How far below the loudest value of a recording others may lie, in powers of ten.
_RANGE = 8.0
# The mel scale of Slaney's Auditory Toolbox: even up to 1 kHz, then 27 steps for each factor of 6.4.
_EVEN_HZ, _EVEN_MEL, _STEPS = 1000.0, 15.0, 27 / math.log(6.4)


@dataclass(frozen=True)
class LogMel:
    """How sound becomes features: `mels` bands of a spectrum of `n_fft` samples, every `hop` samples."""

    mels: int = 80
    rate: int = 16000
    n_fft: int = 400
    hop: int = 160

    def __call__(self, samples: Tensor) -> Tensor:
        """Samples (B, N) to features (B, mels, N // hop), each row relative to its loudest value."""
        frames = samples.shape[-1] // self.hop
        raw = self.logarithms(Held(samples), 0, frames)
        return self.scaled(raw, raw.amax((-2, -1), keepdim=True))

    def logarithms(self, wave: Wave, start: int, count: int) -> Tensor:
        """The decimal logarithms (…, mels, count) of `count` frames of samples (…, N) from frame `start` on.

        A frame lies around its first sample; samples are mirrored at both ends of the recording.
        """
        half = self.n_fft // 2
        low = start * self.hop - half
        high = (start + count - 1) * self.hop + half
        left, right = max(0, -low), max(0, high - wave.length)
        # What is mirrored at the start lies behind the first sample.
        part = wave.part(max(0, low), max(high, half + 1))
        if left or right:
            part = _mirrored(part, left, right)
        pieces = [
            self._spectrum(part[..., first * self.hop : (min(first + _BLOCK, count) - 1) * self.hop + self.n_fft])
            for first in range(0, count, _BLOCK)
        ]
        power = pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=-2)
        return power.clamp_(min=_FLOOR).log10_().transpose(-1, -2)

    def loudest(self, wave: Wave) -> Tensor:
        """The highest logarithm (1, 1) in one recording (N,), found block by block."""
        frames = wave.length // self.hop
        # As numbers: small tensors that stay would keep freed memory apart.
        highest = max(
            float(self.logarithms(wave, start, min(_BLOCK, frames - start)).amax())
            for start in range(0, frames, _BLOCK)
        )
        return torch.full((1, 1), highest)

    @staticmethod
    def scaled(logarithms: Tensor, loudest: Tensor) -> Tensor:
        """Features from logarithms and the highest of their recording."""
        return (torch.maximum(logarithms, loudest - _RANGE) + 4.0) / 4.0

    def _spectrum(self, samples: Tensor) -> Tensor:
        """Power in each band, (B, frames, mels)."""
        windows = samples.unfold(-1, self.n_fft, self.hop)
        parts = torch.view_as_real(torch.fft.rfft(windows * _window(self.n_fft, samples.device)))
        return parts.square_().sum(-1) @ bands(self.mels, self.n_fft, self.rate).to(samples.device)


@lru_cache(maxsize=8)
def _window(size: int, device: torch.device) -> Tensor:
    return torch.hann_window(size, device=device)


@lru_cache(maxsize=8)
def bands(mels: int, n_fft: int, rate: int) -> Tensor:
    """Triangular filters (n_fft // 2 + 1, mels) of equal area, evenly spaced on Slaney's mel scale up to 8 kHz."""
    edges = _hertz(torch.linspace(0, _mel(8000.0), mels + 2, dtype=torch.float64))
    bins = torch.linspace(0, rate // 2, n_fft // 2 + 1, dtype=torch.float64)[:, None]
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    triangles = torch.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)).clamp(min=0)
    return (triangles * 2 / (high - low)).float()


def _mel(hertz: float) -> float:
    """A frequency of at least 1 kHz on the mel scale."""
    return _EVEN_MEL + math.log(hertz / _EVEN_HZ) * _STEPS


def _hertz(mel: Tensor) -> Tensor:
    above = _EVEN_HZ * torch.exp((mel - _EVEN_MEL) / _STEPS)
    return torch.where(mel < _EVEN_MEL, mel * _EVEN_HZ / _EVEN_MEL, above)


def _mirrored(samples: Tensor, left: int, right: int) -> Tensor:
    rows = samples.reshape(-1, samples.shape[-1])  # torch reflects rows, not a single one
    return F.pad(rows, (left, right), mode="reflect").view(*samples.shape[:-1], -1)
