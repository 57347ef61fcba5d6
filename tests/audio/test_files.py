"""Recordings in files."""

from __future__ import annotations

import io
import wave
from pathlib import Path

import numpy as np
import pytest
import torch

from formers.audio import files
from formers.audio.resampling import resample
from formers.errors import InputError, MissingDependencyError


def write_wave(path: Path, numbers: np.ndarray, rate: int = 16000, width: int = 2) -> bytes:
    """A plain wav file of whole numbers (N,) or (N, channels), given in 32 bits."""
    raw = numbers.astype("<i4").reshape(len(numbers), numbers.shape[1] if numbers.ndim > 1 else 1)
    data = raw[..., None].view(np.uint8).reshape(*raw.shape, 4)[..., 4 - width :]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(raw.shape[1])
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes((data ^ 0x80 if width == 1 else data).tobytes())
    return path.read_bytes()


@pytest.fixture
def noise() -> np.ndarray:
    return (np.random.default_rng(0).normal(size=40000) * 2**28).astype(np.int32)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("plain", [False, True])
def test_wav_of_any_width(
    width: int, plain: bool, noise: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if plain:
        monkeypatch.setattr(files, "_soundfile", lambda: None)
    raw = write_wave(tmp_path / "a.wav", noise, width=width)
    expected = torch.from_numpy((noise >> (32 - 8 * width)).astype(np.float64) / 2 ** (8 * width - 1)).float()
    torch.testing.assert_close(files.read(tmp_path / "a.wav"), expected, atol=1e-7, rtol=1e-6)
    torch.testing.assert_close(files.read(raw), expected, atol=1e-7, rtol=1e-6)


def test_channels_are_averaged_and_rates_converted(
    noise: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stereo = np.stack([noise, noise[::-1]], 1)
    write_wave(tmp_path / "a.wav", stereo, rate=11025)
    mean = torch.from_numpy((stereo >> 16).astype(np.float32).mean(1) / 2**15)
    expected = resample(mean, 11025, 16000)
    monkeypatch.setattr(files, "_SECONDS", 1)
    for library in (files._soundfile(), None):
        monkeypatch.setattr(files, "_soundfile", lambda library=library: library)
        torch.testing.assert_close(files.read(str(tmp_path / "a.wav")), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("form", "loss"), [("FLAC", 1e-4), ("OGG", 0.1), ("MP3", 0.1)])
def test_compressed_files(form: str, loss: float, tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    tone = np.sin(np.arange(32000) / 10) * 0.5
    buffer = io.BytesIO()
    soundfile.write(buffer, tone, 16000, format=form)
    read = files.read(buffer.getvalue()).numpy()
    assert abs(len(read) - 32000) < 3000
    middle = slice(8000, 24000)
    assert max(np.correlate(read[middle], tone[7000:25000], "same").max() / (tone[middle] ** 2).sum(), 0) > 1 - loss


def test_what_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"There is no file '.*none\.wav'"):
        files.read(tmp_path / "none.wav")
    with pytest.raises(InputError, match="is empty"):
        files.read(b"")
    with pytest.raises(InputError, match=r"The recording \(300 bytes\) is in no format that can be read"):
        files.read(b"abc" * 100)
    write_wave(tmp_path / "empty.wav", np.zeros(0, np.int32))
    with pytest.raises(InputError, match=r"'.*empty\.wav' has no samples"):
        files.read(tmp_path / "empty.wav")
    monkeypatch.setattr(files, "_soundfile", lambda: None)
    with pytest.raises(MissingDependencyError, match=r"'soundfile', which is not installed.*formers\[audio\]"):
        files.read(b"fLaC" + bytes(100))
    with pytest.raises(MissingDependencyError, match=r"is no plain wav file .*formers\[audio\]"):
        files.read(b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x03\0\x01\0" + bytes(12) + b"data\0\0\0\0")
    with pytest.raises(InputError, match="has no samples"):
        files.read(write_wave(tmp_path / "empty.wav", np.zeros(0, np.int32)))


def test_numbers_that_are_none(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(tmp_path / "a.wav", np.array([0, np.nan, 0], np.float32), 16000, subtype="FLOAT")
    with pytest.raises(InputError, match="1 of 3 samples are infinite or no numbers"):
        files.read(tmp_path / "a.wav")


def test_a_cut_file_gives_what_it_holds(noise: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = write_wave(tmp_path / "a.wav", noise)[:-20001]
    assert len(files.read(raw)) > 29000
    monkeypatch.setattr(files, "_soundfile", lambda: None)
    assert len(files.read(raw)) > 29000


@pytest.mark.parametrize("rate", [16000, 8000])
def test_long_recordings_are_decoded_as_they_are_read(
    rate: int, noise: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_SECONDS", 1)
    write_wave(tmp_path / "a.wav", np.tile(noise, 3)[:100_001], rate)
    whole, filed = files.read(tmp_path / "a.wav"), files.wave_of(tmp_path / "a.wav")
    assert isinstance(filed, files.Filed)
    assert filed.length == len(whole)
    # Forwards with overlaps, far ahead, back to the start, and beyond the end.
    for start, stop in ((0, 100), (50, 40_000), (39_000, 55_000), (90_000, 90_001), (10, 20), (90_000, 300_000)):
        torch.testing.assert_close(filed.part(start, stop), whole[start:stop], atol=0, rtol=0)
        assert sum(map(len, filed._held)) <= stop - start + 3 * 16000
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:50_000])
    with pytest.raises(InputError, match="became shorter"):
        filed.part(0, len(whole))
    assert isinstance(files.wave_of(write_wave(tmp_path / "short.wav", noise[:9000])), files.Held)
