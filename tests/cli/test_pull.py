"""`formers pull`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from formers.errors import ModelNotFoundError
from formers.hub import Source
from formers.hub import pull as pull_module


def test_arguments_reach_the_hub_and_the_folder_is_printed(
    invoke: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[Any] = []

    def fetch(name: str, source: Source, *, progress: bool) -> Path:
        calls.append((name, source, progress))
        return tmp_path / "model"

    monkeypatch.setattr(pull_module, "pull", fetch)
    result = invoke("pull", "some/model", "--revision", "v1", "--cache-dir", tmp_path, "--force")
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'model'}\n")
    assert calls == [("some/model", Source(revision="v1", cache_dir=tmp_path, force_download=True), False)]


def test_a_failure_is_one_line(invoke: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(name: str, source: Source, *, progress: bool) -> Path:
        raise ModelNotFoundError("There is no such model.", "Look again.")

    monkeypatch.setattr(pull_module, "pull", fetch)
    result = invoke("pull", "some/model")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "error: There is no such model. Look again.\n")


def test_a_model_that_is_there_already(invoke: Callable[..., Any], minilm: Path) -> None:
    assert invoke("pull", "sentence-transformers/all-MiniLM-L6-v2").stdout == f"{minilm}\n"
