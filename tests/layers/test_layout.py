"""Batches with their padding dropped, and back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from formers.layers.layout import Layout, Rectangle, Run, plan

LENGTHS = st.lists(st.integers(1, 6), min_size=1, max_size=7)


def right(lengths: list[int], width: int | None = None) -> torch.Tensor:
    return (torch.arange(width or max(lengths)) < torch.tensor(lengths)[:, None]).long()


def tokens_of(layout: Layout, padded: torch.Tensor) -> list[list[int]]:
    """The sequences that attention sees, in the order of the runs."""
    flat = layout.gather(padded)[:, None, None]
    return [row.flatten().tolist() for run in layout.runs for row in run.rows(flat)[:, 0]]


@given(LENGTHS, st.integers(0, 2))
def test_padding_is_dropped_and_comes_back_as_zeros(lengths: list[int], extra: int) -> None:
    mask = right(lengths, max(lengths) + extra)
    padded = torch.arange(1, mask.numel() + 1).view(mask.shape)
    layout = plan(*mask.shape, mask)
    assert layout.gather(padded).shape[0] == sum(lengths)
    assert torch.equal(layout.scatter(layout.gather(padded)), padded * mask)
    assert sorted(tokens_of(layout, padded)) == sorted(
        padded[row, :length].tolist() for row, length in enumerate(lengths)
    )
    assert all(run.mask is None for run in layout.runs)


@given(LENGTHS)
def test_runs_hold_sequences_of_one_length_each(lengths: list[int]) -> None:
    mask = right(lengths)
    layout = plan(*mask.shape, mask)
    assert [run.length for run in layout.runs] == sorted(set(lengths))
    assert sum(run.batch for run in layout.runs) == len(lengths)
    starts = [run.start for run in layout.runs]
    assert starts == [sum(run.batch * run.length for run in layout.runs[:i]) for i in range(len(starts))]


@given(LENGTHS, st.integers(0, 2))
def test_first_tokens(lengths: list[int], extra: int) -> None:
    mask = right(lengths, max(lengths) + extra)
    padded = torch.arange(mask.numel()).view(mask.shape)
    layout = plan(*mask.shape, mask)
    queries = layout.first_tokens()
    first = layout.gather(padded)[queries.places]
    assert torch.equal(layout.scatter_sequences(first, queries), padded[:, 0])
    assert [(run.batch, run.length) for run in queries.runs] == [(run.batch, 1) for run in layout.runs]


@pytest.mark.parametrize(
    ("mask", "options"),
    [
        ([[1, 1, 1], [0, 1, 1]], {}),  # padding on the left
        ([[1, 1, 1], [1, 0, 1]], {}),  # a hole
        ([[1, 1, 1], [0, 0, 0]], {}),  # nothing at all
        ([[1, 1, 1], [1, 1, 0]], {"pack": False}),
    ],
)
def test_batches_that_keep_their_padding(mask: list[list[int]], options: dict[str, Any]) -> None:
    layout = plan(2, 3, torch.tensor(mask), **options)
    (run,) = layout.runs
    assert layout.kept is None
    assert (run.batch, run.length) == (2, 3)
    assert run.mask is not None
    assert torch.equal(run.mask[:, 0, 0], torch.tensor(mask).bool())
    padded = torch.arange(6).view(2, 3)
    assert torch.equal(layout.scatter(layout.gather(padded)), padded)


@pytest.mark.parametrize("mask", [None, torch.ones(2, 3), torch.full((2, 3), 7)])
def test_batches_without_padding_need_no_mask(mask: torch.Tensor | None) -> None:
    layout = plan(2, 3, mask)
    assert [(run.batch, run.length, run.mask) for run in layout.runs] == [(2, 3, None)]
    assert layout.kept is None


@given(st.integers(1, 6), st.none() | st.integers(0, 7), st.booleans(), st.booleans())
def test_what_a_token_sees(length: int, window: int | None, causal: bool, masked: bool) -> None:
    mask = torch.arange(length)[None, None, None] < max(1, length - 1) if masked else None
    run = Run(0, 1, length, mask, causal)
    seen = run.visible(window, torch.device("cpu"))
    everything = (
        torch.ones(1, 1, length, length, dtype=torch.bool) if seen is None else seen.expand(1, 1, length, length)
    )
    for i in range(length):
        for j in range(length):
            expected = (not causal or j <= i) and (window is None or abs(i - j) <= window)
            expected = expected and (mask is None or bool(mask[0, 0, 0, j]))
            assert bool(everything[0, 0, i, j]) is expected
    if seen is not None:
        assert run.visible(window, torch.device("cpu")) is seen


def test_a_rectangle_pads_and_takes_back() -> None:
    runs = [Run(0, 2, 3), Run(6, 1, 4), Run(10, 3, 5)]
    flat = torch.randn(25, 2, 4)
    rectangle = Rectangle.of(runs, flat.device)
    assert rectangle is not None
    padded = rectangle.pad(flat)
    assert padded.shape == (6, 2, 5, 4)
    assert rectangle.mask.flatten(1).sum(1).tolist() == [3, 3, 4, 5, 5, 5]
    torch.testing.assert_close(padded[1, :, :3].transpose(0, 1), flat[3:6])
    assert torch.equal(padded.transpose(1, 2).flatten(0, 1).index_select(0, rectangle.kept), flat)


def test_no_rectangle_where_it_does_not_pay() -> None:
    device = torch.device("cpu")
    assert Rectangle.of([Run(0, 2, 3), Run(6, 1, 4)], device) is None
    assert Rectangle.of([Run(0, 9, 3), Run(27, 1, 4), Run(31, 1, 90)], device) is None
    assert Rectangle.of([Run(0, 1, 3, causal=True), Run(3, 1, 4), Run(7, 1, 5)], device) is None
