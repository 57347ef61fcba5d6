"""How inputs become batches: windows over the inputs, and in a window groups of rows of like length."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

# Tokens of one batch, padding included. On a CPU the activations of a batch should stay in its caches; an accelerator
# needs more tokens to be busy.
CPU_TOKENS = 4096
ACCELERATOR_TOKENS = 32768

# Inputs of the first window of a stream, and how long (seconds) a window waits for a slow source before it closes.
FIRST_WINDOW = 8
PATIENCE = 0.05


def windows(
    source: Iterable[T], largest: int, *, first: int = FIRST_WINDOW, growth: int = 2, patience: float = PATIENCE
) -> Iterator[list[T]]:
    """Cut a source, which may be endless, into lists: of `first` inputs, then `growth` times as many, up to `largest`.

    A slow source is not waited for: a window that has been open for `patience` seconds closes with what it has. If the
    source raises, the inputs before that are handed on first.
    """
    iterator = iter(source)
    size = min(first, largest)
    while True:
        window: list[T] = []
        failure: Exception | None = None
        deadline = time.monotonic() + patience
        try:
            for item in iterator:
                window.append(item)
                if len(window) >= size or time.monotonic() > deadline:
                    break
        except Exception as error:
            failure = error
        if window:
            yield window
        if failure is not None:
            raise failure
        if not window:
            return
        size = min(size * growth, largest)


def by_length(lengths: Sequence[int], tokens: int, *, may_pad: bool = True) -> list[list[int]]:
    """Indices of rows in groups of like length, sorted by length within a group.

    A group's rows times its longest length stay within `tokens`, unless it is one row. Without `may_pad` a group's rows
    are equally long. The groups come in the order of their first rows, so that early results are ready early.
    """
    groups: list[list[int]] = []
    group: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        length = lengths[index]
        full = (len(group) + 1) * length > tokens
        if group and (full or (not may_pad and length != lengths[group[-1]])):
            groups.append(group)
            group = []
        group.append(index)
    if group:
        groups.append(group)
    return sorted(groups, key=min)


def in_order(count: int, size: int) -> list[list[int]]:
    """Indices of rows in groups of `size`, in input order."""
    return [list(range(start, min(start + size, count))) for start in range(0, count, size)]
