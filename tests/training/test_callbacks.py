"""Callbacks: events and their order, switches, early stopping, progress."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from formers.errors import InputError
from formers.training.callbacks import (
    Callbacks,
    DefaultFlowCallback,
    EarlyStoppingCallback,
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    is_better,
)
from tests.training.small import arguments, losses, rows, trainer

EVENTS = [name for name in vars(TrainerCallback) if name.startswith("on_")]


class Recorder(TrainerCallback):
    """Notes the events that it gets."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("on_"):
            return lambda args, state, control, **given: self.events.append(name[3:])
        return super().__getattribute__(name)


def test_the_reference_has_the_same_events() -> None:
    from transformers import TrainerCallback as Reference

    theirs = [name for name in vars(Reference) if name.startswith("on_")]
    assert set(EVENTS) == set(theirs) - {"on_push_begin"}


def test_events_come_in_order(tmp_path: Path) -> None:
    recorder = Recorder()
    trainer(
        tmp_path,
        train_dataset=rows(12),
        eval_dataset=rows(4),
        callbacks=[recorder],
        num_train_epochs=1,
        gradient_accumulation_steps=2,
        eval_strategy="epoch",
        save_strategy="epoch",
    ).train()
    step = ["step_begin", "substep_end", "pre_optimizer_step", "optimizer_step", "step_end", "log"]
    last = ["step_begin", "pre_optimizer_step", "optimizer_step", "step_end", "epoch_end", "log"]
    evaluation = ["prediction_step", "log", "evaluate"]
    end = ["save", "log", "train_end"]
    assert recorder.events == ["init_end", "train_begin", "epoch_begin", *step, *last, *evaluation, *end]


def test_callbacks_get_the_parts_of_the_training(tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    class Look(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            seen.update(given)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **given: Any) -> None:
            seen["logs"] = logs

    made = trainer(tmp_path, callbacks=[Look], max_steps=1)
    made.train()
    assert seen["model"] is made.model
    assert seen["optimizer"] is made.optimizer
    assert len(seen["train_dataloader"]) == 5
    assert "train_loss" in seen["logs"]


def test_switches_stop_an_epoch_or_the_training(tmp_path: Path) -> None:
    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **given: Any) -> TrainerControl:
            control.should_epoch_stop = state.global_step == 2
            control.should_training_stop = state.global_step == 5
            return control

    made = trainer(tmp_path, callbacks=[Stop()], num_train_epochs=3)
    assert made.train().global_step == 5
    # Two steps of the first epoch, three of the second.
    assert (made.state.epochs_done, made.state.steps_done) == (1, 3)


def test_a_callback_may_return_another_control(tmp_path: Path) -> None:
    class Replace(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> TrainerControl:
            return TrainerControl(should_training_stop=True)

    assert trainer(tmp_path, callbacks=[Replace()]).train().global_step == 1


def test_adding_and_removing(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    recorder = Recorder()
    made.add_callback(recorder)
    assert made.pop_callback(Recorder) is recorder
    assert made.pop_callback(recorder) is None
    made.add_callback(Recorder)
    made.remove_callback(Recorder)
    assert not any(isinstance(one, Recorder) for one in made.callbacks.all)
    with pytest.raises(InputError, match="no callback"):
        made.add_callback(print)  # type: ignore[arg-type]


def flow(event: str, step: int, **settings: Any) -> TrainerControl:
    args = arguments(Path("out"), **{"save_strategy": "steps", **settings})
    state = TrainerState(global_step=step, max_steps=10, epoch=step / 5)
    state.compute_steps(args, 10)
    control: TrainerControl = getattr(DefaultFlowCallback(), event)(args, state, TrainerControl())
    return control


def test_default_flow() -> None:
    assert flow("on_step_end", 4, logging_steps=2).should_log
    assert not flow("on_step_end", 5, logging_steps=2).should_log
    assert flow("on_step_end", 1, logging_steps=500, logging_first_step=True).should_log
    # A share of the ten steps.
    assert flow("on_step_end", 3, save_steps=0.25).should_save
    assert not flow("on_step_end", 2, save_steps=0.25).should_save
    assert flow("on_step_end", 10, save_steps=500).should_save
    assert flow("on_step_end", 10, save_steps=500).should_training_stop
    assert flow("on_step_end", 4, eval_strategy="steps", eval_steps=2).should_evaluate
    assert not flow("on_step_end", 4, eval_strategy="steps", eval_steps=2, eval_delay=5).should_evaluate
    assert flow("on_epoch_end", 5, eval_strategy="epoch", save_strategy="epoch").should_save
    assert not flow("on_epoch_end", 5, eval_strategy="epoch", eval_delay=2).should_evaluate
    assert flow("on_epoch_end", 5, logging_strategy="epoch").should_log


@pytest.mark.parametrize("threshold", [0.0, 0.15])
@pytest.mark.parametrize("values", [[0.5, 0.6, 0.55, 0.7, 0.1], [0.5, 0.5, 0.5], [0.9, 0.8, 0.7], [0.1, 0.2, 0.3, 0.4]])
def test_early_stopping_counts_as_the_reference_does(values: list[float], threshold: float) -> None:
    from transformers import EarlyStoppingCallback as Reference

    args = arguments(Path("out"), eval_strategy="epoch", metric_for_best_model="accuracy")
    own, theirs = EarlyStoppingCallback(2, threshold), Reference(2, threshold)
    state = TrainerState()
    for value in values:
        control, expected = TrainerControl(), TrainerControl()
        metrics = {"eval_accuracy": value}
        own.on_evaluate(args, state, control, metrics=metrics)
        theirs.on_evaluate(args, state, expected, metrics)
        state.note(value, args)
        assert own.early_stopping_patience_counter == theirs.early_stopping_patience_counter
        assert control == expected


def test_early_stopping_ends_a_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = trainer(
        tmp_path,
        eval_dataset=rows(4),
        callbacks=[EarlyStoppingCallback(2)],
        compute_metrics=lambda prediction: {"score": 1.0},
        metric_for_best_model="score",
        eval_strategy="epoch",
        num_train_epochs=9,
    )
    with caplog.at_level(logging.WARNING, "formers"):
        made.train()
    assert made.state.epoch == 3
    assert "load_best_model_at_end" in caplog.text


def test_early_stopping_needs_a_metric(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="eval_strategy='no'"):
        trainer(tmp_path, callbacks=[EarlyStoppingCallback()]).train()


def test_better() -> None:
    args = arguments(Path("out"), metric_for_best_model="loss")
    assert is_better(0.1, 0.2, args)
    assert not is_better(float("nan"), 0.2, args)
    assert is_better(0.1, None, args)


def test_states_of_callbacks() -> None:
    first = EarlyStoppingCallback()
    first.early_stopping_patience_counter, first.best = 3, 0.5
    second = EarlyStoppingCallback()
    Callbacks([second, Recorder()]).restore(Callbacks([first, Recorder()]).states())
    assert (second.early_stopping_patience_counter, second.best) == (3, 0.5)


def test_state_as_json(tmp_path: Path) -> None:
    state = TrainerState(epoch=1.5, global_step=3, log_history=[{"loss": 0.1, "step": 3}], best_metric=0.1)
    state.save_to_json(tmp_path / "state.json")
    assert TrainerState.load_from_json(tmp_path / "state.json") == state


def test_the_bar_shows_loss_and_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = trainer(tmp_path, disable_tqdm=False, eval_dataset=rows(4), eval_strategy="epoch")
    made.train()
    made.predict(rows(4))
    shown = capsys.readouterr()
    assert "10/10" in shown.err
    assert "loss=" in shown.err
    assert f"{losses(made)[-1]:.4g}" in shown.out + shown.err
    bar = next(one for one in made.callbacks.all if isinstance(one, ProgressCallback))
    assert bar.training is None
    assert bar.prediction is None


def test_without_the_bar_values_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = trainer(tmp_path, disable_tqdm=True)
    made.train()
    shown = capsys.readouterr()
    assert any(isinstance(one, PrinterCallback) for one in made.callbacks.all)
    assert shown.err == ""
    assert f"loss {losses(made)[0]:.4g}" in shown.out
