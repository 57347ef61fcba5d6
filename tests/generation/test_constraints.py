"""Text under a schema, a regular expression or a grammar is always valid, whatever the model says and the limit is."""

from __future__ import annotations

import json
import re
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from formers.errors import InputError
from formers.generation import generate, stream
from formers.generation.constraints import Constraint
from tests.generation.toy import Toy

PROMPT = [[5, 6, 7]]
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 2},
        "age": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 4}, "minItems": 1},
        "colour": {"enum": ["red", "green"]},
        "seven": {"type": "integer", "multipleOf": 7, "minimum": 100},
        "note": {"type": "string"},
    },
    "required": ["name", "age", "colour", "seven", "tags"],
    "additionalProperties": False,
}


class Person(BaseModel):
    name: str
    mood: Literal["good", "bad"]
    child: Person | None = None


def said(tokenizer: Any, made: torch.Tensor) -> str:
    return str(tokenizer.decode(made[0, 3:], skip_special_tokens=True))


@settings(max_examples=5)
@given(seed=st.integers(0, 999), limit=st.integers(62, 90), sample=st.booleans())
def test_objects_are_complete(tokenizer: Any, seed: int, limit: int, sample: bool) -> None:
    toy = Toy(vocabulary=300, eos=0, seed=seed)
    how = {"do_sample": True, "seed": seed} if sample else {}
    made = generate(toy, PROMPT, max_new_tokens=limit, json_schema=SCHEMA, tokenizer=tokenizer, **how)
    value = json.loads(said(tokenizer, made))
    assert value.keys() - {"note"} == set(SCHEMA["required"])
    assert value["seven"] % 7 == 0
    assert value["seven"] >= 100
    assert value["colour"] in ("red", "green")
    assert len(value["name"]) >= 2
    assert value["tags"]


@pytest.mark.parametrize("limit", [30, 45, 80])
@pytest.mark.parametrize("seed", range(3))
def test_models_of_pydantic_may_hold_themselves(tokenizer: Any, seed: int, limit: int) -> None:
    toy = Toy(vocabulary=300, eos=0, seed=seed)
    made = generate(toy, PROMPT, max_new_tokens=limit, json_schema=Person, tokenizer=tokenizer)
    Person.model_validate_json(said(tokenizer, made))


@pytest.mark.parametrize("pattern", ["(ab)*c", "[A-Z]{3}-[0-9]{4}", "(a|b)*abb", "x{5,30}y", "[^a]*z", "(é|ü){2}"])
@pytest.mark.parametrize("limit", [9, 11, 40])
def test_regular_expressions(tokenizer: Any, pattern: str, limit: int) -> None:
    for seed in range(3):
        toy = Toy(vocabulary=300, eos=0, seed=seed)
        text = said(tokenizer, generate(toy, PROMPT, max_new_tokens=limit, regex=pattern, tokenizer=tokenizer))
        assert re.fullmatch(pattern, text, re.DOTALL)


def test_grammars(tokenizer: Any) -> None:
    grammar = 'start: "(" inner ")"\ninner: "x" | "(" inner ")" | inner "+" inner'
    for seed in range(4):
        made = generate(
            Toy(vocabulary=300, eos=0, seed=seed), PROMPT, max_new_tokens=14, grammar=grammar, tokenizer=tokenizer
        )
        text = said(tokenizer, made)
        assert text.count("(") == text.count(")") > 0
        assert set(text) <= set("(x+)")


def test_rows_of_a_batch_end_by_themselves(tokenizer: Any) -> None:
    toy = Toy(vocabulary=300, eos=0, seed=2)
    prompts = [[5, 6, 7], [8, 9, 10], [11, 12, 13], [14, 15, 16]]
    made = generate(toy, prompts, max_new_tokens=20, regex="[ab]*c", tokenizer=tokenizer)
    for row, prompt in zip(made, prompts, strict=True):
        alone = generate(toy, [prompt], max_new_tokens=20, regex="[ab]*c", tokenizer=tokenizer)
        assert said(tokenizer, row[None]) == said(tokenizer, alone)
        assert re.fullmatch("[ab]*c", said(tokenizer, alone))
    assert toy.calls[-1] == 1


def test_where_nothing_can_follow_the_text_ends(tokenizer: Any) -> None:
    steps = list(stream(Toy(vocabulary=300, eos=0), PROMPT, max_new_tokens=20, regex="abc", tokenizer=tokenizer))
    assert steps[-1].finished == {0: "complete"}
    assert len(steps) <= 3


def test_with_speculation(tokenizer: Any) -> None:
    plain = generate(Toy(vocabulary=300, eos=0), PROMPT, max_new_tokens=40, regex="(ab|ac)*d", tokenizer=tokenizer)
    fast = generate(
        Toy(vocabulary=300, eos=0),
        PROMPT,
        max_new_tokens=40,
        regex="(ab|ac)*d",
        tokenizer=tokenizer,
        prompt_lookup_num_tokens=4,
    )
    assert fast.tolist() == plain.tolist()


def test_a_token_that_leaves_no_way_is_replaced(tokenizer: Any) -> None:
    a, b, c = (tokenizer.convert_tokens_to_ids(sign) for sign in "abc")
    constraint = Constraint("regex", "a*bc", tokenizer, [0], [4])
    assert constraint.settle([a], [4]) == [a]
    assert constraint.settle([a], [3]) == [a]
    assert constraint.settle([a], [2]) == [b]
    assert constraint.settle([c], [1]) == [c]
    assert constraint.complete(0)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"json_schema": SCHEMA, "max_new_tokens": 5}, "needs .* and 5 may be generated. Raise max_new_tokens"),
        ({"regex": "(a"}, "The regex cannot be used"),
        ({"grammar": "start: %%"}, "The grammar cannot be used"),
        ({"json_schema": "no json"}, "json_schema is no JSON"),
        ({"json_schema": [1]}, "json_schema is of type list"),
        ({"json_schema": {"type": "nothing"}}, "The json_schema cannot be used"),
        ({"regex": "a", "eos_token_id": -1}, "needs a token that ends the text"),
        ({"regex": "a", "tokenizer": None}, "regex was given without a tokenizer"),
    ],
)
def test_what_cannot_be(tokenizer: Any, arguments: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        generate(Toy(vocabulary=300, eos=0), PROMPT, **{"tokenizer": tokenizer, "max_new_tokens": 50, **arguments})
