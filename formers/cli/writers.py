"""The results of `formers run`: a table for people, JSONL or CSV for programs, one result at a time."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO
from unicodedata import category

from rich.console import Console
from rich.table import Table
from rich.text import Text

from formers.cli.rows import STDIO, Row
from formers.errors import InputError
from formers.hub.atomic import staged


class Writer(Protocol):
    """Takes each row with the result that the pipeline has for it, in input order."""

    def write(self, row: Row, result: Any) -> None:
        """Write one result."""

    def close(self) -> None:
        """Write what was held back."""


@dataclass(frozen=True)
class Shown:
    """What a table shows: columns of the input, keys of the predictions."""

    inputs: tuple[str, ...]
    predicted: tuple[str, ...]


@contextmanager
def writing(name: str, format: str, shown: Shown) -> Iterator[Writer]:
    """A writer to a file, or to stdout where `name` is "-".

    A file appears under its name whole, when the block ends; if the block raises, what was there before stays.
    """
    with opened(name) as stream:
        writer = _WRITERS[format](stream, shown)
        yield writer
        writer.close()


@contextmanager
def opened(name: str) -> Iterator[TextIO]:
    """A stream to a file, which appears when the block ends, or to stdout where `name` is "-"."""
    if name == STDIO:
        # UTF-8 whatever the locale says, as in files. Each line leaves at once, for whoever waits at the pipe's end.
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(encoding="utf-8", line_buffering=True)
        yield sys.stdout
        return
    path = Path(name).resolve()  # the file itself if `name` is a link
    if path.is_dir() or not path.parent.is_dir():
        problem = "is a folder" if path.is_dir() else f"lies in {str(path.parent)!r}, which does not exist"
        raise InputError(f"The output {name!r} {problem}.", "Name a file in a folder that exists.")
    if path.exists() and not path.is_file():  # a device or a named pipe, which must not be replaced
        with open(path, "w", encoding="utf-8", newline="") as stream:
            yield stream
        return
    with staged(path) as draft, open(draft, "w", encoding="utf-8", newline="") as stream:
        yield stream
        stream.close()


def predictions(result: Any) -> list[dict[str, Any]]:
    """The predictions in a pipeline's result, each a flat dict: labels, entities, answers, fillings of a mask.

    Parallel lists of labels and scores become one prediction a label; with several masks, `mask` counts them; features
    are one prediction that holds them all.
    """
    if isinstance(result, dict):
        if isinstance(result.get("labels"), list):
            return [
                {"label": label, "score": score}
                for label, score in zip(result["labels"], result["scores"], strict=True)
            ]
        return [result]
    if all(isinstance(each, dict) for each in result):
        return list(result)
    if all(isinstance(each, list) and all(isinstance(one, dict) for one in each) for each in result):
        return [{"mask": mask, **each} for mask, fillings in enumerate(result) for each in fillings]
    return [{"features": result}]


def merged(columns: dict[str, Any], prediction: dict[str, Any]) -> dict[str, Any]:
    """The input's columns and the prediction's, `predicted_` before the names of those that the input has as well."""
    row = dict(columns)
    for name, value in prediction.items():
        while name in row:
            name = f"predicted_{name}"
        row[name] = value
    return row


class JsonlWriter:
    """One JSON object an input: its columns and what the pipeline returned (a list of it as `predictions`)."""

    def __init__(self, stream: TextIO, shown: Shown) -> None:
        self._stream = stream

    def write(self, row: Row, result: Any) -> None:
        """Write one line."""
        if not isinstance(result, dict):
            flat = predictions(result)
            result = flat[0] if len(flat) == 1 and "features" in flat[0] else {"predictions": result}
        self._stream.write(_json(merged(row.columns, result)) + "\n")

    def close(self) -> None:
        """Nothing is held back."""


class CsvWriter:
    """One line a prediction, the input's columns repeated; an input without predictions has one line too.

    The first prediction decides the columns, so inputs before it are held back.
    """

    def __init__(self, stream: TextIO, shown: Shown) -> None:
        self._stream = stream
        self._writer: csv.DictWriter[str] | None = None
        self._held: list[Row] = []

    def write(self, row: Row, result: Any) -> None:
        """Write the lines of one input."""
        found = predictions(result)
        if self._writer is None:
            if not found:
                self._held.append(row)
                return
            self._start(merged(row.columns, found[0]))
        for prediction in found or [{}]:
            self._line(row, prediction)

    def close(self) -> None:
        """Write the inputs that were held back, if there was no prediction at all."""
        if self._writer is None and self._held:
            self._start(self._held[0].columns)

    def _start(self, columns: dict[str, Any]) -> None:
        self._writer = csv.DictWriter(self._stream, list(columns), restval="", lineterminator="\n")
        self._writer.writeheader()
        for row in self._held:
            self._line(row, {})
        self._held.clear()

    def _line(self, row: Row, prediction: dict[str, Any]) -> None:
        assert self._writer is not None
        line = merged(row.columns, prediction)
        unknown = [name for name in line if name not in self._writer.fieldnames]
        if unknown:
            raise InputError(
                f"{row.place}: the columns {', '.join(unknown)} are not among those of the first line of the CSV.",
                "Write JSONL instead (--output-format jsonl), where each line has columns of its own.",
            )
        self._writer.writerow({name: _cell(value) for name, value in line.items()})


class TableWriter:
    """Aligned columns as wide as the terminal, each row shown as soon as it is there."""

    _SCORE_WIDTH = 6
    _WIDEST = 140
    _LONG = frozenset({"text", "text_pair", "question", "context", "sequence", "generated_text", "features"})

    def __init__(self, stream: TextIO, shown: Shown) -> None:
        self._console = Console(file=stream, highlight=False)
        self._shown = shown
        self._header = True

    def write(self, row: Row, result: Any) -> None:
        """Show one input, and a line for each prediction."""
        # A table a row: widths follow from the terminal's alone, so the rows line up without waiting for the last one.
        table = Table(
            box=None,
            pad_edge=False,
            expand=True,
            show_header=self._header,
            width=min(self._console.width, self._WIDEST),
        )
        for name in self._shown.inputs:
            table.add_column(name, ratio=3, no_wrap=True, overflow="ellipsis")
        for name in self._shown.predicted:
            if name == "score":
                table.add_column(name, width=self._SCORE_WIDTH, justify="right")
            else:
                table.add_column(name, ratio=3 if name in self._LONG else 1, overflow="fold", style="bold")
        inputs = [_shown_text(row.columns.get(name)) for name in self._shown.inputs]
        for prediction in predictions(result) or [{}]:
            table.add_row(*inputs, *(_shown_text(prediction.get(name)) for name in self._shown.predicted))
            inputs = [Text()] * len(inputs)
        self._console.print(table)
        self._header = False

    def close(self) -> None:
        """Nothing is held back."""


def _shown_text(value: Any) -> Text:
    """A cell for people. Control characters of the data must not reach the terminal."""
    if value is None:
        return Text("-", style="dim")
    if isinstance(value, float):
        return Text(f"{value:.4f}")
    if isinstance(value, list):
        return Text(_features(value))
    return Text("".join(" " if category(sign) == "Cc" else sign for sign in str(value)))


def _features(values: list[Any]) -> str:
    """The shape of nested lists of numbers, and the first few."""
    shape, numbers = [str(len(values))], values
    while numbers and isinstance(numbers[0], list):
        numbers = numbers[0]
        shape.append(str(len(numbers)))
    return f"{' × '.join(shape)}: {', '.join(f'{each:.3f}' for each in numbers[:4])}, …"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=lambda array: array.tolist())


def _cell(value: Any) -> Any:
    return _json(value) if isinstance(value, (list, dict)) else value


_WRITERS: dict[str, Callable[[TextIO, Shown], Writer]] = {
    "table": TableWriter,
    "jsonl": JsonlWriter,
    "csv": CsvWriter,
}
FORMATS = tuple(_WRITERS)
