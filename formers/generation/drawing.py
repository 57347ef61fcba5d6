"""Random numbers by row: a prompt's text depends on the seed and the prompt, not on its neighbours in the batch."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from typing import Any

import numpy
import torch
from torch import Tensor

from formers.errors import InputError

# Numbers drawn at once: a call of the generator costs more than the numbers.
_BLOCK = 64
# Tokens of a group in the search for the best.
_GROUP = 16
_NUMPY = (torch.float32, torch.float64)


class Numbers:
    """Uniform numbers in [0, 1) for one row, from a generator of its own."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._block: list[float] = []

    def next(self) -> float:
        """The next number."""
        if not self._block:
            drawn = torch.rand(_BLOCK, generator=self._generator, dtype=torch.float64)
            self._block = drawn.flip(0).tolist()
        return self._block.pop()


def row_seed(seed: int | None, ids: Sequence[int], copy: int) -> int:
    """The seed of one row: of the call's seed, the prompt's ids and the number of the copy of this prompt.

    Without a seed it comes from torch's global generator, which `set_seed` sets.
    """
    if seed is None:
        return int(torch.randint(2**63 - 1, (1,)).item())
    text = b"%d:%d:" % (seed, copy) + array("q", ids).tobytes()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def likeliest(scores: Tensor) -> list[int]:
    """The first of the best tokens of each row, from scores (B, V)."""
    # On a CPU torch's own argmax takes ten times as long.
    best = _array(scores).argmax(-1) if scores.device.type == "cpu" else scores.argmax(-1)
    tokens: list[int] = best.tolist()
    return tokens


def best(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` best scores of each row, in falling order, and their places, from scores (B, V)."""
    size = scores.shape[-1]
    columns = size // _GROUP
    if columns < _GROUP * count:
        values, places = scores.topk(count)
        return values, places
    # Every so many columns a token of the same group: the best tokens are in groups that have one of the best maxima.
    # A maximum costs far less than a place among the best.
    starts = scores[:, : columns * _GROUP].unflatten(1, (_GROUP, columns)).amax(1).topk(count).indices
    members = torch.arange(0, columns * _GROUP, columns, device=scores.device)
    rest = torch.arange(columns * _GROUP, size, device=scores.device).expand(len(scores), -1)
    places = torch.cat(((starts[:, None] + members[:, None]).flatten(1), rest), 1)
    values, found = scores.gather(1, places).topk(count)
    return values, places.gather(1, found)


def ascending(scores: Tensor) -> Tensor:
    """The scores of each row in rising order, from scores (B, V)."""
    if scores.device.type == "cpu":
        # With their places, as torch does it, this takes twenty times as long.
        return torch.from_numpy(numpy.sort(_array(scores)))
    return scores.sort(-1).values


def last_of_best(scores: Tensor, count: int) -> Tensor:
    """The lowest of the `count` best scores of each row, (B, 1), from scores (B, V)."""
    count = min(count, scores.shape[-1])
    if scores.device.type == "cpu":
        return torch.from_numpy(numpy.partition(_array(scores), -count)[:, -count, None])
    return scores.topk(count).values[:, -1:]


def draw(scores: Tensor, numbers: Sequence[float]) -> list[int]:
    """One token a row, from scores (B, V): where the cumulative distribution passes the row's number."""
    if scores.device.type == "cpu":
        return [_draw_one(row, number) for row, number in zip(_array(scores), numbers, strict=True)]
    mass = scores.softmax(-1, dtype=torch.float64).cumsum(-1)
    points = torch.tensor(numbers, dtype=mass.dtype, device=mass.device)[:, None] * mass[:, -1:]
    drawn = torch.searchsorted(mass, points, right=True).squeeze(1).clamp_(max=scores.shape[-1] - 1)
    tokens: list[int] = drawn.tolist()
    return tokens


def _array(scores: Tensor) -> Any:
    return (scores if scores.dtype in _NUMPY else scores.float()).numpy()


def _draw_one(scores: Any, number: float) -> int:
    """As `draw` for one row (V,): after top-k few tokens are left, and only these are worked on."""
    kept = numpy.flatnonzero(scores > -numpy.inf)
    if not len(kept):
        raise InputError(
            "No token is left to draw from: processors have ruled out all of them, or the model computed nan.",
            "Relax the settings that forbid tokens; remove_invalid_values=True replaces nan.",
        )
    few = scores[kept] if len(kept) < len(scores) else scores
    # Sums in double precision: tens of thousands of small numbers add up.
    shares = torch.from_numpy(few).softmax(-1)
    mass = shares.cumsum(-1, dtype=torch.float64).numpy()
    return int(kept[min(int(mass.searchsorted(number * mass[-1], side="right")), len(kept) - 1)])
