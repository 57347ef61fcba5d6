"""Pipelines: from a text to an answer in one call. `pipeline("text-classification")("It works.")`"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from formers.pipelines.base import Pipeline
from formers.pipelines.factory import check_task, get_supported_tasks, pipeline
from formers.registry import TASKS

_CLASSES = {name: module for module, name in (task.pipeline.split(":") for task in TASKS.values())}

__all__ = ["Pipeline", "check_task", "get_supported_tasks", "pipeline", *sorted(_CLASSES)]


def __getattr__(name: str) -> Any:
    if name not in _CLASSES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_CLASSES[name]}"), name)
