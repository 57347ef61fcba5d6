"""Zero-shot classification against the reference, call for call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from formers import pipeline
from formers.errors import InputError

LABELS = ["sports", "politics", "science"]


@pytest.fixture(scope="module", params=[["contradiction", "neutral", "entailment"], ["ENTAILMENT", "other"]], ids=str)
def pipes(
    request: pytest.FixtureRequest, make_bert: Callable[..., Path], reference: Callable[..., Any]
) -> tuple[Any, Any]:
    folder = make_bert("ForSequenceClassification", request.param)
    return pipeline("zero-shot-classification", model=folder), reference("zero-shot-classification", folder)


@pytest.mark.filterwarnings("ignore:An input has")
@pytest.mark.parametrize(
    "options",
    [
        {"candidate_labels": LABELS},
        {"candidate_labels": "sports, politics ,science,"},
        {"candidate_labels": ["sports"]},
        {"candidate_labels": LABELS, "multi_label": True},
        {"candidate_labels": LABELS, "hypothesis_template": "It was about {}!"},
        {"candidate_labels": LABELS, "batch_size": 2},
    ],
    ids=str,
)
def test_calls_equal_the_reference(
    pipes: tuple[Any, Any], same: Callable[..., None], texts: list[str], options: dict[str, Any]
) -> None:
    mine, theirs = pipes
    values = [text for text in texts if text]
    for value in [values[0], [values[1]], values[:12], "a good film " * 30]:
        same(mine(value, **options), theirs(value, **options))


def test_labels_by_position_and_name(pipes: tuple[Any, Any], same: Callable[..., None]) -> None:
    mine, theirs = pipes
    same(mine("a game", LABELS), theirs("a game", LABELS))
    same(mine(sequences="a game", candidate_labels=LABELS), theirs(sequences="a game", candidate_labels=LABELS))
    same(mine("a game", LABELS, multi_class=True), theirs("a game", LABELS, multi_label=True))


def test_a_model_without_entailment_warns(
    make_bert: Callable[..., Path], reference: Callable[..., Any], same: Callable[..., None]
) -> None:
    folder = make_bert("ForSequenceClassification")
    with pytest.warns(UserWarning, match="entail"):
        mine = pipeline("zero-shot-classification", model=folder)
    theirs = reference("zero-shot-classification", folder)
    for options in ({}, {"multi_label": True}):
        same(mine("a game", LABELS, **options), theirs("a game", LABELS, **options))


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a", {}, "no candidate labels"),
        ("a", {"candidate_labels": []}, "no candidate labels"),
        ("a", {"candidate_labels": " , "}, "no candidate labels"),
        ("", {"candidate_labels": LABELS}, "empty text"),
        ("a", {"candidate_labels": LABELS, "hypothesis_template": "no place"}, "no place for a label"),
        ("a", {"candidate_labels": ["long " * 80]}, "cannot be cut"),
    ],
    ids=str,
)
def test_wrong_calls_are_refused(pipes: tuple[Any, Any], text: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        pipes[0](text, **options)
