"""The recipe for dates: what is held out is held out, phrases mean what they say, and the whole of it runs."""

from __future__ import annotations

import importlib.util
import random
import sys
from datetime import date, timedelta
from pathlib import Path
from types import ModuleType

import pytest

from formers import AutoModelForSeq2SeqLM, AutoTokenizer

RECIPE = Path(__file__).parents[2] / "recipes" / "dates.py"


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("dates", RECIPE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_phrases(recipe: ModuleType) -> None:
    rng = random.Random(0)
    days = [recipe.FIRST + timedelta(days=n) for n in range((recipe.LAST - recipe.FIRST).days + 1)]
    held = [day for day in days if recipe.held_out(day)]
    assert len(held) == pytest.approx(len(days) / 10, rel=0.01)
    assert {day.month for day in held} == set(range(1, 13))
    assert {day.weekday() for day in held} == set(range(7))
    made = recipe.pairs(days, 4000, rng)
    assert recipe.pairs(days[:9], 50, rng, [text.upper() for text, _ in made])[0][0] not in dict(made)
    # No phrase means two days, and most are said once only.
    meanings: dict[str, set[str]] = {}
    for text, iso in made:
        meanings.setdefault(text.casefold(), set()).add(iso)
    assert max(map(len, meanings.values())) == 1
    assert len(meanings) > 3900
    ways = {recipe.phrase(date(1987, 3, 3), rng) for _ in range(2000)}
    assert len(ways) > 400
    assert {"3.III.1987", "19870303", "the third of March, nineteen eighty-seven", "3 марта 1987 г."} <= ways
    assert recipe.by_its_name(date(2024, 2, 29), rng).startswith("the last")
    assert recipe.ordinal(12, random.Random(4)) in ("12th", "twelfth")


def test_the_recipe_runs(
    recipe: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recipe, "WIDTH", 16)
    monkeypatch.setattr(recipe, "LAYERS", 1)
    options = ["--phrases", "320", "--held-out", "20", "--vocabulary", "300"]
    monkeypatch.setattr(sys, "argv", ["dates.py", "--output", str(tmp_path), *options])
    recipe.main()
    printed = capsys.readouterr().out
    assert "days never seen: " in printed
    assert "of 20 phrases read exactly" in printed
    assert (tmp_path / "training.png").exists()
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    ids = model.generate(tokenizer("3 March 1987", return_tensors="pt")["input_ids"], max_new_tokens=11)
    assert ids.shape[0] == 1
