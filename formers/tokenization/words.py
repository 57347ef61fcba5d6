"""Words that the engine has tokenized before.

Texts repeat their words, and most tokenizers look at one word at a time: what stands between two spaces gives the same
ids in every text. For engines of which this is certain the ids are remembered by word, and a text of known words needs
no engine at all. The rest (unusual spaces, special tokens in the text, other kinds of engines) goes the full way.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from tokenizers import Tokenizer
from tokenizers.models import BPE, WordPiece
from tokenizers.normalizers import NFC, BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer, ByteLevel

from formers.tokenization.probe import encoding_of

if TYPE_CHECKING:
    from formers.tokenization.engine import Truncation

# Characters of all words that are remembered, which bounds the memory to some ten megabytes.
_MAX_CHARACTERS = 500_000
# Texts with one of these characters may hold an added token. More of them, and words are seldom all there is.
_MAX_MARKS = 4


class Words:
    """The ids of words of one engine, which must not change. Safe to use from any number of threads."""

    def __init__(self, engine: Tokenizer, marks: str, joined: bool) -> None:
        """marks: characters that added tokens start with. joined: whether a word's ids cover the space before it."""
        self._engine = engine
        self._marks = marks
        self._joined = joined
        self._known: dict[str, list[int]] = {}
        self._size = 0
        framed = engine.post_process(encoding_of([_PROBE])).ids
        start = framed.index(_PROBE)
        self._frame = framed[:start], framed[start + 1 :]

    def rows(self, texts: list[str], special: bool, truncation: Truncation | None) -> list[list[int] | None]:
        """The ids of every text, with special tokens if `special`; None for texts that need the engine."""
        split = [self._split(text) for text in texts]
        try:
            known = self._learn(split)
        except Exception:  # the engine has no exception type of its own; it will say what is wrong with which text
            return [None] * len(texts)
        first, last = self._frame if special else ([], [])
        rows: list[list[int] | None] = [
            None if words is None else [*first, *chain.from_iterable(map(known.__getitem__, words)), *last]
            for words in split
        ]
        if truncation is not None:
            limit, surplus = truncation.max_length, len(first) + len(last)
            for index, row in enumerate(rows):
                if row is not None and len(row) > limit:
                    body = row[len(first) : len(row) - len(last)]
                    keep = limit - surplus
                    body = body[:keep] if truncation.side == "right" else body[len(body) - keep :]
                    rows[index] = [*first, *body, *last]
        return rows

    def _split(self, text: str) -> list[str] | None:
        if type(text) is not str or any(mark in text for mark in self._marks):
            return None
        if self._joined:
            # Only between single plain spaces are words sure to be apart for the engine's pattern.
            if not text.isprintable() or "  " in text or text[:1] == " " or text[-1:] == " ":
                return None
            return text.replace(" ", "\n ").split("\n")
        # What is not printable includes halves of surrogate pairs, which only the engine can report.
        return text.split(" ") if text.isascii() or text.isprintable() else None

    def _learn(self, split: list[list[str] | None]) -> dict[str, list[int]]:
        """The ids of all of these words at least."""
        known = self._known
        words = set(chain.from_iterable(words for words in split if words is not None))
        new = [word for word in words if word not in known]
        if new:
            size = sum(map(len, new))
            if self._size + size > _MAX_CHARACTERS:
                # Frequent words are learned again soon; other calls go on with the dictionary that they have.
                new, known, self._size = list(words), {}, 0
                size = sum(map(len, new))
            encodings = self._engine.encode_batch_fast(new, add_special_tokens=False)
            known.update(zip(new, [encoding.ids for encoding in encodings], strict=True))
            self._known = known
            self._size += size
        return known


_PROBE = 0xFFFFFFF  # no token's id, so that it stands out among special tokens


def words_of(engine: Tokenizer) -> Words | None:
    """The words of an engine that tokenizes them one by one, None for other engines."""
    added = engine.get_added_tokens_decoder().values()
    if any(token.normalized for token in added):
        return None  # may be there once the text is normalized
    marks = "".join({token.content[0] for token in added})
    if len(marks) > _MAX_MARKS:
        return None
    model, normalizer, splitter = engine.model, engine.normalizer, engine.pre_tokenizer
    if isinstance(model, WordPiece):
        apart = isinstance(normalizer, BertNormalizer) and isinstance(splitter, BertPreTokenizer)
        return Words(engine, marks, joined=False) if apart else None
    if isinstance(model, BPE) and model.dropout is None and isinstance(splitter, ByteLevel):
        # With `add_prefix_space` the engine tokenizes the first word as if a space stood before it, here as there.
        apart = splitter.use_regex and (normalizer is None or isinstance(normalizer, NFC))
        return Words(engine, marks, joined=True) if apart else None
    return None
