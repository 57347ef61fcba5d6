"""The model and the Trainer of a run, and how they are interrupted."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from formers.cli import prepare
from formers.cli.defaults import checked
from formers.cli.examples import RECIPES, Examples, Recipe
from formers.cli.prepare import say
from formers.cli.settings import Run
from formers.cli.tables import TRAIN, VALIDATION
from formers.training.callbacks import EarlyStoppingCallback, PrinterCallback, TrainerCallback
from formers.training.seq2seq import Seq2SeqTrainer
from formers.training.trainer import Trainer


class Lines(TrainerCallback):
    """Writes evaluations to stderr where no progress bar does."""

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write one line."""
        found = prepare.numbers(kwargs["metrics"], "eval")
        if args.disable_tqdm and "loss" in found:
            told = ", ".join(f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in found.items())
            say(f"step {state.global_step} of {state.max_steps}: {told}")


class Stop(TrainerCallback):
    """Ends training after the current step, with a checkpoint, once `wanted` is set."""

    wanted = False

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Set the switches."""
        if self.wanted:
            control.should_save = control.should_training_stop = True


@contextmanager
def interruptible() -> Iterator[Stop]:
    """A callback that ends training, with a checkpoint, after the step in which Ctrl-C was pressed.

    A second Ctrl-C interrupts at once.
    """
    stop = Stop()
    before = signal.getsignal(signal.SIGINT)

    def handle(number: int, frame: FrameType | None) -> None:
        stop.wanted = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        say("stopping after this step; Ctrl-C again stops at once")

    signal.signal(signal.SIGINT, handle)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def load(run: Run, recipe: Recipe, names: Sequence[str], seed: int, tokenizer: Any) -> Any:
    """The model with the task's head for classes of these names, and with adapters where the run says so."""
    import formers

    formers.set_seed(seed)
    labels: dict[str, Any] = {}
    if recipe.problem == "regression":
        labels = {"num_labels": 1}
    elif names:
        labels = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    model = getattr(formers, recipe.auto).from_pretrained(
        str(run.model),
        ignore_mismatched_sizes=True,
        **prepare.given(revision=run.revision, problem_type=recipe.problem),
        **labels,
    )
    if run.tgt_lang is not None:
        # Models of several languages are told by the first token which one to write.
        prepare.write_in(model, run.tgt_lang, tokenizer)
    return _adapted(model, run, recipe) if run.lora else model


def _adapted(model: Any, run: Run, recipe: Recipe) -> Any:
    from formers.adapters.config import LoraConfig
    from formers.adapters.model import get_peft_model

    kinds = {
        "AutoModelForSequenceClassification": "SEQ_CLS",
        "AutoModelForTokenClassification": "TOKEN_CLS",
        "AutoModelForCausalLM": "CAUSAL_LM",
        "AutoModelForSeq2SeqLM": "SEQ_2_SEQ_LM",
    }
    targets = run.lora_target_modules
    adapted = get_peft_model(
        model,
        LoraConfig(
            r=run.lora_r,
            lora_alpha=run.lora_alpha,
            lora_dropout=run.lora_dropout,
            target_modules="all-linear" if targets == ["all-linear"] else targets,
            task_type=kinds.get(recipe.auto),
        ),
    )
    trained, total = adapted.get_nb_trainable_parameters()
    say(f"LoRA: {trained:,} of {total:,} parameters are trained")
    return adapted


def trainer(
    run: Run, args: Mapping[str, Any], model: Any, how: Examples, data: Mapping[str, Any], stop: Stop
) -> Trainer:
    """The Trainer of a run on its examples."""
    patience = run.early_stopping_patience
    recipe = RECIPES[how.plan.task]
    kind: Any = Seq2SeqTrainer if recipe.writes else Trainer
    made: Trainer = kind(
        model,
        checked(args, run, recipe),
        how.collator(run.mlm_probability, args["seed"]),
        data[TRAIN],
        data[VALIDATION],
        how.tokenizer,
        compute_metrics=how.metrics(),
        callbacks=[stop, Lines(), *([EarlyStoppingCallback(patience)] if patience is not None else [])],
    )
    made.remove_callback(PrinterCallback)
    return made
