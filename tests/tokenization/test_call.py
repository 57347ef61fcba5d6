"""A call gives what the reference gives, for every combination of settings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .conftest import TEXTS

QUIET = settings(deadline=None, max_examples=30, suppress_health_check=list(HealthCheck))


def plain(batch: Any) -> dict[str, Any]:
    """Values as lists, with their type."""
    return {
        name: (type(value).__name__, value.tolist() if hasattr(value, "tolist") else value)
        for name, value in batch.items()
    }


def encodings(batch: Any) -> list[Any]:
    """All that the encodings of a batch say."""
    return [
        (
            row.ids,
            row.type_ids,
            row.tokens,
            row.offsets,
            row.attention_mask,
            row.special_tokens_mask,
            row.word_ids,
            row.sequence_ids,
            [(window.ids, window.offsets) for window in row.overflowing],
        )
        for row in batch.encodings
    ]


def same(ours: Any, theirs: Any) -> None:
    assert plain(ours) == plain(theirs)
    assert list(ours) == list(theirs)
    assert encodings(ours) == encodings(theirs)
    assert ours.n_sequences == theirs.n_sequences


SETTINGS: list[dict[str, Any]] = [
    {},
    {"add_special_tokens": False},
    {"padding": True},
    {"padding": "longest", "padding_side": "left"},
    {"padding": "max_length", "max_length": 25},
    {"padding": "max_length", "max_length": 8},
    {"padding": True, "pad_to_multiple_of": 8},
    {"padding": "max_length", "max_length": 30, "pad_to_multiple_of": 16, "padding_side": "left"},
    {"truncation": True, "max_length": 8},
    {"max_length": 8},
    {"truncation": "longest_first", "max_length": 9, "padding": True},
    {"truncation": True, "max_length": 11, "stride": 2, "return_overflowing_tokens": True},
    {"truncation": True, "max_length": 9, "stride": 1, "return_overflowing_tokens": True, "padding": "max_length"},
    {"return_token_type_ids": True, "return_attention_mask": False},
    {"return_token_type_ids": False},
    {"return_special_tokens_mask": True, "return_length": True, "padding": True},
    {"return_offsets_mapping": True, "return_special_tokens_mask": True, "padding": True, "padding_side": "left"},
    {"return_length": True},
    {"split_special_tokens": True},
    {"padding": True, "return_tensors": "pt"},
    {"padding": True, "return_tensors": "np", "padding_side": "left", "return_length": True},
    {
        "padding": "max_length",
        "max_length": 12,
        "truncation": True,
        "stride": 2,
        "return_tensors": "pt",
        "return_overflowing_tokens": True,
        "return_offsets_mapping": True,
        "return_special_tokens_mask": True,
    },
]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("arguments", SETTINGS, ids=lambda value: "-".join(map(str, value)) or "plain")
def test_batches(both: tuple[Any, Any], arguments: dict[str, Any], side: str) -> None:
    ours, theirs = both
    ours.truncation_side = theirs.truncation_side = side
    same(ours(TEXTS, **arguments), theirs(TEXTS, **arguments))
    pairs = list(reversed(TEXTS))
    same(ours(TEXTS, pairs, **arguments), theirs(TEXTS, pairs, **arguments))


@pytest.mark.parametrize("arguments", SETTINGS, ids=lambda value: "-".join(map(str, value)) or "plain")
def test_single_texts(both: tuple[Any, Any], arguments: dict[str, Any]) -> None:
    ours, theirs = both
    ours.truncation_side = theirs.truncation_side = "right"
    for text in (TEXTS[1], TEXTS[4], ""):
        same(ours(text, **arguments), theirs(text, **arguments))
    same(ours(TEXTS[2], TEXTS[0], **arguments), theirs(TEXTS[2], TEXTS[0], **arguments))
    same(ours(TEXTS[2], "", **arguments), theirs(TEXTS[2], "", **arguments))


@pytest.mark.parametrize("strategy", ["only_first", "only_second"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_truncating_one_of_two(both: tuple[Any, Any], strategy: str, side: str) -> None:
    ours, theirs = both
    ours.truncation_side = theirs.truncation_side = side
    long, short = TEXTS[8], "short"
    texts = ([long, long], [short, short]) if strategy == "only_first" else ([short, short], [long, long])
    arguments = {"truncation": strategy, "max_length": 14, "stride": 3, "return_overflowing_tokens": True}
    same(ours(*texts, **arguments), theirs(*texts, **arguments))
    same(
        ours(*texts, **arguments, padding=True, return_offsets_mapping=True),
        theirs(*texts, **arguments, padding=True, return_offsets_mapping=True),
    )


@pytest.mark.parametrize("arguments", SETTINGS[:12], ids=lambda value: "-".join(map(str, value)) or "plain")
def test_words(both: tuple[Any, Any], arguments: dict[str, Any]) -> None:
    ours, theirs = both
    ours.truncation_side = theirs.truncation_side = "right"
    words = [text.split() for text in TEXTS]
    arguments = {**arguments, "is_split_into_words": True}
    same(ours(words, **arguments), theirs(words, **arguments))
    same(ours(words[1], **arguments), theirs(words[1], **arguments))
    same(ours(words[1], words[2], **arguments), theirs(words[1], words[2], **arguments))
    same(ours(words, words[::-1], **arguments), theirs(words, words[::-1], **arguments))


def test_tuples_are_pairs(both: tuple[Any, Any]) -> None:
    ours, theirs = both
    pairs = list(zip(TEXTS, TEXTS[::-1], strict=True))
    same(ours(pairs, padding=True), theirs(pairs, padding=True))
    same(ours.batch_encode_plus(pairs, max_length=9, truncation=True), theirs(pairs, max_length=9, truncation=True))


@QUIET
@given(
    texts=st.lists(st.text(max_size=60), min_size=1, max_size=4),
    max_length=st.integers(6, 24),
    stride=st.integers(0, 1),
    side=st.sampled_from(["left", "right"]),
    pad=st.sampled_from([True, False, "max_length"]),
)
def test_any_unicode(
    both: tuple[Any, Any], texts: list[str], max_length: int, stride: int, side: str, pad: bool | str
) -> None:
    ours, theirs = both
    ours.truncation_side = theirs.truncation_side = side
    arguments = {
        "truncation": True,
        "max_length": max_length,
        "stride": stride,
        "padding": pad,
        "return_overflowing_tokens": True,
        "return_offsets_mapping": True,
    }
    same(ours(texts, **arguments), theirs(texts, **arguments))
    same(ours(texts), theirs(texts))


@QUIET
@given(text=st.text(max_size=80))
def test_offsets_lead_back_to_the_text(both: tuple[Any, Any], text: str) -> None:
    tokenizer = both[0]
    batch = tokenizer(text, return_offsets_mapping=True)
    normalizer = tokenizer._engines.base.normalizer
    for index, ((start, end), token) in enumerate(zip(batch["offset_mapping"], batch.tokens(), strict=True)):
        assert 0 <= start <= end <= len(text)
        if batch.token_to_sequence(index) is None or token == tokenizer.unk_token or start == end:
            continue
        assert batch.char_to_token(start) is not None
        source = text[start:end] if normalizer is None else normalizer.normalize_str(text[start:end])
        piece = (
            token.removeprefix("##")
            if tokenizer.mask_token == "[MASK]"
            else tokenizer.convert_tokens_to_string([token])
        )
        if "\ufffd" not in piece:  # a token of some bytes of a character
            assert source.strip() == piece.strip()


def test_lazy_encodings_are_those_of_the_call(bert_folder: Any) -> None:
    from formers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(bert_folder)
    texts = ["newtoken here", "other"]
    batch = tokenizer(texts, padding=True)
    expected = batch["input_ids"]
    texts[0] = "changed by the caller"
    tokenizer.add_tokens(["newtoken"])
    assert [row.ids for row in batch.encodings] == expected
    assert tokenizer(["newtoken here"])["input_ids"][0] != expected[0]


def test_targets_become_labels(both: tuple[Any, Any]) -> None:
    ours, theirs = both
    arguments = {"text_target": TEXTS[:3], "max_length": 9, "truncation": True}
    assert dict(ours(TEXTS[3:6], **arguments)) == dict(theirs(TEXTS[3:6], **arguments))
    assert dict(ours(**arguments)) == dict(theirs(**arguments))
    short = ours(TEXTS[3:6], **arguments, max_target_length=5)
    assert short["labels"] == theirs(TEXTS[3:6], **arguments, max_target_length=5)["labels"]


def test_other_names_of_a_call(both: tuple[Any, Any]) -> None:
    ours, theirs = both
    text = TEXTS[2]
    assert ours.encode(text) == theirs.encode(text)
    assert ours.encode(text, "pair", add_special_tokens=False) == theirs.encode(text, "pair", add_special_tokens=False)
    assert torch.equal(ours.encode(text, return_tensors="pt"), theirs.encode(text, return_tensors="pt"))
    assert dict(ours.encode_plus(text, max_length=6, truncation=True)) == dict(
        theirs(text, max_length=6, truncation=True)
    )
    assert dict(ours.batch_encode_plus(TEXTS)) == dict(theirs(TEXTS))
    with ours.as_target_tokenizer():
        assert dict(ours(text)) == dict(theirs(text))
    assert ours.tokenize(text) == theirs.tokenize(text)
    assert ours.tokenize(text, pair="two", add_special_tokens=True) == theirs.tokenize(
        text, pair="two", add_special_tokens=True
    )


def test_pad_to_max_length_of_old_tutorials(bert_folder: Any) -> None:
    from formers import BertTokenizer

    batch = BertTokenizer.from_pretrained(bert_folder).encode_plus("short", max_length=7, pad_to_max_length=True)
    assert len(batch["input_ids"]) == 7


def test_sequences_other_than_lists(both: tuple[Any, Any]) -> None:
    ours = both[0]
    expected = dict(ours(TEXTS))
    assert dict(ours(tuple(TEXTS))) == expected
    assert dict(ours(np.array(TEXTS, dtype=object))) == expected
    datasets = pytest.importorskip("datasets")
    assert dict(ours(datasets.Dataset.from_dict({"text": TEXTS})["text"])) == expected


def test_settings_as_members_of_enumerations(both: tuple[Any, Any]) -> None:
    from transformers.tokenization_utils_base import TruncationStrategy
    from transformers.utils import PaddingStrategy, TensorType

    arguments = {
        "padding": PaddingStrategy.MAX_LENGTH,
        "truncation": TruncationStrategy.ONLY_FIRST,
        "return_tensors": TensorType.NUMPY,
        "max_length": np.int64(9),
    }
    ours, theirs = both
    same(ours(TEXTS, **arguments), theirs(TEXTS, **arguments))


def test_an_empty_batch(both: tuple[Any, Any]) -> None:
    ours = both[0]
    assert ours([])["input_ids"] == []
    assert ours([], padding=True, return_tensors="pt")["input_ids"].shape == (0, 0)
    assert ours([]).encodings == []


def test_rows_of_different_lengths_as_arrays(both: tuple[Any, Any]) -> None:
    ours, theirs = both
    mine, reference = ours(TEXTS, return_tensors="np"), theirs(TEXTS, return_tensors="np")
    for name in reference:
        assert mine[name].dtype == object
        assert [row.tolist() for row in mine[name]] == [row.tolist() for row in reference[name]]


def test_more_texts_than_one_chunk(both: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from formers.tokenization import encode

    ours, theirs = both
    monkeypatch.setattr(encode, "_CHUNK", 3)
    ours.truncation_side = theirs.truncation_side = "right"
    for arguments in (
        {"padding": True},
        {"padding": True, "return_tensors": "pt", "return_token_type_ids": True},
        {"truncation": True, "max_length": 7, "return_overflowing_tokens": True, "padding": True},
    ):
        same(ours(TEXTS, **arguments), theirs(TEXTS, **arguments))
