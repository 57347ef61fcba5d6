"""`formers train`: fine-tune a model on a file of examples."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from formers.cli import defaults, examples, prepare, settings
from formers.cli.columns import CAUSAL, CLASSIFICATION, MASKED, Plan
from formers.cli.prepare import say
from formers.cli.report import exit_codes
from formers.cli.settings import Run
from formers.cli.tables import TEST, TRAIN, VALIDATION, describe
from formers.errors import InputError
from formers.hub.atomic import write_json
from formers.registry import TASKS

if TYPE_CHECKING:
    import datasets

    from formers.cli.fitting import Stop
    from formers.training.trainer import Trainer

RESULTS = "results.json"
# A run that is continued must have these as it was started.
_FIXED = (
    *("data", "model", "task", "text_column", "pair_column", "label_column", "max_length", "seed"),
    *("max_target_length", "source_prefix", "src_lang", "tgt_lang"),
)


def train(**given: Any) -> None:
    """Train a model on a CSV, TSV, JSONL, Parquet or text file, a folder of splits, or a dataset of the hub.

    Columns and task are detected, and said. Every argument of TrainingArguments is a flag, and a name in run.yaml.
    """
    config, flags = given.pop("config"), {name: value for name, value in given.items() if value is not None}
    chosen: dict[str, Any] = {}
    for name, value in flags.items():
        try:
            chosen[name] = settings.coerced(name, value, "It") if name != "data" else value
        except InputError as error:
            raise typer.BadParameter(str(error), param_hint=f"--{name.replace('_', '-')}") from None
    with exit_codes():
        run, training = settings.split({**(settings.read(config) if config else {}), **chosen})
        for name, hint in (("data", "DATA"), ("model", "--model")):
            if not getattr(run, name):
                raise typer.BadParameter("It is missing.", param_hint=hint)
        folder = _output(run)
        _check_push(run)
        with TemporaryDirectory(prefix="formers-") as cache:
            _train(run, training, folder, Path(cache))


def _train(run: Run, training: dict[str, Any], folder: Path, cache: Path) -> None:
    from formers import AutoConfig
    from formers.cli import fitting

    args = defaults.arguments(run, training, folder)
    seed = args["seed"]
    tables = prepare.read(run)
    if TRAIN not in tables:
        raise InputError(f"The data have no split to train on: {', '.join(tables)}.", "Name one of them train.")
    columns = describe(tables[TRAIN])
    config = AutoConfig.from_pretrained(str(run.model), **prepare.given(revision=run.revision))
    plan = prepare.plan(columns, run, prepare.language_task(config))
    recipe = examples.RECIPES[plan.task]
    flags = prepare.is_flags(columns, plan)
    usable = {name: table for name, table in tables.items() if prepare.labelled(table, plan)}
    names, named = _classes(run, plan, usable, flags, config)
    splits = _splits(usable, run, plan, seed)

    tokenizer = prepare.tokenizer_for(run, plan)
    prefix = prepare.prefix_for(run, plan, config)
    length = run.max_length or examples.longest_input(tokenizer, config)
    declared = examples.declared_names(splits[TRAIN], plan.labels[0]) if len(plan.labels) == 1 else None
    target = defaults.target_length(run)
    how = examples.Examples(
        plan, names, tokenizer, length, declared, flags, run.line_by_line, named, cache, target, prefix
    )
    run = replace(
        run,
        task=plan.task,
        text_column=plan.text,
        pair_column=plan.pair,
        label_column=list(plan.labels) or None,
        max_length=length,
        max_target_length=target if recipe.writes else run.max_target_length,
        source_prefix=prefix or run.source_prefix,
        output_dir=str(folder),
    )
    args = defaults.completed(args, recipe, run)
    checkpoint = _checkpoint(run, folder, args)
    data = {name: how.of(table, name) for name, table in splits.items()}
    if plan.task not in (MASKED, CAUSAL) and (many := examples.cut(data[TRAIN], length)):
        say(f"{many:,} of {len(data[TRAIN]):,} texts of train reach --max-length {length}; what is beyond is cut")
    model = fitting.load(run, recipe, named, seed, tokenizer)
    with fitting.interruptible() as stop:
        trainer = fitting.trainer(run, args, model, how, data, stop)
        folder.mkdir(parents=True, exist_ok=True)
        settings.write(folder, settings.effective(run, {k: v for k, v in args.items() if k != "output_dir"}))
        _fit(trainer, checkpoint, stop, folder)
    _finish(trainer, run, recipe, data, folder)
    print(folder, flush=True)
    _push(run, folder)
    say(f"use it: {usage(plan, recipe, run, tokenizer)}")


def _fit(trainer: Trainer, checkpoint: str | None, stop: Stop, folder: Path) -> None:
    from formers.training.checkpoints import get_last_checkpoint

    try:
        trainer.train(resume_from_checkpoint=checkpoint)
        stopped = stop.wanted and trainer.state.global_step < trainer.state.max_steps
    except KeyboardInterrupt:
        stopped = True
    if stopped:
        last = get_last_checkpoint(folder)
        kept = f"{last} is kept, and --resume continues from it" if last else "there was no checkpoint yet"
        say(f"interrupted; {kept}")
        raise typer.Exit(130)


def _finish(trainer: Trainer, run: Run, recipe: examples.Recipe, data: Mapping[str, Any], folder: Path) -> None:
    """Save the best model, evaluate it, and write the card."""
    if run.lora:
        adapted: Any = trainer.model
        adapted.save_pretrained(folder / "adapter")
        trainer.model = trainer.model_wrapped = adapted.merge_and_unload()
    trainer.save_model(folder)
    metrics = {VALIDATION: _best(trainer) or prepare.numbers(trainer.evaluate(), "eval")}
    if TEST in data:
        metrics[TEST] = prepare.numbers(trainer.evaluate(data[TEST], metric_key_prefix="eval_test"), "eval_test")
    for split, found in metrics.items():
        say("\n".join([f"{split}:", *prepare.lines(found)]))
    write_json(folder / RESULTS, metrics)
    trainer.create_model_card(tasks=recipe.pipeline, finetuned_from=str(run.model))


def _best(trainer: Trainer) -> dict[str, Any] | None:
    """The metrics of the model that was kept: of the best one, or of the last one; None if there was no evaluation."""
    found = [entry for entry in trainer.state.log_history if "eval_loss" in entry]
    best = [entry for entry in found if entry["step"] == trainer.state.best_global_step]
    kept = best if trainer.args.load_best_model_at_end and best else found
    return prepare.numbers(kept[-1], "eval") if kept else None


def usage(plan: Plan, recipe: examples.Recipe, run: Run, tokenizer: Any) -> str:
    """One line that uses the model."""
    model = f"--model {run.output_dir}"
    if recipe.pipeline not in TASKS:
        return f"formers.{recipe.auto}.from_pretrained({str(run.output_dir)!r})"
    if plan.pair is not None:
        file = run.data if Path(str(run.data)).is_file() else "FILE.csv"
        return (
            f"formers run {recipe.pipeline} --input {file} --column {plan.text!r} --pair-column {plan.pair!r} {model}"
        )
    languages = "".join(f" --{end}-lang {name}" for end, name in (("src", run.src_lang), ("tgt", run.tgt_lang)) if name)
    text = f"A {tokenizer.mask_token} of words." if plan.task == MASKED else "A text."
    return f'formers run {recipe.pipeline} "{text}" {model}{languages}'


def _output(run: Run) -> Path:
    """The folder to write to. InputError if it holds files, and neither --overwrite nor --resume was said."""
    name = run.output_dir or f"{Path(str(run.model)).name}-{Path(str(run.data)).stem}"
    folder = Path(name).expanduser()
    if folder.exists() and not folder.is_dir():
        raise InputError(f"The output {str(folder)!r} is a file.", "Name a folder with --output-dir.")
    if folder.is_dir() and any(folder.iterdir()) and not (run.overwrite or run.resume):
        raise InputError(
            f"The folder {str(folder)!r} holds files already.",
            "Name another one with --output-dir, or say --overwrite, or --resume to continue what began there.",
        )
    return folder


def _check_push(run: Run) -> None:
    """What an upload needs is there before the work is done."""
    if run.push is None:
        return
    from huggingface_hub import get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(run.push)
    except HFValidationError as error:
        raise InputError(f"--push {run.push}: {error}", "Use a name such as my-name/my-model.") from None
    if get_token() is None:
        raise InputError("--push needs a token of the hub, and there is none.", "Run `hf auth login`, or set HF_TOKEN.")


def _push(run: Run, folder: Path) -> None:
    if run.push is None:
        return
    from formers.hub.upload import commit_folder, make_repository

    try:
        name = make_repository(run.push, private=run.private)
        done = commit_folder(folder, name, message="Trained with formers", ignore=["checkpoint-*", "runs/*", "*.tmp"])
    except Exception as error:  # of the hub's client, of any class; the model is safe
        raise InputError(
            f"The upload to {run.push} failed: {type(error).__name__}: {error}",
            f"The model is in {folder}; upload it with `hf upload {run.push} {folder}`.",
        ) from error
    say(f"uploaded: {done.commit_url}")


def _classes(
    run: Run, plan: Plan, tables: Mapping[str, datasets.Dataset], flags: bool, config: Any
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The classes as the data and as the model name them; says them."""
    names = examples.class_names(plan, tables, flags)
    known = list(config.id2label.values()) if prepare.models_task(config) == plan.task else []
    names, named = prepare.shown(prepare.ordered(names, known), run.label_names)
    if len(plan.labels) == 1 and named:
        say(f"{len(named)} labels: {', '.join(named[:20])}{', …' if len(named) > 20 else ''}")
    return names, named


def _splits(tables: Mapping[str, datasets.Dataset], run: Run, plan: Plan, seed: int) -> dict[str, datasets.Dataset]:
    """The splits to train on, to evaluate on, and to test on; says what is made of others."""
    if TRAIN not in tables:
        raise InputError("The training data have no labels.", "Name their column with --label-column.")
    splits = {name: tables[name] for name in (TRAIN, VALIDATION, TEST) if name in tables}
    whole = splits[TRAIN]
    if VALIDATION not in splits:
        share = max(1, round(len(whole) * run.validation_share))
        if not 0 < run.validation_share < 1 or share >= len(whole):
            raise InputError(
                f"{len(whole)} examples cannot give a share of {run.validation_share} for validation.",
                "Use a --validation-share between 0 and 1, or give the data a validation split.",
            )
        classes = plan.task == CLASSIFICATION
        strata = whole[plan.labels[0]] if classes else None
        held, rest = examples.draw(whole, share, seed, strata)
        splits[TRAIN], splits[VALIDATION] = whole.select(rest), whole.select(held)
        by = f"; each label in its share (seed {seed})" if classes else f" (seed {seed})"
        say(f"validation: {share:,} of the {len(whole):,} rows, drawn at random{by}")
    for name, count in (
        (TRAIN, run.max_train_samples),
        (VALIDATION, run.max_eval_samples),
        (TEST, run.max_eval_samples),
    ):
        if count is not None and name in splits and count < len(splits[name]):
            strata = splits[name][plan.labels[0]] if plan.task == CLASSIFICATION else None
            splits[name] = splits[name].select(examples.draw(splits[name], count, seed, strata)[0])
            say(f"{name}: {count:,} rows, drawn at random")
    return {name: splits[name] for name in (TRAIN, VALIDATION, TEST) if name in splits}


def _checkpoint(run: Run, folder: Path, args: Mapping[str, Any]) -> str | None:
    """The checkpoint to continue from, None for a new start, which takes away the checkpoints of an old one."""
    import shutil

    from formers.training.checkpoints import checkpoints, get_last_checkpoint

    if run.resume:
        if (folder / settings.RUN_FILE).is_file():
            now, before = settings.effective(run, args), settings.read(str(folder / settings.RUN_FILE))
            for name in _FIXED:
                if before.get(name) != now.get(name):
                    raise InputError(
                        f"The run in {str(folder)!r} was started with {name}={before.get(name)!r}, and this is "
                        f"{now.get(name)!r}.",
                        f"Give the same, or start anew in another folder; formers train --config "
                        f"{folder / settings.RUN_FILE} --resume continues it as it was.",
                    )
        last = get_last_checkpoint(folder)
        say(f"continuing from {last}" if last else f"there is no checkpoint in {folder}: starting anew")
        return last
    for old in checkpoints(folder) if run.overwrite else ():
        shutil.rmtree(old)
    return None


_DATA = inspect.Parameter(
    "data",
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    default=None,
    annotation=Annotated[
        str | None,
        typer.Argument(metavar="DATA", help="A file, a folder with train, validation and test, or a dataset's name."),
    ],
)
_CONFIG = inspect.Parameter(
    "config",
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[
        str | None,
        typer.Option("--config", "-c", help="YAML file of settings; flags win over it.", metavar="FILE"),
    ],
)
# The flags are those of the table of settings; typer reads the signature.
train.__signature__ = settings.signature(data=_DATA, config=_CONFIG)  # type: ignore[attr-defined]
