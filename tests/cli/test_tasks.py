"""`formers run` gives what the pipeline gives, for every task, on tiny real models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from formers import pipeline
from formers.cli import generating
from formers.registry import TASKS

TEXTS = ["abc de", "a much longer text that has several more words", "z"]
PAIRS = [{"question": "who is a", "context": "a is bcd and e is fgh"}, {"question": "b", "context": "b is c"}]

# task, head, options on the command line, the same for the call
RUNS: list[tuple[str, str, list[str], dict[str, Any]]] = [
    ("feature-extraction", "Model", [], {}),
    ("fill-mask", "ForMaskedLM", ["--top-k", "3"], {"top_k": 3}),
    ("fill-mask", "ForMaskedLM", ["--targets", "a,b"], {"targets": ["a", "b"]}),
    ("question-answering", "ForQuestionAnswering", [], {}),
    ("question-answering", "ForQuestionAnswering", ["--top-k", "2"], {"top_k": 2}),
    ("text-classification", "ForSequenceClassification", [], {}),
    ("text-classification", "ForSequenceClassification", ["--top-k", "2"], {"top_k": 2}),
    ("token-classification", "ForTokenClassification", [], {}),
    (
        "token-classification",
        "ForTokenClassification",
        ["--aggregation-strategy", "first"],
        {"aggregation_strategy": "first"},
    ),
    (
        "zero-shot-classification",
        "ForSequenceClassification",
        ["--candidate-labels", "x,y", "--multi-label", "--hypothesis-template", "about {}"],
        {"candidate_labels": ["x", "y"], "multi_label": True, "hypothesis_template": "about {}"},
    ),
]


def test_all_tasks_are_here() -> None:
    own = {*generating.TASKS, "automatic-speech-recognition"}  # which have tests of their own
    assert {task for task, *_ in RUNS} == set(TASKS) - own


@pytest.mark.parametrize(("task", "head", "arguments", "options"), RUNS)
def test_same_as_the_pipeline(
    invoke: Callable[..., Any],
    tiny: Callable[[str], Path],
    tmp_path: Path,
    task: str,
    head: str,
    arguments: list[str],
    options: dict[str, Any],
) -> None:
    texts = [text + " [MASK]" for text in TEXTS] if task == "fill-mask" else TEXTS
    rows = PAIRS if task == "question-answering" else [{"text": text} for text in texts]
    inputs: list[Any] = PAIRS if task == "question-answering" else texts
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    command = ("run", task, "--model", tiny(head), "-i", source, *arguments)

    expected = pipeline(task, model=str(tiny(head)))(inputs, **options)
    lines = [json.loads(line) for line in invoke(*command).stdout.splitlines()]
    assert [{name: line[name] for name in row} for line, row in zip(lines, rows, strict=True)] == rows
    for line, result in zip(lines, expected, strict=True):
        found = {name: value for name, value in line.items() if name not in rows[0]}
        if not isinstance(result, dict):
            (found,) = found.values()
        assert found == close_to(result)

    for format in ("table", "csv"):
        shown = invoke(*command, "--output-format", format)
        assert shown.exit_code == 0
        assert len(shown.stdout.splitlines()) > len(rows)


def close_to(value: Any) -> Any:
    """`value`, with its numbers compared as floats are."""
    if isinstance(value, dict):
        return {name: close_to(each) for name, each in value.items()}
    if isinstance(value, list):
        return [close_to(each) for each in value]
    return pytest.approx(value, rel=1e-4, abs=1e-6) if isinstance(value, float) else value
