"""The texts that a caller passes, checked and brought into the form that the engine takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from formers.errors import InputError

_WANTED = "Pass a string, a list of strings, or with is_split_into_words=True a list of words or a list of such lists."


def collect(text: Any, text_pair: Any, is_split_into_words: bool) -> tuple[list[Any], bool]:
    """The engine's inputs (texts, or tuples of two) and whether the caller passed a batch.

    Columns of `datasets`, arrays and series of strings count as lists.
    """
    if type(text) is str and not text_pair and not is_split_into_words:
        return [text], False  # the short way for the most frequent call
    text = _as_list(text, "text")
    text_pair = None if text_pair is None else _as_list(text_pair, "text_pair")
    if is_split_into_words:
        if isinstance(text, str):
            raise InputError(f"is_split_into_words=True needs words, and got the string {text[:40]!r}.", _WANTED)
        batched = bool(text) and not isinstance(text[0], str)
    else:
        batched = not isinstance(text, str)
    if not batched:
        # An empty second text is none, as in the reference.
        return [(text, text_pair)] if text_pair else [text], False
    if text_pair is None:
        return list(text), True
    if isinstance(text_pair, str):
        raise InputError(
            "`text` is a batch and `text_pair` one string.", "Pass a list with one pair text for each text."
        )
    if len(text) != len(text_pair):
        raise InputError(
            f"`text` has {len(text)} entries and `text_pair` {len(text_pair)}.", "Pass lists of the same length."
        )
    return list(zip(text, text_pair, strict=True)), True


def holds_pairs(inputs: list[Any], is_split_into_words: bool) -> bool:
    """Whether the engine will read the inputs as pairs of texts."""
    if not inputs or isinstance(inputs[0], str):
        return False
    # Words make lists too: split into words, only lists of lists are pairs.
    return not is_split_into_words or (bool(inputs[0]) and not isinstance(inputs[0][0], str))


def explain(inputs: list[Any], is_split_into_words: bool) -> InputError:
    """The error for inputs that the engine refused: which entry it was and why."""
    for index, entry in enumerate(inputs):
        problem = _problem(entry, is_split_into_words)
        if problem:
            return InputError(f"Text {index} of {len(inputs)} cannot be tokenized: {problem}.", _WANTED)
    return InputError("The texts cannot be tokenized: single texts and pairs are mixed.", _WANTED)


def _problem(entry: Any, is_split_into_words: bool) -> str:
    if isinstance(entry, str):
        try:
            entry.encode("utf-8")
        except UnicodeEncodeError as error:
            return f"character {error.start} is half of a surrogate pair ({entry[error.start]!r}), which is no text"
        return "it is one string, not a list of words" if is_split_into_words else ""
    if not isinstance(entry, (list, tuple)):
        return f"it is of type {type(entry).__name__}, not a string"
    if not is_split_into_words and len(entry) != 2:
        return f"it is a list of {len(entry)}, and only a pair (two strings) can stand for a text"
    for part in entry:
        problem = _problem(part, is_split_into_words and not isinstance(part, str))
        if problem:
            return problem
    return ""


def _as_list(value: Any, name: str) -> Any:
    if isinstance(value, (str, list, tuple)):
        return value
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Sequence) or (
        hasattr(value, "__len__") and hasattr(value, "__getitem__") and not hasattr(value, "keys")
    ):
        return list(value)
    raise InputError(f"`{name}` is of type {type(value).__name__}, which is no text.", _WANTED)
