"""What watches and steers a training: its state, its switches, and callbacks."""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from os import PathLike
from pathlib import Path
from typing import Any

from formers.errors import InputError
from formers.hub.atomic import write_text
from formers.training.arguments import TrainingArguments, in_steps

logger = logging.getLogger("formers")


@dataclass
class TrainerState:
    """How far a training has come; saved with every checkpoint. `epoch` counts in fractions."""

    epoch: float = 0.0
    global_step: int = 0
    max_steps: int = 0
    logging_steps: int = 500
    eval_steps: int = 500
    save_steps: int = 500
    train_batch_size: int | None = None
    num_train_epochs: int = 0
    num_input_tokens_seen: int = 0
    total_flos: float = 0
    log_history: list[dict[str, Any]] = field(default_factory=list)
    best_metric: float | None = None
    best_global_step: int | None = None
    best_model_checkpoint: str | None = None
    is_local_process_zero: bool = True
    is_world_process_zero: bool = True
    is_hyper_param_search: bool = False
    trial_name: str | None = None
    trial_params: dict[str, Any] | None = None
    # State of the callbacks by class name, see `TrainerCallback.state`.
    stateful_callbacks: dict[str, Any] = field(default_factory=dict)
    # When the training was started anew (seconds since 1970): tells its checkpoints from those of others.
    started: float = 0.0
    # Where in the data the next step starts.
    epochs_done: int = 0
    steps_done: int = 0
    # Sums of the steps' losses: of all steps, and since the last log.
    loss_sum: float = 0.0
    loss_sum_at_log: float = 0.0
    step_at_log: int = 0

    def compute_steps(self, args: TrainingArguments, max_steps: int) -> None:
        """Turn shares of all steps into numbers of steps."""
        for name in ("logging_steps", "eval_steps", "save_steps"):
            value = getattr(args, name)
            if value is not None:
                setattr(self, name, max(1, in_steps(value, max_steps)))

    @property
    def mean_loss(self) -> float:
        """The mean of the steps' losses since the last log."""
        return (self.loss_sum - self.loss_sum_at_log) / max(1, self.global_step - self.step_at_log)

    def note(self, value: float, args: TrainingArguments) -> bool:
        """Keep the value of the best model's metric at this step if it is the best; tells whether it is."""
        better = is_better(value, self.best_metric, args)
        if better:
            self.best_metric, self.best_global_step = float(value), self.global_step
        return better

    def save_to_json(self, json_path: str | PathLike[str]) -> None:
        """Write the state to a JSON file."""
        write_text(json_path, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load_from_json(cls, json_path: str | PathLike[str]) -> TrainerState:
        """Read a state that `save_to_json` wrote; what this version does not know is left out."""
        values = json.loads(Path(json_path).read_text(encoding="utf-8"))
        known = {item.name for item in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})


@dataclass
class TrainerControl:
    """Switches that callbacks set: what the loop does next."""

    should_training_stop: bool = False
    should_epoch_stop: bool = False
    should_save: bool = False
    should_evaluate: bool = False
    should_log: bool = False


class TrainerCallback:
    """Base of callbacks: override what you need, and change `control` or return another one.

    Every event gets, by keyword, `model`, `processing_class`, `optimizer`, `lr_scheduler`, `train_dataloader` and
    `eval_dataloader`; `on_log` also `logs`, `on_evaluate` and `on_predict` also `metrics`.
    """

    def on_init_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """After the Trainer was made."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """Before the first step."""

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """After the last step; the best model is back if it was asked for."""

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """Before an epoch."""

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """After an epoch's last `on_step_end`; what it and this asked for is done after both."""

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """Before the batches of a step."""

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """After each batch of a step but the last, when gradients accumulate."""

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """When gradients are there and clipped, before the optimiser uses them."""

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """After the optimiser, before gradients are cleared."""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """After a step."""

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """After each batch of an evaluation or prediction."""

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """After an evaluation."""

    def on_predict(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """After a prediction."""

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """After a checkpoint was saved."""

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """After values were logged."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of this callback: {"attributes": {name: value that JSON takes}}."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        for name, value in state.get("attributes", {}).items():
            setattr(self, name, value)


class Callbacks:
    """The callbacks of a Trainer, called in order."""

    def __init__(self, callbacks: Iterable[TrainerCallback | type[TrainerCallback]]) -> None:
        self.all: list[TrainerCallback] = []
        for callback in callbacks:
            self.add(callback)

    def add(self, callback: TrainerCallback | type[TrainerCallback]) -> None:
        """Append a callback, given as an object or as a class to make one of."""
        made = callback() if isinstance(callback, type) else callback
        if not isinstance(made, TrainerCallback):
            raise InputError(f"{callback!r} is no callback.", "Derive it from formers.TrainerCallback.")
        self.all.append(made)

    def pop(self, callback: TrainerCallback | type[TrainerCallback]) -> TrainerCallback | None:
        """Take a callback out, the first of its class if a class is given, and return it."""
        for index, one in enumerate(self.all):
            if one is callback or (isinstance(callback, type) and type(one) is callback):
                return self.all.pop(index)
        return None

    def call(
        self, event: str, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> TrainerControl:
        """Call one event of all; returns the control that they leave."""
        for callback in self.all:
            answer = getattr(callback, event)(args, state, control, **given)
            control = answer if isinstance(answer, TrainerControl) else control
        return control

    def states(self) -> dict[str, Any]:
        """What a checkpoint keeps of them."""
        states = {type(callback).__name__: callback.state() for callback in self.all}
        return {name: state for name, state in states.items() if state}

    def restore(self, states: dict[str, Any]) -> None:
        """Continue from `states`."""
        for callback in self.all:
            if type(callback).__name__ in states:
                callback.restore(states[type(callback).__name__])


class DefaultFlowCallback(TrainerCallback):
    """Sets the switches as the strategies of the arguments say."""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """Steps that are due, the last among them."""
        step = state.global_step
        last = step >= state.max_steps
        if (step == 1 and args.logging_first_step) or (
            args.logging_strategy == "steps" and step % state.logging_steps == 0
        ):
            control.should_log = True
        due = step % state.eval_steps == 0 or last
        if args.eval_strategy == "steps" and due and args.eval_delay <= step:
            control.should_evaluate = True
        if args.save_strategy == "steps" and (step % state.save_steps == 0 or last):
            control.should_save = True
        if last:
            control.should_training_stop = True
        return control

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """Ends of epochs."""
        if args.logging_strategy == "epoch":
            control.should_log = True
        if args.eval_strategy == "epoch" and args.eval_delay <= state.epoch:
            control.should_evaluate = True
        if args.save_strategy == "epoch":
            control.should_save = True
        return control


class EarlyStoppingCallback(TrainerCallback):
    """Stops when `metric_for_best_model` has not improved for `early_stopping_patience` evaluations in a row.

    An improvement of `early_stopping_threshold` or less counts as none.
    """

    def __init__(self, early_stopping_patience: int = 1, early_stopping_threshold: float | None = 0.0) -> None:
        self.early_stopping_patience = early_stopping_patience
        self.early_stopping_threshold = early_stopping_threshold or 0.0
        self.early_stopping_patience_counter = 0
        self.best: float | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """Check that there is something to stop by; start counting unless a checkpoint is continued."""
        if args.metric_for_best_model is None or args.eval_strategy == "no":
            raise InputError(
                f"EarlyStoppingCallback has nothing to watch: metric_for_best_model={args.metric_for_best_model!r}, "
                f"eval_strategy={args.eval_strategy!r}.",
                'Set metric_for_best_model (for example "loss") and eval_strategy to "epoch" or "steps".',
            )
        if not args.load_best_model_at_end:
            logger.warning("Early stopping leaves the last weights; load_best_model_at_end=True brings the best back.")
        if state.global_step == 0:
            self.early_stopping_patience_counter, self.best = 0, None

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """Count evaluations without improvement."""
        name = metric_name(args)
        value = kwargs["metrics"].get(name)
        if value is None:  # one of several evaluation sets
            return control
        enough = is_better(value, self.best, args, self.early_stopping_threshold)
        self.early_stopping_patience_counter = 0 if enough else self.early_stopping_patience_counter + 1
        if is_better(value, self.best, args):
            self.best = float(value)
        if self.early_stopping_patience_counter >= self.early_stopping_patience:
            control.should_training_stop = True
        return control

    def state(self) -> dict[str, Any]:
        """The counter and the best value."""
        kept = ("early_stopping_patience_counter", "best")
        return {"attributes": {name: getattr(self, name) for name in kept}}


def metric_name(args: TrainingArguments) -> str:
    """`metric_for_best_model` as evaluations name it."""
    name = args.metric_for_best_model or "loss"
    return name if name.startswith("eval_") else f"eval_{name}"


def metric_value(metrics: Mapping[str, Any], args: TrainingArguments) -> float:
    """The value of `metric_for_best_model` among an evaluation's metrics."""
    name = metric_name(args)
    if name not in metrics:
        raise InputError(
            f"metric_for_best_model={args.metric_for_best_model!r} is not among {', '.join(metrics)}.",
            "Name one of these, or return it from compute_metrics.",
        )
    return float(metrics[name])


def is_better(value: float, best: float | None, args: TrainingArguments, threshold: float = 0.0) -> bool:
    """Whether a metric improves on the best by more than `threshold`; one that is not a number never does."""
    if math.isnan(value):
        return False
    if best is None:
        return True
    gain = value - best if args.greater_is_better else best - value
    return gain > threshold


class ProgressCallback(TrainerCallback):
    """A bar with loss, rate and remaining time, in a terminal or a notebook; logged values above it."""

    def __init__(self, max_str_len: int = 100) -> None:
        self.max_str_len = max_str_len
        self.training: Any = None
        self.prediction: Any = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """Open the bar."""
        self.training = _bar(total=state.max_steps, initial=state.global_step, unit="step")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """Advance it."""
        if self.training is not None:
            self.training.set_postfix(loss=f"{state.mean_loss:.4f}", epoch=f"{state.epoch:.2f}", refresh=False)
            self.training.update(state.global_step - self.training.n)

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """Open or advance the bar of an evaluation."""
        if self.prediction is None:
            try:
                total = len(kwargs["eval_dataloader"])
            except TypeError:  # a stream
                total = None
            self.prediction = _bar(total=total, unit="batch", leave=self.training is None)
        self.prediction.update()

    def _close_prediction(self) -> None:
        if self.prediction is not None:
            self.prediction.close()
            self.prediction = None

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """Close the bar of an evaluation."""
        self._close_prediction()

    def on_predict(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """Close the bar of a prediction."""
        self._close_prediction()

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """Write the values above the bar."""
        if self.training is not None:
            self.training.write(_shown(kwargs["logs"], self.max_str_len))

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """Close the bar."""
        if self.training is not None:
            self.training.close()
            self.training = None


class PrinterCallback(TrainerCallback):
    """Prints what is logged; stands in for the progress bar with `disable_tqdm=True`."""

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """Print the values."""
        sys.stdout.write(_shown(kwargs["logs"], None) + "\n")


def _bar(**options: Any) -> Any:
    from tqdm.auto import tqdm

    make: Callable[..., Any] = tqdm
    return make(dynamic_ncols=True, **options)


def _shown(logs: dict[str, Any], longest: int | None) -> str:
    values = {name: f"{value:.4g}" if isinstance(value, float) else str(value) for name, value in logs.items()}
    short = {n: v if longest is None or len(v) <= longest else f"[{len(v)} characters]" for n, v in values.items()}
    return ", ".join(f"{name} {value}" for name, value in short.items())
