"""Fine-tuning as contenders: the same model, data, arguments and seeds through each library's Trainer."""

from __future__ import annotations

import csv
import json
import tempfile
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.timing import timed

Report = dict[str, Any]

EPOCHS = 3
FIRST_STEPS = 20
WARM_UP = 256
RUNS = 3
_FILES = {"train": "msr_paraphrase_train.txt", "test": "msr_paraphrase_test.txt"}


def fine_tune(library: str, turn: str, folder: Path) -> Report:
    """MRPC with the turn's seed: seconds of training, accuracy and F1 of the test set."""
    given = json.loads((folder / "mrpc.json").read_text())
    trainer = _trainer(library, folder, given, num_train_epochs=given["epochs"], seed=42 + int(turn))
    training, _ = timed(trainer.train)
    metrics = trainer.evaluate()
    return {"seconds": training, "figures": {name: metrics[f"eval_{name}"] for name in ("accuracy", "f1")}}


def evaluate(library: str, folder: Path) -> Report:
    """MRPC's test set through the Trainer: the median seconds of some evaluations after a short one, and the loss."""
    trainer = _trainer(library, folder, json.loads((folder / "mrpc.json").read_text()), seed=42)
    trainer.evaluate(trainer.eval_dataset[:WARM_UP])
    calls = [timed(trainer.evaluate) for _ in range(RUNS)]
    return {"seconds": median(seconds for seconds, _ in calls), "answer": [calls[0][1]["eval_loss"]]}


def first_losses(library: str, folder: Path) -> Report:
    """The losses of the first steps without dropout, in the order of the data."""
    given = json.loads((folder / "mrpc.json").read_text())
    off = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), 0.0)
    # Shuffled, the two libraries' orders would differ.
    options = {"max_steps": FIRST_STEPS, "logging_steps": 1, "train_sampling_strategy": "sequential", "seed": 42}
    trainer = _trainer(library, folder, given, off, **options)
    seconds, _ = timed(trainer.train)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {"seconds": seconds, "answer": losses}


def prepare(folder: Path, data: Path | None, quick: bool) -> None:
    """Write FOLDER/mrpc.json: both splits, and how many epochs are trained."""
    splits: dict[str, Any] = {split: _read(split, data) for split in _FILES}
    if quick:
        splits = {split: rows[:640] for split, rows in splits.items()}
    (folder / "mrpc.json").write_text(json.dumps({**splits, "epochs": 1 if quick else EPOCHS}))


def _read(split: str, data: Path | None) -> list[tuple[str, str, int]]:
    """The pairs of a split of MRPC and whether they are paraphrases: of the corpus's file, or of the hub's GLUE."""
    if data is None:
        from datasets import load_dataset

        rows = load_dataset("glue", "mrpc", split=split)
        return [(row["sentence1"], row["sentence2"], row["label"]) for row in rows]
    with open(data / _FILES[split], encoding="utf-8-sig", newline="") as file:
        table = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [(row["#1 String"], row["#2 String"], int(row["Quality"])) for row in table]


def _trainer(
    library: str, folder: Path, given: dict[str, Any], settings: dict[str, float] | None = None, **arguments: Any
) -> Any:
    made = import_module(library)
    tokenizer = made.AutoTokenizer.from_pretrained(str(folder / "base"))
    model = made.AutoModelForSequenceClassification.from_pretrained(str(folder / "base"), **settings or {})
    train, test = (_examples(tokenizer, given[split]) for split in _FILES)
    return made.Trainer(
        model=model,
        args=made.TrainingArguments(
            output_dir=tempfile.mkdtemp(dir=folder),
            per_device_train_batch_size=16,
            learning_rate=5e-5,
            save_strategy="no",
            report_to="none",
            **arguments,
        ),
        train_dataset=train,
        eval_dataset=test,
        data_collator=made.DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        compute_metrics=_metrics,
    )


def _examples(tokenizer: Any, rows: list[tuple[str, str, int]]) -> list[dict[str, Any]]:
    firsts, seconds, labels = zip(*rows, strict=True)
    encoded = tokenizer(list(firsts), list(seconds), truncation=True)
    columns = [*encoded.keys(), "labels"]
    return [
        dict(zip(columns, row, strict=True)) for row in zip(*(encoded[name] for name in encoded), labels, strict=True)
    ]


def _metrics(prediction: Any) -> dict[str, float]:
    logits, labels = prediction
    answers = logits.argmax(-1)
    right = int(((answers == 1) & (labels == 1)).sum())
    return {
        "accuracy": float((answers == labels).mean()),
        "f1": 2 * right / max(int((answers == 1).sum() + (labels == 1).sum()), 1),
    }
