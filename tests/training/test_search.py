"""Searching hyperparameters: trials in their folders, the best of them, and what is refused."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import pytest

from formers.errors import InputError, MissingDependencyError, UnsupportedError
from formers.training.search import default_compute_objective, default_hp_space
from tests.training.small import model, rows, trainer

optuna = pytest.importorskip("optuna")


def make(folder: Path, **given: Any) -> Any:
    return trainer(
        folder, **{"model_init": model, "eval_dataset": rows(8), "max_steps": 4, "eval_strategy": "no", **given}
    )


def rates(trial: Any) -> dict[str, Any]:
    return {"learning_rate": trial.suggest_categorical("learning_rate", [1e-6, 1e-2])}


def grid() -> Any:
    return optuna.samplers.GridSampler({"learning_rate": [1e-6, 1e-2]})


def test_the_best_of_a_grid(tmp_path: Path) -> None:
    made = make(tmp_path, save_strategy="steps")
    args, objectives = made.args, []

    def objective(metrics: dict[str, float]) -> float:
        objectives.append(metrics["eval_loss"])
        return metrics["eval_loss"]

    best = made.hyperparameter_search(rates, objective, n_trials=2, sampler=grid(), study_name="mine", backend="optuna")
    assert best.hyperparameters == {"learning_rate": 1e-2}
    assert best.objective == min(objectives)
    assert len(best.run_summary.trials) == 2
    assert best.run_summary.study_name == "mine"
    assert made.args is args
    for number in range(2):
        folder = tmp_path / f"run-{number}"
        state = json.loads((folder / "checkpoint-4" / "trainer_state.json").read_text())
        assert state["trial_name"] == f"run-{number}"
        assert state["is_hyper_param_search"]
        chosen = json.loads((folder / "checkpoint-4" / "training_args.json").read_text())["learning_rate"]
        assert state["trial_params"] == {"learning_rate": chosen}
        assert (chosen == 1e-2) == (best.run_id == str(number))
    assert not list(tmp_path.glob("checkpoint-*"))


def test_a_trial_reaches_the_model(tmp_path: Path) -> None:
    seen = []

    def fresh(trial: Any) -> Any:
        seen.append(None if trial is None else trial.params["dropout"])
        return model(trial.params["dropout"] if trial else 0.0)

    made = make(tmp_path, model_init=fresh)
    best = made.hyperparameter_search(
        lambda trial: {"dropout": trial.suggest_float("dropout", 0.0, 0.5)}, n_trials=1, hp_name=lambda trial: "first"
    )
    assert seen == [None, best.hyperparameters["dropout"]]
    assert (tmp_path / "first" / "metrics.jsonl").exists()


class After(optuna.pruners.BasePruner):
    """Gives up every trial but the first, at its second evaluation."""

    def prune(self, study: Any, trial: Any) -> bool:
        return trial.number > 0 and len(trial.intermediate_values) == 2


def test_trials_are_given_up(tmp_path: Path) -> None:
    made = make(tmp_path, eval_strategy="steps", eval_steps=1)
    best = made.hyperparameter_search(rates, n_trials=2, pruner=After(), sampler=grid())
    first, second = best.run_summary.trials
    assert list(first.intermediate_values) == [1, 2, 3, 4]
    assert first.value == first.intermediate_values[4]
    assert (second.state.name, list(second.intermediate_values)) == ("PRUNED", [1, 2])
    assert best.run_id == "0"


def test_several_directions(tmp_path: Path) -> None:
    made = make(tmp_path)
    found = made.hyperparameter_search(
        rates,
        lambda metrics: [metrics["eval_loss"], -metrics["eval_loss"]],
        n_trials=2,
        direction=["minimize", "minimize"],
        sampler=grid(),
    )
    assert len(found) == 2
    assert all(len(run.objective) == 2 for run in found)


def test_objectives() -> None:
    speed = {"eval_runtime": 1.0, "eval_samples_per_second": 2.0, "epoch": 3.0}
    assert default_compute_objective({"eval_loss": 0.5, **speed}) == 0.5
    assert default_compute_objective({"eval_loss": 0.5, "eval_f1": 0.25, "eval_accuracy": 0.5, **speed}) == 0.75
    fixed = {"learning_rate": 1e-5, "num_train_epochs": 2, "seed": 3, "per_device_train_batch_size": 8}
    assert default_hp_space(optuna.trial.FixedTrial(fixed)) == fixed


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(tmp_path)
    with pytest.raises(UnsupportedError, match=r"backend='ray' is not supported. Use backend=\"optuna\""):
        made.hyperparameter_search(backend="ray")
    with pytest.raises(UnsupportedError, match=r"n_jobs=2.*storage="):
        made.hyperparameter_search(n_jobs=2)
    with pytest.raises(InputError, match=r"takes no reporter.*pruner"):
        made.hyperparameter_search(reporter=1)
    with pytest.raises(InputError, match="direction='up'"):
        made.hyperparameter_search(direction="up")
    with pytest.raises(InputError, match="no model_init"):
        trainer(tmp_path).hyperparameter_search()
    with pytest.raises(InputError, match="hp_space gave wide, which no argument"):
        made.hyperparameter_search(lambda trial: {"wide": trial.suggest_int("wide", 1, 2)}, n_trials=1)
    with pytest.raises(InputError, match="one number for each direction"):
        made.hyperparameter_search(rates, lambda metrics: [1, 2], n_trials=1)
    real = builtins.__import__

    def absent(name: str, *more: Any) -> Any:
        if name == "optuna":
            raise ImportError(name)
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MissingDependencyError, match=r"'optuna'.*formers\[train\]"):
        made.hyperparameter_search()
