"""From scores of starts and ends to the likeliest spans of tokens, in plain arrays."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


class Spans(NamedTuple):
    """Spans by falling score: first and last tokens, scores; and the score of "there is no answer"."""

    starts: list[int]
    ends: list[int]
    scores: list[float]
    null: float


def best_spans(start: Floats, end: Floats, allowed: npt.NDArray[np.bool_], top_k: int, max_length: int) -> Spans:
    """The `top_k` likeliest spans of at most `max_length` allowed tokens, from logits (S,) of starts and ends.

    The score of a span is the product of the probabilities of its ends; token 0 stands for "no answer" and is in none.
    """
    start, end = _probabilities(start, allowed), _probabilities(end, allowed)
    null = float(start[0] * end[0])
    start[0] = end[0] = 0.0
    scores = np.tril(np.triu(np.outer(start, end)), max_length - 1).ravel()
    count = min(top_k, len(scores))
    likeliest = np.argpartition(-scores, count - 1)[:count]
    likeliest = likeliest[np.argsort(-scores[likeliest], kind="stable")]
    # Zero marks pairs that are no spans: too long, backwards, or outside of what is allowed.
    likeliest = likeliest[scores[likeliest] > 0]
    starts, ends = np.divmod(likeliest, len(start))
    return Spans(starts.tolist(), ends.tolist(), scores[likeliest].tolist(), null)


def _probabilities(logits: Floats, allowed: npt.NDArray[np.bool_]) -> Floats:
    masked: Any = np.where(allowed, logits, np.float32(-10000.0))
    powers = np.exp(masked - masked.max())
    probabilities: Floats = powers / powers.sum()
    return probabilities
