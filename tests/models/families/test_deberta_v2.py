"""DeBERTa's configurations beyond the tiny one of the parity tests, against the reference implementation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from formers import DebertaV2Config, DebertaV2ForMaskedLM, DebertaV2Model
from formers.errors import ConfigError
from formers.models import keys
from tests.parity.pairs import Batch, Pair, batch, close, new_pair, same

FAMILY = "deberta-v2"
OWN = {"share_att_key": False}
VARIANTS: dict[str, dict[str, Any]] = {
    "absolute positions alone": {"relative_attention": False, "position_biased_input": True, "norm_rel_ebd": "none"},
    "terms without relative attention": {"relative_attention": False, "norm_rel_ebd": "none"},
    "both kinds of positions": {"position_biased_input": True},
    "content to position": {"pos_att_type": ["c2p"]},
    "position to content": {"pos_att_type": ["p2c"]},
    "no terms": {"pos_att_type": []},
    "own projections": OWN,
    "own projections, content to position": {**OWN, "pos_att_type": "c2p"},
    "own projections, position to content": {**OWN, "pos_att_type": "p2c"},
    "terms in a string": {"pos_att_type": "p2c|c2p"},
    "positions as they are": {"norm_rel_ebd": "none"},
    "no buckets": {"position_buckets": -1, "max_relative_positions": 6},
    "no buckets, all positions": {"position_buckets": -1},
    "buckets up to few tokens": {"max_relative_positions": 8},
    "many buckets": {"position_buckets": 32},
    "convolution": {"conv_kernel_size": 3, "conv_act": "gelu"},
    "wide convolution in groups": {"conv_kernel_size": 5, "conv_groups": 3},
    "convolution of single tokens": {"conv_kernel_size": 1, **OWN},
    "token types": {"type_vocab_size": 2},
    "narrow embeddings": {"embedding_size": 16, "type_vocab_size": 2, "position_biased_input": True},
    "current head": {"legacy": False},
    "current head, untied": {"legacy": False, "tie_word_embeddings": False},
    "untied": {"tie_word_embeddings": False},
    "one layer": {"num_hidden_layers": 1, "conv_kernel_size": 3},
    "the published v2": {**OWN, "norm_rel_ebd": "layer_norm", "conv_kernel_size": 3, "share_att_key": True},
}


def long_batch(models: Pair, length: int = 37) -> Batch:
    """Sequences many times longer than the span of positions."""
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(5, models.ours.spec.vocab_size, (2, length), generator=generator)
    mask = (torch.arange(length) < torch.tensor([[length], [length - 9]])).long()
    return Batch(ids * mask, mask)


def gradients(model: Any) -> dict[str, Tensor]:
    found = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    return found


def types_of(models: Pair, given: Batch) -> dict[str, Tensor]:
    return {"token_type_ids": given.ids % 2} if models.ours.spec.token_types else {}


@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)
def test_outputs_and_gradients(values: dict[str, Any]) -> None:
    models = new_pair(FAMILY, "ForMaskedLM", **values)
    for given in (batch(models, "right"), batch(models, "left"), batch(models, None), long_batch(models)):
        inputs = {"input_ids": given.ids, "attention_mask": given.mask, **types_of(models, given)}
        options = {"output_hidden_states": True, "output_attentions": True}
        with torch.no_grad():
            same(models.ours(**inputs, **options), models.reference(**inputs, **options), given)
            same(models.ours(**inputs), models.reference(**inputs), given)
        # Labels of padding count too, as they do in the reference.
        own, other = models.ours(**inputs, labels=given.ids), models.reference(**inputs, labels=given.ids)
        same(own, other)
        own.loss.backward()
        other.loss.backward()
        expected = gradients(models.reference)
        untied = not models.ours.config.tie_word_embeddings
        found = keys.write(gradients(models.ours), models.ours.place, copies=untied)
        # Not in use where the reference has two biases, or keeps a norm or a table that nothing reads.
        for name in found.keys() - ({"cls.predictions.bias"} if untied else set()):
            close(found[name], expected[name], atol=2e-5, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)
def test_files_both_ways(values: dict[str, Any], tmp_path: Path) -> None:
    models = new_pair(FAMILY, "ForMaskedLM", **values)
    models.reference.save_pretrained(tmp_path / "reference")
    models.ours.save_pretrained(tmp_path / "ours")
    ours, info = DebertaV2ForMaskedLM.from_pretrained(tmp_path / "reference", output_loading_info=True)
    assert not any(info.values()), info
    reference, info = transformers.DebertaV2ForMaskedLM.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(info.values()), info
    given = batch(models)
    inputs = {"input_ids": given.ids, "attention_mask": given.mask, **types_of(models, given)}
    with torch.no_grad():
        same(ours(**inputs), models.reference(**inputs), given)
        same(models.ours(**inputs), reference(**inputs), given)


@pytest.mark.parametrize("head", ["ForSequenceClassification", "ForMultipleChoice"])
def test_pooler(head: str) -> None:
    models = new_pair(FAMILY, head, pooler_hidden_act="tanh", cls_dropout=0.5)
    given = batch(models)
    with torch.no_grad():
        same(models.ours(given.ids, given.mask), models.reference(given.ids, given.mask), given)
    assert models.ours.head.dropout == 0.5


def test_token_types_without_a_table_are_ignored() -> None:
    """The tokenizer gives pairs of texts token types; a model without a table for them goes without."""
    models = new_pair(FAMILY, "Model")
    given = batch(models)
    types = torch.ones_like(given.ids)
    own = models.ours(given.ids, given.mask, token_type_ids=types)
    same(own, models.reference(given.ids, given.mask, token_type_ids=types), given)


LOSSES: dict[str, tuple[str | None, int, Tensor]] = {
    "classes": (None, 3, torch.tensor([0, 2, 1, 1])),
    "some without a class": (None, 3, torch.tensor([0, -100, 1, -1])),
    "none with a class": (None, 3, torch.tensor([-1, -1, -1, -1])),
    "classes as floats": (None, 3, torch.tensor([0.0, 2.0, 1.0, 1.0])),
    "probabilities": (None, 3, torch.tensor([[0.2, 0.5, 0.3], [1, 0, 0], [0, 0, 1], [0.5, 0.5, 0]])),
    "numbers": (None, 1, torch.tensor([0.5, -1.0, 2.0, 0.0])),
    "regression": ("regression", 1, torch.tensor([0.5, -1.0, 2.0, 0.0])),
    "single label": ("single_label_classification", 3, torch.tensor([0, 2, 1, 1])),
    "multi label": ("multi_label_classification", 3, torch.eye(4)[:, :3]),
}


@pytest.mark.parametrize(("problem_type", "num_labels", "labels"), LOSSES.values(), ids=LOSSES)
def test_sequence_losses(problem_type: str | None, num_labels: int, labels: Tensor) -> None:
    models = new_pair(FAMILY, "ForSequenceClassification", num_labels=num_labels, problem_type=problem_type)
    given = batch(models)
    own = models.ours(given.ids, given.mask, labels=labels)
    other = models.reference(given.ids, given.mask, labels=labels)
    close(own.loss, other.loss)
    # The reference flattens the logits of a regression.
    close(own.logits, other.logits.view(len(labels), -1))
    assert own.loss.requires_grad


@pytest.mark.parametrize("shared", [True, False])
def test_positions_are_projected_once_a_layer(shared: bool) -> None:
    model = new_pair(FAMILY, "Model", share_att_key=shared).ours
    bias, calls = model.position_bias, []
    for index, layer in enumerate(model.layers):
        project = layer.self_attn.k_proj if shared else bias.pos_key_proj[index]
        project.register_forward_hook(lambda module, inputs, output: calls.append(inputs[0].shape[0]))
    mask = (torch.arange(9) < torch.tensor([[9], [3], [5], [9]])).long()
    with torch.no_grad():
        model(torch.full((4, 9), 7), mask)
    # The rows of the table that nine tokens reach; and the contents, where positions are projected as they are.
    assert calls.count(7) == model.config.num_hidden_layers
    assert len(calls) == (1 + shared) * model.config.num_hidden_layers


def test_short_sequences_project_few_positions() -> None:
    model = new_pair(FAMILY, "Model", position_buckets=32, share_att_key=False).ours
    rows = []
    model.position_bias.pos_key_proj[0].register_forward_hook(lambda _, inputs, __: rows.append(inputs[0].shape[0]))
    model(torch.tensor([[5, 6, 7]]))
    assert rows == [7]


def test_configuration() -> None:
    assert DebertaV2Config(pos_att_type="P2C | c2p").pos_att_type == ["p2c", "c2p"]
    published = {"pos_att_type": "p2c|c2p", "norm_rel_ebd": "layer_norm", "position_buckets": 256, "legacy": False}
    ours, reference = DebertaV2Config(**published), transformers.DebertaV2Config(**published)
    for name in (*published, "relative_attention", "type_vocab_size", "pooler_hidden_act", "layer_norm_eps"):
        assert getattr(ours, name) == getattr(reference, name), name


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pooler_hidden_size": 8}, "pooler_hidden_size is 8, hidden_size is 24. Leave pooler_hidden_size out"),
        ({"conv_kernel_size": 4}, "conv_kernel_size is 4. Give an odd number, or 0"),
        ({"num_attention_heads": 5}, r"hidden size \(24\) is not a multiple"),
        ({"conv_kernel_size": 3, "conv_act": "tan"}, "Unknown activation function 'tan'"),
    ],
)
def test_impossible_configurations(values: dict[str, Any], message: str) -> None:
    config = DebertaV2Config(**{"hidden_size": 24, "num_attention_heads": 4, "vocab_size": 9, **values})
    with pytest.raises(ConfigError, match=message):
        DebertaV2Model(config)
