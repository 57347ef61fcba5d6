"""Metrics of texts that a model has written: BLEU, ROUGE and exact match, batch after batch.

    metrics = Metrics(Texts(tokenizer, Bleu(), Rouge(), ExactMatch()))
    Seq2SeqTrainer(args=Seq2SeqTrainingArguments(predict_with_generate=True, …), compute_metrics=metrics)

What they hold does not grow with the dataset. BLEU is sacrebleu's and ROUGE rouge_score's, from 0 to 100; both packages
are installed by `pip install 'formers[metrics]'`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from formers.errors import InputError, MissingDependencyError
from formers.training.evaluation import EvalPrediction
from formers.training.metrics import Array, arrays, ratio

ROUGE_TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")


class TextCounter(Protocol):
    """Counts pairs of texts, and turns its counts into numbers by name."""

    def update(self, written: Sequence[str], wanted: Sequence[str]) -> None:
        """Count pairs: what was written, and the reference of each."""

    def compute(self) -> dict[str, float]:
        """The metrics of all pairs so far."""

    def reset(self) -> None:
        """Forget all pairs."""


class Texts:
    """Token ids as texts, for several counters of texts; a `Counter` of `Metrics`.

    Predictions and labels are ids (examples, length), filled up by -100 or the padding token; special tokens and space
    around a text are left out. Adds `gen_len`, the mean number of tokens written, padding and start token left out.
    """

    def __init__(self, tokenizer: Any, *counters: TextCounter) -> None:
        self.tokenizer, self.counters = tokenizer, counters
        pad = tokenizer.pad_token_id
        self.pad = int(tokenizer.eos_token_id if pad is None else pad)
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self.tokens = self.rows = 0
        for counter in self.counters:
            counter.reset()

    def update(self, prediction: EvalPrediction) -> None:
        """Count a batch."""
        written, wanted = arrays(prediction)
        if written.ndim != 2 or not np.issubdtype(written.dtype, np.integer):
            raise InputError(
                f"Predictions of shape {written.shape} and type {written.dtype} are no token ids.",
                "Add predict_with_generate=True to the arguments of a Seq2SeqTrainer.",
            )
        if len(written) != len(wanted):
            raise InputError(
                f"There are {len(written)} texts for {len(wanted)} references.", "Generate one text for each example."
            )
        self.tokens += int(((written != self.pad) & (written >= 0)).sum())
        self.rows += len(written)
        pair = self._decoded(written), self._decoded(wanted)
        for counter in self.counters:
            counter.update(*pair)

    def compute(self) -> dict[str, float]:
        """The metrics of all batches so far."""
        found = {name: value for counter in self.counters for name, value in counter.compute().items()}
        return {**found, "gen_len": ratio(self.tokens, self.rows)}

    def _decoded(self, ids: Array) -> list[str]:
        rows = np.where(ids < 0, self.pad, ids).tolist()
        return [text.strip() for text in self.tokenizer.batch_decode(rows, skip_special_tokens=True)]


class ExactMatch:
    """`exact_match`: the share of texts that are their reference, from 0 to 1."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all pairs."""
        self.right = self.pairs = 0

    def update(self, written: Sequence[str], wanted: Sequence[str]) -> None:
        """Count pairs."""
        self.right += sum(one == other for one, other in zip(written, wanted, strict=True))
        self.pairs += len(written)

    def compute(self) -> dict[str, float]:
        """The share so far."""
        return {"exact_match": ratio(self.right, self.pairs)}


class Bleu:
    """`bleu` of the corpus (Papineni et al., 2002; sacrebleu's, arXiv:1804.08771), one reference a text.

    `tokenize` is how sacrebleu cuts words ("13a", "intl", "zh", "ja-mecab", "char", "flores200", "none").
    """

    def __init__(self, tokenize: str = "13a", lowercase: bool = False) -> None:
        try:
            from sacrebleu import BLEU
        except ImportError as error:
            raise MissingDependencyError.for_extra("sacrebleu", "metrics") from error
        self.bleu = BLEU(tokenize=tokenize, lowercase=lowercase)
        self.reset()

    def reset(self) -> None:
        """Forget all pairs."""
        self.correct: Array = np.zeros(self.bleu.max_ngram_order, np.int64)
        self.total: Array = np.zeros_like(self.correct)
        self.lengths: Array = np.zeros(2, np.int64)

    def update(self, written: Sequence[str], wanted: Sequence[str]) -> None:
        """Count pairs: n-grams and lengths add up over the corpus."""
        if written:
            score = self.bleu.corpus_score(list(written), [list(wanted)])
            self.correct += np.asarray(score.counts)
            self.total += np.asarray(score.totals)
            self.lengths += np.asarray([score.sys_len, score.ref_len])

    def compute(self) -> dict[str, float]:
        """BLEU so far, from 0 to 100."""
        score = self.bleu.compute_bleu(
            correct=self.correct.tolist(),
            total=self.total.tolist(),
            sys_len=int(self.lengths[0]),
            ref_len=int(self.lengths[1]),
            smooth_method=self.bleu.smooth_method,
            max_ngram_order=self.bleu.max_ngram_order,
        )
        return {"bleu": float(score.score)}


class Rouge:
    """Means of ROUGE's F-measures (Lin, 2004), from 0 to 100: `rouge1`, `rouge2`, `rougeL`, `rougeLsum`.

    `stem`: endings of English words do not count. rougeLsum takes lines as sentences. Only letters a to z and
    digits make words, unless a `tokenizer` is given, an object with tokenize(text).
    """

    def __init__(self, types: Sequence[str] = ROUGE_TYPES, stem: bool = True, tokenizer: Any = None) -> None:
        unknown = [one for one in types if not (one in ROUGE_TYPES or (one[:5] == "rouge" and one[5:].isdigit()))]
        if unknown or not types:
            given = repr(unknown[0]) if unknown else "nothing"
            raise InputError(f"types has {given}.", f"Use some of {', '.join(ROUGE_TYPES)}, or rouge3 and so on.")
        try:
            from rouge_score.rouge_scorer import RougeScorer
        except ImportError as error:
            raise MissingDependencyError.for_extra("rouge_score", "metrics") from error
        self.scorer = RougeScorer(list(types), use_stemmer=stem, tokenizer=tokenizer)
        self.types = tuple(types)
        self.reset()

    def reset(self) -> None:
        """Forget all pairs."""
        self.sums = dict.fromkeys(self.types, 0.0)
        self.pairs = 0

    def update(self, written: Sequence[str], wanted: Sequence[str]) -> None:
        """Count pairs."""
        for text, reference in zip(written, wanted, strict=True):
            for name, score in self.scorer.score(reference, text).items():
                self.sums[name] += float(score.fmeasure)
        self.pairs += len(written)

    def compute(self) -> dict[str, float]:
        """The means so far."""
        return {name: 100 * ratio(value, self.pairs) for name, value in self.sums.items()}
