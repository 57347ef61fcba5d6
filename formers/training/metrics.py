"""Metrics that take batch after batch: what they hold does not grow with the dataset.

    Trainer(args=TrainingArguments(batch_eval_metrics=True, …), compute_metrics=Metrics(Classification(3)))

With `batch_eval_metrics` the Trainer hands over each batch and keeps none; without it, all predictions come at once and
the numbers are the same. Values that do not exist (a share of nothing, the correlation of constants) are 0, as in
scikit-learn; correlations are nan, as in scipy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from formers.errors import InputError
from formers.models.heads import IGNORED
from formers.training.evaluation import EvalPrediction, to_numpy

Array = np.ndarray[Any, Any]
AVERAGES = ("binary", "micro", "macro", "weighted")


class Counter(Protocol):
    """Counts batches, and turns its counts into numbers by name."""

    def update(self, prediction: EvalPrediction) -> None:
        """Count a batch: predictions and labels as tensors or arrays."""

    def compute(self) -> dict[str, float]:
        """The metrics of all batches so far."""

    def reset(self) -> None:
        """Forget all batches."""


class Metrics:
    """Several counters as one `compute_metrics`. They keep their counts until the next pass begins."""

    def __init__(self, *counters: Counter) -> None:
        self.counters = counters
        self._fresh = True

    def __call__(self, prediction: EvalPrediction, compute_result: bool = True) -> dict[str, float]:
        """Count a batch; with `compute_result`, which marks the last one, the metrics of all."""
        if self._fresh:
            for counter in self.counters:
                counter.reset()
        self._fresh = compute_result
        for counter in self.counters:
            counter.update(prediction)
        if not compute_result:
            return {}
        return {name: value for counter in self.counters for name, value in counter.compute().items()}


class Classification:
    """Accuracy, precision, recall, F1 and Matthews' correlation of classes, one an example or a token.

    Predictions are logits (…, C) or classes; labels of -100 are left out. `average`: "binary" (of the class
    `positive`), "micro", "macro", "weighted", or several of these, which then end the names (f1_macro); by itself
    "binary" for two classes and "macro" for more. The mean over classes is one over those that occur in labels or
    predictions. `matrix[i, j]` counts the examples of class i that were predicted as j.
    """

    def __init__(self, num_labels: int, average: str | Sequence[str] | None = None, positive: int = 1) -> None:
        average = average or ("binary" if num_labels == 2 else "macro")
        self.averages = (average,) if isinstance(average, str) else tuple(average)
        unknown = [one for one in self.averages if one not in AVERAGES]
        if unknown:
            raise InputError(f"average={unknown[0]!r} is not known.", f"Use one of {', '.join(AVERAGES)}.")
        self.num_labels, self.positive = num_labels, positive
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self.matrix: Array = np.zeros((self.num_labels, self.num_labels), np.int64)

    def update(self, prediction: EvalPrediction) -> None:
        """Count a batch."""
        guesses, labels = classes(prediction)
        known = labels != IGNORED
        guesses, labels = guesses[known], labels[known]
        both = np.concatenate([guesses, labels])
        if both.size and not 0 <= both.min() <= both.max() < self.num_labels:
            raise InputError(
                f"Classes go from {both.min()} to {both.max()}; there are {self.num_labels}, from 0 on.",
                "Make the metric with the model's num_labels.",
            )
        counts = np.bincount(labels * self.num_labels + guesses, minlength=self.num_labels**2)
        self.matrix += counts.reshape(self.num_labels, self.num_labels)

    def compute(self) -> dict[str, float]:
        """The metrics of all batches so far."""
        hits, found, true = np.diag(self.matrix), self.matrix.sum(0), self.matrix.sum(1)
        return {
            "accuracy": ratio(hits.sum(), self.matrix.sum()),
            **averaged(hits, found, true, self.averages, self.positive),
            "matthews_correlation": matthews(self.matrix),
        }

    def table(self) -> list[dict[str, float]]:
        """Precision, recall, F1 and support of each class."""
        return by_class(np.diag(self.matrix), self.matrix.sum(0), self.matrix.sum(1))


class MultiLabel:
    """F1, precision and recall of labels that each are there or not, and the share of examples with all right.

    Predictions are logits (…, C), there where their sigmoid exceeds `threshold`; labels are 0 or 1 for each.
    """

    def __init__(
        self, num_labels: int, average: str | Sequence[str] = ("micro", "macro"), threshold: float = 0.5
    ) -> None:
        self.averages = (average,) if isinstance(average, str) else tuple(average)
        self.num_labels, self.cut = num_labels, math.log(threshold / (1 - threshold))
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self.hits, self.found, self.true = (np.zeros(self.num_labels, np.int64) for _ in range(3))
        self.right = self.rows = 0

    def update(self, prediction: EvalPrediction) -> None:
        """Count a batch."""
        guesses, labels = arrays(prediction)
        guesses, labels = guesses > self.cut, labels > 0.5
        self.hits += (guesses & labels).sum(0)
        self.found += guesses.sum(0)
        self.true += labels.sum(0)
        self.right += int((guesses == labels).all(1).sum())
        self.rows += len(labels)

    def compute(self) -> dict[str, float]:
        """The metrics of all batches so far."""
        scores = averaged(self.hits, self.found, self.true, self.averages, only_seen=False)
        return {"accuracy": ratio(self.right, self.rows), **scores}

    def table(self) -> list[dict[str, float]]:
        """Precision, recall, F1 and support of each label."""
        return by_class(self.hits, self.found, self.true)


class Regression:
    """Mean squared and absolute error, and Pearson's correlation, of one number an example."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self.count = 0
        self.squared = self.absolute = 0.0
        # Means, and sums of squared distances from them and of their products (Chan et al., 1979): no cancellation.
        self.mean: Array = np.zeros(2)
        self.spread: Array = np.zeros((2, 2))

    def update(self, prediction: EvalPrediction) -> None:
        """Count a batch."""
        pair = np.stack([np.ravel(part).astype(np.float64) for part in arrays(prediction)])
        size = pair.shape[1]
        if not size:
            return
        error = pair[0] - pair[1]
        self.squared += float(error @ error)
        self.absolute += float(np.abs(error).sum())
        mean = pair.mean(1)
        away, apart = pair - mean[:, None], mean - self.mean
        total = self.count + size
        self.spread += away @ away.T + np.outer(apart, apart) * (self.count * size / total)
        self.mean += apart * (size / total)
        self.count = total

    def compute(self) -> dict[str, float]:
        """The metrics of all batches so far."""
        scale = math.sqrt(self.spread[0, 0] * self.spread[1, 1])
        pearson = float(np.clip(self.spread[0, 1] / scale, -1, 1)) if scale else math.nan
        return {"mse": ratio(self.squared, self.count), "mae": ratio(self.absolute, self.count), "pearson": pearson}


class Spearman:
    """Spearman's rank correlation. Ranks need all values: this one keeps 16 bytes an example."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self.parts: list[tuple[Array, Array]] = []

    def update(self, prediction: EvalPrediction) -> None:
        """Keep a batch."""
        guesses, labels = (np.ravel(part).astype(np.float64) for part in arrays(prediction))
        self.parts.append((guesses, labels))

    def compute(self) -> dict[str, float]:
        """The metric of all batches so far."""
        guesses, labels = (np.concatenate(part) for part in zip(*self.parts, strict=True))
        of_ranks = Regression()
        of_ranks.update(EvalPrediction(ranks(guesses), ranks(labels)))
        return {"spearman": of_ranks.compute()["pearson"]}


class Perplexity:
    """exp of the mean loss of the tokens that have a label, and the share of those that were predicted right.

    Predictions are logits (B, S, C). `shift`: position i predicts the label of i + 1, as causal models do. The batches'
    own losses are taken where they come along (include_for_metrics=["loss"]), else they are computed.
    """

    def __init__(self, shift: bool = False) -> None:
        self.shift = shift
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self.loss, self.right, self.tokens = 0.0, 0, 0

    def update(self, prediction: EvalPrediction) -> None:
        """Count a batch."""
        from torch import as_tensor
        from torch.nn.functional import cross_entropy

        logits, labels = as_tensor(_first(prediction.predictions)), as_tensor(prediction.label_ids)
        if self.shift:
            logits, labels = logits[:, :-1], labels[:, 1:]
        known = labels != IGNORED
        logits, labels = logits[known], labels[known].long()
        if prediction.losses is None:
            self.loss += float(cross_entropy(logits.float(), labels, reduction="sum"))
        elif len(labels):
            self.loss += float(to_numpy(prediction.losses).mean()) * len(labels)
        self.right += int((logits.argmax(-1) == labels).sum())
        self.tokens += len(labels)

    def compute(self) -> dict[str, float]:
        """The metrics of all batches so far."""
        mean = ratio(self.loss, self.tokens)
        return {"perplexity": math.exp(mean) if mean < 700 else math.inf, "accuracy": ratio(self.right, self.tokens)}


class Entities:
    """Precision, recall and F1 of whole entities (micro average), and the accuracy of tokens, as seqeval counts them.

    names: the label of each class, in IOB1, IOB2 or IOBES: O, or one of B- I- E- S- before the entity's type. An
    entity counts where type, begin and end are right. Predictions are logits (B, S, C) or classes; tokens labelled -100
    are left out, wherever they stand.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        if not is_tagging(names):
            raise InputError(
                f"The labels {', '.join(self.names[:5])} do not mark entities.",
                "Use O, and B- or I- before each type; for other labels of tokens use Classification.",
            )
        self.types = sorted({_type(name) for name in names if name != "O"})
        # E and S end an entity, B and S begin one; O is no part of any. Its type is a number that no type has.
        self._ends = np.array([name[0] in "ES" for name in names])
        self._begins = np.array([name[0] in "BS" for name in names])
        self._type = np.array([-1 if name == "O" else self.types.index(_type(name)) for name in names])
        self._outside = self.names.index("O") if "O" in names else len(names)
        if self._outside == len(names):
            self._ends, self._begins = np.append(self._ends, False), np.append(self._begins, False)
            self._type = np.append(self._type, -1)
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self.hits, self.found, self.true = (np.zeros(len(self.types), np.int64) for _ in range(3))
        self.right = self.tokens = 0

    def update(self, prediction: EvalPrediction) -> None:
        """Count a batch."""
        guesses, labels = classes(prediction)
        known = labels != IGNORED
        self.right += int((guesses == labels)[known].sum())
        self.tokens += int(known.sum())
        # All rows end to end, each with an O behind it, which no entity crosses.
        kept = np.pad(known, ((0, 0), (0, 1)), constant_values=True)
        rows = [
            np.pad(np.where(known, ids, 0), ((0, 0), (0, 1)), constant_values=self._outside)[kept]
            for ids in (guesses, labels)
        ]
        (begins, ends, types), (true_begins, true_ends, true_types) = map(self._spans, rows)
        end_at, type_at = np.full(len(rows[0]) + 1, -1), np.full(len(rows[0]) + 1, -1)
        end_at[begins], type_at[begins] = ends, types
        same = (end_at[true_begins] == true_ends) & (type_at[true_begins] == true_types)
        self.hits += np.bincount(true_types[same], minlength=len(self.types))
        self.found += np.bincount(types, minlength=len(self.types))
        self.true += np.bincount(true_types, minlength=len(self.types))

    def _spans(self, ids: Array) -> tuple[Array, Array, Array]:
        """Begin, end (one past the last token) and type of each entity in a row of classes that ends with O."""
        types = self._type[ids]
        inside = types >= 0
        new = np.ones(len(ids), bool)
        new[1:] = (types[1:] != types[:-1]) | self._ends[ids[:-1]] | self._begins[ids[1:]]
        begins = np.flatnonzero(new)
        ends = np.append(begins[1:], len(ids))
        entities = inside[begins]
        return begins[entities], ends[entities], types[begins][entities]

    def compute(self) -> dict[str, float]:
        """The metrics of all batches so far."""
        scores = averaged(self.hits, self.found, self.true, ("micro",))
        return {**scores, "accuracy": ratio(self.right, self.tokens)}

    def table(self) -> list[dict[str, float]]:
        """Precision, recall, F1 and support of each type, in the order of `types`."""
        return by_class(self.hits, self.found, self.true)


def is_tagging(names: Sequence[str]) -> bool:
    """Whether labels mark entities: O, or B- I- E- S- before a type, and one of these at least."""
    return all(name == "O" or name[:2] in ("B-", "I-", "E-", "S-") for name in names) and any(
        name != "O" for name in names
    )


def arrays(prediction: EvalPrediction) -> tuple[Array, Array]:
    """Predictions (the first, if a model gives several) and labels as arrays."""
    return to_numpy(_first(prediction.predictions)), to_numpy(_first(prediction.label_ids))


def classes(prediction: EvalPrediction) -> tuple[Array, Array]:
    """Predicted classes, of logits or as they are, and labels: whole numbers of one shape."""
    guesses, labels = arrays(prediction)
    if guesses.ndim == labels.ndim + 1:
        guesses = guesses.argmax(-1)
    if guesses.shape != labels.shape:
        raise InputError(
            f"Predictions of shape {guesses.shape} for labels of shape {labels.shape}.",
            "Give one class, or one row of logits, for each label.",
        )
    return guesses.astype(np.int64), labels.astype(np.int64)


def averaged(
    hits: Array, found: Array, true: Array, averages: Sequence[str], positive: int = 1, only_seen: bool = True
) -> dict[str, float]:
    """Precision, recall and F1 from counts of each class: right, predicted, true. Several averages end the names."""
    seen = (found + true > 0) if only_seen else np.ones(len(hits), bool)
    scores: dict[str, float] = {}
    for average in averages:
        if average in ("micro", "binary"):
            one = slice(None) if average == "micro" else slice(positive, positive + 1)
            h, f, t = hits[one].sum(), found[one].sum(), true[one].sum()
            values = (ratio(h, f), ratio(h, t), ratio(2 * h, f + t))
        else:
            weights = true[seen] if average == "weighted" else np.ones(seen.sum())
            h, f, t = hits[seen], found[seen], true[seen]
            each = (_ratios(h, f), _ratios(h, t), _ratios(2 * h, f + t))
            values = tuple(ratio(float(one @ weights), float(weights.sum())) for one in each)  # type: ignore[assignment]
        ending = f"_{average}" if len(averages) > 1 else ""
        scores.update(zip((f"precision{ending}", f"recall{ending}", f"f1{ending}"), values, strict=True))
    return scores


def by_class(hits: Array, found: Array, true: Array) -> list[dict[str, float]]:
    """Precision, recall, F1 and support of each class."""
    columns = (_ratios(hits, found), _ratios(hits, true), _ratios(2 * hits, found + true))
    return [
        {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(n)}
        for p, r, f, n in zip(*columns, true, strict=True)
    ]


def matthews(matrix: Array) -> float:
    """Matthews' correlation coefficient of a confusion matrix, for any number of classes (Gorodkin, 2004)."""
    counts = matrix.astype(np.float64)
    total, right, found, true = counts.sum(), np.trace(counts), counts.sum(0), counts.sum(1)
    scale = math.sqrt((total**2 - found @ found) * (total**2 - true @ true))
    return float((right * total - found @ true) / scale) if scale else 0.0


def ranks(values: Array) -> Array:
    """The rank of each value from 1 on; equal values share the mean of theirs."""
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    shared: Array = (last - (counts - 1) / 2)[where.ravel()]
    return shared


def ratio(part: float, whole: float) -> float:
    """A share; 0 of nothing."""
    return float(part / whole) if whole else 0.0


def _ratios(part: Array, whole: Array) -> Array:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) else value


def _type(name: str) -> str:
    return name[2:]
