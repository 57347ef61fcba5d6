"""Samples in any form as one channel of numbers from -1 to 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from formers.errors import InputError


class Wave(Protocol):
    """Samples of recordings (…, length) that are read part by part."""

    @property
    def length(self) -> int:
        """Samples of each."""

    def part(self, start: int, stop: int) -> Tensor:
        """Samples (…, stop - start), fewer where the recording ends before; quick where `start` only grows."""


@dataclass(frozen=True)
class Held:
    """Samples that are in memory."""

    values: Tensor

    @property
    def length(self) -> int:
        """Samples of each."""
        return int(self.values.shape[-1])

    def part(self, start: int, stop: int) -> Tensor:
        """A view of some of them."""
        return self.values[..., start:stop]


def mono(given: Any) -> Tensor:
    """The samples of one recording as a float32 tensor (N,), checked; memory is shared where it can be.

    Two rows (2, N) are stereo and averaged. Arrays of whole numbers are divided by the range of their type.
    """
    samples = as_tensor(given)
    if samples.dim() == 2 and samples.shape[0] <= 2:
        samples = samples.mean(0)
    if samples.dim() != 1:
        raise InputError(
            f"The samples have the shape {tuple(samples.shape)}; (samples,) or (channels, samples) with one or two "
            "channels is expected.",
            "Transpose (samples, channels), and mix more than two channels yourself.",
        )
    if not len(samples):
        raise InputError("The recording has no samples.", "Leave empty recordings out.")
    return finite(samples)


def as_tensor(given: Any) -> Tensor:
    """An array, tensor or list as a float32 tensor on the CPU."""
    if isinstance(given, Tensor):
        samples = given.detach().cpu()
    elif isinstance(given, (np.ndarray, Sequence)) and not isinstance(given, (str, bytes)):
        try:
            array = np.asarray(given)
            if array.dtype.kind not in "fiub" or array.dtype == bool:
                raise TypeError(f"their type is {array.dtype}")
            if isinstance(given, Sequence):
                array = array.astype(np.float32)
            # torch wants memory that may be written to and runs forward; it is not written to here.
            samples = torch.from_numpy(array if array.flags.writeable and _forward(array) else array.copy())
        except (TypeError, ValueError) as error:
            raise InputError(f"The samples are no numbers: {error}.", "Pass an array of numbers.") from error
    else:
        raise InputError(
            f"The samples are of type {type(given).__name__}.", "Pass an array, a tensor or a list of numbers."
        )
    if samples.is_complex():
        raise InputError("The samples are complex numbers.", "Pass real ones.")
    if samples.is_floating_point():
        return samples.float()
    if samples.dtype == torch.uint8:
        return (samples.float() - 128) / 128
    return samples.float() / (torch.iinfo(samples.dtype).max + 1)


def finite(samples: Tensor) -> Tensor:
    """The samples, if all of them are numbers."""
    # A sum is one pass without a mask: anything that is not finite makes it so.
    if not torch.isfinite(samples.sum()) and not torch.isfinite(samples).all():
        bad = int((~torch.isfinite(samples)).sum())
        raise InputError(
            f"{bad} of {len(samples)} samples are infinite or no numbers (NaN).",
            "Repair the recording, for example with numpy.nan_to_num.",
        )
    return samples


def _forward(array: Any) -> bool:
    return all(stride >= 0 for stride in array.strides)
