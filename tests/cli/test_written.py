"""`formers train` and `formers eval` of the tasks that write a text from a text, with tiny encoder–decoders."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import formers
from formers.cli import columns
from formers.cli.columns import SUMMARIZATION, TEXT2TEXT, TRANSLATION, Column, Wish
from formers.errors import InputError
from tests.pipelines.text2text import WORDS, made

pytest.importorskip("datasets")
pytest.importorskip("sacrebleu")
pytest.importorskip("rouge_score")

Invoke = Callable[..., Any]
QUICK = ("--use-cpu", "--report-to", "none", "--batch-size", "8", "--learning-rate", "0.01", "--epochs", "2")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return made(tmp_path_factory.mktemp("models"))


def data(path: Path, read: str, write: str, rows: int = 40) -> Path:
    """Texts, and their first two words."""
    numbers, known = random.Random(0), WORDS.split()[:12]
    lines = []
    for number in range(rows):
        text = [numbers.choice(known) for _ in range(6)]
        lines.append({"id": number, read: " ".join(text), write: " ".join(text[:2])})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


ROUGE = {"rouge1", "rouge2", "rougeL", "rougeLsum"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("task", "model", "named", "more", "metrics", "best"),
    [
        (SUMMARIZATION, "t5", ("article", "highlights"), (), ROUGE, "rougeLsum"),
        (TRANSLATION, "bart", ("source", "target"), (), {"bleu"}, "bleu"),
        (None, "bart", ("question", "answer"), (), {*ROUGE, "bleu", "exact_match"}, "rougeL"),
        (TRANSLATION, "mbart", ("en", "fr"), ("--src-lang", "en_XX", "--tgt-lang", "fr_XX"), {"bleu"}, "bleu"),
    ],
)
def test_a_model_learns_to_write(
    invoke: Invoke,
    folders: dict[str, str],
    tmp_path: Path,
    task: str | None,
    model: str,
    named: tuple[str, str],
    more: tuple[str, ...],
    metrics: set[str],
    best: str,
) -> None:
    file, out = data(tmp_path / "data.jsonl", *named), tmp_path / "out"
    said = ("--task", task) if task else ()
    done = invoke("train", file, "-m", folders[model], "-o", out, *QUICK, *said, *more, "--max-target-length", "9")
    assert done.exit_code == 0, done.stderr
    name = task or TEXT2TEXT
    assert f"task: {name}; texts: {named[0]}; to write: {named[1]}; not used: id" in done.stderr
    assert f"formers run {name} " in done.stderr
    results = json.loads((out / "results.json").read_text())["validation"]
    assert metrics | {"loss", "gen_len"} <= results.keys()
    settings = yaml.safe_load((out / "run.yaml").read_text())
    assert (settings["max_target_length"], settings["metric_for_best_model"]) == (9, best)
    assert settings.get("source_prefix") == ("summarize: " if model == "t5" else None)
    assert name in (out / "README.md").read_text()
    assert (out / "training.png").exists()
    trained = formers.AutoModelForSeq2SeqLM.from_pretrained(out)
    if model == "mbart":
        tokenizer = formers.AutoTokenizer.from_pretrained(out)
        assert trained.generation_config.forced_bos_token_id == tokenizer.convert_tokens_to_ids("fr_XX")
    # Evaluation finds the task, the prefix and the lengths in the model's folder.
    found = invoke("eval", file, "-m", out, "--use-cpu", "-o", tmp_path / "eval.json")
    assert found.exit_code == 0, found.stderr
    evaluated = json.loads((tmp_path / "eval.json").read_text())
    assert (evaluated["task"], evaluated["rows"]) == (name, 40)
    assert metrics <= evaluated["metrics"].keys()


@pytest.mark.filterwarnings("ignore")
def test_evaluation_is_that_of_training(invoke: Invoke, folders: dict[str, str], tmp_path: Path) -> None:
    for split in ("train", "validation"):
        data(tmp_path / f"{split}.jsonl", "text", "summary")
    out = tmp_path / "out"
    command = ("train", tmp_path, "-m", folders["t5"], "-o", out, *QUICK, "--task", "summarization")
    assert invoke(*command, "--num-beams", "2").exit_code == 0
    invoke("eval", tmp_path, "-m", out, "--use-cpu", "-o", tmp_path / "eval.json")
    found = json.loads((tmp_path / "eval.json").read_text())["metrics"]
    expected = json.loads((out / "results.json").read_text())["validation"]
    assert {name: found[name] for name in ROUGE} == pytest.approx({name: expected[name] for name in ROUGE}, abs=1e-6)


def text(name: str) -> Column:
    return Column(name, "text", 40, 40, 20.0)


@pytest.mark.parametrize(
    ("names", "wish", "read", "write"),
    [
        ("id document summary", Wish(SUMMARIZATION), "document", "summary"),
        ("title text", Wish(SUMMARIZATION), "text", "title"),
        ("en de", Wish(TRANSLATION), "en", "de"),
        ("en de", Wish(TRANSLATION, labels=("en",)), "de", "en"),
        ("en de fr", Wish(TRANSLATION, text="en", labels=("fr",)), "en", "fr"),
        ("input target", Wish(language_task=TEXT2TEXT), "input", "target"),
        ("question answer", Wish("seq2seq"), "question", "answer"),
    ],
)
def test_columns_are_told(names: str, wish: Wish, read: str, write: str) -> None:
    found = columns.detect([text(name) for name in names.split()], wish)
    assert (found.text, found.labels, found.pair) == (read, (write,), None)


@pytest.mark.parametrize(
    ("given", "wish", "message"),
    [
        ([text("en"), text("de"), text("fr")], Wish(TRANSLATION), "to be read is not clear.*--text-column"),
        ([text("text")], Wish(SUMMARIZATION), "to be written is not clear.*--label-column"),
        ([text("text"), Column("n", "integer", 9)], Wish(SUMMARIZATION, labels=("n",)), "'n' holds whole numbers"),
        ([text("text"), text("summary")], Wish(SUMMARIZATION, pair="text"), "--pair-column was given"),
    ],
)
def test_columns_that_do_not_tell(given: list[Column], wish: Wish, message: str) -> None:
    with pytest.raises(InputError, match=message):
        columns.detect(given, wish)


@pytest.mark.filterwarnings("ignore")
def test_languages_are_checked(invoke: Invoke, folders: dict[str, str], tmp_path: Path) -> None:
    file = data(tmp_path / "data.jsonl", "en", "fr")
    command = ("train", file, "-m", folders["bart"], "-o", tmp_path / "out", *QUICK, "--task", "translation")
    done = invoke(*command, "--tgt-lang", "fr_XX")
    assert done.exit_code == 1
    assert "fr_XX" in done.stderr
