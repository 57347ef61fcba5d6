"""From scores of tokens to entities: the aggregation strategies of token classification, without model or tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float32]
Entity = dict[str, Any]

STRATEGIES = ("none", "simple", "first", "average", "max")


@dataclass(slots=True)
class Token:
    """One token that is not a special one: its scores (C,), and where it lies in the text, if that is known."""

    word: str
    scores: Scores
    index: int
    start: int | None
    end: int | None
    continues: bool


@dataclass(frozen=True)
class Aggregator:
    """One strategy with a model's labels and the tokenizer's way of joining tokens to words."""

    strategy: str
    labels: Mapping[int, str]
    join: Callable[[list[str]], str]

    def entities(self, tokens: Sequence[Token]) -> list[Entity]:
        """The entities of one sequence: one a token ("none"), or neighbours of one label fused to groups."""
        if self.strategy in ("none", "simple"):
            found = [self._of_token(token) for token in tokens]
            return found if self.strategy == "none" else self._groups(found)
        words: list[list[Token]] = []
        for token in tokens:
            if words and token.continues:
                words[-1].append(token)
            else:
                words.append([token])
        return self._groups([self._of_word(word) for word in words])

    def _of_token(self, token: Token) -> Entity:
        best = int(token.scores.argmax())
        return {
            "entity": self.labels[best],
            "score": float(token.scores[best]),
            "index": token.index,
            "word": token.word,
            "start": token.start,
            "end": token.end,
        }

    def _of_word(self, tokens: Sequence[Token]) -> Entity:
        if self.strategy == "first":
            scores = tokens[0].scores
        elif self.strategy == "max":
            scores = max(tokens, key=lambda token: token.scores.max()).scores
        else:
            scores = np.mean([token.scores for token in tokens], axis=0)
        best = int(scores.argmax())
        return {
            "entity": self.labels[best],
            "score": float(scores[best]),
            "word": self.join([token.word for token in tokens]),
            "start": tokens[0].start,
            "end": tokens[-1].end,
        }

    def _groups(self, entities: Iterable[Entity]) -> list[Entity]:
        groups: list[list[Entity]] = []
        previous = ""
        for entity in entities:
            begins, tag = _tag(entity["entity"])
            if groups and tag == previous and not begins:
                groups[-1].append(entity)
            else:
                groups.append([entity])
            previous = tag
        return [self._of_group(group) for group in groups]

    def _of_group(self, group: Sequence[Entity]) -> Entity:
        return {
            "entity_group": group[0]["entity"].split("-", 1)[-1],
            "score": float(np.mean([entity["score"] for entity in group])),
            "word": self.join([entity["word"] for entity in group]),
            "start": group[0]["start"],
            "end": group[-1]["end"],
        }


def _tag(label: str) -> tuple[bool, str]:
    """Whether a label begins an entity, and the entity's name: labels without B- or I- continue."""
    if label.startswith(("B-", "I-")):
        return label[0] == "B", label[2:]
    return False, label


def without_overlaps(entities: Sequence[Entity]) -> list[Entity]:
    """Entities of overlapping pieces of a text, by start; of two that overlap the longer stays, or the likelier."""
    kept: list[Entity] = []
    for entity in sorted(entities, key=lambda entity: int(entity["start"])):
        if kept and kept[-1]["start"] <= entity["start"] < kept[-1]["end"]:
            if _weight(entity) > _weight(kept[-1]):
                kept[-1] = entity
        else:
            kept.append(entity)
    return kept


def _weight(entity: Entity) -> tuple[int, float]:
    return entity["end"] - entity["start"], entity["score"]
