"""Inputs and labels that a model cannot use: what was got, what is expected, what to do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import formers
from formers.errors import ConfigError, InputError, UnsupportedError
from tests.parity.pairs import ours
from tests.parity.tiny import TINY

IDS = torch.randint(5, 60, (2, 6), generator=torch.Generator().manual_seed(0))
FLOATS = torch.zeros(2, 6, 24)


@pytest.fixture(scope="module")
def model() -> Any:
    return ours("bert", "Model")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, r"Got neither of input_ids and inputs_embeds\. Pass exactly one"),
        ({"input_ids": IDS, "inputs_embeds": FLOATS}, r"Got both of input_ids and inputs_embeds"),
        ({"input_ids": [[5, 6]]}, r"input_ids is a list; a tensor .* model\(\*\*encoding\)"),
        ({"input_ids": {"input_ids": IDS}}, r"input_ids is a dict; .* model\(\*\*encoding\)"),
        ({"input_ids": IDS[0]}, r"input_ids has the shape \(6,\).*add the batch dimension"),
        ({"input_ids": IDS[:, :0]}, r"input_ids has the shape \(2, 0\).*a non-empty \(batch, length\)"),
        ({"input_ids": IDS.float()}, r"input_ids .* type torch\.float32; .* whole numbers is expected"),
        ({"inputs_embeds": IDS}, r"inputs_embeds has the shape \(2, 6\).*get_input_embeddings\(\)"),
        ({"inputs_embeds": FLOATS[..., :7]}, r"inputs_embeds has the shape \(2, 6, 7\); \(batch, length, 24\)"),
        ({"input_ids": IDS, "attention_mask": torch.ones(2, 5)}, r"attention_mask has the shape \(2, 5\).*\(2, 6\)"),
        ({"input_ids": IDS, "attention_mask": torch.ones(1, 6)}, r"attention_mask has the shape \(1, 6\).*\(2, 6\)"),
        ({"input_ids": IDS, "token_type_ids": torch.zeros(3, 6, dtype=torch.long)}, r"token_type_ids .* \(3, 6\)"),
        ({"input_ids": IDS, "position_ids": torch.arange(5)}, r"position_ids has the shape \(5,\).*\(2, 6\)"),
        ({"input_ids": IDS + 40}, r"token ids go from \d+ to \d+; the model has 61, .*resize_token_embeddings"),
        ({"input_ids": -IDS}, r"token ids go from -\d+ to -\d+; the model has 61"),
        ({"input_ids": IDS, "token_type_ids": IDS}, r"token types go from .* the model has 3, .*token_type_ids"),
        ({"input_ids": IDS, "position_ids": torch.arange(6) + 35}, r"positions go from 35 to 40; the model has 40"),
        ({"input_ids": torch.full((1, 41), 5)}, r"has 41 tokens; this model takes at most 40\. .*truncation=True"),
        ({"inputs_embeds": torch.zeros(1, 41, 24)}, r"has 41 tokens; this model takes at most 40"),
    ],
)
def test_unusable_inputs(model: Any, inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        model(**inputs)


@pytest.mark.parametrize("model_type", ["roberta", "mpnet"])
def test_positions_after_padding_leave_less_room(model_type: str) -> None:
    model = ours(model_type, "Model")
    with torch.no_grad():
        model(torch.full((1, 38), 5))
        with pytest.raises(InputError, match=r"has 39 tokens; this model takes at most 38\."):
            model(torch.full((1, 39), 5))


def test_other_shapes_that_fit(model: Any) -> None:
    """Types and positions of one row stand for all; ids may be of either whole type."""
    with torch.no_grad():
        expected = model(IDS, token_type_ids=torch.ones_like(IDS), position_ids=torch.arange(6).expand(2, 6))
        row = {"token_type_ids": torch.ones(6, dtype=torch.long), "position_ids": torch.arange(6)[None]}
        assert torch.equal(model(IDS, **row).last_hidden_state, expected.last_hidden_state)
        assert torch.equal(model(IDS.int(), **row).last_hidden_state, expected.last_hidden_state)


def test_token_types_of_models_without_any() -> None:
    model = ours("distilbert", "Model")
    with torch.no_grad():
        model(IDS, token_type_ids=torch.zeros_like(IDS))
        with pytest.raises(InputError, match=r"This model has no token types\. Leave token_type_ids out"):
            model(IDS, token_type_ids=torch.ones_like(IDS))


def test_choices_need_three_dimensions() -> None:
    model = ours("bert", "ForMultipleChoice")
    with pytest.raises(InputError, match=r"got inputs of shape \(2, 6\)\. Pass \(batch, choices, length\)"):
        model(IDS)
    with pytest.raises(InputError, match=r"got inputs of shape None"):
        model()


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_row_of_nothing_but_padding(model: Any, side: str) -> None:
    mask = torch.tensor([[1, 1, 1, 1, 0, 0], [0] * 6])
    mask = mask if side == "right" else mask.flip(1)
    with torch.no_grad():
        found = model(IDS, mask).last_hidden_state
        expected = model(IDS[:1], mask[:1]).last_hidden_state
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found[0][mask[0] == 1], expected[0][mask[0] == 1])


@pytest.mark.parametrize(
    ("head", "labels", "message"),
    [
        ("ForSequenceClassification", [0, 3], r"Labels go from 0 to 3; the model has 3 classes.*num_labels="),
        ("ForSequenceClassification", [-1, 2], r"Labels go from -1 to 2; the model has 3 classes"),
        ("ForSequenceClassification", [0, 1, 2], r"3 labels of type torch.int64 for 2 rows of logits"),
        ("ForSequenceClassification", [0.0, 1.0], r"Labels of shape \(2,\) for logits of shape \(2, 3\)"),
        ("ForTokenClassification", [[0, 1, 2, 3, -100, 0]] * 2, r"Labels go from 0 to 3; the model has 3 classes"),
        ("ForTokenClassification", [[0, 1, 2]] * 2, r"6 labels of type torch.int64 for 12 rows"),
        ("ForMaskedLM", [[61] * 6] * 2, r"Labels go from 61 to 61; the model has 61 classes"),
        ("ForNextSentencePrediction", [0, 2], r"the model has 2 classes"),
    ],
)
def test_labels_that_do_not_fit(head: str, labels: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ours("bert", head)(IDS, labels=torch.tensor(labels))


def test_floating_point_classes() -> None:
    model = ours("bert", "ForSequenceClassification", problem_type="single_label_classification")
    with pytest.raises(InputError, match=r"labels of type torch\.float32.*problem_type"):
        model(IDS, labels=torch.tensor([0.0, 1.0]))


def test_whole_numbers_for_several_labels() -> None:
    model = ours("bert", "ForSequenceClassification", problem_type="multi_label_classification")
    labels = torch.tensor([[0, 1, 1], [1, 0, 0]])
    assert torch.equal(model(IDS, labels=labels).loss, model(IDS, labels=labels.float()).loss)


def test_unknown_problem_type() -> None:
    model = ours("bert", "ForSequenceClassification", problem_type="ranking")
    with pytest.raises(InputError, match=r"problem_type is 'ranking'\. Use 'regression'"):
        model(IDS, labels=torch.tensor([0, 1]))


@pytest.mark.parametrize("places", [torch.tensor([1, 2]), torch.tensor([[1], [2]])])
def test_shapes_of_answer_places(places: Tensor) -> None:
    model = ours("bert", "ForQuestionAnswering")
    expected = model(IDS, start_positions=torch.tensor([1, 2]), end_positions=torch.tensor([1, 2])).loss
    assert torch.equal(model(IDS, start_positions=places, end_positions=places).loss, expected)


def test_unknown_attention() -> None:
    with pytest.raises(InputError, match=r"Unknown attn_implementation 'spda'\. Use 'sdpa'"):
        ours("bert", "Model", attn_implementation="spda")


def test_attention_without_weights() -> None:
    def bare(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
        return query

    model = ours("bert", "Model", attn_implementation=bare)
    with pytest.raises(InputError, match=r'returned no weights.*attn_implementation="eager"'):
        model(IDS, output_attentions=True)


def test_reentrant_checkpointing() -> None:
    with pytest.raises(InputError, match=r"Reentrant checkpointing is not supported\. Leave use_reentrant out"):
        ours("bert", "Model").gradient_checkpointing_enable({"use_reentrant": True})


def test_output_layer_of_models_without_one() -> None:
    with pytest.raises(InputError, match=r"BertModel has no vocabulary logits\. Use a language-modeling class"):
        ours("bert", "Model").set_output_embeddings(torch.nn.Linear(2, 2))


def test_empty_vocabulary() -> None:
    with pytest.raises(InputError, match=r"A vocabulary of 0 tokens was asked for"):
        ours("bert", "Model").resize_token_embeddings(0)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"hidden_size": 25}, ConfigError, r"\(25\) is not a multiple of the number of attention heads \(4\)"),
        ({"num_attention_heads": 0}, ConfigError, r"gives heads = 0; a positive whole number"),
        ({"intermediate_size": None}, ConfigError, r"gives ff_width = None; a positive whole number"),
        ({"hidden_act": "glu"}, ConfigError, r"Unknown activation function 'glu'\. Use one of: gelu"),
        ({"add_cross_attention": True}, UnsupportedError, r"Cross-attention is not built"),
    ],
)
def test_configurations_that_are_no_model(values: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        formers.BertModel(formers.BertConfig(**{**TINY["bert"], **values}))


def test_other_family_specifics() -> None:
    with pytest.raises(UnsupportedError, match=r"summary_type is 'last'.*summary_type='first'"):
        formers.ElectraModel(formers.ElectraConfig(**TINY["electra"], summary_type="last"))
    with pytest.raises(ConfigError, match=r"pad_token_id is missing"):
        formers.RobertaModel(formers.RobertaConfig(**TINY["roberta"], pad_token_id=None))


def test_models_take_their_own_configuration() -> None:
    with pytest.raises(InputError, match=r"BertModel needs a BertConfig, not a RobertaConfig"):
        formers.BertModel(formers.RobertaConfig())
    with pytest.raises(InputError, match=r"not a str\. Use BertModel\.from_pretrained"):
        formers.BertModel("bert-base-uncased")


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("MixtralConfig", {"output_router_logits": True}, r"router's logits.*Set output_router_logits=False"),
        ("MixtralConfig", {"router_jitter_noise": 0.1}, r"its noise.*router_jitter_noise=0\.0"),
        ("Qwen3MoeConfig", {"output_router_logits": True}, r"router's logits.*Set output_router_logits=False"),
        ("OPTConfig", {"layerdrop": 0.1}, r"layerdrop=0\.1.*Set layerdrop=0\.0"),
    ],
)
def test_settings_of_decoders_that_are_not_built(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        formers.AutoModel.from_config(getattr(formers, name)(**settings))
