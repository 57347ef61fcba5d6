"""Rows that hold several sequences."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from formers.errors import InputError
from formers.layers.layout import Layout, plan

ROWS = st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=4), min_size=1, max_size=4)


def packed(rows: list[list[int]], first: int = 0, fill: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions and mask of rows of sequences of these lengths, padded on the right."""
    width = max(map(sum, rows))
    positions, mask = torch.full((len(rows), width), fill), torch.zeros(len(rows), width, dtype=torch.long)
    for row, lengths in enumerate(rows):
        count = sum(lengths)
        positions[row, :count] = torch.cat([torch.arange(length) + first for length in lengths])
        mask[row, :count] = 1
    return positions, mask


def sequences(layout: Layout, padded: torch.Tensor) -> list[list[int]]:
    flat = layout.gather(padded)[:, None, None]
    return [row.flatten().tolist() for run in layout.runs for row in run.rows(flat)[:, 0]]


@given(ROWS, st.sampled_from([0, 2]), st.sampled_from([0, 1, 7]))
def test_every_sequence_stands_alone(rows: list[list[int]], first: int, fill: int) -> None:
    positions, mask = packed(rows, first, fill)
    layout = plan(*mask.shape, mask, positions=positions, first=first)
    padded = torch.arange(1, mask.numel() + 1).view(mask.shape)
    expected = [
        piece.tolist() for row, lengths in enumerate(rows) for piece in padded[row, : sum(lengths)].split(lengths)
    ]
    assert layout.packed is any(len(row) > 1 for row in rows)
    assert sorted(sequences(layout, padded)) == sorted(expected)
    assert torch.equal(layout.scatter(layout.gather(padded)), padded * mask)
    assert all(run.mask is None for run in layout.runs)


def test_padding_between_sequences_is_dropped() -> None:
    positions = torch.tensor([[1, 0, 1, 2, 0, 0, 1], [0, 1, 2, 3, 4, 5, 6]])
    mask = torch.tensor([[0, 1, 1, 1, 0, 1, 1], [1, 1, 1, 1, 1, 1, 0]])
    layout = plan(2, 7, mask, positions=positions, pack=False)
    assert sequences(layout, torch.arange(14).view(2, 7)) == [[5, 6], [1, 2, 3], [7, 8, 9, 10, 11, 12]]


@pytest.mark.parametrize(
    "positions",
    [
        [4, 3, 2, 1, 0],  # going down
        [0, 1, 2, 2, 2],  # held at a limit
        [0, 2, 4, 0, 2],  # not counting up by one
        [3, 4, 5, 6, 7],
        [0, 1, 2, 1, 2],  # restarting elsewhere
    ],
)
def test_other_positions_leave_a_row_whole(positions: list[int]) -> None:
    layout = plan(2, 5, None, positions=torch.tensor(positions).expand(2, 5))
    assert not layout.packed
    assert [(run.batch, run.length) for run in layout.runs] == [(2, 5)]


def test_padding_on_the_left_is_no_sequence() -> None:
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    for fill in (0, 1):
        positions = torch.tensor([[fill, fill, 0, 1], [0, 1, 2, 3]])
        assert not plan(2, 4, mask, positions=positions).packed


def test_positions_from_zero_where_a_family_counts_from_elsewhere() -> None:
    layout = plan(1, 6, None, positions=torch.tensor([[0, 1, 2, 3, 0, 1]]), first=2)
    assert sequences(layout, torch.arange(6)[None]) == [[4, 5], [0, 1, 2, 3]]


def test_holes_inside_a_sequence_are_refused() -> None:
    with pytest.raises(InputError, match=r"inside a sequence of a packed row.*one sequence a row"):
        plan(1, 5, torch.tensor([[1, 0, 1, 1, 1]]), positions=torch.tensor([[0, 1, 2, 0, 1]]))
