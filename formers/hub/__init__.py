"""Models on disk and on the hub: finding a model's files, reading and writing weights."""

from __future__ import annotations

from formers.hub.files import ModelFiles, Source, resolve

__all__ = ["ModelFiles", "Source", "resolve"]
