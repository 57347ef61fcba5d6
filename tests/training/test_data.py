"""From datasets to batches: columns, labels, kinds of datasets, and errors before work starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from formers import BertConfig, BertForTokenClassification, BertModel
from formers.errors import InputError
from formers.training import labels
from formers.training.data import tokens, windows
from tests.training.small import CONFIG, Pad, losses, model, rows, same_weights, trainer, uneven

datasets = pytest.importorskip("datasets")


def table(examples: list[dict[str, Any]]) -> Any:
    return datasets.Dataset.from_list(examples)


class Torch(torch.utils.data.Dataset[Any]):
    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> dict[str, Any]:
        return rows()[index]


@pytest.mark.parametrize("strategy", ["random", "sequential"])
def test_kinds_of_datasets_train_alike(tmp_path: Path, strategy: str) -> None:
    expected = trainer(tmp_path, train_sampling_strategy=strategy)
    expected.train()
    extra = [{**row, "text": "dropped", "idx": 3} for row in rows()]
    for dataset in (table(extra), extra, tuple(rows()), Torch(), table(rows()).with_format("torch")):
        made = trainer(tmp_path, train_dataset=dataset, train_sampling_strategy=strategy)
        made.train()
        same_weights(made.model, expected.model)


def test_streams_train_as_sequences_do(tmp_path: Path) -> None:
    class Stream(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter(rows())

    expected = trainer(tmp_path, train_sampling_strategy="sequential", max_steps=7)
    expected.train()
    for dataset in (Stream(), table(rows()).to_iterable_dataset()):
        made = trainer(tmp_path, train_dataset=dataset, max_steps=7)
        made.train()
        same_weights(made.model, expected.model)
    with pytest.raises(InputError, match="Set max_steps"):
        trainer(tmp_path, train_dataset=Stream()).train()
    with pytest.raises(InputError, match="grouped by length"):
        trainer(tmp_path, train_dataset=Stream(), max_steps=7, group_by_length=True).train()


def test_a_stream_without_examples(tmp_path: Path) -> None:
    class Stream(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter(())

    with pytest.raises(InputError, match="no batch"):
        trainer(tmp_path, train_dataset=Stream(), max_steps=2).train()


def test_a_transform_makes_the_columns(tmp_path: Path) -> None:
    dataset = datasets.Dataset.from_list([{"number": index, "label": index % 2} for index in range(8)])
    dataset.set_transform(
        lambda batch: {"input_ids": [[n, 7, 8] for n in batch["number"]], "label": [n % 2 for n in batch["number"]]}
    )
    trainer(tmp_path, train_dataset=dataset, max_steps=1).train()


def test_columns_that_the_model_does_not_take_can_stay(tmp_path: Path) -> None:
    extra = [{**row, "weight": 1.0} for row in rows()]

    def collate(examples: list[dict[str, Any]]) -> Any:
        assert ("weight" in examples[0]) is keep
        return {
            "input_ids": torch.tensor([e["input_ids"] for e in examples]),
            "labels": torch.zeros(len(examples)).long(),
        }

    for keep in (False, True):
        trainer(
            tmp_path, train_dataset=extra, data_collator=collate, max_steps=1, remove_unused_columns=not keep
        ).train()


@pytest.mark.parametrize("name", ["label", "labels", "label_ids"])
def test_names_of_labels(tmp_path: Path, name: str) -> None:
    renamed = [{"input_ids": row["input_ids"], name: row["label"]} for row in rows()]
    trainer(tmp_path, train_dataset=renamed, max_steps=1).train()


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        (None, "no train_dataset"),
        ([], "train_dataset is empty"),
        ({"train": []}, r"mapping with the keys train.*dataset\['train'\]"),
        ("sst2", "train_dataset is a str"),
        ([{"text": "a", "label": 0}], "columns text, label.*Tokenize first"),
        ([{"input_ids": [1, 2]}], "no labels: a batch has input_ids.*rename_column"),
        ([{"input_ids": [1, 2], "label": 0}, {"input_ids": [1, 2], "label": 2}], "labels from 0 to 2.*2 classes"),
        ([{"input_ids": [1, 2], "label": -1}], "labels from -1 to 0"),
        ([{"input_ids": [1, 2], "label": [1, 0, 1]}], r"holds \(3,\) values"),
    ],
)
def test_data_that_cannot_be_trained_on(tmp_path: Path, dataset: Any, said: str) -> None:
    made = trainer(tmp_path / "out", train_dataset=dataset)
    before = {name: tensor.clone() for name, tensor in made.model.state_dict().items()}
    with pytest.raises(InputError, match=said):
        made.train()
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.model.state_dict().items())
    assert not (tmp_path / "out").exists()


def test_labels_of_a_table_are_checked_without_reading_examples(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="column 'label' of train_dataset has labels from 0 to 2"):
        trainer(tmp_path, train_dataset=table(rows(9, labels=3))).train()
    with pytest.raises(InputError, match=r"of eval_dataset\['b'\] has labels"):
        trainer(tmp_path, eval_dataset={"a": rows(4), "b": rows(9, labels=3)}).train()
    # Only the selected rows count.
    trainer(tmp_path, train_dataset=table(rows(9, labels=3)).select([0, 1]), max_steps=1).train()


def test_labels_of_tokens_are_checked(tmp_path: Path) -> None:
    made = BertForTokenClassification(BertConfig(**CONFIG, num_labels=3))
    good = [{"input_ids": [1, 2], "labels": [-100, 2]}]
    trainer(tmp_path, made, train_dataset=table(good), max_steps=1).train()
    bad = [*good, {"input_ids": [1, 2], "labels": [0, 3]}]
    for dataset in (bad, table(bad)):
        with pytest.raises(InputError, match="labels from 0 to 3"):
            trainer(tmp_path, made, train_dataset=dataset).train()


def test_several_labels_an_example_are_detected(tmp_path: Path) -> None:
    dataset = [{"input_ids": row["input_ids"], "labels": [1, row["label"], 0]} for row in rows()]
    made = trainer(tmp_path, model(num_labels=3), train_dataset=dataset, eval_dataset=dataset)
    made.train()
    assert made.model.config.problem_type == "multi_label_classification"
    assert 0 < made.evaluate()["eval_loss"] < 1
    alone = trainer(tmp_path, model(num_labels=3), eval_dataset=table(dataset))
    assert alone.evaluate()["eval_loss"] > 0


def test_one_number_an_example(tmp_path: Path) -> None:
    dataset = [{"input_ids": row["input_ids"], "label": 7.5} for row in rows()]
    trainer(tmp_path, model(num_labels=1), train_dataset=dataset, max_steps=2).train()


def test_a_model_without_a_head(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="BertModel has no head"):
        trainer(tmp_path, BertModel(BertConfig(**CONFIG))).train()


def test_balanced_weights() -> None:
    made = model(num_labels=3)
    counts = [0, 0, 0, 1]
    for dataset in (
        [{"input_ids": [1], "label": c} for c in counts],
        table([{"input_ids": [1], "label": c} for c in counts]),
    ):
        assert labels.balanced_weights(made, dataset) == [pytest.approx(2 / 3), 2.0, 1.0]
    with pytest.raises(InputError, match="cannot count"):
        labels.balanced_weights(model(), Torch())
    with pytest.raises(InputError, match="needs a model that classifies"):
        labels.balanced_weights(model(num_labels=1), rows())


def test_groups_of_like_length(tmp_path: Path) -> None:
    made = trainer(tmp_path, train_dataset=uneven(), data_collator=Pad(), train_sampling_strategy="group_by_length")
    shapes = [batch["input_ids"].shape for batch in made.get_train_dataloader()]
    assert shapes[0][1] == 6
    assert len(shapes) == 5
    made.train()
    assert len(losses(made)) == 10


def test_the_last_batch_can_be_dropped(tmp_path: Path) -> None:
    made = trainer(tmp_path, train_dataset=rows(10), dataloader_drop_last=True, num_train_epochs=1)
    assert made.train().global_step == 2
    with pytest.raises(InputError, match="drop_last"):
        trainer(tmp_path, train_dataset=rows(3), dataloader_drop_last=True).train()


def test_windows_tell_the_last() -> None:
    assert list(windows(iter("abcde"), 2)) == [(["a", "b"], False), (["c", "d"], False), (["e"], True)]
    assert list(windows(iter("ab"), 2)) == [(["a", "b"], True)]
    with pytest.raises(InputError, match=r"gave no batch.*anew for each epoch"):
        list(windows(iter(()), 2))


def test_counted_tokens(tmp_path: Path) -> None:
    batch = {"input_ids": torch.ones(2, 3), "attention_mask": torch.tensor([[1, 1, 1], [1, 0, 0]])}
    assert [tokens(batch, "input_ids", kind) for kind in ("all", "non_padding", "no")] == [6, 4, 0]
    made = trainer(tmp_path, include_num_input_tokens_seen="non_padding", train_dataset=uneven(), data_collator=Pad())
    output = made.train()
    assert made.state.num_input_tokens_seen == 2 * sum(len(row["input_ids"]) for row in uneven())
    assert output.metrics["train_tokens_per_second"] > 0
    assert made.state.log_history[-1]["num_input_tokens_seen"] == made.state.num_input_tokens_seen


def test_an_own_loader(tmp_path: Path) -> None:
    from formers.training.trainer import Trainer
    from tests.training.small import arguments

    class Own(Trainer):
        def get_train_dataloader(self) -> Any:
            return torch.utils.data.DataLoader(rows(), batch_size=4, collate_fn=self.data_collator)

    made = Own(model(), arguments(tmp_path), train_dataset=rows())
    expected = trainer(tmp_path, train_sampling_strategy="sequential")
    made.train()
    expected.train()
    same_weights(made.model, expected.model)
    assert np.isfinite(losses(made)).all()
