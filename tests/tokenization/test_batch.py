"""BatchEncoding: a mapping, attributes, tensors, and what relates tokens, words and characters."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from formers import AutoTokenizer, BatchEncoding
from formers.errors import InputError

TEXTS = ["Using a transformer network", "It's   simple, isn't it?"]
PAIRS = ["unbelievably longwordwithoutspaces", "short"]


def test_maps_between_tokens_words_and_characters(both: tuple[Any, Any]) -> None:
    ours, theirs = (tokenizer(TEXTS, PAIRS, padding=True) for tokenizer in both)
    for row in range(2):
        assert ours.tokens(row) == theirs.tokens(row)
        assert ours.word_ids(row) == ours.words(row) == theirs.word_ids(row)
        assert ours.sequence_ids(row) == theirs.sequence_ids(row)
        for token in range(len(ours["input_ids"][row])):
            assert ours.token_to_sequence(row, token) == theirs.token_to_sequence(row, token)
            assert ours.token_to_word(row, token) == theirs.token_to_word(row, token)
            assert ours.token_to_chars(row, token) == theirs.token_to_chars(row, token)
        for part, text in enumerate((TEXTS[row], PAIRS[row])):
            for index in range(len(text)):
                assert ours.char_to_token(row, index, part) == theirs.char_to_token(row, index, part)
                assert ours.char_to_word(row, index, part) == theirs.char_to_word(row, index, part)
        for part in range(2):
            for word in {
                word for word, owner in zip(ours.word_ids(row), ours.sequence_ids(row), strict=True) if owner == part
            }:
                assert ours.word_to_tokens(row, word, part) == theirs.word_to_tokens(row, word, part)
                assert ours.word_to_chars(row, word, part) == theirs.word_to_chars(row, word, part)


def test_the_row_may_be_left_out(both: tuple[Any, Any]) -> None:
    ours, theirs = (tokenizer(TEXTS[1]) for tokenizer in both)
    assert ours.char_to_token(3) == theirs.char_to_token(3)
    assert ours.token_to_chars(2) == theirs.token_to_chars(2)
    assert ours.token_to_chars(2).start == theirs.token_to_chars(2).start
    assert ours.word_to_tokens(1) == theirs.word_to_tokens(1)
    assert ours.word_to_tokens(99) is None
    assert ours.token_to_word(-2) == ours.token_to_word(0, len(ours["input_ids"]) - 2)
    assert ours.tokens() == theirs.tokens()


def test_is_a_mapping(both: tuple[Any, Any]) -> None:
    batch = both[0](TEXTS, padding=True)
    assert isinstance(batch, Mapping)
    assert list(batch) == list(batch.keys()) == list(dict(**batch))
    assert batch.input_ids is batch["input_ids"]
    assert "input_ids" in batch
    assert batch.get("nothing") is None
    assert batch[0].ids == batch["input_ids"][0]
    assert [row.ids for row in batch[0:2]] == batch["input_ids"]
    assert batch == both[0](TEXTS, padding=True)
    assert batch.is_fast
    batch["labels"] = [0, 1]
    assert batch.pop("labels") == [0, 1]
    with pytest.raises(AttributeError, match="'nothing'"):
        batch.nothing  # noqa: B018
    with pytest.raises(KeyError):
        batch["nothing"]


def test_without_encodings() -> None:
    batch = BatchEncoding({"input_ids": [[1, 2], [3, 4]]})
    assert not batch.is_fast
    assert batch.encodings is None
    assert batch.n_sequences is None
    assert batch[0:1] == {"input_ids": [[1, 2]]}
    with pytest.raises(KeyError, match="no encodings"):
        batch[0]
    with pytest.raises(InputError, match="Only the result of tokenizing text"):
        batch.word_ids()


def test_tensors() -> None:
    batch = BatchEncoding({"input_ids": [1, 2], "score": [0.5, 1.5]}, tensor_type="pt", prepend_batch_axis=True)
    assert batch["input_ids"].tolist() == [[1, 2]]
    assert batch["input_ids"].dtype == torch.int64
    assert batch["score"].dtype == torch.float32
    assert batch.to("cpu") is batch
    assert batch.to(torch.device("cpu"))["input_ids"].device.type == "cpu"
    arrays = BatchEncoding({"input_ids": [[1, 2]], "kept": np.ones((1, 2), dtype=bool)}).convert_to_tensors("np")
    assert arrays["input_ids"].dtype == np.int64
    assert arrays["kept"].dtype == bool
    assert BatchEncoding({"a": [[]]}, tensor_type="pt")["a"].dtype == torch.int64
    stacked = BatchEncoding({"a": [torch.ones(2), torch.zeros(2)], "b": [np.ones(2), np.zeros(2)]}, tensor_type="pt")
    assert stacked["a"].shape == stacked["b"].shape == (2, 2)
    with pytest.raises(InputError, match="'words' do not form a tensor"):
        BatchEncoding({"words": [["a", None]]}).convert_to_tensors("pt")


def test_does_not_cast(bert_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    batch = AutoTokenizer.from_pretrained(bert_folder)("text", return_tensors="pt")
    assert batch.to(torch.float16)["input_ids"].dtype == torch.int64
    assert "does not cast" in caplog.text


def test_copies_keep_everything(bert_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(bert_folder)
    batch = tokenizer(TEXTS, PAIRS, padding=True)
    for twin in (copy.copy(batch), copy.deepcopy(batch), pickle.loads(pickle.dumps(batch))):  # noqa: S301
        assert twin == batch
        assert twin.word_ids(1) == batch.word_ids(1)
        assert twin.n_sequences == 2
