"""BLEU, ROUGE and exact match in batches, against sacrebleu and rouge_score on all texts at once."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from formers.errors import InputError, MissingDependencyError
from formers.training.evaluation import EvalPrediction
from formers.training.metrics import Metrics
from formers.training.text_metrics import Bleu, ExactMatch, Rouge, Texts

WORDS = ["<pad>", "</s>", "the", "cat", "sat", "on", "a", "mat", "dogs", "running", "runs", "."]


class Words:
    """A tokenizer of a few words."""

    pad_token_id, eos_token_id = 0, 1

    def batch_decode(self, rows: Sequence[Sequence[int]], skip_special_tokens: bool = False) -> list[str]:
        assert skip_special_tokens
        return [" ".join(WORDS[i] for i in row if i > 1) + " " for row in rows]


def padded(rows: Sequence[Sequence[int]], fill: int) -> np.ndarray[Any, Any]:
    width = max(map(len, rows))
    return np.array([[*row, *[fill] * (width - len(row))] for row in rows])


TEXTS = st.lists(st.integers(2, len(WORDS) - 1), min_size=0, max_size=9)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=12), st.integers(1, 12))
def test_batches_give_what_all_texts_give(pairs: list[tuple[list[int], list[int]]], size: int) -> None:
    import sacrebleu
    from rouge_score.rouge_scorer import RougeScorer

    metrics = Metrics(Texts(Words(), Bleu(), Rouge(), ExactMatch()))
    found: dict[str, float] = {}
    for begin in range(0, len(pairs), size):
        part = pairs[begin : begin + size]
        # Predictions begin with the decoder's start token, which here is the padding, and end with </s>.
        written = torch.from_numpy(padded([[0, *mine, 1] for mine, _ in part], -100))
        wanted = torch.from_numpy(padded([[*theirs, 1] for _, theirs in part], -100))
        found = metrics(EvalPrediction(written, wanted), compute_result=begin + size >= len(pairs))
    mine, theirs = ([" ".join(WORDS[i] for i in row) for row in column] for column in zip(*pairs, strict=True))
    assert found["bleu"] == pytest.approx(sacrebleu.corpus_bleu(mine, [theirs]).score)
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"], use_stemmer=True)
    scores = [scorer.score(b, a) for a, b in zip(mine, theirs, strict=True)]
    for name in ("rouge1", "rouge2", "rougeL", "rougeLsum"):
        assert found[name] == pytest.approx(100 * np.mean([score[name].fmeasure for score in scores]))
    assert found["exact_match"] == pytest.approx(np.mean([a == b for a, b in zip(mine, theirs, strict=True)]))
    assert found["gen_len"] == pytest.approx(np.mean([len(a) + 1 for a, _ in pairs]))


def test_options() -> None:
    bleu = Bleu(tokenize="char", lowercase=True)
    bleu.update(["The cat"], ["the CAT"])
    assert bleu.compute()["bleu"] == pytest.approx(100.0)
    plain, stemmed = Rouge(["rouge1", "rouge3"], stem=False), Rouge(["rouge1"])
    for rouge in (plain, stemmed):
        rouge.update(["dogs running"], ["dog runs"])
    assert plain.compute() == {"rouge1": 0.0, "rouge3": 0.0}
    assert stemmed.compute() == {"rouge1": 100.0}

    class Characters:
        def tokenize(self, text: str) -> list[str]:
            return list(text)

    own = Rouge(["rouge1"], tokenizer=Characters())
    own.update(["猫"], ["猫"])
    assert own.compute()["rouge1"] == 100.0
    assert Rouge().compute()["rougeL"] == Bleu().compute()["bleu"] == 0.0, "of nothing"


def test_what_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = Texts(Words(), ExactMatch())
    with pytest.raises(InputError, match=r"are no token ids\. Add predict_with_generate=True"):
        texts.update(EvalPrediction(np.zeros((2, 3, 5)), np.zeros((2, 3), int)))
    with pytest.raises(InputError, match="4 texts for 2 references"):
        texts.update(EvalPrediction(np.zeros((4, 3), int), np.zeros((2, 3), int)))
    for types in (["rougeX"], []):
        with pytest.raises(InputError, match="Use some of rouge1, rouge2"):
            Rouge(types)
    for package, make in (("sacrebleu", Bleu), ("rouge_score.rouge_scorer", Rouge)):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(MissingDependencyError, match="formers\\[metrics\\]"):
            make()
