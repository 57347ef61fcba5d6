"""Token classification against the reference, call for call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from formers import pipeline
from formers.errors import InputError

LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "MISC"]
STRATEGIES = ["none", "simple", "first", "average", "max"]
LONG = "Sarah lives in Berlin and Wolfgang works for the bank in London, but Maria likes Paris. " * 4


@pytest.fixture(scope="module")
def folder(make_bert: Callable[..., Path]) -> Path:
    return make_bert("ForTokenClassification", LABELS)


@pytest.fixture(scope="module")
def pipes(folder: Path, reference: Callable[..., Any]) -> tuple[Any, Any]:
    return pipeline("ner", model=folder), reference("ner", folder)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("more", [{}, {"ignore_labels": []}, {"ignore_labels": ["PER", "B-LOC", "O"]}], ids=str)
def test_strategies(
    pipes: tuple[Any, Any], same: Callable[..., None], texts: list[str], strategy: str, more: dict[str, Any]
) -> None:
    mine, theirs = pipes
    options = {"aggregation_strategy": strategy, **more}
    for value in [texts[1], [texts[1]], texts]:
        same(mine(value, **options), theirs(value, **options))


def test_default_is_one_entity_a_token(pipes: tuple[Any, Any], same: Callable[..., None], texts: list[str]) -> None:
    mine, theirs = pipes
    answer = mine(texts[1])
    same(answer, theirs(texts[1]))
    assert answer[0].keys() == {"entity", "score", "index", "word", "start", "end"}


@pytest.mark.parametrize("strategy", STRATEGIES[1:])
@pytest.mark.parametrize("stride", [0, 5, 20])
def test_stride_reads_long_texts_whole(
    pipes: tuple[Any, Any], same: Callable[..., None], strategy: str, stride: int
) -> None:
    mine, theirs = pipes
    options = {"aggregation_strategy": strategy, "stride": stride}
    answer = mine(LONG, **options)
    same(answer, theirs(LONG, **options))
    assert answer[-1]["end"] > len(LONG) - 20
    same(mine([LONG, "Sarah"], **options), theirs([LONG, "Sarah"], **options))


def test_stride_without_a_strategy(pipes: tuple[Any, Any], same: Callable[..., None]) -> None:
    mine, theirs = pipes
    same(mine(LONG, stride=5), theirs(LONG, stride=5))


def test_stride_needs_a_strategy_and_room(pipes: tuple[Any, Any]) -> None:
    with pytest.raises(InputError, match="stride"):
        pipes[0](LONG, stride=5, aggregation_strategy="none")
    with pytest.raises(InputError, match="stride=48"):
        pipes[0](LONG, stride=48, aggregation_strategy="simple")


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("delimiter", [None, "", " | "])
def test_words(pipes: tuple[Any, Any], same: Callable[..., None], strategy: str, delimiter: str | None) -> None:
    mine, theirs = pipes
    options = {"is_split_into_words": True, "aggregation_strategy": strategy, "ignore_labels": []}
    if delimiter is not None:
        options["delimiter"] = delimiter
    words = ["Sarah", "watched", "films", "in", "Berlin"]
    answer = mine(words, **options)
    same(answer, theirs(words, **options))
    same(mine([words, ["good"]], **options), theirs([words, ["good"]], **options))
    text = (" " if delimiter is None else delimiter).join(words)
    assert text[answer[0][0]["start"] : answer[0][0]["end"]].startswith("Sarah"[:1])


def test_texts_are_not_words(pipes: tuple[Any, Any]) -> None:
    with pytest.raises(InputError, match="is_split_into_words"):
        pipes[0]("a text", is_split_into_words=True)
    with pytest.raises(InputError, match="type list"):
        pipes[0]([["a", "text"]])


def test_offsets_of_the_caller(pipes: tuple[Any, Any], same: Callable[..., None]) -> None:
    mine, theirs = pipes
    offsets = [(0, 0), (1, 4), (4, 6), (6, 9), (0, 0)]
    text = "Sarah in Berlin"
    options = {"aggregation_strategy": "first", "ignore_labels": [], "offset_mapping": offsets}
    same(mine(text, **options), theirs(text, **options))
    several = mine([text, text], **{**options, "offset_mapping": [offsets, offsets]})
    same(several, [theirs(text, **options)] * 2)
    with pytest.raises(InputError, match="offset_mapping"):
        mine([text, text], **{**options, "offset_mapping": [offsets]})


def test_older_spellings(pipes: tuple[Any, Any], same: Callable[..., None], texts: list[str]) -> None:
    mine, _ = pipes
    same(mine(texts[1], grouped_entities=True), mine(texts[1], aggregation_strategy="simple"))
    first = mine(texts[1], aggregation_strategy="first")
    same(mine(texts[1], grouped_entities=True, ignore_subwords=True), first)
    same(mine(texts[1], grouped_entities=False), mine(texts[1]))


def test_unknown_strategy(pipes: tuple[Any, Any]) -> None:
    with pytest.raises(InputError, match="'last' is not known"):
        pipes[0]("a", aggregation_strategy="last")


def test_options_of_the_constructor(folder: Path, reference: Callable[..., Any], same: Callable[..., None]) -> None:
    options = {"aggregation_strategy": "max", "ignore_labels": ["MISC"]}
    mine, theirs = (make("token-classification", folder, **options) for make in (pipeline, reference))
    same(mine(LONG[:80]), theirs(LONG[:80]))


def test_a_tokenizer_that_marks_no_words(
    make_roberta: Callable[..., Path], reference: Callable[..., Any], same: Callable[..., None], texts: list[str]
) -> None:
    folder = make_roberta("ForTokenClassification", LABELS)
    mine, theirs = (make("ner", folder) for make in (pipeline, reference))
    for strategy in STRATEGIES:
        options = {"aggregation_strategy": strategy, "ignore_labels": []}
        same(mine(texts[:6], **options), theirs(texts[:6], **options))
