"""Loading what does not fit, and saying so: shapes, names, options, files."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import formers
from formers.errors import CheckpointError, ConfigError, FormersError, InputError, ModelNotFoundError, UnsupportedError
from formers.layers.attention import eager
from tests.parity.pairs import ours
from tests.parity.tiny import TINY


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved BertForSequenceClassification with three labels."""
    ours("bert", "ForSequenceClassification").save_pretrained(tmp_path)
    return tmp_path


def change(folder: Path, **tensors: Tensor | None) -> None:
    """Replace weights of a file, None drops one; dots are written as double underscores."""
    path = folder / "model.safetensors"
    weights = load_file(path)
    for name, tensor in tensors.items():
        name = name.replace("__", ".")
        weights.pop(name, None)
        if tensor is not None:
            weights[name] = tensor
    save_file(weights, path)


def load(folder: Path, **options: Any) -> Any:
    return formers.BertForSequenceClassification.from_pretrained(folder, **options)


def configure(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


# -- weights -----------------------------------------------------------------------------------------------------------


def test_another_number_of_labels_needs_consent(folder: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        load(folder, num_labels=5)
    assert str(caught.value) == (
        "2 weights have another shape: classifier.weight is (3, 24) in the file, (5, 24) in the model; "
        "classifier.bias is (3,) in the file, (5,) in the model. Correct the configuration (num_labels, for example), "
        "or pass ignore_mismatched_sizes=True for new ones."
    )


def test_ignored_mismatches_start_anew(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    model, info = load(folder, num_labels=5, ignore_mismatched_sizes=True, output_loading_info=True)
    assert sorted(info["mismatched_keys"]) == [("classifier.bias", (3,), (5,)), ("classifier.weight", (3, 24), (5, 24))]
    assert info["missing_keys"] == info["unexpected_keys"] == []
    assert model.head.output.weight.shape == (5, 24)
    assert 0.0 < float(model.head.output.weight.detach().std()) < 0.05
    assert not model.head.output.bias.any()
    assert model.config.num_labels == 5
    assert "BertForSequenceClassification: new random weights, to be trained before use: classifier." in caplog.text


def test_wrong_vocabulary(folder: Path) -> None:
    configure(folder, vocab_size=99)
    with pytest.raises(CheckpointError, match=r"word_embeddings\.weight is \(61, 24\) in the file, \(99, 24\)"):
        load(folder)


def test_missing_and_unexpected_weights(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    change(
        folder,
        classifier__bias=None,
        bert__encoder__layer__1__output__LayerNorm__weight=None,
        bert__encoder__layer__7__output__dense__bias=torch.zeros(24),
        mystery=torch.zeros(1),
    )
    model, info = load(folder, output_loading_info=True)
    missing = {"classifier.bias", "bert.encoder.layer.1.output.LayerNorm.weight"}
    unexpected = {"mystery", "bert.encoder.layer.7.output.dense.bias"}
    assert set(info["missing_keys"]) == missing
    assert set(info["unexpected_keys"]) == unexpected
    assert info["mismatched_keys"] == info["error_msgs"] == []
    assert torch.equal(model.model.layers[1].mlp_norm.weight.detach(), torch.ones(24))
    levels = {record.levelno for record in caplog.records}
    assert levels == {logging.WARNING}
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith("BertForSequenceClassification: new random weights, to be trained before use: ")
    assert all(name in first for name in missing)
    assert second.startswith("BertForSequenceClassification: weights of the checkpoint without use here: ")
    assert all(name in second for name in unexpected)


def test_nothing_is_said_when_everything_fits(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    load(folder)
    assert caplog.records == []


def test_long_lists_are_cut(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    formers.BertForMaskedLM.from_pretrained(folder)
    change(folder, **{f"extra{i}": torch.zeros(1) for i in range(20)})
    load(folder)
    assert "extra" in caplog.text
    assert caplog.text.strip().endswith(", …")


def test_older_spellings(folder: Path) -> None:
    """Norms of the first checkpoints have gamma and beta; position ids were saved once."""
    path = folder / "model.safetensors"
    weights = load_file(path)
    older = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in weights.items()
    }
    assert older.keys() != weights.keys()
    save_file({**older, "bert.embeddings.position_ids": torch.arange(40)[None]}, path)
    model, info = load(folder, output_loading_info=True)
    assert info["missing_keys"] == info["unexpected_keys"] == []
    expected = ours("bert", "ForSequenceClassification", weights)
    assert all(torch.equal(value, expected.state_dict()[name]) for name, value in model.state_dict().items())


def test_two_copies_that_differ(folder: Path) -> None:
    """Where embeddings are untied, the decoder's own bias is the one in use."""
    model = ours("bert", "ForMaskedLM", tie_word_embeddings=False)
    nn.init.normal_(model.head.output.bias)
    model.save_pretrained(folder)
    change(folder, cls__predictions__bias=torch.zeros(61))
    loaded = formers.BertForMaskedLM.from_pretrained(folder)
    assert torch.equal(loaded.head.output.bias, model.head.output.bias)


def test_new_weights() -> None:
    """A new head is drawn from the configuration's range; biases are zero, norms one, padding zero."""
    model = formers.BertForMaskedLM(formers.BertConfig(**{**TINY["bert"], "hidden_size": 64, "initializer_range": 0.5}))
    states = model.state_dict()
    assert abs(float(states["head.transform.dense.weight"].std()) - 0.5) < 0.05
    assert torch.equal(states["head.transform.norm.weight"], torch.ones(64))
    assert not states["head.output.bias"].any()
    assert not states["model.embeddings.tokens.weight"][0].any()


def test_sinusoidal_positions() -> None:
    config = {**TINY["distilbert"], "sinusoidal_pos_embds": True}
    weight = formers.DistilBertModel(formers.DistilBertConfig(**config)).embeddings.positions.weight.detach()
    angle = 7 / 10000 ** (4 / 24)
    expected = torch.tensor([angle]).sin(), torch.tensor([angle]).cos()
    torch.testing.assert_close((weight[7, 4:5], weight[7, 5:6]), expected)
    assert torch.equal(weight[0], torch.tensor([0.0, 1.0] * 12))


def test_damaged_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged"):
        load(folder)


def test_no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelNotFoundError, match=r"no weights: looked for model\.safetensors"):
        load(folder)
    with pytest.raises(ModelNotFoundError, match=r"pytorch_model\.bin"):
        load(folder, use_safetensors=False)


def test_fused_weights_of_the_wrong_size(tmp_path: Path) -> None:
    ours("modernbert", "Model").save_pretrained(tmp_path)
    change(tmp_path, layers__0__attn__Wqkv__weight=torch.zeros(95, 32))
    with pytest.raises(CheckpointError, match=r"'layers\.0\.attn\.Wqkv\.weight' has 95 rows, not a multiple of 3"):
        formers.ModernBertModel.from_pretrained(tmp_path)


# -- state dicts -------------------------------------------------------------------------------------------------------


def test_given_state_dict(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["classifier.bias"] = torch.tensor([1.0, 2.0, 3.0])
    model = load(folder, state_dict=weights)
    assert model.head.output.bias.tolist() == [1.0, 2.0, 3.0]
    alone = formers.BertForSequenceClassification.from_pretrained(None, config=model.config, state_dict=weights)
    assert alone.head.output.bias.tolist() == [1.0, 2.0, 3.0]


def test_strict_state_dicts() -> None:
    model = ours("bert", "ForSequenceClassification")
    state = {"classifier.bias": torch.zeros(3), "mystery": torch.zeros(1)}
    with pytest.raises(RuntimeError, match=r"(?s)Missing key.*Unexpected key.*mystery"):
        model.load_state_dict(state)
    result = model.load_state_dict(state, strict=False)
    assert result.unexpected_keys == ["mystery"]
    assert "head.output.bias" not in result.missing_keys
    assert "head.output.weight" in result.missing_keys


def test_saving_a_given_state_dict(folder: Path, tmp_path: Path) -> None:
    model = load(folder)
    state = {name: tensor * 2 for name, tensor in model.state_dict().items()}
    model.save_pretrained(tmp_path / "twice", state_dict=state)
    again = load(tmp_path / "twice")
    assert torch.equal(again.head.output.weight, model.head.output.weight * 2)


def test_saving_is_for_the_main_process(folder: Path, tmp_path: Path) -> None:
    load(folder).save_pretrained(tmp_path / "none", is_main_process=False)
    assert not (tmp_path / "none").exists()


def test_saving_over_a_file(folder: Path) -> None:
    with pytest.raises(InputError, match=r"is a file\. Give the path of a folder"):
        load(folder).save_pretrained(folder / "config.json")


def test_int8(folder: Path, tmp_path: Path) -> None:
    model = load(folder)
    model.save_pretrained(tmp_path / "small", save_quantized="int8")
    size = [(path / "model.safetensors").stat().st_size for path in (tmp_path / "small", folder)]
    assert size[0] < 0.6 * size[1]
    again = load(tmp_path / "small")
    assert again.dtype == torch.float32
    weight, expected = again.model.layers[0].mlp.up_proj.weight, model.model.layers[0].mlp.up_proj.weight
    assert not torch.equal(weight, expected)
    torch.testing.assert_close(weight, expected, rtol=0, atol=float(expected.detach().abs().max()) / 225 + 1e-6)
    with pytest.raises(InputError, match=r"save_quantized='int3' is unknown\. Use 'int8'"):
        model.save_pretrained(tmp_path / "smaller", save_quantized="int3")


def test_other_quantizations(folder: Path) -> None:
    configure(folder, quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(UnsupportedError, match=r"quantized with 'gptq', which formers does not read"):
        load(folder)


# -- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"num_lables": 3},
            InputError,
            r"Got 'num_lables', which is .*Did you mean 'num_labels'\?",
        ),
        ({"zzz": 1}, InputError, r"Got 'zzz', .* nor a value of BertConfig\. See BertConfig"),
        (
            {"dtype": "float33"},
            InputError,
            r"dtype='float33' is not supported\. Use 'auto' or one of bfloat16, float16",
        ),
        ({"dtype": torch.int8}, InputError, r"dtype=torch\.int8 is not supported"),
        ({"dtype": "float16", "torch_dtype": "bfloat16"}, InputError, r"contradicts torch_dtype='bfloat16'"),
        ({"device_map": "gpu"}, InputError, r'device_map=\'gpu\' is no device\. Use "auto", "cpu"'),
        ({"weights_only": False}, UnsupportedError, r"weights_only=False would run code"),
        ({"attn_implementation": "flash"}, InputError, r"Unknown attn_implementation 'flash'"),
    ],
)
def test_options_that_mean_nothing(
    folder: Path, options: dict[str, Any], error: type[FormersError], message: str
) -> None:
    for cls in (formers.BertForSequenceClassification, formers.AutoModelForSequenceClassification):
        with pytest.raises(error, match=message):
            cls.from_pretrained(folder, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"device_map": "cpu"},
        {"device_map": {"": "cpu"}},
        {"device_map": torch.device("cpu")},
        {"device_map": "cpu", "low_cpu_mem_usage": True},
        {"trust_remote_code": True},
        {"weights_only": True},
        {"use_safetensors": True},
        {"local_files_only": True},
    ],
)
def test_options_that_change_nothing(folder: Path, options: dict[str, Any]) -> None:
    expected = load(folder).state_dict()
    model = formers.AutoModelForSequenceClassification.from_pretrained(folder, **options)
    assert model.device.type == "cpu"
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


def test_configuration_values_as_options(folder: Path) -> None:
    model = load(folder, hidden_dropout_prob=0.5, id2label={0: "a", 1: "b", 2: "c"}, output_hidden_states=True)
    assert model.config.hidden_dropout_prob == 0.5
    assert model.spec.dropout == 0.5
    assert model.config.label2id == {"a": 0, "b": 1, "c": 2}
    assert len(model(torch.tensor([[5, 6]])).hidden_states) == 3
    assert len(formers.DistilBertConfig(hidden_size=24).to_diff_dict()) == 2


def test_attention_as_an_option(folder: Path) -> None:
    calls = []

    def mine(*args: Tensor, **options: Any) -> Any:
        calls.append(1)
        return eager(*args, **options)

    model = load(folder, attn_implementation=mine)
    model(torch.tensor([[5, 6]]))
    assert len(calls) == 2
    model.save_pretrained(folder / "again")
    assert load(folder, attn_implementation="eager").config.attn_implementation == "eager"
    assert load(folder).config.attn_implementation == "sdpa"


def test_given_configuration(folder: Path, tmp_path: Path) -> None:
    config = formers.BertConfig.from_pretrained(folder, hidden_dropout_prob=0.5)
    assert load(folder, config=config).config is config
    config.save_pretrained(tmp_path / "other")
    assert load(folder, config=tmp_path / "other").config.hidden_dropout_prob == 0.5
    auto = formers.AutoModelForSequenceClassification
    assert auto.from_pretrained(folder, config=config).config is config
    assert auto.from_pretrained(folder, config=str(tmp_path / "other")).config.hidden_dropout_prob == 0.5


def test_loaded_models_are_ready(folder: Path) -> None:
    model = load(folder)
    assert not model.training
    assert model.config.name_or_path == model.name_or_path == str(folder)
    assert all(parameter.requires_grad for parameter in model.parameters())


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["{not json", "[]", '"bert"', ""])
def test_configuration_that_is_no_json(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    for cls in (formers.BertForSequenceClassification, formers.AutoModelForSequenceClassification):
        with pytest.raises(ConfigError, match=r"config\.json"):
            cls.from_pretrained(folder)


def test_configuration_of_another_family(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"is a 'bert' model; RobertaModel loads 'roberta'\. Use the Auto class"):
        formers.RobertaModel.from_pretrained(folder)


def test_configuration_without_type(folder: Path) -> None:
    """A class that is named needs no type in the file; an Auto class does."""
    values = json.loads((folder / "config.json").read_text())
    del values["model_type"]
    (folder / "config.json").write_text(json.dumps(values))
    load(folder)
    with pytest.raises(ConfigError, match=r"names no model_type"):
        formers.AutoModel.from_pretrained(folder)


def test_heads_that_a_family_lacks(folder: Path) -> None:
    ours("distilbert", "Model").save_pretrained(folder / "other")
    with pytest.raises(ConfigError, match=r"models of type 'distilbert' have no such head\. .*have one: bert"):
        formers.AutoModelForNextSentencePrediction.from_pretrained(folder / "other")


@pytest.mark.parametrize(
    ("auto", "config", "right"),
    [
        ("AutoModelForSpeechSeq2Seq", "T5Config", "AutoModelForSeq2SeqLM"),
        ("AutoModelForSpeechSeq2Seq", "MarianConfig", "AutoModelForSeq2SeqLM"),
        ("AutoModelForSpeechSeq2Seq", "EncoderDecoderConfig", "AutoModelForSeq2SeqLM"),
        ("AutoModelForSeq2SeqLM", "WhisperConfig", "AutoModelForSpeechSeq2Seq"),
    ],
)
def test_text_and_sound_have_auto_classes_of_their_own(auto: str, config: str, right: str, tmp_path: Path) -> None:
    values = getattr(formers, config)()
    mapping = getattr(transformers, auto)._model_mapping
    assert getattr(transformers, config) not in mapping
    with pytest.raises(ConfigError, match=rf"{auto} is for models that read .*Use {right}\."):
        getattr(formers, auto).from_config(values)
    values.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=rf"Use {right}\."):
        getattr(formers, auto).from_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="'bert' have no such head"):
        getattr(formers, auto).from_config(formers.BertConfig())


def test_neither_name_nor_weights() -> None:
    with pytest.raises(InputError, match=r"Neither a name nor a config was given"):
        formers.BertModel.from_pretrained(None)
    with pytest.raises(InputError, match=r"Neither a name nor a state_dict was given.*from_config"):
        formers.BertModel.from_pretrained(None, config=formers.BertConfig(**TINY["bert"]))


def test_auto_classes_are_no_models() -> None:
    with pytest.raises(InputError, match=r"Use AutoModelForMaskedLM\.from_pretrained"):
        formers.AutoModelForMaskedLM()


def test_variants(folder: Path) -> None:
    load(folder).save_pretrained(folder, variant="fp16")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelNotFoundError, match=r"looked for model\.safetensors"):
        load(folder)
    load(folder, variant="fp16")
    (folder / "sub").mkdir()
    for name in ("config.json", "model.fp16.safetensors"):
        (folder / name).rename(folder / "sub" / name)
    load(folder, variant="fp16", subfolder="sub")
