"""A tiny model, tiny data and a Trainer over them, which train in a moment."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from formers import BertConfig, BertForSequenceClassification
from formers.training.arguments import TrainingArguments
from formers.training.trainer import Trainer

CONFIG: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 37,
    "max_position_embeddings": 40,
}


def model(dropout: float = 0.0, **config: Any) -> Any:
    """The same weights every time."""
    state = torch.get_rng_state()
    torch.manual_seed(0)
    values = {**CONFIG, "hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout, **config}
    made = BertForSequenceClassification(BertConfig(**values))
    torch.set_rng_state(state)
    return made


def rows(count: int = 20, length: int = 6, labels: int = 2) -> list[dict[str, Any]]:
    """Examples of one length; a label is told by the first token."""
    numbers = random.Random(1)
    made = []
    for index in range(count):
        ids = [numbers.randrange(5, 61) for _ in range(length)]
        made.append({"input_ids": [index % labels, *ids[1:]], "label": index % labels})
    return made


class Pad:
    """A collator for examples of several lengths."""

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Tensor]:
        longest = max(len(row["input_ids"]) for row in examples)
        ids = [row["input_ids"] + [0] * (longest - len(row["input_ids"])) for row in examples]
        mask = [[1] * len(row["input_ids"]) + [0] * (longest - len(row["input_ids"])) for row in examples]
        batch = {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}
        return {**batch, "labels": torch.tensor([row["label"] for row in examples])}


def uneven(count: int = 20) -> list[dict[str, Any]]:
    """Examples of several lengths, for `Pad`."""
    return [{**row, "input_ids": row["input_ids"][: 2 + index % 5]} for index, row in enumerate(rows(count))]


def arguments(folder: Path, **settings: Any) -> TrainingArguments:
    """Settings for tests: a quick learner that prints nothing."""
    return TrainingArguments(
        str(folder),
        **{
            "learning_rate": 1e-3,
            "per_device_train_batch_size": 4,
            "num_train_epochs": 2,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "use_cpu": True,
            **settings,
        },
    )


def trainer(folder: Path, made: Any = None, **given: Any) -> Trainer:
    """A Trainer; keywords that it does not take are settings."""
    own = {
        "train_dataset",
        "eval_dataset",
        "data_collator",
        "compute_metrics",
        "compute_loss_func",
        "callbacks",
        "optimizers",
        "optimizer_cls_and_kwargs",
        "preprocess_logits_for_metrics",
        "processing_class",
        "tokenizer",
        "model_init",
    }
    settings = {name: value for name, value in given.items() if name not in own}
    parts = {name: value for name, value in given.items() if name in own}
    parts.setdefault("train_dataset", rows())
    if "model_init" not in parts:
        made = model() if made is None else made
    return Trainer(made, arguments(folder, **settings), **parts)


def losses(trained: Trainer) -> list[float]:
    """The logged losses."""
    return [entry["loss"] for entry in trained.state.log_history if "loss" in entry]


def same_weights(one: torch.nn.Module, other: torch.nn.Module, atol: float = 0.0) -> None:
    """Assert that two models have the same weights, bit by bit unless `atol` allows more."""
    theirs = other.state_dict()
    for name, tensor in one.state_dict().items():
        if atol:
            torch.testing.assert_close(tensor, theirs[name], atol=atol, rtol=0, msg=lambda text, n=name: f"{n}: {text}")
        else:
            assert torch.equal(tensor, theirs[name]), name
