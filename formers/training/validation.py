"""What the values of TrainingArguments may be, each and together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from formers.errors import InputError, MissingDependencyError, UnsupportedError

if TYPE_CHECKING:
    from formers.training.arguments import TrainingArguments

_STRATEGIES = ("no", "steps", "epoch")
_ORDERS = ("random", "sequential", "group_by_length")
_LOG_LEVELS = ("debug", "info", "warning", "error", "critical", "passive")
_PUSHES = ("end", "every_save", "checkpoint", "all_checkpoints")
_TRACKERS = {"tensorboard"}


def validate(args: TrainingArguments) -> None:
    """Raise for values that are none, and for settings that contradict each other."""
    one_of("eval_strategy", args.eval_strategy, _STRATEGIES)
    one_of("logging_strategy", args.logging_strategy, _STRATEGIES)
    one_of("save_strategy", args.save_strategy, (*_STRATEGIES, "best"))
    one_of("train_sampling_strategy", args.train_sampling_strategy, _ORDERS)
    one_of("log_level", args.log_level, _LOG_LEVELS)
    one_of("log_level_replica", args.log_level_replica, _LOG_LEVELS)
    one_of("hub_strategy", args.hub_strategy, _PUSHES)
    one_of("include_num_input_tokens_seen", args.include_num_input_tokens_seen, ("all", "non_padding", "no"))
    for name in args.include_for_metrics:
        one_of("include_for_metrics", name, ("inputs", "loss"))
    for name in ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"):
        if getattr(args, name) < 1:
            raise InputError(f"{name}={getattr(args, name)}.", "Use a whole number from 1 on.")
    if args.max_steps <= 0 and args.num_train_epochs <= 0:
        raise InputError(
            f"num_train_epochs={args.num_train_epochs} and max_steps={args.max_steps} train nothing.",
            "Set one of them to a positive number.",
        )
    if not 0 <= args.label_smoothing_factor < 1:
        raise InputError(f"label_smoothing_factor={args.label_smoothing_factor}.", "Use a number from 0 to below 1.")
    if isinstance(args.class_weights, str):
        one_of("class_weights", args.class_weights, ("auto",))
    for name, strategy in (
        ("logging", args.logging_strategy),
        ("eval", args.eval_strategy),
        ("save", args.save_strategy),
    ):
        if strategy == "steps":
            _whole_or_share(f"{name}_steps", getattr(args, f"{name}_steps"))
    if args.dataloader_prefetch_factor is not None and not args.dataloader_num_workers:
        raise InputError(
            f"dataloader_prefetch_factor={args.dataloader_prefetch_factor} without workers.",
            "Set dataloader_num_workers, or leave it out.",
        )
    _best_model(args)


def _best_model(args: TrainingArguments) -> None:
    if (args.save_strategy == "best" or args.load_best_model_at_end) and args.eval_strategy == "no":
        wish = 'save_strategy="best"' if args.save_strategy == "best" else "load_best_model_at_end=True"
        raise InputError(
            f'{wish} needs evaluations to find the best model by, and eval_strategy is "no".',
            'Set eval_strategy to "epoch" or "steps".',
        )
    if not args.load_best_model_at_end or args.save_strategy == "best":
        return
    if args.save_strategy != args.eval_strategy:
        raise InputError(
            f"load_best_model_at_end=True with eval_strategy={args.eval_strategy!r} and "
            f"save_strategy={args.save_strategy!r}: the best model might not have been saved.",
            'Give both the same value, or set save_strategy="best".',
        )
    if args.save_strategy == "steps":
        ratio = args.save_steps / float(args.eval_steps or 1)
        mixed = (args.save_steps < 1) != (float(args.eval_steps or 1) < 1)
        if mixed or abs(ratio - round(ratio)) > 1e-9 or round(ratio) < 1:
            raise InputError(
                f"load_best_model_at_end=True with save_steps={args.save_steps} and eval_steps={args.eval_steps}: "
                "the best model might not have been saved.",
                "Make save_steps a multiple of eval_steps.",
            )


def one_of(name: str, value: Any, allowed: Sequence[str]) -> None:
    """Raise for a value that is not among the allowed ones."""
    if value not in allowed:
        raise InputError(f"{name}={value!r} is not known.", f"Use one of {', '.join(map(repr, allowed))}.")


def _whole_or_share(name: str, value: float) -> None:
    if value <= 0 or (value > 1 and value != int(value)):
        raise InputError(f"{name}={value}.", "Use a whole number of steps, or a share of all steps below 1.")


def trackers(report_to: Any) -> list[str]:
    """The trackers that `report_to` means; those that are installed where it says nothing."""
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
