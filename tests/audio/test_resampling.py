"""Resampling."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from formers.audio.resampling import resample
from formers.errors import InputError

RATES = [8000, 11025, 16001, 22050, 44100, 48000, 96000]


def tone(hertz: float, rate: int, seconds: float = 1.0) -> torch.Tensor:
    return torch.sin(2 * math.pi * hertz * torch.arange(int(rate * seconds), dtype=torch.float64) / rate).float()


def level(wave: torch.Tensor) -> float:
    """In decibels, without the ends."""
    return 20 * math.log10(float(wave[500:-500].square().mean().sqrt()) + 1e-12)


@pytest.mark.parametrize("rate", RATES)
def test_what_both_rates_can_hold_is_kept(rate: int) -> None:
    for hertz in (100, 1000, 3000):
        new = resample(tone(hertz, rate), rate, 16000)
        assert len(new) == 16000
        assert level(new - tone(hertz, 16000)) < (-35 if rate == 8000 else -45)
        assert level(new) == pytest.approx(-3.01, abs=0.2)


def test_what_the_lower_rate_cannot_hold_is_removed() -> None:
    assert level(resample(tone(12000, 44100), 44100, 16000)) < -55
    assert level(resample(tone(9500, 48000), 48000, 16000)) < -20


def test_channels_and_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    stereo = torch.randn(2, 30011)
    whole = resample(stereo, 22050, 16000)
    assert whole.shape == (2, math.ceil(30011 * 16000 / 22050))
    monkeypatch.setattr("formers.audio.resampling._BLOCK", 1)
    torch.testing.assert_close(torch.stack([resample(row, 22050, 16000) for row in stereo]), whole)


def test_the_same_rate_changes_nothing() -> None:
    wave = torch.randn(100)
    assert torch.equal(resample(wave, 16000, 16000), wave)
    assert resample(np.array([0, 16384], np.int16), 8000, 8000).tolist() == [0, 0.5]
    assert resample(torch.empty(0), 8000, 16000).shape == (0,)


@pytest.mark.parametrize("rate", [0, -1, 2.5, 10**8])
def test_rates_that_are_none(rate: int) -> None:
    with pytest.raises(InputError, match="samples a second were given"):
        resample(torch.zeros(10), rate, 16000)
