"""The settings of trainings: names, kinds, and YAML."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from formers.cli import settings
from formers.errors import InputError
from formers.training.arguments import TrainingArguments


def test_every_argument_is_a_setting_but_those_that_the_command_settles() -> None:
    known = settings.known()
    left_out = {item.name for item in fields(TrainingArguments)} - set(known)
    assert {"do_train", "batch_eval_metrics", "disable_tqdm"} <= left_out
    assert {"learning_rate", "warmup_ratio", "fp16", "group_by_length", "lora_r", "push"} <= set(known)
    # Secrets must not get into run.yaml.
    assert not [name for name in known if "token" in name and "hub" in name]


def test_every_setting_is_a_flag() -> None:
    extra = inspect.Parameter("data", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    assert set(settings.signature(data=extra).parameters) == set(settings.known())


def test_every_setting_has_kinds_that_are_known() -> None:
    for item in settings.known().values():
        kinds = settings._kinds(item)
        assert kinds, item.name
        assert kinds <= {"bool", "int", "float", "str", "list", "dict"}, item.name


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("learning_rate", "5e-5", 5e-5),
        ("learning_rate", 1, 1.0),
        ("max_steps", "1e3", 1000),
        ("max_steps", 100.0, 100),
        ("eval_strategy", False, "no"),
        ("bf16", "yes", True),
        ("bf16", False, False),
        ("label_column", "a, b", ["a", "b"]),
        ("label_names", [0, 1], ["0", "1"]),
        ("class_weights", "auto", "auto"),
        ("class_weights", [1.0, 2.0], [1.0, 2.0]),
        ("text_column", 1, "1"),
        ("eval_steps", "0.25", 0.25),
        ("lr_scheduler_kwargs", {"num_cycles": 2}, {"num_cycles": 2}),
    ],
)
def test_values(name: str, value: Any, expected: Any) -> None:
    found = settings.coerced(name, value, "It")
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("learning_rate", "fast", "It is 'fast'. Give a number."),
        ("max_steps", 1.5, "It is 1.5. Give a whole number."),
        ("bf16", 1, "It is 1. Give true or false."),
        ("model", [1], "Give a text."),
        ("max_steps", True, "Give a whole number."),
        ("label_names", [False, True], "Quote yes, no, true and false: YAML takes them for logic."),
    ],
)
def test_values_of_another_kind(name: str, value: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        settings.coerced(name, value, "It")
    assert message in str(caught.value)


def test_names() -> None:
    assert settings.named("--batch-size", "x") == "per_device_train_batch_size"
    assert settings.named("text-column", "x") == "text_column"
    with pytest.raises(InputError, match=r"x: there is no setting 'epoch'\. Did you mean epochs"):
        settings.named("epoch", "x")
    with pytest.raises(InputError, match="--help lists the settings"):
        settings.named("zzzzzz", "x")


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    run = settings.Run(data="données.csv", model="m", label_column=["a", "b"], lora=True, resume=True)
    training = {"learning_rate": 5e-5, "eval_strategy": "no", "bf16": True}
    written = settings.effective(run, training)
    settings.write(tmp_path, written)
    assert "données.csv" in (tmp_path / "run.yaml").read_text(encoding="utf-8")
    again, args = settings.split(settings.read(str(tmp_path / "run.yaml")))
    assert args == training
    assert again == settings.Run(**{**vars(run), "resume": False})
    assert "resume" not in yaml.safe_load((tmp_path / "run.yaml").read_text(encoding="utf-8"))
