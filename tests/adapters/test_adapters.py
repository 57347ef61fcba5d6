"""What can be done with adapters: merging, switching, several at once, and going back."""

from __future__ import annotations

import copy
import logging
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from formers import (
    AutoModelForSequenceClassification,
    AutoPeftModelForSequenceClassification,
    LoraConfig,
    PeftConfig,
    PeftModel,
    TaskType,
    get_peft_model,
    get_peft_model_state_dict,
)
from formers.adapters.layer import LoraLinear
from formers.errors import CheckpointError, ConfigError, InputError, ModelNotFoundError, UnsupportedError
from tests.adapters.both import models, scramble
from tests.parity.pairs import ours
from tests.training.small import model, same_weights

IDS = torch.tensor([[1, 9, 8, 7, 2], [1, 5, 6, 0, 0]])
MASK = (IDS != 0).long()


def adapted(made: Any = None, **config: Any) -> Any:
    return scramble(get_peft_model(made or model(), LoraConfig(**config)))


def logits(made: Any) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = made(IDS, attention_mask=MASK)[0]
    return out


def test_a_new_adapter_changes_nothing_and_alone_trains(capsys: pytest.CaptureFixture[str]) -> None:
    base = model().eval()
    before = logits(base)
    made = get_peft_model(base, LoraConfig(r=2))
    assert torch.equal(logits(made), before)
    names = [name for name, parameter in made.named_parameters() if parameter.requires_grad]
    assert len(names) == 8
    assert all("lora_" in name for name in names)
    made.print_trainable_parameters()
    total = base.num_parameters()
    assert (
        f"trainable params: 512 || all params: {total:,d} || trainable%: {51200 / total:.4f}" in capsys.readouterr().out
    )
    made(IDS, attention_mask=MASK, labels=torch.tensor([0, 1])).loss.backward()
    assert all((parameter.grad is not None) == parameter.requires_grad for parameter in made.parameters())


@pytest.mark.parametrize("task", ["SEQ_CLS", TaskType.SEQ_CLS])
def test_a_task_trains_its_head(task: Any) -> None:
    made = get_peft_model(model(), LoraConfig(task_type=task))
    assert made.head.output.weight.requires_grad
    assert made.peft_config["default"].modules_to_save == ["classifier", "score"]


def test_a_new_head_that_would_not_train_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="formers"):
        get_peft_model(model(), LoraConfig(task_type="SEQ_CLS"))
        assert not caplog.messages
        get_peft_model(model(), LoraConfig(target_modules=["query", "quary"]))
    assert caplog.messages == [
        "'quary' in target_modules is no dense layer of BertForSequenceClassification; did you mean 'query'?",
        "The head of BertForSequenceClassification stays as it is. If it is new, train it: give LoraConfig a "
        "task_type or modules_to_save.",
    ]


@settings(max_examples=25, deadline=None)
@given(
    rank=st.integers(1, 5),
    alpha=st.floats(-4, 32),
    root=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    width=st.integers(1, 9),
    seed=st.integers(0, 2**20),
)
def test_merging_equals_the_adapter_and_goes_back_bit_by_bit(
    rank: int, alpha: float, root: bool, dtype: torch.dtype, width: int, seed: int
) -> None:
    torch.manual_seed(seed)
    plain = nn.Sequential(nn.Linear(7, width), nn.Linear(width, 3, bias=False)).to(dtype)
    x = torch.randn(4, 7, dtype=dtype)
    weights = copy.deepcopy(plain.state_dict())
    base = plain(x)
    config = LoraConfig(target_modules="all-linear", r=rank, lora_alpha=alpha, use_rslora=root, init_lora_weights=False)
    made = get_peft_model(plain, config).eval()
    expected = made(x)
    tolerance = {"atol": 1e-5, "rtol": 1e-5} if dtype != torch.bfloat16 else {"atol": 0.5, "rtol": 0.1}
    made.merge_adapter(safe_merge=True)
    torch.testing.assert_close(made(x), expected, **tolerance)
    made.unmerge_adapter()
    assert torch.equal(made(x), expected)
    with made.disable_adapter():
        assert torch.equal(made(x), base)
    if seed % 2:
        torch.testing.assert_close(made.merge_and_unload()(x), expected, **tolerance)
    else:
        assert torch.equal(made.unload()(x), base)
        assert all(torch.equal(weights[name], tensor) for name, tensor in plain.state_dict().items())
    assert not any(isinstance(module, LoraLinear) for module in plain.modules())


@pytest.mark.parametrize(
    ("model_type", "head"),
    [
        ("bert", "ForSequenceClassification"),
        ("modernbert", "ForMaskedLM"),
        ("deberta-v2", "ForTokenClassification"),
        ("llama", "ForCausalLM"),
    ],
)
def test_the_fast_ways_for_inference_see_adapters(model_type: str, head: str) -> None:
    def packed() -> Any:
        return models(model_type, head).ours.for_inference()

    torch.manual_seed(0)
    base = packed()
    state = copy.deepcopy(base.state_dict())
    before = logits(base)
    made = adapted(base, target_modules="all-linear", init_lora_weights=False)
    expected = logits(made)
    assert not torch.allclose(expected, before, atol=1e-3)
    torch.testing.assert_close(logits(made.for_inference()), expected)
    with made.disable_adapter():
        torch.testing.assert_close(logits(made), before)
    made.merge_adapter()
    torch.testing.assert_close(logits(made), expected, atol=1e-4, rtol=1e-4)
    merged = made.merge_and_unload()
    assert merged is base
    torch.testing.assert_close(logits(merged), expected, atol=1e-4, rtol=1e-4)
    attention = base.base_model.layers[0].self_attn
    assert attention.joint.holds((attention.q_proj, attention.k_proj, attention.v_proj))
    assert state.keys() == merged.state_dict().keys()


def test_a_merged_model_is_saved_as_a_model(tmp_path: Path) -> None:
    made = adapted(ours("bert", "ForMaskedLM"), target_modules=["query", "decoder"], modules_to_save=["transform"])
    expected = logits(made)
    merged = made.merge_and_unload()
    assert not merged.config.tie_word_embeddings
    merged.save_pretrained(tmp_path)
    torch.testing.assert_close(logits(type(merged).from_pretrained(tmp_path)), expected, atol=1e-4, rtol=1e-4)


def test_adapters_that_were_merged_before_going_off_are_merged_again() -> None:
    made = adapted()
    made.merge_adapter()
    merged = logits(made)
    with made.disable_adapter():
        assert torch.equal(logits(made), logits(model().eval()))
    with suppress(RuntimeError), made.disable_adapter():
        raise RuntimeError
    assert made.merged_adapters == ["default"]
    assert torch.equal(logits(made), merged)


def test_several_adapters(tmp_path: Path) -> None:
    made = adapted(task_type="SEQ_CLS", bias="lora_only")
    first = logits(made)
    made.add_adapter("other", LoraConfig(target_modules=["key"], r=2, bias="all", init_lora_weights=False))
    assert torch.equal(logits(made), first)
    made.set_adapter("other")
    scramble(made)
    second = logits(made)
    assert not torch.equal(first, second)
    assert [n for n, p in made.named_parameters() if p.requires_grad and ".default" in n] == []
    made.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "other",
    ]
    made.set_adapter("default", inference_mode=True)
    assert not any(parameter.requires_grad for parameter in made.parameters())
    assert torch.equal(logits(made), first)
    with pytest.raises(InputError, match=r"adapters default, other each have a version of"):
        made.set_adapter(["default", "other"])
    assert made.active_adapters == ["default"]

    again = PeftModel.from_pretrained(model(), tmp_path)
    again.load_adapter(tmp_path / "other", "other")
    assert torch.equal(logits(again), first)
    again.set_adapter("other")
    assert torch.equal(logits(again), second)
    again.delete_adapter("other")
    assert again.active_adapter == "default"
    assert torch.equal(logits(again), first)
    again.delete_adapter("default")
    assert torch.equal(logits(again), logits(model().eval()))
    with pytest.raises(InputError, match="No adapter is at work"):
        _ = again.active_adapter
    same_weights(again.unload(), model())


def test_the_changes_of_adapters_add_up() -> None:
    made = get_peft_model(nn.Sequential(nn.Linear(4, 4)), LoraConfig(target_modules=["0"], init_lora_weights=False))
    made.add_adapter("other", LoraConfig(target_modules=["0"], r=3, init_lora_weights=False))
    x = torch.randn(2, 4)
    with made.disable_adapter():
        base = made(x)
    first = made(x) - base
    made.set_adapter("other")
    second = made(x) - base
    made.set_adapter(["default", "other"])
    torch.testing.assert_close(made(x), base + first + second)
    made.merge_adapter(["other"])
    torch.testing.assert_close(made(x), base + second)
    made.merge_adapter(["default"])
    torch.testing.assert_close(made(x), base + first + second)
    torch.testing.assert_close(made.merge_and_unload(adapter_names=["default"])(x), base + first)


def test_a_model_in_half_precision_and_a_move() -> None:
    made = get_peft_model(model().bfloat16(), LoraConfig(task_type="SEQ_CLS", init_lora_weights=False)).eval()
    low = [p for name, p in made.named_parameters() if "lora_" in name]
    assert {parameter.dtype for parameter in low} == {torch.float32}
    assert logits(made).dtype == torch.bfloat16
    made.merge_adapter()
    made.double()
    made.unmerge_adapter()
    with made.disable_adapter():
        assert {p.dtype for p in made.parameters()} == {torch.float64}
    low = get_peft_model(model().bfloat16(), LoraConfig(), autocast_adapter_dtype=False).parameters()
    assert {parameter.dtype for parameter in low} == {torch.bfloat16}


def test_a_copy_stands_alone() -> None:
    made = adapted(task_type="SEQ_CLS")
    before = logits(made)
    twin = copy.deepcopy(made)
    assert torch.equal(logits(twin), before)
    scramble(twin.double())
    with twin.disable_adapter():
        pass
    assert torch.equal(logits(made), before)


def test_gradients_flow_through_recomputed_blocks() -> None:
    made = adapted()
    made.train().gradient_checkpointing_enable()
    assert made.is_gradient_checkpointing
    made(IDS, attention_mask=MASK, labels=torch.tensor([0, 1])).loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in made.parameters() if p.requires_grad)


def test_what_is_not_of_the_adapter_is_of_the_model() -> None:
    made = adapted()
    assert made.config.model_type == "bert"
    assert made.get_base_model() is made.base_model.model
    assert made.num_labels == 2
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = made.nothing_like_it


def test_an_adapter_brings_its_model(tmp_path: Path) -> None:
    model(num_labels=3).save_pretrained(tmp_path / "base")
    base = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base")
    made = adapted(base, task_type="SEQ_CLS")
    made.save_pretrained(tmp_path / "adapter")
    again = AutoPeftModelForSequenceClassification.from_pretrained(tmp_path / "adapter", attn_implementation="eager")
    torch.testing.assert_close(logits(again), logits(made))
    assert again.config.attn_implementation == "eager"
    config = replace(again.peft_config["default"], base_model_name_or_path=None)
    with pytest.raises(InputError, match=r"names no base model.*PeftModel.from_pretrained"):
        AutoPeftModelForSequenceClassification.from_pretrained(tmp_path / "adapter", config=config)


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({"use_dora": True}, UnsupportedError, "use_dora=True is not supported. Leave use_dora out."),
        ({"loftq_config": {"loftq_bits": 4}}, UnsupportedError, "loftq_config="),
        (
            {"init_lora_weights": "pissa"},
            UnsupportedError,
            "init_lora_weights='pissa' is not supported. Use True, False",
        ),
        ({"r": 0}, InputError, "The rank r is 0. Give a whole number from 1 on."),
        ({"rank_pattern": {"query": 1.5}}, InputError, "The rank r is 1.5."),
        ({"lora_dropout": 1.0}, InputError, "lora_dropout is 1.0."),
        ({"bias": "some"}, InputError, "bias='some' is unknown. Use 'none', 'all' or 'lora_only'."),
        ({"task_type": "CLS"}, InputError, "task_type='CLS' is unknown. Use one of SEQ_CLS"),
        ({"layers_pattern": "layer"}, InputError, "layers_pattern without layers_to_transform"),
        ({"target_modules": ".*q", "layers_to_transform": 1}, InputError, "Give target_modules as a list"),
        ({"target_modules": "*q"}, InputError, "is no regular expression"),
    ],
)
def test_configurations_that_are_refused(config: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as raised:
        LoraConfig(**config)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"peft_type": "IA3"}, "kind IA3. Only LoRA"),
        ({"peft_type": "LORA", "new_thing": 3}, "made with new_thing=3, which is not known"),
    ],
)
def test_files_that_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedError) as raised:
        LoraConfig.from_dict(values)
    assert message in str(raised.value)


def test_files_of_other_versions() -> None:
    config = LoraConfig.from_dict(
        {"peft_type": "PeftType.LORA", "new_thing": None, "init_lora_weights": "eva", "rank_pattern": None, "r": 3}
    )
    assert (config.r, config.init_lora_weights, config.rank_pattern) == (3, True, {})


def test_adapters_that_do_not_fit(tmp_path: Path) -> None:
    adapted(target_modules=["query"], task_type="SEQ_CLS").save_pretrained(tmp_path)
    other = model(num_labels=3)
    with pytest.raises(CheckpointError, match=r"classifier.weight is \(2, 32\), not \(3, 32\).*number of labels"):
        PeftModel.from_pretrained(other, tmp_path)
    # What failed leaves the model as it was.
    same_weights(other, model(num_labels=3))
    assert all(parameter.requires_grad for parameter in other.parameters())
    config = LoraConfig(target_modules=["key"])
    with pytest.raises(
        CheckpointError, match=r"missing \['bert.*key.lora_A.weight'.*without use \['bert.*query.lora_A"
    ):
        PeftModel.from_pretrained(model(), tmp_path, config=config)
    with pytest.raises(ModelNotFoundError, match=r"has no file 'adapter_config.json'"):
        PeftModel.from_pretrained(model(), tmp_path.parent)
    (tmp_path / "adapter_model.safetensors").unlink()
    assert PeftConfig.from_pretrained(tmp_path).target_modules == ["query"]
    with pytest.raises(ModelNotFoundError, match=r"has no file 'adapter_model.safetensors'"):
        PeftModel.from_pretrained(model(), tmp_path)
    (tmp_path / "adapter_config.json").write_text("[]")
    with pytest.raises(ConfigError, match="must hold a JSON object"):
        PeftModel.from_pretrained(model(), tmp_path)


def test_wrong_uses(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"target_modules=\['embeddings'\] fits no dense layer.*names such as .*query"):
        get_peft_model(model(), LoraConfig(target_modules=["embeddings"]))
    with pytest.raises(InputError, match="no default for Sequential"):
        get_peft_model(nn.Sequential(nn.Linear(2, 2)), LoraConfig())
    with pytest.raises(InputError, match="config is a dict"):
        get_peft_model(model(), {"r": 8})  # type: ignore[arg-type]
    made = adapted()
    with pytest.raises(InputError, match="has adapters already"):
        get_peft_model(made, LoraConfig())
    with pytest.raises(InputError, match="is an adapter 'default' already"):
        made.add_adapter("default", LoraConfig())
    for name in ("", "a.b", "../up", "keys"):
        with pytest.raises(InputError, match="cannot be used"):
            made.add_adapter(name, LoraConfig())
    with pytest.raises(InputError, match=r"no adapter 'mine'. Use one of 'default'."):
        made.set_adapter("mine")
    with pytest.raises(InputError, match="no adapter 'mine'"):
        made.save_pretrained(tmp_path, selected_adapters=["mine"])
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"):
        made.save_pretrained(tmp_path / "file")
    made.base_model.layers()["model.layers.0.self_attn.q_proj"].lora_B["default"].data[0] = float("nan")
    with pytest.raises(InputError, match="not finite"):
        made.merge_adapter(safe_merge=True)
    with pytest.raises(InputError, match="no adapter 'mine'"):
        get_peft_model_state_dict(made, "mine")
