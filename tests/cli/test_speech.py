"""`formers run automatic-speech-recognition`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import formers
from formers.cli import transcripts
from formers.cli.rows import Row
from tests.pipelines.speech import made, sound, wav

if TYPE_CHECKING:
    from tests.cli.conftest import FakePipeline

COMMAND = ("run", "automatic-speech-recognition")
CHUNKS = [
    {"text": " Hello <there> & you.", "timestamp": (0.0, 1.5)},
    {"text": "  ", "timestamp": (1.5, 2.0)},
    {"text": " A --> B", "timestamp": (3661.25, None)},
    {"text": " End.", "timestamp": (3663.0, None)},
]


@pytest.fixture
def speaker(fake: FakePipeline) -> FakePipeline:
    fake.answer = lambda path: {"text": " Hello\n there.", "chunks": CHUNKS}
    return fake


def test_files_are_written_down(invoke: Callable[..., Any], tmp_path: Path) -> None:
    model = made(tmp_path / "model")
    files = [str(tmp_path / f"{seed}.wav") for seed in (0, 1)]
    for seed, file in enumerate(files):
        Path(file).write_bytes(wav(sound(1.5, seed)))
    texts = [each["text"] for each in formers.pipeline("automatic-speech-recognition", model=model)(files)]
    command = ("run", "automatic-speech-recognition", "--model", model)
    lines = [json.loads(line) for line in invoke(*command, *files).stdout.splitlines()]
    assert lines == [{"file": file, "text": text} for file, text in zip(files, texts, strict=True)]
    shown = invoke(*command, files[0], "--output-format", "table")
    assert shown.exit_code == 0
    assert texts[0].split()[0] in shown.stdout
    missing = invoke(*command, str(tmp_path / "none.wav"))
    assert missing.exit_code != 0
    assert "There is no file" in missing.stderr.replace("\n", " ")


def test_flags_reach_the_pipeline(invoke: Callable[..., Any], speaker: FakePipeline) -> None:
    invoke(*COMMAND, "a.wav", "--timestamps", "word", "--language", "de", "--task", "translate")
    assert speaker.options == {"return_timestamps": "word", "language": "de", "task": "translate"}
    invoke(*COMMAND, "a.wav", "--timestamps", "segment")
    assert speaker.options == {"return_timestamps": True}
    invoke(*COMMAND, "a.wav", "--output-format", "srt")
    assert speaker.options == {"return_timestamps": True}
    invoke(*COMMAND, "a.wav", "--output-format", "text")
    assert speaker.options == {}
    assert speaker.inputs == ["a.wav"] * 4


def test_lists_of_paths(invoke: Callable[..., Any], speaker: FakePipeline, tmp_path: Path) -> None:
    speaker.answer = lambda path: {"text": path.upper()}
    expected = [{"file": "a", "text": "A"}, {"file": "b", "text": "B"}]
    lines = invoke(*COMMAND, input="a\nb\n").stdout.splitlines()
    assert [json.loads(line) for line in lines] == expected
    (tmp_path / "list.csv").write_text("id,recording\n1,a\n")
    found = json.loads(invoke(*COMMAND, "-i", tmp_path / "list.csv", "--column", "recording").stdout)
    assert found == {"id": "1", "recording": "a", "text": "A"}
    invoke(*COMMAND, "-i", tmp_path / "list.csv", "--column", "recording", "-o", tmp_path, "--output-format", "text")
    assert (tmp_path / "a.txt").read_text() == "A\n"


SRT = """1
00:00:00,000 --> 00:00:01,500
Hello <there> & you.

2
01:01:01,250 --> 01:01:03,000
A -> B

3
01:01:03,000 --> 01:01:05,000
End.
"""
VTT = """WEBVTT

00:00:00.000 --> 00:00:01.500
Hello &lt;there&gt; &amp; you.

01:01:01.250 --> 01:01:03.000
A --&gt; B

01:01:03.000 --> 01:01:05.000
End.
"""


def test_formats(invoke: Callable[..., Any], speaker: FakePipeline, tmp_path: Path) -> None:
    assert invoke(*COMMAND, "a.wav", "--output-format", "srt").stdout == SRT
    assert invoke(*COMMAND, "a.wav", "--output-format", "vtt").stdout == VTT
    found = json.loads(invoke(*COMMAND, "a.wav", "--output-format", "json", "--timestamps", "segment").stdout)
    assert found["file"] == "a.wav"
    assert found["chunks"][0] == {"text": " Hello <there> & you.", "timestamp": [0.0, 1.5]}
    timed = invoke(*COMMAND, "a.wav", "--output-format", "text", "--timestamps", "segment").stdout
    assert timed.splitlines()[0] == "[00:00:00.000 --> 00:00:01.500] Hello <there> & you."
    speaker.answer = lambda path: {"text": " Hello\n there."}
    assert invoke(*COMMAND, "a.wav", "b.wav", "--output-format", "text").stdout == "Hello there.\n" * 2
    assert transcripts.FORMATS["srt"](Row({}, "", 0), {"text": "", "chunks": []}) == ""
    invoke(*COMMAND, "a.wav", "-o", tmp_path / "b.txt")
    assert (tmp_path / "b.txt").read_text() == "Hello there.\n"


def test_a_file_a_recording(invoke: Callable[..., Any], speaker: FakePipeline, tmp_path: Path) -> None:
    command = (*COMMAND, "x/a.wav", "y/b.mp3", "-o", tmp_path, "--output-format", "vtt")
    assert invoke(*command).exit_code == 0
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"a.vtt": VTT, "b.vtt": VTT}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("a.wav", "b.wav", "--output-format", "srt"), 1, "several recordings for one srt file"),
        (("a.wav", "x/a.mp3", "--output-format", "srt", "-o", "."), 1, "would both be 'a.srt'"),
        (("a.wav", "--timestamps", "minute"), 1, "Use one of: segment, word."),
        (("a.wav", "--output-format", "doc"), 2, "choose among table, jsonl, csv, text, txt, json, srt, vtt"),
    ],
)
def test_wrong_usage(
    invoke: Callable[..., Any],
    speaker: FakePipeline,
    arguments: tuple[str, ...],
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke(*COMMAND, *arguments)
    assert result.exit_code == code
    assert message in " ".join(result.stderr.replace("│", " ").split())
    other = invoke("run", "ner", "a", "--timestamps", "word")
    assert other.exit_code == 2
    assert "It is for automatic-speech-recognition, not for token-classification" in " ".join(
        other.stderr.replace("│", " ").split()
    )
    assert invoke("run", "ner", "a", "--output-format", "srt").exit_code == 2
