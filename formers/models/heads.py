"""What stands on an encoder: transforms, pooling, output layers and losses, written once for all families."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from formers.configuration import PreTrainedConfig
from formers.errors import InputError
from formers.layers.activations import activation
from formers.layers.dropout import dropout
from formers.layers.linear import Linear
from formers.models.spec import ModelSpec, Pooling, Transform

# The label of tokens that a loss leaves out.
IGNORED = -100


class TransformLayer(nn.Module):
    """Dense, activation, norm."""

    def __init__(self, width: int, transform: Transform, spec: ModelSpec) -> None:
        super().__init__()
        self.dropout = transform.dropout
        out = transform.width or width
        self.dense = Linear(width, out, bias=transform.bias)
        self.activation = activation(transform.activation or "linear")
        self.norm = nn.LayerNorm(out, spec.norm_eps, bias=spec.norm_bias) if transform.norm else None

    def forward(self, x: Tensor) -> Tensor:
        """(…, W) to (…, width of the transform)."""
        x = dropout(x, self.dropout, self.training)
        x = self.activation(self.dense(x))
        out: Tensor = x if self.norm is None else self.norm(x)
        return out


class OutputHead(nn.Module):
    """An optional transform, dropout and the last product, on any selection (…, W) of hidden states."""

    def __init__(
        self, spec: ModelSpec, outputs: int, transform: Transform | None, dropout: float, bias: bool = True
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.transform = None if transform is None else TransformLayer(spec.width, transform, spec)
        width = spec.width if transform is None else transform.width or spec.width
        self.output = Linear(width, outputs, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(…, W) to (…, outputs)."""
        if self.transform is not None:
            x = self.transform(x)
        logits: Tensor = self.output(dropout(x, self.dropout, self.training))
        return logits


def classification_loss(logits: Tensor, labels: Tensor, config: PreTrainedConfig) -> Tensor:
    """Mean loss of logits (B, C): squared error, cross entropy or binary cross entropy by `config.problem_type`.

    Without a problem type it is told from the labels: one label is regression, whole numbers are classes, others are
    one value a label.
    """
    if config.problem_type is None:
        if config.num_labels == 1:
            config.problem_type = "regression"
        elif not labels.is_floating_point():
            config.problem_type = "single_label_classification"
        else:
            config.problem_type = "multi_label_classification"
    if config.problem_type == "single_label_classification":
        return class_loss(logits, labels)
    if config.problem_type in ("regression", "multi_label_classification"):
        if labels.numel() != logits.numel():
            raise InputError(
                f"Labels of shape {tuple(labels.shape)} for logits of shape {tuple(logits.shape)}.",
                f"{config.problem_type} needs one value for each label of each sequence.",
            )
        labels = labels.reshape(logits.shape).to(logits)
        squared = config.problem_type == "regression"
        return F.mse_loss(logits, labels) if squared else F.binary_cross_entropy_with_logits(logits, labels)
    raise InputError(
        f"config.problem_type is {config.problem_type!r}.",
        "Use 'regression', 'single_label_classification' or 'multi_label_classification'.",
    )


def labels_padding(labels: Tensor | None, attention_mask: Tensor | None) -> bool:
    """Whether labels of tokens (B, S) count padding in, so that the loss needs its logits too."""
    if labels is None or attention_mask is None or labels.shape != attention_mask.shape:
        return False
    return bool((labels[attention_mask == 0] != IGNORED).any())


def class_loss(logits: Tensor, labels: Tensor, ignored: int = IGNORED) -> Tensor:
    """Mean cross entropy of logits (…, C) over the classes that are not `ignored`, one for each row of logits."""
    logits, labels = logits.flatten(0, -2), labels.flatten().to(logits.device)
    if labels.is_floating_point() or labels.shape[0] != logits.shape[0]:
        raise InputError(
            f"{labels.shape[0]} labels of type {labels.dtype} for {logits.shape[0]} rows of logits.",
            "Give each row one class, a whole number; several values a row need config.problem_type.",
        )
    try:
        return F.cross_entropy(logits, labels.long(), ignore_index=ignored)
    except IndexError as error:
        known, classes = labels[labels != ignored], logits.shape[1]
        raise InputError(
            f"Labels go from {int(known.min())} to {int(known.max())}; the model has {classes} classes, from 0 on.",
            "Load the model with num_labels= set to the number of your classes, or correct the labels.",
        ) from error


def next_token_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy of each position's logits against the next position's label."""
    return class_loss(logits[:, :-1], labels[:, 1:])


def spans(logits: Tensor, start: Tensor | None, end: Tensor | None) -> tuple[Tensor | None, Tensor, Tensor]:
    """Logits (B, S, 2) as those of the two ends, (B, S) each, before them their loss where both places (B) are given.

    That is the mean cross entropy; places outside the sequence are ignored.
    """
    starts, ends = (part.squeeze(-1).contiguous() for part in logits.split(1, dim=-1))
    if start is None or end is None:
        return None, starts, ends
    length = logits.shape[1]
    first, last = (
        class_loss(part, places.clamp(0, length), ignored=length) for part, places in ((starts, start), (ends, end))
    )
    return (first + last) / 2, starts, ends


def discriminator_loss(logits: Tensor, labels: Tensor, attention_mask: Tensor | None) -> Tensor:
    """Mean binary cross entropy of replaced-token logits (B, S) over real tokens."""
    if attention_mask is not None:
        real = attention_mask == 1
        logits, labels = logits[real], labels[real]
    return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))


def pool(hidden: Tensor, attention_mask: Tensor | None, pooling: Pooling) -> Tensor:
    """One vector (B, W) of hidden states (B, S, W): the first, the first that is not padding, or the mean of those."""
    if pooling == "cls" or (pooling == "first" and attention_mask is None):
        return hidden[:, 0]
    if attention_mask is None:
        return hidden.mean(1)
    if pooling == "first":
        rows = torch.arange(hidden.shape[0], device=hidden.device)
        return hidden[rows, (attention_mask != 0).int().argmax(1)]
    weights = attention_mask[..., None].to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1)
