"""`formers run automatic-speech-recognition`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import formers
from tests.pipelines.speech import made, sound, wav


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
