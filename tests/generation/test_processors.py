"""Every processor gives the reference's scores, on random ids and scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

import formers
from formers.errors import InputError
from formers.generation.processors import NewTokenPenaltyLogitsProcessor

V = 23
CASES: dict[str, tuple[Any, ...]] = {
    "TemperatureLogitsWarper": (0.7,),
    "TopKLogitsWarper": (5,),
    "TopPLogitsWarper": (0.8,),
    "TopHLogitsWarper": (0.6,),
    "MinPLogitsWarper": (0.2,),
    "TypicalLogitsWarper": (0.6,),
    "EpsilonLogitsWarper": (0.05,),
    "EtaLogitsWarper": (0.1,),
    "RepetitionPenaltyLogitsProcessor": (1.7,),
    "EncoderRepetitionPenaltyLogitsProcessor": (1.7, torch.tensor([[3, 4, 5], [9, 9, 1]])),
    "NoRepeatNGramLogitsProcessor": (2,),
    "EncoderNoRepeatNGramLogitsProcessor": (2, torch.tensor([[3, 4, 5, 3, 1], [9, 9, 1, 0, 2]])),
    "SequenceBiasLogitsProcessor": ([[[4], 2.0], [[1, 2], -3.0], [[0, 1, 2], 4.5]],),
    "NoBadWordsLogitsProcessor": ([[4], [1, 2], [2, 2, 3]], 4),
    "ForcedBOSTokenLogitsProcessor": (5,),
    "ForcedEOSTokenLogitsProcessor": (7, [5, 6]),
    "MinLengthLogitsProcessor": (6, [5, 6]),
    "MinNewTokensLengthLogitsProcessor": (3, 2, 5),
    "InfNanRemoveLogitsProcessor": (),
    "ExponentialDecayLengthPenalty": ((2, 1.3), 5, 1),
    "LogitNormalization": (),
    "SuppressTokensLogitsProcessor": ([1, 2, 3],),
    "SuppressTokensAtBeginLogitsProcessor": ([1, 2, 3], 4),
}


def tokens(seed: int, length: int) -> torch.Tensor:
    # Few different ids, so that n-grams come back.
    return torch.randint(5, (2, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=20)
@given(seed=st.integers(0, 2**31), length=st.integers(1, 12), spread=st.sampled_from([0.3, 2.0, 9.0]))
def test_scores_are_the_references(name: str, seed: int, length: int, spread: float) -> None:
    scores = torch.randn(2, V, generator=torch.Generator().manual_seed(seed)) * spread
    ids = tokens(seed, length)
    before = scores.clone()
    mine = getattr(formers, name, None) or getattr(__import__("formers.generation.processors", fromlist=[name]), name)
    theirs = getattr(transformers.generation.logits_process, name)
    wanted = theirs(*CASES[name])(ids, scores.clone())
    torch.testing.assert_close(mine(*CASES[name])(ids, scores), wanted, rtol=1e-5, atol=1e-5)
    assert torch.equal(scores, before)


@pytest.mark.parametrize("name", ["TopKLogitsWarper", "TopPLogitsWarper", "MinPLogitsWarper", "EtaLogitsWarper"])
def test_some_tokens_stay(name: str) -> None:
    scores = torch.randn(2, V, generator=torch.Generator().manual_seed(0)) * 9
    value = 1 if name == "TopKLogitsWarper" else 0.01 if name == "TopPLogitsWarper" else 0.9
    mine = getattr(formers, name)(value, min_tokens_to_keep=4)(None, scores)
    theirs = getattr(transformers, name)(value, min_tokens_to_keep=4)(None, scores)
    assert torch.equal(mine, theirs)
    assert (mine.isfinite().sum(-1) >= 4).all()


@settings(max_examples=20)
@given(seed=st.integers(0, 2**31), length=st.integers(1, 9))
def test_padding_is_not_looked_at(seed: int, length: int) -> None:
    scores = torch.randn(2, V, generator=torch.Generator().manual_seed(seed))
    ids = tokens(seed, length)
    padded = torch.cat((torch.tensor([[1, 2, 2], [3, 3, 1]]), ids), 1)
    starts = torch.tensor([3, 3])
    for processor in (
        formers.RepetitionPenaltyLogitsProcessor(2.0),
        formers.NoRepeatNGramLogitsProcessor(2),
        formers.NoRepeatNGramLogitsProcessor(1),
        formers.SequenceBiasLogitsProcessor([[[1, 2], 3.0], [[2, 2, 1], 1.0]]),
    ):
        assert torch.equal(processor(padded, scores, starts), processor(ids, scores))


def test_penalties_of_new_tokens() -> None:
    ids = torch.tensor([[4, 4, 1, 1, 2]])
    scores = NewTokenPenaltyLogitsProcessor(2, presence=0.5, frequency=0.25)(ids, torch.zeros(1, 6))
    assert scores.tolist() == [[0.0, -1.0, -0.75, 0.0, 0.0, 0.0]]


def test_prefix_function_and_its_beams() -> None:
    def allowed(prompt: int, ids: torch.Tensor) -> list[int]:
        return [prompt, int(ids[-1])]

    scores = torch.randn(4, V)
    ids = torch.tensor([[1], [2], [3], [4]])
    mine = formers.PrefixConstrainedLogitsProcessor(allowed, 2)
    theirs = transformers.PrefixConstrainedLogitsProcessor(allowed, 2)
    assert torch.equal(mine(ids, scores), theirs(ids, scores))
    scores[2:] = float("-inf")
    assert torch.equal(mine(ids, scores), theirs(ids, scores))
    mine.select([3, 0])
    assert mine(ids[[3, 0]], torch.zeros(2, V)).isfinite().nonzero().tolist() == [[0, 1], [0, 4], [1, 0], [1, 1]]
    with pytest.raises(InputError, match="allowed no token for prompt 0"):
        formers.PrefixConstrainedLogitsProcessor(lambda prompt, ids: [], 2)(ids, scores)


def test_a_list_applies_them_in_order() -> None:
    double: Callable[..., Any] = lambda ids, scores: scores * 2  # noqa: E731
    both = formers.LogitsProcessorList([formers.TemperatureLogitsWarper(2.0), double])
    assert both(torch.tensor([[1]]), torch.ones(1, 3)).tolist() == [[1.0, 1.0, 1.0]]
    assert not both.by_row


@pytest.mark.parametrize(
    ("name", "arguments", "problem"),
    [
        ("TemperatureLogitsWarper", (0,), "temperature=0 was given"),
        ("TopKLogitsWarper", (0,), "top_k=0"),
        ("TopPLogitsWarper", (1.5,), r"top_p=1.5 .* \[0, 1\]"),
        ("SequenceBiasLogitsProcessor", ({},), "sequence_bias"),
        ("NoBadWordsLogitsProcessor", ([1],), "bad_words_ids"),
        ("NoRepeatNGramLogitsProcessor", (0,), "ngram_size=0"),
    ],
)
def test_values_that_cannot_be(name: str, arguments: tuple[Any, ...], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        getattr(formers, name)(*arguments)
