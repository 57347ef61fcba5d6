"""Families whose texts are cut before the engine sees them: a cutter gives the pieces, the engine their ids.

The reference has no engine for these families, so that their ways go beyond the engine's: two vocabularies, codes that
begin a text, SentencePiece with ids of its own. The engine does the rest: added tokens, frames, truncation, padding.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel

from formers.errors import ConfigError
from formers.tokenization.build import Vocabulary
from formers.tokenization.inputs import explain


class Cutter(Protocol):
    """What stands between texts and the engine that knows the ids of their pieces. Pickles and copies."""

    @property
    def files(self) -> dict[str, bytes]:
        """The files it was made from, by their names in `vocab_files_names`."""

    @property
    def end(self) -> str | None:
        """A token that follows every text and is not repeated where a text ends with it; None if there is none."""

    def cut(self, texts: Sequence[str]) -> list[list[str]]:
        """The pieces of each text. Added tokens are taken out before."""

    def join(self, tokens: Iterable[str], special: Collection[str]) -> str:
        """The text of tokens, some of which are special."""


class AddedTokens:
    """Splits texts at added tokens, the longest first where several fit."""

    def __init__(self, tokens: Iterable[AddedToken]) -> None:
        self._tokens = {token.content: token for token in tokens}
        contents = sorted(self._tokens, key=len, reverse=True)
        self._pattern = re.compile(f"({'|'.join(map(re.escape, contents))})") if contents else None

    def __contains__(self, text: str) -> bool:
        return text in self._tokens

    def split(self, text: str) -> list[str]:
        """The text in parts: added tokens, and what is between them without the spaces that these take."""
        if self._pattern is None:
            return [text] if text else []
        parts = self._pattern.split(text)
        for index, part in enumerate(parts):
            token = self._tokens.get(part)
            if token is None:
                continue
            before = parts[index - 1] if index else ""
            after = parts[index + 1] if index + 1 < len(parts) else ""
            if token.rstrip and after:
                parts[index + 1] = after = after.lstrip()
            if token.lstrip and before:
                parts[index - 1] = before = before.rstrip()
            if token.single_word and before and before[-1] != " ":
                parts[index - 1 : index + 1] = [before + part, ""]
            elif token.single_word and after and after[0] != " ":
                parts[index : index + 2] = ["", part + after]
        return [part for part in parts if part]


def cut_inputs(
    cutter: Cutter, added: AddedTokens, inputs: list[Any], words: bool, whole: bool, framed: bool
) -> list[Any]:
    """The engine's inputs as lists of pieces. words: they are split already, and each word is cut for itself.

    whole: added tokens in the texts are text. framed: special tokens will be put around.
    """
    try:
        texts = [text for entry in inputs for text in _texts(entry, words)]
        parts = [[text] if whole else added.split(text) for text in texts]
        plain = [part for row in parts for part in row if whole or part not in added]
        pieces = iter(cutter.cut(plain))
    except (AttributeError, TypeError, UnicodeEncodeError) as error:
        raise explain(inputs, words) from error
    rows = (
        [piece for part in row for piece in (next(pieces) if whole or part not in added else [part])] for row in parts
    )
    return [_rebuilt(entry, words, rows, cutter.end if framed else None) for entry in inputs]


def _texts(entry: Any, words: bool) -> list[str]:
    """The texts of an input: one, or a pair; with `words` those of every word."""
    if isinstance(entry, str):
        return [entry]
    if words and (not entry or isinstance(entry[0], str)):
        return list(entry)
    if len(entry) != 2:
        raise TypeError("neither a text nor a pair")
    return [*_texts(entry[0], words), *_texts(entry[1], words)]


def _rebuilt(entry: Any, words: bool, rows: Iterable[list[str]], end: str | None) -> Any:
    """The input with the next rows of pieces in place of its texts."""
    rows = iter(rows)
    if isinstance(entry, str):
        pieces = next(rows)
    elif words and (not entry or isinstance(entry[0], str)):
        pieces = [piece for _ in entry for piece in next(rows)]
    else:
        return tuple(_rebuilt(part, words, rows, end) for part in entry)
    return pieces[:-1] if end is not None and pieces[-1:] == [end] else pieces


def look_up(vocabulary: Vocabulary, special: Mapping[str, str], options: Mapping[str, Any]) -> Tokenizer:
    """An engine that gives pieces their ids."""
    ids, unknown = vocabulary.ids(), special["unk_token"]
    if unknown not in ids:
        raise ConfigError(f"The vocabulary lacks the unknown token {unknown!r}.", "Pass the `unk_token` that it has.")
    return Tokenizer(WordLevel(ids, unk_token=unknown))
