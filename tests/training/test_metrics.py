"""Streamed metrics against formulas written out, and against scikit-learn, scipy and seqeval where installed."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from formers.errors import InputError
from formers.training.evaluation import EvalPrediction
from formers.training.metrics import (
    Classification,
    Entities,
    Metrics,
    MultiLabel,
    Perplexity,
    Regression,
    Spearman,
    is_tagging,
)
from tests.training.small import model, rows, trainer

Array = np.ndarray[Any, Any]


def streamed(metrics: Metrics, predictions: Any, labels: Any, cuts: list[int]) -> dict[str, float]:
    """The metrics of data that come in batches which end at `cuts`."""
    edges = sorted({0, *(cut for cut in cuts if 0 < cut < len(labels)), len(labels)})
    found: dict[str, float] = {}
    for begin, end in pairwise(edges):
        batch = EvalPrediction(torch.as_tensor(predictions[begin:end]), torch.as_tensor(labels[begin:end]))
        found = metrics(batch, compute_result=end == len(labels))
        assert bool(found) == (end == len(labels))
    return found


CUTS = st.lists(st.integers(1, 40), max_size=4)
PAIRS = st.integers(2, 5).flatmap(
    lambda count: st.tuples(
        st.just(count), st.lists(st.tuples(*[st.integers(0, count - 1)] * 2), min_size=1, max_size=40)
    )
)


def test_by_hand() -> None:
    metrics = Metrics(Classification(2))
    found = streamed(metrics, np.array([1, 1, 0, 0, 1]), np.array([1, 0, 0, 1, 1]), [2])
    # Of class 1: two right, three predicted, three true.
    assert found == pytest.approx(
        {
            "accuracy": 3 / 5,
            "precision": 2 / 3,
            "recall": 2 / 3,
            "f1": 2 / 3,
            "matthews_correlation": (2 * 1 - 1 * 1) / math.sqrt(3 * 3 * 2 * 2),
        }
    )
    assert metrics.counters[0].matrix.tolist() == [[1, 1], [1, 2]]  # type: ignore[attr-defined]


@given(PAIRS, CUTS)
def test_classification_as_scikit_learn(pairs: tuple[int, list[tuple[int, int]]], cuts: list[int]) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    count, values = pairs
    guesses, labels = (np.array(part) for part in zip(*values, strict=True))
    averages = ("micro", "macro", "weighted")
    metrics = Metrics(Classification(count, averages))
    logits = np.eye(count)[guesses] + 0.1
    found = streamed(metrics, logits, labels, cuts)
    expected = {"accuracy": sklearn.accuracy_score(labels, guesses)}
    expected["matthews_correlation"] = sklearn.matthews_corrcoef(labels, guesses)
    for average in averages:
        scores = sklearn.precision_recall_fscore_support(labels, guesses, average=average, zero_division=0)
        expected |= {f"{name}_{average}": scores[i] for i, name in enumerate(("precision", "recall", "f1"))}
    assert found == pytest.approx(expected)
    per_class = sklearn.precision_recall_fscore_support(labels, guesses, labels=range(count), zero_division=0)
    table = metrics.counters[0].table()  # type: ignore[attr-defined]
    assert [row["f1"] for row in table] == pytest.approx(per_class[2].tolist())
    assert [row["support"] for row in table] == per_class[3].tolist()


def test_tokens_without_a_label_are_left_out() -> None:
    labels = np.array([[0, 1, -100], [2, -100, -100]])
    guesses = np.array([[0, 1, 2], [0, 1, 1]])
    assert streamed(Metrics(Classification(3)), guesses, labels, [1])["accuracy"] == pytest.approx(2 / 3)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="Classes go from 0 to 3; there are 2"):
        Metrics(Classification(2))(EvalPrediction(np.array([0, 1]), np.array([3, 0])))
    with pytest.raises(InputError, match="average='mean' is not known"):
        Classification(2, "mean")
    with pytest.raises(InputError, match=r"Predictions of shape \(2,\) for labels of shape \(3,\)"):
        Metrics(Classification(2))(EvalPrediction(np.array([0, 1]), np.array([1, 0, 1])))
    with pytest.raises(InputError, match="do not mark entities"):
        Entities(["NOUN", "VERB"])


@given(
    st.lists(
        st.tuples(st.lists(st.booleans(), min_size=3, max_size=3), st.lists(st.booleans(), min_size=3, max_size=3)),
        min_size=1,
        max_size=20,
    ),
    CUTS,
)
def test_multi_label_as_scikit_learn(values: list[tuple[list[bool], list[bool]]], cuts: list[int]) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    guesses, labels = (np.array(part, dtype=float) for part in zip(*values, strict=True))
    found = streamed(Metrics(MultiLabel(3)), guesses * 4 - 2, labels, cuts)
    expected = {"accuracy": sklearn.accuracy_score(labels, guesses)}
    for average in ("micro", "macro"):
        scores = sklearn.precision_recall_fscore_support(labels, guesses, average=average, zero_division=0)
        expected |= {f"{name}_{average}": scores[i] for i, name in enumerate(("precision", "recall", "f1"))}
    assert found == pytest.approx(expected)


NUMBERS = st.floats(-100, 100).map(lambda value: round(value, 3))


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2, max_size=40), CUTS, st.sampled_from([0.0, 1e6]))
def test_regression(values: list[tuple[float, float]], cuts: list[int], shift: float) -> None:
    guesses, labels = (np.array(part) + shift for part in zip(*values, strict=True))
    found = streamed(Metrics(Regression()), guesses[:, None], labels, cuts)
    assert found["mse"] == pytest.approx(((guesses - labels) ** 2).mean())
    assert found["mae"] == pytest.approx(np.abs(guesses - labels).mean())
    if min(guesses.std(), labels.std()) > 0.1:
        assert found["pearson"] == pytest.approx(np.corrcoef(guesses, labels)[0, 1], abs=1e-6)


def test_correlation_with_a_constant_is_not_a_number() -> None:
    assert math.isnan(Metrics(Regression())(EvalPrediction(np.ones(3), np.arange(3)))["pearson"])


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=3, max_size=40), CUTS)
def test_spearman_as_scipy(values: list[tuple[int, int]], cuts: list[int]) -> None:
    stats = pytest.importorskip("scipy.stats")
    guesses, labels = (np.array(part, dtype=float) for part in zip(*values, strict=True))
    found = streamed(Metrics(Spearman()), guesses, labels, cuts)["spearman"]
    if len(set(guesses)) > 1 and len(set(labels)) > 1:
        assert found == pytest.approx(stats.spearmanr(guesses, labels).statistic)


@pytest.mark.parametrize("shift", [False, True])
def test_perplexity(shift: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(6, 5, 7, generator=generator), torch.randint(7, (6, 5), generator=generator)
    labels[1, 2:] = -100
    found = streamed(Metrics(Perplexity(shift)), logits.numpy(), labels.numpy(), [2, 3])
    used, wanted = (logits[:, :-1], labels[:, 1:]) if shift else (logits, labels)
    loss = torch.nn.functional.cross_entropy(used.flatten(0, 1), wanted.flatten(), ignore_index=-100)
    assert found["perplexity"] == pytest.approx(float(loss.exp()), rel=1e-5)
    right = (used.argmax(-1) == wanted)[wanted != -100].float().mean()
    assert found["accuracy"] == pytest.approx(float(right))
    given_losses = Metrics(Perplexity(shift))(EvalPrediction(logits, labels, losses=loss.repeat(6)))
    assert given_losses["perplexity"] == pytest.approx(float(loss.exp()), rel=1e-5)


def test_entities_by_hand() -> None:
    names = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    labels = np.array([[-100, 1, 2, 0, 3], [1, 1, 0, -100, -100]])
    guesses = np.array([[3, 1, 2, 0, 1], [1, 2, 0, 1, 1]])
    metrics = Metrics(Entities(names))
    # True: PER 1-2, LOC 4; PER 0, PER 1. Predicted: PER 1-2, PER 4; PER 0-1. One is right.
    found = streamed(metrics, guesses, labels, [1])
    assert found == pytest.approx({"precision": 1 / 3, "recall": 1 / 4, "f1": 2 / 7, "accuracy": 5 / 7})
    entities = metrics.counters[0]
    assert isinstance(entities, Entities)
    assert entities.types == ["LOC", "PER"]
    assert [row["support"] for row in entities.table()] == [1, 3]


TAGS = ["O", "B-X", "I-X", "E-X", "S-X", "B-Y", "I-Y"]
SENTENCE = st.lists(st.tuples(*[st.integers(0, len(TAGS) - 1)] * 2, st.booleans()), min_size=6, max_size=6)


@given(st.lists(SENTENCE, min_size=1, max_size=6), CUTS)
def test_entities_as_seqeval(sentences: list[list[tuple[int, int, bool]]], cuts: list[int]) -> None:
    seqeval = pytest.importorskip("seqeval.metrics")
    data = np.array(sentences, dtype=int)
    guesses, labels = data[..., 0], np.where(data[..., 2] == 1, data[..., 1], -100)
    known = [row != -100 for row in labels]
    true = [[TAGS[i] for i in row[mask]] for row, mask in zip(labels, known, strict=True)]
    found = [[TAGS[i] for i in row[mask]] for row, mask in zip(guesses, known, strict=True)]
    ours = streamed(Metrics(Entities(TAGS)), guesses, labels, cuts)
    assert ours["precision"] == pytest.approx(seqeval.precision_score(true, found, zero_division=0))
    assert ours["recall"] == pytest.approx(seqeval.recall_score(true, found, zero_division=0))
    assert ours["f1"] == pytest.approx(seqeval.f1_score(true, found, zero_division=0))


@pytest.mark.parametrize(
    ("names", "marks"), [(["O", "B-A"], True), (["I-A"], True), (["O"], False), (["O", "A"], False), ([], False)]
)
def test_which_labels_mark_entities(names: list[str], marks: bool) -> None:
    assert is_tagging(names) is marks


def test_a_new_pass_starts_from_nothing() -> None:
    metrics = Metrics(Classification(2))
    wrong = EvalPrediction(np.array([0, 0]), np.array([1, 1]))
    right = EvalPrediction(np.array([1, 0]), np.array([1, 0]))
    assert metrics(wrong)["accuracy"] == 0
    assert metrics(right)["accuracy"] == 1


def test_the_trainer_streams_them(tmp_path: Path) -> None:
    made = model()
    data = rows(22)
    counted = Metrics(Classification(2))
    whole = trainer(tmp_path, made, eval_dataset=data, compute_metrics=counted).evaluate()
    by_batch = trainer(tmp_path, made, eval_dataset=data, compute_metrics=counted, batch_eval_metrics=True).evaluate()
    for name in ("eval_accuracy", "eval_f1", "eval_matthews_correlation"):
        assert by_batch[name] == whole[name]
    assert "eval_precision" in by_batch


@pytest.mark.parametrize(
    ("counter", "shape"),
    [
        (Classification(3), (3,)),
        (MultiLabel(3), (3,)),
        (Regression(), (1,)),
        (Perplexity(shift=True), (6, 3)),
        (Entities(["O", "B-X", "I-X"]), (6, 3)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_they_hold_does_not_grow(counter: Any, shape: tuple[int, ...]) -> None:
    def held() -> int:
        return sum(np.asarray(value).nbytes for value in vars(counter).values() if not isinstance(value, list))

    generator = np.random.default_rng(0)
    metrics = Metrics(counter)
    sizes = []
    for number in range(20):
        logits = generator.normal(size=(8, *shape))
        labels = (logits > 0) if isinstance(counter, MultiLabel) else generator.integers(0, 2, size=(8, *shape[:-1]))
        metrics(EvalPrediction(torch.as_tensor(logits), torch.as_tensor(labels)), compute_result=number == 19)
        sizes.append(held())
    assert len(set(sizes)) == 1
