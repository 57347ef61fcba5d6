"""Packed batches: the same tokens, the same loss and the same gradients as documents by themselves."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from formers.errors import InputError, UnsupportedError
from formers.training.collators import DataCollatorForLanguageModeling, DataCollatorForTokenClassification
from formers.training.packing import DataCollatorWithFlattening, DataCollatorWithPacking, first_fit
from tests.parity.pairs import ours, scramble
from tests.training.conftest import both


def documents(count: int = 9, longest: int = 14, seed: int = 0) -> list[dict[str, list[int]]]:
    draw = random.Random(seed)
    return [
        {"input_ids": [2, *(draw.randrange(5, 61) for _ in range(draw.randint(1, longest - 2))), 3]}
        for _ in range(count)
    ]


def pieces(batch: dict[str, torch.Tensor], name: str) -> list[list[int]]:
    """Each document's values, told by positions and mask alone."""
    found: list[list[int]] = []
    for row in range(len(batch["input_ids"])):
        real = batch["attention_mask"][row].bool()
        positions, values = batch["position_ids"][row][real], batch[name][row][real]
        for position, value in zip(positions.tolist(), values.tolist(), strict=True):
            if position == 0:
                found.append([])
            found[-1].append(value)
    return sorted(found)


@given(st.lists(st.integers(1, 10), max_size=30), st.integers(10, 25))
def test_first_fit(lengths: list[int], room: int) -> None:
    rows = first_fit(lengths, room)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    sums = [sum(lengths[i] for i in row) for row in rows]
    assert all(0 < total <= room for total in sums)
    # No two rows could have been one.
    assert all(a + b > room for i, a in enumerate(sums) for b in sums[i + 1 :])


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("mlm", [True, False])
def test_every_document_is_there_once(vocabulary: Any, mlm: bool, side: str) -> None:
    tokenizer = both(vocabulary, padding_side=side).ours
    collate = DataCollatorForLanguageModeling(tokenizer, mlm=mlm, seed=1)
    packed = DataCollatorWithPacking(collate, 30)(documents())
    alone = DataCollatorForLanguageModeling(tokenizer, mlm=mlm, seed=1)(documents())
    mask = alone["attention_mask"].bool()
    assert set(packed) == {*alone, "position_ids"}
    assert {value.shape for value in packed.values()} == {packed["input_ids"].shape}
    assert packed["input_ids"].shape[1] <= 30
    assert len(packed["input_ids"]) < len(documents())
    assert pieces(packed, "input_ids") == sorted(
        row[keep].tolist() for row, keep in zip(alone["input_ids"], mask, strict=True)
    )
    labels = sorted(row[keep].tolist() for row, keep in zip(alone["labels"], mask, strict=True))
    assert pieces(packed, "labels") == (labels if mlm else sorted([-100, *row[1:]] for row in labels))
    padding = packed["attention_mask"] == 0
    assert (packed["labels"][padding] == -100).all()
    assert (packed["input_ids"][padding] == tokenizer.pad_token_id).all()


def counted(model: Any, batch: Any) -> tuple[torch.Tensor, list[torch.Tensor]]:
    model.zero_grad()
    loss = model(**batch).loss
    loss.backward()
    return loss.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize(
    ("model_type", "head", "values"),
    [
        ("bert", "ForMaskedLM", {}),
        ("roberta", "ForMaskedLM", {}),
        ("modernbert", "ForMaskedLM", {}),
        ("modernbert", "ForMaskedLM", {"sparse_prediction": True}),
        ("mpnet", "ForMaskedLM", {}),
        ("deberta-v2", "ForMaskedLM", {"conv_kernel_size": 3}),
        ("bert", "LMHeadModel", {}),
        ("roberta", "ForCausalLM", {}),
    ],
)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_loss_and_gradients_are_those_of_documents_alone(
    tokenizer: Any, model_type: str, head: str, values: dict[str, Any], attention: str
) -> None:
    model = ours(model_type, head, **values)
    scramble(model, 0)
    model.set_attn_implementation(attention)

    def collate() -> DataCollatorForLanguageModeling:
        return DataCollatorForLanguageModeling(tokenizer, mlm=head == "ForMaskedLM", mlm_probability=0.4, seed=1)

    texts = documents()
    expected, gradients = counted(model, collate()(texts))
    batch = DataCollatorWithPacking(collate(), 45, model=model)(texts)
    assert batch["input_ids"].shape[1] > 40  # more than one document may have
    loss, packed = counted(model, batch)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    for own, other in zip(packed, gradients, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-5)


def test_another_document_of_the_row_changes_nothing(tokenizer: Any) -> None:
    model = ours("bert", "ForMaskedLM")
    scramble(model, 0)
    logits = []
    for other in (7, 8):
        texts = [{"input_ids": [2, 9, 10, 11, 3]}, {"input_ids": [2, other, other, 3]}]
        batch = DataCollatorWithPacking(DataCollatorForLanguageModeling(tokenizer, mlm=False), 9)(texts)
        assert len(batch["input_ids"]) == 1
        logits.append(model(**{name: batch[name] for name in ("input_ids", "attention_mask", "position_ids")}).logits)
    torch.testing.assert_close(logits[0][:, :5], logits[1][:, :5], rtol=0, atol=0)
    assert not torch.allclose(logits[0][:, 5:], logits[1][:, 5:])


def test_tokens_with_labels_of_their_own(tokenizer: Any) -> None:
    texts = [{**row, "labels": list(range(len(row["input_ids"])))} for row in documents()]
    batch = DataCollatorWithPacking(DataCollatorForTokenClassification(tokenizer, label_pad_token_id=-100), 30)(texts)
    assert pieces(batch, "labels") == sorted(row["labels"] for row in texts)
    model = ours("bert", "ForTokenClassification", num_labels=14)
    expected = model(**DataCollatorForTokenClassification(tokenizer)(texts)).loss
    torch.testing.assert_close(model(**batch).loss, expected)


def test_other_kinds_of_examples(tokenizer: Any) -> None:
    rows = [row["input_ids"] for row in documents()]
    expected = DataCollatorWithPacking(DataCollatorForLanguageModeling(tokenizer, seed=1), 30)(documents())
    batch = DataCollatorWithPacking(DataCollatorForLanguageModeling(tokenizer, seed=1), 30)(rows)
    assert all(torch.equal(batch[name], expected[name]) for name in expected)
    arrays = DataCollatorForLanguageModeling(tokenizer, seed=1, return_tensors="np")
    assert all(isinstance(value, np.ndarray) for value in DataCollatorWithPacking(arrays, 30)(rows).values())
    with_empty = DataCollatorWithPacking(DataCollatorForLanguageModeling(tokenizer, mlm=False), 30)([[], [7, 8]])
    assert with_empty["input_ids"].tolist() == [[7, 8]]


def test_positions_start_where_the_model_has_them(tokenizer: Any) -> None:
    collate = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    for settings in ({"model": ours("roberta", "ForCausalLM")}, {"position_ids_start": 2}):
        batch = DataCollatorWithPacking(collate, 9, **settings)([[2, 7, 3], [2, 3]])
        assert batch["position_ids"].tolist() == [[2, 3, 4, 2, 3]]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([[5] * 31], "A document has 31 tokens, a row 30.*truncation=True"),
        ([{"input_ids": [5, 6], "label": 1}, {"input_ids": [5, 7], "label": 0}], "'label' .* one value a token"),
        ([], "no examples"),
    ],
)
def test_documents_that_cannot_be_packed(tokenizer: Any, texts: list[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DataCollatorWithPacking(DataCollatorForLanguageModeling(tokenizer, mlm=False), 30)(texts)


def test_rows_without_room(tokenizer: Any) -> None:
    with pytest.raises(InputError, match="max_length is 0"):
        DataCollatorWithPacking(DataCollatorForLanguageModeling(tokenizer), 0)


# -- flattening --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pt", "np"])
@pytest.mark.parametrize(
    "settings", [{}, {"separator_id": -7}, {"return_position_ids": False}, {"position_ids_start": 2}]
)
def test_flattening(settings: dict[str, Any], kind: str) -> None:
    texts = documents(4)
    for examples in (
        texts,
        [{**row, "labels": [1] * len(row["input_ids"])} for row in texts],
        [{"input_ids": torch.tensor(row["input_ids"])} for row in texts],
    ):
        own = DataCollatorWithFlattening(return_tensors=kind, **settings)(examples)
        other = transformers.DataCollatorWithFlattening(return_tensors=kind, **settings)(examples)
        assert list(own) == list(other)
        for name in own:
            assert own[name].dtype == other[name].dtype
            assert np.array_equal(own[name], other[name])


def test_flattened_rows_have_the_loss_of_their_examples(tokenizer: Any) -> None:
    model = ours("bert", "LMHeadModel")
    scramble(model, 0)
    texts = documents()
    expected = model(**DataCollatorForLanguageModeling(tokenizer, mlm=False)(texts)).loss
    torch.testing.assert_close(model(**DataCollatorWithFlattening()(texts)).loss, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["return_flash_attn_kwargs", "return_seq_idx"])
def test_what_flattening_does_not_return(name: str) -> None:
    with pytest.raises(UnsupportedError, match=f"{name}=True.*position_ids"):
        DataCollatorWithFlattening(**{name: True})
