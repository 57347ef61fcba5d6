"""Exactness: accumulation, resuming and killing change nothing; the reference has the same losses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from formers import BertConfig, BertForQuestionAnswering, BertForTokenClassification, BertLMHeadModel
from formers.training.callbacks import EarlyStoppingCallback
from formers.training.checkpoints import checkpoints
from tests.training.small import CONFIG, Pad, arguments, losses, model, rows, same_weights, trainer, uneven

# Plain steps along the gradient: what differs in the gradients differs in the weights.
SGD: dict[str, Any] = {"optim": "sgd", "learning_rate": 0.1, "lr_scheduler_type": "constant"}


@pytest.mark.parametrize("settings", [{}, {"label_smoothing_factor": 0.2}, {"class_weights": [1.0, 4.0]}])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_accumulated_batches_equal_a_large_one(tmp_path: Path, size: int, settings: dict[str, Any]) -> None:
    """18 examples in steps of 8: the last step has 2."""
    expected = trainer(
        tmp_path, train_dataset=uneven(18), data_collator=Pad(), per_device_train_batch_size=8, **SGD, **settings
    )
    made = trainer(
        tmp_path,
        train_dataset=uneven(18),
        data_collator=Pad(),
        per_device_train_batch_size=size,
        gradient_accumulation_steps=8 // size,
        **SGD,
        **settings,
    )
    expected.train()
    made.train()
    same_weights(made.model, expected.model, atol=1e-6)
    assert losses(made) == pytest.approx(losses(expected), abs=1e-6)


def tagging() -> tuple[Any, list[dict[str, Any]]]:
    """Examples with very different numbers of labelled tokens, one with none."""
    labels = [[0, 1, 2, 1], [-100, 2, -100, -100], [-100] * 4, [1, 1, -100, 0], [2, -100, -100, -100]]
    data = [{"input_ids": [5 + i, 6, 7, 8], "labels": row} for i, row in enumerate(labels)]
    return BertForTokenClassification(config(num_labels=3)), data


def answering() -> tuple[Any, list[dict[str, Any]]]:
    """The last example's answer is outside of its tokens."""
    data = [{"input_ids": [5 + i, 6, 7, 8], "start_positions": i, "end_positions": i} for i in range(5)]
    return BertForQuestionAnswering(config()), data


def writing() -> tuple[Any, list[dict[str, Any]]]:
    data = [{"input_ids": [5 + i, 6, 7, 8], "labels": [5 + i, 6, 7 if i % 2 else -100, 8]} for i in range(5)]
    return BertLMHeadModel(config(is_decoder=True)), data


def config(**more: Any) -> BertConfig:
    torch.manual_seed(0)
    return BertConfig(**CONFIG, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **more)


@pytest.mark.parametrize("task", [tagging, answering, writing])
def test_items_are_weighed_alike_whatever_batch_they_are_in(tmp_path: Path, task: Any) -> None:
    one, data = task()
    other, _ = task()
    expected = trainer(tmp_path, one, train_dataset=data, per_device_train_batch_size=5, **SGD)
    made = trainer(
        tmp_path, other, train_dataset=data, per_device_train_batch_size=1, gradient_accumulation_steps=5, **SGD
    )
    expected.train()
    made.train()
    same_weights(made.model, expected.model, atol=1e-6)


RESUMED: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulated": {"gradient_accumulation_steps": 2},
    "grouped": {"group_by_length": True},
    "workers": {"dataloader_num_workers": 2},
    "lion": {"optim": "lion_32bit"},
    "bf16": {"bf16": True},
}


def parts(settings: dict[str, Any]) -> dict[str, Any]:
    """A Trainer whose every kind of randomness is on: dropout, order, masks of the collator."""
    return {
        "train_dataset": uneven(18),
        "data_collator": Noisy(),
        "save_strategy": "steps",
        "save_steps": 1,
        "save_total_limit": 0,
        "num_train_epochs": 2,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 2,
        "logging_steps": 2,
        **settings,
    }


class Noisy(Pad):
    """Replaces tokens at random, as masking does."""

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = super().__call__(examples)
        noise = torch.rand(batch["input_ids"].shape) < 0.2
        return {**batch, "input_ids": batch["input_ids"].masked_fill(noise, 3)}


@pytest.mark.parametrize("name", RESUMED)
def test_resuming_ends_with_the_same_weights(tmp_path: Path, name: str) -> None:
    whole = trainer(tmp_path, model(0.2), **parts(RESUMED[name]))
    whole.train()
    steps = [path for path in checkpoints(tmp_path) if path.name.endswith(("-1", "-4", "-5", "-7"))]
    assert len(steps) > 2
    for folder in steps:
        made = trainer(tmp_path / "again", model(0.2), **parts({**RESUMED[name], "save_strategy": "no"}))
        made.train(resume_from_checkpoint=folder)
        same_weights(made.model, whole.model)
        assert losses(made) == losses(whole)
        assert made.state.epoch == whole.state.epoch


def test_workers_change_nothing(tmp_path: Path) -> None:
    none = trainer(tmp_path, model(0.2), **parts({"save_strategy": "no"}))
    two = trainer(tmp_path, model(0.2), **parts({"save_strategy": "no", "dataloader_num_workers": 2}))
    none.train()
    two.train()
    same_weights(two.model, none.model)


def test_resuming_a_stream(tmp_path: Path) -> None:
    class Stream(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter(uneven(18))

    settings = parts({"train_dataset": Stream(), "max_steps": 9, "gradient_accumulation_steps": 2})
    whole = trainer(tmp_path, model(0.2), **settings)
    whole.train()
    for step in (1, 3, 5):
        made = trainer(tmp_path / "again", model(0.2), **{**settings, "save_strategy": "no"})
        made.train(resume_from_checkpoint=tmp_path / f"checkpoint-{step}")
        same_weights(made.model, whole.model)


def test_resuming_keeps_the_best_and_the_patience(tmp_path: Path) -> None:
    def make(folder: Path, **more: Any) -> Any:
        settings = parts(
            {"eval_dataset": uneven(4), "eval_strategy": "epoch", "save_strategy": "epoch", "num_train_epochs": 6}
        )
        return trainer(
            folder,
            model(0.2),
            **{**settings, "metric_for_best_model": "score", "load_best_model_at_end": True, **more},
            callbacks=[EarlyStoppingCallback(3)],
            compute_metrics=lambda prediction: {"score": 1.0},
        )

    whole = make(tmp_path)
    whole.train()
    assert whole.state.epoch == 4
    made = make(tmp_path)
    made.train(resume_from_checkpoint=tmp_path / "checkpoint-10")
    assert made.state.epoch == 4
    assert made.state.best_global_step == 5
    same_weights(made.model, whole.model)


def test_resuming_a_training_that_is_done(tmp_path: Path) -> None:
    whole = trainer(tmp_path, save_strategy="epoch")
    whole.train()
    made = trainer(tmp_path, save_strategy="epoch")
    assert made.train(resume_from_checkpoint=True).global_step == 10
    same_weights(made.model, whole.model)


KILLED = """
import os, signal, sys
from pathlib import Path
from formers.training.callbacks import TrainerCallback
from tests.training.small import model, trainer
from tests.training.test_exactness import parts

folder, moment, step = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])

class Kill(TrainerCallback):
    def on_step_end(self, args, state, control, **given):
        if moment == "step" and state.global_step == step:
            os.kill(os.getpid(), signal.SIGKILL)

if moment == "save":
    import formers.training.checkpoints as checkpoints
    write = checkpoints.write_json
    def killed(target, value, **options):
        if f"checkpoint-{step}." in str(target):
            os.kill(os.getpid(), signal.SIGKILL)
        return write(target, value, **options)
    checkpoints.write_json = killed

trainer(folder, model(0.2), callbacks=[Kill], **parts({"save_total_limit": None})).train()
"""


@pytest.mark.parametrize(("moment", "step", "left"), [("step", 4, 3), ("save", 6, 5)])
def test_killed_and_resumed(tmp_path: Path, moment: str, step: int, left: int) -> None:
    whole = trainer(tmp_path / "whole", model(0.2), **parts({"save_strategy": "no"}))
    whole.train()
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    run = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "run"), moment, str(step)], env=environment, capture_output=True
    )
    assert run.returncode == -signal.SIGKILL, run.stderr.decode()
    assert [path.name for path in checkpoints(tmp_path / "run")] == [f"checkpoint-{left}"]
    made = trainer(tmp_path / "run", model(0.2), **parts({"save_total_limit": None}))
    made.train(resume_from_checkpoint=True)
    same_weights(made.model, whole.model)
    assert losses(made) == losses(whole)
    assert not list((tmp_path / "run").glob(".*.tmp"))


@pytest.mark.parametrize("strategy", ["sequential", "random"])
def test_losses_equal_the_references(tmp_path: Path, strategy: str) -> None:
    """Both shuffle alike for the same seed; the first 20 losses without dropout."""
    pytest.importorskip("accelerate")
    import transformers

    values = {**CONFIG, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    theirs = transformers.BertForSequenceClassification(transformers.BertConfig(**values))
    made = model()
    theirs.save_pretrained(tmp_path / "start")
    made.load_state_dict(type(made).from_pretrained(tmp_path / "start").state_dict())
    settings: dict[str, Any] = {
        "learning_rate": 5e-3,
        "per_device_train_batch_size": 4,
        "max_steps": 20,
        "logging_steps": 1,
        "warmup_steps": 5,
        "weight_decay": 0.1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "train_sampling_strategy": strategy,
    }
    reference = transformers.Trainer(
        theirs, transformers.TrainingArguments(str(tmp_path), **settings), train_dataset=rows()
    )
    reference.train()
    own = trainer(tmp_path, made, **settings)
    own.train()
    expected = [entry for entry in reference.state.log_history if "loss" in entry]
    found = [entry for entry in own.state.log_history if "loss" in entry]
    assert len(found) == 20
    for name in ("loss", "grad_norm", "learning_rate", "epoch"):
        assert [entry[name] for entry in found] == pytest.approx([entry[name] for entry in expected], abs=1e-4), name
    assert arguments(tmp_path).seed == reference.args.seed
