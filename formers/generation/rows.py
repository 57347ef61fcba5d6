"""The texts of one call: their prompts, what has been generated, and the tensor of it that processors look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy
import torch
from torch import Tensor

from formers.errors import InputError
from formers.generation.drawing import Numbers


@dataclass(slots=True)
class Row:
    """One text: `ids` are the prompt's `prompt` tokens and the new ones, `limit` at most. `index` is its place."""

    index: int
    ids: list[int]
    prompt: int
    limit: int
    numbers: Numbers | None = None
    reason: str = ""

    @property
    def count(self) -> int:
        """How many tokens have been generated."""
        return len(self.ids) - self.prompt

    @property
    def new(self) -> list[int]:
        """The tokens generated so far."""
        return self.ids[self.prompt :]


@dataclass
class Prompts:
    """Prompts as they came in, `ids` (B, S) with padding anywhere, and `rows`: the real tokens of each."""

    ids: Tensor
    rows: list[list[int]]
    # Whether the caller gave lists of their own lengths, so that no padding counts as length.
    ragged: bool = False
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def width(self) -> int:
        """Columns of `ids`."""
        return int(self.ids.shape[1])


def read_prompts(
    ids: object, mask: Tensor | None, pad: int | None, others: set[int], device: torch.device, name: str = "input_ids"
) -> Prompts:
    """Prompts from a tensor (B, S) or (S,) or from lists of ids; without a mask, padding is recognised.

    A pad token of its own is padding wherever it begins or ends a row. One that is also among `others`, those that
    begin or end a sequence, is padding at a side where not all rows have it: a text alone has none.
    """
    if isinstance(ids, Tensor):
        return _from_tensor(ids, mask, pad, others, device, name)
    if mask is not None:
        return _from_tensor(torch.as_tensor(ids), mask, pad, others, device, name)
    if not isinstance(ids, Sequence) or isinstance(ids, (str, bytes)):
        raise InputError(
            f"The prompt is of type {type(ids).__name__}.",
            "Pass token ids: a tensor (B, S) or lists, such as tokenizer(text, return_tensors='pt')['input_ids'].",
        )
    batch: Sequence[Any] = ids if not ids or isinstance(ids[0], Sequence) else [ids]
    lists = [[int(i) for i in row] for row in batch]
    _require_tokens(lists)
    return Prompts(padded(lists, 0 if pad is None else pad).to(device), lists, ragged=True, device=device)


def _from_tensor(
    ids: Tensor, mask: Tensor | None, pad: int | None, others: set[int], device: torch.device, name: str
) -> Prompts:
    if ids.dim() == 1:
        ids = ids[None]
        mask = mask[None] if mask is not None and mask.dim() == 1 else mask
    if ids.dim() != 2 or ids.is_floating_point():
        raise InputError(
            f"{name} are of shape {tuple(ids.shape)} and type {ids.dtype}.", "Pass whole numbers of shape (B, S)."
        )
    ids = ids.long().to(device)
    if mask is None:
        real = _recognised(ids, pad, others)
    else:
        if mask.shape != ids.shape:
            raise InputError(
                f"{name.replace('input_ids', 'attention_mask')} is of shape {tuple(mask.shape)}, "
                f"{name} of shape {tuple(ids.shape)}.",
                "Pass the mask that the tokenizer made with these ids.",
            )
        real = mask.to(device).bool()
    lists = ids.tolist()
    if real is not None and not bool(real.all()):
        keep = real.tolist()
        lists = [[i for i, k in zip(row, kept, strict=True) if k] for row, kept in zip(lists, keep, strict=True)]
    _require_tokens(lists)
    return Prompts(ids, lists, device=device)


def _recognised(ids: Tensor, pad: int | None, others: set[int]) -> Tensor | None:
    if pad is None:
        return None
    is_pad = ids == pad
    # A column belongs to a run at the left if everything up to it is padding; the right alike.
    left = is_pad.cumprod(1).bool()
    right = is_pad.flip(1).cumprod(1).flip(1).bool()
    if pad in others:
        for run in (left, right):
            if bool(run.any(1).all()):
                run.zero_()
    return ~(left | right)


def _require_tokens(rows: Sequence[Sequence[int]]) -> None:
    empty = [index for index, row in enumerate(rows) if not row]
    if empty or not rows:
        raise InputError(
            f"Prompt {empty[0]} has no tokens." if empty else "There is no prompt.",
            "Begin with at least one token: the beginning-of-sequence token, if there is no text.",
        )


def padded(rows: Sequence[Sequence[int]], pad: int, left: bool = True) -> Tensor:
    """Rows of unequal lengths as one tensor (B, S)."""
    width = max(map(len, rows))
    fills = [[pad] * (width - len(row)) for row in rows]
    table = [[*fill, *row] if left else [*row, *fill] for fill, row in zip(fills, rows, strict=True)]
    # By way of numpy in half the time.
    return torch.from_numpy(numpy.array(table, dtype=numpy.int64))


class History:
    """The ids of the live rows, padded on the left, in memory that grows in place."""

    def __init__(self, rows: Sequence[Row], pad: int, width: int, device: torch.device) -> None:
        self.width = max(width, max(len(row.ids) for row in rows))
        self.device = device
        self._room = numpy.full((len(rows), self.width + 64), pad, dtype=numpy.int64)
        for room, row in zip(self._room, rows, strict=True):
            room[self.width - len(row.ids) : self.width] = row.ids
        starts = [self.width - len(row.ids) for row in rows]
        self.starts = torch.tensor(starts, device=device) if any(starts) else None

    @property
    def ids(self) -> Tensor:
        """The ids (B, S) so far."""
        return torch.from_numpy(self._room[:, : self.width]).to(self.device)

    def append(self, tokens: Sequence[int]) -> None:
        """Add one token a row."""
        if self.width == self._room.shape[1]:
            self._room = numpy.concatenate((self._room, self._room), 1)
        self._room[:, self.width] = tokens
        self.width += 1

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows, in this order."""
        self._room = self._room[list(rows)]
        if self.starts is not None:
            self.starts = self.starts[list(rows)]
