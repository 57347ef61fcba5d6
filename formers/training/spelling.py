"""The one spelling of every value of TrainingArguments: other names are moved, and what is left out is filled in."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from formers.errors import InputError
from formers.training import validation

if TYPE_CHECKING:
    from formers.training.arguments import TrainingArguments


def respell(args: TrainingArguments) -> None:
    """Move the values of other names to their one name. InputError where two contradict."""
    args.eval_strategy = args.evaluation_strategy or args.eval_strategy
    args.evaluation_strategy = None
    if args.warmup_ratio:
        if args.warmup_steps:
            raise InputError(
                f"warmup_steps={args.warmup_steps} and warmup_ratio={args.warmup_ratio} contradict each other.",
                "Pass warmup_steps alone; below 1 it is a share of all steps.",
            )
        # A ratio of 1 means all steps, which no number below 1 says.
        args.warmup_steps = min(args.warmup_ratio, math.nextafter(1.0, 0.0))
    args.warmup_ratio = 0.0
    if args.group_by_length:
        args.train_sampling_strategy = "group_by_length"
    if args.adafactor:
        args.optim = "adafactor"
    args.use_cpu = args.use_cpu or args.no_cuda
    args.per_device_train_batch_size = args.per_gpu_train_batch_size or args.per_device_train_batch_size
    args.per_device_eval_batch_size = args.per_gpu_eval_batch_size or args.per_device_eval_batch_size
    if args.include_inputs_for_metrics and "inputs" not in args.include_for_metrics:
        args.include_for_metrics = [*args.include_for_metrics, "inputs"]
    args.hub_token = args.hub_token or args.push_to_hub_token
    name = args.push_to_hub_model_id
    if name is not None and args.hub_model_id is None:
        args.hub_model_id = f"{args.push_to_hub_organization}/{name}" if args.push_to_hub_organization else name
    args.push_to_hub_model_id = args.push_to_hub_organization = args.push_to_hub_token = None
    for old, new in (
        ("gradient_checkpointing", "activation_checkpointing"),
        ("gradient_checkpointing_kwargs", "activation_checkpointing_kwargs"),
    ):
        if getattr(args, new) is None:
            setattr(args, new, getattr(args, old))
        setattr(args, old, getattr(args, new))
    args.activation_checkpointing = args.gradient_checkpointing = bool(args.activation_checkpointing)


def complete(args: TrainingArguments) -> None:
    """Fill in what follows from other settings, and read texts as what they stand for."""
    args.output_dir = os.path.expanduser(args.output_dir or "trainer_output")
    args.logging_dir = os.path.expanduser(args.logging_dir or os.path.join(args.output_dir, "runs"))
    args.run_name = args.run_name or os.path.basename(os.path.normpath(args.output_dir))
    for name in ("lr_scheduler_kwargs", "activation_checkpointing_kwargs", "gradient_checkpointing_kwargs"):
        setattr(args, name, _mapping(name, getattr(args, name)))
    if isinstance(args.include_num_input_tokens_seen, bool):
        args.include_num_input_tokens_seen = "all" if args.include_num_input_tokens_seen else "no"
    if args.include_tokens_per_second and args.include_num_input_tokens_seen == "no":
        args.include_num_input_tokens_seen = "all"
    args.torch_compile = args.torch_compile or bool(args.torch_compile_backend or args.torch_compile_mode)
    if args.eval_strategy == "steps" and not args.eval_steps:
        args.eval_steps = args.logging_steps
    args.do_eval = args.do_eval or args.eval_strategy != "no"
    if args.metric_for_best_model is None and (
        args.load_best_model_at_end or args.save_strategy == "best" or args.lr_scheduler_type == "reduce_lr_on_plateau"
    ):
        args.metric_for_best_model = "loss"
    if args.greater_is_better is None and args.metric_for_best_model is not None:
        args.greater_is_better = not args.metric_for_best_model.endswith("loss")
    args.report_to = validation.trackers(args.report_to)


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
