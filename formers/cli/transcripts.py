"""`formers run automatic-speech-recognition`: its options, and transcripts as plain text, JSON, SubRip and WebVTT."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from formers.cli.rows import Row
from formers.cli.writers import Writer, opened
from formers.errors import InputError

TASK = "automatic-speech-recognition"
OPTIONS: dict[str, tuple[str, ...]] = dict.fromkeys(("language", "task", "timestamps"), (TASK,))
"""The options of this task alone."""

_TIMES = {"segment": True, "word": "word"}
# Seconds that a last cue is shown for whose end was not heard.
_UNENDED = 2.0

# Start and end in seconds, and what is said.
Cue = tuple[float, float, str]


def call_options(given: Mapping[str, Any], format: str) -> dict[str, Any]:
    """The keywords of the pipeline's call from the flags of the command; subtitles need times."""
    settings = dict(given)
    named = settings.pop("timestamps", "segment" if format in ("srt", "vtt") else None)
    if named is None:
        return settings
    if named not in _TIMES:
        raise InputError(f"--timestamps {named} was given.", f"Use one of: {', '.join(_TIMES)}.")
    return {**settings, "return_timestamps": _TIMES[named]}


@contextmanager
def writing(name: str, format: str, column: str = "file") -> Iterator[Writer]:
    """A writer of transcripts to a file, to stdout where `name` is "-", or to a file a recording in a folder.

    `column` has the recordings' names.
    """
    if Path(name).is_dir():
        yield _FolderWriter(Path(name), format, column)
        return
    with opened(name) as stream:
        yield _StreamWriter(stream, format)


class _StreamWriter:
    """One transcript, or as plain text several."""

    def __init__(self, stream: TextIO, format: str) -> None:
        self._stream, self._format, self._first = stream, format, True

    def write(self, row: Row, result: Any) -> None:
        """Write one transcript."""
        if not self._first and self._format not in ("text", "txt"):
            raise InputError(
                f"There are several recordings for one {self._format} file.",
                "Name a folder that exists with --output, and each gets a file of its own.",
            )
        self._first = False
        self._stream.write(FORMATS[self._format](row, result))

    def close(self) -> None:
        """Nothing is held back."""


class _FolderWriter:
    """A file for each recording, of its name."""

    def __init__(self, folder: Path, format: str, column: str) -> None:
        self._folder, self._format, self._column = folder, format, column
        self._written: dict[str, str] = {}

    def write(self, row: Row, result: Any) -> None:
        """Write one transcript."""
        source = str(row.columns[self._column])
        name = f"{Path(source).stem}.{'txt' if self._format == 'text' else self._format}"
        if name in self._written:
            raise InputError(
                f"The transcripts of {self._written[name]!r} and {source!r} would both be {name!r}.",
                "Write them into different folders.",
            )
        self._written[name] = source
        with opened(str(self._folder / name)) as stream:
            stream.write(FORMATS[self._format](row, result))

    def close(self) -> None:
        """Nothing is held back."""


def cues(chunks: Sequence[Mapping[str, Any]]) -> list[Cue]:
    """What is shown from when to when. An end that was not heard is where the next one starts."""
    spoken = [chunk for chunk in chunks if chunk["text"].strip()]
    starts = [chunk["timestamp"][0] or 0.0 for chunk in spoken]
    found = []
    for place, chunk in enumerate(spoken):
        start, end = starts[place], chunk["timestamp"][1]
        if end is None:
            end = starts[place + 1] if place + 1 < len(starts) else start + _UNENDED
        found.append((start, max(start, end), " ".join(chunk["text"].split())))
    return found


def clock(seconds: float, point: str) -> str:
    """A time as 01:02:03.450, with another sign for the point."""
    whole, thousandths = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{point}{thousandths:03}"


def _text(row: Row, result: Mapping[str, Any]) -> str:
    if "chunks" not in result:
        return " ".join(result["text"].split()) + "\n"
    shown = [f"[{clock(start, '.')} --> {clock(end, '.')}] {text}\n" for start, end, text in cues(result["chunks"])]
    return "".join(shown)


def _json(row: Row, result: Mapping[str, Any]) -> str:
    return json.dumps({**row.columns, **result}, ensure_ascii=False, indent=2) + "\n"


def _srt(row: Row, result: Mapping[str, Any]) -> str:
    blocks = [
        # An arrow inside a text would end it.
        f"{number}\n{clock(start, ',')} --> {clock(end, ',')}\n{text.replace('-->', '->')}\n"
        for number, (start, end, text) in enumerate(cues(result["chunks"]), 1)
    ]
    return "\n".join(blocks)


def _vtt(row: Row, result: Mapping[str, Any]) -> str:
    blocks = ["WEBVTT\n"]
    for start, end, text in cues(result["chunks"]):
        escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        blocks.append(f"{clock(start, '.')} --> {clock(end, '.')}\n{escaped}\n")
    return "\n".join(blocks)


FORMATS: dict[str, Callable[[Row, Mapping[str, Any]], str]] = {
    "text": _text,
    "txt": _text,
    "json": _json,
    "srt": _srt,
    "vtt": _vtt,
}
"""The formats that transcripts have beside those of all tasks."""
