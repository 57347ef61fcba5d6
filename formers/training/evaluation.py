"""Evaluation and prediction: batches of like length, exact mean losses, and predictions in the dataset's order."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from formers.training import distributed, preparation
from formers.training.data import Batch, Loader, batches, with_last
from formers.training.losses import rows

if TYPE_CHECKING:
    from formers.training.trainer import Trainer

# What fills up predictions and labels of tokens to the longest of all.
FILL = -100
Array = np.ndarray[Any, Any]
# So many tokens keep a processor busy.
_TOKENS = 8192


class EvalPrediction:
    """What `compute_metrics` gets; unpacks to predictions and labels, and to inputs and losses if they are there."""

    def __init__(self, predictions: Any, label_ids: Any, inputs: Any = None, losses: Any = None) -> None:
        self.predictions = predictions
        self.label_ids = label_ids
        self.inputs = inputs
        self.losses = losses

    @property
    def elements(self) -> tuple[Any, ...]:
        """The values that are there."""
        extras = tuple(value for value in (self.inputs, self.losses) if value is not None)
        return (self.predictions, self.label_ids, *extras)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.elements)

    def __getitem__(self, index: int) -> Any:
        return self.elements[index]


class EvalLoopOutput(NamedTuple):
    """All predictions and labels (None where there are none), metrics, and the number of examples."""

    predictions: Any
    label_ids: Any
    metrics: dict[str, Any]
    num_samples: int


class PredictionOutput(NamedTuple):
    """All predictions and labels (None where there are none), and metrics."""

    predictions: Any
    label_ids: Any
    metrics: dict[str, Any]


class TrainOutput(NamedTuple):
    """How many steps were taken, their mean loss, and further numbers."""

    global_step: int
    training_loss: float
    metrics: dict[str, float]


@dataclass
class Evaluation:
    """One pass over a dataset.

    predict: a batch to its loss, predictions and labels, each None where there is none.
    items: the number of items that a batch's loss averages over.
    include: "inputs" and "loss" to hand these to `compute_metrics` too.
    by_batch: call `compute_metrics(prediction, compute_result=…)` batch by batch, with True at the last. The Trainer
    does so with batch_eval_metrics=True, and for a `compute_metrics` that has an attribute `by_batch` that is true.
    keep: return predictions and labels. Without it, and by batch, memory does not grow with the dataset.
    tokens: up to so many, neighbouring batches are predicted as one; see `grouped`.
    """

    loader: Any
    predict: Callable[[Batch], tuple[Tensor | None, Any, Any]]
    items: Callable[[Batch], float]
    compute_metrics: Callable[..., Mapping[str, Any]] | None = None
    preprocess: Callable[[Any, Any], Any] | None = None
    include: Sequence[str] = ()
    by_batch: bool = False
    keep: bool = True
    main_input: str = "input_ids"
    tokens: int = 0
    after_batch: Callable[[], None] = field(default=lambda: None)

    def run(self, prefix: str, order: Sequence[int] | None = None) -> EvalLoopOutput:
        """The outcome, metrics named with `prefix`. `order`: the number in the dataset of each example as it comes."""
        kept: dict[str, list[Any]] = {"predictions": [], "labels": [], "inputs": [], "losses": []}
        total, items, count = 0.0, 0.0, 0
        metrics: dict[str, Any] = {}
        for (inputs, number), last in with_last(grouped(batches(self.loader), self.tokens)):
            # Of each step's examples every process computes its share; all of them see all answers.
            answers = distributed.gather(self._answer(inputs))
            total += sum(answer.loss for answer in answers)
            items += sum(answer.items for answer in answers)
            count += sum(answer.size for answer in answers)
            parts = {name: [a.parts[name] for a in answers if a.parts.get(name) is not None] for name in kept}
            if self.by_batch and self.compute_metrics is not None and parts["predictions"] and parts["labels"]:
                batch = {name: _together(found) for name, found in parts.items()}
                metrics = dict(self.compute_metrics(_prediction(batch), compute_result=last))
            if self.keep:
                for name, found in parts.items():
                    kept[name].extend(map(to_numpy, found))
            for _ in range(number):
                self.after_batch()
        whole = {name: joined(parts, order) for name, parts in kept.items()}
        if not self.by_batch and self.compute_metrics is not None and _both(whole):
            metrics = dict(self.compute_metrics(_prediction(whole)))
        if items:
            metrics[f"{prefix}_loss"] = total / items
        named = {key if key.startswith(f"{prefix}_") else f"{prefix}_{key}": plain(v) for key, v in metrics.items()}
        return EvalLoopOutput(whole["predictions"], whole["labels"], named, count)

    def _answer(self, inputs: Batch) -> _Answer:
        """What this process finds out about its batch; nothing about an empty one."""
        if not inputs:
            return _Answer()
        loss, predictions, labels = self.predict(inputs)
        size = rows(inputs)
        weight = 0.0 if loss is None else self.items(inputs)
        answer = _Answer(float(loss) * weight if loss is not None and weight else 0.0, weight, size)
        if not self.keep and not self.by_batch:
            return answer
        if predictions is not None and self.preprocess is not None:
            predictions = self.preprocess(predictions, labels)
        answer.parts = {
            "predictions": predictions,
            "labels": labels,
            "inputs": inputs[self.main_input] if "inputs" in self.include else None,
            "losses": None if loss is None or "loss" not in self.include else loss.detach().repeat(size),
        }
        if distributed.place().world_size > 1:
            answer.parts = {name: None if part is None else to_numpy(part) for name, part in answer.parts.items()}
        return answer


# Names of what holds a value for each token, 0 for padding.
_PADDED = ("input_ids", "attention_mask", "token_type_ids")


def grouped(batches: Iterator[Batch], tokens: int) -> Iterator[tuple[Batch, int]]:
    """Neighbouring batches as one as long as it has at most so many tokens; each with how many it is made of.

    Few tokens do not keep a processor busy. Batches that cannot be joined, or are large, come as they are. The first
    are smaller: a model gets ready for speed beside its first calls.
    """
    waiting: list[Batch] = []
    limit = tokens // 8
    for batch in batches:
        if waiting and not _joinable([*waiting, batch], limit):
            yield _one(waiting), len(waiting)
            waiting, limit = [], min(2 * limit, tokens)
        waiting.append(batch)
    if waiting:
        yield _one(waiting), len(waiting)


def _joinable(several: list[Batch], tokens: int) -> bool:
    """Whether all are padded texts with the same further columns, and not too many."""
    first, batch = several[0], several[-1]
    if not tokens or not all(isinstance(each, Mapping) for each in (first, batch)):
        return False
    if set(batch) != set(first) or not {"input_ids", "attention_mask"} <= set(batch):
        return False
    if "position_ids" in batch or not all(isinstance(value, Tensor) and value.dim() for value in batch.values()):
        return False
    shapes = [value.shape for name, value in batch.items() if name in _PADDED]
    if any(shape != batch["input_ids"].shape or len(shape) != 2 for shape in shapes):
        return False
    if any(value.shape[1:] != first[name].shape[1:] for name, value in batch.items() if name not in _PADDED):
        return False
    longest = max(int(each["input_ids"].shape[1]) for each in several)
    return sum(map(rows, several)) * longest <= tokens


def _one(several: list[Batch]) -> Batch:
    """Batches that can be joined as one, padded on the right to the longest."""
    if len(several) == 1:
        return several[0]
    longest = max(each["input_ids"].shape[1] for each in several)
    joined = {}
    for name in several[0]:
        parts = [each[name] for each in several]
        if name in _PADDED:
            parts = [torch.nn.functional.pad(part, (0, longest - part.shape[1])) for part in parts]
        joined[name] = torch.cat(parts)
    return joined


@dataclass
class _Answer:
    """The sum of a batch's losses, over how many items, of how many examples; and what metrics are made of."""

    loss: float = 0.0
    items: float = 0.0
    size: int = 0
    parts: dict[str, Any] = field(default_factory=dict)


def _together(parts: list[Any]) -> Any:
    """The parts of all processes as one, the tensors that one process would have."""
    if len(parts) < 2 and distributed.place().world_size == 1:
        return parts[0] if parts else None
    return _tensors(joined(list(parts), None))


def _tensors(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    if isinstance(value, dict):
        return {key: _tensors(part) for key, part in value.items()}
    return value if value is None else tuple(map(_tensors, value))


def run(
    trainer: Trainer, loader: Any, prefix: str, ignore_keys: list[str] | None, keep: bool = False
) -> EvalLoopOutput:
    """Evaluate a Trainer's model as its arguments say, and measure the time; the model stays in its mode.

    keep: return predictions and labels even where no metrics need them.
    """
    args, model, metrics = trainer.args, trainer.model, trainer.compute_metrics
    by_batch = args.batch_eval_metrics or bool(getattr(metrics, "by_batch", False))
    keep = keep or (metrics is not None and not by_batch)
    loss_only = args.prediction_loss_only or not (keep or metrics)
    was_training = model.training
    preparation.arrange(model.to(args.device), args).eval()
    trainer.eval_dataloader = loader
    begin = time.perf_counter()
    tokens = 0 if by_batch or "loss" in args.include_for_metrics else _together_up_to(trainer)
    if tokens and not (args.torch_compile or args.bf16):
        model.for_inference()
    evaluation = Evaluation(
        loader,
        predict=lambda inputs: trainer.prediction_step(model, inputs, loss_only, ignore_keys),
        items=trainer.objective.items,
        compute_metrics=metrics,
        preprocess=trainer.preprocess_logits_for_metrics,
        include=args.include_for_metrics,
        by_batch=by_batch,
        keep=keep and not loss_only,
        main_input=trainer.main_input,
        tokens=tokens,
        after_batch=lambda: trainer.event("on_prediction_step"),
    )
    with preparation.kernels(args):
        output = evaluation.run(prefix, loader.indices() if isinstance(loader, Loader) else None)
    model.train(was_training)
    steps = math.ceil(output.num_samples / (args.eval_batch_size * args.world_size))
    output.metrics.update(speed(prefix, begin, output.num_samples, steps))
    return output


def _together_up_to(trainer: Trainer) -> int:
    """How many tokens may be predicted at once, whatever the batches; 0 where somebody would notice.

    Only where the outputs are small: one answer a text, from its first token. It takes less memory than a training.
    """
    from formers.training.trainer import Trainer

    kind, model = type(trainer), trainer.model
    own = kind.prediction_step is not Trainer.prediction_step or kind.compute_loss is not Trainer.compute_loss
    own = own or bool(trainer.compute_loss_func or trainer.preprocess_logits_for_metrics)
    once = getattr(model, "first_only", None)
    alone = distributed.place().world_size == 1 and trainer.args.device.type == "cpu"
    return _TOKENS if alone and not own and once is not None and once() else 0


def split(outputs: Any, labelled: bool, ignored: Iterable[str] | None) -> Any:
    """The predictions among a model's outputs: all but the loss and the ignored ones, alone if there is one."""
    if isinstance(outputs, tuple):
        values = outputs[1:] if labelled else outputs
    else:
        left_out = {"loss", *(ignored or ())}
        values = tuple(value for name, value in outputs.items() if name not in left_out)
    return values[0] if len(values) == 1 else values


def speed(prefix: str, begin: float, samples: float, steps: float) -> dict[str, float]:
    """Seconds since `begin` (of time.perf_counter), and samples and steps a second."""
    seconds = max(time.perf_counter() - begin, 1e-9)
    return {
        f"{prefix}_runtime": round(seconds, 4),
        f"{prefix}_samples_per_second": round(samples / seconds, 3),
        f"{prefix}_steps_per_second": round(steps / seconds, 3),
    }


def to_numpy(value: Any) -> Any:
    """Tensors, also inside tuples, lists and mappings, as arrays in main memory."""
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        array: Array = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
        return array if array.ndim else array[None]
    if isinstance(value, Mapping):
        return {key: to_numpy(part) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return tuple(to_numpy(part) for part in value)
    return np.atleast_1d(value)


def joined(parts: list[Any], order: Sequence[int] | None) -> Any:
    """Parts one after the other as one array, filled up to the longest, in the dataset's order. Empties `parts`."""
    if not parts:
        return None
    if isinstance(parts[0], tuple):
        return tuple(joined(list(column), order) for column in zip(*parts, strict=True))
    if isinstance(parts[0], dict):
        return {key: joined([part[key] for part in parts], order) for key in parts[0]}
    total = sum(map(len, parts))
    shape = tuple(max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True))
    whole = np.full((total, *shape), FILL, dtype=np.result_type(*{part.dtype for part in parts}))
    # Predictions that are not one an example, such as those of the labelled tokens alone, stay as they came.
    places = np.asarray(order if order is not None and len(order) == total else range(total))
    start = 0
    parts.reverse()
    while parts:
        part = parts.pop()
        rows_of_part = places[start : start + len(part)]
        place: tuple[Any, ...] = (rows_of_part, *map(slice, part.shape[1:]))
        whole[place] = part
        start += len(part)
    return whole


def plain(value: Any) -> Any:
    """A metric as Python's own kind of number, which JSON takes."""
    if isinstance(value, np.generic | np.ndarray | Tensor):
        return value.item() if math.prod(value.shape) == 1 else value.tolist()
    return value


def _both(parts: Mapping[str, Any]) -> bool:
    return parts["predictions"] is not None and parts["labels"] is not None


def _prediction(parts: Mapping[str, Any]) -> EvalPrediction:
    return EvalPrediction(parts["predictions"], parts["labels"], parts["inputs"], parts["losses"])
