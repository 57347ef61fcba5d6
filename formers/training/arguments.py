"""TrainingArguments: every setting of a training, under the names of both versions of the reference."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from formers.errors import InputError, MissingDependencyError, UnsupportedError
from formers.training.reference import RefusedArguments, RefusedGenerationArguments, check

if TYPE_CHECKING:
    import torch

_STRATEGIES = ("no", "steps", "epoch")
_ORDERS = ("random", "sequential", "group_by_length")
_LOG_LEVELS = ("debug", "info", "warning", "error", "critical", "passive")
_TRACKERS = {"tensorboard"}


@dataclass
class TrainingArguments(RefusedArguments):
    """All settings of a training. What is not described here means what its name says.

    Where the reference's own two versions differ, both spellings are taken. Arguments that formers does not support
    (`formers.training.reference`) are taken at their neutral value and raise UnsupportedError with any other.

    Of its own, formers has `class_weights`: one weight for each class in the loss, or "auto" for weights that balance
    the classes of the training data. Three defaults differ: `report_to` means TensorBoard when that is installed,
    `save_total_limit=None` keeps the best and the last checkpoint (0 keeps all), and callbacks continue where the
    checkpoint left them.
    """

    output_dir: str | None = None
    # Length and batches
    per_device_train_batch_size: int = 8
    num_train_epochs: float = 3.0
    max_steps: int = -1
    gradient_accumulation_steps: int = 1
    # Optimisation
    learning_rate: float = 5e-5
    lr_scheduler_type: str = "linear"
    lr_scheduler_kwargs: dict[str, Any] | str | None = None
    # A number of steps, or below 1 a share of all of them.
    warmup_steps: float = 0
    optim: str = "adamw_torch_fused"
    optim_args: str | Mapping[str, Any] | None = None
    weight_decay: float = 0.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    # The largest norm of the gradient; 0 or None leaves gradients as they are.
    max_grad_norm: float | None = 1.0
    label_smoothing_factor: float = 0.0
    class_weights: str | Sequence[float] | None = None
    # One process: the average over devices is the device's own.
    average_tokens_across_devices: bool = True
    # Speed and memory
    bf16: bool = False
    activation_checkpointing: bool | None = None
    activation_checkpointing_kwargs: dict[str, Any] | str | None = None
    gradient_checkpointing: bool | None = None
    gradient_checkpointing_kwargs: dict[str, Any] | str | None = None
    torch_compile: bool = False
    torch_compile_backend: str | None = None
    torch_compile_mode: str | None = None
    use_cpu: bool = False
    # Logging. Steps below 1 are shares of all steps, here and for evaluation and saving.
    logging_strategy: str = "steps"
    logging_steps: float = 500
    logging_first_step: bool = False
    logging_dir: str | None = None
    log_level: str = "passive"
    disable_tqdm: bool | None = None
    report_to: str | list[str] | None = None
    run_name: str | None = None
    # Counts tokens in state.num_input_tokens_seen: "all", "non_padding" or "no".
    include_num_input_tokens_seen: str | bool = "no"
    include_tokens_per_second: bool = False
    # Evaluation
    eval_strategy: str = "no"
    eval_steps: float | None = None
    eval_delay: float = 0
    per_device_eval_batch_size: int = 8
    prediction_loss_only: bool = False
    eval_on_start: bool = False
    # Predictions go to main memory batch by batch, so any number of batches gives the same.
    eval_accumulation_steps: int | None = None
    include_for_metrics: list[str] = field(default_factory=list)
    batch_eval_metrics: bool = False
    # Saving
    save_strategy: str = "steps"
    save_steps: float = 500
    save_total_limit: int | None = None
    save_only_model: bool = False
    load_best_model_at_end: bool = False
    metric_for_best_model: str | None = None
    greater_is_better: bool | None = None
    resume_from_checkpoint: str | bool | None = None
    restore_callback_states_from_checkpoint: bool = True
    # A folder that exists is always written into; scripts read this.
    overwrite_output_dir: bool = False
    # Randomness
    seed: int = 42
    data_seed: int | None = None
    full_determinism: bool = False
    # Data
    dataloader_drop_last: bool = False
    dataloader_num_workers: int = 0
    dataloader_pin_memory: bool = True
    dataloader_prefetch_factor: int | None = None
    remove_unused_columns: bool = True
    label_names: list[str] | None = None
    train_sampling_strategy: str = "random"
    length_column_name: str = "length"
    # For scripts: the Trainer does what its methods are called for.
    do_train: bool = False
    do_eval: bool = False
    do_predict: bool = False
    # Other spellings of the above
    evaluation_strategy: str | None = field(default=None, repr=False)
    warmup_ratio: float | None = field(default=0.0, repr=False)
    group_by_length: bool = field(default=False, repr=False)
    adafactor: bool = field(default=False, repr=False)
    no_cuda: bool = field(default=False, repr=False)
    per_gpu_train_batch_size: int | None = field(default=None, repr=False)
    per_gpu_eval_batch_size: int | None = field(default=None, repr=False)
    include_inputs_for_metrics: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        """Give every value its one spelling and type, and refuse what contradicts or cannot be done."""
        check(self)
        for item in fields(self):
            value = getattr(self, item.name)
            # Members of the reference's enumerations stand for their values.
            setattr(self, item.name, getattr(value, "value", value))
        self._respell()
        self._complete()
        self._validate()

    def _respell(self) -> None:
        self.eval_strategy = self.evaluation_strategy or self.eval_strategy
        self.evaluation_strategy = None
        if self.warmup_ratio:
            if self.warmup_steps:
                raise InputError(
                    f"warmup_steps={self.warmup_steps} and warmup_ratio={self.warmup_ratio} contradict each other.",
                    "Pass warmup_steps alone; below 1 it is a share of all steps.",
                )
            # A ratio of 1 means all steps, which no number below 1 says.
            self.warmup_steps = min(self.warmup_ratio, math.nextafter(1.0, 0.0))
        self.warmup_ratio = 0.0
        if self.group_by_length:
            self.train_sampling_strategy = "group_by_length"
        if self.adafactor:
            self.optim = "adafactor"
        self.use_cpu = self.use_cpu or self.no_cuda
        self.per_device_train_batch_size = self.per_gpu_train_batch_size or self.per_device_train_batch_size
        self.per_device_eval_batch_size = self.per_gpu_eval_batch_size or self.per_device_eval_batch_size
        if self.include_inputs_for_metrics and "inputs" not in self.include_for_metrics:
            self.include_for_metrics = [*self.include_for_metrics, "inputs"]
        for old, new in (
            ("gradient_checkpointing", "activation_checkpointing"),
            ("gradient_checkpointing_kwargs", "activation_checkpointing_kwargs"),
        ):
            if getattr(self, new) is None:
                setattr(self, new, getattr(self, old))
            setattr(self, old, getattr(self, new))
        self.activation_checkpointing = self.gradient_checkpointing = bool(self.activation_checkpointing)

    def _complete(self) -> None:
        self.output_dir = os.path.expanduser(self.output_dir or "trainer_output")
        self.logging_dir = os.path.expanduser(self.logging_dir or os.path.join(self.output_dir, "runs"))
        self.run_name = self.run_name or os.path.basename(os.path.normpath(self.output_dir))
        for name in ("lr_scheduler_kwargs", "activation_checkpointing_kwargs", "gradient_checkpointing_kwargs"):
            setattr(self, name, _mapping(name, getattr(self, name)))
        if isinstance(self.include_num_input_tokens_seen, bool):
            self.include_num_input_tokens_seen = "all" if self.include_num_input_tokens_seen else "no"
        if self.include_tokens_per_second and self.include_num_input_tokens_seen == "no":
            self.include_num_input_tokens_seen = "all"
        self.torch_compile = self.torch_compile or bool(self.torch_compile_backend or self.torch_compile_mode)
        if self.eval_strategy == "steps" and not self.eval_steps:
            self.eval_steps = self.logging_steps
        self.do_eval = self.do_eval or self.eval_strategy != "no"
        if self.metric_for_best_model is None and (
            self.load_best_model_at_end
            or self.save_strategy == "best"
            or self.lr_scheduler_type == "reduce_lr_on_plateau"
        ):
            self.metric_for_best_model = "loss"
        if self.greater_is_better is None and self.metric_for_best_model is not None:
            self.greater_is_better = not self.metric_for_best_model.endswith("loss")
        self.report_to = _trackers(self.report_to)

    def _validate(self) -> None:
        _one_of("eval_strategy", self.eval_strategy, _STRATEGIES)
        _one_of("logging_strategy", self.logging_strategy, _STRATEGIES)
        _one_of("save_strategy", self.save_strategy, (*_STRATEGIES, "best"))
        _one_of("train_sampling_strategy", self.train_sampling_strategy, _ORDERS)
        _one_of("log_level", self.log_level, _LOG_LEVELS)
        _one_of("include_num_input_tokens_seen", self.include_num_input_tokens_seen, ("all", "non_padding", "no"))
        for name in self.include_for_metrics:
            _one_of("include_for_metrics", name, ("inputs", "loss"))
        for name in ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)}.", "Use a whole number from 1 on.")
        if self.max_steps <= 0 and self.num_train_epochs <= 0:
            raise InputError(
                f"num_train_epochs={self.num_train_epochs} and max_steps={self.max_steps} train nothing.",
                "Set one of them to a positive number.",
            )
        if not 0 <= self.label_smoothing_factor < 1:
            raise InputError(
                f"label_smoothing_factor={self.label_smoothing_factor}.", "Use a number from 0 to below 1."
            )
        if isinstance(self.class_weights, str):
            _one_of("class_weights", self.class_weights, ("auto",))
        for name, strategy in (
            ("logging", self.logging_strategy),
            ("eval", self.eval_strategy),
            ("save", self.save_strategy),
        ):
            if strategy == "steps":
                _whole_or_share(f"{name}_steps", getattr(self, f"{name}_steps"))
        if self.dataloader_prefetch_factor is not None and not self.dataloader_num_workers:
            raise InputError(
                f"dataloader_prefetch_factor={self.dataloader_prefetch_factor} without workers.",
                "Set dataloader_num_workers, or leave it out.",
            )
        self._validate_best_model()

    def _validate_best_model(self) -> None:
        if (self.save_strategy == "best" or self.load_best_model_at_end) and self.eval_strategy == "no":
            wish = 'save_strategy="best"' if self.save_strategy == "best" else "load_best_model_at_end=True"
            raise InputError(
                f'{wish} needs evaluations to find the best model by, and eval_strategy is "no".',
                'Set eval_strategy to "epoch" or "steps".',
            )
        if not self.load_best_model_at_end or self.save_strategy == "best":
            return
        if self.save_strategy != self.eval_strategy:
            raise InputError(
                f"load_best_model_at_end=True with eval_strategy={self.eval_strategy!r} and "
                f"save_strategy={self.save_strategy!r}: the best model might not have been saved.",
                'Give both the same value, or set save_strategy="best".',
            )
        if self.save_strategy == "steps":
            ratio = self.save_steps / float(self.eval_steps or 1)
            mixed = (self.save_steps < 1) != (float(self.eval_steps or 1) < 1)
            if mixed or abs(ratio - round(ratio)) > 1e-9 or round(ratio) < 1:
                raise InputError(
                    f"load_best_model_at_end=True with save_steps={self.save_steps} and eval_steps={self.eval_steps}: "
                    "the best model might not have been saved.",
                    "Make save_steps a multiple of eval_steps.",
                )

    # -- what follows from the settings ---------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the model is trained: a GPU when there is one and `use_cpu` is off."""
        import torch

        if not self.use_cpu and torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        if not self.use_cpu and torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")

    @property
    def train_batch_size(self) -> int:
        """Examples of one forward pass in training."""
        return self.per_device_train_batch_size

    @property
    def eval_batch_size(self) -> int:
        """Examples of one forward pass in evaluation."""
        return self.per_device_eval_batch_size

    @property
    def world_size(self) -> int:
        """How many processes train."""
        return 1

    @property
    def process_index(self) -> int:
        """Which of the processes this one is."""
        return 0

    @property
    def n_gpu(self) -> int:
        """How many GPUs this process uses."""
        return int(self.device.type != "cpu")

    @property
    def should_save(self) -> bool:
        """Whether this process writes files."""
        return True

    @property
    def should_log(self) -> bool:
        """Whether this process logs."""
        return True

    def get_warmup_steps(self, num_training_steps: int) -> int:
        """The number of warm-up steps of a training of `num_training_steps`."""
        return in_steps(self.warmup_steps, num_training_steps)

    def to_dict(self) -> dict[str, Any]:
        """All settings that formers supports, as values that JSON takes."""
        own = {item.name for item in fields(self) if "remedy" not in item.metadata}
        return {name: value for name, value in asdict(self).items() if name in own}

    def to_json_string(self) -> str:
        """The same as JSON."""
        return json.dumps(self.to_dict(), indent=2, default=str)

    def to_sanitized_dict(self) -> dict[str, Any]:
        """The same with numbers and texts only, as trackers take them."""
        values = {**self.to_dict(), "train_batch_size": self.train_batch_size, "eval_batch_size": self.eval_batch_size}
        return {k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in values.items()}


@dataclass
class Seq2SeqTrainingArguments(TrainingArguments, RefusedGenerationArguments):
    """TrainingArguments with those of generation during evaluation, which is not supported yet."""


def in_steps(value: float, total: int) -> int:
    """A number of steps, or below 1 a share of `total`, rounded up."""
    return math.ceil(total * value) if value < 1 else int(value)


def _one_of(name: str, value: Any, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise InputError(f"{name}={value!r} is not known.", f"Use one of {', '.join(map(repr, allowed))}.")


def _whole_or_share(name: str, value: float) -> None:
    if value <= 0 or (value > 1 and value != int(value)):
        raise InputError(f"{name}={value}.", "Use a whole number of steps, or a share of all steps below 1.")


def _mapping(name: str, value: Any) -> dict[str, Any] | None:
    if value is None or isinstance(value, Mapping):
        return None if value is None else dict(value)
    try:
        read = json.loads(value)
    except (TypeError, ValueError):
        read = None
    if not isinstance(read, dict):
        raise InputError(f"{name}={value!r} is no mapping.", "Pass a dict, or JSON such as '{\"name\": 1}'.")
    return read


def _trackers(report_to: Any) -> list[str]:
    from importlib.util import find_spec

    installed = find_spec("tensorboard") is not None
    names = report_to if isinstance(report_to, list) else [report_to]
    if names in ([None], ["all"]):
        return ["tensorboard"] if installed else []
    if names in (["none"], []):
        return []
    for name in names:
        if name not in _TRACKERS:
            raise UnsupportedError(
                f"report_to={name!r} is not supported.",
                'Use "tensorboard" or "none"; metrics.jsonl and metrics.csv are always written, and a callback with '
                "on_log can feed any other tracker.",
            )
    if not installed:
        raise MissingDependencyError(
            "report_to=\"tensorboard\" needs the package 'tensorboard'.", "Install it with: pip install tensorboard"
        )
    return list(names)
