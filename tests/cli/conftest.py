"""A pipeline that computes nothing, and a tiny real model."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import formers
from formers.cli.app import app

ROOT = Path(__file__).parents[2]


class FakePipeline:
    """Stands in for `formers.pipeline`: keeps what it was called with, answers with `answer`, one input at a time."""

    def __init__(self) -> None:
        self.task = ""
        self.loading: dict[str, Any] = {}
        self.options: dict[str, Any] = {}
        self.inputs: list[Any] = []
        self.answer: Callable[[Any], Any] = lambda text: {
            "label": "EVEN" if len(text) % 2 == 0 else "ODD",
            "score": 0.5,
        }

    def load(self, task: str, **loading: Any) -> Callable[..., Iterator[Any]]:
        self.task, self.loading = task, loading
        return self.call

    def call(self, inputs: Iterator[Any], **options: Any) -> Iterator[Any]:
        self.options = options
        for value in inputs:
            self.inputs.append(value)
            yield self.answer(value)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakePipeline:
    pipeline = FakePipeline()
    # Not setattr, which would first load the real one.
    monkeypatch.setitem(vars(formers), "pipeline", pipeline.load)
    return pipeline


@pytest.fixture
def invoke() -> Callable[..., Any]:
    """Run the command in this process; the result has `exit_code`, `stdout` and `stderr`."""

    def run(*arguments: str | Path, input: str | bytes | None = None) -> Any:
        result = CliRunner().invoke(app, [str(each) for each in arguments], input=input, env={"COLUMNS": "100"})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the command as a process of its own, with pipes for its streams."""
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: str | Path, **settings: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "formers", *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        settings = {**pipes, "preexec_fn": _let_interrupt, **settings}
        started.append(subprocess.Popen(command, env=environment, text=True, encoding="utf-8", **settings))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate()


def _let_interrupt() -> None:
    """A shell's background job ignores interrupts, and so would the processes that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a BERT with a head such as "ForMaskedLM", random weights and a vocabulary of letters."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *("##" + letter for letter in letters)]

    @cache
    def make(head: str) -> Path:
        folder = tmp_path_factory.mktemp(f"tiny-{head}")
        (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
        config = formers.BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=64,
            initializer_range=0.5,
            id2label={0: "contradiction", 1: "entailment"},
            label2id={"contradiction": 0, "entailment": 1},
        )
        formers.set_seed(0)
        getattr(formers, "Bert" + head)(config).save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_classifier(tiny: Callable[[str], Path]) -> Path:
    """The folder of a tiny BERT that classifies texts."""
    return tiny("ForSequenceClassification")
