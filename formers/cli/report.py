"""What a command tells people besides its results: errors, exit codes, progress."""

from __future__ import annotations

import csv
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from formers.errors import FormersError

EXPECTED = (FormersError, OSError, UnicodeError, csv.Error)
"""The failures whose message says enough; anything else is a bug and keeps its traceback."""

PROGRESS_AFTER_SECONDS = 1.0


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn failures and interruptions inside a command into a line on stderr and an exit code."""
    try:
        yield
    except BrokenPipeError:
        # The reader has what it wants. What is still buffered must not raise again when Python flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(141) from None
    except EXPECTED as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise typer.Exit(130) from None


class _Rate(ProgressColumn):
    """How many are done, and how many a second."""

    def render(self, task: Task) -> Text:
        done = task.fields["done"]
        elapsed = task.elapsed or 0.0
        return Text(f"{done:,} done, {done / elapsed:,.0f}/s" if elapsed else f"{done:,} done")


class ProgressLine:
    """A bar on stderr for work that takes longer than a second; nothing where stderr is not a terminal.

    `total` is in the units of `advance`'s `position` (bytes of a file, texts of a list); None if it is not known.
    """

    def __init__(self, total: int | None, *, shown: bool = True) -> None:
        console = Console(stderr=True)
        columns = (TextColumn("{task.percentage:>3.0f}%"), BarColumn(), TimeRemainingColumn()) if total else ()
        self._progress = Progress(*columns, _Rate(), console=console, transient=True)
        self._task = self._progress.add_task("", start=False, total=total, done=0)
        self._shown = shown and console.is_terminal
        self._started = time.monotonic()
        self._running = False
        self._done = 0

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._running:
            self._progress.stop()

    def advance(self, position: int) -> None:
        """One more result is there; the input has been worked through up to `position`."""
        if not self._shown:
            return
        if not self._done:  # rates do not count the time in which the model was loaded
            self._progress.start_task(self._task)
        self._done += 1
        self._progress.update(self._task, completed=position, done=self._done)
        if not self._running and time.monotonic() - self._started > PROGRESS_AFTER_SECONDS:
            self._running = True
            self._progress.start()
