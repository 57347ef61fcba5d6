"""From ids to tokens and text."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from formers import AutoTokenizer

from .conftest import TEXTS


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("clean", [None, True, False])
def test_decode(both: tuple[Any, Any], skip: bool, clean: bool | None) -> None:
    ours, theirs = both
    rows = theirs(TEXTS, padding=True)["input_ids"]
    arguments = {"skip_special_tokens": skip, "clean_up_tokenization_spaces": clean}
    expected = [theirs.decode(row, **arguments) for row in rows]
    assert [ours.decode(row, **arguments) for row in rows] == expected
    for batch in (rows, np.array(rows), torch.tensor(rows), [torch.tensor(row) for row in rows]):
        assert ours.batch_decode(batch, **arguments) == expected
        assert ours.decode(batch, **arguments) == expected
    assert ours.decode(torch.tensor(rows[0]), **arguments) == expected[0]
    assert ours.decode(rows[0][1], **arguments) == theirs.decode(rows[0][1], **arguments)
    assert ours.decode(ours(TEXTS), **arguments) == [
        theirs.decode(row, **arguments) for row in theirs(TEXTS)["input_ids"]
    ]
    assert ours.decode([], **arguments) == theirs.decode([], **arguments)
    assert ours.batch_decode([], **arguments) == theirs.batch_decode([], **arguments)


@settings(deadline=None, max_examples=30, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_ids(both: tuple[Any, Any], data: st.DataObject) -> None:
    ours, theirs = both
    ids = data.draw(st.lists(st.integers(0, len(ours) + 5), max_size=12))
    assert ours.decode(ids) == theirs.decode(ids)
    assert ours.decode(ids, skip_special_tokens=True) == theirs.decode(ids, skip_special_tokens=True)
    assert ours.convert_ids_to_tokens(ids) == theirs.convert_ids_to_tokens(ids)
    assert ours.convert_ids_to_tokens(ids, skip_special_tokens=True) == theirs.convert_ids_to_tokens(
        ids, skip_special_tokens=True
    )


def test_conversions(both: tuple[Any, Any]) -> None:
    ours, theirs = both
    tokens = [*theirs.tokenize(TEXTS[1]), "not in the vocabulary"]
    assert ours.convert_tokens_to_ids(tokens) == theirs.convert_tokens_to_ids(tokens)
    assert ours.convert_tokens_to_ids(tokens[0]) == theirs.convert_tokens_to_ids(tokens[0])
    assert ours.convert_tokens_to_ids(tokens[-1]) == theirs.convert_tokens_to_ids(tokens[-1])
    assert ours.convert_tokens_to_ids(None) is None
    assert ours.convert_ids_to_tokens(7) == theirs.convert_ids_to_tokens(7)
    assert ours.convert_ids_to_tokens(torch.tensor([7, 8])) == theirs.convert_ids_to_tokens([7, 8])
    assert ours.convert_tokens_to_string(tokens[:-1]) == theirs.convert_tokens_to_string(tokens[:-1])


def test_clean_up() -> None:
    from formers import PreTrainedTokenizerFast

    spaced = "do n't you 're , it 's ; we 've ? I 'm ! a ' b ."
    assert PreTrainedTokenizerFast.clean_up_tokenization(spaced) == "don't you're, it's ; we've? I'm! a'b."


def test_spaces_of_a_text_are_not_cleaned_away(roberta_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = AutoTokenizer.from_pretrained(roberta_folder)
    ids = tokenizer("a . b", add_special_tokens=False)["input_ids"]
    with caplog.at_level(logging.WARNING):
        assert tokenizer.decode(ids, clean_up_tokenization_spaces=True) == "a . b"
        tokenizer.decode(ids, clean_up_tokenization_spaces=True)
    assert caplog.text.count("not cleaned up") == 1
    forced = AutoTokenizer.from_pretrained(
        roberta_folder,
        clean_up_tokenization_spaces=True,
        clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output=True,
    )
    assert forced.decode(ids) == "a. b"
