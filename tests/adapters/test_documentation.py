"""The page on adapters shows what works."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "lora.md"


def test_the_page(
    minilm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))
    code = code.replace('"sentence-transformers/all-MiniLM-L6-v2"', repr(str(minilm)))
    names: dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec"), names)  # noqa: S102
    shown = capsys.readouterr().out
    line = re.search(r"print_trainable_parameters\(\)  # (.*)", code)
    assert line is not None
    assert line[1] in shown
    assert {path.name for path in Path("adapters").iterdir()} == {"films", "books"}
    assert {path.name for path in Path("my-adapter").iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    assert (Path("merged") / "model.safetensors").is_file()
    assert Path("my-adapter/adapter_model.safetensors").stat().st_size == pytest.approx(300_000, rel=0.05)
