"""When a row ends: the criteria that users pass and combine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from formers.errors import InputError
from formers.generation.processing import require, token_ids


class StoppingCriteria:
    """Something that ends rows: `(ids (B, S), scores) -> bool or (B,)`. Subclass it, or use any such function.

    `scores` are those of all steps so far, (B, V) each, or None when they are not kept. A criterion of your own sees
    every row of the batch until the last one has finished.
    """

    def __call__(self, input_ids: Tensor, scores: tuple[Tensor, ...] | None = None) -> Any:
        """Which rows have ended, (B,) or one answer for all."""
        raise NotImplementedError(f"{type(self).__name__} has no __call__.")


def _all_rows(input_ids: Tensor, done: bool) -> Tensor:
    return torch.full((len(input_ids),), done, dtype=torch.bool, device=input_ids.device)


class MaxLengthCriteria(StoppingCriteria):
    """Ends at `max_length` tokens, the prompt included."""

    def __init__(self, max_length: int, max_position_embeddings: int | None = None) -> None:
        self.max_length, self.max_position_embeddings = max_length, max_position_embeddings

    def __call__(self, input_ids: Tensor, scores: tuple[Tensor, ...] | None = None) -> Tensor:
        """Which rows have ended."""
        return _all_rows(input_ids, input_ids.shape[-1] >= self.max_length)


class MaxTimeCriteria(StoppingCriteria):
    """Ends after `max_time` seconds, counted from `initial_timestamp` (of time.time()) or from now."""

    def __init__(self, max_time: float, initial_timestamp: float | None = None) -> None:
        self.max_time = max_time
        self.initial_timestamp = time.time() if initial_timestamp is None else initial_timestamp

    def __call__(self, input_ids: Tensor, scores: tuple[Tensor, ...] | None = None) -> Tensor:
        """Which rows have ended."""
        return _all_rows(input_ids, time.time() - self.initial_timestamp > self.max_time)


class EosTokenCriteria(StoppingCriteria):
    """Ends after one of these tokens."""

    def __init__(self, eos_token_id: int | list[int] | Tensor) -> None:
        self.eos_token_id = token_ids(eos_token_id)

    def __call__(self, input_ids: Tensor, scores: tuple[Tensor, ...] | None = None) -> Tensor:
        """Which rows have ended."""
        return torch.isin(input_ids[:, -1], input_ids.new_tensor(self.eos_token_id))


class StopStringCriteria(StoppingCriteria):
    """Ends when the last token completes one of these strings, whatever comes after the string in that token."""

    def __init__(self, tokenizer: Any, stop_strings: str | Sequence[str]) -> None:
        strings = [stop_strings] if isinstance(stop_strings, str) else list(stop_strings)
        require(bool(strings) and all(strings), "stop_strings", stop_strings, "texts")
        self.tokenizer = tokenizer
        self.stop_strings = tuple(strings)
        # Every token has at least one byte, so no more of them can hold a stop string; the rest is for its start.
        self.reach = max(len(s.encode()) for s in strings) + 8

    def ends(self, ids: Sequence[int]) -> bool:
        """Whether the last of these tokens completes a stop string."""
        tail = list(ids[-self.reach :])
        text, before = self._text(tail), self._text(tail[:-1]).rstrip("\ufffd")
        for string in self.stop_strings:
            place = text.rfind(string)
            if place >= 0 and place + len(string) > len(before):
                return True
        return False

    def _text(self, ids: list[int]) -> str:
        decoded = self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return str(decoded)

    def __call__(self, input_ids: Tensor, scores: tuple[Tensor, ...] | None = None) -> Tensor:
        """Which rows have ended."""
        rows = input_ids[:, -self.reach :].tolist()
        return torch.tensor([self.ends(row) for row in rows], device=input_ids.device)


class StoppingCriteriaList(list[Callable[..., Any]]):
    """Criteria, of which one is enough."""

    def __call__(self, input_ids: Tensor, scores: tuple[Tensor, ...] | None = None) -> Tensor:
        """Which rows have ended, (B,)."""
        done = _all_rows(input_ids, False)
        for criterion in self:
            answer = criterion(input_ids, scores)
            if isinstance(answer, Tensor):
                done = done | answer.to(done.device).bool()
            elif isinstance(answer, bool):
                done = done | answer
            else:
                raise InputError(
                    f"The stopping criterion {criterion!r} answered with a {type(answer).__name__}.",
                    "Return True or False, or a boolean tensor with one value a row.",
                )
        return done

    @property
    def max_length(self) -> int | None:
        """The limit of the first MaxLengthCriteria, if there is one."""
        return next((c.max_length for c in self if isinstance(c, MaxLengthCriteria)), None)
