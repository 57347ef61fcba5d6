"""Random texts: by row, by seed, and with the right frequencies."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

import formers
from formers.errors import InputError
from formers.generation import generate
from formers.generation.drawing import Numbers, draw, likeliest
from tests.generation.reference import ours
from tests.generation.toy import Toy

ROWS = [[5, 6, 7], [8, 9], [10], [11, 12, 13, 14], *([i, i + 1] for i in range(12))]


def texts(model: object, rows: list[list[int]], **settings: object) -> list[list[int]]:
    made = generate(model, rows, max_new_tokens=14, do_sample=True, pad_token_id=36, **settings)
    return [row[max(map(len, rows)) :] for row in made.tolist()]


def trimmed(row: list[int]) -> list[int]:
    return [i for i in row if i != 36]


@pytest.mark.parametrize("settings", [{}, {"top_k": 5}, {"top_p": 0.9, "temperature": 1.3}, {"num_beams": 2}], ids=str)
def test_a_seeded_prompt_gives_its_text_in_any_batch(settings: dict[str, object]) -> None:
    model = ours("llama", 3)
    alone = [trimmed(texts(model, [row], seed=11, **settings)[0]) for row in ROWS]
    for size in (4, 16):
        batches = [ROWS[first : first + size] for first in range(0, len(ROWS), size)]
        together = [trimmed(row) for batch in batches for row in texts(model, batch, seed=11, **settings)]
        assert together == alone
    assert [trimmed(row) for row in texts(model, ROWS[::-1], seed=11, **settings)] == alone[::-1]
    assert [trimmed(row) for row in texts(model, ROWS, seed=12, **settings)] != alone


def test_texts_of_one_prompt_differ_and_come_back() -> None:
    three = texts(Toy(), [[5, 6]], seed=1, num_return_sequences=3)
    assert len(set(map(tuple, three))) == 3
    assert texts(Toy(), [[5, 6]], seed=1, num_return_sequences=2) == three[:2]
    assert texts(Toy(), [[7, 8], [5, 6]], seed=1, num_return_sequences=3)[3:] == three


def test_without_a_seed_set_seed_decides() -> None:
    made = []
    for seed in (1, 1, 2):
        formers.set_seed(seed)
        made.append([texts(Toy(), ROWS[:3]) for _ in range(2)])
    assert made[0] == made[1]
    assert made[0] != made[2]
    assert made[0][0] != made[0][1]


def test_draws_have_the_right_frequencies() -> None:
    scores = torch.tensor([[0.0, 1.0, -1.0, float("-inf"), 2.0]])
    numbers = Numbers(3)
    count = 4000
    found = Counter(draw(scores, [numbers.next()])[0] for _ in range(count))
    assert 3 not in found
    for token, share in enumerate(scores.softmax(-1)[0].tolist()):
        # Five standard deviations.
        assert abs(found[token] / count - share) < 5 * (share * (1 - share) / count) ** 0.5 + 1e-9


def test_draws_of_half_precision_and_the_likeliest() -> None:
    scores = torch.tensor([[0.0, 5.0, 5.0], [7.0, 0.0, 1.0]])
    for kind in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        assert likeliest(scores.to(kind)) == [1, 0]
        assert draw(scores.to(kind), [0.999999, 0.0]) == [2, 0]


def test_nothing_left_to_draw() -> None:
    with pytest.raises(InputError, match="No token is left"):
        generate(Toy(), [[5]], do_sample=True, suppress_tokens=list(range(50)), max_new_tokens=2)
