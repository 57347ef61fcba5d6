"""The sentiment model that ships with the package."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import formers
from formers.hub.files import resolve
from formers.registry import DEFAULT_SENTIMENT_MODEL

FOLDER = Path(formers.__file__).parent / "pipelines" / "data" / "all-MiniLM-L6-v2-sst2"
PLAIN = [
    ("A wonderful, moving film with a brilliant cast.", "POSITIVE"),
    ("I loved every minute of it.", "POSITIVE"),
    ("This made my day, thank you!", "POSITIVE"),
    ("Dull, overlong and badly acted.", "NEGATIVE"),
    ("I want my money back.", "NEGATIVE"),
    ("The worst service I have ever had.", "NEGATIVE"),
]


def test_it_is_found_by_name_and_small():
    assert Path(resolve(DEFAULT_SENTIMENT_MODEL).require("config.json")).parent == FOLDER
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 25_000_000


def test_it_is_stored_as_int8_and_computes_in_float32():
    from safetensors import safe_open

    with safe_open(FOLDER / "model.safetensors", "np") as file:
        kinds = {str(file.get_tensor(key).dtype) for key in file.keys() if key.endswith("query.weight")}  # noqa: SIM118
    assert kinds == {"int8"}
    model = formers.AutoModelForSequenceClassification.from_pretrained(DEFAULT_SENTIMENT_MODEL)
    assert str(model.dtype) == "torch.float32"


@pytest.fixture(scope="module")
def classify() -> formers.Pipeline:
    return formers.pipeline("sentiment-analysis")


@pytest.mark.parametrize(("text", "label"), PLAIN)
def test_plain_sentences(classify: formers.Pipeline, text: str, label: str):
    assert classify(text)[0]["label"] == label


def test_its_card_states_the_measured_accuracy():
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    stated = re.search(r"\*\*Accuracy\*\*.*?(\d+\.\d+)%", card)
    assert stated is not None
    assert float(stated[1]) >= 90


def test_its_weights_fit_sixteen_bits_exactly():
    model = formers.AutoModelForSequenceClassification.from_pretrained(DEFAULT_SENTIMENT_MODEL)
    matrices = [parameter.detach() for parameter in model.parameters() if parameter.dim() == 2]
    assert all((matrix.half().float() == matrix).all() for matrix in matrices)
