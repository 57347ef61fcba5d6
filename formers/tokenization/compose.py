"""Model inputs from token ids: special tokens around them, truncation, types and masks."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from tokenizers import Encoding, Tokenizer

from formers.errors import InputError
from formers.tokenization.probe import encoding_of

logger = logging.getLogger(__name__)


def compose(engine: Tokenizer, ids: Sequence[int], pair_ids: Sequence[int] | None, special: bool = True) -> Encoding:
    """The ids of one text or of two as the engine joins them, with special tokens if `special`."""
    pair = None if pair_ids is None else encoding_of(pair_ids)
    return engine.post_process(encoding_of(ids), pair, special)


def truncate(
    ids: list[int], pair_ids: list[int] | None, remove: int, strategy: str, stride: int, side: str
) -> tuple[list[int], list[int] | None, list[int]]:
    """Remove `remove` ids: the shortened ids and pair ids, and those cut off with `stride` more for overlap.

    "longest_first" with a pair returns no cut ids. InputError where a strategy cannot remove that many.
    """
    if remove <= 0 or strategy == "do_not_truncate":
        return ids, pair_ids, []
    if strategy == "longest_first" and pair_ids is not None:
        first, second = _shares(len(ids), len(pair_ids), remove)
        return _cut(ids, first, side), _cut(pair_ids, second, side), []
    if strategy == "only_second" and pair_ids is None:
        raise InputError("truncation='only_second' needs a second sequence.", "Use 'only_first' or 'longest_first'.")
    target = pair_ids if strategy == "only_second" and pair_ids is not None else ids
    if len(target) <= remove:
        raise InputError(
            f"truncation={strategy!r} has to remove {remove} tokens from a sequence of {len(target)}.",
            "Use 'longest_first' or a larger max_length.",
        )
    window = min(len(target), stride + remove)
    overflow = target[-window:] if side == "right" else target[:window]
    target = _cut(target, remove, side)
    return (ids, target, overflow) if strategy == "only_second" else (target, pair_ids, overflow)


def _shares(first: int, second: int, remove: int) -> tuple[int, int]:
    """How many tokens each of two sequences gives: first the longer one its surplus, then both alike."""
    surplus = min(abs(first - second), remove)
    rest = remove - surplus
    if first > second:
        return surplus + rest // 2, rest - rest // 2
    return rest // 2, surplus + rest - rest // 2


def _cut(ids: list[int], count: int, side: str) -> list[int]:
    if count <= 0:
        return ids
    return ids[:-count] if side == "right" else ids[count:]
