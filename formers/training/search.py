"""Searching hyperparameters with optuna: one training a trial, each in a folder of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from formers.errors import InputError, MissingDependencyError, UnsupportedError
from formers.training import distributed
from formers.training.preparation import takes_trial
from formers.training.reporting import SPEED

if TYPE_CHECKING:
    from formers.training.trainer import Trainer

Space = Callable[[Any], Mapping[str, Any]]
ComputeObjective = Callable[[dict[str, float]], Any]


class SearchOptions(TypedDict, total=False):
    """Arguments of optuna's `create_study` and `Study.optimize` that a search takes."""

    storage: Any
    sampler: Any
    pruner: Any
    study_name: str | None
    load_if_exists: bool
    timeout: float | None
    n_jobs: int
    gc_after_trial: bool
    catch: type[Exception] | tuple[type[Exception], ...]


_OF_STUDIES = frozenset({"storage", "sampler", "pruner", "study_name", "load_if_exists"})
_OF_OPTIMIZE = frozenset({"timeout", "n_jobs", "gc_after_trial", "catch"})


class BestRun(NamedTuple):
    """The best of a search: its number, objective and hyperparameters; `run_summary` is optuna's study."""

    run_id: str
    objective: float | list[float]
    hyperparameters: dict[str, Any]
    run_summary: Any | None = None


def default_hp_space(trial: Any) -> dict[str, Any]:
    """The learning rate, the number of epochs, the seed and the batch size."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-6, 1e-4, log=True),
        "num_train_epochs": trial.suggest_int("num_train_epochs", 1, 5),
        "seed": trial.suggest_int("seed", 1, 40),
        "per_device_train_batch_size": trial.suggest_categorical("per_device_train_batch_size", [4, 8, 16, 32, 64]),
    }


def default_compute_objective(metrics: dict[str, float]) -> float:
    """The sum of the metrics; the loss where there are no others."""
    own = {name: value for name, value in metrics.items() if name.startswith("eval_") and not name.endswith(SPEED)}
    loss = own.pop("eval_loss", None)
    return float(sum(own.values()) if own or loss is None else loss)


class Search:
    """A search over trainings of one Trainer.

    In several processes the first one searches; the others train what it tells them.
    """

    def __init__(
        self,
        trainer: Trainer,
        hp_space: Space | None,
        compute_objective: ComputeObjective | None,
        direction: str | list[str],
        backend: Any,
        hp_name: Callable[[Any], str] | None,
        options: Mapping[str, Any],
    ) -> None:
        name = getattr(backend, "value", backend) or "optuna"
        if name != "optuna":
            raise UnsupportedError(f"backend={name!r} is not supported.", 'Use backend="optuna".')
        try:
            import optuna
        except ImportError as error:
            raise MissingDependencyError.for_extra("optuna", "train") from error
        if trainer.model_init is None:
            raise InputError(
                "A search makes a new model for each trial, and the Trainer has no model_init.",
                "Pass model_init= (a function that makes the model) in place of model=.",
            )
        if unknown := options.keys() - _OF_STUDIES - _OF_OPTIMIZE:
            raise InputError(
                f"hyperparameter_search takes no {', '.join(sorted(unknown))}.",
                f"It takes {', '.join(sorted(_OF_STUDIES | _OF_OPTIMIZE))} for optuna.",
            )
        if options.get("n_jobs", 1) != 1:
            raise UnsupportedError(
                f"n_jobs={options['n_jobs']} is not supported: a Trainer trains one model at a time.",
                "Start several searches with the same storage= and study_name=, and load_if_exists=True.",
            )
        directions: Any = direction if isinstance(direction, list) else [direction]
        if not directions or any(one not in ("minimize", "maximize") for one in directions):
            raise InputError(f"direction={direction!r}.", 'Use "minimize" or "maximize", or a list of these.')
        self.optuna = optuna
        self.trainer = trainer
        self.hp_space = hp_space or default_hp_space
        self.compute_objective = compute_objective or default_compute_objective
        self.directions = directions
        self.several = isinstance(direction, list)
        self.hp_name = hp_name
        self.options = options

    def run(self, n_trials: int) -> BestRun | list[BestRun]:
        """Train `n_trials` times; the best run, or with several directions all that no other beats in each of them."""
        if distributed.place().rank:
            return self._follow()
        made = self.optuna.create_study(directions=self.directions, **self._own(_OF_STUDIES))
        try:
            made.optimize(self._told, n_trials=n_trials, **self._own(_OF_OPTIMIZE))
        finally:
            distributed.broadcast(None)
        if not made.best_trials:
            raise InputError("No trial of the search was completed.", "Raise n_trials, or use another pruner.")
        best = [BestRun(str(trial.number), self._value(trial.values), trial.params) for trial in made.best_trials]
        distributed.broadcast(best)
        best = [run._replace(run_summary=made) for run in best]
        return best if self.several else best[0]

    def _own(self, names: frozenset[str]) -> dict[str, Any]:
        return {name: value for name, value in self.options.items() if name in names}

    def _value(self, values: list[float]) -> Any:
        return values if self.several else values[0]

    def _follow(self) -> BestRun | list[BestRun]:
        while (told := distributed.broadcast(None)) is not None:
            params, number = told
            try:
                self._train(self.optuna.trial.FixedTrial(params, number))
            except self.optuna.TrialPruned:
                continue
        best: list[BestRun] = distributed.broadcast(None)
        return best if self.several else best[0]

    def _told(self, trial: Any) -> Any:
        """The objective of a trial whose parameters the other processes are told first."""
        if distributed.place().world_size > 1:
            self.hp_space(trial)
            distributed.broadcast((trial.params, trial.number))
        return self._train(trial)

    def _train(self, trial: Any) -> Any:
        trainer, args = self.trainer, self.trainer.args
        found: list[Any] = []

        def report(metrics: dict[str, float], step: int) -> None:
            found.append(self._objective(metrics))
            if self.several or distributed.broadcast(self._goes_on(trial, found[-1], step)):
                return
            raise self.optuna.TrialPruned(f"Stopped at step {step}: other trials were better there.")

        trainer.args, trainer.report = self._arguments(trial), report
        try:
            trainer.train(trial=trial)
            trainer.report = None
            # The last evaluation of the training counts, one after it where there was none.
            return found[-1] if found else self._objective(trainer.evaluate())
        finally:
            trainer.args, trainer.report = args, None

    def _goes_on(self, trial: Any, objective: float, step: int) -> bool:
        if distributed.place().rank:
            return True
        trial.report(objective, step)
        return not trial.should_prune()

    def _objective(self, metrics: dict[str, float]) -> Any:
        value = self.compute_objective(dict(metrics))
        values = list(value) if isinstance(value, tuple | list) else [value]
        if len(values) != len(self.directions):
            raise InputError(
                f"compute_objective gave {value!r} for direction={self.directions}.",
                "Return one number for each direction.",
            )
        return values if self.several else float(values[0])

    def _arguments(self, trial: Any) -> Any:
        """The Trainer's arguments with the trial's values, and a folder of its own."""
        args = self.trainer.args
        values = dict(self.hp_space(trial) or {})
        known = {item.name for item in fields(args)}
        unknown = [name for name in values if name not in known]
        assert self.trainer.model_init is not None
        if unknown and not takes_trial(self.trainer.model_init):
            raise InputError(
                f"hp_space gave {', '.join(unknown)}, which no argument of a training is called.",
                "Use names of TrainingArguments, or let model_init take the trial and read trial.params.",
            )
        name = self.hp_name(trial) if self.hp_name is not None else f"run-{trial.number}"
        folder = Path(str(args.output_dir)) / name
        values = {key: value for key, value in values.items() if key in known}
        logs = os.path.join(str(args.logging_dir), name)
        return replace(args, **values, output_dir=str(folder), logging_dir=logs, run_name=name, push_to_hub=False)
