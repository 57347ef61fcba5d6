"""The Trainer: losses, optimisers, the best model, and what stops a training."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from formers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig, BertForTokenClassification
from formers.errors import InputError
from formers.training.callbacks import TrainerCallback
from formers.training.collators import DataCollatorForTokenClassification, DataCollatorWithPadding
from formers.training.trainer import Trainer
from tests.training.small import CONFIG, arguments, losses, model, rows, same_weights, trainer, uneven


def test_it_learns(tmp_path: Path) -> None:
    made = trainer(
        tmp_path,
        eval_dataset=rows(),
        compute_metrics=lambda p: {"accuracy": float((p.predictions.argmax(-1) == p.label_ids).mean())},
        learning_rate=3e-2,
        num_train_epochs=4,
    )
    output = made.train()
    assert output.global_step == 20
    assert made.evaluate()["eval_accuracy"] == 1.0
    assert losses(made)[-1] < losses(made)[0] / 2
    assert output.training_loss == pytest.approx(sum(losses(made)) / 20)
    assert output.metrics["epoch"] == 4.0


@pytest.mark.parametrize(
    ("settings", "steps", "epoch"),
    [
        ({"num_train_epochs": 1}, 5, 1.0),
        ({"num_train_epochs": 1.5}, 8, 1.6),
        ({"max_steps": 7}, 7, 1.4),
        ({"num_train_epochs": 1, "gradient_accumulation_steps": 2}, 3, 1.0),
        ({"max_steps": 4, "gradient_accumulation_steps": 3}, 4, 2.0),
    ],
)
def test_lengths(tmp_path: Path, settings: dict[str, Any], steps: int, epoch: float) -> None:
    made = trainer(tmp_path, **settings)
    assert made.train().global_step == steps
    assert made.state.epoch == pytest.approx(epoch)
    assert len(losses(made)) == steps


def test_logs(tmp_path: Path) -> None:
    made = trainer(tmp_path, logging_steps=3, lr_scheduler_type="linear", warmup_steps=5)
    made.train()
    entries = [entry for entry in made.state.log_history if "loss" in entry]
    assert [entry["step"] for entry in entries] == [3, 6, 9]
    # The rate that the step used, not the next one's.
    assert [entry["learning_rate"] for entry in entries] == pytest.approx([4e-4, 1e-3, 4e-4])
    assert all(entry["grad_norm"] > 0 for entry in entries)
    each = trainer(tmp_path, logging_steps=1, warmup_steps=5)
    each.train()
    assert entries[0]["loss"] == pytest.approx(sum(losses(each)[:3]) / 3)


def test_gradients_are_clipped(tmp_path: Path) -> None:
    class Norm(TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            grads = [p.grad for p in given["model"].parameters() if p.grad is not None]
            norms.append(float(torch.nn.utils.get_total_norm(grads)))

    norms: list[float] = []
    made = trainer(tmp_path, callbacks=[Norm], max_grad_norm=0.01)
    made.train()
    assert max(norms) == pytest.approx(0.01, rel=1e-3)
    norms.clear()
    free = trainer(tmp_path, callbacks=[Norm], max_grad_norm=0)
    free.train()
    assert max(norms) > 0.02
    assert "grad_norm" not in free.state.log_history[0]


def test_own_optimizers(tmp_path: Path) -> None:
    made = model()
    optimizer = torch.optim.SGD(made.parameters(), lr=0.5)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
    given = trainer(tmp_path, made, optimizers=(optimizer, scheduler), max_steps=4)
    given.train()
    assert given.optimizer is optimizer
    assert [e["learning_rate"] for e in given.state.log_history if "loss" in e] == [0.5, 0.5, 0.25, 0.25]
    by_class = trainer(tmp_path, optimizer_cls_and_kwargs=(torch.optim.SGD, {"lr": 0.5}), max_steps=1)
    by_class.train()
    assert isinstance(by_class.optimizer, torch.optim.SGD)
    alone = trainer(tmp_path, made, optimizers=(optimizer, None), max_steps=1)
    alone.train()
    assert type(alone.lr_scheduler).__name__ == "LambdaLR"
    with pytest.raises(InputError, match="optimizer_cls_and_kwargs"):
        trainer(tmp_path, made, optimizers=(optimizer, None), optimizer_cls_and_kwargs=(torch.optim.SGD, {}))
    with pytest.raises(InputError, match="model_init makes a new one"):
        trainer(tmp_path, model_init=model, optimizers=(optimizer, None))


@pytest.mark.parametrize("name", ["adamw_torch", "adafactor", "lion_32bit", "sgd"])
def test_optimizers_by_name(tmp_path: Path, name: str) -> None:
    made = trainer(tmp_path, optim=name, learning_rate=1e-2)
    made.train()
    assert losses(made)[-1] != losses(made)[0]


def test_a_rate_that_waits_for_the_evaluation(tmp_path: Path) -> None:
    made = trainer(
        tmp_path,
        eval_dataset=rows(4),
        compute_metrics=lambda prediction: {"score": 1.0},
        lr_scheduler_type="reduce_lr_on_plateau",
        lr_scheduler_kwargs={"patience": 0, "factor": 0.5},
        metric_for_best_model="score",
        eval_strategy="epoch",
        num_train_epochs=3,
    )
    made.train()
    rates = [entry["learning_rate"] for entry in made.state.log_history if "loss" in entry]
    assert rates[4] == rates[5] == 1e-3
    assert rates[10] == 5e-4


# -- losses --------------------------------------------------------------------------------------------------------


def first_loss(folder: Path, made: Any = None, **given: Any) -> float:
    """The loss of all of `rows(8)` before the first step."""
    one = trainer(folder, made, train_dataset=rows(8), per_device_train_batch_size=8, max_steps=1, **given)
    one.train()
    return losses(one)[0]


def logits(examples: list[dict[str, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.tensor([row["input_ids"] for row in examples])
    with torch.no_grad():
        return model()(ids).logits, torch.tensor([row["label"] for row in examples])


def test_label_smoothing(tmp_path: Path) -> None:
    expected = F.cross_entropy(*logits(rows(8)), label_smoothing=0.3)
    assert first_loss(tmp_path, label_smoothing_factor=0.3) == pytest.approx(float(expected), abs=1e-6)


def test_class_weights(tmp_path: Path) -> None:
    expected = F.cross_entropy(*logits(rows(8)), weight=torch.tensor([1.0, 3.0]))
    assert first_loss(tmp_path, class_weights=[1.0, 3.0]) == pytest.approx(float(expected), abs=1e-6)
    uneven_classes = [*rows(8)[:1], *rows(8)[1::2]]
    made = trainer(tmp_path, train_dataset=uneven_classes, class_weights="auto", max_steps=1)
    made.train()
    assert made.objective.weights is not None
    assert made.objective.weights.tolist() == [2.5, 0.625]
    with pytest.raises(InputError, match="one number from 0 on for each class"):
        first_loss(tmp_path, class_weights=[1.0, 2.0, 3.0])


def test_an_own_loss_function(tmp_path: Path) -> None:
    seen = []

    def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: float) -> torch.Tensor:
        seen.append(num_items_in_batch)
        return F.cross_entropy(outputs.logits, labels, reduction="sum") / num_items_in_batch

    def mean(outputs: Any, labels: torch.Tensor, num_items_in_batch: float) -> torch.Tensor:
        return F.cross_entropy(outputs.logits, labels)

    expected = trainer(tmp_path, gradient_accumulation_steps=3)
    expected.train()
    for function in (loss, mean):
        made = trainer(tmp_path, compute_loss_func=function, gradient_accumulation_steps=3)
        made.train()
        same_weights(made.model, expected.model, atol=1e-6)
    assert seen[0] == 4


def test_an_overridden_loss(tmp_path: Path) -> None:
    class New(Trainer):
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            outputs = model(**inputs)
            return (outputs.loss * 2, outputs) if return_outputs else outputs.loss * 2

    class Old(Trainer):
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False) -> Any:  # type: ignore[override]
            outputs = model(**inputs)
            return (outputs.loss * 2, outputs) if return_outputs else outputs.loss * 2

    plain = trainer(tmp_path, eval_dataset=rows(4), max_steps=1)
    plain.train()
    for kind in (New, Old):
        made = kind(model(), arguments(tmp_path, max_steps=1), train_dataset=rows(), eval_dataset=rows(4))
        made.train()
        assert losses(made)[0] == pytest.approx(2 * losses(plain)[0])
        assert made.evaluate()["eval_loss"] == pytest.approx(2 * plain.evaluate()["eval_loss"], rel=1e-2)


def test_smoothing_needs_classes(tmp_path: Path) -> None:
    numbers = [{**row, "label": 0.5} for row in rows()]
    with pytest.raises(InputError, match="need classes"):
        trainer(tmp_path, model(num_labels=1), train_dataset=numbers, label_smoothing_factor=0.1).train()


def test_a_plain_module(tmp_path: Path) -> None:
    class Plain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)

        def forward(self, x: torch.Tensor, labels: torch.Tensor) -> Any:
            out = self.layer(x)
            return F.mse_loss(out[:, 0], labels), out

    torch.manual_seed(0)
    data = [{"x": [float(i), 1.0], "label": 2.0 * i} for i in range(4)]
    made = trainer(tmp_path, Plain(), train_dataset=data, max_steps=60, learning_rate=0.3, save_strategy="steps")
    made.train()
    assert losses(made)[-1] < losses(made)[0] / 5
    assert made.predict(data).predictions.shape == (4, 1)


def test_padding_by_the_tokenizer(tmp_path: Path, minilm: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    for name in ("tokenizer", "processing_class"):
        made = trainer(tmp_path, train_dataset=uneven(), max_steps=1, save_strategy="steps", **{name: tokenizer})
        assert isinstance(made.data_collator, DataCollatorWithPadding)
        made.train()
        assert made.tokenizer is made.processing_class is tokenizer
    assert AutoTokenizer.from_pretrained(tmp_path / "checkpoint-1").vocab_size == tokenizer.vocab_size
    with pytest.raises(InputError, match="they mean the same"):
        trainer(tmp_path, tokenizer=tokenizer, processing_class=AutoTokenizer.from_pretrained(minilm))
    words = BertForTokenClassification(BertConfig(**CONFIG, num_labels=3))
    data = [{"input_ids": [5] * n, "labels": [n % 3] * n} for n in (2, 3, 5)]
    collator = DataCollatorForTokenClassification(tokenizer)
    tagged = trainer(tmp_path, words, train_dataset=data, data_collator=collator, max_steps=1)
    tagged.train()
    tagged.save_model(tmp_path / "model")
    # Found through the collator.
    assert (tmp_path / "model" / "tokenizer.json").exists()


# -- precision and memory ------------------------------------------------------------------------------------------


def test_bf16(tmp_path: Path) -> None:
    made = trainer(tmp_path, bf16=True, eval_dataset=rows(4))
    kinds = []
    made.model.head.output.register_forward_hook(lambda _m, _i, output: kinds.append(output.dtype))
    made.train()
    made.evaluate()
    assert set(kinds) == {torch.bfloat16}
    assert made.model.dtype == torch.float32
    assert made.predict(rows(4)).predictions.dtype == "float32"


def test_operations_are_counted(tmp_path: Path) -> None:
    made = trainer(tmp_path, max_steps=2, save_strategy="steps")
    parameters = made.model.num_parameters(exclude_embeddings=True)
    assert 0 < parameters < made.model.num_parameters()
    metrics = made.train().metrics
    # Two steps of 4 rows of 6 tokens.
    assert metrics["total_flos"] == made.state.total_flos == 6 * 2 * 4 * 6 * parameters
    state = json.loads((tmp_path / "checkpoint-2" / "trainer_state.json").read_text())
    assert state["total_flos"] == made.state.total_flos
    own = model()
    own.floating_point_ops = lambda inputs: float(len(inputs["input_ids"]))
    assert trainer(tmp_path, own, max_steps=2).train().metrics["total_flos"] == 8


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="other processors need oneDNN for products")
@pytest.mark.parametrize("bf16", [False, True])
def test_kernels_for_every_shape_are_not_kept(tmp_path: Path, bf16: bool) -> None:
    class Look(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            seen.append(bool(torch.backends.mkldnn.enabled))

        on_prediction_step = on_step_end

    seen: list[bool] = []
    made = trainer(tmp_path, callbacks=[Look], max_steps=1, bf16=bf16, eval_dataset=rows(4))
    before = torch.backends.mkldnn.enabled
    made.train()
    made.evaluate()
    assert seen == [bf16, bf16]
    assert torch.backends.mkldnn.enabled == before


def test_gradient_checkpointing_changes_nothing(tmp_path: Path) -> None:
    expected = trainer(tmp_path, model(0.3))
    expected.train()
    made = trainer(tmp_path, model(0.3), gradient_checkpointing=True)
    made.train()
    assert made.model.is_gradient_checkpointing
    same_weights(made.model, expected.model, atol=1e-6)
    with pytest.raises(InputError, match="no gradient checkpointing"):
        trainer(tmp_path, torch.nn.Linear(2, 2), gradient_checkpointing=True, compute_loss_func=len).train()


def test_a_compiled_model_learns_the_same(tmp_path: Path) -> None:
    expected, made = trainer(tmp_path), trainer(tmp_path, torch_compile_backend="eager", save_strategy="epoch")
    expected.train()
    made.train()
    same_weights(made.model, expected.model, atol=1e-6)
    same_weights(AutoModelForSequenceClassification.from_pretrained(tmp_path / "checkpoint-10"), made.model)


def test_a_model_prepared_for_inference_trains(tmp_path: Path) -> None:
    expected, made = trainer(tmp_path), trainer(tmp_path, model().for_inference())
    expected.train()
    made.train()
    same_weights(made.model, expected.model, atol=1e-6)


# -- the best model and the folder ---------------------------------------------------------------------------------


class Scores:
    """Metrics that come one after the other."""

    def __init__(self, *values: float) -> None:
        self.values = iter(values)

    def __call__(self, prediction: Any) -> dict[str, float]:
        return {"score": next(self.values)}


@pytest.mark.parametrize("strategy", ["epoch", "best"])
def test_the_best_model_comes_back(tmp_path: Path, strategy: str) -> None:
    made = trainer(
        tmp_path,
        eval_dataset=rows(4),
        compute_metrics=Scores(0.1, 0.9, 0.2, 0.3),
        num_train_epochs=4,
        eval_strategy="epoch",
        save_strategy=strategy,
        load_best_model_at_end=True,
        metric_for_best_model="score",
    )
    made.train()
    assert made.state.best_metric == 0.9
    assert made.state.best_global_step == 10
    assert made.state.best_model_checkpoint == str(tmp_path / "checkpoint-10")
    same_weights(made.model, AutoModelForSequenceClassification.from_pretrained(tmp_path / "checkpoint-10"))
    kept = {path.name for path in tmp_path.glob("checkpoint-*")}
    assert kept == {"checkpoint-10"} | ({"checkpoint-20"} if strategy == "epoch" else set())


def test_a_metric_that_is_not_there(tmp_path: Path) -> None:
    made = trainer(tmp_path, eval_dataset=rows(4), eval_strategy="epoch", metric_for_best_model="f1")
    with pytest.raises(InputError, match="'f1' is not among eval_loss"):
        made.train()


@pytest.mark.parametrize(("limit", "kept"), [(None, {10}), (0, {2, 4, 6, 8, 10}), (3, {6, 8, 10})])
def test_how_many_checkpoints_stay(tmp_path: Path, limit: int | None, kept: set[int]) -> None:
    trainer(tmp_path, save_strategy="steps", save_steps=2, save_total_limit=limit).train()
    assert {path.name for path in tmp_path.glob("checkpoint-*")} == {f"checkpoint-{step}" for step in kept}


def test_an_old_training_in_the_same_folder(tmp_path: Path) -> None:
    trainer(tmp_path, save_strategy="epoch").train()
    trainer(tmp_path, save_strategy="epoch", num_train_epochs=1).train()
    assert {path.name for path in tmp_path.glob("checkpoint-*")} == {"checkpoint-5", "checkpoint-10"}
    made = trainer(tmp_path, num_train_epochs=1)
    made.train(resume_from_checkpoint=True)
    assert made.state.global_step == 5


def test_models_without_progress(tmp_path: Path) -> None:
    trainer(tmp_path, save_strategy="epoch", save_only_model=True).train()
    assert not (tmp_path / "checkpoint-10" / "optimizer.safetensors").exists()
    with pytest.raises(ValueError, match="save_only_model"):
        trainer(tmp_path).train(resume_from_checkpoint=True)


def test_saving_by_hand(tmp_path: Path) -> None:
    made = trainer(tmp_path / "run", max_steps=1)
    made.train()
    made.save_model()
    made.save_model(tmp_path / "other")
    made.save_state()
    same_weights(AutoModelForSequenceClassification.from_pretrained(tmp_path / "run"), made.model)
    same_weights(AutoModelForSequenceClassification.from_pretrained(tmp_path / "other"), made.model)
    assert json.loads((tmp_path / "run" / "trainer_state.json").read_text())["global_step"] == 1


def test_the_first_evaluation(tmp_path: Path) -> None:
    made = trainer(tmp_path, eval_dataset=rows(4), eval_strategy="epoch", eval_on_start=True)
    made.train()
    assert [entry["step"] for entry in made.state.log_history if "eval_loss" in entry] == [0, 5, 10]


# -- what stops a training -----------------------------------------------------------------------------------------


class Break(TrainerCallback):
    """Breaks the weights after a step."""

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if state.global_step == 4:
            given["model"].head.output.weight.data.fill_(float("nan"))


def test_a_loss_that_is_no_number_stops(tmp_path: Path) -> None:
    made = trainer(tmp_path, callbacks=[Break], save_strategy="steps", save_steps=3)
    with pytest.raises(
        InputError, match=r"loss is nan at step 5: training stopped.*The last checkpoint is .*checkpoint-3"
    ):
        made.train()
    kept = AutoModelForSequenceClassification.from_pretrained(tmp_path / "checkpoint-3")
    assert all(torch.isfinite(tensor).all() for tensor in kept.state_dict().values())


def test_a_gradient_that_is_no_number_stops(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    made.model.head.output.weight.register_hook(lambda grad: grad * float("inf"))
    before = {name: tensor.clone() for name, tensor in made.model.state_dict().items()}
    with pytest.raises(InputError, match=r"norm of the gradient is .* No checkpoint was saved"):
        made.train()
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.model.state_dict().items())


def test_models(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="model is missing"):
        Trainer(args=arguments(tmp_path))
    with pytest.raises(InputError, match=r"model is a str.*from_pretrained"):
        Trainer("bert-base-cased", arguments(tmp_path))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="Both model and model_init"):
        Trainer(model(), arguments(tmp_path), model_init=model)
    made = trainer(tmp_path, model_init=model, max_steps=1)
    first = made.model
    made.train()
    assert made.model is not first
    trainer(tmp_path, model_init=lambda trial: model(), max_steps=1).train()


def test_training_again_starts_anew(tmp_path: Path) -> None:
    made = trainer(tmp_path, max_steps=2)
    made.train()
    first = made.optimizer
    assert made.train().global_step == 2
    assert made.optimizer is not first
