"""ModernBERT's configurations beyond the tiny one of the parity tests, against the reference implementation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from formers import ModernBertConfig, ModernBertForMaskedLM, ModernBertModel
from formers.errors import ConfigError, FormersError, UnsupportedError
from formers.models import encoder, keys
from tests.parity.pairs import Batch, Pair, batch, close, new_pair, same

FAMILY = "modernbert"
FULL, SLIDING = "full_attention", "sliding_attention"
VARIANTS: dict[str, dict[str, Any]] = {
    "a window of one token": {"local_attention": 2},
    "a narrow window": {"local_attention": 4},
    "a wide window": {"local_attention": 60},
    "every second layer full": {"global_attn_every_n_layers": 2},
    "all layers full": {"global_attn_every_n_layers": 1},
    "layers by name": {"layer_types": [SLIDING, FULL, FULL, SLIDING]},
    "all layers sliding": {"layer_types": [SLIDING] * 4},
    "older names of the frequencies": {"global_rope_theta": 700.0, "local_rope_theta": 50.0},
    "newer names of the frequencies": {
        "rope_parameters": {FULL: {"rope_type": "default", "rope_theta": 700.0}, SLIDING: {"rope_theta": 50.0}}
    },
    "one kind of frequencies": {"rope_parameters": {FULL: {"rope_theta": 70.0}}, "local_rope_theta": 30.0},
    "biases": {"norm_bias": True, "attention_bias": True, "mlp_bias": True, "classifier_bias": True},
    "no decoder bias": {"decoder_bias": False},
    "activations": {"hidden_activation": "silu", "classifier_activation": "relu"},
    "untied": {"tie_word_embeddings": False},
    "one layer": {"num_hidden_layers": 1},
}


def calm_pair(head: str, **values: Any) -> Pair:
    """A pair with smaller weights: four layers without norms after them let rounding errors grow."""
    models = new_pair(FAMILY, head, **values)
    with torch.no_grad():
        for model in (models.ours, models.reference):
            for parameter in model.parameters():
                parameter.mul_(0.5 if parameter.dim() > 1 else 1.0)
    return models


def long_batch(length: int = 33) -> Batch:
    """Sequences many times longer than a narrow window."""
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(5, 61, (3, length), generator=generator)
    mask = (torch.arange(length) < torch.tensor([[length], [length - 9], [3]])).long()
    return Batch(ids * mask, mask)


def flipped(given: Batch) -> Batch:
    return Batch(given.ids.flip(1), given.mask.flip(1))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)
def test_outputs_and_gradients(values: dict[str, Any], attention: str) -> None:
    models = calm_pair("ForMaskedLM", attention=attention, **values)
    models.ours.set_attn_implementation(attention)
    for given in (long_batch(), flipped(long_batch()), batch(models, None)):
        inputs = {"input_ids": given.ids, "attention_mask": given.mask}
        with torch.no_grad():
            options = {"output_hidden_states": True}
            same(models.ours(**inputs, **options), models.reference(**inputs, **options), given)
        labels = given.ids.masked_fill(given.mask == 0, -100)
        own, other = models.ours(**inputs, labels=labels), models.reference(**inputs, labels=labels)
        same(own, other, given)
        own.loss.backward()
        other.loss.backward()
        gradients = {name: parameter.grad for name, parameter in models.ours.named_parameters()}
        found = keys.write(gradients, models.ours.place, copies=False)
        for name, parameter in models.reference.named_parameters():
            close(found[name], parameter.grad, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}")
        models.ours.zero_grad()
        models.reference.zero_grad()


@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)
def test_files_both_ways(values: dict[str, Any], tmp_path: Path) -> None:
    models = calm_pair("ForMaskedLM", **values)
    models.reference.save_pretrained(tmp_path / "reference")
    models.ours.save_pretrained(tmp_path / "ours")
    ours, info = ModernBertForMaskedLM.from_pretrained(tmp_path / "reference", output_loading_info=True)
    assert not any(info.values()), info
    reference, info = transformers.ModernBertForMaskedLM.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(info.values()), info
    given = long_batch()
    with torch.no_grad():
        same(ours(given.ids, given.mask), models.reference(given.ids, given.mask), given)
        same(models.ours(given.ids, given.mask), reference(given.ids, given.mask), given)


@pytest.mark.parametrize("side", ["right", "left", None])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("head", ["ForSequenceClassification", "ForMultipleChoice"])
def test_pooling(head: str, pooling: str, side: str | None) -> None:
    models = calm_pair(head, attention="sdpa", classifier_pooling=pooling, local_attention=4)
    given = batch(models, side)
    labels = torch.tensor([0, 1, 1, 0][: len(given.ids)])
    own = models.ours(given.ids, given.mask, labels=labels)
    same(own, models.reference(given.ids, given.mask, labels=labels))
    if side is None and head == "ForSequenceClassification":
        close(models.ours(given.ids).logits, own.logits)


@pytest.mark.parametrize("ignored", [-100, 7])
def test_sparse_prediction(ignored: int) -> None:
    models = calm_pair("ForMaskedLM", sparse_prediction=True, sparse_pred_ignore_index=ignored)
    given = batch(models)
    labels = torch.where(given.ids % 3 == 0, given.ids, ignored)
    inputs = {"input_ids": given.ids, "attention_mask": given.mask}
    own = models.ours(**inputs, labels=labels)
    same(own, models.reference(**inputs, labels=labels))
    assert own.logits.shape == (int((labels != ignored).sum()), 61)
    same(models.ours(**inputs), models.reference(**inputs), given)


def test_positions_may_be_given() -> None:
    models = calm_pair("Model", attention="sdpa", local_attention=4)
    given = batch(models)
    places = torch.arange(given.ids.shape[1]).expand_as(given.ids) * 2 + 3
    inputs = {"input_ids": given.ids, "attention_mask": given.mask, "position_ids": places}
    same(models.ours(**inputs), models.reference(**inputs), given)


@pytest.mark.parametrize(("layers", "tables"), [([FULL, SLIDING, SLIDING, FULL], 2), ([SLIDING] * 4, 1)])
def test_layers_share_rotary_tables(layers: list[str], tables: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made, make = [], encoder.rotary_table
    monkeypatch.setattr(encoder, "rotary_table", lambda *inputs: made.append(inputs[2]) or make(*inputs))
    model = calm_pair("Model", layer_types=layers).ours
    model(torch.tensor([[5, 6, 7], [5, 6, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]]))
    assert len(made) == len(set(made)) == tables


def test_configuration() -> None:
    ours, reference = ModernBertConfig(), transformers.ModernBertConfig()
    for name in ("layer_types", "rope_parameters", "sliding_window", "pad_token_id", "norm_eps", "classifier_pooling"):
        assert getattr(ours, name) == getattr(reference, name), name
    ours.sliding_window = 5
    assert ours.local_attention == 10
    older = {"global_attn_every_n_layers": 2, "global_rope_theta": 5.0, "local_rope_theta": 6.0}
    ours, reference = ModernBertConfig(**older), transformers.ModernBertConfig(**older)
    assert ours.layer_types == reference.layer_types
    assert ours.rope_parameters == reference.rope_parameters
    assert ModernBertConfig.from_dict(ours.to_dict()) == ours


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"layer_types": [FULL]}, ConfigError, "for 2 layers. Name each layer 'full_attention' or 'sliding_attention'"),
        ({"layer_types": [FULL, "chunked_attention"]}, ConfigError, "layer_types is .*chunked_attention"),
        ({"classifier_pooling": "max"}, ConfigError, "classifier_pooling is 'max'. Use 'cls' or 'mean'"),
        (
            {"rope_parameters": {FULL: {"rope_type": "yarn"}}},
            UnsupportedError,
            "'yarn' frequencies in 'full_attention'",
        ),
    ],
)
def test_impossible_configurations(values: dict[str, Any], error: type[FormersError], message: str) -> None:
    config = ModernBertConfig(hidden_size=8, num_attention_heads=2, vocab_size=9, num_hidden_layers=2, **values)
    with pytest.raises(error, match=message):
        ModernBertModel(config)
