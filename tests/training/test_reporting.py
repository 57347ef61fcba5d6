"""What a training leaves to look at."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from formers.training.reporting import plot
from tests.training.small import losses, rows, trainer


def read(folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """The entries of metrics.jsonl, and the rows of metrics.csv."""
    entries = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    with open(folder / "metrics.csv", encoding="utf-8", newline="") as file:
        return entries, list(csv.DictReader(file))


def evaluated(folder: Path, **given: Any) -> Any:
    made = trainer(folder, eval_dataset=rows(4), eval_strategy="epoch", save_strategy="epoch", **given)
    made.train()
    return made


def test_metrics_files_hold_every_log(tmp_path: Path) -> None:
    made = evaluated(tmp_path)
    entries, table = read(tmp_path)
    assert entries == made.state.log_history
    assert len(table) == len(entries)
    assert [float(row["loss"]) for row in table if row["loss"]] == losses(made)
    assert [row["eval_loss"] for row in table if row["eval_loss"]] == [
        str(entry["eval_loss"]) for entry in entries if "eval_loss" in entry
    ]
    assert list(table[0])[:2] == ["step", "epoch"]


def test_a_resumed_training_forgets_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    whole = evaluated(tmp_path)
    made = trainer(
        tmp_path, eval_dataset=rows(4), eval_strategy="epoch", save_total_limit=0, save_strategy="steps", save_steps=4
    )
    made.train()
    made.train(resume_from_checkpoint=tmp_path / "checkpoint-4")
    entries, table = read(tmp_path)
    assert len(entries) == len(table) == len(whole.state.log_history)
    assert [entry["step"] for entry in entries] == sorted(entry["step"] for entry in entries)


def test_an_evaluation_alone_is_added(tmp_path: Path) -> None:
    evaluated(tmp_path)
    before = len(read(tmp_path)[0])
    trainer(tmp_path, eval_dataset=rows(4)).evaluate()
    entries, table = read(tmp_path)
    assert len(entries) == len(table) == before + 1


def test_the_model_card(tmp_path: Path) -> None:
    made = evaluated(tmp_path, compute_metrics=lambda prediction: {"accuracy": 0.75}, weight_decay=0.125)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "* training: 20 examples" in card
    assert "| weight_decay | `0.125` |" in card
    assert "| step | epoch | eval_accuracy | eval_loss |" in card
    assert "| 10 | 2 | 0.75 |" in card
    assert "adam_beta1" not in card
    made.create_model_card(
        language="en", license="mit", model_name="A name", finetuned_from="base", dataset_tags="sst2"
    )
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\n")
    for line in ('base_model: "base"', 'language: "en"', 'license: "mit"', 'datasets: "sst2"', "# A name"):
        assert line in card.splitlines()


def test_a_card_of_someone_else_stays(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine", encoding="utf-8")
    evaluated(tmp_path)
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == "mine"


def test_the_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    evaluated(tmp_path, compute_metrics=lambda prediction: {"accuracy": 0.75})
    assert (tmp_path / "training.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_there_is_no_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    assert plot([{"loss": 1.0, "step": 1}], tmp_path / "training.png", "title") is None
    assert not list(tmp_path.iterdir())


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    made = evaluated(tmp_path, report_to="tensorboard")
    events = EventAccumulator(str(tmp_path / "runs"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == list(range(1, 11))
    assert [event.value for event in events.Scalars("train/loss")] == pytest.approx(losses(made))
    assert "eval/loss" in events.Tags()["scalars"]
