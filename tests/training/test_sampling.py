"""The order of the data."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count, islice
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import RandomSampler
from transformers.trainer_pt_utils import get_length_grouped_indices

from formers.errors import InputError
from formers.training.collators import DataCollatorForLanguageModeling
from formers.training.sampling import Order, Stream, example_lengths, load, randomness, share, step_seed

SIZES = st.integers(1, 60)
BATCHES = st.integers(1, 7)
WORLDS = st.integers(1, 4)


@given(st.integers(0, 40), WORLDS)
def test_shares_are_equal_parts(size: int, world: int) -> None:
    parts = [list(range(size))[share(size, rank, world)] for rank in range(world)]
    assert [i for part in parts for i in part] == list(range(size))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(SIZES, BATCHES, WORLDS, st.booleans(), st.booleans())
def test_processes_together_read_each_example_once(
    size: int, batch: int, world: int, shuffle: bool, grouped: bool
) -> None:
    settings: dict[str, Any] = {"shuffle": shuffle, "lengths": [i % 7 for i in range(size)] if grouped else None}
    orders = [Order(size, batch, rank=rank, world_size=world, **settings) for rank in range(world)]
    parts = [list(order.batches(3)) for order in orders]
    assert {len(part) for part in parts} == {len(orders[0])}
    steps = [[i for rank in range(world) for i in parts[rank][step]] for step in range(len(orders[0]))]
    # One process with the same batch over all reads the same examples at each step.
    assert steps == list(Order(size, batch * world, **settings).batches(3))
    assert sorted(i for step in steps for i in step) == list(range(size))
    assert all(len(step) == batch * world for step in steps[:-1])


@given(SIZES, BATCHES, st.integers(0, 5), st.data())
def test_any_step_can_be_entered(size: int, batch: int, epoch: int, data: st.DataObject) -> None:
    order = Order(size, batch, seed=9, lengths=list(range(size)) if size % 2 else None)
    start = data.draw(st.integers(0, len(order)))
    assert list(order.batches(epoch, start)) == list(order.batches(epoch))[start:]
    assert list(Order(size, batch, seed=9, lengths=order.lengths).batches(epoch)) == list(order.batches(epoch))


def test_nothing_global_decides() -> None:
    torch.manual_seed(1)
    first = list(Order(50, 4).batches(2))
    torch.manual_seed(2)
    random.seed(2)
    assert list(Order(50, 4).batches(2)) == first
    assert torch.initial_seed() == 2
    assert list(Order(50, 4).batches(3)) != first
    assert list(Order(50, 4, seed=1).batches(1)) == first  # epochs and seeds add up, as in the reference


@given(st.integers(1, 300), st.integers(0, 4), st.integers(0, 3))
def test_shuffling_is_the_references(size: int, seed: int, epoch: int) -> None:
    theirs = RandomSampler(range(size), generator=torch.Generator().manual_seed(seed + epoch))
    assert Order(size, 4, seed=seed).indices(epoch).tolist() == list(theirs)


@given(st.lists(st.integers(1, 90), min_size=1, max_size=400), BATCHES, st.integers(0, 3))
def test_grouping_by_length_is_the_references(lengths: list[int], batch: int, epoch: int) -> None:
    generator = torch.Generator().manual_seed(5 + epoch)
    theirs = get_length_grouped_indices(lengths, batch, generator=generator)
    assert Order(len(lengths), batch, seed=5, lengths=lengths).indices(epoch).tolist() == theirs
    wider = get_length_grouped_indices(lengths, batch * 4, generator=torch.Generator().manual_seed(5 + epoch))
    grouped = Order(len(lengths), batch, seed=5, lengths=lengths, group_size=batch * 4)
    assert grouped.indices(epoch).tolist() == wider


def test_without_shuffling_epochs_are_alike() -> None:
    assert list(Order(5, 2, shuffle=False).batches(3)) == [[0, 1], [2, 3], [4]]
    grouped = Order(6, 2, shuffle=False, lengths=[1, 5, 2, 9, 9, 3])
    assert list(grouped.batches(0)) == list(grouped.batches(1)) == [[3, 0], [1, 2], [4, 5]]


def test_last_batches() -> None:
    assert [len(batch) for batch in Order(10, 4).batches(0)] == [4, 4, 2]
    assert [len(batch) for batch in Order(10, 4, drop_last=True).batches(0)] == [4, 4]
    assert list(Order(5, 1, shuffle=False, rank=3, world_size=4).batches(0)) == [[3], []]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "dataset is empty"),
        ({"batch_size": 0}, "batch size is 0"),
        ({"lengths": [1]}, "1 lengths for 3 examples"),
        ({"drop_last": True}, "less than one batch.*drop_last=False"),
        ({"rank": 2, "world_size": 2}, "Process 2 of 2"),
    ],
)
def test_orders_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Order(**{"size": 3, "batch_size": 4, **settings})


# -- streams -----------------------------------------------------------------------------------------------------------


class Numbers:
    """Numbers from epoch * 100 on; without a size they do not end."""

    def __init__(self, size: int | None) -> None:
        self.size = size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return islice(count(self.epoch * 100), self.size)


@given(st.integers(1, 30), BATCHES, WORLDS, st.integers(0, 2), st.booleans())
def test_streams_are_read_as_datasets_are(size: int, batch: int, world: int, epoch: int, drop: bool) -> None:
    drop = drop and size >= batch * world
    for rank in range(world):
        stream = Stream(Numbers(size), batch, drop_last=drop, rank=rank, world_size=world)
        order = Order(size, batch, shuffle=False, drop_last=drop, rank=rank, world_size=world)
        expected = [[i + epoch * 100 for i in indices] for indices in order.batches(epoch)]
        assert list(stream.batches(epoch)) == expected
        for start in range(1, len(order) + 1):
            assert list(stream.batches(epoch, start)) == expected[start:]


def test_endless_streams_are_entered_anywhere() -> None:
    assert list(islice(Stream(Numbers(None), 3, rank=1, world_size=2).batches(1, 2), 2)) == [
        [115, 116, 117],
        [121, 122, 123],
    ]


def test_streams_of_datasets() -> None:
    table = datasets.Dataset.from_dict({"x": list(range(20))})
    stream = Stream(table.to_iterable_dataset(num_shards=4).shuffle(seed=1, buffer_size=5), 4)
    first, second = list(stream.batches(0)), list(stream.batches(1))
    assert list(stream.batches(0, 2)) == first[2:]
    assert first != second
    assert sorted(row["x"] for batch in second for row in batch) == list(range(20))


@pytest.mark.parametrize(
    ("dataset", "epoch", "message"),
    [
        (iter([1, 2]), 1, "read once only; it was to be read for epoch 2.*max_steps"),
        ([], 0, "gave no batch"),
    ],
)
def test_streams_that_give_nothing(dataset: Any, epoch: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(Stream(dataset, 2).batches(epoch))


# -- lengths -----------------------------------------------------------------------------------------------------------


def test_lengths_of_examples() -> None:
    rows = [{"input_ids": [1, 2], "length": 7}, {"input_ids": [1], "length": 8}]
    table = datasets.Dataset.from_list(rows)
    assert example_lengths(rows) == example_lengths(table) == [7, 8]
    for data in (rows, table):
        assert example_lengths(data, "none") == [2, 1]
    assert example_lengths([{"x": [1, 2, 3]}], name="x") == [3]
    for data in ([{"text": "a"}], ["a"], datasets.Dataset.from_list([{"text": "a"}])):
        with pytest.raises(InputError, match=r"neither 'length' nor 'input_ids'.*length_column_name"):
            example_lengths(data)


# -- loading -----------------------------------------------------------------------------------------------------------


class Noisy:
    """A dataset whose examples are random."""

    def __len__(self) -> int:
        return 11

    def __getitem__(self, index: int) -> list[float]:
        return [index, torch.rand(1).item(), random.random(), np.random.random()]


def noisy(order: Order | Stream, **settings: Any) -> list[Any]:
    return [batch.tolist() for batch in load(order, Noisy(), torch.tensor, epoch=1, seed=3, **settings)]


def test_batches_do_not_depend_on_where_and_when_they_are_made() -> None:
    order = Order(11, 2, seed=3)
    state = torch.get_rng_state(), random.getstate()
    whole = noisy(order)
    assert torch.equal(torch.get_rng_state(), state[0])
    assert random.getstate() == state[1]
    assert [[int(row[0]) for row in batch] for batch in whole] == list(order.batches(1))
    assert len({row[1] for batch in whole for row in batch}) == 11
    torch.manual_seed(7)
    assert noisy(order, start=4) == whole[4:]
    assert noisy(order, num_workers=2) == whole
    assert noisy(order, num_workers=2, start=3, prefetch_factor=1) == whole[3:]


def test_masks_belong_to_their_step(tokenizer: Any) -> None:
    table = datasets.Dataset.from_dict({"input_ids": [[2, *range(5, 40), 3]] * 9})

    def masks(**settings: Any) -> list[Any]:
        collate = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.5, seed=settings.pop("own", None))
        return [batch["labels"].tolist() for batch in load(Order(9, 2), table, collate, **settings)]

    whole = masks()
    assert masks(num_workers=2) == masks(start=0) == whole
    assert masks(start=3) == whole[3:]
    assert len({str(batch[0]) for batch in whole}) == len(whole)
    for other in ({"seed": 1}, {"epoch": 1}, {"own": 1}):
        assert masks(**other) != whole


@pytest.mark.parametrize("workers", [0, 2])
def test_streams_are_read_here_and_collated_in_workers(workers: int) -> None:
    batches = load(Stream(Numbers(None), 2), None, torch.tensor, epoch=1, start=1, num_workers=workers)
    assert [batch.tolist() for batch in islice(batches, 3)] == [[102, 103], [104, 105], [106, 107]]


def test_processes_draw_their_own_numbers() -> None:
    seeds = {step_seed(*key) for key in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0, 1)]}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_randomness_comes_back_after_an_error() -> None:
    state = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), randomness(5):
        assert torch.rand(1) / 0 == 1 / 0
    assert torch.equal(torch.get_rng_state(), state)
