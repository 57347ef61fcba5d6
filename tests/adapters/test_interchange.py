"""Adapters go between formers and peft as files, with the same names and the same answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch

import formers
from formers.registry import FAMILIES
from tests.adapters.both import close, loads_in_peft, models, outputs, scramble, tensors, texts, theirs
from tests.parity.pairs import DECODERS, ENCODERS, batch

# Where peft adapts stacks of experts, which are no dense layers.
EXPERTS = {"mixtral", "qwen3_moe"}
_Q = {"distilbert": ["q_lin", "v_lin"], "deberta-v2": ["query_proj", "value_proj"], "modernbert": ["Wqkv", "Wi"]}
_Q["mpnet"] = ["q", "v"]


def both_ways(folder: Path, model_type: str, head: str, **config: Any) -> None:
    pair = models(model_type, head)
    given = texts(pair, model_type)
    made = theirs(pair, **config)
    expected = outputs(made, given)
    made.save_pretrained(folder / "theirs")
    loaded = formers.PeftModel.from_pretrained(pair.ours, folder / "theirs")
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    close(outputs(loaded, given), expected)
    loaded.save_pretrained(folder / "ours")
    saved, wanted = tensors(folder / "ours"), tensors(folder / "theirs")
    assert saved.keys() == wanted.keys()
    assert all(torch.equal(saved[key], wanted[key]) for key in wanted)
    loads_in_peft(folder / "ours", model_type, head, expected)


@pytest.mark.parametrize("model_type", ENCODERS)
def test_attention_and_head(tmp_path: Path, model_type: str) -> None:
    names = _Q.get(model_type, ["query", "value"])
    config = {"target_modules": names, "task_type": "SEQ_CLS", "r": 4, "lora_alpha": 16, "bias": "lora_only"}
    both_ways(tmp_path, model_type, "ForSequenceClassification", **config)


@pytest.mark.parametrize("model_type", sorted({*ENCODERS, *DECODERS} - EXPERTS))
def test_all_linear_layers_and_all_biases(tmp_path: Path, model_type: str) -> None:
    head = FAMILIES[model_type].heads[1]
    both_ways(tmp_path, model_type, head, target_modules="all-linear", r=3, use_rslora=True, bias="all")


@pytest.mark.parametrize("model_type", sorted(EXPERTS))
def test_attention_beside_experts(tmp_path: Path, model_type: str) -> None:
    head = FAMILIES[model_type].heads[1]
    both_ways(tmp_path / "attention", model_type, head, target_modules=["q_proj", "o_proj"], r=2)
    theirs(models(model_type, head), target_modules="all-linear").save_pretrained(tmp_path)
    with pytest.raises(formers.errors.UnsupportedError, match=r"target_parameters=.* is not supported"):
        formers.PeftModel.from_pretrained(models(model_type, head).ours, tmp_path)


@pytest.mark.parametrize("model_type", ["bert", "modernbert"])
def test_a_bare_model(tmp_path: Path, model_type: str) -> None:
    both_ways(tmp_path, model_type, "Model", target_modules="all-linear", r=2)


@pytest.mark.parametrize(
    "config",
    [
        {"target_modules": r".*layer\.1\..*(query|dense)", "r": 2},
        {"target_modules": ["query", "dense"], "exclude_modules": ["intermediate.dense"], "r": 2},
        {"target_modules": ["query"], "exclude_modules": r".*layer\.0.*"},
        {"target_modules": ["query", "key"], "layers_to_transform": 1},
        {"target_modules": ["query"], "layers_to_transform": [0], "layers_pattern": "layer"},
        {"target_modules": ["query", "value"], "rank_pattern": {"query": 2}, "alpha_pattern": {"layer.1.*value": 3}},
        {"target_modules": ["query", "nothing"], "modules_to_save": ["bert.pooler", "classifier"]},
        {"target_modules": ["encoder.layer.0.output.dense"], "modules_to_save": ["word_embeddings", "LayerNorm"]},
        {"task_type": peft.TaskType.TOKEN_CLS, "lora_dropout": 0.5},
    ],
    ids=lambda config: "-".join(config),
)
def test_choices(tmp_path: Path, config: dict[str, Any]) -> None:
    both_ways(tmp_path, "bert", "ForSequenceClassification", **config)


# -- adapters that are made here ---------------------------------------------------------------------------------------


def ours(folder: Path, model_type: str, head: str, **config: Any) -> Any:
    """A new adapter, saved, which peft reads with the same outcome."""
    pair = models(model_type, head)
    made = scramble(formers.get_peft_model(pair.ours, formers.LoraConfig(**config)))
    expected = outputs(made, texts(pair, model_type))
    made.save_pretrained(folder)
    loads_in_peft(folder, model_type, head, expected)
    again = formers.PeftModel.from_pretrained(models(model_type, head).ours, folder)
    close(outputs(again, texts(pair, model_type)), expected)
    return made


@pytest.mark.parametrize("model_type", [*ENCODERS, *DECODERS])
def test_the_default_is_queries_and_values(tmp_path: Path, model_type: str) -> None:
    head, task = FAMILIES[model_type].heads[1], "CAUSAL_LM"
    if "ForSequenceClassification" in FAMILIES[model_type].heads:
        head, task = "ForSequenceClassification", "SEQ_CLS"
    made = ours(tmp_path, model_type, head, task_type=task)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    known = dict(peft.utils.constants.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING)
    del known["phi"]  # there peft adapts the feed-forward layers too
    wanted = {"albert": ["query", "value"], "camembert": ["query", "value"], **_Q, "modernbert": ["Wqkv"], **known}
    if model_type in wanted:
        assert config["target_modules"] == wanted[model_type]
    assert config["peft_type"] == "LORA"
    assert config["inference_mode"] is True
    assert not made.peft_config["default"].inference_mode


@pytest.mark.parametrize("model_type", ["bert", "distilbert", "modernbert"])
def test_names_of_formers(tmp_path: Path, model_type: str) -> None:
    config = {"target_modules": ["q_proj", "up_proj"], "modules_to_save": ["head.output"], "bias": "lora_only"}
    made = ours(tmp_path, model_type, "ForSequenceClassification", rank_pattern={"up_proj": 3}, **config)
    adapted = {name.rpartition(".")[2] for name in made.base_model.layers()}
    assert adapted == {"q_proj", "up_proj"}


def test_a_part_of_a_fused_layer(tmp_path: Path) -> None:
    made = ours(tmp_path, "modernbert", "ForMaskedLM", target_modules=["q_proj", "v_proj"], r=2)
    layers = made.base_model.layers()
    assert (
        layers["model.layers.0.self_attn.q_proj"].lora_A.default
        is layers["model.layers.0.self_attn.v_proj"].lora_A.default
    )
    whole = tensors(tmp_path)["base_model.model.model.layers.0.attn.Wqkv.lora_B.weight"]
    query, key, value = whole.chunk(3)
    assert query.any()
    assert value.any()
    assert not key.any()
    before = formers.get_peft_model_state_dict(made)
    made.load_pretrained(tmp_path)
    after = formers.get_peft_model_state_dict(made)
    assert all(torch.equal(before[name], after[name]) for name in before)
    whole[:] = 1
    with pytest.raises(formers.errors.CheckpointError, match=r"changes model.layers.0.self_attn.k_proj.*'Wqkv'"):
        formers.set_peft_model_state_dict(
            made, {**before, "base_model.model.model.layers.0.attn.Wqkv.lora_B.weight": whole}
        )


def test_a_fused_layer_with_two_matrices_a() -> None:
    made = formers.get_peft_model(models("modernbert", "Model").ours, formers.LoraConfig())
    layer = made.base_model.layers()["layers.1.self_attn.k_proj"]
    layer.lora_A["default"] = torch.nn.Parameter(layer.lora_A["default"].detach() + 1)
    with pytest.raises(formers.errors.CheckpointError, match=r"layers.1.attn.Wqkv have different matrices A"):
        formers.get_peft_model_state_dict(made)


def test_a_fused_layer_with_two_ranks() -> None:
    config = formers.LoraConfig(target_modules=["q_proj", "k_proj"], rank_pattern={"k_proj": 2})
    with pytest.raises(formers.errors.InputError, match=r"q_proj and .*k_proj differ in rank.*Wqkv"):
        formers.get_peft_model(models("modernbert", "Model").ours, config)


def test_embeddings_that_were_saved_too(tmp_path: Path) -> None:
    pair = models("bert", "ForMaskedLM")
    made = theirs(pair, target_modules=["query"])
    torch.nn.init.normal_(made.get_input_embeddings().weight)
    made.save_pretrained(tmp_path, save_embedding_layers=True)
    loaded = formers.PeftModel.from_pretrained(pair.ours, tmp_path)
    tokens = loaded.get_input_embeddings().weight
    assert torch.equal(tokens, made.get_input_embeddings().weight)


def test_an_older_file(tmp_path: Path) -> None:
    pair = models("bert", "ForSequenceClassification")
    made = theirs(pair, target_modules=["query"])
    made.save_pretrained(tmp_path, safe_serialization=False)
    assert (tmp_path / "adapter_model.bin").exists()
    loaded = formers.PeftModel.from_pretrained(pair.ours, tmp_path)
    close(outputs(loaded, batch(pair)), outputs(made, batch(pair)))
    loaded.save_pretrained(tmp_path / "again", safe_serialization=False)
    loads_in_peft(tmp_path / "again", "bert", "ForSequenceClassification", outputs(made, batch(pair)))


def test_random_starts_differ_from_zero_as_asked() -> None:
    for init, changed in ((True, False), ("gaussian", False), (False, True)):
        pair = models("bert", "Model")
        before = outputs(pair.ours, batch(pair))
        made = formers.get_peft_model(pair.ours, formers.LoraConfig(init_lora_weights=init))
        assert torch.equal(outputs(made, batch(pair)), before) is not changed
        spread = made.base_model.layers()["layers.0.self_attn.q_proj"].lora_A.default.std()
        assert 0.05 < spread < 0.5
