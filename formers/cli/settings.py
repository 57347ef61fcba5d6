"""The settings of `formers train`: one table of names for flags, for run.yaml and for TrainingArguments."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, fields
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer

from formers.cli.columns import TRAINABLE
from formers.errors import InputError, MissingDependencyError
from formers.hub.atomic import write_text
from formers.training.arguments import TrainingArguments

RUN_FILE = "run.yaml"
# Other names of settings, as flags and in files.
SHORT = {
    "epochs": "num_train_epochs",
    "batch_size": "per_device_train_batch_size",
    "eval_batch_size": "per_device_eval_batch_size",
    "output": "output_dir",
    "text_pair_column": "pair_column",
    "resume_from_checkpoint": "resume",
    "overwrite_output_dir": "overwrite",
    "push_to_hub": "push",
}
_LETTERS = {"model": "-m", "output_dir": "-o", "config": "-c", "per_device_train_batch_size": "-b"}
# What TrainingArguments have that the command has under another name, or settles itself.
_OWN = (
    *("output_dir", "resume_from_checkpoint", "overwrite_output_dir", "disable_tqdm"),
    *("do_train", "do_eval", "do_predict", "batch_eval_metrics", "include_for_metrics", "prediction_loss_only"),
    *("remove_unused_columns", "label_names"),
)


@dataclass
class Run:
    """What is trained on what; how is in TrainingArguments. None: detected, or the usual."""

    data: str | None = None
    model: str | None = None
    revision: str | None = None
    task: str | None = None
    text_column: str | None = None
    pair_column: str | None = None
    label_column: list[str] | None = None
    label_names: list[str] | None = None
    format: str | None = None
    columns: list[str] | None = None
    subset: str | None = None
    max_length: int | None = None
    max_target_length: int | None = None
    source_prefix: str | None = None
    src_lang: str | None = None
    tgt_lang: str | None = None
    num_beams: int | None = None
    line_by_line: bool = False
    mlm_probability: float = 0.15
    validation_share: float = 0.1
    max_train_samples: int | None = None
    max_eval_samples: int | None = None
    early_stopping_patience: int | None = None
    lora: bool = False
    lora_r: int = 8
    lora_alpha: float = 16.0
    lora_dropout: float = 0.05
    lora_target_modules: list[str] | None = None
    output_dir: str | None = None
    overwrite: bool = False
    resume: bool = False
    push: str | None = None
    private: bool | None = None


# What --help says, by panel. Settings that are not here are flags too.
_HELP = {
    "Model": {
        "model": "Model to start from: a name or a folder.",
        "revision": "Branch, tag or commit of the model on the hub.",
    },
    "Data": {
        "task": f"One of {', '.join(TRAINABLE)} (default: detected).",
        "text_column": "Column of the texts, or of lists of words.",
        "pair_column": "Column of the second texts.",
        "label_column": "Column of the labels, or of the texts to write; several columns of 0 or 1: A,B,C.",
        "label_names": "Names of the labels, in their order: A,B,C.",
        "format": "csv, tsv, jsonl, parquet or txt, where no file name says it.",
        "columns": "Names of the columns, for CSV and TSV whose first line has none: A,B,C.",
        "subset": "One of several datasets of a hub repository.",
        "max_length": "Longest input in tokens (default: the model's, at most 512).",
        "max_target_length": "Longest text that is written, in tokens (default: 128).",
        "source_prefix": "What stands before each text that is read (default: what the model wants for the task).",
        "src_lang": "translation: the language of the texts, as en_XX, for models of several.",
        "tgt_lang": "translation: the language that is written.",
        "num_beams": "Beams of the texts that are written in evaluation (default: 1).",
        "line_by_line": "Language modeling: each line or text is an example of its own.",
        "mlm_probability": "fill-mask: share of the tokens that are masked.",
        "validation_share": "Share of the training data to evaluate on, where no split is for it.",
        "max_train_samples": "Train on so many examples, drawn at random.",
        "max_eval_samples": "Evaluate on so many examples, drawn at random.",
    },
    "Training": {
        "num_train_epochs": "Passes over the training data.",
        "max_steps": "Stop after so many steps.",
        "per_device_train_batch_size": "Examples a step.",
        "per_device_eval_batch_size": "Examples a batch in evaluation.",
        "gradient_accumulation_steps": "Batches a step.",
        "learning_rate": "Peak learning rate.",
        "lr_scheduler_type": "linear, cosine, constant, …",
        "warmup_steps": "Steps of rising learning rate; below 1 a share of all.",
        "weight_decay": "Decay of the weights.",
        "label_smoothing_factor": "Share of each label that goes to the other classes.",
        "class_weights": "auto: balance the classes in the loss.",
        "optim": "Optimizer.",
        "bf16": "bfloat16 products.",
        "gradient_checkpointing": "Less memory for more time.",
        "use_cpu": "Leave GPUs alone.",
        "eval_strategy": "When to evaluate: epoch, steps or no.",
        "eval_steps": "Steps between evaluations.",
        "save_strategy": "When to save: epoch, steps, best or no.",
        "save_steps": "Steps between checkpoints.",
        "metric_for_best_model": "Which metric tells the best model.",
        "early_stopping_patience": "Stop after so many evaluations without improvement.",
        "logging_steps": "Steps between logs; below 1 a share of all.",
        "report_to": "tensorboard or none.",
        "seed": "Seed of all random numbers.",
    },
    "LoRA": {
        "lora": "Train low-rank adapters instead of all weights.",
        "lora_r": "Their rank.",
        "lora_alpha": "Their scale, which is divided by the rank.",
        "lora_dropout": "Dropout before them.",
        "lora_target_modules": "Layers that get one: A,B,C, or all-linear.",
    },
    "Output": {
        "output_dir": "Folder for the model and all that belongs to it.",
        "overwrite": "Write into a folder that holds files.",
        "resume": "Continue from the last checkpoint in the output folder.",
        "push": "Upload the model to this repository of the hub at the end.",
        "private": "Make that repository private if it is new.",
    },
}


@cache
def known() -> dict[str, Field[Any]]:
    """Every setting by name: those of a Run first, then those of TrainingArguments."""
    own = {item.name: item for item in fields(Run)}
    # Tokens must not get into files, and the command uploads once, at the end.
    left_out = {*own, *_OWN, *(item.name for item in fields(TrainingArguments) if "hub_" in item.name)}
    return {**own, **{item.name: item for item in fields(TrainingArguments) if item.name not in left_out}}


def signature(**more: inspect.Parameter) -> inspect.Signature:
    """The parameters of a command that has a flag for every setting; `more` come first."""
    shown = {name: (panel, help) for panel, names in _HELP.items() for name, help in names.items()}
    order = [*shown, *(name for name in known() if name not in shown)]
    flags = [_flag(known()[name], *shown.get(name, ("Training", None))) for name in order if name not in more]
    return inspect.Signature([*more.values(), *flags])


def _flag(item: Field[Any], panel: str, help: str | None) -> inspect.Parameter:
    name, kinds = item.name, _kinds(item)
    names = [f"--{_dashed(each)}" for each in (name, *(short for short, long in SHORT.items() if long == name))]
    kind: Any = str | None
    if "bool" in kinds and "str" not in kinds:
        names, kind = [f"{each}/--no-{each[2:]}" for each in names], bool | None
    elif name in _LETTERS:
        names.append(_LETTERS[name])
    option = typer.Option(
        *names,
        help=help,
        hidden=help is None,
        rich_help_panel=panel,
        metavar=None if kind == bool | None else _metavar(kinds),
    )
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option])


def _metavar(kinds: frozenset[str]) -> str:
    if "list" in kinds:
        return "A,B,C"
    return "N" if "int" in kinds else "X" if "float" in kinds else "NAME"


def read(path: str) -> dict[str, Any]:
    """The settings of a YAML file, under their one name and of their kind. InputError names what is wrong in it."""
    yaml = _yaml()
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML: {error}", "Write it as name: value, one setting a line.") from None
    if not isinstance(values, Mapping):
        raise InputError(f"{path} holds no settings.", "Write them as name: value, one a line.")
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = named(str(key), path)
        if name in found:
            raise InputError(f"{path} has {name!r} twice, under two names.", "Keep one of them.")
        if value is not None:
            found[name] = coerced(name, value, f"{path}: {key}")
    return found


def write(folder: Path, settings: Mapping[str, Any]) -> Path:
    """Write settings, those that are set, to the run.yaml of a folder."""
    kept = {name: value for name, value in settings.items() if value is not None}
    return write_text(folder / RUN_FILE, _yaml().safe_dump(kept, sort_keys=False, allow_unicode=True))


def named(key: str, where: str) -> str:
    """The one name of a setting; InputError listing near names if there is no such setting."""
    wanted = key.strip().lstrip("-").replace("-", "_")
    name = SHORT.get(wanted, wanted)
    if name in known():
        return name
    near = get_close_matches(wanted, [*known(), *SHORT], n=3, cutoff=0.6)
    remedy = f"Did you mean {', '.join(near)}?" if near else "formers train --help lists the settings."
    raise InputError(f"{where}: there is no setting {key!r}.", remedy)


def coerced(name: str, value: Any, where: str) -> Any:
    """A value of YAML or of a flag as the kind that its setting has. InputError, naming `where`, if it is none."""
    kinds = _kinds(known()[name])
    if isinstance(value, str):
        value = _read_text(value, kinds)
    elif isinstance(value, bool) and "bool" not in kinds and "str" in kinds:
        value = {True: "yes", False: "no"}[value]  # which YAML takes for words of logic: eval_strategy: no
    elif isinstance(value, int) and not isinstance(value, bool) and "int" not in kinds:
        value = float(value) if "float" in kinds else str(value) if "str" in kinds else value
    elif isinstance(value, float) and "float" not in kinds and "int" in kinds and value == int(value):
        value = int(value)
    fits = {
        "bool": isinstance(value, bool),
        "int": isinstance(value, int) and not isinstance(value, bool),
        "float": isinstance(value, float),
        "str": isinstance(value, str),
        "list": isinstance(value, list),
        "dict": isinstance(value, dict),
    }
    if not any(fits[kind] for kind in kinds):
        words = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "a text"}
        wanted = " or ".join(words.get(kind, f"a {kind}") for kind in sorted(kinds))
        raise InputError(f"{where} is {value!r}.", f"Give {wanted}.")
    if isinstance(value, list) and name in {item.name for item in fields(Run)}:
        if any(isinstance(each, bool) for each in value):
            raise InputError(f"{where} is {value!r}.", "Quote yes, no, true and false: YAML takes them for logic.")
        value = [str(each) for each in value]
    return value


def _read_text(text: str, kinds: frozenset[str]) -> Any:
    """A text as the first of the kinds that it can be: 5e-5 is a number, though YAML takes it for a text."""
    stripped = text.strip()
    if "bool" in kinds and stripped.lower() in ("true", "yes", "on", "false", "no", "off"):
        return stripped.lower() in ("true", "yes", "on")
    for kind, make in (("int", int), ("float", float)):
        if kind in kinds:
            try:
                return make(stripped)
            except ValueError:
                continue
    if "dict" in kinds and "str" not in kinds and stripped.startswith("{"):
        return _yaml().safe_load(stripped)
    if "list" in kinds and "str" not in kinds:
        return [each.strip() for each in stripped.split(",") if each.strip()]
    if "int" in kinds and "str" not in kinds and re.fullmatch(r"\d+(\.0*)?(e\+?\d+)?", stripped, re.IGNORECASE):
        return int(float(stripped))
    return text


@cache
def _kinds_of(annotation: str) -> frozenset[str]:
    flat = re.sub(r"\[[^\[\]]*\]", "", re.sub(r"\[[^\[\]]*\]", "", annotation))
    names = {"Mapping": "dict", "Sequence": "list"}
    return frozenset(names.get(one.strip(), one.strip()) for one in flat.split("|")) - {"None", "Any"}


def _kinds(item: Field[Any]) -> frozenset[str]:
    """The kinds of values that a field is declared with, such as {"int", "str"}."""
    return _kinds_of(item.type if isinstance(item.type, str) else getattr(item.type, "__name__", str(item.type)))


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def split(settings: Mapping[str, Any]) -> tuple[Run, dict[str, Any]]:
    """The settings of the run, and those of TrainingArguments that were given."""
    own = {item.name for item in fields(Run)}
    run = Run(**{name: value for name, value in settings.items() if name in own})
    return run, {name: value for name, value in settings.items() if name not in own}


def effective(run: Run, training: Mapping[str, Any]) -> dict[str, Any]:
    """All settings with which the run can be repeated; how it was started is none of them."""
    left_out = ("overwrite", "resume") if run.lora else ("overwrite", "resume", "lora_")
    kept = {name: value for name, value in asdict(run).items() if not name.startswith(left_out) and value is not False}
    return {**kept, **training}


def _yaml() -> Any:
    try:
        import yaml
    except ImportError:
        raise MissingDependencyError.for_extra("pyyaml", "cli") from None
    return yaml
