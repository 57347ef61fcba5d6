"""What is made ready, and checked, before a training starts: the model, its labels, and its objective."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from formers.errors import InputError
from formers.training import labels, optimization
from formers.training.arguments import TrainingArguments
from formers.training.losses import Objective, class_weights


def model_of(model: Any, model_init: Callable[..., nn.Module] | None) -> nn.Module:
    """The model that was given, or that `model_init` makes."""
    if model is not None and model_init is not None:
        raise InputError("Both model and model_init were given.", "Pass one of them.")
    if model_init is not None:
        # The reference may hand over a trial of a search; there is none here.
        parameters = inspect.signature(model_init).parameters.values()
        needed = [
            p for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
        model = model_init(*([None] if needed else []))
    if not isinstance(model, nn.Module):
        raise InputError(
            f"model is {'missing' if model is None else f'a {type(model).__name__}'}.",
            "Pass a model, such as AutoModelForSequenceClassification.from_pretrained(name, num_labels=2).",
        )
    return model


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


def check_head(model: nn.Module, own_loss: bool) -> None:
    """Raise for a bare model: it gives no loss."""
    if getattr(model, "head_name", None) == "" and not own_loss:
        raise InputError(
            f"{type(model).__name__} has no head, and so no loss.",
            "Use a model with one, such as AutoModelForSequenceClassification, or pass compute_loss_func.",
        )


def check_data(model: nn.Module, train_dataset: Any, eval_dataset: Any) -> None:
    """Detect the kind of labels, and raise for classes that the model does not have."""
    labels.detect_problem(model, train_dataset)
    several = isinstance(eval_dataset, Mapping)
    sets = {f"eval_dataset[{k!r}]": v for k, v in eval_dataset.items()} if several else {"eval_dataset": eval_dataset}
    for name, dataset in {"train_dataset": train_dataset, **sets}.items():
        labels.check_labels(model, dataset, name)


def check_sample(batch: Mapping[str, Any] | None, names: list[str]) -> None:
    """Raise for a batch without labels."""
    if batch is not None and not any(batch.get(name) is not None for name in names):
        raise InputError(
            f"The training data has no labels: a batch has {', '.join(batch)}, and the model takes "
            f"{' and '.join(names) or 'none'}.",
            "Name the column of labels 'label' or 'labels' (dataset.rename_column), or pass label_names=.",
        )


def make_ready(model: Any, args: TrainingArguments) -> Any:
    """Put the model on the device, in training mode; returns it, or its compiled form."""
    if args.bf16 and args.device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise InputError("bf16=True, and this GPU has no bfloat16.", "Leave bf16 out.")
    model.to(args.device)
    if args.activation_checkpointing:
        if not hasattr(model, "gradient_checkpointing_enable"):
            raise InputError(f"{type(model).__name__} has no gradient checkpointing.", "Leave it out.")
        model.gradient_checkpointing_enable(args.activation_checkpointing_kwargs)
    model.train()
    if not args.torch_compile:
        return model
    return torch.compile(model, backend=args.torch_compile_backend or "inductor", mode=args.torch_compile_mode)


def weights_of(model: Any, args: TrainingArguments, dataset: Any) -> Any:
    """The classes' weights that the arguments ask for, "auto" counted in the dataset."""
    return labels.balanced_weights(model, dataset) if args.class_weights == "auto" else args.class_weights


def objective_of(
    model: Any, args: TrainingArguments, names: list[str], weights: Any, custom: Callable[..., torch.Tensor] | None
) -> Objective:
    """What is minimised, as the arguments say."""
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
