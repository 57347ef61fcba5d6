"""Whisper's rules for timestamps in a transcript (Radford et al., 2022): they come in pairs and never go back."""

from __future__ import annotations

import torch
from torch import Tensor

from formers.generation.processing import RowProcessor

_NEVER = float("-inf")


class WhisperTimeStampLogitsProcessor(RowProcessor):
    """Allows timestamps, whose ids are `first` and those after it, where they may stand.

    begin: the column at which transcripts begin. end: the id of the end, after which no text has ids.
    latest: the highest first timestamp, counted from `first`; None for any. plain: the id that asks for no timestamps.
    """

    def __init__(self, first: int, begin: int, end: int, latest: int | None, plain: int) -> None:
        self.first, self.begin, self.end, self.latest, self.plain = first, begin, end, latest, plain

    def __call__(self, input_ids: Tensor, scores: Tensor, starts: Tensor | None = None) -> Tensor:
        """Scores (B, V) with what may not come now at minus infinity."""
        first, scores = self.first, scores.clone()
        scores[:, self.plain] = _NEVER
        written = input_ids[:, self.begin :]
        if written.shape[1] == 0:
            scores[:, :first] = _NEVER
            if self.latest is not None:
                scores[:, first + self.latest + 1 :] = _NEVER
            return scores
        is_time = written >= first
        last = is_time[:, -1]
        before = is_time[:, -2] if written.shape[1] > 1 else torch.ones_like(last)
        closed, opened = last & before, last & ~before
        # The next one may repeat an end, to begin with, but nothing else.
        highest = written.amax(1)
        least = torch.where(highest >= first, highest + (~opened).long(), first)
        least = torch.where(closed, scores.shape[1], least)
        times = torch.arange(first, scores.shape[1], device=scores.device)
        scores[:, first:].masked_fill_(times < least[:, None], _NEVER)
        scores[:, : self.end].masked_fill_(opened[:, None], _NEVER)
        # All timestamps together against the likeliest text.
        together = scores[:, first:].float().logsumexp(-1) > scores[:, :first].float().amax(-1)
        scores[:, :first].masked_fill_(together[:, None], _NEVER)
        return scores
