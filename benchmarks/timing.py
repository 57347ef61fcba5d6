"""Contenders run in processes of their own, in turns. This process stays small: it imports none of the libraries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

ROOT = Path(__file__).resolve().parent.parent

# What the message of a contender begins with that cannot run here, and need not: its rows miss no bar.
SKIPPED = "skipped: "

Result = TypeVar("Result")


@dataclass(frozen=True)
class Contender:
    """A process to measure: arguments of Python, the data folder follows them. It prints one line of JSON.

    "{turn}" in the arguments becomes the number of the turn. `clock` is what counts: "reported", the `seconds` of that
    line; "answered", from the start to that line; "ended", from the start to the end of the process. `offline` keeps
    the libraries from asking the hub about a local folder.
    """

    arguments: tuple[str, ...]
    clock: Literal["reported", "answered", "ended"] = "reported"
    offline: bool = True


@dataclass(frozen=True)
class Sample:
    """One measurement: seconds, peak resident memory in bytes, what the contender answered, and its other figures."""

    seconds: float
    rss: float
    answer: Any = None
    figures: Mapping[str, float] = field(default_factory=dict)

    def value(self, name: str) -> float:
        """The seconds, the memory ("rss") or another figure."""
        return float({"seconds": self.seconds, "rss": self.rss, **self.figures}[name])


@dataclass
class Record:
    """The samples of one contender; `error` is why there are no more."""

    samples: list[Sample] = field(default_factory=list)
    error: str | None = None


class ContenderError(Exception):
    """A contender failed; the message is the last line that it wrote."""


def measure(contender: Contender, folder: Path, turn: int = 0) -> Sample:
    """Run one contender in a fresh process."""
    arguments = [argument.replace("{turn}", str(turn)) for argument in contender.arguments]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *arguments, str(folder)],
            cwd=ROOT,
            env=_environment(contender.offline),
            stdout=subprocess.PIPE,
            stderr=errors,
            encoding="utf-8",
        )
        line, answered = "", 0.0
        assert process.stdout is not None
        with process.stdout as stdout:
            for line in stdout:
                answered = time.perf_counter()
                if line.startswith("{"):
                    break
            else:
                line = ""
            stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        ended = time.perf_counter()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode or not line:
            errors.seek(0)
            said = [text.strip() for text in errors if text.strip()]
            raise ContenderError(said[-1] if said else f"ended with status {process.returncode} and no answer")
    printed = json.loads(line)
    seconds = {"answered": answered - start, "ended": ended - start}.get(contender.clock) or printed["seconds"]
    unit = 1 if sys.platform == "darwin" else 1024  # what the system counts peak memory in
    return Sample(seconds, usage.ru_maxrss * unit, printed.get("answer"), printed.get("figures", {}))


def alternate(
    contenders: Mapping[str, Contender],
    folder: Path,
    repeats: int,
    warmups: int = 0,
    told: Callable[[str], None] = lambda _: None,
) -> dict[str, Record]:
    """Each contender once, then each once more, `repeats` times: slow drift of the machine meets all of them alike.

    The first `warmups` turns are not counted. A contender that fails is left out from then on.
    """
    records = {name: Record() for name in contenders}
    for turn in range(-warmups, repeats):
        for name, contender in contenders.items():
            if records[name].error is not None:
                continue
            try:
                sample = measure(contender, folder, max(turn, 0))
            except ContenderError as error:
                records[name] = Record(error=str(error))
                told(f"{name}: {error}")
                continue
            if turn >= 0:
                records[name].samples.append(sample)
            told(f"{f'{turn + 1}/{repeats}' if turn >= 0 else 'warm-up'} {name}: {sample.seconds:.4g} s")
    return records


def timed(call: Callable[[], Result]) -> tuple[float, Result]:
    """Seconds of one call, and what it returned."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def _environment(offline: bool) -> dict[str, str]:
    """This process's own, in which byte code may be cached."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "HF_HUB_OFFLINE": "1"} if offline else kept
