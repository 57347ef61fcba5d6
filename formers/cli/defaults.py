"""What a training is set to where nobody says otherwise."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from formers.cli.examples import Recipe
from formers.cli.settings import Run

if TYPE_CHECKING:
    from formers.training.arguments import TrainingArguments

_DEFAULTS: dict[str, Any] = {
    "num_train_epochs": 3.0,
    "per_device_train_batch_size": 16,
    "per_device_eval_batch_size": 64,
    "learning_rate": 5e-5,
    "weight_decay": 0.01,
    "warmup_steps": 0.06,
    "logging_steps": 0.01,
    "seed": 42,
}
_TARGET = 128
# Frozen weights bear, and adapters need, larger steps.
_LORA_RATE = 3e-4
# Spellings of the reference's other version that stand in for a default.
_INSTEAD = {
    "warmup_ratio": "warmup_steps",
    "evaluation_strategy": "eval_strategy",
    "per_gpu_train_batch_size": "per_device_train_batch_size",
    "per_gpu_eval_batch_size": "per_device_eval_batch_size",
}


def arguments(run: Run, training: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The arguments that were given, and the command's own defaults for others."""
    replaced = {_INSTEAD[name] for name in training if name in _INSTEAD}
    defaults = {**_DEFAULTS, **({"learning_rate": _LORA_RATE} if run.lora else {})}
    args = {**{k: v for k, v in defaults.items() if k not in replaced}, **training, "output_dir": str(folder)}
    checked(args, run)
    return args


def completed(args: Mapping[str, Any], recipe: Recipe, run: Run) -> dict[str, Any]:
    """The arguments with the strategies that suit the length of the training, and the metric of the task."""
    made = dict(args)
    evaluation = made.get("eval_strategy") or made.get("evaluation_strategy")
    if evaluation is None:
        whole = made.get("max_steps", -1) <= 0 and float(made["num_train_epochs"]).is_integer()
        by_steps = "eval_steps" in made or "save_steps" in made or not whole
        evaluation = made["eval_strategy"] = "steps" if by_steps else "epoch"
    made.setdefault("save_strategy", "epoch" if evaluation == "no" else evaluation)
    if evaluation == "steps":
        made.setdefault("eval_steps", made.get("save_steps", 0.2))
        made.setdefault("save_steps", made["eval_steps"])
    if evaluation != "no" and made["save_strategy"] in (evaluation, "best"):
        made.setdefault("load_best_model_at_end", True)
        made.setdefault("metric_for_best_model", recipe.best)
    if not made.get("group_by_length"):
        # Blocks of texts are equally long.
        blocks = recipe.problem is None and recipe.best == "loss" and not run.line_by_line
        made.setdefault("train_sampling_strategy", "random" if blocks else "group_by_length")
    checked(made, run, recipe)
    return made


def checked(args: Mapping[str, Any], run: Run, recipe: Recipe | None = None) -> TrainingArguments:
    """The arguments as the Trainer takes them; raises for what contradicts or cannot be done."""
    from formers.training.arguments import Seq2SeqTrainingArguments, TrainingArguments

    # Metrics are counted batch by batch, so that predictions need no memory.
    bars = sys.stderr.isatty() and sys.stdout.isatty()
    fixed: dict[str, Any] = {"batch_eval_metrics": True, "include_for_metrics": ["loss"], "disable_tqdm": not bars}
    if recipe is None or not recipe.writes:
        return TrainingArguments(**args, **fixed)
    return Seq2SeqTrainingArguments(
        **args,
        **fixed,
        predict_with_generate=True,
        # With the decoder's first token.
        generation_max_length=target_length(run) + 1,
        generation_num_beams=run.num_beams or 1,
    )


def target_length(run: Run) -> int:
    """The longest text that is written, in tokens."""
    return run.max_target_length or _TARGET
