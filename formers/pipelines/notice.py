"""Warnings that point at the caller's line, however deep in formers they arise."""

from __future__ import annotations

import sys
import warnings


def warn(message: str) -> None:
    """Warn (UserWarning) at the nearest line outside of formers."""
    level = 1
    while sys._getframe(level).f_globals.get("__name__", "").startswith("formers.") and sys._getframe(level).f_back:
        level += 1
    warnings.warn(message, UserWarning, stacklevel=level + 1)
