"""TrainingArguments: every argument of the reference is taken, and none is silently ignored."""

from __future__ import annotations

import dataclasses
import json
from enum import Enum
from typing import Any

import pytest
import torch

from formers.errors import InputError, MissingDependencyError, UnsupportedError
from formers.training.arguments import Seq2SeqTrainingArguments, TrainingArguments, in_steps
from formers.training.reference import RefusedArguments

# What version 4 has and version 5 has not.
ONLY_V4 = (
    "adafactor",
    "fp16_backend",
    "fp16_opt_level",
    "fsdp_min_num_params",
    "fsdp_transformer_layer_cls_to_wrap",
    "group_by_length",
    "half_precision_backend",
    "include_inputs_for_metrics",
    "include_tokens_per_second",
    "jit_mode_eval",
    "logging_dir",
    "mp_parameters",
    "no_cuda",
    "overwrite_output_dir",
    "past_index",
    "per_gpu_eval_batch_size",
    "per_gpu_train_batch_size",
    "push_to_hub_model_id",
    "push_to_hub_organization",
    "push_to_hub_token",
    "ray_scope",
    "save_safetensors",
    "torchdynamo",
    "tpu_metrics_debug",
    "tpu_num_cores",
    "use_legacy_prediction_loop",
    "use_mps_device",
    "warmup_ratio",
)
# Defaults that differ on purpose, as the class describes.
OTHER_DEFAULTS = {"report_to", "restore_callback_states_from_checkpoint"}
BEST = {"load_best_model_at_end": True}
REFUSED = dataclasses.fields(RefusedArguments)


def default(item: dataclasses.Field[Any]) -> Any:
    return item.default_factory() if item.default is dataclasses.MISSING else item.default  # type: ignore[misc]


def test_every_argument_of_the_reference_is_taken() -> None:
    from transformers import Seq2SeqTrainingArguments as Reference

    own = {item.name: default(item) for item in dataclasses.fields(Seq2SeqTrainingArguments)}
    for item in dataclasses.fields(Reference):
        assert item.name in own, item.name
        if item.name not in OTHER_DEFAULTS:
            assert own[item.name] == getattr(default(item), "value", default(item)), item.name
    assert set(ONLY_V4) <= set(own)


def test_the_defaults_of_the_reference_are_taken() -> None:
    from transformers import Seq2SeqTrainingArguments as Reference

    values = {item.name: default(item) for item in dataclasses.fields(Reference) if item.init}
    assert Seq2SeqTrainingArguments(**values).learning_rate == 5e-5


def other(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 3
    return "something"


@pytest.mark.parametrize("item", REFUSED, ids=lambda item: item.name)
def test_a_refused_argument_names_the_alternative(item: dataclasses.Field[Any]) -> None:
    with pytest.raises(UnsupportedError, match=item.name) as error:
        Seq2SeqTrainingArguments("out", **{item.name: other(item.default)})
    assert error.value.remedy == item.metadata["remedy"]
    assert error.value.remedy.endswith(".")


def test_every_supported_argument_is_read_somewhere() -> None:
    """An argument that nothing reads would be silently ignored."""
    from pathlib import Path

    import formers.training

    folder = Path(str(formers.training.__file__)).parent
    source = "\n".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
    # These mean something to scripts alone, or the same for every value, as the class says.
    told = {
        "do_train",
        "do_predict",
        "overwrite_output_dir",
        "eval_accumulation_steps",
        "average_tokens_across_devices",
        "ddp_find_unused_parameters",
        "ddp_static_graph",
        "logging_nan_inf_filter",
        "eval_use_gather_object",
    }
    for item in dataclasses.fields(TrainingArguments):
        if "remedy" not in item.metadata and item.name not in told:
            assert f".{item.name}" in source or f'"{item.name}"' in source, item.name


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        ({"evaluation_strategy": "epoch"}, "eval_strategy", "epoch"),
        ({"warmup_ratio": 0.1}, "warmup_steps", 0.1),
        ({"group_by_length": True}, "train_sampling_strategy", "group_by_length"),
        ({"adafactor": True}, "optim", "adafactor"),
        ({"no_cuda": True}, "use_cpu", True),
        ({"per_gpu_train_batch_size": 3}, "per_device_train_batch_size", 3),
        ({"per_gpu_eval_batch_size": 3}, "per_device_eval_batch_size", 3),
        ({"include_inputs_for_metrics": True}, "include_for_metrics", ["inputs"]),
        ({"gradient_checkpointing": True}, "activation_checkpointing", True),
        ({"activation_checkpointing": True}, "gradient_checkpointing", True),
        ({"gradient_checkpointing_kwargs": '{"a": 1}'}, "activation_checkpointing_kwargs", {"a": 1}),
        ({"include_num_input_tokens_seen": True}, "include_num_input_tokens_seen", "all"),
        ({"include_tokens_per_second": True}, "include_num_input_tokens_seen", "all"),
        ({"torch_compile_backend": "eager"}, "torch_compile", True),
        ({"eval_strategy": "steps", "logging_steps": 7}, "eval_steps", 7),
        ({**BEST, "eval_strategy": "epoch", "save_strategy": "epoch"}, "metric_for_best_model", "loss"),
        ({"metric_for_best_model": "accuracy"}, "greater_is_better", True),
        ({"metric_for_best_model": "eval_loss"}, "greater_is_better", False),
        ({"output_dir": None}, "output_dir", "trainer_output"),
    ],
)  # fmt: skip
def test_other_spellings(given: dict[str, Any], name: str, value: Any) -> None:
    assert getattr(TrainingArguments(**{"output_dir": "out", **given}), name) == value


GROUPS: dict[str, dict[str, Any]] = {
    "set_training": {"learning_rate": 1e-4, "batch_size": 32, "gradient_checkpointing": True},
    "set_evaluate": {"strategy": "steps", "steps": 10, "batch_size": 4, "delay": 2},
    "set_testing": {"batch_size": 4, "loss_only": True},
    "set_save": {"strategy": "epoch", "total_limit": 3},
    "set_logging": {"strategy": "epoch", "level": "info"},
    "set_push_to_hub": {"model_id": "us/x", "strategy": "end", "token": "t"},
    "set_optimizer": {"name": "adafactor", "beta1": 0.8, "args": "clip_threshold=2.0"},
    "set_lr_scheduler": {"name": "cosine", "warmup_steps": 10, "max_steps": 50},
    "set_dataloader": {"train_batch_size": 16, "num_workers": 2, "sampler_seed": 7},
}


@pytest.mark.parametrize("name", GROUPS)
def test_settings_by_group(name: str) -> None:
    """The same values as the reference's method sets."""
    from inspect import signature

    from transformers import TrainingArguments as Reference

    theirs, own = getattr(Reference("out"), name), getattr(TrainingArguments("out"), name)
    defaults = {key: value.default for key, value in signature(theirs).parameters.items()}
    mine = {key: value.default for key, value in signature(own).parameters.items() if key != "warmup_ratio"}
    assert mine == {key: getattr(value, "value", value) for key, value in defaults.items()}
    fresh, expected, found = Reference("out"), theirs(**GROUPS[name]), own(**GROUPS[name])
    changed = [item.name for item in dataclasses.fields(Reference) if values(fresh, item) != values(expected, item)]
    assert len(changed) >= 2
    for item in set(changed) - OTHER_DEFAULTS:
        value = getattr(expected, item)
        assert getattr(found, item) == getattr(value, "value", value), item


def values(args: Any, item: dataclasses.Field[Any]) -> str:
    return repr(getattr(args, item.name))


def test_settings_by_group_are_checked() -> None:
    args = TrainingArguments("out").set_evaluate("epoch").set_save("epoch")
    assert args.set_lr_scheduler(warmup_ratio=0.1).warmup_steps == 0.1
    with pytest.raises(UnsupportedError, match="auto_find_batch_size"):
        args.set_dataloader(auto_find_batch_size=True)


def test_members_of_enumerations_are_their_values() -> None:
    class Strategy(Enum):
        EPOCH = "epoch"

    assert TrainingArguments("out", eval_strategy=Strategy.EPOCH).eval_strategy == "epoch"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"load_best_model_at_end": True}, 'eval_strategy is "no"'),
        ({"save_strategy": "best"}, 'save_strategy="best" needs evaluations'),
        ({"load_best_model_at_end": True, "eval_strategy": "epoch"}, "might not have been saved"),
        ({**BEST, "eval_strategy": "steps", "eval_steps": 4, "save_steps": 6}, "multiple of eval_steps"),
        ({**BEST, "eval_strategy": "steps", "eval_steps": 0.1, "save_steps": 6}, "multiple of eval_steps"),
        ({"warmup_ratio": 0.1, "warmup_steps": 5}, "contradict"),
        ({"eval_strategy": "sometimes"}, "'no', 'steps', 'epoch'"),
        ({"eval_strategy": "best"}, "is not known"),
        ({"logging_steps": 0}, "logging_steps=0"),
        ({"save_steps": 2.5}, "save_steps=2.5"),
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size=0"),
        ({"num_train_epochs": 0}, "train nothing"),
        ({"label_smoothing_factor": 1.0}, "label_smoothing_factor"),
        ({"class_weights": "balanced"}, "'auto'"),
        ({"train_sampling_strategy": "sorted"}, "train_sampling_strategy"),
        ({"log_level": "loud"}, "log_level"),
        ({"include_for_metrics": ["weights"]}, "include_for_metrics"),
        ({"dataloader_prefetch_factor": 2}, "dataloader_num_workers"),
        ({"lr_scheduler_kwargs": "fast"}, "no mapping"),
    ],
)  # fmt: skip
def test_what_contradicts_or_is_no_value(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        TrainingArguments("out", **given)


def test_multiples_of_shares_are_taken() -> None:
    args = TrainingArguments(
        "out", load_best_model_at_end=True, eval_strategy="steps", save_strategy="steps", eval_steps=0.1, save_steps=0.3
    )
    assert args.metric_for_best_model == "loss"


def test_trackers(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    with pytest.raises(UnsupportedError, match="wandb"):
        TrainingArguments("out", report_to="wandb")
    assert TrainingArguments("out", report_to="none").report_to == []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert TrainingArguments("out").report_to == []
    with pytest.raises(MissingDependencyError, match="pip install tensorboard"):
        TrainingArguments("out", report_to="tensorboard")


def test_steps() -> None:
    assert [in_steps(value, 30) for value in (0, 0.1, 0.11, 1, 12)] == [0, 3, 4, 1, 12]
    assert TrainingArguments("out", warmup_ratio=0.1).get_warmup_steps(95) == 10
    assert TrainingArguments("out", warmup_ratio=1.0).get_warmup_steps(95) == 95


def test_as_json() -> None:
    args = TrainingArguments("out", lr_scheduler_kwargs={"power": 2})
    values = json.loads(args.to_json_string())
    assert values["lr_scheduler_kwargs"] == {"power": 2}
    assert "fsdp" not in values
    again = TrainingArguments(**values)
    assert again.to_dict() == args.to_dict()
    assert args.to_sanitized_dict()["lr_scheduler_kwargs"] == "{'power': 2}"


def test_device() -> None:
    assert TrainingArguments("out", use_cpu=True).device == torch.device("cpu")
    assert TrainingArguments("out", use_cpu=True).n_gpu == 0
