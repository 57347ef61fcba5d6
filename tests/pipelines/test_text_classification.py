"""Text classification against the reference, call for call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from formers import pipeline
from formers.errors import InputError

CALLS: list[dict[str, Any]] = [
    {},
    {"top_k": 1},
    {"top_k": 2},
    {"top_k": 50},
    {"top_k": None},
    {"function_to_apply": "sigmoid"},
    {"function_to_apply": "softmax"},
    {"function_to_apply": "none"},
    {"function_to_apply": "NONE", "top_k": None},
    {"truncation": True},
    {"truncation": True, "max_length": 6},
    {"max_length": 5, "truncation": "longest_first"},
    {"padding": True, "truncation": True},
    {"padding": "max_length", "max_length": 20, "truncation": True},
    {"add_special_tokens": True, "batch_size": 3},
]
PAIR = {"text": "Sarah lives in Berlin", "text_pair": "she likes the city"}


@pytest.fixture(scope="module")
def folder(make_bert: Callable[..., Path]) -> Path:
    return make_bert("ForSequenceClassification")


@pytest.fixture(scope="module")
def pipes(folder: Path, reference: Callable[..., Any]) -> tuple[Any, Any]:
    return pipeline("text-classification", model=folder), reference("text-classification", folder)


@pytest.mark.parametrize("options", CALLS, ids=str)
def test_calls_equal_the_reference(
    pipes: tuple[Any, Any], same: Callable[..., None], texts: list[str], options: dict[str, Any]
) -> None:
    mine, theirs = pipes
    # The reference loses padding between texts of a batch only in the score's last digits.
    inputs: list[Any] = ["a good movie", ["bad"], texts, PAIR, [PAIR, "a good movie", PAIR], [[["a", "b c"]]]]
    for value in inputs:
        same(mine(value, **options), theirs(value, **options))


@pytest.mark.parametrize("options", [{"top_k": None}, {"top_k": 2}, {"function_to_apply": "sigmoid"}], ids=str)
def test_options_of_the_constructor(
    folder: Path, reference: Callable[..., Any], same: Callable[..., None], options: dict[str, Any]
) -> None:
    mine, theirs = (make("text-classification", folder, **options) for make in (pipeline, reference))
    for value in ["a good movie", ["bad", "a good movie"], PAIR]:
        same(mine(value), theirs(value))
        same(mine(value, top_k=1), theirs(value, top_k=1))


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        (["A"], None),
        (["A"], "regression"),
        (["A", "B", "C"], "regression"),
        (["A", "B"], "multi_label_classification"),
        (["A", "B"], "single_label_classification"),
    ],
)
def test_function_is_told_from_the_configuration(
    make_bert: Callable[..., Path],
    reference: Callable[..., Any],
    same: Callable[..., None],
    labels: list[str],
    problem: str | None,
) -> None:
    folder = make_bert("ForSequenceClassification", labels, problem_type=problem)
    mine, theirs = (make("sentiment-analysis", folder) for make in (pipeline, reference))
    for options in ({}, {"top_k": None}):
        same(mine(["a good movie", "bad"], **options), theirs(["a good movie", "bad"], **options))


def test_text_pair_as_a_keyword(pipes: tuple[Any, Any], same: Callable[..., None]) -> None:
    mine, theirs = pipes
    same(mine("Sarah lives", text_pair="in Berlin"), theirs("Sarah lives", text_pair="in Berlin"))


def test_return_all_scores_is_the_older_top_k(pipes: tuple[Any, Any]) -> None:
    mine, _ = pipes
    scores = mine("a good movie", return_all_scores=True)
    assert [entry["label"] for entry in scores[0]] == ["NEGATIVE", "POSITIVE", "NEUTRAL"]
    best = max(scores[0], key=lambda entry: entry["score"])
    assert mine("a good movie", return_all_scores=False) == [best]


def test_a_pair_in_a_list_is_explained(pipes: tuple[Any, Any]) -> None:
    with pytest.raises(InputError, match="text_pair"):
        pipes[0]([["a", "b"]])


@pytest.mark.parametrize("value", [{"text": "a", "label": 1}, {"sentence": "a"}])
def test_other_dictionaries_are_refused(pipes: tuple[Any, Any], value: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="keys"):
        pipes[0](value)


@pytest.mark.parametrize(("options", "message"), [({"top_k": 0}, "top_k=0"), ({"function_to_apply": "tanh"}, "tanh")])
def test_wrong_options_are_refused(pipes: tuple[Any, Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        pipes[0]("a", **options)
