"""quantize= of pipelines, and the flags of the commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from formers import pipeline
from formers.cli.app import app
from formers.errors import InputError
from formers.layers.int8 import Int8Linear

TEXTS = ["A delight from start to end.", "Dull, long and badly acted.", "It is what it is."]


def test_answers_stay_near_and_survive_a_folder(tmp_path: Path) -> None:
    exact = pipeline("sentiment-analysis")(TEXTS[:2])
    classify = pipeline("sentiment-analysis", quantize="int8")
    assert any(isinstance(module, Int8Linear) for module in classify.model.modules())
    found = classify(TEXTS)
    for left, right in zip(exact, found, strict=False):
        assert left["label"] == right["label"]
        assert left["score"] == pytest.approx(right["score"], abs=0.05)
    classify.save_pretrained(tmp_path)
    assert pipeline("sentiment-analysis", model=str(tmp_path))(TEXTS) == found


def test_a_loaded_model_is_not_quantized() -> None:
    model = pipeline("sentiment-analysis").model
    with pytest.raises(InputError, match="A loaded model is given with quantize"):
        pipeline("sentiment-analysis", model=model, quantize="int8")


def test_the_value_is_given_once() -> None:
    with pytest.raises(InputError, match="quantize is given twice"):
        pipeline("sentiment-analysis", quantize="int8", model_kwargs={"quantize": "int4"})


def test_flags() -> None:
    runner = CliRunner()
    done = runner.invoke(app, ["run", "sentiment-analysis", TEXTS[0], "--int8", "--output-format", "jsonl"])
    assert done.exit_code == 0, done.output
    expected = pipeline("sentiment-analysis", quantize="int8")(TEXTS[0])[0]
    assert json.loads(done.stdout.splitlines()[-1])["label"] == expected["label"]
    both = runner.invoke(app, ["run", "sentiment-analysis", TEXTS[0], "--int8", "--int4"])
    assert both.exit_code == 2
    assert "--int4" in both.stderr
