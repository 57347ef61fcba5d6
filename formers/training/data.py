"""From a dataset to batches: which columns a model takes, and a loader that starts at any batch of any epoch."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import nn

from formers.errors import InputError
from formers.training import distributed
from formers.training.arguments import TrainingArguments
from formers.training.sampling import Order, Stream, example_lengths, load, randomness

Batch = Any
Collate = Callable[[list[Any]], Batch]
LABELS = ("label", "labels", "label_ids")
# What collators for language modeling read besides the model's inputs.
_FOR_MASKING = frozenset({"special_tokens_mask", "offset_mapping"})


def is_map_style(dataset: Any) -> bool:
    """Whether examples are read by number."""
    return (
        hasattr(dataset, "__len__")
        and hasattr(dataset, "__getitem__")
        and not isinstance(dataset, torch.utils.data.IterableDataset)
    )


def transforms(dataset: Any) -> bool:
    """Whether a `datasets.Dataset` makes its examples when they are read (`set_transform`)."""
    return isinstance(getattr(dataset, "format", None), dict) and dataset.format.get("type") == "custom"


def check_dataset(dataset: Any, name: str) -> None:
    """Raise for what is no dataset, or an empty one."""
    if dataset is None:
        raise InputError(f"There is no {name}.", f"Pass {name}= to the Trainer.")
    if isinstance(dataset, Mapping):
        keys = ", ".join(map(str, dataset))
        raise InputError(f"{name} is a mapping with the keys {keys}.", "Pick one: dataset['train'], say.")
    if isinstance(dataset, str) or not (hasattr(dataset, "__iter__") or hasattr(dataset, "__getitem__")):
        raise InputError(f"{name} is a {type(dataset).__name__}.", "Pass a dataset, or a list of mappings.")
    if hasattr(dataset, "__len__") and len(dataset) == 0:
        raise InputError(f"{name} is empty.", "Check how it was loaded or filtered.")


def bare(model: Any) -> Any:
    """The model inside an adapter's wrapper, which takes what that one takes; any other model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@dataclass
class Columns:
    """A collator behind a filter: of examples that are mappings, only the columns of `names` reach it."""

    collate: Collate
    names: frozenset[str]

    @classmethod
    def around(cls, collate: Any, model: nn.Module, args: TrainingArguments, labels: list[str]) -> Collate:
        """The filter for what a model takes; the collator itself where nothing is to be dropped."""
        parameters = inspect.signature(bare(model).forward).parameters
        if not args.remove_unused_columns or any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            found: Collate = collate
            return found
        masking = _FOR_MASKING if hasattr(collate, "mlm_probability") else frozenset()
        return cls(collate, frozenset({*parameters, *LABELS, *labels, *masking}))

    def reseed(self, number: int) -> None:
        """Hand the seed of a batch to a collator that takes one."""
        if hasattr(self.collate, "reseed"):
            self.collate.reseed(number)

    def __call__(self, examples: list[Any]) -> Batch:
        """The batch."""
        return self.collate([self._kept(row) for row in examples])

    def _kept(self, row: Any) -> Any:
        if not isinstance(row, Mapping):
            return row
        kept = {name: value for name, value in row.items() if name in self.names}
        if not set(kept) - {*LABELS}:
            raise InputError(
                f"Examples have the columns {', '.join(map(str, row))}; the model takes none of them as input.",
                "Tokenize first: dataset.map(lambda rows: tokenizer(rows['text'], truncation=True), batched=True).",
            )
        return kept


@dataclass
class Loader:
    """Batches of a dataset, epoch by epoch, from any batch on. What is random in them depends on `seed` alone."""

    dataset: Any
    order: Order | Stream
    collate: Collate
    seed: int
    args: TrainingArguments

    def __len__(self) -> int:
        """How many batches an epoch has."""
        if isinstance(self.order, Stream):
            raise TypeError("A dataset that is only iterated has no length.")
        return len(self.order)

    def __iter__(self) -> Iterator[Batch]:
        """The batches of the first epoch."""
        return self.batches()

    def batches(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from number `start` on."""
        args = self.args
        return load(
            self.order,
            self.dataset,
            self.collate,
            epoch=epoch,
            start=start,
            seed=self.seed,
            num_workers=args.dataloader_num_workers,
            prefetch_factor=args.dataloader_prefetch_factor,
            pin_memory=args.dataloader_pin_memory and args.device.type == "cuda",
        )

    def sample(self) -> Batch | None:
        """A batch of the first example alone, None where examples are not read by number."""
        if isinstance(self.order, Stream):
            return None
        with randomness(0):
            return self.collate([self.dataset[0]])

    def indices(self) -> list[int] | None:
        """The number in the dataset of each example of the first epoch, as they come; None if it is only iterated."""
        return None if isinstance(self.order, Stream) else self.order.indices(0).tolist()


def training_loader(dataset: Any, collate: Collate, args: TrainingArguments, main_input: str) -> Loader:
    """The batches to train on, in the order that the arguments ask for."""
    seed = args.seed if args.data_seed is None else args.data_seed
    size, drop_last, here = args.train_batch_size, args.dataloader_drop_last, distributed.place()
    if not is_map_style(dataset):
        if args.train_sampling_strategy == "group_by_length":
            raise InputError(
                "A dataset that is only iterated cannot be grouped by length.",
                'Leave train_sampling_strategy="group_by_length" out, or load the dataset as a whole.',
            )
        needed = _needed(dataset, collate)
        return Loader(needed, Stream(needed, size, drop_last, here.rank, here.world_size), collate, seed, args)
    lengths = None
    if args.train_sampling_strategy == "group_by_length":
        lengths = example_lengths(dataset, args.length_column_name, main_input)
    shuffle = args.train_sampling_strategy != "sequential"
    order = Order(
        len(dataset),
        size,
        seed,
        shuffle=shuffle,
        lengths=lengths,
        drop_last=drop_last,
        rank=here.rank,
        world_size=here.world_size,
    )
    return Loader(_needed(dataset, collate), order, collate, seed, args)


def evaluation_loader(dataset: Any, collate: Collate, args: TrainingArguments, main_input: str) -> Loader:
    """The batches to evaluate on: examples of like length together, where lengths are known without reading all."""
    size, here = args.eval_batch_size, distributed.place()
    if not is_map_style(dataset):
        needed = _needed(dataset, collate)
        return Loader(needed, Stream(needed, size, False, here.rank, here.world_size), collate, args.seed, args)
    count, lengths = len(dataset), None
    names = getattr(dataset, "column_names", None)
    cheap = (isinstance(names, list) and not transforms(dataset)) or isinstance(dataset, list | tuple)
    if cheap and (main_input in names if names else isinstance(dataset[0], Mapping) and main_input in dataset[0]):
        lengths = example_lengths(dataset, args.length_column_name, main_input)
    # One group: all of it is sorted by length.
    order = Order(
        count,
        size,
        shuffle=False,
        lengths=lengths,
        group_size=count,
        rank=here.rank,
        world_size=here.world_size,
    )
    return Loader(_needed(dataset, collate), order, collate, args.seed, args)


def _needed(dataset: Any, collate: Collate) -> Any:
    """The dataset without the columns that would be dropped, so that they are not even read."""
    names = getattr(dataset, "column_names", None)
    if not isinstance(collate, Columns) or not isinstance(names, list) or transforms(dataset):
        return dataset
    wanted = [name for name in names if name in collate.names]
    return dataset.select_columns(wanted) if wanted and hasattr(dataset, "select_columns") else dataset


def batches(loader: Any, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
    """This process's batches of a Loader, or of any other iterable of batches, from step `start` on.

    Where there is none for this process in the last step, it gets an empty mapping. Of an iterable of the caller's,
    which has the same batches in every process, each takes every so many-th.
    """
    if isinstance(loader, Loader):
        return loader.batches(epoch, start)
    here, given = distributed.place(), iter(loader)
    steps = iter(lambda: list(islice(given, here.world_size)), [])
    return (step[here.rank] if here.rank < len(step) else {} for step in islice(steps, start, None))


def with_last(batches: Iterator[Batch]) -> Iterator[tuple[Batch, bool]]:
    """Each batch with whether it is the last."""
    end = object()
    ahead = next(batches, end)
    while ahead is not end:
        batch, ahead = ahead, next(batches, end)
        yield batch, ahead is end


def windows(batches: Iterator[Batch], size: int) -> Iterator[tuple[list[Batch], bool]]:
    """Up to `size` batches at a time, each time with whether they are the last; there has to be one."""
    window: list[Batch] = []
    last = False
    for batch, last in with_last(batches):
        window.append(batch)
        if last or len(window) == size:
            yield window, last
            window = []
    if not last:
        raise InputError(
            "The training data gave no batch.",
            "Check that it can be iterated anew for each epoch, or lower max_steps.",
        )


def tokens(batch: Any, main_input: str, kind: str) -> int:
    """How many tokens a batch holds: "all", those that are "non_padding", or 0 for "no"."""
    ids = batch.get(main_input) if kind != "no" else None
    mask = batch.get("attention_mask") if kind == "non_padding" else None
    return 0 if ids is None else int(ids.numel() if mask is None else mask.sum())


def length(loader: Any, args: TrainingArguments) -> tuple[int, int, int | None]:
    """Steps of a training, epochs, and batches of an epoch if they are known."""
    try:
        # A Loader counts steps of all processes, an iterable of the caller's all batches.
        count = len(loader) if isinstance(loader, Loader) else math.ceil(len(loader) / distributed.place().world_size)
    except TypeError:
        if args.max_steps <= 0:
            raise InputError(
                "The training data has no length, so epochs cannot be counted in steps.", "Set max_steps."
            ) from None
        return args.max_steps, max(1, math.ceil(args.num_train_epochs)), None
    steps = math.ceil(count / args.gradient_accumulation_steps)
    if args.max_steps > 0:
        return args.max_steps, math.ceil(args.max_steps / steps), count
    return math.ceil(args.num_train_epochs * steps), math.ceil(args.num_train_epochs), count
