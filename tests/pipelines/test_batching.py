"""Windows over inputs, and groups of rows of like length."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from formers.pipelines.batching import by_length, in_order, windows


@given(st.lists(st.integers(1, 300), max_size=80), st.integers(1, 400), st.booleans())
def test_groups_hold_every_row_once_within_the_budget(lengths: list[int], tokens: int, may_pad: bool) -> None:
    groups = by_length(lengths, tokens, may_pad=may_pad)
    assert sorted(itertools.chain.from_iterable(groups)) == list(range(len(lengths)))
    for group in groups:
        sizes = [lengths[index] for index in group]
        assert sizes == sorted(sizes)
        assert len(group) == 1 or len(group) * max(sizes) <= tokens
        assert may_pad or len(set(sizes)) == 1
    assert [min(group) for group in groups] == sorted(min(group) for group in groups)


def test_rows_of_like_length_share_a_group() -> None:
    assert by_length([5, 100, 5, 90, 6], 200) == [[0, 2, 4], [3, 1]]


def test_fixed_batches_keep_the_order() -> None:
    assert in_order(5, 2) == [[0, 1], [2, 3], [4]]
    assert in_order(0, 2) == []


@given(st.integers(0, 200), st.integers(1, 9), st.integers(9, 50))
def test_windows_hold_every_input_once_in_order(count: int, first: int, largest: int) -> None:
    cut = list(windows(iter(range(count)), largest, first=first, patience=60))
    assert list(itertools.chain.from_iterable(cut)) == list(range(count))
    sizes = [len(window) for window in cut]
    assert all(size == min(first * 2**place, largest) for place, size in enumerate(sizes[:-1]))


def test_windows_take_no_more_than_they_need_from_an_endless_source() -> None:
    taken: list[int] = []

    def source() -> Iterator[int]:
        for number in itertools.count():
            taken.append(number)
            yield number

    cut = windows(source(), 64, first=4, patience=60)
    assert next(cut) == [0, 1, 2, 3]
    assert len(taken) == 4
    assert len(next(cut)) == 8
    assert len(taken) == 12


def test_a_slow_source_is_not_waited_for() -> None:
    def source() -> Iterator[int]:
        for number in range(6):
            time.sleep(0.02)
            yield number

    cut = list(windows(source(), 100, first=100, patience=0.03))
    assert len(cut) > 1
    assert list(itertools.chain.from_iterable(cut)) == list(range(6))


def test_inputs_before_an_error_come_first() -> None:
    def source() -> Iterator[int]:
        yield from (1, 2)
        raise OSError("the disk is gone")

    cut = windows(source(), 10, first=10)
    assert next(cut) == [1, 2]
    with pytest.raises(OSError, match="the disk is gone"):
        next(cut)
