"""Labels: their names, their kind, and whether they fit the model, told from model and data before work starts."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch import nn

from formers.errors import InputError
from formers.models.heads import IGNORED
from formers.training.arguments import TrainingArguments
from formers.training.data import LABELS, bare, is_map_style, transforms


def label_names(model: nn.Module, args: TrainingArguments) -> list[str]:
    """The names of a model's labels, from the arguments or the model's forward."""
    if args.label_names is not None:
        return args.label_names
    names = inspect.signature(bare(model).forward).parameters
    found = [name for name in names if "label" in name]
    return found or [name for name in ("start_positions", "end_positions") if name in names]


def label_column(dataset: Any) -> str | None:
    """The name of the column with labels, None where there is none or examples have no names."""
    example = dataset[0] if is_map_style(dataset) and len(dataset) else None
    return next((name for name in LABELS if name in example), None) if isinstance(example, Mapping) else None


def label_values(dataset: Any, name: str) -> Iterator[np.ndarray[Any, Any]]:
    """All labels of a `datasets.Dataset` or a list of mappings as flat arrays, part by part; nothing for others.

    Other datasets may work for every example that is read, so they are not read twice.
    """
    if isinstance(dataset, list | tuple):
        for row in dataset:
            yield np.ravel(row[name])
    elif hasattr(dataset, "with_format") and is_map_style(dataset) and not transforms(dataset):
        for table in dataset.select_columns([name]).with_format("arrow").iter(batch_size=10_000):
            column = table.column(name).combine_chunks()
            while hasattr(column, "flatten") and str(column.type).startswith(("list", "large_list", "fixed_size_list")):
                column = column.flatten()
            yield column.to_numpy(zero_copy_only=False)


def detect_problem(model: nn.Module, dataset: Any) -> None:
    """Set the problem type of a sequence classifier to multi-label where examples have one value for each label."""
    name = label_column(dataset)
    if name is None or getattr(model, "head_name", None) != "ForSequenceClassification":
        return
    config: Any = model.config
    label = dataset[0][name]
    if config.problem_type is not None or np.ndim(label) == 0 or config.num_labels == 1:
        return
    if np.shape(label) != (config.num_labels,):
        raise InputError(
            f"The column {name!r} holds {np.shape(label)} values for each example; the model has {config.num_labels} "
            "labels.",
            "Load the model with num_labels= set to the number of your labels; give each example a 0 or 1 for each.",
        )
    config.problem_type = "multi_label_classification"


def check_labels(model: nn.Module, dataset: Any, what: str) -> None:
    """Raise before work starts if a class of the dataset is none of the model's."""
    name = label_column(dataset)
    if name is None or not _classifies(model):
        return
    config: Any = model.config
    classes: int = config.num_labels
    lowest, highest = 0, 0
    for values in label_values(dataset, name):
        known = values[values != IGNORED]
        if known.size:
            lowest, highest = min(lowest, known.min()), max(highest, known.max())
    if lowest < 0 or highest >= classes:
        raise InputError(
            f"The column {name!r} of {what} has labels from {lowest} to {highest}; the model has {classes} classes, "
            "from 0 on.",
            "Load the model with num_labels= set to the number of your classes, or number the classes from 0.",
        )


def _classifies(model: nn.Module) -> bool:
    """Whether labels are classes, one an example or a token."""
    head = getattr(model, "head_name", None)
    if head != "ForSequenceClassification":
        return head == "ForTokenClassification"
    config: Any = model.config
    return config.num_labels > 1 and config.problem_type in (None, "single_label_classification")


def balanced_weights(model: nn.Module, dataset: Any) -> list[float]:
    """One weight for each class, in inverse proportion to how often the dataset has it; 1 for those it lacks."""
    name = label_column(dataset)
    if name is None or not _classifies(model):
        raise InputError(
            'class_weights="auto" needs a model that classifies, and a dataset with a column of classes.',
            "Pass the weights as a list, one number a class, or leave them out.",
        )
    config: Any = model.config
    counts = np.zeros(config.num_labels)
    for values in label_values(dataset, name):
        counts += np.bincount(values[values >= 0].astype(np.int64), minlength=config.num_labels)
    if not counts.any():
        raise InputError(
            'class_weights="auto" cannot count the classes of this kind of dataset.',
            "Use a datasets.Dataset or a list of mappings, or pass the weights as a list.",
        )
    present = np.count_nonzero(counts)
    return [float(counts.sum() / (present * count)) if count else 1.0 for count in counts]
