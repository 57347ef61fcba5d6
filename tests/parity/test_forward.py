"""Outputs of every registered model equal the reference's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from formers.layers.attention import eager, sdpa
from tests.parity.pairs import CAUSAL, TYPED, Batch, Pair, batch, close, families, heads, labels, new_pair, pair, same


@torch.no_grad()
def both(models: Pair, given: Batch, **inputs: Any) -> tuple[Any, Any]:
    """Our output and the reference's."""
    inputs = {"attention_mask": given.mask, **inputs}
    if "inputs_embeds" not in inputs:
        inputs["input_ids"] = given.ids
    cache = {"use_cache": False} if models.head in CAUSAL else {}
    return models.ours(**inputs), models.reference(**inputs, **cache)


@pytest.mark.parametrize("side", ["right", "left", None])
@pytest.mark.parametrize(("model_type", "head"), heads())
def test_outputs_of_padded_batches(model_type: str, head: str, side: str | None) -> None:
    models = pair(model_type, head)
    given = batch(models, side)
    same(*both(models, given), given)


@pytest.mark.parametrize(("model_type", "head"), heads())
def test_all_padding_on_one_row_of_ones_needs_no_mask(model_type: str, head: str) -> None:
    models = pair(model_type, head)
    given = batch(models, None)
    same(*both(models, given, attention_mask=None))


@pytest.mark.parametrize(("model_type", "head"), heads())
def test_hidden_states_and_attentions(model_type: str, head: str) -> None:
    models = pair(model_type, head)
    given = batch(models)
    own, other = both(models, given, output_hidden_states=True, output_attentions=True)
    same(own, other, given)
    assert own.hidden_states is not None
    assert own.attentions is not None


@pytest.mark.parametrize(("model_type", "head"), heads())
def test_losses(model_type: str, head: str) -> None:
    models = pair(model_type, head)
    given = batch(models)
    own, other = both(models, given, **labels(models, given))
    same(own, other, given)
    assert head == "Model" or own.loss is not None


@pytest.mark.parametrize(("model_type", "head"), heads())
def test_tuples(model_type: str, head: str) -> None:
    models = pair(model_type, head)
    given = batch(models, None)
    own, other = both(models, given, return_dict=False, **labels(models, given))
    assert type(own) is type(other) is tuple
    for mine, theirs in zip(own, other, strict=True):
        close(mine, theirs)


@pytest.mark.parametrize(("model_type", "head"), heads(families=TYPED))
def test_token_types(model_type: str, head: str) -> None:
    models = pair(model_type, head)
    given = batch(models)
    types = torch.arange(given.ids.shape[-1]).expand_as(given.ids) % models.ours.spec.token_types
    same(*both(models, given, token_type_ids=types), given)


@pytest.mark.parametrize(("model_type", "head"), heads())
def test_embeddings_instead_of_ids(model_type: str, head: str) -> None:
    models = pair(model_type, head)
    given = batch(models)
    embedded = models.ours.get_input_embeddings()(given.ids).detach()
    same(*both(models, given, inputs_embeds=embedded), given)


@pytest.mark.parametrize("model_type", families())
def test_position_ids(model_type: str) -> None:
    models = pair(model_type, "Model")
    given = batch(models)
    place = torch.arange(given.ids.shape[-1]).flip(0) + 5
    for positions in (place[None], (place + torch.arange(len(given.ids))[:, None])):
        same(*both(models, given, position_ids=positions), given)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(("model_type", "head"), heads())
def test_attention_implementations(model_type: str, head: str, side: str) -> None:
    calls = []

    def mine(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Any:
        calls.append(query.shape)
        return eager(query, key, value, **options)

    def without_weights(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
        out: Tensor = sdpa(query, key, value, **options)
        return out

    models = pair(model_type, head)
    given = batch(models, side)
    expected = both(models, given)[1]
    try:
        for choice in ("eager", "sdpa", mine, without_weights):
            models.ours.set_attn_implementation(choice)
            same(both(models, given)[0], expected, given)
    finally:
        models.ours.set_attn_implementation("sdpa")
    assert calls


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(("model_type", "head"), heads())
def test_dropping_the_padding_changes_nothing(model_type: str, head: str, side: str) -> None:
    """The padding is dropped unless attentions are asked for, and unless a row has holes."""
    models = pair(model_type, head)
    given = batch(models, side)
    packed = both(models, given)[0]
    masked = both(models, given, output_attentions=True)[0]
    masked.attentions = None
    same(packed, masked, given)


@pytest.mark.parametrize("model_type", families())
def test_masks_with_holes(model_type: str) -> None:
    models = pair(model_type, "Model")
    given = batch(models, None)
    mask = given.mask.clone()
    mask[0, 3:5] = 0
    mask[1, 8] = 0
    given = Batch(given.ids, mask)
    same(*both(models, given), Batch(given.ids, mask))


@pytest.mark.parametrize(("model_type", "head"), heads())
def test_packed_weights_change_nothing(model_type: str, head: str) -> None:
    models = new_pair(model_type, head)
    models.ours.for_inference()
    for side in ("right", "left", None):
        given = batch(models, side)
        same(*both(models, given), given)


@pytest.mark.parametrize(("model_type", "head"), heads(*CAUSAL))
def test_causal_heads_see_no_future(model_type: str, head: str) -> None:
    models = pair(model_type, head)
    given = batch(models, None)
    changed = given.ids.clone()
    changed[:, 6:] = 7
    with torch.no_grad():
        first, second = models.ours(given.ids).logits, models.ours(changed).logits
    close(first[:, :6], second[:, :6])
    assert not torch.equal(first[:, 6:], second[:, 6:])


@pytest.mark.parametrize("side", ["right", None])
@pytest.mark.parametrize(
    ("model_type", "head"),
    heads("Model", "ForSequenceClassification", "ForTokenClassification", families=("bert", "electra", "roberta")),
)
def test_causal_models_under_other_heads(model_type: str, head: str, side: str | None) -> None:
    models = new_pair(model_type, head, is_decoder=True)
    given = batch(models, side)
    with torch.no_grad():
        own = models.ours(given.ids, given.mask)
        other = models.reference(input_ids=given.ids, attention_mask=given.mask, use_cache=False)
    same(own, other, given)


@pytest.mark.parametrize("head", ["ForSequenceClassification"])
@pytest.mark.parametrize(
    ("problem_type", "num_labels", "values"),
    [
        (None, 1, torch.tensor([0.5, -1.0, 2.0, 0.0])),
        (None, 3, torch.tensor([0, 2, 1, 1])),
        (None, 3, torch.tensor([[0.0, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 1]])),
        ("regression", 3, torch.arange(12.0).view(4, 3)),
        ("multi_label_classification", 1, torch.tensor([[1.0], [0.0], [0.0], [1.0]])),
        ("single_label_classification", 3, torch.tensor([[0], [2], [1], [1]])),
    ],
)
def test_problem_types(head: str, problem_type: str | None, num_labels: int, values: Tensor) -> None:
    models = new_pair("bert", head, num_labels=num_labels, problem_type=problem_type)
    given = batch(models)
    same(*both(models, given, labels=values), given)
    assert models.ours.config.problem_type == models.reference.config.problem_type
