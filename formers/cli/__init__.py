"""The command line: `formers run`, `formers chat`, `formers train`, `formers eval`, `formers convert`,
`formers pull`, `formers info`.

Exit codes: 0 done, 1 failed (the reason is on stderr), 2 wrong usage, 130 interrupted, 141 the reader of stdout left.
"""

from __future__ import annotations

import signal
import sys
import warnings
from types import FrameType

from formers.errors import MissingDependencyError


def main() -> None:
    """Entry point of the console script."""
    signal.signal(signal.SIGTERM, _terminate)
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    try:
        try:
            from formers.cli.app import app
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package not in ("typer", "rich"):
                raise
            sys.exit(f"error: {MissingDependencyError.for_extra(package, 'cli')}")
        app()
    except KeyboardInterrupt:  # before or after a command, whose own handling is in `formers.cli.report`
        sys.exit(130)


def _terminate(signum: int, frame: FrameType | None) -> None:
    """Leave through the exception path, so that nothing half written stays behind."""
    sys.exit(128 + signum)
