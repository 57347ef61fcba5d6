"""What `formers train` and `formers eval` do alike: find out what the data are for, and say so."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from formers.cli import examples, tables
from formers.cli.columns import (
    CAUSAL,
    CLASSIFICATION,
    MASKED,
    MULTI_LABEL,
    REGRESSION,
    TEXT2TEXT,
    TOKENS,
    WRITTEN,
    Column,
    Plan,
    Wish,
)
from formers.cli.columns import detect as plan_of
from formers.cli.settings import Run
from formers.errors import InputError
from formers.registry import AUTO_CLASSES, FAMILIES

if TYPE_CHECKING:
    import datasets

Tables = Mapping[str, "datasets.Dataset"]
_SHOWN = 8
_WRITERS = AUTO_CLASSES["AutoModelForSeq2SeqLM"]


def say(text: str) -> None:
    """Tell people what happens, without getting into what is piped."""
    print(text, file=sys.stderr, flush=True)


def read(run: Run) -> dict[str, datasets.Dataset]:
    """The splits of a run's data; says their sizes."""
    import datasets

    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    found = tables.load(str(run.data), run.format, run.columns, run.subset)
    say(f"data: {', '.join(f'{len(table):,} rows of {name}' for name, table in found.items())}")
    return found


def plan(columns: Sequence[Column], run: Run, language_task: str, task: str | None = None) -> Plan:
    """What the columns are for, and say so. `task` overrules detection."""
    labels = tuple(run.label_column) if run.label_column else None
    wish = Wish(run.task or task, run.text_column, run.pair_column, labels, language_task)
    found = plan_of(columns, wish)
    texts = found.text if found.pair is None else f"{found.text} and {found.pair}"
    parts = [f"task: {found.task}", f"texts: {texts}"]
    role = "to write" if found.task in WRITTEN else "labels"
    parts += [f"{role}: {', '.join(found.labels)}"] if found.labels else []
    parts += [f"not used: {', '.join(found.unused)}"] if found.unused else []
    say("; ".join(parts))
    return found


def labelled(table: datasets.Dataset, plan: Plan) -> bool:
    """Whether a split has the labels of a plan: test sets often come without, or with -1 for each."""
    for name in plan.labels:
        if name not in table.column_names or table.data.column(name).null_count == len(table):
            return False
        if set(examples.distinct(table, name)) <= {-1}:
            return False
    return True


def is_flags(columns: Sequence[Column], plan: Plan) -> bool:
    """Whether the labels are lists of 0 or 1, one for each class."""
    if plan.task != MULTI_LABEL or len(plan.labels) > 1:
        return False
    column = next(column for column in columns if column.name == plan.labels[0])
    return column.names is None and column.flags and column.even and column.length > 1


def ordered(names: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """The classes as `known` orders them, if it has all of them; else as they are."""
    return tuple(known) if names and set(names) <= set(known) else tuple(names)


def shown(names: Sequence[str], wanted: Sequence[str] | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The classes as the data name them and as the model shall, in one order. `wanted`: what the user named."""
    if wanted is None:
        return tuple(names), tuple(names)
    if set(wanted) == set(names):
        return tuple(wanted), tuple(wanted)
    if len(wanted) != len(names):
        raise InputError(
            f"--label-names has {len(wanted)} names; the data have {len(names)} labels: {_some(names)}.",
            "Name each label once.",
        )
    return tuple(names), tuple(wanted)


def as_the_model(
    plan: Plan, names: Sequence[str], known: Sequence[str], by_place: bool
) -> tuple[Plan, tuple[str, ...]]:
    """The plan and the classes of data in the order of a model's classes; InputError if it does not know them.

    `by_place`: the n-th class of the data is the model's n-th, whatever their names, if they are as many.
    """
    if plan.task not in (CLASSIFICATION, MULTI_LABEL, TOKENS):
        return plan, ()
    if set(names) <= set(known):
        return (replace(plan, labels=tuple(known)) if len(plan.labels) > 1 else plan), tuple(known)
    if by_place and len(names) == len(known):
        return plan, tuple(names)
    if len(plan.labels) == 1 and all(name.isdigit() and int(name) < len(known) for name in names):
        return plan, tuple(map(str, range(len(known))))
    raise InputError(
        f"The data have the labels {_some(names)}; the model knows {_some(known)}.",
        "Name the column of the same labels with --label-column, or evaluate another model.",
    )


def language_task(config: Any) -> str:
    """What texts without labels are for with a model: filling masks if it has that head, else generation.

    For an encoder–decoder they are texts to read and texts to write.
    """
    heads = FAMILIES[config.model_type].heads
    if any(str(name).endswith(_WRITERS) for name in config.architectures or ()):
        return TEXT2TEXT
    causal = any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in config.architectures or ())
    return MASKED if "ForMaskedLM" in heads and not causal else CAUSAL


def models_task(config: Any) -> str | None:
    """The task that a model was trained for, None if its head says nothing."""
    for name in config.architectures or ():
        if name.endswith("ForSequenceClassification"):
            if config.num_labels == 1 or config.problem_type == "regression":
                return REGRESSION
            return MULTI_LABEL if config.problem_type == "multi_label_classification" else CLASSIFICATION
        for ending, task in (("ForTokenClassification", TOKENS), ("ForMaskedLM", MASKED)):
            if name.endswith(ending):
                return task
        if name.endswith(("ForCausalLM", "LMHeadModel")):
            return CAUSAL
        if name.endswith(_WRITERS):
            return TEXT2TEXT
    return None


def tokenizer_for(run: Run, plan: Plan) -> Any:
    """The tokenizer of a run's model, with a token to fill up batches with where the task needs one."""
    from formers import AutoTokenizer

    if plan.task not in WRITTEN and (run.src_lang or run.tgt_lang):
        raise InputError(f"{plan.task} has no languages.", "Leave --src-lang and --tgt-lang out.")
    where = given(revision=run.revision, src_lang=run.src_lang, tgt_lang=run.tgt_lang)
    tokenizer = AutoTokenizer.from_pretrained(str(run.model), **where)
    if tokenizer.pad_token is None and plan.task not in (MASKED, CAUSAL):
        tokenizer.pad_token = tokenizer.eos_token
        say(f"padding: the tokenizer has no token for it, {tokenizer.eos_token!r} serves")
    return tokenizer


def prefix_for(run: Run, plan: Plan, config: Any) -> str:
    """What stands before each text that is read: as the run says, or as the model's pipeline puts it."""
    if plan.task not in WRITTEN or run.source_prefix is not None:
        return run.source_prefix or ""
    said = (getattr(config, "task_specific_params", None) or {}).get(plan.task) or {}
    return str(said.get("prefix") or "")


def write_in(model: Any, language: str, tokenizer: Any) -> None:
    """Let a model of several languages write one of them."""
    number = tokenizer.convert_tokens_to_ids(language)
    if number is None or number == tokenizer.unk_token_id:
        raise InputError(f"The tokenizer has no language {language!r}.", "Name one of its own with --tgt-lang.")
    model.generation_config.forced_bos_token_id = number


def given(**options: Any) -> dict[str, Any]:
    """The options that are set."""
    return {name: value for name, value in options.items() if value is not None}


def numbers(metrics: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Metrics without their prefix and without measurements of speed."""
    kept = {name.removeprefix(prefix + "_"): value for name, value in metrics.items() if name.startswith(prefix + "_")}
    return {name: value for name, value in kept.items() if not re.search(r"runtime|_per_second", name)}


def lines(metrics: Mapping[str, Any]) -> list[str]:
    """Metrics as aligned lines."""
    width = max(map(len, metrics), default=0)
    return [f"  {name:{width}}  {_number(value)}" for name, value in metrics.items()]


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
