"""Configurations: the reference's fields, defaults and files, and nothing lost on the way."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import transformers

import formers
from formers.errors import ConfigError, InputError, ModelNotFoundError
from formers.registry import FAMILIES
from tests.parity.tiny import TINY

MODEL_TYPES = list(FAMILIES)
# What says which program wrote a file, not what the model is.
OF_THE_WRITER = {"transformers_version", "_name_or_path"}


def config_class(model_type: str) -> Any:
    return getattr(formers, FAMILIES[model_type].prefix + "Config")


def reference_class(model_type: str) -> Any:
    return getattr(transformers, FAMILIES[model_type].prefix + "Config")


def assert_agrees(own: Any, reference: Any) -> None:
    """Every value of the reference's configuration is ours too, as attribute and in the file."""
    values = own.to_dict()
    for name, value in reference.to_dict().items():
        if name in OF_THE_WRITER:
            continue
        if isinstance(getattr(reference, name, None), transformers.PreTrainedConfig):
            assert_agrees(getattr(own, name), getattr(reference, name))
            assert values[name] == getattr(own, name).to_dict(), name
            continue
        assert getattr(own, name) == value, name
        assert values[name] == value, name


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_defaults(model_type: str) -> None:
    assert_agrees(config_class(model_type)(), reference_class(model_type)())


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_given_values(model_type: str) -> None:
    assert_agrees(config_class(model_type)(**TINY[model_type]), reference_class(model_type)(**TINY[model_type]))


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_every_field_is_the_references(model_type: str) -> None:
    """No field of ours has a name that the reference would take for something else."""
    reference = reference_class(model_type)()
    own = config_class(model_type)().to_dict()
    # The reference leaves these out of many configurations, and had them in every one before version 5.
    general = {
        "add_cross_attention", "bos_token_id", "cls_token_id", "decoder_start_token_id", "eos_token_id",
        "forced_eos_token_id", "is_decoder", "output_attentions", "sep_token_id", "tie_word_embeddings",
    }  # fmt: skip
    optional = {
        "position_buckets", "norm_rel_ebd", "share_att_key", "embedding_size", "cls_dropout",
        "conv_kernel_size", "conv_groups", "conv_act",
    }  # fmt: skip
    assert {name for name in own if not hasattr(reference, name)} <= general | optional


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_files_of_the_reference(model_type: str, tmp_path: Path) -> None:
    reference = reference_class(model_type)(**TINY[model_type], num_labels=3)
    reference.save_pretrained(tmp_path)
    assert_agrees(config_class(model_type).from_pretrained(tmp_path), reference)
    own = formers.AutoConfig.from_pretrained(tmp_path)
    assert type(own) is config_class(model_type)
    assert own.name_or_path == str(tmp_path)
    assert_agrees(own, reference)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_files_of_ours(model_type: str, tmp_path: Path) -> None:
    own = config_class(model_type)(**TINY[model_type], id2label={0: "no", 1: "yes", 2: "perhaps"})
    own.save_pretrained(tmp_path)
    assert_agrees(own, transformers.AutoConfig.from_pretrained(tmp_path, local_files_only=True))
    assert config_class(model_type).from_pretrained(tmp_path) == own


def test_none_is_not_the_default_in_files(tmp_path: Path) -> None:
    """A value that is none, where there is one by default, is none again when it is read."""
    formers.WhisperConfig(begin_suppress_tokens=None, pad_token_id=None, unknown=None).save_pretrained(tmp_path)
    for reader in (formers, transformers):
        config = reader.WhisperConfig.from_pretrained(tmp_path)
        assert (config.begin_suppress_tokens, config.pad_token_id, config.unknown) == (None, None, None)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_unknown_keys_survive(model_type: str, tmp_path: Path) -> None:
    extra = {"a_new_key": [1, {"deep": None}], "architectures": ["X"], "gradient_checkpointing": False}
    values = {"model_type": model_type, **TINY[model_type], **extra}
    (tmp_path / "config.json").write_text(json.dumps(values))
    own = formers.AutoConfig.from_pretrained(tmp_path)
    assert own.a_new_key == extra["a_new_key"]
    own.save_pretrained(tmp_path / "again")
    written = json.loads((tmp_path / "again" / "config.json").read_text())
    assert {name: written[name] for name in extra} == extra
    assert formers.AutoConfig.from_pretrained(tmp_path / "again") == own


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"num_labels": 1},
        {"num_labels": 5},
        {"id2label": {0: "a", 1: "b", 2: "c"}},
        {"id2label": {"0": "a", "1": "b"}},
        {"id2label": {0: "a", 1: "b"}, "label2id": {"a": 0, "b": 1}},
        {"id2label": {0: "a", 1: "b"}, "label2id": {"a": 0, "b": 1}, "num_labels": 2},
        {"problem_type": "regression", "num_labels": 1},
    ],
)
def test_labels(values: dict[str, Any]) -> None:
    own, reference = formers.BertConfig(**values), transformers.BertConfig(**values)
    for name in ("num_labels", "id2label", "problem_type"):
        assert getattr(own, name) == getattr(reference, name), name
    # The reference leaves label2id out where only id2label is given.
    assert own.label2id == {label: index for index, label in own.id2label.items()}


def test_another_number_of_labels() -> None:
    config = formers.BertConfig(id2label={0: "a", 1: "b"})
    config.num_labels = 2
    assert config.id2label == {0: "a", 1: "b"}
    config.num_labels = 3
    assert config.id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    assert config.label2id == {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}
    with pytest.raises(ConfigError, match="num_labels is 0"):
        config.num_labels = 0


def test_labels_that_override_a_file(tmp_path: Path) -> None:
    formers.BertConfig(id2label={0: "a", 1: "b"}).save_pretrained(tmp_path)
    assert formers.AutoConfig.from_pretrained(tmp_path, num_labels=2).id2label == {0: "a", 1: "b"}
    assert formers.AutoConfig.from_pretrained(tmp_path, num_labels=3).num_labels == 3
    named = formers.AutoConfig.from_pretrained(tmp_path, id2label={0: "x", 1: "y", 2: "z"})
    assert (named.num_labels, named.label2id) == (3, {"x": 0, "y": 1, "z": 2})


def test_names_that_no_configuration_has(tmp_path: Path) -> None:
    """Nothing that was meant for something else, a token say, gets into a configuration and its file."""
    (tmp_path / "config.json").write_text('{"model_type": "bert", "of_the_file": 1}')
    for cls in (formers.AutoConfig, formers.BertConfig):
        assert cls.from_pretrained(tmp_path, of_the_file=2).of_the_file == 2
        with pytest.raises(InputError, match=r"Got 'use_auth_token', .* of BertConfig\. See BertConfig"):
            cls.from_pretrained(tmp_path, use_auth_token="secret")
        with pytest.raises(InputError, match=r"Got 'hiden_size'.*Did you mean 'hidden_size'\?"):
            cls.from_pretrained(tmp_path, hiden_size=3)
    with pytest.raises(InputError, match=r"Got 'zzz'"):
        formers.BertModel.from_pretrained(tmp_path, config=formers.BertConfig(), zzz=1)


def test_other_names_of_a_value(tmp_path: Path) -> None:
    config = formers.DistilBertConfig(hidden_size=24, num_attention_heads=4, num_hidden_layers=3)
    assert (config.dim, config.n_heads, config.n_layers) == (24, 4, 3)
    config.hidden_size = 48
    assert config.dim == config.hidden_size == 48
    config.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["dim"] == 48
    assert "hidden_size" not in written
    assert formers.BertConfig(torch_dtype="torch.float16").dtype == "float16"
    assert formers.BertConfig(dtype="float16").torch_dtype == "float16"
    assert formers.BertConfig(_attn_implementation="eager").attn_implementation == "eager"
    assert formers.BertConfig(return_dict=False).use_return_dict is False
    assert formers.PretrainedConfig is formers.PreTrainedConfig


def test_attention_is_no_part_of_the_file() -> None:
    assert "attn_implementation" not in formers.BertConfig(attn_implementation="eager").to_json_string()


def test_difference_to_the_defaults() -> None:
    config = formers.BertConfig(num_hidden_layers=3, mine="x")
    assert config.to_diff_dict() == {"model_type": "bert", "num_hidden_layers": 3, "mine": "x"}
    assert json.loads(config.to_json_string()) == config.to_diff_dict()
    assert json.loads(config.to_json_string(use_diff=False))["hidden_size"] == 768
    assert repr(config).startswith("BertConfig {")
    assert dict(config) == config.to_dict()


def test_updates() -> None:
    config = formers.BertConfig()
    config.update({"hidden_size": 48, "mine": 1})
    assert (config.hidden_size, config.mine) == (48, 1)


def test_copies_are_their_own() -> None:
    first = formers.BertConfig(mine=[1])
    for second in (copy.deepcopy(first), pickle.loads(pickle.dumps(first))):  # noqa: S301 our own bytes
        assert second == first
        second.hidden_size = 1
        second.mine.append(2)
        assert (first.hidden_size, first.mine) == (768, [1])
    assert formers.BertConfig().id2label is not formers.BertConfig().id2label


def test_unknown_attributes() -> None:
    with pytest.raises(AttributeError, match="BertConfig has no attribute 'hiden_size'"):
        _ = formers.BertConfig().hiden_size


def test_configs_of_other_types(tmp_path: Path) -> None:
    formers.RobertaConfig().save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"BertConfig describes models of type 'bert', not 'roberta'.*AutoConfig"):
        formers.BertConfig.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{not json", "config.json"),
        ("[1]", "config.json"),
        ("{}", r"names no model_type.*Add one of: albert"),
        ('{"model_type": "brt"}', r"model type 'brt'.*Near names: bert"),
        ('{"model_type": "gpt7"}', r"model type 'gpt7'"),
    ],
)
def test_files_that_are_no_configuration(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    for load in (formers.AutoConfig.from_pretrained, formers.AutoModel.from_pretrained):
        with pytest.raises(ConfigError, match=message):
            load(tmp_path)


def test_folder_without_configuration(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"config\.json"):
        formers.AutoConfig.from_pretrained(tmp_path)


def test_saving_over_a_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(ConfigError, match=r"is a file.*folder"):
        formers.BertConfig().save_pretrained(tmp_path / "x")


def test_classes_by_name() -> None:
    assert formers.AutoConfig.for_model("bert", hidden_size=48) == formers.BertConfig(hidden_size=48)
    with pytest.raises(ConfigError, match=r"Near names: roberta"):
        formers.AutoConfig.for_model("robrta")


@pytest.mark.parametrize("values", [{"num_hidden_groups": 0}, {"inner_group_num": 1.5}, {"inner_group_num": True}])
def test_values_that_cannot_be(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"AlbertConfig\.\w+ is .*a positive whole number is expected"):
        formers.AlbertConfig(**values)
