"""Ties between segmentations: "..." as ".." and "." is as probable as the other way round.

Which one SentencePiece takes is left to the rounding of its sums, which are of single precision; the engine's are of
double. Only neighbours that make the same text in both orders tie, so these are put in SentencePiece's order here.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence


class Ties:
    """Settles the ties of one Unigram model."""

    def __init__(self, scores: Mapping[str, float], unknown: float) -> None:
        """scores: log probabilities of the pieces. unknown: that of a character in no piece."""
        self._scores = scores
        self._unknown = _single(unknown)

    def settle(self, pieces: list[str]) -> list[str]:
        """The pieces of a text in the order that SentencePiece gives them."""
        total, place = 0.0, 0
        settled = pieces
        for start, end in self._runs(pieces):
            settled = list(pieces) if settled is pieces else settled
            for piece in settled[place:start]:
                score = self._scores.get(piece)
                for step in [score] if score is not None else [self._unknown] * len(piece):
                    total = _single(total + step)
            settled[start:end], total = self._best(pieces[start:end], total)
            place = end
        return settled

    def _runs(self, pieces: Sequence[str]) -> Iterator[tuple[int, int]]:
        """Stretches of different pieces that can change places."""
        after = 0
        for index in range(len(pieces) - 1):
            first, second = pieces[index], pieces[index + 1]
            if index < after or first[0] != second[0] or first == second or not self._tie(first, second):
                continue
            start, end = index, index + 2
            while start > after and self._tie(pieces[start - 1], first):
                start -= 1
            while end < len(pieces) and self._tie(pieces[end], first):
                end += 1
            yield start, end
            after = end

    def _tie(self, first: str, second: str) -> bool:
        return first + second == second + first and first in self._scores and second in self._scores

    def _best(self, pieces: Sequence[str], total: float) -> tuple[list[str], float]:
        """The order of the pieces, by the search that SentencePiece does, and the sum of their scores and `total`."""
        text, choices = "".join(pieces), sorted(set(pieces), key=len)
        sums: dict[int, float] = {0: total}
        last: dict[int, str] = {}
        for start in range(len(text)):
            for piece in choices if start in sums else ():
                end = start + len(piece)
                score = _single(sums[start] + self._scores[piece])
                if text.startswith(piece, start) and (end not in sums or score > sums[end]):
                    sums[end], last[end] = score, piece
        found: list[str] = []
        end = len(text)
        while end:
            found.append(last[end])
            end -= len(last[end])
        return found[::-1], sums[len(text)]


def _single(value: float) -> float:
    """The value as single precision has it."""
    return array("f", [value])[0]
