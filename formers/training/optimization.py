"""Optimisers by name, with weight decay where it belongs, and learning rate schedules by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from inspect import signature
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from formers.errors import InputError, UnsupportedError
from formers.training.optimizers import Adafactor, AdafactorSchedule, Lion
from formers.training.schedules import (
    SchedulerType,
    get_constant_schedule,
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_cosine_with_hard_restarts_schedule_with_warmup,
    get_cosine_with_min_lr_schedule_with_warmup,
    get_cosine_with_min_lr_schedule_with_warmup_lr_rate,
    get_inverse_sqrt_schedule,
    get_linear_schedule_with_warmup,
    get_polynomial_decay_schedule_with_warmup,
    get_reduce_on_plateau_schedule,
    get_scheduler,
    get_wsd_schedule,
)

__all__ = [
    "Adafactor",
    "AdafactorSchedule",
    "Lion",
    "SchedulerType",
    "decays",
    "get_constant_schedule",
    "get_constant_schedule_with_warmup",
    "get_cosine_schedule_with_warmup",
    "get_cosine_with_hard_restarts_schedule_with_warmup",
    "get_cosine_with_min_lr_schedule_with_warmup",
    "get_cosine_with_min_lr_schedule_with_warmup_lr_rate",
    "get_inverse_sqrt_schedule",
    "get_linear_schedule_with_warmup",
    "get_polynomial_decay_schedule_with_warmup",
    "get_reduce_on_plateau_schedule",
    "get_scheduler",
    "get_wsd_schedule",
    "make_optimizer",
    "optimizer_name",
    "parameter_groups",
]

# The kinds of optimiser, and the names that mean each.
_KINDS: dict[str, tuple[str, ...]] = {
    "adamw": ("adamw", "adamw_torch", "adamw_torch_fused", "adamw_hf"),
    "adafactor": ("adafactor",),
    "lion": ("lion", "lion_32bit"),
    "sgd": ("sgd",),
    "adagrad": ("adagrad",),
    "rmsprop": ("rmsprop",),
}
_UNDECAYED = re.compile(r"bias|layernorm|rmsnorm|(^|\.)norm(\.|$)|_norm(\.|$)")
_NORMS = (nn.LayerNorm, nn.RMSNorm)


def decays(model: nn.Module) -> set[str]:
    """The names of the parameters that weight decay is for: all but those of norms and biases.

    Names are judged as checkpoints have them, so that a model decays here as it does in the reference.
    """
    locate = getattr(model, "place", None)
    norms = {name for name, module in model.named_modules() if isinstance(module, _NORMS)}
    names = [name for name, _ in model.named_parameters()]
    filed = {name: locate(name).key if locate else name for name in names}
    return {n for n in names if n.rpartition(".")[0] not in norms and not _UNDECAYED.search(filed[n].lower())}


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The trainable parameters in two groups: with weight decay, and without."""
    decayed = decays(model)
    groups: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[name not in decayed].append(parameter)
    if not any(groups):
        raise InputError("The model has nothing to train.", "Set requires_grad of some parameters to True.")
    return [{"params": groups[0], "weight_decay": weight_decay}, {"params": groups[1], "weight_decay": 0.0}]


def optimizer_name(name: str) -> str:
    """The kind of optimiser ("adamw", "adafactor", …) that a name of the reference means."""
    value = getattr(name, "value", name)
    for kind, names in _KINDS.items():
        if value in names:
            return kind
    known = ", ".join(repr(names[-1]) for names in _KINDS.values())
    raise UnsupportedError(
        f"There is no optimizer {value!r}.", f"Use one of {known}, or give the Trainer your own as optimizers=(…, …)."
    )


def make_optimizer(
    model: nn.Module,
    name: str = "adamw_torch_fused",
    *,
    learning_rate: float = 5e-5,
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    optim_args: str | Mapping[str, Any] | None = None,
) -> Optimizer:
    """The optimiser of a name over the model's parameters, in the groups of `parameter_groups`.

    `betas` are for AdamW and Lion, `eps` for AdamW. `optim_args`: further arguments of the optimiser, as a mapping or
    as "name=value, name=value". AdamW is torch's fused one under each of its names.
    """
    kind = optimizer_name(name)
    make: type[Optimizer]
    options: dict[str, Any] = {"lr": learning_rate}
    if kind == "adamw":
        make = torch.optim.AdamW
        options |= {"betas": betas, "eps": eps, "fused": True}
    elif kind == "lion":
        make = Lion
        options |= {"betas": betas}
    elif kind == "adafactor":
        make = Adafactor
        options |= {"scale_parameter": False, "relative_step": False}
    else:
        make = {"sgd": torch.optim.SGD, "adagrad": torch.optim.Adagrad, "rmsprop": torch.optim.RMSprop}[kind]
    own = _parsed(optim_args)
    accepted = signature(make).parameters.keys() - {"params", "lr"}
    if unknown := sorted(own.keys() - accepted):
        raise InputError(
            f"The optimizer {kind!r} takes no {', '.join(unknown)}.",
            f"optim_args may give {', '.join(sorted(accepted))}.",
        )
    if own.get("relative_step"):
        options["lr"] = None
    return make(parameter_groups(model, weight_decay), **{**options, **own})


def _parsed(arguments: str | Mapping[str, Any] | None) -> dict[str, Any]:
    if not isinstance(arguments, str):
        return dict(arguments or {})
    parts = [part.strip() for part in _split(arguments) if part.strip()]
    if wrong := [part for part in parts if "=" not in part]:
        raise InputError(f"optim_args holds {wrong[0]!r}.", 'Write it as "name=value, name=value".')
    return {key.strip(): _value(value.strip()) for key, value in (part.split("=", 1) for part in parts)}


def _split(text: str) -> Iterable[str]:
    # Not at commas inside brackets: betas=(0.9, 0.95).
    return re.split(r",(?![^(\[]*[)\]])", text)


def _value(text: str) -> Any:
    words = {"true": True, "yes": True, "false": False, "no": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    if text[:1] in "([" and text[-1:] in ")]":
        return tuple(_value(part.strip()) for part in text[1:-1].split(",") if part.strip())
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    raise InputError(f"optim_args holds the value {text!r}.", "Give numbers, true, false or none.")
