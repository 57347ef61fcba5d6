"""Filling rows of tokens up to one length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from formers.errors import InputError
from formers.tokenization.batch import BatchEncoding
from formers.tokenization.settings import Padding
from formers.tokenization.tensors import as_tensors, to_python


def pad_rows(rows: list[list[Any]], width: int, fill: Any, left: bool) -> list[list[Any]]:
    """Rows of at least `width` entries; longer ones are returned as they are."""
    if left:
        return [[fill] * (width - len(row)) + row if len(row) < width else row for row in rows]
    return [row + [fill] * (width - len(row)) if len(row) < width else row for row in rows]


def pad_encoded(
    encoded: Any,
    main: str,
    fills: Mapping[str, int],
    padding: Padding | None,
    attention_mask: bool,
    tensors: str | None,
) -> BatchEncoding:
    """Pad tokenized rows: a batch, a single row, or a list of rows, as lists, arrays or tensors.

    main: the name that rows must have. fills: what each name is filled up with; other names stay as they are. Arrays
    and tensors come back as such, unless `tensors` says otherwise. The input is not changed.
    """
    columns = _columns(encoded, main)
    rows = columns[main]
    if rows is None or (hasattr(rows, "__len__") and len(rows) == 0):
        return BatchEncoding({**columns, "attention_mask": []} if attention_mask else columns)
    if tensors is None:
        tensors = _kind(rows)
    # Masks with more axes than rows have (one for each query, say) are not for padding.
    wide = {name: value for name, value in columns.items() if name == "attention_mask" and _is_wide(value)}
    columns = {name: to_python(value) for name, value in columns.items() if name not in wide}
    single = not isinstance(columns[main][0], (list, tuple))
    if single:
        columns = {name: [value] for name, value in columns.items()}
    count = len(columns[main])
    for name, value in columns.items():
        if len(value) != count:
            raise InputError(f"{name!r} has {len(value)} rows and {main!r} {count}.", "Pass the same number of each.")
    lengths = [len(row) for row in columns[main]]
    if attention_mask and "attention_mask" not in columns and not wide:
        columns["attention_mask"] = [[1] * length for length in lengths]
    if padding is not None:
        width = padding.width(max(lengths))
        if width < max(lengths):
            raise InputError(f"A row has {max(lengths)} tokens, more than max_length={width}.", "Truncate rows first.")
        for name, fill in fills.items():
            if name in columns:
                columns[name] = pad_rows([list(row) for row in columns[name]], width, fill, padding.side == "left")
    data = {name: value[0] for name, value in columns.items()} if single else columns
    data.update(wide)
    return BatchEncoding(as_tensors(data, tensors) if tensors else data)


def _columns(encoded: Any, main: str) -> dict[str, Any]:
    if isinstance(encoded, (list, tuple)) and encoded and isinstance(encoded[0], Mapping):
        missing = next((key for row in encoded for key in encoded[0] if key not in row), None)
        if missing is not None:
            raise InputError(f"Some rows have no {missing!r}.", "Give every row the same names.")
        encoded = {name: [row[name] for row in encoded] for name in encoded[0]}
    if not isinstance(encoded, Mapping) or main not in encoded:
        got = list(encoded) if isinstance(encoded, Mapping) else type(encoded).__name__
        raise InputError(
            f"There is no {main!r} to pad; got {got}.", f"Pass a tokenizer's result, or rows with {main!r}."
        )
    return dict(encoded)


def _kind(rows: Any) -> str | None:
    """The kind of tensor that the rows are, None for lists."""
    first = rows[0] if isinstance(rows, Sequence) else rows
    if hasattr(first, "tolist"):
        return "pt" if type(first).__module__.startswith("torch") else "np"
    return None


def _is_wide(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and getattr(value[0], "ndim", 0) > 1
