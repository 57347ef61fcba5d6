"""What processors of scores are: the base classes, and the list that applies them in order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from formers.errors import InputError


class LogitsProcessor:
    """Something that changes the scores of the next token: `(ids (B, S), scores (B, V)) -> scores (B, V)`.

    Subclass it, or use any function with these arguments. `ids` hold the prompts, padded on the left, and what has
    been generated. A processor of your own sees every row of the batch until the last one has finished.
    """

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The new scores."""
        raise NotImplementedError(f"{type(self).__name__} has no __call__.")


class RowProcessor(LogitsProcessor):
    """A processor that looks at each row by itself, so that rows may leave the batch when they have finished."""

    def __call__(self, input_ids: Tensor, scores: Tensor, starts: Tensor | None = None) -> Tensor:
        """The new scores. `starts` (B,) says at which column each row's own tokens begin, after its padding."""
        raise NotImplementedError(f"{type(self).__name__} has no __call__.")

    def select(self, rows: Sequence[int]) -> None:
        """Keep the state of these rows, in this order, some perhaps more than once."""


class LogitsProcessorList(list[LogitsProcessor]):
    """Processors, applied one after another."""

    def __call__(self, input_ids: Tensor, scores: Tensor, starts: Tensor | None = None) -> Tensor:
        """The scores (B, V) after all processors."""
        for processor in self:
            if isinstance(processor, RowProcessor):
                scores = processor(input_ids, scores, starts)
            else:
                scores = processor(input_ids, scores)
        return scores

    def select(self, rows: Sequence[int]) -> None:
        """Keep the state of these rows of the batch."""
        for processor in self:
            if isinstance(processor, RowProcessor):
                processor.select(rows)

    @property
    def by_row(self) -> bool:
        """Whether every processor looks at each row by itself."""
        return all(isinstance(processor, RowProcessor) for processor in self)


def token_ids(ids: int | Sequence[int] | Tensor) -> list[int]:
    """One or several token ids as a list."""
    if isinstance(ids, Tensor):
        return [int(i) for i in ids.flatten().tolist()]
    return [ids] if isinstance(ids, int) else [int(i) for i in ids]


def only(scores: Tensor, ids: Sequence[int], rows: Tensor | None = None) -> Tensor:
    """Scores (B, V) that leave nothing but `ids`, in all rows or in those where `rows` (B,) is True."""
    forced = torch.full_like(scores, float("-inf"))
    forced[:, list(ids)] = 0
    return forced if rows is None else torch.where(rows[:, None], forced, scores)


def without(scores: Tensor, ids: Sequence[int]) -> Tensor:
    """A copy of the scores (B, V) that leaves out `ids`."""
    scores = scores.clone()
    known = [i for i in ids if i < scores.shape[-1]]
    # Indexing with a list takes as long as many columns.
    for column in known if len(known) <= 4 else [known]:
        scores[:, column] = float("-inf")
    return scores


def require(fits: bool, name: str, value: object, expected: str) -> None:
    """InputError unless `fits`."""
    if not fits:
        raise InputError(f"{name}={value!r} was given.", f"Give {expected}.")


def whole(value: object, least: int) -> bool:
    """Whether this is a whole number of at least `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_number(value: object) -> bool:
    """Whether this is a real number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)
