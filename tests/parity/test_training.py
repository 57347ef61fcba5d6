"""Gradients, dropout and gradient checkpointing of every registered model."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from formers.layers.dropout import dropout
from formers.models import keys
from tests.parity.pairs import CAUSAL, Batch, Pair, batch, close, heads, labels, new_pair, pair, same

GRADIENT_ATOL = 2e-5


def objective(model: Any, models: Pair, given: Batch, **inputs: Any) -> Tensor:
    """The loss of a head, or for the bare model a weighted sum of all it returns about real tokens."""
    output = model(input_ids=given.ids, attention_mask=given.mask, **inputs, **labels(models, given))
    if models.head != "Model":
        loss: Tensor = output.loss
        return loss
    total = (given.real(output.last_hidden_state) * _weights(output.last_hidden_state.shape[-1])).mean()
    if "pooler_output" in output:
        total = total + (output.pooler_output * _weights(output.pooler_output.shape[-1])).mean()
    return total


def _weights(width: int) -> Tensor:
    return torch.linspace(-1.0, 1.0, width)


def gradients(model: Any) -> dict[str, Tensor]:
    """The gradient of every parameter; zeros where there is none. The model forgets them."""
    found = {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for name, parameter in model.named_parameters()
    }
    model.zero_grad(set_to_none=True)
    return found


def compare_gradients(models: Pair) -> None:
    reference = dict(models.reference.named_parameters(remove_duplicate=False))
    own = keys.write(gradients(models.ours), models.ours.place, copies=False)
    assert {id(reference[name]) for name in own} == set(map(id, models.reference.parameters()))
    for name, gradient in own.items():
        expected = reference[name].grad
        expected = torch.zeros_like(gradient) if expected is None else expected
        close(gradient, expected, atol=GRADIENT_ATOL, msg=lambda text, name=name: f"{name}: {text}")
    models.reference.zero_grad()


@pytest.mark.parametrize("side", ["right", "left", None])
@pytest.mark.parametrize(("model_type", "head"), heads())
def test_gradients(model_type: str, head: str, side: str | None) -> None:
    models = pair(model_type, head)
    given = batch(models, side)
    cache = {"use_cache": False} if head in CAUSAL else {}
    objective(models.ours, models, given).backward()
    objective(models.reference, models, given, **cache).backward()
    compare_gradients(models)


@pytest.mark.parametrize(("model_type", "head"), heads())
def test_dropout_is_where_the_reference_has_it(model_type: str, head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a dropout that only scales, a model in training is a function of where its dropouts are and how strong."""

    def scale(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        return x * (1 - p / 2) if training else x

    for name, module in list(sys.modules.items()):
        for own in ("dropout", "drop"):
            if name.startswith("formers.") and vars(module).get(own) is dropout:
                monkeypatch.setattr(module, own, scale)
    models = new_pair(model_type, head)
    models.ours.set_attn_implementation("eager")
    given = batch(models)
    inputs = labels(models, given)
    cache = {"use_cache": False} if head in CAUSAL else {}
    monkeypatch.setattr(F, "dropout", scale)
    models.ours.train()
    models.reference.train()
    with torch.no_grad():
        own = models.ours(input_ids=given.ids, attention_mask=given.mask, **inputs)
        other = models.reference(input_ids=given.ids, attention_mask=given.mask, **inputs, **cache)
    same(own, other, given)


@pytest.mark.parametrize(("model_type", "head"), heads())
def test_gradient_checkpointing_gives_the_same_gradients(model_type: str, head: str) -> None:
    model = new_pair(model_type, head).ours.train()
    models = pair(model_type, head)
    given = batch(models)
    found = []
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        assert model.is_gradient_checkpointing is checkpointing
        torch.manual_seed(3)
        objective(model, models, given).backward()
        found.append(gradients(model))
    for name, expected in found[0].items():
        close(found[1][name], expected, atol=1e-7, msg=lambda text, name=name: f"{name}: {text}")


def test_gradient_checkpointing_recomputes_the_blocks() -> None:
    model = new_pair("bert", "ForSequenceClassification").ours.train()
    given = batch(pair("bert", "ForSequenceClassification"))
    calls = []
    model.model.layers[1].self_attn.register_forward_pre_hook(lambda *_: calls.append(1))
    for checkpointing, expected in ((True, 2), (False, 1)):
        calls.clear()
        (model.gradient_checkpointing_enable if checkpointing else model.gradient_checkpointing_disable)()
        model(given.ids, given.mask).logits.sum().backward()
        assert len(calls) == expected


def test_input_gradients_reach_an_adapter_on_frozen_weights() -> None:
    model = new_pair("bert", "Model").ours.requires_grad_(False)
    model.enable_input_require_grads()
    assert model(torch.tensor([[5, 6]])).last_hidden_state.requires_grad
    model.disable_input_require_grads()
    assert not model(torch.tensor([[5, 6]])).last_hidden_state.requires_grad
