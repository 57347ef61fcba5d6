"""Rows of input, read one by one: texts, lines, or the rows of a CSV, TSV or JSONL file."""

from __future__ import annotations

import csv
import json
import os
import select
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from formers.errors import InputError

STDIO = "-"

PATIENCE_SECONDS = 0.05
"""How long a gap in what is piped in may be before the texts so far are answered."""


@dataclass(frozen=True)
class Row:
    """One input: its columns, where it stands (for messages) and how far into the input it reaches (for progress)."""

    columns: dict[str, Any]
    place: str
    position: int

    def text(self, column: str) -> str:
        """The text in `column`. InputError if this row has none."""
        value = self.columns.get(column)
        if isinstance(value, str):
            return value
        problem = (
            f"{self.place} has no column {column!r}"
            if value is None
            else (f"{self.place}, column {column!r}, holds {value!r}, which is not a text")
        )
        raise InputError(problem + ".", "Mend or remove that row, or name another column.")


@dataclass(frozen=True)
class Rows:
    """The rows of one input, read once.

    `columns` are those of the first row, `total` is what the last row's position will be (None: not known), and `ready`
    tells whether the next row can be read without waiting for whoever writes it.
    """

    columns: tuple[str, ...]
    rows: Iterator[Row]
    total: int | None
    ready: Callable[[], bool] = lambda: True

    def __iter__(self) -> Iterator[Row]:
        return self.rows

    def find(self, named: str | None, usual: str, option: str) -> str:
        """The column that was named, or the usual one, or the only one. InputError, naming `option`, if none is."""
        if (named or usual) in self.columns:
            return named or usual
        if named is None and len(self.columns) == 1:
            return self.columns[0]
        raise InputError(
            f"The input has no column {named or usual!r}; it has {', '.join(map(repr, self.columns))}.",
            f"Name the column with {option}.",
        )

    def with_column(self, name: str, value: str) -> Rows:
        """The same rows with `value` in the column `name` of each."""
        filled = (replace(row, columns={**row.columns, name: value}) for row in self.rows)
        return replace(self, columns=tuple(dict.fromkeys((*self.columns, name))), rows=filled)

    def renamed(self, old: str, new: str) -> Rows:
        """The same rows with another name for a column."""

        def name(row: Row) -> Row:
            return replace(row, columns={new if each == old else each: value for each, value in row.columns.items()})

        columns = tuple(new if each == old else each for each in self.columns)
        return replace(self, columns=columns, rows=map(name, self.rows))


def from_texts(texts: Sequence[str], column: str) -> Rows:
    """The texts of a command line."""
    rows = (Row({column: text}, f"text {number}", number) for number, text in enumerate(texts, 1))
    return Rows((column,), rows, len(texts))


@contextmanager
def from_file(name: str, format: str, columns: Sequence[str] | None = None) -> Iterator[Rows]:
    """The rows of a file, or of stdin where `name` is "-". Texts are UTF-8; blank lines are skipped.

    `columns` names the fields of a CSV or TSV file whose first line does not.
    """
    if name == STDIO:
        yield _from_stdin(format)
        return
    with open(name, "rb") as file:
        yield _rows(name, file.readline, format, os.fstat(file.fileno()).st_size or None, columns)


def _from_stdin(format: str) -> Rows:
    if sys.stdin is None:
        raise InputError("stdin is closed.", "Give texts, or --input FILE.")
    try:
        stdin = _Stdin(sys.stdin.fileno())
    except OSError:  # an object that stands in for it
        return _rows("stdin", sys.stdin.buffer.readline, format, total=None)
    return replace(_rows("stdin", stdin.readline, format, total=None), ready=stdin.ready)


def _rows(
    name: str, readline: Callable[[], bytes], format: str, total: int | None, columns: Sequence[str] | None = None
) -> Rows:
    lines = _Lines(name, readline, columns)
    read = _READERS[format](lines)
    rows = (Row(each, f"{name}, line {lines.number}", lines.position) for each in read)
    first = next(rows, None)
    if first is None:
        return Rows((), iter(()), total)
    return Rows(tuple(first.columns), chain([first], rows), total)


class _Stdin:
    """Lines of stdin, read so that one can ask whether there is one already."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._held = bytearray()

    def readline(self) -> bytes:
        """The next line, waited for; nothing at the end."""
        searched = 0
        while not (end := self._held.find(b"\n", searched) + 1):
            searched = len(self._held)
            block = os.read(self._descriptor, 1 << 16)
            if not block:
                end = searched
                break
            self._held += block
        line = bytes(self._held[:end])
        del self._held[:end]
        return line

    def ready(self) -> bool:
        """Whether a line, or the end, is there or comes in a moment."""
        try:
            return b"\n" in self._held or bool(select.select([self._descriptor], [], [], PATIENCE_SECONDS)[0])
        except OSError:  # Windows asks sockets only; there, lines are answered when the next one comes
            return True


class _Lines:
    """The decoded lines of an input, with the number and the end, in bytes, of the last one that was read.

    `columns` are the names of fields where the first line holds none.
    """

    def __init__(self, name: str, readline: Callable[[], bytes], columns: Sequence[str] | None = None) -> None:
        self.name = name
        self.columns = columns
        self.number = 0
        self.position = 0
        self._readline = readline

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._readline()
        if not line:
            raise StopIteration
        self.number += 1
        self.position += len(line)
        try:
            return line.decode("utf-8-sig" if self.number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise self.error(f"is not UTF-8: {error.reason}", "Convert the file to UTF-8.") from None

    def error(self, problem: str, remedy: str) -> InputError:
        return InputError(f"{self.name}, line {self.number}, {problem}.", remedy)


def _read_txt(lines: _Lines) -> Iterator[dict[str, Any]]:
    return ({"text": line.rstrip("\r\n")} for line in lines if not line.isspace())


def _read_jsonl(lines: _Lines) -> Iterator[dict[str, Any]]:
    for line in lines:
        if line.isspace():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise lines.error(f"is not JSON: {error}", "JSONL holds one JSON object a line.") from None
        if isinstance(row, str):
            row = {"text": row}
        if not isinstance(row, dict):
            raise lines.error("is neither a JSON object nor a string", "JSONL holds one JSON object a line.")
        yield row


def _read_csv(lines: _Lines) -> Iterator[dict[str, Any]]:
    return _read_fields(lines, csv.excel, "CSV", "Quote fields that hold a comma.")


class _Tabs(csv.excel):
    """Fields between tabs; quotes are signs like others (the media type text/tab-separated-values)."""

    delimiter = "\t"
    quoting = csv.QUOTE_NONE


def _read_tsv(lines: _Lines) -> Iterator[dict[str, Any]]:
    return _read_fields(lines, _Tabs, "TSV", "Take the tabs out of the fields.")


def _read_fields(lines: _Lines, dialect: type[csv.Dialect], format: str, remedy: str) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(2**31 - 1)  # documents are longer than the 128 KiB that csv allows by itself
    reader = csv.DictReader(lines, fieldnames=lines.columns, dialect=dialect)
    try:
        names = reader.fieldnames or ()
        said = "of the first line" if lines.columns is None else "that were named"
        if len(set(names)) < len(names):
            raise lines.error(f"names a column twice: {', '.join(names)}", "Give each column a name of its own.")
        for row in reader:
            if None in row:
                raise lines.error(f"has more fields than the {len(names)} columns {said}", remedy)
            yield row
    except csv.Error as error:
        raise lines.error(f"is not {format}: {error}", "Mend that line.") from None


_READERS: dict[str, Callable[[_Lines], Iterator[dict[str, Any]]]] = {
    "txt": _read_txt,
    "csv": _read_csv,
    "tsv": _read_tsv,
    "jsonl": _read_jsonl,
}

FORMATS = tuple(_READERS)
