"""Other rates: resampling by a windowed sinc.

The filter is that of torchaudio's `resample` with its defaults, so that transcripts agree with those of the reference:
six zero crossings a side under a Hann window, cut off at 99 % of the lower of both bands.
"""

from __future__ import annotations

import math
import numbers
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from formers.audio.samples import as_tensor
from formers.errors import InputError

_ZEROS = 6
_CUT = 0.99
# Products that are computed at once, about.
_BLOCK = 1 << 20


def resample(samples: Tensor, rate: int, wanted: int) -> Tensor:
    """Samples (…, N) at `rate` a second, as float32 (…, ceil(N * wanted / rate)) at the rate `wanted`."""
    for name, value in (("rate", rate), ("wanted", wanted)):
        if not _is_rate(value):
            raise InputError(f"{name}={value!r} samples a second were given.", "Give a whole number, such as 16000.")
    samples, rate, wanted = as_tensor(samples), int(rate), int(wanted)
    if rate == wanted or not samples.numel():
        return samples
    common = math.gcd(rate, wanted)
    down, up = rate // common, wanted // common
    filters, starts = _filters(down, up)
    reach = filters.shape[1] // 2
    length = -(-samples.shape[-1] * up // down)
    # Every `down` samples become `up`.
    steps = -(-samples.shape[-1] // down)
    flat = samples.reshape(-1, samples.shape[-1])
    flat = F.pad(flat, (reach, reach + down + steps * down - samples.shape[-1]))
    out = samples.new_empty(flat.shape[0], steps, up)
    each = max(1, _BLOCK // filters.numel())
    for first in range(0, steps, each):
        last = min(first + each, steps)
        places = torch.arange(first, last)[:, None] * down + starts
        windows = flat.unfold(-1, filters.shape[1], 1)[:, places]
        out[:, first:last] = torch.einsum("buk,...buk->...bu", filters[None], windows)
    return out.flatten(1)[:, :length].reshape(*samples.shape[:-1], length)


@lru_cache(maxsize=8)
def _filters(down: int, up: int) -> tuple[Tensor, Tensor]:
    """The filter of each of `up` new samples, (up, taps), and the old sample (up,) that its middle lies on."""
    cut = min(down, up) * _CUT
    reach = math.ceil(_ZEROS * down / cut) + 1
    new = torch.arange(up, dtype=torch.int64)
    starts = new * down // up
    places = starts[:, None] + torch.arange(-reach, reach + 1)
    time = (places.double() / down - new[:, None].double() / up) * cut
    time = time.clamp(-_ZEROS, _ZEROS)
    window = torch.cos(time * math.pi / _ZEROS / 2) ** 2
    return (torch.sinc(time) * window * cut / down).float(), starts


def _is_rate(value: object) -> bool:
    return isinstance(value, numbers.Real) and 1 <= float(value) <= 1e7 and float(value).is_integer()
