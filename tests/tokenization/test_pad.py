"""`pad` brings tokenized rows of any form to one length."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from formers import AutoTokenizer
from formers.errors import InputError

ROWS = {"input_ids": [[5, 6, 7], [8], [9, 10, 11, 12]], "token_type_ids": [[0, 0, 1], [0], [0, 0, 0, 1]]}

SETTINGS: list[dict[str, Any]] = [
    {},
    {"padding": "max_length", "max_length": 6},
    {"padding": True, "pad_to_multiple_of": 8},
    {"padding_side": "left"},
    {"padding": False},
    {"return_attention_mask": False},
    {"return_tensors": "pt"},
    {"return_tensors": "np", "padding": "max_length", "max_length": 5},
]


def listed(batch: Any) -> dict[str, Any]:
    return {
        name: (type(value).__name__, value.tolist() if hasattr(value, "tolist") else value)
        for name, value in batch.items()
    }


@pytest.mark.parametrize("arguments", SETTINGS, ids=lambda value: "-".join(map(str, value)) or "plain")
def test_as_the_reference(both: tuple[Any, Any], arguments: dict[str, Any]) -> None:
    ours, theirs = both
    masked = {
        **ROWS,
        "special_tokens_mask": [[1, 0, 1], [1], [1, 0, 0, 1]],
        "attention_mask": [[1, 1, 1], [1], [1] * 4],
    }
    for rows in (ROWS, masked, {**ROWS, "labels": [0, 1, 2]}):
        examples = [{name: values[index] for name, values in rows.items()} for index in range(3)]
        for encoded in (rows, examples):
            mine, reference = (listed(tokenizer.pad(copied(encoded), **arguments)) for tokenizer in (ours, theirs))
            assert mine == reference
    single = {name: values[2] for name, values in ROWS.items()}
    assert listed(ours.pad(dict(single), **arguments)) == listed(theirs.pad(dict(single), **arguments))


def copied(encoded: Any) -> Any:
    return [dict(row) for row in encoded] if isinstance(encoded, list) else dict(encoded)


def test_tensors_come_back_as_tensors(both: tuple[Any, Any]) -> None:
    ours, theirs = both
    for make in (torch.tensor, np.array):
        rows = [{"input_ids": make(row)} for row in ROWS["input_ids"]]
        mine, reference = ours.pad(copied(rows)), theirs.pad(copied(rows))
        assert listed(mine) == listed(reference)
        whole = {"input_ids": make([[1, 2], [3, 4]])}
        assert listed(ours.pad(dict(whole), padding="max_length", max_length=3)) == listed(
            theirs.pad(dict(whole), padding="max_length", max_length=3)
        )


def test_the_result_of_a_call(both: tuple[Any, Any]) -> None:
    ours, theirs = both
    texts = ["one", "one two three"]
    assert listed(ours.pad(ours(texts))) == listed(theirs.pad(theirs(texts)))
    assert listed(ours.pad([ours(text) for text in texts])) == listed(theirs.pad([theirs(text) for text in texts]))


def test_masks_with_more_axes_are_stacked(both: tuple[Any, Any]) -> None:
    rows = [{"input_ids": [1, 2], "attention_mask": torch.ones(1, 2, 2)} for _ in range(2)]
    mine, reference = (tokenizer.pad(copied(rows), return_tensors="pt") for tokenizer in both)
    assert torch.equal(mine["attention_mask"], reference["attention_mask"])


def test_the_input_stays_as_it_is(bert_folder: Path) -> None:
    rows = {"input_ids": [[1], [2, 3]]}
    AutoTokenizer.from_pretrained(bert_folder).pad(rows)
    assert rows == {"input_ids": [[1], [2, 3]]}


def test_nothing_to_pad(both: tuple[Any, Any]) -> None:
    ours, theirs = both
    assert dict(ours.pad({"input_ids": []}, return_attention_mask=True)) == dict(
        theirs.pad({"input_ids": []}, return_attention_mask=True)
    )


@pytest.mark.parametrize(
    ("encoded", "message"),
    [
        ({"ids": [[1]]}, "no 'input_ids' to pad.*'ids'"),
        ("text", "no 'input_ids' to pad; got str"),
        ([{"input_ids": [1], "labels": 1}, {"input_ids": [2]}], "no 'labels'"),
        ({"input_ids": [[1], [2]], "labels": [1]}, "'labels' has 1 rows and 'input_ids' 2"),
    ],
)
def test_what_cannot_be_padded(bert_folder: Path, encoded: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        AutoTokenizer.from_pretrained(bert_folder).pad(encoded)


def test_a_row_longer_than_the_length(bert_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(bert_folder)
    with pytest.raises(InputError, match="4 tokens, more than max_length=2"):
        tokenizer.pad({"input_ids": [[1, 2, 3, 4]]}, padding="max_length", max_length=2)


def test_labels_need_no_warning(bert_folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AutoTokenizer.from_pretrained(bert_folder).pad({"input_ids": [[1], [2, 3]]}, max_length=None)
