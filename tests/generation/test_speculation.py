"""Speculation gives the text of plain decoding, with fewer forwards."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor

import formers
from formers.errors import InputError
from formers.generation import generate
from formers.generation.speculation import PromptLookup
from formers.generation.streamers import BaseStreamer
from tests.generation.reference import ours
from tests.generation.toy import Toy

PROMPT = [[5, 6, 7, 8, 5, 6, 7]]
SETTINGS: list[dict[str, Any]] = [
    {},
    {"repetition_penalty": 1.3, "min_new_tokens": 9},
    {"do_sample": True, "seed": 5, "top_k": 4},
    {"no_repeat_ngram_size": 3},
    {"use_cache": False},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("kind", ["lookup", "same", "other"])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_the_text_stays(settings: dict[str, Any], kind: str, family: str) -> None:
    model = ours(family, 1)
    how: dict[str, Any] = {"prompt_lookup_num_tokens": 4, "max_matching_ngram_size": 2}
    if kind != "lookup":
        how = {"assistant_model": model if kind == "same" else ours(family, 2), "num_assistant_tokens": 5}
        how["assistant_confidence_threshold"] = 0.0
    plain = generate(model, PROMPT, max_new_tokens=30, **settings)
    assert generate(model, PROMPT, max_new_tokens=30, **settings, **how).tolist() == plain.tolist()


def test_right_guesses_save_forwards() -> None:
    toy, helper = Toy(seed=4), Toy(seed=4)
    plain = generate(Toy(seed=4), PROMPT, max_new_tokens=30)
    settings: dict[str, Any] = {"num_assistant_tokens": 5, "assistant_confidence_threshold": 0.0}
    made = generate(toy, PROMPT, max_new_tokens=30, assistant_model=helper, **settings)
    assert made.tolist() == plain.tolist()
    assert len(toy.calls) == 5
    heuristic = Toy(seed=4)
    settings["num_assistant_tokens_schedule"] = "heuristic"
    generate(heuristic, PROMPT, max_new_tokens=30, assistant_model=Toy(seed=4), **settings)
    assert len(heuristic.calls) < 5


def test_a_streamer_gets_all_tokens() -> None:
    class Kept(BaseStreamer):
        def __init__(self) -> None:
            self.tokens: list[int] = []

        def put(self, value: Tensor) -> None:
            self.tokens.extend(value.flatten().tolist())

        def end(self) -> None:
            pass

    kept = Kept()
    made = generate(Toy(seed=4), PROMPT, max_new_tokens=30, assistant_model=Toy(seed=4), streamer=kept)
    assert kept.tokens == made[0].tolist()


def test_lookup_finds_what_came_after() -> None:
    lookup = PromptLookup(3, 2, frozenset({9}))
    assert lookup.guess([1, 2, 3, 4, 5, 1, 2], 10) == [3, 4, 5]
    assert lookup.guess([1, 2, 3, 4, 5, 1, 2], 1) == [3]
    assert lookup.guess([1, 2, 9, 4, 5, 1, 2], 10) == []
    assert lookup.guess([1, 2, 3], 10) == []


def test_the_cache_afterwards_is_right() -> None:
    model = ours("llama", 1)
    first = generate(model, PROMPT, max_new_tokens=9, prompt_lookup_num_tokens=4, return_dict_in_generate=True)
    again = generate(model, first.sequences, max_new_tokens=9, past_key_values=first.past_key_values)
    assert again.tolist() == generate(model, first.sequences, max_new_tokens=9).tolist()


def test_own_criteria_end_it() -> None:
    class Twenty(formers.StoppingCriteria):
        def __call__(self, input_ids: Any, scores: Any = None) -> Any:
            return input_ids[:, -1] % 5 == 0

    plain = generate(ours("llama", 1), PROMPT, max_new_tokens=30, stopping_criteria=[Twenty()])
    fast = generate(
        ours("llama", 1), PROMPT, max_new_tokens=30, stopping_criteria=[Twenty()], prompt_lookup_num_tokens=3
    )
    assert fast.tolist() == plain.tolist()


def test_what_does_not_go_together() -> None:
    with pytest.raises(InputError, match="with 2 texts"):
        generate(Toy(), [[5], [6]], prompt_lookup_num_tokens=3)
    with pytest.raises(InputError, match="with speculation"):
        generate(Toy(), [[5]], prompt_lookup_num_tokens=3, return_dict_in_generate=True, output_scores=True)
