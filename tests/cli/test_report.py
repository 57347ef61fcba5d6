"""Progress and exit codes."""

from __future__ import annotations

import io
import sys

import pytest

from formers.cli import report
from formers.cli.report import ProgressLine


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def work(total: int | None, *, shown: bool = True) -> None:
    with ProgressLine(total, shown=shown) as progress:
        for position in (25, 50, 100):
            progress.advance(position)


@pytest.mark.parametrize(("total", "expected"), [(100, ["100%", "3 done"]), (None, ["3 done"])])
def test_long_work_shows_how_far_it_is(monkeypatch: pytest.MonkeyPatch, total: int | None, expected: list[str]) -> None:
    monkeypatch.setattr(report, "PROGRESS_AFTER_SECONDS", -1)
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    work(total)
    assert all(each in terminal.getvalue() for each in expected)
    assert ("%" in terminal.getvalue()) == (total is not None)


@pytest.mark.parametrize(
    ("stream", "seconds", "shown"), [(Terminal, 60, True), (Terminal, -1, False), (io.StringIO, -1, True)]
)
def test_short_work_files_and_tables_show_nothing(
    monkeypatch: pytest.MonkeyPatch, stream: type[io.StringIO], seconds: float, shown: bool
) -> None:
    monkeypatch.setattr(report, "PROGRESS_AFTER_SECONDS", seconds)
    monkeypatch.setattr(sys, "stderr", output := stream())
    work(100, shown=shown)
    assert output.getvalue() == ""
