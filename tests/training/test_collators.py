"""Collators give the reference's tensors for the same examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from formers.errors import InputError, UnsupportedError
from formers.training import collators
from formers.training.collators import (
    DataCollatorForLanguageModeling,
    DataCollatorForMultipleChoice,
    DataCollatorForSeq2Seq,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    default_data_collator,
)
from tests.training.conftest import TEXTS, Pair


def same(ours: Any, theirs: Any) -> None:
    """Names, types, shapes and values."""
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        own = ours[name]
        assert type(own) is type(value), name
        if value is None:
            continue
        assert own.dtype == value.dtype, name
        assert own.shape == value.shape, name
        assert np.array_equal(np.asarray(own), np.asarray(value)), name


def both(name: str, pair: Pair, examples: list[Any], **settings: Any) -> tuple[Any, Any]:
    """The batch of the collator of this name, here and in the reference."""
    ours = getattr(collators, name)(pair.ours, **settings)([_copy(row) for row in examples])
    theirs = getattr(transformers, name)(pair.reference, **settings)([_copy(row) for row in examples])
    return ours, theirs


def _copy(row: Any) -> Any:
    return dict(row) if hasattr(row, "keys") else row


def rows(pair: Pair, texts: list[str] = TEXTS, **settings: Any) -> list[dict[str, Any]]:
    encoded = pair.ours(texts, **settings)
    return [{name: encoded[name][i] for name in encoded} for i in range(len(texts))]


def labelled(pair: Pair, name: str = "labels", per_token: bool = True) -> list[dict[str, Any]]:
    examples = rows(pair)
    return [{**row, name: list(range(len(row["input_ids"])))} if per_token else {**row, name: 1} for row in examples]


@dataclass
class Thing:
    values: Any
    label: Any = 1


@pytest.mark.parametrize("kind", ["pt", "np"])
@pytest.mark.parametrize(
    "examples",
    [
        [{"label": 1, "x": [1, 2]}, {"label": 0, "x": [3, 4]}],
        [{"label": 1.5, "x": 2.0}, {"label": 0.0, "x": 3.0}],
        [{"label": True, "x": 2}, {"label": False, "x": 3}],
        [{"label_ids": [1, 2], "text": "no", "none": None}, {"label_ids": [3, 4], "text": "no", "none": None}],
        [{"label_ids": [1.0, 2.0]}, {"label_ids": [3.0, 4.0]}],
        [{"x": np.ones((2, 3)), "y": np.int32(4)}, {"x": np.zeros((2, 3)), "y": np.int32(5)}],
        [{"x": np.ones(2, np.float32), "labels": [1, 0]}, {"x": np.ones(2, np.float32), "labels": [1, 1]}],
        [{"label": None, "x": 1}, {"label": None, "x": 2}],
        [Thing([1, 2]), Thing([3, 4], 2)],
    ],
)
def test_default(examples: list[Any], kind: str) -> None:
    theirs = transformers.default_data_collator(examples, return_tensors=kind)
    same(default_data_collator(examples, return_tensors=kind), theirs)
    same(collators.DefaultDataCollator(return_tensors=kind)(examples), theirs)


@pytest.mark.parametrize("example", [{"label_ids": torch.ones(2, dtype=torch.float64)}, {"label": torch.tensor(1)}])
def test_default_stacks_tensors(example: dict[str, Any]) -> None:
    examples = [{**example, "x": torch.ones(2)}] * 2
    same(default_data_collator(examples), transformers.default_data_collator(examples))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"padding": "max_length", "max_length": 40},
        {"pad_to_multiple_of": 8},
        {"return_tensors": "np"},
    ],
)
@pytest.mark.parametrize("label", ["label", "label_ids", "labels"])
def test_padding(pair: Pair, label: str, settings: dict[str, Any]) -> None:
    same(*both("DataCollatorWithPadding", pair, labelled(pair, label, per_token=False), **settings))


def test_padding_changes_no_example(tokenizer: Any) -> None:
    examples = [{"input_ids": [2, 3], "label": 1}, {"input_ids": [2, 5, 3], "label": 0}]
    DataCollatorWithPadding(tokenizer)(examples)
    assert examples == [{"input_ids": [2, 3], "label": 1}, {"input_ids": [2, 5, 3], "label": 0}]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"label_pad_token_id": -7, "pad_to_multiple_of": 16},
        {"padding": "max_length", "max_length": 40},
        {"return_tensors": "np"},
    ],
)
@pytest.mark.parametrize("name", ["label", "labels"])
def test_token_classification(pair: Pair, name: str, settings: dict[str, Any]) -> None:
    same(*both("DataCollatorForTokenClassification", pair, labelled(pair, name), **settings))
    same(*both("DataCollatorForTokenClassification", pair, rows(pair), **settings))


@pytest.mark.parametrize("make", [torch.tensor, np.array, tuple])
def test_token_classification_takes_tensors(pair: Pair, make: Any) -> None:
    examples = [{**row, "labels": make(row["labels"])} for row in labelled(pair)]
    same(*both("DataCollatorForTokenClassification", pair, examples))


class Decoder:
    """What a model with a decoder offers to its collator."""

    @staticmethod
    def prepare_decoder_input_ids_from_labels(labels: Any) -> Any:
        return labels.roll(1, 1) if isinstance(labels, torch.Tensor) else np.roll(labels, 1, 1)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"model": Decoder()},
        {"padding": "max_length", "max_length": 40},
        {"pad_to_multiple_of": 16, "label_pad_token_id": -1},
        {"return_tensors": "np", "model": Decoder()},
    ],
)
def test_seq2seq(pair: Pair, settings: dict[str, Any]) -> None:
    examples = [{**row, "labels": list(range(3 + 5 * i))} for i, row in enumerate(rows(pair))]
    same(*both("DataCollatorForSeq2Seq", pair, examples, **settings))
    same(*both("DataCollatorForSeq2Seq", pair, rows(pair), **settings))


def test_seq2seq_without_padding(pair: Pair) -> None:
    examples = [{**row, "labels": [1, 2, 3]} for row in rows(pair, ["short", "short"])]
    same(*both("DataCollatorForSeq2Seq", pair, examples, padding=False))


@pytest.mark.parametrize("settings", [{}, {"pad_to_multiple_of": 16}, {"padding": "max_length", "max_length": 40}])
def test_multiple_choice(pair: Pair, settings: dict[str, Any]) -> None:
    examples = []
    for index in range(2):
        encoded = pair.ours(TEXTS[2 * index : 2 * index + 2])
        examples.append({**encoded, "label": index})
    same(*both("DataCollatorForMultipleChoice", pair, examples, **settings))


def test_multiple_choice_without_labels(tokenizer: Any) -> None:
    batch = DataCollatorForMultipleChoice(tokenizer)([{"input_ids": [[2, 3], [2, 4, 3]]}])
    assert batch["input_ids"].tolist() == [[[2, 3, 0], [2, 4, 3]]]
    assert "labels" not in batch


# -- language modelling ------------------------------------------------------------------------------------------------

MASKING = [
    {},
    {"mlm_probability": 0.5, "mask_replace_prob": 0.5, "random_replace_prob": 0.5},
    {"mlm_probability": 1.0, "mask_replace_prob": 1.0, "random_replace_prob": 0.0},
    {"mlm_probability": 0.4, "mask_replace_prob": 0.0, "random_replace_prob": 1.0},
    {"mlm_probability": 0.4, "mask_replace_prob": 0.3, "random_replace_prob": 0.0, "pad_to_multiple_of": 16},
]


@pytest.mark.parametrize("given", [{}, {"return_special_tokens_mask": True}, {"return_offsets_mapping": True}])
@pytest.mark.parametrize("settings", MASKING)
def test_masks_are_those_of_the_reference_for_a_seed(
    pair: Pair, settings: dict[str, Any], given: dict[str, Any]
) -> None:
    examples = rows(pair, [TEXTS[0]] * 3 if "return_offsets_mapping" in given else TEXTS, **given)
    same(*both("DataCollatorForLanguageModeling", pair, examples, seed=5, **settings))


def test_masks_from_the_global_generator(pair: Pair) -> None:
    results = []
    for tokenizer, module in ((pair.ours, collators), (pair.reference, transformers)):
        torch.manual_seed(3)
        results.append(module.DataCollatorForLanguageModeling(tokenizer)(rows(pair)))
    same(*results)


@pytest.mark.parametrize("settings", [{"mlm": False}, {"mlm": False, "pad_to_multiple_of": 8}])
@pytest.mark.parametrize("make", [dict, lambda row: row["input_ids"], lambda row: torch.tensor(row["input_ids"])])
def test_next_tokens(pair: Pair, make: Any, settings: dict[str, Any]) -> None:
    same(*both("DataCollatorForLanguageModeling", pair, [make(row) for row in rows(pair)], **settings))


def test_lists_of_ids_are_masked(pair: Pair) -> None:
    examples = [row["input_ids"] for row in rows(pair)]
    same(*both("DataCollatorForLanguageModeling", pair, examples, seed=1, mlm_probability=0.5))


def test_whole_words_are_those_of_the_reference(pair: Pair) -> None:
    # The reference pads no offsets, so that all examples must have one length there.
    examples = rows(pair, [TEXTS[2], TEXTS[2]], return_offsets_mapping=True, padding="max_length", max_length=48)
    with pytest.warns(UserWarning, match="Random token replacement"):
        ours, theirs = both(
            "DataCollatorForLanguageModeling", pair, examples, seed=2, whole_word_mask=True, mlm_probability=0.5
        )
    same(ours, theirs)


def test_whole_words_of_different_lengths(tokenizer: Any) -> None:
    encoded = tokenizer(TEXTS, return_offsets_mapping=True)
    examples = [{name: encoded[name][i] for name in ("input_ids", "offset_mapping")} for i in range(len(TEXTS))]
    collate = DataCollatorForLanguageModeling(tokenizer, whole_word_mask=True, mlm_probability=0.5, seed=0)
    partial = 0
    for _ in range(20):
        labels = collate(examples)["labels"]
        for row, example in enumerate(examples):
            masked: dict[int, set[bool]] = {}
            words, end = 0, -1
            for place, (begin, stop) in enumerate(example["offset_mapping"]):
                if (begin, stop) == (0, 0):
                    assert labels[row, place] == -100
                    end = -1
                    continue
                words += begin != end
                end = stop
                masked.setdefault(words, set()).add(bool(labels[row, place] != -100))
            assert all(len(kinds) == 1 for kinds in masked.values())
            partial += len(set.union(*masked.values())) == 2
    assert partial > 0  # some words of a row were taken and some not


def test_shares_of_masked_tokens(tokenizer: Any) -> None:
    ids = torch.randint(5, len(tokenizer), (400, 100), generator=torch.Generator().manual_seed(0))
    collate = DataCollatorForLanguageModeling(tokenizer, seed=1)
    masked, labels = collate.mask(ids)
    chosen = labels != -100
    share = {
        "chosen": chosen.float().mean().item(),
        "mask": (masked[chosen] == tokenizer.mask_token_id).float().mean().item(),
        "same": (masked[chosen] == ids[chosen]).float().mean().item(),
    }
    assert share == pytest.approx({"chosen": 0.15, "mask": 0.8, "same": 0.1}, abs=0.02)
    assert torch.equal(labels[chosen], ids[chosen])
    assert torch.equal(masked[~chosen], ids[~chosen])


def test_numpy_batches_of_masks(tokenizer: Any) -> None:
    batch = DataCollatorForLanguageModeling(tokenizer, seed=1, return_tensors="np")([[2, 7, 3], [2, 3]])
    assert {name: (type(value), value.dtype) for name, value in batch.items()} == {
        "input_ids": (np.ndarray, np.dtype("int64")),
        "labels": (np.ndarray, np.dtype("int64")),
    }


def test_reseeding_repeats_the_draws(tokenizer: Any) -> None:
    collate = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.5)
    drawn = []
    for seed in (1, 2, 1):
        collate.reseed(seed)
        drawn.append(collate([list(range(5, 60))])["labels"])
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])


def test_a_tokenizer_without_padding_token_serves_even_rows(vocabulary: Any) -> None:
    pair = Pair(*(t for t in _unpadded(vocabulary)))
    same(*both("DataCollatorForLanguageModeling", pair, [[7, 8], [9, 10]], mlm=False))


def _unpadded(folder: Any) -> list[Any]:
    from tests.training.conftest import both as tokenizers

    made = list(tokenizers(folder))
    for tokenizer in made:
        tokenizer.pad_token = None
    return made


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mlm_probability": 1.5}, "mlm_probability is 1.5.*from 0 to 1"),
        ({"mlm_probability": None}, "mlm_probability is None"),
        ({"mask_replace_prob": 0.9, "random_replace_prob": 0.2}, "more than 1 together"),
        ({"random_replace_prob": -0.2}, "random_replace_prob is -0.2"),
        ({"mlm": False, "whole_word_mask": True}, "mlm is False.*mlm=True"),
    ],
)
def test_masking_that_cannot_be(tokenizer: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DataCollatorForLanguageModeling(tokenizer, **settings)


def test_masking_without_a_mask_token(vocabulary: Any) -> None:
    tokenizer = _unpadded(vocabulary)[0]
    tokenizer.mask_token = None
    with pytest.raises(InputError, match=r"no mask token.*mlm=False"):
        DataCollatorForLanguageModeling(tokenizer)


@pytest.mark.parametrize(
    ("collate", "examples", "message"),
    [
        (default_data_collator, [], "no examples"),
        (default_data_collator, [{"x": 1}, {"y": 1}], r"Example 1 of the batch has no 'x'"),
        (default_data_collator, [{"x": [1]}, {"x": [1, 2]}], "'x' have between 1 and 2"),
        (DataCollatorForTokenClassification, [{"input_ids": [1], "labels": [1, 2]}], "2 labels; the batch is 1 wide"),
        (DataCollatorForSeq2Seq, [{"input_ids": [1], "labels": [1]}, {"input_ids": [1]}], "Example 1 .* 'labels'"),
        (DataCollatorForMultipleChoice, [{"input_ids": [[1]]}, {"input_ids": [[1], [2]]}], r"have \[1, 2\] choices"),
        (DataCollatorForLanguageModeling, [], "no examples"),
    ],
)
def test_examples_that_make_no_batch(tokenizer: Any, collate: Any, examples: list[Any], message: str) -> None:
    collate = collate(tokenizer) if isinstance(collate, type) else collate
    with pytest.raises(InputError, match=message):
        collate(examples)


def test_whole_words_need_offsets(tokenizer: Any) -> None:
    with pytest.raises(InputError, match=r"offset_mapping.*return_offsets_mapping=True"):
        DataCollatorForLanguageModeling(tokenizer, whole_word_mask=True)([[2, 7, 3]])


def test_kinds_of_tensors_that_are_not_made() -> None:
    with pytest.raises(UnsupportedError, match="'tf'"):
        default_data_collator([{"x": 1}], return_tensors="tf")


def test_words_are_told_by_their_tokens(tokenizer: Any) -> None:
    """Without offsets: the name of version 4, and BERT's own sign."""
    from formers import DataCollatorForWholeWordMask

    collate = DataCollatorForWholeWordMask(tokenizer, mlm_probability=0.5, seed=3)
    with_offsets = DataCollatorForLanguageModeling(tokenizer, whole_word_mask=True, mlm_probability=0.5, seed=3)
    rows = [dict(tokenizer(text)) for text in TEXTS]
    offsets = [dict(tokenizer(text, return_offsets_mapping=True)) for text in TEXTS]
    assert any(token.startswith("##") for row in rows for token in tokenizer.convert_ids_to_tokens(row["input_ids"]))
    found = collate(rows)
    for row, labels in zip(rows, found["labels"], strict=True):
        tokens = tokenizer.convert_ids_to_tokens(row["input_ids"])
        chosen = (labels != -100).tolist()
        for i in range(1, len(tokens)):
            assert not tokens[i].startswith("##") or chosen[i] == chosen[i - 1]
    assert (found["input_ids"][found["labels"] != -100] == tokenizer.mask_token_id).all()
    # With offsets both are the same.
    again = DataCollatorForWholeWordMask(tokenizer, mlm_probability=0.5, seed=3)
    assert torch.equal(again(offsets)["labels"], with_offsets(offsets)["labels"])
