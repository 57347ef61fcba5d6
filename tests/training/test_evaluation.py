"""Evaluation and prediction: exact means, the dataset's order, bounded memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from formers import BertConfig, BertForQuestionAnswering, BertForTokenClassification
from formers.errors import InputError
from formers.training.callbacks import TrainerCallback
from formers.training.evaluation import EvalPrediction, grouped, joined, plain
from formers.training.trainer import Trainer
from tests.training.small import CONFIG, Pad, model, rows, trainer, uneven


def reference(made: Any, examples: list[dict[str, Any]]) -> torch.Tensor:
    """Logits, one example at a time."""
    with torch.no_grad():
        return torch.cat([made(torch.tensor([row["input_ids"]])).logits for row in examples])


@pytest.mark.parametrize("size", [1, 3, 8, 50])
def test_predictions_are_in_the_datasets_order(tmp_path: Path, size: int) -> None:
    examples = uneven(11)
    made = trainer(tmp_path, data_collator=Pad(), per_device_eval_batch_size=size)
    output = made.predict(examples)
    expected = reference(made.model.eval(), examples)
    torch.testing.assert_close(torch.tensor(output.predictions), expected, atol=1e-5, rtol=0)
    assert output.label_ids.tolist() == [row["label"] for row in examples]
    loss = F.cross_entropy(expected, torch.tensor(output.label_ids))
    assert output.metrics["test_loss"] == pytest.approx(float(loss), abs=1e-5)
    assert output.metrics["test_samples_per_second"] > 0


def test_evaluation_leaves_training_mode_and_random_numbers(tmp_path: Path) -> None:
    made = trainer(tmp_path, model(0.5), eval_dataset=rows(4))
    made.model.train()
    state = torch.get_rng_state()
    first = made.evaluate()["eval_loss"]
    assert made.model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert made.evaluate()["eval_loss"] == first


def test_metrics_get_what_they_ask_for(tmp_path: Path) -> None:
    seen: list[EvalPrediction] = []

    def metrics(prediction: EvalPrediction) -> dict[str, Any]:
        seen.append(prediction)
        return {"count": np.int64(len(prediction.predictions)), "mean": torch.tensor(0.5), "eval_named": 1}

    made = trainer(
        tmp_path, eval_dataset=rows(6), compute_metrics=metrics, include_for_metrics=["inputs", "loss"],
        per_device_eval_batch_size=4,
    )  # fmt: skip
    found = made.evaluate()
    assert (found["eval_count"], found["eval_mean"], found["eval_named"]) == (6, 0.5, 1)
    assert all(isinstance(value, int | float) for value in found.values())
    predictions, labels, inputs, losses = seen[0]
    assert predictions.shape == (6, 2)
    assert labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert inputs.tolist() == [row["input_ids"] for row in rows(6)]
    assert losses.shape == (6,)
    assert seen[0][1] is labels


def test_logits_can_be_reduced_batch_by_batch(tmp_path: Path) -> None:
    made = trainer(
        tmp_path,
        eval_dataset=rows(6),
        preprocess_logits_for_metrics=lambda logits, labels: logits.argmax(-1),
        compute_metrics=lambda p: {"accuracy": (p.predictions == p.label_ids).mean()},
    )
    expected = reference(made.model.eval(), rows(6)).argmax(-1).numpy()
    assert made.evaluate()["eval_accuracy"] == np.mean(expected == [0, 1, 0, 1, 0, 1])


def test_metrics_batch_by_batch_keep_nothing(tmp_path: Path) -> None:
    calls: list[tuple[int, bool]] = []

    def metrics(prediction: EvalPrediction, compute_result: bool) -> dict[str, float]:
        calls.append((len(prediction.predictions), compute_result))
        return {"batches": len(calls)} if compute_result else {}

    made = trainer(
        tmp_path, eval_dataset=rows(5), compute_metrics=metrics, batch_eval_metrics=True, per_device_eval_batch_size=2
    )
    assert made.evaluate()["eval_batches"] == 3
    assert calls == [(2, False), (2, False), (1, True)]


def test_metrics_say_themselves_that_they_are_streamed(tmp_path: Path) -> None:
    class Accuracy:
        by_batch = True
        right = count = 0

        def __call__(self, prediction: EvalPrediction, compute_result: bool) -> dict[str, float]:
            assert len(prediction.predictions) <= 2
            self.right += int((prediction.predictions.argmax(-1) == prediction.label_ids).sum())
            self.count += len(prediction.label_ids)
            return {"accuracy": self.right / self.count} if compute_result else {}

    whole = trainer(
        tmp_path, compute_metrics=lambda p: {"accuracy": (p.predictions.argmax(-1) == p.label_ids).mean()}
    ).predict(rows(5))
    metrics = Accuracy()
    made = trainer(tmp_path, eval_dataset=rows(5), compute_metrics=metrics, per_device_eval_batch_size=2)
    assert made.evaluate()["eval_accuracy"] == whole.metrics["test_accuracy"]
    assert metrics.count == 5


def test_without_metrics_predictions_are_not_even_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import formers.training.trainer as module

    monkeypatch.setattr(module, "split", lambda *_: pytest.fail("made predictions"))
    assert "eval_loss" in trainer(tmp_path, eval_dataset=rows(4)).evaluate()


def test_data_without_labels(tmp_path: Path) -> None:
    examples = [{"input_ids": row["input_ids"]} for row in rows(3)]
    output = trainer(tmp_path, compute_metrics=lambda p: pytest.fail("no labels")).predict(examples)
    assert output.predictions.shape == (3, 2)
    assert output.label_ids is None
    assert "test_loss" not in output.metrics


def test_several_sets_and_names(tmp_path: Path) -> None:
    made = trainer(tmp_path, eval_dataset={"short": rows(4), "long": rows(4, length=9)})
    metrics = made.evaluate()
    assert {"eval_short_loss", "eval_long_loss"} <= set(metrics)
    assert made.evaluate("long", metric_key_prefix="x")["x_loss"] == metrics["eval_long_loss"]
    assert made.evaluate(rows(4))["eval_loss"] == metrics["eval_short_loss"]


def test_streams_and_torch_datasets(tmp_path: Path) -> None:
    class Torch(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 6

        def __getitem__(self, index: int) -> dict[str, Any]:
            return rows(6)[index]

    class Stream(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter(rows(6))

    made = trainer(tmp_path)
    expected = made.predict(rows(6))
    for dataset in (Torch(), Stream()):
        output = made.predict(dataset)
        np.testing.assert_allclose(output.predictions, expected.predictions, atol=1e-6)
        assert output.metrics["test_loss"] == pytest.approx(expected.metrics["test_loss"])


def test_empty_or_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="eval_dataset is empty"):
        trainer(tmp_path).evaluate([])
    with pytest.raises(InputError, match="no eval_dataset"):
        trainer(tmp_path).evaluate()
    with pytest.raises(InputError, match="without an eval_dataset"):
        trainer(tmp_path, eval_strategy="epoch")


def test_tokens_are_weighed_one_by_one(tmp_path: Path) -> None:
    """The mean over tokens, not over batches that have more or fewer of them."""
    torch.manual_seed(0)
    made = BertForTokenClassification(BertConfig(**CONFIG, num_labels=3))
    labels = [[0, 1, 2, -100], [-100, 2, -100, -100], [1, 1, 1, 1]]
    examples = [{"input_ids": [5, 6, 7, 8 + i], "labels": row} for i, row in enumerate(labels)]
    output = trainer(tmp_path, made, train_dataset=examples, per_device_eval_batch_size=1).predict(examples)
    logits, wanted = torch.tensor(output.predictions), torch.tensor(labels)
    assert output.metrics["test_loss"] == pytest.approx(float(F.cross_entropy(logits.flatten(0, 1), wanted.flatten())))


def test_spans_have_two_labels_and_two_predictions(tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = BertForQuestionAnswering(BertConfig(**CONFIG))
    examples = [{"input_ids": [5, 6, 7, i], "start_positions": i, "end_positions": 3} for i in range(3)]
    output = trainer(tmp_path, made, train_dataset=examples).predict(examples)
    assert [part.shape for part in output.predictions] == [(3, 4), (3, 4)]
    assert [part.tolist() for part in output.label_ids] == [[0, 1, 2], [3, 3, 3]]


def test_keys_to_leave_out(tmp_path: Path) -> None:
    made = trainer(tmp_path, model(output_hidden_states=True))
    logits, hidden = made.predict(rows(3)).predictions
    assert logits.shape == (3, 2)
    assert len(hidden) == 3
    assert made.predict(rows(3), ignore_keys=["hidden_states"]).predictions.shape == (3, 2)


def test_parts_of_other_widths_are_filled_up() -> None:
    parts = [np.ones((2, 3), np.float32), np.zeros((1, 1), np.float32)]
    assert joined(parts, [2, 0, 1]).tolist() == [[1, 1, 1], [0, -100, -100], [1, 1, 1]]
    assert joined([], None) is None
    pair = joined([(np.zeros(1), {"a": np.ones(1)})], None)
    assert (pair[0].tolist(), pair[1]["a"].tolist()) == ([0], [1])


def test_metrics_that_json_takes() -> None:
    assert plain(np.float32(0.5)) == 0.5
    assert plain(torch.tensor([2])) == 2
    assert plain(np.array([1, 2])) == [1, 2]
    assert plain("text") == "text"


class Steps(TrainerCallback):
    """Counts the batches that were predicted."""

    def __init__(self) -> None:
        self.count = 0

    def on_prediction_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self.count += 1


def test_small_batches_are_predicted_together_and_nobody_sees_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    steps, examples = Steps(), uneven(23)
    made = trainer(tmp_path, data_collator=Pad(), per_device_eval_batch_size=2, callbacks=[steps])
    made.model.register_forward_pre_hook(
        lambda _, given, named: calls.append(len(named["input_ids"])), with_kwargs=True
    )
    output = made.predict(examples)
    assert calls == [23]
    assert steps.count == 12
    monkeypatch.setattr("formers.training.evaluation._TOKENS", 0)
    apart = made.predict(examples)
    assert len(calls) == 13
    np.testing.assert_allclose(output.predictions, apart.predictions, atol=1e-6)
    assert output.label_ids.tolist() == apart.label_ids.tolist()
    assert output.metrics["test_loss"] == pytest.approx(apart.metrics["test_loss"], abs=1e-6)


def test_a_prediction_step_of_ones_own_gets_the_batches_as_they_are(tmp_path: Path) -> None:
    sizes: list[int] = []

    class Own(Trainer):
        def prediction_step(self, model: Any, inputs: Any, *given: Any, **named: Any) -> Any:
            sizes.append(len(inputs["input_ids"]))
            return super().prediction_step(model, inputs, *given, **named)

    plainly = trainer(tmp_path, data_collator=Pad(), per_device_eval_batch_size=4)
    Own(plainly.model, plainly.args, data_collator=Pad()).predict(uneven(10))
    assert sizes == [4, 4, 2]


def test_only_padded_texts_with_the_same_columns_are_joined() -> None:
    def one(length: int, **more: torch.Tensor) -> dict[str, torch.Tensor]:
        ids = torch.ones(2, length, dtype=torch.long)
        return {"input_ids": ids, "attention_mask": ids, **more}

    pair = one(3, labels=torch.zeros(2, 5)), one(5, labels=torch.zeros(2, 5))
    ((joint, number),) = grouped(iter(pair), 200)
    assert number == 2
    assert joint["input_ids"].tolist() == [[1, 1, 1, 0, 0]] * 2 + [[1] * 5] * 2
    assert joint["labels"].shape == (4, 5)
    for batches, tokens in (
        (pair, 159),
        (pair, 0),
        ([one(3), one(3, labels=torch.zeros(2))], 200),
        ([one(3, labels=torch.zeros(2, 4)), one(3, labels=torch.zeros(2, 5))], 200),
        ([one(3, position_ids=torch.zeros(2, 3))] * 2, 200),
        ([{"input_ids": torch.ones(2, 3)}] * 2, 200),
        ([[1], [2]], 200),
    ):
        assert [number for _, number in grouped(iter(batches), tokens)] == [1, 1]


def test_what_is_joined_grows() -> None:
    batch = {"input_ids": torch.ones(1, 5, dtype=torch.long), "attention_mask": torch.ones(1, 5, dtype=torch.long)}
    assert [number for _, number in grouped(iter([batch] * 30), 40)] == [1, 2, 4, 8, 8, 7]
