"""The order of the data: a pure function of seed and epoch, which training enters at any step.

A dataset with a length is read by index (`Order`), a stream from its beginning (`Stream`). Both give the batches of one
process, numbered by step; `load` turns them into tensors, in worker processes if wanted. What is random in an example
or a batch (augmentation, masking) is drawn from numbers that belong to its step alone, so that neither the number of
workers nor a restart changes it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from formers.errors import InputError

# Groups of this many batches are sorted by length together; fewer where the dataset is small.
_GROUPS = 50


def share(count: int, rank: int, world_size: int) -> slice:
    """The part of `count` consecutive examples that is for one process: equal parts, the first ones one longer."""
    size, more = divmod(count, world_size)
    start = rank * size + min(rank, more)
    return slice(start, start + size + (rank < more))


def _check(batch_size: int, rank: int, world_size: int) -> None:
    if batch_size < 1:
        raise InputError(f"The batch size is {batch_size}.", "Pass a positive number.")
    if not 0 <= rank < world_size:
        raise InputError(f"Process {rank} of {world_size} does not exist.", "Pass a rank from 0 to world_size - 1.")


@dataclass(frozen=True)
class Order:
    """The order of `size` examples, in batches of `batch_size` a process.

    Each epoch is one shuffling by `seed` + epoch, the same in all `world_size` processes; of every batch of all
    processes together, process `rank` takes its share. The last batch of an epoch may be smaller (or, with more
    processes than examples left, empty), unless `drop_last`. With `lengths`, batches hold examples of about the same
    length: groups of many batches (of `group_size` examples each, a batch of all processes by default) are sorted, the
    longest example first of all. Shuffled orders are those of the reference for the same seed.
    """

    size: int
    batch_size: int
    seed: int = 0
    shuffle: bool = True
    lengths: Sequence[int] | None = None
    group_size: int | None = None
    drop_last: bool = False
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        _check(self.batch_size, self.rank, self.world_size)
        if self.size < 1:
            raise InputError("The dataset is empty.", "Give at least one example; look at what filters it.")
        if self.lengths is not None and len(self.lengths) != self.size:
            raise InputError(f"{len(self.lengths)} lengths for {self.size} examples.", "Give each example one.")
        if len(self) == 0:
            raise InputError(
                f"{self.size} examples are less than one batch, and drop_last is True.",
                "Pass drop_last=False, or a smaller batch size.",
            )

    @property
    def global_batch(self) -> int:
        """Examples a step of all processes together."""
        return self.batch_size * self.world_size

    def __len__(self) -> int:
        """Batches in an epoch."""
        whole, rest = divmod(self.size, self.global_batch)
        return whole + (rest > 0 and not self.drop_last)

    def indices(self, epoch: int) -> Tensor:
        """All examples (size,) in the order of an epoch, for all processes."""
        if self.shuffle:
            order = torch.randperm(self.size, generator=torch.Generator().manual_seed(self.seed + epoch))
        else:
            order = torch.arange(self.size)
        return order if self.lengths is None else self._grouped(order, torch.as_tensor(self.lengths))

    def _grouped(self, order: Tensor, lengths: Tensor) -> Tensor:
        batch = self.group_size or self.global_batch
        groups = list(order.split(batch * max(1, min(self.size // (batch * 4), _GROUPS))))
        groups = [group[lengths[group].argsort(descending=True, stable=True)] for group in groups]
        # The longest example comes first, so that memory that does not suffice shows at once.
        longest = int(torch.stack([lengths[group[0]] for group in groups]).argmax())
        first, other = groups[0][0].clone(), groups[longest][0].clone()
        groups[0][0], groups[longest][0] = other, first
        return torch.cat(groups)

    def batches(self, epoch: int, start: int = 0) -> Iterator[list[int]]:
        """The indices of this process's batches in an epoch, from batch `start` on. Nothing is read to skip."""
        order = self.indices(epoch)
        for step in range(start, len(self)):
            together = order[step * self.global_batch : (step + 1) * self.global_batch]
            yield together[share(len(together), self.rank, self.world_size)].tolist()


@dataclass(frozen=True)
class Stream:
    """The examples of an iterable, in batches of `batch_size` a process; it may have no end.

    Every process reads all of it, and takes its share of every batch of all processes together. A dataset with
    `set_epoch` is told the epoch. Starting later reads what comes before, and drops it.
    """

    dataset: Iterable[Any]
    batch_size: int
    drop_last: bool = False
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        _check(self.batch_size, self.rank, self.world_size)

    def batches(self, epoch: int, start: int = 0) -> Iterator[list[Any]]:
        """The examples of this process's batches in an epoch, from batch `start` on."""
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)
        examples = iter(self.dataset)
        if epoch > 0 and examples is self.dataset:
            raise InputError(
                f"The dataset is an iterator, which can be read once only; it was to be read for epoch {epoch + 1}.",
                "Pass an object whose __iter__ begins again, such as datasets.IterableDataset.from_generator(…), "
                "or set max_steps.",
            )
        together = self.batch_size * self.world_size
        if start:
            next(islice(examples, start * together - 1, None), None)
        step = start
        while batch := list(islice(examples, together)):
            if len(batch) < together and self.drop_last:
                break
            yield batch[share(len(batch), self.rank, self.world_size)]
            step += 1
        if step == 0:
            raise InputError(
                "The dataset gave no batch.", "Give at least one example; look at what filters it, and at drop_last."
            )


def example_lengths(dataset: Any, column: str = "length", name: str = "input_ids") -> list[int]:
    """The length of every example: the column of lengths where there is one, else the number of its tokens."""
    columns = getattr(dataset, "column_names", None)
    if columns is not None and column in columns:
        return [int(length) for length in dataset[column]]
    if columns is not None and name in columns:
        return [len(tokens) for tokens in dataset[name]]
    rows = [dataset[i] for i in range(len(dataset))]
    for key, measure in ((column, int), (name, len)):
        if rows and all(hasattr(row, "keys") and key in row for row in rows):
            return [measure(row[key]) for row in rows]
    raise InputError(
        f"The examples have neither {column!r} nor {name!r} to group them by.",
        "Add a column with lengths and name it in length_column_name, or do not group by length.",
    )


# -- from indices or examples to batches -------------------------------------------------------------------------------


@contextmanager
def randomness(number: int) -> Iterator[None]:
    """Seed the generators of torch (CPU), NumPy and Python with `number` inside; they continue as before afterwards."""
    states = torch.default_generator.get_state(), np.random.get_state(), random.getstate()
    torch.default_generator.manual_seed(number)
    np.random.seed(number % 2**32)
    random.seed(number)
    try:
        yield
    finally:
        torch.default_generator.set_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


def step_seed(seed: int, epoch: int, step: int, rank: int = 0) -> int:
    """A number of 63 bits that belongs to this batch alone."""
    return int(np.random.SeedSequence((seed, epoch, step, rank)).generate_state(1, np.uint64)[0] >> np.uint64(1))


# One batch of a process: epoch, step, and indices or examples.
_Request = tuple[int, int, list[Any]]


class _Reader(Dataset[Any]):
    """From requests to batches; runs in the worker processes."""

    def __init__(self, dataset: Any, collate: Callable[[list[Any]], Any], seed: int, rank: int) -> None:
        self.dataset = dataset
        self.collate = collate
        self.seed = seed
        self.rank = rank

    def __getitem__(self, request: _Request) -> Any:
        epoch, step, items = request
        if not items:  # more processes than examples left
            return {}
        number = step_seed(self.seed, epoch, step, self.rank)
        with randomness(number):
            if hasattr(self.collate, "reseed"):
                self.collate.reseed(number)
            return self.collate(items if self.dataset is None else self._read(items))

    def _read(self, indices: list[int]) -> list[Any]:
        if hasattr(self.dataset, "__getitems__"):
            return list(self.dataset.__getitems__(indices))
        return [self.dataset[index] for index in indices]


def _as_is(batch: Any) -> Any:
    return batch


def load(
    order: Order | Stream,
    dataset: Any,
    collate: Callable[[list[Any]], Any],
    *,
    epoch: int = 0,
    start: int = 0,
    seed: int = 0,
    num_workers: int = 0,
    prefetch_factor: int | None = None,
    pin_memory: bool = False,
) -> Iterator[Any]:
    """The collated batches of an epoch from batch `start` on; `dataset` is what `order` has indices of.

    The same batches whatever the number of workers. Streams are read by this process, collated by the workers. The
    global random generators are left as they were.
    """
    requests = ((epoch, step, items) for step, items in enumerate(order.batches(epoch, start), start))
    reader = _Reader(None if isinstance(order, Stream) else dataset, collate, seed, order.rank)
    loader: DataLoader[Any] = DataLoader(
        reader,
        batch_size=None,
        sampler=requests,
        collate_fn=_as_is,
        num_workers=num_workers,
        prefetch_factor=prefetch_factor if num_workers else None,
        pin_memory=pin_memory,
        # The loader would draw its base seed from the global generator.
        generator=torch.Generator(),
    )
    return iter(loader)
