"""Recordings in files: wav by Python alone, flac, ogg, mp3 and others by soundfile (extra `audio`)."""

from __future__ import annotations

import io
import os
import wave
from collections import deque
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from formers.audio.resampling import resample
from formers.audio.samples import Held, Wave, finite
from formers.errors import InputError, MissingDependencyError

# Seconds that are decoded at once.
_SECONDS = 60
_REMEDY = "Convert it, for example with: ffmpeg -i FILE -ar 16000 -ac 1 NEW.wav"


Source = str | os.PathLike[str] | bytes


def read(source: Source, rate: int = 16000) -> Tensor:
    """The recording in a file, or in the bytes of one: float32 (N,) at `rate` samples a second, channels averaged."""
    return torch.cat(list(_decoded(source, rate)))


def wave_of(source: Source, rate: int = 16000) -> Wave:
    """The same as `read`, but a recording of more than a minute stays in its file and is decoded as it is read."""
    parts = _decoded(source, rate)
    first, second = next(parts), next(parts, None)
    if second is None:
        return Held(first)
    length = len(first) + len(second) + sum(map(len, parts))
    return Filed(source, rate, length)


class Filed:
    """A recording in a file, decoded block by block. What lies before the last part that was read is forgotten."""

    def __init__(self, source: Source, rate: int, length: int) -> None:
        self.source, self.rate, self.length = source, rate, length
        self._parts: Iterator[Tensor] = iter(())
        self._held: deque[Tensor] = deque()
        # The samples [first, last) are held; at first none are, and nothing is open.
        self._first, self._last = length, length

    def part(self, start: int, stop: int) -> Tensor:
        """Samples (stop - start,), fewer where the recording ends before. Going back means to decode from the start."""
        stop = min(stop, self.length)
        if start < self._first:
            self._parts, self._first, self._last = _decoded(self.source, self.rate), 0, 0
            self._held.clear()
        while self._last < stop:
            block = next(self._parts, None)
            if block is None:
                raise InputError("A recording became shorter while it was read.", "Leave the file as it is meanwhile.")
            self._held.append(block)
            self._last += len(block)
            self._forget(start)
        self._forget(start)
        return torch.cat(list(self._held))[start - self._first : stop - self._first].clone()

    def _forget(self, before: int) -> None:
        while self._held and self._first + len(self._held[0]) <= before:
            self._first += len(self._held.popleft())


def _decoded(source: Source, rate: int) -> Iterator[Tensor]:
    """The recording in parts (N,) of a minute, at least one, checked."""
    stream: BinaryIO
    if isinstance(source, (bytes, bytearray, memoryview)):
        name, stream = f"The recording ({len(source)} bytes)", io.BytesIO(source)
    else:
        path = Path(source).expanduser()
        if not path.is_file():
            raise InputError(f"There is no file {str(source)!r}.", "Pass the path of a recording, or its samples.")
        name, stream = f"{str(path)!r}", open(path, "rb")  # noqa: SIM115 - closed below
    with stream:
        parts = (part for part in _parts(stream, name, rate) if len(part))
        first = next(parts, None)
        if first is None:
            raise InputError(f"{name} has no samples.", "Leave empty recordings out.")
        for part in chain([first], parts):
            yield finite(part)


def _parts(stream: BinaryIO, name: str, rate: int) -> Iterator[Tensor]:
    """The recording piece by piece, each resampled with what lies around it."""
    blocks, own = _blocks(stream, name)
    if own == rate:
        for block in blocks:
            yield torch.from_numpy(block)
        return
    # Blocks are whole seconds, so that both rates have whole samples in them. One second around them is context.
    before, now = np.zeros(0, np.float32), next(blocks, None)
    while now is not None:
        after = next(blocks, None)
        context = np.zeros(0, np.float32) if after is None else after[:own]
        whole = resample(torch.from_numpy(np.concatenate([before, now, context])), own, rate)
        start = len(before) // own * rate
        yield whole[start : start + -(-len(now) * rate // own)]
        before, now = now[-own:], after


def _blocks(stream: BinaryIO, name: str) -> tuple[Iterator[NDArray[np.float32]], int]:
    """Blocks of whole seconds (N,), and the rate."""
    start = stream.read(12)
    stream.seek(0)
    if not start:
        raise InputError(f"{name} is empty.", "Pass a recording.")
    soundfile = _soundfile()
    if soundfile is not None:
        try:
            file = soundfile.SoundFile(stream)
            return _of_soundfile(file, name), _checked_rate(file.samplerate, name)
        except soundfile.LibsndfileError as error:
            raise InputError(f"{name} is in no format that can be read: {error}", _REMEDY) from error
    if start[:4] != b"RIFF" or start[8:12] != b"WAVE":
        raise MissingDependencyError.for_extra("soundfile", "audio")
    try:
        plain = wave.open(stream)  # noqa: SIM115 - closed with the stream
        width = plain.getsampwidth()
    except (wave.Error, EOFError) as error:
        raise MissingDependencyError(
            f"{name} is no plain wav file ({error}); others are read by the package 'soundfile', which is not "
            "installed.",
            "Install it with: pip install 'formers[audio]'",
        ) from error
    return _of_wave(plain, width), _checked_rate(plain.getframerate(), name)


def _checked_rate(rate: int, name: str) -> int:
    if rate < 1:
        raise InputError(f"{name} says that it has {rate} samples a second.", _REMEDY)
    return rate


def _soundfile() -> Any:
    try:
        import soundfile
    except (ImportError, OSError):  # OSError: the library that it wraps is missing
        return None
    return soundfile


def _of_soundfile(file: Any, name: str) -> Iterator[NDArray[np.float32]]:
    import soundfile

    with file:
        while True:
            try:
                block = file.read(_SECONDS * file.samplerate, dtype="float32", always_2d=True)
            except soundfile.LibsndfileError as error:
                raise InputError(f"{name} is damaged: {error}", _REMEDY) from error
            if not len(block):
                return
            yield np.ascontiguousarray(block.mean(1)) if block.shape[1] > 1 else block[:, 0]


def _of_wave(file: wave.Wave_read, width: int) -> Iterator[NDArray[np.float32]]:
    """Samples of one to four bytes, whole numbers from -1 to 1; those of one byte have no sign."""
    with file:
        while raw := file.readframes(_SECONDS * file.getframerate()):
            raw = raw[: len(raw) // (width * file.getnchannels()) * width * file.getnchannels()]
            if width == 1:
                numbers = (np.frombuffer(raw, np.uint8).astype(np.float32) - 128) / 128
            else:
                # The bytes of a number are the upper ones of 32 bits.
                wide = np.zeros((len(raw) // width, 4), np.uint8)
                wide[:, 4 - width :] = np.frombuffer(raw, np.uint8).reshape(-1, width)
                numbers = wide.view("<i4")[:, 0].astype(np.float32) / np.float32(2**31)
            yield numbers.reshape(-1, file.getnchannels()).mean(1, dtype=np.float32)
