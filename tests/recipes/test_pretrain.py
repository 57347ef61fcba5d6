"""Pre-training from nothing but text, end to end: what is learnt beats the frequencies of tokens."""

from __future__ import annotations

import importlib.util
import random
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from formers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

RECIPE = Path(__file__).parents[2] / "recipes" / "pretrain.py"


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("pretrain", RECIPE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "WIDTH", 64)
    monkeypatch.setattr(module, "LAYERS", 2)
    return module


def write(path: Path) -> Path:
    """Sentences whose words follow from one another."""
    drawn = random.Random(0)
    scenes = [
        ("cat", "milk", "kitchen"),
        ("dog", "bone", "garden"),
        ("horse", "hay", "stable"),
        ("bird", "seed", "cage"),
    ]
    lines = []
    for _ in range(400):
        animal, food, place = drawn.choice(scenes)
        lines.append(f"the {animal} wants {food} and runs to the {place} .\tignored")
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.mark.parametrize(("family", "auto"), [("bert", AutoModelForMaskedLM), ("gpt2", AutoModelForCausalLM)])
def test_the_model_beats_a_unigram_model(
    family: str,
    auto: type,
    recipe: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output, data = tmp_path / "model", write(tmp_path / "texts.txt")
    options = ["--vocabulary", "320", "--epochs", "4", "--batch-size", "8", "--learning-rate", "3e-3"]
    monkeypatch.setattr(sys, "argv", ["pretrain.py", family, "--output", str(output), "--data", str(data), *options])
    recipe.main()
    said = re.search(r"held-out perplexity: ([\d.]+); a unigram model's: ([\d.]+)", capsys.readouterr().out)
    assert said is not None
    assert float(said[1]) < 0.6 * float(said[2])
    assert {"README.md", "training.png", "metrics.jsonl", "model.safetensors"} <= {
        each.name for each in output.iterdir()
    }
    tokenizer = AutoTokenizer.from_pretrained(output)
    logits = auto.from_pretrained(output)(**tokenizer("the cat", return_tensors="pt")).logits
    assert logits.shape[-1] == len(tokenizer)
