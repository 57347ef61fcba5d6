from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("numba")

from formers import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
)
from formers.kernels import passes
from formers.kernels.passes import Drop, Places
from formers.layers import compiled

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "intermediate_size": 80,
    "vocab_size": 90,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


def batch(lengths: list[int], seed: int = 0, labels: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, 90, (len(lengths), max(lengths)), generator=generator)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    classes = torch.randint(0, labels, (len(lengths),), generator=generator)
    return {"input_ids": ids * mask, "attention_mask": mask, "labels": classes}


def gradients(model: nn.Module, inputs: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    loss: Tensor = model(**inputs).loss
    loss.backward()
    return loss.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def compare(model: Any, inputs: dict[str, Tensor]) -> None:
    plain = copy.deepcopy(model).train()
    model.for_training()
    blocks = [m for m in model.modules() if getattr(m, "compiled", False)]
    assert len(blocks) == 3
    (loss, found), (expected_loss, expected) = gradients(model, inputs), gradients(plain, inputs)
    torch.testing.assert_close(loss, expected_loss, rtol=1e-5, atol=1e-6)
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=2e-6, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("lengths", [[7], [5, 5, 5], [3, 9, 17, 1], [130, 64, 65, 66, 16], list(range(1, 41))])
@pytest.mark.parametrize("kind", [BertForSequenceClassification, BertForTokenClassification])
def test_losses_and_gradients_are_those_of_the_block(kind: Any, lengths: list[int]) -> None:
    torch.manual_seed(0)
    inputs = batch(lengths)
    if kind is BertForTokenClassification:
        inputs["labels"] = torch.where(inputs["attention_mask"] != 0, inputs["input_ids"] % 2, -100)
    compare(kind(BertConfig(**SIZES)), inputs)


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_activations_and_widths_of_heads(activation: str, heads: int) -> None:
    torch.manual_seed(1)
    sizes = {**SIZES, "hidden_act": activation, "num_attention_heads": heads}
    compare(BertForSequenceClassification(BertConfig(**sizes)), batch([4, 20, 11]))


def test_other_families() -> None:
    config = DistilBertConfig(
        dim=64,
        n_heads=4,
        n_layers=3,
        hidden_dim=96,
        vocab_size=90,
        dropout=0.0,
        attention_dropout=0.0,
        seq_classif_dropout=0.0,
    )
    compare(DistilBertForSequenceClassification(config), batch([4, 20, 11]))


def test_frozen_parameters_get_no_gradient_and_the_others_get_theirs() -> None:
    torch.manual_seed(2)
    model = BertForSequenceClassification(BertConfig(**SIZES))
    for name, parameter in model.named_parameters():
        parameter.requires_grad = "bias" in name or "head" in name
    compare(model, batch([6, 12]))
    assert model.model.layers[0].self_attn.q_proj.weight.grad is None


def test_checkpointed_blocks_drop_the_same_twice() -> None:
    torch.manual_seed(3)
    model = BertForSequenceClassification(BertConfig(**{**SIZES, "hidden_dropout_prob": 0.2}))
    model.for_training()
    inputs = batch([9, 30])
    torch.manual_seed(5)
    loss, plain = gradients(model, inputs)
    model.gradient_checkpointing_enable()
    torch.manual_seed(5)
    again, found = gradients(model, inputs)
    assert torch.equal(loss, again)
    assert all(torch.equal(plain[name], found[name]) for name in plain)


def test_without_numba_blocks_are_torch_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "available", lambda: False)
    model = BertForSequenceClassification(BertConfig(**SIZES)).for_training()
    assert not any(getattr(module, "compiled", False) for module in model.modules())
    gradients(model, batch([3, 4]))


def test_kinds_of_blocks_that_are_not_common_are_torch_s() -> None:
    model = BertForSequenceClassification(BertConfig(**{**SIZES, "num_attention_heads": 8})).for_training()
    assert not model.model.layers[0].compiled
    model = BertForSequenceClassification(BertConfig(**SIZES)).for_training()
    seen: list[int] = []
    model.model.layers[1].mlp.up_proj.register_forward_hook(lambda *_: seen.append(1))
    gradients(model, batch([3, 4]))
    assert seen


def test_without_gradients_the_answers_are_the_same_and_attention_maps_come_back() -> None:
    torch.manual_seed(4)
    model = BertForSequenceClassification(BertConfig(**SIZES))
    inputs = batch([150, 7, 33])
    del inputs["labels"]
    with torch.no_grad():
        expected = model.eval()(**inputs).logits
        model.for_training().eval()
        torch.testing.assert_close(model(**inputs).logits, expected, rtol=1e-5, atol=1e-6)
        assert len(model(**inputs, output_attentions=True).attentions) == 3


def test_gradients_of_gradients_are_refused() -> None:
    model = BertForSequenceClassification(BertConfig(**SIZES)).for_training()
    loss = model(**batch([5, 6])).loss
    (first,) = torch.autograd.grad(loss, [model.model.layers[0].mlp.up_proj.weight], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def mask_of(drop: Drop, rows: int, width: int) -> Tensor:
    """What is kept, scaled: the norm's sum for ones, without bias and residual."""
    ones = torch.ones(rows, width)
    passes.norm(ones, torch.zeros(rows, width), torch.zeros(3, width), drop, 1e-5)
    return ones


def test_dropout_keeps_its_share_and_depends_on_its_seed() -> None:
    torch.manual_seed(0)
    first, second = Drop.of(0.1), Drop.of(0.1)
    masks = [mask_of(drop, 400, 320) for drop in (first, second)]
    for mask in masks:
        kept = (mask != 0).float()
        assert abs(kept.mean() - 0.9) < 0.004
        assert abs(kept.mean(0) - 0.9).max() < 0.09
        assert abs(kept.mean(1) - 0.9).max() < 0.1
        torch.testing.assert_close(mask.max(), torch.tensor(1 / 0.9))
        # Neighbours in a row, and rows, are dropped independently.
        assert abs((kept[:, 1:] * kept[:, :-1]).mean() - 0.81) < 0.006
        assert abs((kept[1:] * kept[:-1]).mean() - 0.81) < 0.006
    both = ((masks[0] != 0) & (masks[1] != 0)).float().mean()
    assert abs(both - 0.81) < 0.006
    assert torch.equal(mask_of(first, 400, 320), masks[0])
    assert Drop.of(0.0) == Drop()
    assert not mask_of(Drop.of(1.0), 3, 64).any()


def test_norm_with_dropout_has_the_gradients_of_its_mask() -> None:
    torch.manual_seed(1)
    x, residual, grad = torch.randn(3, 70, 96).unbind(0)
    parameters, drop = torch.randn(3, 96), Drop.of(0.3)
    mask = mask_of(drop, 70, 96).double()
    given = [each.double().requires_grad_() for each in (x, residual, parameters)]
    summed = (given[0] + given[2][0]) * mask + given[1]
    expected = nn.functional.layer_norm(summed, (96,), given[2][1], given[2][2], 1e-6)
    expected.backward(grad.double())
    out, statistics = passes.norm(x, residual, parameters, drop, 1e-6)
    torch.testing.assert_close(out.double(), expected.detach(), rtol=1e-5, atol=1e-5)
    to_residual, to_x, totals = passes.norm_back(grad, x, parameters, statistics, drop)
    for found, tensor in zip((to_x, to_residual, totals), given, strict=True):
        assert tensor.grad is not None
        torch.testing.assert_close(found.double(), tensor.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("first_only", [False, True])
def test_attention_with_dropout_has_the_gradients_of_its_mask(first_only: bool) -> None:
    """Attention is linear in the values: with keys' identity as values, it shows its weights, dropped ones included."""
    torch.manual_seed(2)
    heads, width, lengths = 2, 16, [16, 5, 11]
    starts = [0, 16, 21]
    places = Places.of([(start, 1, length) for start, length in zip(starts, lengths, strict=True)], first_only)
    drop, rows, inner = Drop.of(0.4), sum(lengths), heads * width
    queries = len(lengths) if first_only else rows
    query, key, value = torch.randn(queries, inner), torch.randn(rows, inner), torch.randn(rows, inner)
    biases, grad = torch.randn(3, inner), torch.randn(queries, inner)
    shown = torch.cat([torch.eye(16)[:length].repeat(1, heads) for length in lengths])
    nothing = torch.cat((biases[:2], torch.zeros(1, inner)))
    weights, _ = passes.attend(query, key, shown, nothing, places, drop, 0.25, heads)
    given = [each.double().requires_grad_() for each in (query, key, value, biases)]
    outputs = []
    for number, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        asked = slice(number, number + 1) if first_only else slice(start, start + length)
        q, k, v = (
            (each[rows_] + bias).unflatten(-1, (heads, width)).transpose(0, 1)
            for each, rows_, bias in zip(given[:3], (asked, *[slice(start, start + length)] * 2), given[3], strict=True)
        )
        probabilities = (q @ k.transpose(1, 2) * 0.25).softmax(-1)
        seen = weights[asked].unflatten(-1, (heads, width)).transpose(0, 1)[..., :length].double()
        mask = (seen != 0) / 0.6
        torch.testing.assert_close(seen, (probabilities * mask).detach(), rtol=1e-4, atol=1e-6)
        outputs.append((probabilities * mask @ v).transpose(0, 1).flatten(1))
    expected = torch.cat(outputs)
    expected.backward(grad.double())
    out, logs = passes.attend(query, key, value, biases, places, drop, 0.25, heads)
    torch.testing.assert_close(out.double(), expected.detach(), rtol=1e-4, atol=1e-5)
    filled = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
    totals = passes.attend_back(grad, query, key, value, biases, places, drop, 0.25, heads, logs, filled)
    for found, tensor in zip((*filled, totals), given, strict=True):
        assert tensor.grad is not None
        torch.testing.assert_close(found.double(), tensor.grad, rtol=1e-4, atol=1e-5)
