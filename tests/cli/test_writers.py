"""The table for people, and the shape of predictions."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.cells import cell_len

from formers.cli.rows import Row
from formers.cli.writers import Shown, TableWriter, merged, predictions


def table(monkeypatch: pytest.MonkeyPatch, shown: Shown, results: list[tuple[dict[str, Any], Any]]) -> list[str]:
    monkeypatch.setenv("COLUMNS", "60")
    stream = io.StringIO()
    writer = TableWriter(stream, shown)
    for number, (columns, result) in enumerate(results):
        writer.write(Row(columns, f"text {number}", number), result)
        assert stream.getvalue().count("\n") > number, "a row waits for others"
    writer.close()
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_rows_line_up_under_one_header(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = table(
        monkeypatch,
        Shown(("text",), ("label", "score")),
        [
            ({"text": "short"}, {"label": "POSITIVE", "score": 0.98765}),
            ({"text": "漢字" * 40}, {"label": "NEGATIVE", "score": 1.0}),
        ],
    )
    assert [line.split()[0] for line in lines[:2]] == ["text", "short"]
    assert len(lines) == 3
    assert lines[1].endswith("0.9877")
    assert lines[2].endswith("1.0000")
    assert "…" in lines[2]
    words = ["label", "POSITIVE", "NEGATIVE"]
    starts = [cell_len(line[: line.index(word)]) for line, word in zip(lines, words, strict=True)]
    assert len(set(starts)) == 1


def test_an_input_is_shown_once_for_its_predictions(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [{"word": "Ann", "entity": "PER", "score": 0.5}, {"word": "Rome", "entity": "LOC", "score": 0.5}]
    shown = Shown(("text",), ("word", "entity", "score"))
    lines = table(monkeypatch, shown, [({"text": "Ann in Rome"}, found), ({"text": "Nobody"}, [])])
    assert lines[1].split() == ["Ann", "in", "Rome", "Ann", "PER", "0.5000"]
    assert lines[2].split() == ["Rome", "LOC", "0.5000"]
    assert lines[3].split() == ["Nobody", "-", "-", "-"]


def test_the_terminal_gets_no_control_characters_and_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a\x1b[31mb\nc[red]d\x9b"
    lines = table(monkeypatch, Shown(("text",), ("label",)), [({"text": text}, {"label": "[b]\x07x"})])
    assert lines[1].split() == ["a", "[31mb", "c[red]d", "[b]", "x"]


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({"label": "A", "score": 1.0}, [{"label": "A", "score": 1.0}]),
        ({"labels": ["A", "B"], "scores": [0.7, 0.3]}, [{"label": "A", "score": 0.7}, {"label": "B", "score": 0.3}]),
        ([], []),
        ([{"word": "a"}, {"word": "b"}], [{"word": "a"}, {"word": "b"}]),
        ([[{"word": "a"}], [{"word": "b"}]], [{"mask": 0, "word": "a"}, {"mask": 1, "word": "b"}]),
        ([[1.0, 2.0]], [{"features": [[1.0, 2.0]]}]),
    ],
)
def test_predictions(result: Any, expected: list[dict[str, Any]]) -> None:
    assert predictions(result) == expected


def test_merged_loses_nothing() -> None:
    assert merged({"label": 1, "predicted_label": 2}, {"label": 3, "score": 4}) == {
        "label": 1,
        "predicted_label": 2,
        "predicted_predicted_label": 3,
        "score": 4,
    }
