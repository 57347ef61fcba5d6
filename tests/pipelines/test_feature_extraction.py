"""Feature extraction against the reference, call for call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import formers
from formers import pipeline
from formers.errors import InputError


@pytest.fixture(scope="module")
def pipes(make_bert: Callable[..., Path], reference: Callable[..., Any]) -> tuple[Any, Any]:
    folder = make_bert("Model")
    return pipeline("feature-extraction", model=folder), reference("feature-extraction", folder)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"return_tensors": True},
        {"return_tensors": "pt"},
        {"truncation": True},
        {"tokenize_kwargs": {"truncation": True, "max_length": 4}},
        {"tokenize_kwargs": {"add_special_tokens": False}},
    ],
    ids=str,
)
def test_calls_equal_the_reference(
    pipes: tuple[Any, Any], same: Callable[..., None], texts: list[str], options: dict[str, Any]
) -> None:
    mine, theirs = pipes
    values = [text for text in texts if text]
    for value in ["a good movie", ["bad"], values]:
        same(mine(value, **options), theirs(value, **options))


def test_tensors_are_the_callers_own(pipes: tuple[Any, Any]) -> None:
    tensor = pipes[0]("a good movie", return_tensors=True)
    assert tensor.shape == (1, 5, 32)
    layer = torch.nn.Linear(32, 1)
    layer(tensor).sum().backward()
    assert layer.weight.grad is not None
    assert tensor.untyped_storage().nbytes() == tensor.nbytes


def test_padding_of_a_batch_is_not_in_the_answer(pipes: tuple[Any, Any], same: Callable[..., None]) -> None:
    values = ["bad", "a good movie about the city"]
    same(pipes[0](values, batch_size=2), pipes[0](values))


def test_padding_that_was_asked_for_is(pipes: tuple[Any, Any]) -> None:
    padded = pipes[0]("bad", tokenize_kwargs={"padding": "max_length", "max_length": 9}, return_tensors=True)
    assert padded.shape == (1, 9, 32)
    torch.testing.assert_close(padded[:, :3], pipes[0]("bad", return_tensors=True))


def test_truncation_given_twice(pipes: tuple[Any, Any]) -> None:
    with pytest.raises(InputError, match="'truncation' is given twice"):
        pipes[0]("a", truncation=True, tokenize_kwargs={"truncation": True})


def test_features_of_a_model_with_a_head(
    make_bert: Callable[..., Path], reference: Callable[..., Any], same: Callable[..., None]
) -> None:
    folder = make_bert("ForSequenceClassification")
    mine = pipeline(
        "feature-extraction",
        model=formers.AutoModelForSequenceClassification.from_pretrained(folder),
        tokenizer=formers.AutoTokenizer.from_pretrained(folder),
    )
    theirs = transformers.pipeline(
        "feature-extraction",
        model=transformers.AutoModelForSequenceClassification.from_pretrained(folder),
        tokenizer=transformers.AutoTokenizer.from_pretrained(folder),
        device="cpu",
    )
    same(mine(["a good movie", "bad"]), theirs(["a good movie", "bad"]))
