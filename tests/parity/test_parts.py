"""Embeddings, vocabulary sizes and parameter counts of every registered model."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch

from tests.parity.pairs import CAUSAL, batch, close, families, heads, new_pair, pair, same, vocabulary_heads


@pytest.mark.parametrize(("model_type", "head"), heads())
def test_number_of_parameters(model_type: str, head: str) -> None:
    models = pair(model_type, head)
    assert models.ours.num_parameters() == models.reference.num_parameters()
    # Whether the reference takes tied weights for embeddings hangs on the order of its modules.
    if models.ours.get_output_embeddings() is None:
        expected = models.reference.num_parameters(exclude_embeddings=True)
        assert models.ours.num_parameters(exclude_embeddings=True) == expected


@pytest.mark.parametrize("model_type", families())
def test_only_trainable_parameters_count(model_type: str) -> None:
    models = new_pair(model_type, "ForSequenceClassification")
    for model in (models.ours, models.reference):
        for parameter in model.base_model.parameters():
            parameter.requires_grad_(False)
    assert models.ours.num_parameters(only_trainable=True) == models.reference.num_parameters(only_trainable=True)


@pytest.mark.parametrize(("model_type", "head"), heads())
def test_embeddings_are_the_references(model_type: str, head: str) -> None:
    models = pair(model_type, head)
    close(models.ours.get_input_embeddings().weight, models.reference.get_input_embeddings().weight)
    own, other = models.ours.get_output_embeddings(), models.reference.get_output_embeddings()
    assert (own is None) == (other is None)
    if own is not None:
        close(own.weight, other.weight)


@pytest.mark.parametrize("size", [70, 50])
@pytest.mark.parametrize(("model_type", "head"), [*heads("Model"), *vocabulary_heads()])
def test_resized_vocabularies(model_type: str, head: str, size: int) -> None:
    models = new_pair(model_type, head)
    old = models.ours.get_input_embeddings().weight.detach().clone()
    kept = min(size, len(old))
    tokens = models.ours.resize_token_embeddings(size)
    models.reference.resize_token_embeddings(size)
    assert tokens is models.ours.get_input_embeddings()
    assert tokens.weight.shape[0] == tokens.num_embeddings == models.ours.config.vocab_size == size
    close(tokens.weight[:kept], old[:kept])
    assert models.ours.num_parameters() == models.reference.num_parameters()
    # New rows are random, so they are made the same before anything is compared.
    models.ours.load_state_dict(models.reference.state_dict())
    given = batch(models)
    given.ids.clamp_(max=size - 1)
    cache = {"use_cache": False} if head in CAUSAL else {}
    with torch.no_grad():
        same(models.ours(given.ids, given.mask), models.reference(given.ids, given.mask, **cache), given)
    output = models.ours.get_output_embeddings()
    if output is not None:
        assert output.weight is tokens.weight
        assert output.out_features == size


@pytest.mark.parametrize("mean", [True, False])
def test_new_rows(mean: bool) -> None:
    model = new_pair("bert", "ForMaskedLM").ours
    old = model.get_input_embeddings().weight.detach().clone()
    model.resize_token_embeddings(200, mean_resizing=mean)
    new = model.get_input_embeddings().weight[len(old) :]
    assert new.shape[0] == 200 - len(old)
    if mean:
        close(new, old.mean(0).expand_as(new), atol=0.01)
    else:
        assert abs(float(new.detach().std()) - model.config.initializer_range) < 0.005
    assert not torch.equal(new[0], new[1])


def test_vocabularies_in_multiples() -> None:
    models = new_pair("bert", "ForMaskedLM")
    assert models.ours.resize_token_embeddings(pad_to_multiple_of=64).num_embeddings == 64
    assert models.ours.resize_token_embeddings(65, pad_to_multiple_of=64).num_embeddings == 128
    assert models.reference.resize_token_embeddings(65, pad_to_multiple_of=64).num_embeddings == 128


@pytest.mark.parametrize(("model_type", "head"), heads("Model", "ForMaskedLM"))
def test_new_embedding_modules(model_type: str, head: str) -> None:
    models = new_pair(model_type, head)
    own = models.ours.get_input_embeddings()
    replacement = torch.nn.Embedding(own.num_embeddings, own.embedding_dim, padding_idx=own.padding_idx)
    torch.nn.init.normal_(replacement.weight, std=0.25)
    models.ours.set_input_embeddings(replacement)
    assert models.ours.get_input_embeddings() is replacement
    models.reference.set_input_embeddings(replacement)
    models.reference.tie_weights()
    given = batch(models)
    with torch.no_grad():
        same(models.ours(given.ids, given.mask), models.reference(given.ids, given.mask), given)


def test_new_output_layer() -> None:
    models = new_pair("bert", "ForMaskedLM", tie_word_embeddings=False)
    replacement = torch.nn.Linear(24, 61)
    for model in (models.ours, models.reference):
        model.set_output_embeddings(replacement)
        assert model.get_output_embeddings() is replacement
    given = batch(models)
    with torch.no_grad():
        same(models.ours(given.ids, given.mask), models.reference(given.ids, given.mask), given)


@pytest.mark.parametrize(("model_type", "head"), heads())
def test_base_model(model_type: str, head: str) -> None:
    models = pair(model_type, head)
    prefix = models.reference.base_model_prefix
    assert models.ours.base_model_prefix == prefix
    if head == "Model":
        assert models.ours.base_model is models.ours
        return
    assert models.ours.base_model is models.ours.model
    assert getattr(models.ours, prefix) is models.ours.model
    given = batch(models)
    if head != "ForMultipleChoice":
        encoded: Any = models.ours.base_model(given.ids, given.mask).last_hidden_state
        close(given.real(encoded), given.real(getattr(models.reference, prefix)(given.ids, given.mask)[0]))


@pytest.mark.parametrize(("model_type", "head"), heads("ForMaskedLM", "ForTokenClassification", *CAUSAL))
def test_heads_take_any_selection_of_hidden_states(model_type: str, head: str) -> None:
    models = pair(model_type, head)
    given = batch(models, None)
    with torch.no_grad():
        hidden = models.ours.base_model(given.ids).last_hidden_state
        close(models.ours.head(hidden[1:3, 4]), models.ours(given.ids).logits[1:3, 4])


@pytest.mark.parametrize("model_type", families())
def test_copies(model_type: str) -> None:
    """Models can be copied and sent to other processes."""
    models = pair(model_type, "ForSequenceClassification")
    given = batch(models)
    with torch.no_grad():
        expected = models.ours(given.ids, given.mask).logits
        for copied in (copy.deepcopy(models.ours), pickle.loads(pickle.dumps(models.ours))):  # noqa: S301 our own bytes
            assert type(copied) is type(models.ours)
            assert copied.get_input_embeddings().weight is not models.ours.get_input_embeddings().weight
            assert torch.equal(copied(given.ids, given.mask).logits, expected)


def test_memory_footprint() -> None:
    models = pair("bert", "ForMaskedLM")
    assert models.ours.get_memory_footprint() == 4 * models.ours.num_parameters()
