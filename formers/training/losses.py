"""The loss of a batch as a mean over its items, and how many items that are.

Items are what a loss averages over: examples, or the tokens that have a label. With their number, the means of several
batches add up to the mean of all, exactly, whatever the batches' sizes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from formers.errors import InputError
from formers.models.encoder_heads import Discriminator
from formers.models.heads import IGNORED
from formers.training.data import bare


@dataclass
class Objective:
    """What is minimised: the model's own loss, a loss with smoothed labels or class weights, or the caller's.

    custom: (outputs, labels, num_items_in_batch) to the mean loss, or to the sum divided by `num_items_in_batch`.
    """

    model: nn.Module
    label_names: list[str]
    smoothing: float = 0.0
    weights: Tensor | None = None
    custom: Callable[..., Tensor] | None = None

    def items(self, inputs: Mapping[str, Any]) -> float:
        """How many items the loss of a batch averages over; with class weights, the sum of theirs."""
        labels = inputs.get("labels")
        if not isinstance(labels, Tensor):
            return self._spans(inputs)
        if isinstance(bare(self.model), Discriminator):
            mask = inputs.get("attention_mask")
            return float(labels.numel() if mask is None else (mask == 1).sum())
        if labels.is_floating_point():
            return float(labels.numel())
        labels = labels[..., 1:] if _shifts(self.model) else labels
        known = labels[labels != IGNORED]
        return float(known.numel() if self.weights is None else self.weights.to(known.device)[known].sum())

    def _spans(self, inputs: Mapping[str, Any]) -> float:
        ends = [inputs[name] for name in ("start_positions", "end_positions") if name in inputs]
        given = next((inputs[name] for name in ("input_ids", "inputs_embeds") if name in inputs), None)
        if given is None or not ends:
            return float(rows(inputs))
        return float(sum(int((end < given.shape[1]).sum()) for end in ends)) / len(ends)

    def __call__(self, forward: nn.Module, inputs: Mapping[str, Any], num_items: Any = None) -> tuple[Tensor, Any]:
        """The mean loss of a batch, and the outputs of `forward`, which is the model or a compiled form of it."""
        if self.custom is None and not self.smoothing and self.weights is None:
            outputs = forward(**inputs)
            return _loss(outputs), outputs
        given = {name: value for name, value in inputs.items() if name not in self.label_names}
        found = [inputs[name] for name in self.label_names if name in inputs]
        labels: Any = found[0] if len(found) == 1 else tuple(found)
        outputs = forward(**given)
        if self.custom is not None:
            return self.custom(outputs, labels, num_items_in_batch=num_items), outputs
        logits = outputs["logits"] if isinstance(outputs, Mapping) or hasattr(outputs, "keys") else outputs[0]
        if not isinstance(labels, Tensor) or labels.is_floating_point():
            raise InputError(
                "Label smoothing and class weights need classes as labels, one an example or a token.",
                "Leave label_smoothing_factor and class_weights out, or pass compute_loss_func.",
            )
        if _shifts(self.model):
            logits, labels = logits[:, :-1], labels[:, 1:]
        weights = None if self.weights is None else self.weights.to(logits)
        loss = F.cross_entropy(
            logits.flatten(0, -2).float(),
            labels.flatten(),
            weight=None if weights is None else weights.float(),
            ignore_index=IGNORED,
            label_smoothing=self.smoothing,
        )
        return loss, outputs


def rows(inputs: Mapping[str, Any]) -> int:
    """How many examples a batch holds."""
    return next((len(value) for value in inputs.values() if isinstance(value, Tensor) and value.dim()), 0)


def takes_items(compute_loss: Callable[..., Any]) -> bool:
    """Whether a `compute_loss` takes `num_items_in_batch`."""
    parameters = inspect.signature(compute_loss).parameters
    return "num_items_in_batch" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def class_weights(values: Any, num_labels: int) -> Tensor:
    """Given weights of classes as a tensor, one for each class."""
    weights = torch.as_tensor(values, dtype=torch.float32)
    if weights.shape != (num_labels,) or not bool((weights >= 0).all()):
        raise InputError(
            f"class_weights={values!r} for a model with {num_labels} classes.",
            "Give one number from 0 on for each class.",
        )
    return weights


def _shifts(model: nn.Module) -> bool:
    """Whether position i predicts the label of position i + 1."""
    return type(bare(model)).__name__.endswith(("ForCausalLM", "LMHeadModel"))


def _loss(outputs: Any) -> Tensor:
    if hasattr(outputs, "keys"):
        loss = outputs.get("loss")
    else:
        loss = outputs[0] if isinstance(outputs, tuple) and outputs and outputs[0].dim() == 0 else None
    if loss is None:
        raise InputError(
            "The model returned no loss.",
            "Give it labels (a column named 'label' or 'labels'), or pass compute_loss_func.",
        )
    found: Tensor = loss
    return found
