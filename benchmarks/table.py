"""From samples to the table: medians, ratios, bars, and whether the answers agree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isclose
from statistics import mean, median
from typing import Any, Literal

from benchmarks.timing import SKIPPED, Record

OURS = "formers"
FLOOR = "floor"
TOLERANCE = 1e-4  # between scores of one text; of logits, which may be large, this share


@dataclass(frozen=True)
class Bar:
    """What to reach. "seconds": ours, at most; "time": ours / theirs, at most; "speed": theirs / ours, at least;
    "points": ours - theirs in percentage points, of means instead of medians, at least.

    Without a limit the comparison only informs; the arrow says which way is better.
    """

    kind: Literal["seconds", "time", "speed", "points"]
    limit: float | None = None

    def value(self, ours: float, theirs: float) -> float:
        if self.kind == "seconds":
            return ours
        if self.kind == "points":
            return 100 * (ours - theirs)
        return ours / theirs if self.kind == "time" else theirs / ours

    def met(self, value: float) -> bool | None:
        if self.limit is None:
            return None
        return value >= self.limit if self.kind in ("speed", "points") else value <= self.limit

    def middle(self, values: Sequence[float]) -> float:
        return mean(values) if self.kind == "points" else median(values)

    def __str__(self) -> str:
        if self.limit is None:
            return f"none, {'↑' if self.kind in ('speed', 'points') else '↓'}"
        if self.kind == "points":
            return f"≥ {self.limit:+g} pt"
        return f"{'≥' if self.kind == 'speed' else '≤'} {self.limit:g} {'s' if self.kind == 'seconds' else '×'}"


@dataclass(frozen=True)
class Comparison:
    """One line of the table: formers against the best of some peers."""

    what: str
    peers: tuple[str, ...]
    bar: Bar
    field: str = "seconds"


@dataclass(frozen=True)
class Line:
    """A comparison made. None: not measured; `met` is None where there is no bar. `note` says what went wrong."""

    benchmark: str
    what: str
    bar: str
    met: bool | None
    field: str = "seconds"
    ours: float | None = None
    peer: str = ""
    theirs: float | None = None
    value: float | None = None
    lowest: float | None = None
    highest: float | None = None
    floors: float | None = None
    note: str = ""


def compare(benchmark: str, comparison: Comparison, records: Mapping[str, Record]) -> Line:
    """Medians of ours and of the best peer, their ratio, and the range of the ratios turn by turn."""
    bar, field = comparison.bar, comparison.field
    skipped = (records[OURS].error or "").startswith(SKIPPED)
    failed = None if bar.limit is None or skipped else False

    def without(note: str) -> Line:
        return Line(benchmark, comparison.what, str(bar), failed, field, note=note)

    ours = _values(records[OURS], field)
    if not ours:
        return without(f"{OURS}: {records[OURS].error}")
    peers = {name: values for name in comparison.peers if (values := _values(records[name], field))}
    if comparison.peers and not peers:
        return without("; ".join(f"{name} skipped: {records[name].error}" for name in comparison.peers))
    peer = min(peers, key=lambda name: bar.middle(peers[name]), default="")
    theirs = peers.get(peer, ours)
    value = bar.value(bar.middle(ours), bar.middle(theirs))
    turns = [bar.value(*pair) for pair in zip(ours, theirs, strict=False)]
    floor = _values(records[FLOOR], field) if FLOOR in records and field == "seconds" else []
    note = disagreement(records, (peer,) if peer else ())
    return Line(
        benchmark,
        comparison.what,
        str(bar),
        failed if note else bar.met(value),
        field,
        ours=bar.middle(ours),
        peer=peer,
        theirs=bar.middle(theirs) if peer else None,
        value=value,
        lowest=min(turns),
        highest=max(turns),
        floors=median(ours) / median(floor) if floor else None,
        note=note,
    )


def disagreement(records: Mapping[str, Record], peers: Iterable[str]) -> str:
    """Which peers' answers differ from ours, or from one turn to the next; empty if all agree."""
    expected = records[OURS].samples[0].answer
    differing = [
        name for name in (OURS, *peers) if not all(agree(expected, sample.answer) for sample in records[name].samples)
    ]
    return f"answers differ: {', '.join(differing)}" if differing else ""


def agree(ours: Any, theirs: Any) -> bool:
    """Equal values as JSON gives them; numbers with a fraction within `TOLERANCE`, or that share of the larger."""
    if isinstance(ours, float) and isinstance(theirs, float):
        return isclose(ours, theirs, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(agree, ours, theirs))
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(agree(ours[name], theirs[name]) for name in ours)
    return bool(ours == theirs)


def render(lines: Sequence[Line]) -> str:
    """The table, in Markdown, with the notes below it."""
    head = ("benchmark", "measure", "formers", "peer", "peer's", "ratio", "range", "bar", "met", "× floor")
    rows = [head, *(_cells(line) for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    rows.insert(1, tuple("-" * width for width in widths))
    table = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
    notes = [f"{line.benchmark}, {line.what}: {line.note}" for line in lines if line.note]
    return "\n".join([*table, *notes])


def _cells(line: Line) -> tuple[str, ...]:
    points = line.bar.endswith("pt")
    show = _memory if line.field == "rss" else _share if points else _time
    alone = not line.peer
    return (
        line.benchmark,
        line.what,
        show(line.ours),
        line.peer,
        show(line.theirs),
        "" if alone else f"{line.value:+.2f} pt" if points and line.value is not None else _ratio(line.value),
        "" if line.lowest is None else f"{_short(line, line.lowest)}–{_short(line, line.highest)}",
        line.bar,
        {True: "yes", False: "NO", None: ""}[line.met],
        _ratio(line.floors),
    )


def _short(line: Line, value: float | None) -> str:
    return f"{value:.3g}" if line.peer else _time(value)


def _values(record: Record, field: str) -> list[float]:
    return [sample.value(field) for sample in record.samples]


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.3g} ×"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"


def _memory(size: float | None) -> str:
    return "" if size is None else f"{size / 1e6:.0f} MB"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    for scale, unit in ((1, "s"), (1e3, "ms")):
        if seconds * scale >= 1:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"
