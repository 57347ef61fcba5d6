"""Rows of several sequences: each comes out as it does alone, in every family."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from formers.errors import InputError
from formers.registry import FAMILIES
from tests.parity.pairs import CAUSAL, families, ours, scramble

LENGTHS = (6, 3, 9, 3)
ROWS = ((0, 1), (2,), (3,))
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def model_of(model_type: str, head: str = "Model", **values: Any) -> Any:
    model = ours(model_type, head, **values)
    scramble(model, 3)
    return model.eval()


def sequences(model: Any) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    return [torch.randint(5, 61, (length,), generator=generator) for length in LENGTHS]


def packed(model: Any, texts: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    width = max(sum(len(texts[i]) for i in row) for row in ROWS)
    ids = torch.full((len(ROWS), width), model.spec.pad_token_id or 0)
    mask, positions = torch.zeros_like(ids), torch.zeros_like(ids)
    for row, members in enumerate(ROWS):
        joined = torch.cat([texts[i] for i in members])
        ids[row, : len(joined)] = joined
        mask[row, : len(joined)] = 1
        places = [torch.arange(len(texts[i])) + model.spec.first_position for i in members]
        positions[row, : len(joined)] = torch.cat(places)
    return {"input_ids": ids, "attention_mask": mask, "position_ids": positions}


@pytest.mark.parametrize("mode", ["eval", "gradients"])
@pytest.mark.parametrize("model_type", families())
def test_sequences_of_a_row_do_not_see_each_other(model_type: str, mode: str) -> None:
    model = model_of(model_type, **({"conv_kernel_size": 3} if model_type == "deberta-v2" else {}))
    texts = sequences(model)
    with torch.set_grad_enabled(mode == "gradients"):
        alone = torch.cat([model(text[None])[0][0] for text in texts])
        inputs = packed(model, texts)
        together = model(**inputs)[0]
    torch.testing.assert_close(together[inputs["attention_mask"] == 1], alone, **TOLERANCE)


@pytest.mark.parametrize("head", [head for head in FAMILIES["bert"].heads if head in CAUSAL])
def test_causal_sequences_of_a_row(head: str) -> None:
    model = model_of("bert", head)
    texts = sequences(model)
    inputs = packed(model, texts)
    alone = torch.cat([model(text[None]).logits[0] for text in texts])
    torch.testing.assert_close(model(**inputs).logits[inputs["attention_mask"] == 1], alone, **TOLERANCE)


def test_a_packed_row_may_be_longer_than_a_sequence() -> None:
    model = model_of("bert")
    positions = torch.arange(40).repeat(3)[None]
    assert model(torch.full((1, 120), 7), position_ids=positions)[0].shape == (1, 120, 24)


@pytest.mark.parametrize(
    ("head", "options", "message"),
    [
        ("ForSequenceClassification", {}, "answers once a row.*one sequence a row"),
        ("ForNextSentencePrediction", {}, "answers once a row"),
        ("ForPreTraining", {}, "answers once a row"),
        ("Model", {"output_attentions": True}, "attention maps have no common shape"),
        ("ForQuestionAnswering", {"start_positions": torch.zeros(3)}, "need rows of one sequence"),
        ("ForTokenClassification", {"labels": torch.ones(3, 9, dtype=torch.long)}, "labels on padding"),
    ],
)
def test_what_packed_rows_cannot_give(head: str, options: dict[str, Any], message: str) -> None:
    model = model_of("bert", head)
    with pytest.raises(InputError, match=message):
        model(**packed(model, sequences(model)), **options)


def test_means_over_a_row_of_several_sequences_are_refused() -> None:
    model = model_of("modernbert", "ForSequenceClassification", classifier_pooling="mean")
    with pytest.raises(InputError, match="answers once a row"):
        model(**packed(model, sequences(model)))
