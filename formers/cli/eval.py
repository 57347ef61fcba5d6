"""`formers eval`: how good a model is on labelled data."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from formers.cli import defaults, examples, figures, prepare, settings
from formers.cli.columns import CLASSIFICATION, MULTI_LABEL, TOKENS, WRITTEN, Plan
from formers.cli.prepare import say
from formers.cli.report import exit_codes
from formers.cli.settings import Run
from formers.cli.tables import TEST, TRAIN, VALIDATION, describe
from formers.errors import InputError
from formers.hub.atomic import write_json

# What a model's own run.yaml says of texts that are read and written.
_OF_TEXTS = ("max_target_length", "source_prefix", "src_lang", "tgt_lang", "num_beams")


def _data_option(help: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel="Data", **more)


def evaluate(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="A file, a folder with train, validation and test, or a dataset.")
    ],
    model: Annotated[str, typer.Option("--model", "-m", help="Folder or name of the model.")],
    split: Annotated[
        str | None, _data_option("Split to evaluate (default: test, else validation, else the only one).")
    ] = None,
    task: Annotated[str | None, _data_option("The task (default: the model's).")] = None,
    text_column: Annotated[str | None, _data_option("Column of the texts.")] = None,
    pair_column: Annotated[str | None, _data_option("Column of the second texts.")] = None,
    label_column: Annotated[str | None, _data_option("Column of the labels.", metavar="A,B,C")] = None,
    format: Annotated[str | None, _data_option("csv, tsv, jsonl, parquet or txt.")] = None,
    columns: Annotated[
        str | None, _data_option("Names of the columns, where no first line has them.", metavar="A,B,C")
    ] = None,
    subset: Annotated[str | None, _data_option("One of several datasets of a hub repository.")] = None,
    max_length: Annotated[int | None, _data_option("Longest input in tokens.", min=2)] = None,
    max_target_length: Annotated[int | None, _data_option("Longest text that is written, in tokens.", min=2)] = None,
    source_prefix: Annotated[str | None, _data_option("What stands before each text that is read.")] = None,
    src_lang: Annotated[str | None, _data_option("translation: the language of the texts.")] = None,
    tgt_lang: Annotated[str | None, _data_option("translation: the language that is written.")] = None,
    num_beams: Annotated[int | None, _data_option("Beams of the texts that are written.", min=1)] = None,
    line_by_line: Annotated[
        bool | None, _data_option("Language modeling: each text is an example of its own.", "--line-by-line")
    ] = None,
    max_eval_samples: Annotated[int | None, _data_option("So many examples, drawn at random.", min=1)] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of the model on the hub.")] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", "-b", help="Examples a batch.", min=1)] = 64,
    use_cpu: Annotated[bool, typer.Option("--use-cpu", help="Leave GPUs alone.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of what is drawn at random.")] = 42,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Write the metrics to a JSON file.", metavar="FILE")
    ] = None,
    per_class: Annotated[bool, typer.Option("--per-class", help="Show each class too.")] = False,
    plot: Annotated[
        str | None, typer.Option(help="Draw the confusion matrix to a picture (.png, .svg or .pdf).", metavar="FILE")
    ] = None,
) -> None:
    """Evaluate a model on the data that `formers train` takes: a table on a terminal, JSON in a pipe."""
    said = {
        "model": model,
        "revision": revision,
        "data": data,
        "task": task,
        "text_column": text_column,
        "pair_column": pair_column,
        "label_column": _listed(label_column),
        "format": format,
        "columns": _listed(columns),
        "subset": subset,
        "max_length": max_length,
        "max_target_length": max_target_length,
        "source_prefix": source_prefix,
        "src_lang": src_lang,
        "tgt_lang": tgt_lang,
        "num_beams": num_beams,
        "line_by_line": line_by_line,
        "max_eval_samples": max_eval_samples,
    }
    with exit_codes():
        if plot is not None:
            figures.check(plot)
        if output is not None and not Path(output).resolve().parent.is_dir():
            raise InputError(f"The folder of {output!r} does not exist.", "Name a file in a folder that exists.")
        results = _results(Run(**prepare.given(**said)), split, batch_size, use_cpu, seed, drawn=plot is not None)
        if plot is not None:
            say(f"drawn: {figures.confusion(results['confusion'], results['labels'], plot)}")
        _show(results, per_class)
        if output is not None:
            write_json(output, results)


def _results(run: Run, wanted: str | None, batch_size: int, use_cpu: bool, seed: int, drawn: bool) -> dict[str, Any]:
    """Everything about one split as values that JSON takes."""
    import formers
    from formers import AutoConfig
    from formers.training.callbacks import PrinterCallback
    from formers.training.reporting import MetricsCallback
    from formers.training.seq2seq import Seq2SeqTrainer
    from formers.training.trainer import Trainer

    config = AutoConfig.from_pretrained(str(run.model), **prepare.given(revision=run.revision))
    trained = _as_trained(run)
    run = _with(run, trained, ("max_length", "line_by_line", "mlm_probability", *_OF_TEXTS))
    if trained.get("data", run.data) == run.data:
        run = _with(run, trained, ("format", "columns", "subset"))
    tables = prepare.read(run)
    name = _split(tables, wanted)
    table = tables[name]
    columns = describe(table)
    chosen = ("text_column", "pair_column", "label_column")
    used = [trained.get("text_column"), trained.get("pair_column"), *(trained.get("label_column") or ())]
    if {*filter(None, used)} <= {*table.column_names}:
        run = _with(run, trained, chosen)
    task = trained.get("task") if trained.get("task") in WRITTEN else prepare.models_task(config)
    plan = prepare.plan(columns, run, prepare.language_task(config), task)
    flags = prepare.is_flags(columns, plan)
    if drawn and plan.task != CLASSIFICATION:
        raise InputError(f"{plan.task} has no confusion matrix.", "Leave --plot out.")
    if not prepare.labelled(table, plan):
        raise InputError(f"{name} has no labels.", "Evaluate another --split.")
    known = tuple(config.id2label.values())
    by_place = flags or trained.get("label_names") == list(known)
    plan, names = prepare.as_the_model(plan, examples.class_names(plan, {name: table}, flags), known, by_place)
    if run.max_eval_samples is not None and run.max_eval_samples < len(table):
        strata = table[plan.labels[0]] if plan.task == CLASSIFICATION else None
        table = table.select(examples.draw(table, run.max_eval_samples, seed, strata)[0])
        say(f"{name}: {len(table):,} rows, drawn at random")
    tokenizer = prepare.tokenizer_for(run, plan)
    length = run.max_length or examples.longest_input(tokenizer, config)
    declared = examples.declared_names(table, plan.labels[0]) if len(plan.labels) == 1 else None
    recipe = examples.RECIPES[plan.task]
    with TemporaryDirectory(prefix="formers-") as folder:
        how = examples.Examples(
            plan,
            names,
            tokenizer,
            length,
            declared,
            flags,
            run.line_by_line,
            known,
            Path(folder),
            defaults.target_length(run),
            prepare.prefix_for(run, plan, config),
        )
        model = getattr(formers, recipe.auto).from_pretrained(str(run.model), **prepare.given(revision=run.revision))
        if run.tgt_lang is not None:
            prepare.write_in(model, run.tgt_lang, tokenizer)
        said = {"output_dir": folder, "per_device_eval_batch_size": batch_size, "use_cpu": use_cpu, "seed": seed}
        args = defaults.checked({**said, "report_to": "none"}, run, recipe)
        metrics = how.metrics()
        kind: Any = Seq2SeqTrainer if recipe.writes else Trainer
        trainer: Trainer = kind(
            model,
            args,
            how.collator(run.mlm_probability, seed),
            processing_class=tokenizer,
            compute_metrics=metrics,
        )
        for callback in (MetricsCallback, PrinterCallback):
            trainer.remove_callback(callback)
        found = trainer.evaluate(how.of(table, name))
    counted: Any = metrics.counters[0]
    results = {"model": str(run.model), "data": str(run.data), "split": name, "task": plan.task, "rows": len(table)}
    return {
        **results,
        "metrics": prepare.numbers(found, "eval"),
        "samples_per_second": found["eval_samples_per_second"],
        **_by_class(counted, plan, known),
    }


def _by_class(counted: Any, plan: Plan, known: Sequence[str]) -> dict[str, Any]:
    """The table of classes and the confusion matrix, of tasks that have them."""
    if plan.task not in (CLASSIFICATION, MULTI_LABEL, TOKENS):
        return {}
    labels = list(getattr(counted, "types", known))
    matrix = getattr(counted, "matrix", None)
    found: dict[str, Any] = {"labels": labels, "per_class": dict(zip(labels, counted.table(), strict=True))}
    return found if matrix is None else {**found, "confusion": matrix.tolist()}


def _as_trained(run: Run) -> dict[str, Any]:
    """What the model's own run.yaml says of the data, where the command says nothing."""
    file = Path(str(run.model)) / settings.RUN_FILE
    before = settings.read(str(file)) if file.is_file() else {}
    plain = Run()
    return {name: value for name, value in before.items() if getattr(run, name, 0) == getattr(plain, name, 1)}


def _with(run: Run, trained: Mapping[str, Any], names: Sequence[str]) -> Run:
    return replace(run, **{name: trained[name] for name in names if name in trained})


def _split(tables: Mapping[str, Any], wanted: str | None) -> str:
    if wanted is not None and wanted not in tables:
        raise InputError(f"There is no split {wanted!r}.", f"The data have {', '.join(tables)}.")
    return wanted or next((name for name in (TEST, VALIDATION, TRAIN) if name in tables), next(iter(tables)))


def _show(results: Mapping[str, Any], per_class: bool) -> None:
    if not _is_terminal():
        print(json.dumps(results, ensure_ascii=False))
        return
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in results["metrics"].items():
        table.add_row(name, f"{value:.4f}" if isinstance(value, float) else str(value))
    console.print(table)
    if per_class and "per_class" in results:
        table = Table(box=None, pad_edge=False)
        for heading in ("label", "precision", "recall", "f1", "support"):
            table.add_column(heading, justify="left" if heading == "label" else "right")
        for label, row in results["per_class"].items():
            table.add_row(label, *(f"{row[name]:.4f}" for name in ("precision", "recall", "f1")), f"{row['support']:,}")
        console.print(table)


def _is_terminal() -> bool:
    return sys.stdout.isatty()


def _listed(value: str | None) -> list[str] | None:
    return None if value is None else [each.strip() for each in value.split(",") if each.strip()]
