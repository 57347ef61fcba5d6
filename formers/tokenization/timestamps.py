"""Whisper's timestamps: tokens that say when, in steps of 20 ms, what lies between them was spoken.

Every window of 30 s that a model transcribed counts from 0 again. So a time that lies before the last one starts a new
window: where two timestamps ended the old one, the model was asked to go on from the last of them, else from the
window's end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

WINDOW = 1500
"""Steps in a window of 30 s."""


class Segment(NamedTuple):
    """Tokens with their timestamps, and when they were spoken in seconds."""

    ids: list[int]
    start: float
    end: float


def segments(ids: Sequence[int], first: int, precision: float = 0.02, window: int = WINDOW) -> list[Segment]:
    """The segments between timestamps. first: the id of the time 0. precision: the seconds of a step."""
    times = [index >= first for index in ids]
    found = [place for place, is_time in enumerate(times) if is_time]
    ends = [place + 1 for place in range(len(ids) - 1) if times[place] and times[place + 1]]
    if not ends and len(found) <= 1:
        return []
    if found[-1] + 1 not in ends:
        ends.append(found[-1] + 1)
    begin, latest, before = found[0], 0, 0
    result = []
    for end in ends:
        part = list(ids[begin:end])
        if len(part) > 1:
            opening, closing = part[0] - first, part[-1] - first
            if opening < latest:
                in_pairs = begin < 2 or (times[begin - 2] and times[begin - 1])
                before += latest if in_pairs else window
            latest = closing
            start, stop = (step * precision + before * precision for step in (opening, closing))
            result.append(Segment(part, start, stop))
        begin = end
    return result


def annotated(
    ids: Sequence[int], first: int, precision: float = 0.02, window: int = WINDOW
) -> Iterator[str | list[int]]:
    """The ids of texts and, between them, the timestamps as they are written: "<|1.08|>"."""
    parts: list[str | list[int]] = []
    text: list[int] = []
    latest = previous = before = 0.0
    for place, index in enumerate(ids):
        if index < first:
            text.append(index)
            continue
        time = float((index - first) * precision)
        parts.append(text)
        text = []
        if time < latest:
            if place >= 2 and not (ids[place - 1] >= first and ids[place - 2] >= first):
                before += precision * window
            else:
                latest = previous
                before += previous
                # The time that the new window starts with is written once.
                del parts[-2:]
        previous, latest = latest, time
        parts.append(f"<|{time + before:.2f}|>")
    yield from parts
    yield text
