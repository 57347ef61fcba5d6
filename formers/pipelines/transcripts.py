"""Transcripts of overlapping pieces of a recording as one: text, segments and words with their times.

Pieces overlap by strides on both sides. What both say of the overlap is matched, and each is believed for its own half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from formers.tokenization.timestamps import WINDOW
from formers.tokenization.whisper import LANGUAGES

_UNSPACED = ("chinese", "japanese", "thai", "lao", "myanmar", "cantonese")
_PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
_OPENING, _CLOSING = "\"'“¡¿([{-", "\"'.。,，!！?？:：”)]}、"
_UNKNOWN = "\ufffd"

Times = tuple[float, float]


@dataclass
class Transcript:
    """What the model wrote of one piece. `times` of its tokens and `stride` (length, left, right) are in seconds."""

    tokens: list[int]
    times: list[float] | None = None
    stride: tuple[float, float, float] | None = None


@dataclass
class _Open:
    """The segment that is being read: its start and language, and the tokens of each piece that speak of it."""

    language: str | None
    start: float | None = None
    tokens: list[list[int]] = field(default_factory=list)
    times: list[list[Times]] = field(default_factory=list)


class Merger:
    """Reads transcripts piece by piece. `step`: the seconds of a timestamp."""

    def __init__(self, tokenizer: Any, timestamps: bool | str, language: bool, step: float = 0.02) -> None:
        self.tokenizer, self.by_word, self.step = tokenizer, timestamps == "word", step
        self.timestamps, self.with_language = bool(timestamps), language
        self.first = tokenizer.timestamp_begin
        self.special = set(tokenizer.all_special_ids)
        self.chunks: list[dict[str, Any]] = []
        self.language: str | None = None
        self.offset = 0.0
        self.open = _Open(None)
        # Whether the next timestamp belongs to one that was left out.
        self.skip = False

    def result(self, transcripts: Sequence[Transcript]) -> tuple[str, list[dict[str, Any]] | None]:
        """The text, and the segments or words if these or the language were asked for."""
        for transcript in transcripts:
            self._read(transcript)
        if self.open.tokens:
            self._close(None)
        text = "".join(chunk["text"] for chunk in self.chunks)
        if not (self.timestamps or self.with_language):
            return text, None
        if self.by_word:
            return text, [word for chunk in self.chunks for word in chunk["words"]]
        unwanted = [
            name for name, wanted in (("timestamp", self.timestamps), ("language", self.with_language)) if not wanted
        ]
        return text, [{name: value for name, value in chunk.items() if name not in unwanted} for chunk in self.chunks]

    def _read(self, transcript: Transcript) -> None:
        tokens, first = transcript.tokens, self.first
        earliest, latest, kept = first, None, 0.0
        if transcript.stride is not None:
            length, left, right = transcript.stride
            self.offset -= left
            kept = length - right
            earliest = left / self.step + first if left else first
            latest = self._latest(tokens, kept) if right else None
        current: list[int] = []
        spoken: list[Times] = []
        highest = before_highest = passed = 0.0
        for place, token in enumerate(tokens):
            if token in self.special:
                named = LANGUAGES.get(self.tokenizer.decode([token])[2:-2])
                if named is not None:
                    if self.language and named != self.language and not self.timestamps:
                        self.open.tokens.append(current)
                        self._close(None)
                        current = []
                    self.open.language = self.language = named
                continue
            if token < first:
                current.append(token)
                if self.by_word and transcript.times is not None:
                    start = transcript.times[place - 1] if place else 0.0
                    spoken.append((round(start + self.offset, 2), round(transcript.times[place] + self.offset, 2)))
                continue
            # Several windows may follow one another in a transcript, each with times from 0 on.
            time = float((token - first) * self.step)
            if time < highest:
                if place >= 2 and not (tokens[place - 1] >= first and tokens[place - 2] >= first):
                    passed += self.step * WINDOW
                else:
                    highest = before_highest
                    passed += before_highest
            before_highest, highest = highest, time
            moment = round((token - first) * self.step + self.offset + passed, 2)
            if latest and token >= latest:
                self.skip = True
            elif self.skip or (self.open.tokens and token < earliest):
                self.skip = False
            elif self.open.start is None:
                self.open.start = moment
            elif moment != self.open.start:
                self.open.tokens.append(current)
                self.open.times.append(spoken)
                self._close(moment)
                current, spoken = [], []
        if transcript.stride is not None:
            self.offset += kept
        if current:
            self.open.tokens.append(current)
            self.open.times.append(spoken)
        elif not any(self.open.tokens):
            self.open = _Open(self.language)

    def _latest(self, tokens: Sequence[int], kept: float) -> int | None:
        """The first timestamp in the right stride, from which on the next piece is believed."""
        latest = None
        for token in reversed(tokens):
            if token >= self.first:
                if latest is not None and (token - self.first) * self.step < kept:
                    break
                latest = token
        return latest

    def _close(self, end: float | None) -> None:
        tokens, times = matched(self.open.tokens, self.open.times if self.by_word else None)
        chunk: dict[str, Any] = {
            "language": self.open.language,
            "timestamp": (self.open.start, end),
            "text": self.tokenizer.decode(tokens),
        }
        if self.by_word:
            chunk["words"] = self._words(tokens, times)
        self.chunks.append(chunk)
        self.open = _Open(self.language)

    def _words(self, tokens: Sequence[int], times: Sequence[Times]) -> list[dict[str, Any]]:
        found = []
        for text, places in words(self.tokenizer, tokens, self.language):
            word: dict[str, Any] = {"text": text, "timestamp": (times[places[0]][0], times[places[-1]][1])}
            found.append({**word, "language": self.language} if self.with_language else word)
        return found


def matched(
    sequences: Sequence[Sequence[int]], times: Sequence[Sequence[Times]] | None
) -> tuple[list[int], list[Times]]:
    """One sequence from several, each of which overlaps the one before it; `times` of their tokens go along.

    Of all ways to lay one over the other the one with most equal tokens is taken, and both are cut in its middle. With
    times, equal tokens count only where they are not later on the left.
    """
    left, left_times = list(sequences[0]), list(times[0]) if times else []
    whole: list[int] = []
    whole_times: list[Times] = []
    for index, right in enumerate(sequences[1:], 1):
        right_times = list(times[index]) if times else []
        size, other = len(left), len(right)
        best, cut, start = 0.0, size, 0
        for shift in range(1, size + other):
            low, high = max(0, size - shift), min(size, size + other - shift)
            from_, to = max(0, shift - size), min(other, shift)
            equal = np.array(left[low:high]) == np.array(right[from_:to])
            if times:
                equal &= np.array(
                    [a <= b for a, b in zip(left_times[low:high], right_times[from_:to], strict=True)], dtype=bool
                )
            count = int(equal.sum())
            # Long matches before short ones that are as good.
            score = count / shift + shift / 10000.0
            if count > 1 and score > best:
                best, cut, start = score, (low + high) // 2, (from_ + to) // 2
        whole += left[:cut]
        whole_times += left_times[:cut]
        left, left_times = list(right[start:]), right_times[start:]
    return whole + left, whole_times + left_times


def words(tokenizer: Any, tokens: Sequence[int], language: str | None) -> list[tuple[str, list[int]]]:
    """The words in tokens, with punctuation, and which tokens each is made of."""
    parts = _characters(tokenizer, tokens)
    if (language or tokenizer.language or "english") not in _UNSPACED:
        parts = _spaced(parts, [tokens[places[0]] >= tokenizer.eos_token_id for _, places in parts])
    return _punctuated(parts)


def _characters(tokenizer: Any, tokens: Sequence[int]) -> list[tuple[str, list[int]]]:
    """The shortest groups of tokens that are whole characters."""
    whole = tokenizer.decode(list(tokens), decode_with_timestamps=True)
    parts: list[tuple[str, list[int]]] = []
    group: list[int] = []
    offset = 0
    for place in range(len(tokens)):
        group.append(place)
        text = tokenizer.decode([tokens[each] for each in group], decode_with_timestamps=True)
        at = text.find(_UNKNOWN)
        if at < 0 or offset + at >= len(whole) or whole[offset + at] == _UNKNOWN:
            parts.append((text, group))
            group, offset = [], offset + len(text)
    return parts


def _spaced(parts: Sequence[tuple[str, list[int]]], special: Sequence[bool]) -> list[tuple[str, list[int]]]:
    joined: list[tuple[str, list[int]]] = []
    for (text, places), alone in zip(parts, special, strict=True):
        if alone or text.startswith(" ") or text.strip() in _PUNCTUATION or not joined:
            joined.append((text, list(places)))
        else:
            before, held = joined[-1]
            joined[-1] = (before + text, held + places)
    return joined


def _punctuated(parts: list[tuple[str, list[int]]]) -> list[tuple[str, list[int]]]:
    """Opening signs go to the word after them, closing ones to the word before."""
    forward: list[tuple[str, list[int]]] = []
    for text, places in reversed(parts):
        if forward and text.startswith(" ") and text.strip() in _OPENING:
            after, held = forward[-1]
            forward[-1] = (text + after, places + held)
        else:
            forward.append((text, places))
    joined: list[tuple[str, list[int]]] = []
    for text, places in reversed(forward):
        if joined and not joined[-1][0].endswith(" ") and text in _CLOSING:
            before, held = joined[-1]
            joined[-1] = (before + text, held + places)
        else:
            joined.append((text, places))
    return [part for part in joined if part[0]]
