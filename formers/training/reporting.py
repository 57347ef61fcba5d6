"""What a training leaves to look at: metrics.jsonl, metrics.csv, training.png, TensorBoard's files and a model card."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from formers.errors import InputError
from formers.hub.atomic import staged, write_text
from formers.training.arguments import TrainingArguments
from formers.training.callbacks import TrainerCallback, TrainerControl, TrainerState

JSONL, CSV, PLOT, CARD = "metrics.jsonl", "metrics.csv", "training.png", "README.md"
# Marks model cards that may be written again.
_MARK = "<!-- Written by formers' Trainer. Delete this line to keep your changes. -->"
# Endings of the names of measurements, which are no metrics.
SPEED = ("runtime", "samples_per_second", "steps_per_second", "tokens_per_second")
Entry = Mapping[str, Any]


class MetricsCallback(TrainerCallback):
    """Writes every log to metrics.jsonl and metrics.csv, and draws training.png when training ends."""

    def __init__(self) -> None:
        self.columns: list[str] = []

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """Start anew, or from what the checkpoint had logged."""
        folder = folder_of(args)
        write_text(folder / JSONL, "".join(map(_line, state.log_history)))
        self._rewrite(folder)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """Append the newest entry."""
        folder, entry = folder_of(args), state.log_history[-1]
        with open(folder / JSONL, "a", encoding="utf-8") as file:
            file.write(_line(entry))
        if set(entry) <= set(self.columns) and (folder / CSV).exists():
            with open(folder / CSV, "a", encoding="utf-8", newline="") as file:
                file.write(_csv(self.columns, [entry], header=False))
        else:
            self._rewrite(folder)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """Draw the curves where matplotlib is installed."""
        plot(state.log_history, folder_of(args) / PLOT, str(args.run_name))

    def _rewrite(self, folder: Path) -> None:
        history = [json.loads(line) for line in (folder / JSONL).read_text(encoding="utf-8").splitlines()]
        self.columns = list(dict.fromkeys(["step", "epoch", *(name for entry in history for name in entry)]))
        write_text(folder / CSV, _csv(self.columns, history, header=True))


class TensorBoardCallback(TrainerCallback):
    """Writes every logged number to TensorBoard's event files in `logging_dir`, as train/… and eval/…"""

    def __init__(self) -> None:
        self.writer: Any = None

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """Write the values."""
        if self.writer is None:
            from torch.utils.tensorboard import SummaryWriter  # type: ignore[attr-defined, unused-ignore]

            make: Any = SummaryWriter
            self.writer = make(log_dir=args.logging_dir)
        for name, value in kwargs["logs"].items():
            if isinstance(value, int | float):
                split = next((part for part in ("eval", "test") if name.startswith(part + "_")), None)
                tag = f"train/{name}" if split is None else name.replace("_", "/", 1)
                self.writer.add_scalar(tag, value, state.global_step)
        self.writer.flush()

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """Close the file."""
        if self.writer is not None:
            self.writer.close()
            self.writer = None


def plot(history: Sequence[Entry], path: Path, title: str) -> Path | None:
    """Draw loss, evaluation metrics and learning rate over the steps; None where matplotlib or values are missing."""
    panels = [(name, curves) for name, curves in _panels(history).items() if curves]
    try:
        from matplotlib.figure import Figure  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return None
    if not panels:
        return None
    figure = Figure(figsize=(4.8 * len(panels), 3.6), layout="constrained")
    for axes, (name, curves) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for label, points in curves.items():
            axes.plot(*zip(*points, strict=True), label=label, marker="o" if len(points) < 30 else None, markersize=3)
        axes.set_title(name)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        if list(curves) != [name]:
            axes.legend(fontsize="small")
    figure.suptitle(title)
    with staged(path) as draft:
        figure.savefig(draft, format="png", dpi=120)
    return path


class CardFields(TypedDict, total=False):
    """What a model card may say besides what the training knows."""

    language: str | None
    license: str | None
    tags: str | list[str] | None
    model_name: str | None
    finetuned_from: str | None
    tasks: str | list[str] | None
    dataset_tags: str | list[str] | None
    dataset: str | list[str] | None
    dataset_args: str | list[str] | None


def write_card(
    args: TrainingArguments,
    model: Any,
    datasets: Mapping[str, Any],
    history: Sequence[Entry],
    given: CardFields,
) -> Path | None:
    """Write README.md with data, settings and results into the output folder.

    A card of someone else's stays, and None comes back.
    """
    if unknown := given.keys() - CardFields.__annotations__.keys():
        raise InputError(
            f"A model card has no {', '.join(sorted(unknown))}.", f"It has {', '.join(CardFields.__annotations__)}."
        )
    path = folder_of(args) / CARD
    if path.exists() and _MARK not in path.read_text(encoding="utf-8"):
        return None
    base_model = given.get("finetuned_from") or getattr(model, "name_or_path", None)
    header = {
        "library_name": "formers",
        "base_model": base_model or None,
        "language": given.get("language"),
        "license": given.get("license"),
        "tags": given.get("tags"),
        "pipeline_tag": given.get("tasks"),
        "datasets": given.get("dataset_tags") or given.get("dataset"),
        "dataset_args": given.get("dataset_args"),
    }
    origin = f"Fine-tuned from `{base_model}`" if base_model else "Trained"
    data = [f"* {split}: {_size(dataset)}" for split, dataset in datasets.items() if dataset is not None]
    neutral = type(args)(args.output_dir).to_dict()
    always = ("learning_rate", "per_device_train_batch_size", "num_train_epochs", "seed")
    settings = {k: v for k, v in args.to_dict().items() if v != neutral[k] or k in always}
    lines = [
        "---",
        *(f"{k}: {json.dumps(v, ensure_ascii=False)}" for k, v in header.items() if v is not None),
        "---",
        _MARK,
        "",
        f"# {given.get('model_name') or args.run_name}",
        "",
        f"{origin} with formers.",
        "",
        *(["## Data", "", *data, ""] if data else []),
        "## Settings",
        "",
        *_table(["setting", "value"], [[key, f"`{value}`"] for key, value in settings.items()]),
        "",
        *_results(history),
    ]
    return write_text(path, "\n".join(lines).rstrip() + "\n")


def _size(dataset: Any) -> str:
    if isinstance(dataset, Mapping):
        return ", ".join(f"{name} ({_size(one)})" for name, one in dataset.items())
    return f"{len(dataset):,} examples" if hasattr(dataset, "__len__") else "a stream"


def _results(history: Sequence[Entry]) -> list[str]:
    evaluations = [e for e in history if any(key.startswith("eval_") for key in e)]
    names = [n for e in evaluations for n in e if n.startswith("eval_") and not n.endswith(SPEED)]
    columns = list(dict.fromkeys(names))
    if not columns:
        return []
    rows = [
        [_number(e.get("step")), _number(e.get("epoch")), *(_number(e.get(n)) for n in columns)] for e in evaluations
    ]
    return ["## Results", "", *_table(["step", "epoch", *columns], rows)]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows]]


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _panels(history: Sequence[Entry]) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """The points (step, value) of each curve of each panel."""
    panels: dict[str, dict[str, list[tuple[int, float]]]] = {"loss": {}, "evaluation": {}, "learning_rate": {}}
    for entry in history:
        for name, value in entry.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                continue
            if name == "loss" or (name.startswith("eval_") and name.endswith("loss")):
                panel = "loss"
            elif name == "learning_rate":
                panel = name
            elif name.startswith("eval_") and not name.endswith(SPEED):
                panel = "evaluation"
            else:
                continue
            panels[panel].setdefault(name, []).append((int(entry.get("step", 0)), float(value)))
    return panels


def folder_of(args: TrainingArguments) -> Path:
    """The output folder, made if need be."""
    folder = Path(args.output_dir or ".")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _line(entry: Entry) -> str:
    return json.dumps(entry, ensure_ascii=False) + "\n"


def _csv(columns: Sequence[str], entries: Iterable[Entry], header: bool) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(entries)
    return text.getvalue()
