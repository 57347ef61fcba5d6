"""Mask filling against the reference, call for call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from formers import pipeline
from formers.errors import InputError

ONE = "Sarah lives in [MASK]."
TWO = "[MASK] lives in [MASK] and works"


@pytest.fixture(scope="module")
def folder(make_bert: Callable[..., Path]) -> Path:
    return make_bert("ForMaskedLM")


@pytest.fixture(scope="module")
def pipes(folder: Path, reference: Callable[..., Any]) -> tuple[Any, Any]:
    return pipeline("fill-mask", model=folder), reference("fill-mask", folder)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"top_k": 1},
        {"top_k": 12},
        {"targets": "Berlin"},
        {"targets": ["Berlin", "Paris", "London", "Berlin"], "top_k": 2},
        {"tokenizer_kwargs": {"truncation": True}},
        {"batch_size": 2},
    ],
    ids=str,
)
def test_calls_equal_the_reference(pipes: tuple[Any, Any], same: Callable[..., None], options: dict[str, Any]) -> None:
    mine, theirs = pipes
    for value in [ONE, TWO, [ONE], [TWO], [ONE, TWO, ONE, "[MASK]"]]:
        same(mine(value, **options), theirs(value, **options))


def test_targets_outside_of_the_vocabulary(pipes: tuple[Any, Any], same: Callable[..., None]) -> None:
    mine, theirs = pipes
    with pytest.warns(UserWarning, match="'watched' is not in the vocabulary: 'watch' is used"):
        answer = mine(ONE, targets=["watched", "Berlin"])
    same(answer, theirs(ONE, targets=["watched", "Berlin"]))
    with pytest.warns(UserWarning, match="left out"), pytest.raises(InputError, match="no target"):
        mine(ONE, targets=[""])


def test_targets_of_the_constructor(folder: Path, reference: Callable[..., Any], same: Callable[..., None]) -> None:
    mine, theirs = (make("fill-mask", folder, targets=["Berlin", "Paris"], top_k=1) for make in (pipeline, reference))
    same(mine(ONE), theirs(ONE))
    same(mine(ONE, top_k=2), theirs(ONE, top_k=2))


def test_top_k_beyond_the_vocabulary(pipes: tuple[Any, Any]) -> None:
    mine, _ = pipes
    assert len(mine(ONE, top_k=10**6)) == mine.model.config.vocab_size


def test_a_text_without_a_mask(pipes: tuple[Any, Any]) -> None:
    with pytest.raises(InputError, match=r"no mask .* Put \[MASK\]"):
        pipes[0]("Sarah lives in Berlin")
    with pytest.raises(InputError, match="near enough to the start"):
        pipes[0]("Berlin " * 100 + "[MASK]", truncation=True)


def test_wrong_top_k(pipes: tuple[Any, Any]) -> None:
    with pytest.raises(InputError, match="top_k=0"):
        pipes[0](ONE, top_k=0)


def test_byte_level_tokens(
    make_roberta: Callable[..., Path], reference: Callable[..., Any], same: Callable[..., None]
) -> None:
    folder = make_roberta("ForMaskedLM")
    mine, theirs = (make("fill-mask", folder) for make in (pipeline, reference))
    for value in ["Sarah lives in <mask>.", ["<mask> lives in <mask>", "a <mask>"]]:
        same(mine(value), theirs(value))
