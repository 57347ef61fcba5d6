"""`formers eval`, with tiny models on tiny data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("datasets")

Invoke = Callable[..., Any]
Tiny = Callable[[str], Path]
TEXTS = ["a b c", "z", "d e", "f g h i", "b", "q r"]


@pytest.fixture
def answered(invoke: Invoke, tiny_classifier: Path, tmp_path: Path) -> Path:
    """A file with the model's own answers as labels, one of them wrong."""
    done = invoke("run", "text-classification", *TEXTS, "--model", tiny_classifier)
    labels = [json.loads(line)["label"] for line in done.stdout.splitlines()]
    labels[0] = "entailment" if labels[0] == "contradiction" else "contradiction"
    file = tmp_path / "answered.csv"
    rows = [f"{text},{label}" for text, label in zip(TEXTS, labels, strict=True)]
    file.write_text("text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return file


def test_in_a_pipe_it_is_json(invoke: Invoke, tiny_classifier: Path, answered: Path, tmp_path: Path) -> None:
    line = ("eval", answered, "--model", tiny_classifier, "--use-cpu", "--output", tmp_path / "results.json")
    done = invoke(*line, "--label-column", "label")
    assert done.exit_code == 0, done.stderr
    results = json.loads(done.stdout)
    assert results["metrics"]["accuracy"] == pytest.approx(5 / 6)
    assert (results["rows"], results["split"], results["task"]) == (6, "train", "text-classification")
    assert results["labels"] == ["contradiction", "entailment"]
    assert sum(map(sum, results["confusion"])) == 6
    assert results["confusion"][0][0] + results["confusion"][1][1] == 5
    assert sum(row["support"] for row in results["per_class"].values()) == 6
    assert json.loads((tmp_path / "results.json").read_text()) == results


def test_on_a_terminal_it_is_a_table(
    invoke: Invoke, tiny_classifier: Path, answered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("formers.cli.eval._is_terminal", lambda: True)
    done = invoke("eval", answered, "--model", tiny_classifier, "--use-cpu", "--per-class")
    assert done.exit_code == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["accuracy", "0.8333"] in lines
    assert ["label", "precision", "recall", "f1", "support"] in lines
    assert {"contradiction", "entailment"} <= {line[0] for line in lines if line}


def test_the_picture(invoke: Invoke, tiny_classifier: Path, answered: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    line = ("eval", answered, "--model", tiny_classifier, "--use-cpu", "--plot")
    assert invoke(*line, tmp_path / "confusion.png").exit_code == 0
    assert (tmp_path / "confusion.png").read_bytes().startswith(b"\x89PNG")
    done = invoke(*line, tmp_path / "confusion.doc")
    assert done.exit_code == 1
    assert "End it with one of: .png, .svg, .pdf" in done.stderr


def test_numbers_stand_for_the_models_classes(invoke: Invoke, tiny_classifier: Path, tmp_path: Path) -> None:
    file = tmp_path / "numbers.csv"
    file.write_text("text,label\na b,0\nc,1\nd,1\n", encoding="utf-8")
    done = invoke("eval", file, "--model", tiny_classifier, "--use-cpu")
    assert done.exit_code == 0, done.stderr
    assert [row["support"] for row in json.loads(done.stdout)["per_class"].values()] == [1, 2]


def test_the_split(invoke: Invoke, tiny_classifier: Path, tmp_path: Path) -> None:
    for name, rows in (("train", 4), ("test", 2)):
        (tmp_path / f"{name}.csv").write_text("text,label\n" + "a b,0\nc,1\n" * (rows // 2), encoding="utf-8")
    line = ("eval", tmp_path, "--model", tiny_classifier, "--use-cpu")
    assert json.loads(invoke(*line).stdout)["rows"] == 2
    assert json.loads(invoke(*line, "--split", "train").stdout)["rows"] == 4
    assert json.loads(invoke(*line, "--split", "train", "--max-eval-samples", "2").stdout)["rows"] == 2
    done = invoke(*line, "--split", "dev")
    assert done.exit_code == 1
    assert "There is no split 'dev'. The data have train, test." in done.stderr


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (
            "text,label\na,yes\nb,no\n",
            (),
            "The data have the labels no, yes; the model knows contradiction, ent",
        ),
        ("text\na\n", (), "No column holds labels for text-classification"),
        ("text,label\na,0\n", ("--output", "/nowhere/x.json"), "The folder of '/nowhere/x.json' does not exist"),
        ("text,label\na,0\nb,1\n", ("--text-column", "texts"), "Did you mean 'text'?"),
    ],
)
def test_what_does_not_fit(
    invoke: Invoke, tiny_classifier: Path, tmp_path: Path, text: str, options: tuple[str, ...], message: str
) -> None:
    file = tmp_path / "data.csv"
    file.write_text(text, encoding="utf-8")
    done = invoke("eval", file, "--model", tiny_classifier, "--use-cpu", *options)
    assert done.exit_code == 1
    assert message in done.stderr
