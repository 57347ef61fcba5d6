"""TrainingArguments: every setting of a training, under the names of both versions of the reference."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from formers.training import distributed, spelling, validation
from formers.training.reference import RefusedArguments, check

if TYPE_CHECKING:
    import torch

logger = logging.getLogger("formers")


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
    # Losses are always means over the items of all processes.
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
    # A loss that is not finite stops the training either way.
    logging_nan_inf_filter: bool = True
    logging_dir: str | None = None
    log_level: str = "passive"
    # The level in processes that do not log, see `should_log`.
    log_level_replica: str = "warning"
    log_on_each_node: bool = True
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
    # Several processes. Parameters without a gradient are found and objects gathered whatever the last three say.
    ddp_backend: str | None = None
    ddp_timeout: int = 1800
    ddp_bucket_cap_mb: int | None = None
    save_on_each_node: bool = False
    ddp_find_unused_parameters: bool | None = None
    ddp_static_graph: bool | None = None
    eval_use_gather_object: bool = False
    # The hub: the repository (a name in your account, or owner/name) and what goes there when, see `push_to_hub`.
    push_to_hub: bool = False
    hub_model_id: str | None = None
    hub_strategy: str = "every_save"
    hub_token: str | None = field(default=None, repr=False)
    hub_private_repo: bool | None = None
    hub_always_push: bool = False
    hub_revision: str | None = None
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
    push_to_hub_model_id: str | None = field(default=None, repr=False)
    push_to_hub_organization: str | None = field(default=None, repr=False)
    push_to_hub_token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Give every value its one spelling and type, and refuse what contradicts or cannot be done."""
        self._settle()
        validation.validate(self)

    def _settle(self) -> None:
        check(self)
        for item in fields(self):
            value = getattr(self, item.name)
            # Members of the reference's enumerations stand for their values.
            setattr(self, item.name, getattr(value, "value", value))
        spelling.respell(self)
        spelling.complete(self)

    # -- settings by group ----------------------------------------------------------------------------------------
    # Each method sets all of its group, those left out to the values shown, and returns the arguments.

    def set_training(
        self,
        learning_rate: float = 5e-5,
        batch_size: int = 8,
        weight_decay: float = 0,
        num_epochs: float = 3,
        max_steps: int = -1,
        gradient_accumulation_steps: int = 1,
        seed: int = 42,
        activation_checkpointing: bool = False,
        gradient_checkpointing: bool | None = None,
    ) -> TrainingArguments:
        """Set what a training is made of. `gradient_checkpointing`: another name of `activation_checkpointing`."""
        checkpointing = activation_checkpointing if gradient_checkpointing is None else gradient_checkpointing
        return self._set(
            do_train=True,
            learning_rate=learning_rate,
            per_device_train_batch_size=batch_size,
            weight_decay=weight_decay,
            num_train_epochs=num_epochs,
            max_steps=max_steps,
            gradient_accumulation_steps=gradient_accumulation_steps,
            seed=seed,
            activation_checkpointing=checkpointing,
            gradient_checkpointing=checkpointing,
        )

    def set_evaluate(
        self,
        strategy: str = "no",
        steps: float = 500,
        batch_size: int = 8,
        accumulation_steps: int | None = None,
        delay: float | None = None,
        loss_only: bool = False,
    ) -> TrainingArguments:
        """Set how the model is evaluated while it is trained."""
        return self._set(
            do_eval=getattr(strategy, "value", strategy) != "no",
            eval_strategy=strategy,
            eval_steps=steps,
            per_device_eval_batch_size=batch_size,
            eval_accumulation_steps=accumulation_steps,
            eval_delay=delay or 0,
            prediction_loss_only=loss_only,
        )

    def set_testing(self, batch_size: int = 8, loss_only: bool = False) -> TrainingArguments:
        """Set how predictions are made."""
        return self._set(do_predict=True, per_device_eval_batch_size=batch_size, prediction_loss_only=loss_only)

    def set_save(
        self,
        strategy: str = "steps",
        steps: float = 500,
        total_limit: int | None = None,
        on_each_node: bool = False,
    ) -> TrainingArguments:
        """Set when checkpoints are saved, and how many stay."""
        return self._set(
            save_strategy=strategy, save_steps=steps, save_total_limit=total_limit, save_on_each_node=on_each_node
        )

    def set_logging(
        self,
        strategy: str = "steps",
        steps: float = 500,
        report_to: str | list[str] = "none",
        level: str = "passive",
        first_step: bool = False,
        nan_inf_filter: bool = False,
        on_each_node: bool = False,
        replica_level: str = "passive",
    ) -> TrainingArguments:
        """Set when values are logged, and where to."""
        return self._set(
            logging_strategy=strategy,
            logging_steps=steps,
            report_to=report_to,
            log_level=level,
            logging_first_step=first_step,
            logging_nan_inf_filter=nan_inf_filter,
            log_on_each_node=on_each_node,
            log_level_replica=replica_level,
        )

    def set_push_to_hub(
        self,
        model_id: str,
        strategy: str = "every_save",
        token: str | None = None,
        private_repo: bool | None = None,
        always_push: bool = False,
        revision: str | None = None,
    ) -> TrainingArguments:
        """Set what goes to the hub."""
        return self._set(
            push_to_hub=True,
            hub_model_id=model_id,
            hub_strategy=strategy,
            hub_token=token,
            hub_private_repo=private_repo,
            hub_always_push=always_push,
            hub_revision=revision,
        )

    def set_optimizer(
        self,
        name: str = "adamw_torch",
        learning_rate: float = 5e-5,
        weight_decay: float = 0,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        args: str | Mapping[str, Any] | None = None,
    ) -> TrainingArguments:
        """Set the optimiser. `args`: further arguments of its own, as `optim_args`."""
        return self._set(
            optim=name,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            adam_beta1=beta1,
            adam_beta2=beta2,
            adam_epsilon=epsilon,
            optim_args=args,
        )

    def set_lr_scheduler(
        self,
        name: str = "linear",
        num_epochs: float = 3.0,
        max_steps: int = -1,
        warmup_ratio: float = 0,
        warmup_steps: float = 0,
    ) -> TrainingArguments:
        """Set the schedule of the learning rate, and the length of the training."""
        return self._set(
            lr_scheduler_type=name,
            num_train_epochs=num_epochs,
            max_steps=max_steps,
            warmup_ratio=warmup_ratio,
            warmup_steps=warmup_steps,
        )

    def set_dataloader(
        self,
        train_batch_size: int = 8,
        eval_batch_size: int = 8,
        drop_last: bool = False,
        num_workers: int = 0,
        pin_memory: bool = True,
        persistent_workers: bool = False,
        prefetch_factor: int | None = None,
        multiprocessing_context: str | None = None,
        in_order: bool = True,
        auto_find_batch_size: bool = False,
        ignore_data_skip: bool = False,
        sampler_seed: int | None = None,
    ) -> TrainingArguments:
        """Set how data becomes batches."""
        return self._set(
            per_device_train_batch_size=train_batch_size,
            per_device_eval_batch_size=eval_batch_size,
            dataloader_drop_last=drop_last,
            dataloader_num_workers=num_workers,
            dataloader_pin_memory=pin_memory,
            dataloader_persistent_workers=persistent_workers,
            dataloader_prefetch_factor=prefetch_factor,
            dataloader_multiprocessing_context=multiprocessing_context,
            dataloader_in_order=in_order,
            auto_find_batch_size=auto_find_batch_size,
            ignore_data_skip=ignore_data_skip,
            data_seed=sampler_seed,
        )

    def _set(self, **values: Any) -> TrainingArguments:
        """Set values; what they mean together with others is checked when a Trainer gets them."""
        for name, value in values.items():
            setattr(self, name, value)
        self._settle()
        return self

    # -- what follows from the settings ---------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the model is trained: a GPU when there is one and `use_cpu` is off."""
        import torch

        if not self.use_cpu and torch.cuda.is_available():
            local = distributed.place().local_rank
            return torch.device("cuda", local if self.world_size > 1 else torch.cuda.current_device())
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
        return distributed.place().world_size

    @property
    def process_index(self) -> int:
        """Which of the processes this one is."""
        return distributed.place().rank

    @property
    def local_process_index(self) -> int:
        """Which of this computer's processes this one is."""
        return distributed.place().local_rank

    @property
    def n_gpu(self) -> int:
        """How many GPUs this process uses."""
        return int(self.device.type != "cpu")

    @property
    def should_save(self) -> bool:
        """Whether this process writes files."""
        return (self.local_process_index if self.save_on_each_node else self.process_index) == 0

    @property
    def should_log(self) -> bool:
        """Whether this process logs at `log_level`."""
        return (self.local_process_index if self.log_on_each_node else self.process_index) == 0

    def get_process_log_level(self) -> str:
        """The level of this process's log."""
        return self.log_level if self.should_log else self.log_level_replica

    @contextmanager
    def main_process_first(self, local: bool = True, desc: str = "work") -> Iterator[None]:
        """The block runs in one process (with `local`: one a computer) before the others, which find what it left.

        desc: what the block does, for the log.
        """
        logger.debug("%s: the first process does it before the others.", desc)
        with distributed.in_turn((self.local_process_index if local else self.process_index) == 0):
            yield

    def get_warmup_steps(self, num_training_steps: int) -> int:
        """The number of warm-up steps of a training of `num_training_steps`."""
        return in_steps(self.warmup_steps, num_training_steps)

    def to_dict(self) -> dict[str, Any]:
        """All settings that formers supports, as values that JSON takes; a token is not told."""
        own = {item.name for item in fields(self) if "remedy" not in item.metadata}
        values = {name: value for name, value in asdict(self).items() if name in own}
        return {**values, "hub_token": None if self.hub_token is None else "<hub_token>"}

    def to_json_string(self) -> str:
        """The same as JSON."""
        return json.dumps(self.to_dict(), indent=2, default=str)

    def to_sanitized_dict(self) -> dict[str, Any]:
        """The same with numbers and texts only, as trackers take them."""
        values = {**self.to_dict(), "train_batch_size": self.train_batch_size, "eval_batch_size": self.eval_batch_size}
        return {k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in values.items()}


@dataclass
class Seq2SeqTrainingArguments(TrainingArguments):
    """TrainingArguments with those of generation during evaluation, for the Seq2SeqTrainer."""

    # Groups examples by length, as train_sampling_strategy="group_by_length" does.
    sortish_sampler: bool = False
    predict_with_generate: bool = False
    generation_max_length: int | None = None
    generation_num_beams: int | None = None
    # A GenerationConfig, or the name or folder of a model that has one.
    generation_config: Any = None

    def __post_init__(self) -> None:
        """Give every value its one spelling and type, and refuse what contradicts or cannot be done."""
        if self.sortish_sampler:
            self.train_sampling_strategy = "group_by_length"
        super().__post_init__()


def in_steps(value: float, total: int) -> int:
    """A number of steps, or below 1 a share of `total`, rounded up."""
    return math.ceil(total * value) if value < 1 else int(value)
