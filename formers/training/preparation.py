"""What is made ready, and checked, before a training starts: the model, its labels, and its objective."""

from __future__ import annotations

import inspect
import logging
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from formers.errors import InputError
from formers.memory import keep_freed_memory
from formers.seed import set_seed
from formers.training import data, distributed, labels, optimization, reference, reporting, validation
from formers.training.arguments import TrainingArguments
from formers.training.callbacks import (
    Callbacks,
    DefaultFlowCallback,
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
    TrainerState,
)
from formers.training.collators import DataCollatorWithPadding, default_data_collator
from formers.training.losses import Objective, class_weights

logger = logging.getLogger("formers")


def begin(args: TrainingArguments) -> None:
    """Check the settings, join the other processes if there are any, and seed the random numbers."""
    reference.check(args)
    validation.validate(args)
    level = args.get_process_log_level()
    if level != "passive":
        logger.setLevel(level.upper())
    distributed.start(args.ddp_backend, args.ddp_timeout, args.device.type == "cuda")
    set_seed(args.seed, args.full_determinism)


def callbacks_of(args: TrainingArguments, own: Sequence[TrainerCallback | type[TrainerCallback]]) -> Callbacks:
    """The caller's callbacks and those that log: these in the first process alone."""
    progress = PrinterCallback if args.disable_tqdm else ProgressCallback
    trackers = [reporting.TensorBoardCallback] if args.report_to else []
    logging_ones = [reporting.MetricsCallback, *trackers, progress] if args.process_index == 0 else []
    return Callbacks([DefaultFlowCallback, *own, *logging_ones])


def collator_of(given: Any, processing_class: Any) -> Callable[[list[Any]], Any]:
    """The collator that was given, or one that pads where there is a tokenizer."""
    if given is not None:
        found: Callable[[list[Any]], Any] = given
        return found
    return DataCollatorWithPadding(processing_class) if hasattr(processing_class, "pad") else default_data_collator


def model_of(model: Any, model_init: Callable[..., nn.Module] | None, trial: Any = None) -> nn.Module:
    """The model that was given, or that `model_init` makes, for a trial of a search if it takes one."""
    if model is not None and model_init is not None:
        raise InputError("Both model and model_init were given.", "Pass one of them.")
    if model_init is not None:
        model = model_init(*([trial] if takes_trial(model_init) else []))
    if not isinstance(model, nn.Module):
        raise InputError(
            f"model is {'missing' if model is None else f'a {type(model).__name__}'}.",
            "Pass a model, such as AutoModelForSequenceClassification.from_pretrained(name, num_labels=2).",
        )
    return model


def takes_trial(model_init: Callable[..., nn.Module]) -> bool:
    """Whether a `model_init` is given the trial of a search, None outside of one: its first argument."""
    parameters = inspect.signature(model_init).parameters.values()
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return any(p.default is p.empty or p.name == "trial" for p in places)


def one_tokenizer(processing_class: Any, tokenizer: Any) -> Any:
    """The value of an argument that has two names."""
    if processing_class is not None and tokenizer is not None and processing_class is not tokenizer:
        raise InputError("Both processing_class and tokenizer were given.", "Pass one: they mean the same.")
    return tokenizer if processing_class is None else processing_class


def check_choices(
    args: TrainingArguments, eval_dataset: Any, model_init: Any, optimizers: tuple[Any, Any], optimizer_class: Any
) -> None:
    """Raise for arguments of the Trainer that contradict each other."""
    if args.eval_strategy != "no" and eval_dataset is None:
        raise InputError(f"eval_strategy={args.eval_strategy!r} without an eval_dataset.", "Pass eval_dataset=.")
    if optimizer_class is not None and any(optimizers):
        raise InputError("Both optimizers and optimizer_cls_and_kwargs were given.", "Pass one of them.")
    if any(optimizers) and model_init is not None:
        raise InputError(
            "optimizers hold the parameters of one model, and model_init makes a new one for each training.",
            "Pass model=, or optimizer_cls_and_kwargs=.",
        )


def check_training(
    model: nn.Module, loader: Any, train_dataset: Any, eval_dataset: Any, own_loss: bool, names: list[str]
) -> None:
    """Raise for a model and data that do not fit, before work starts; detect the kind of labels."""
    if getattr(model, "head_name", None) == "" and not own_loss:
        raise InputError(
            f"{type(model).__name__} has no head, and so no loss.",
            "Use a model with one, such as AutoModelForSequenceClassification, or pass compute_loss_func.",
        )
    labels.detect_problem(model, train_dataset)
    several = isinstance(eval_dataset, Mapping)
    sets = {f"eval_dataset[{k!r}]": v for k, v in eval_dataset.items()} if several else {"eval_dataset": eval_dataset}
    for name, dataset in {"train_dataset": train_dataset, **sets}.items():
        labels.check_labels(model, dataset, name)
    batch = loader.sample() if isinstance(loader, data.Loader) and not own_loss else None
    if batch is not None and not any(batch.get(name) is not None for name in names):
        raise InputError(
            f"The training data has no labels: a batch has {', '.join(batch)}, and the model takes "
            f"{' and '.join(names) or 'none'}.",
            "Name the column of labels 'label' or 'labels' (dataset.rename_column), or pass label_names=.",
        )


def state_of(args: TrainingArguments, max_steps: int, epochs: int, trial: Any) -> TrainerState:
    """The state of a training that begins; of a trial of a search if there is one."""
    return TrainerState(
        max_steps=max_steps,
        num_train_epochs=epochs,
        train_batch_size=args.train_batch_size,
        started=distributed.broadcast(time.time()),
        is_local_process_zero=args.local_process_index == 0,
        is_world_process_zero=args.process_index == 0,
        is_hyper_param_search=trial is not None,
        trial_name=None if trial is None else args.run_name,
        trial_params=None if trial is None else dict(trial.params),
    )


def make_ready(model: Any, args: TrainingArguments) -> Any:
    """Put the model on the device, in training mode, the same in all processes; returns it, or its compiled form."""
    if args.bf16 and args.device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise InputError("bf16=True, and this GPU has no bfloat16.", "Leave bf16 out.")
    model.to(args.device)
    distributed.share_weights(model)
    if args.world_size > 1:
        # Dropout differs from process to process, as it does from example to example.
        set_seed(args.seed + args.process_index, args.full_determinism)
    if args.activation_checkpointing:
        if not hasattr(model, "gradient_checkpointing_enable"):
            raise InputError(f"{type(model).__name__} has no gradient checkpointing.", "Leave it out.")
        model.gradient_checkpointing_enable(args.activation_checkpointing_kwargs)
    arrange(model, args).train()
    if not args.torch_compile:
        return model
    return torch.compile(model, backend=args.torch_compile_backend or "inductor", mode=args.torch_compile_mode)


def arrange(model: Any, args: TrainingArguments) -> Any:
    """Arrange the model's weights and blocks for many tokens, where it can; returns it."""
    if not args.torch_compile and hasattr(model, "for_training"):
        model.for_training()
    return model


def parameters_of(model: Any) -> int:
    """How many parameters a token passes: all but those of embeddings."""
    inner = data.bare(model)
    if hasattr(inner, "num_parameters"):
        return int(inner.num_parameters(exclude_embeddings=True))
    looked_up = {module.weight for module in inner.modules() if isinstance(module, nn.Embedding)}
    return sum(parameter.numel() for parameter in inner.parameters() if parameter not in looked_up)


def numerics(args: TrainingArguments) -> AbstractContextManager[Any]:
    """How forward passes compute: in bfloat16 where the arguments say so."""
    return torch.autocast(args.device.type, torch.bfloat16) if args.bf16 else nullcontext()


@contextmanager
def kernels(args: TrainingArguments) -> Iterator[None]:
    """Compute on a CPU without oneDNN inside, unless it is in bfloat16.

    On x86, fp32 products do not use it; activations do, and it keeps their kernels for each number of tokens that was
    seen: 60 kB each for up to a thousand of them, many more than a step uses, and none is faster than torch's own.
    """
    if args.device.type == "cpu":
        keep_freed_memory()
    if args.device.type != "cpu" or args.bf16 or platform.machine() not in ("x86_64", "AMD64"):
        yield
        return
    with ExitStack() as stack:
        with warnings.catch_warnings():
            # Torch 2.13 also sets what is for Intel's GPUs, and warns that there is none.
            warnings.simplefilter("ignore")
            stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
        yield


def objective_of(
    model: Any,
    args: TrainingArguments,
    names: list[str],
    custom: Callable[..., torch.Tensor] | None,
    dataset: Any = None,
) -> Objective:
    """What is minimised, as the arguments say; weights "auto" are counted in the dataset, when there is one."""
    weights: Any = args.class_weights
    if weights == "auto":
        weights = None if dataset is None else labels.balanced_weights(model, dataset)
    checked = None if weights is None else class_weights(weights, model.config.num_labels)
    return Objective(model, names, args.label_smoothing_factor, checked, custom)


def optimizer_of(
    model: nn.Module, args: TrainingArguments, own: tuple[type[torch.optim.Optimizer], dict[str, Any]] | None
) -> torch.optim.Optimizer:
    """The optimizer of the arguments, or of the caller's own class and options."""
    if own is not None:
        make, options = own
        return make(optimization.parameter_groups(model, args.weight_decay), **options)
    return optimization.make_optimizer(
        model,
        args.optim,
        learning_rate=args.learning_rate,
        weight_decay=args.weight_decay,
        betas=(args.adam_beta1, args.adam_beta2),
        eps=args.adam_epsilon,
        optim_args=args.optim_args,
    )


def scheduler_of(optimizer: torch.optim.Optimizer, args: TrainingArguments, steps: int) -> Any:
    """The schedule of the arguments for a training of `steps`."""
    options: Any = args.lr_scheduler_kwargs
    return optimization.get_scheduler(args.lr_scheduler_type, optimizer, args.get_warmup_steps(steps), steps, options)
