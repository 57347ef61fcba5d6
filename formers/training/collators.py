"""Collators: lists of examples to batches of tensors, as the reference's collators make them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from formers.errors import InputError
from formers.tokenization import BatchEncoding, PreTrainedTokenizerBase
from formers.tokenization.tensors import as_tensor, check_tensor_type, to_python

# The label of tokens that a loss leaves out.
IGNORED = -100
Example: TypeAlias = Any
Batch: TypeAlias = Any


def _check(examples: Sequence[Example]) -> None:
    if not examples:
        raise InputError("A collator got no examples.", "Give each batch at least one; check the dataset's length.")


def _kind(return_tensors: str | None) -> str:
    kind = check_tensor_type(return_tensors)
    if kind is None:
        raise InputError("return_tensors is None.", "Use 'pt' (torch) or 'np' (NumPy).")
    return kind


def default_data_collator(features: Sequence[Example], return_tensors: str = "pt") -> dict[str, Any]:
    """Stack examples (mappings, or objects with attributes) name by name; `label` or `label_ids` becomes `labels`.

    Whole-number labels become int64, others float32. Texts and names whose first value is None are left out.
    """
    _check(features)
    kind = _kind(return_tensors)
    rows = [row if isinstance(row, Mapping) else vars(row) for row in features]
    first = rows[0]
    batch: dict[str, Any] = {}
    label = next((name for name in ("label", "label_ids") if first.get(name) is not None), None)
    if label is not None:
        batch["labels"] = _labels([row[label] for row in rows], kind)
    for name, value in first.items():
        if name not in ("label", "label_ids") and value is not None and not isinstance(value, str):
            missing = next((index for index, row in enumerate(rows) if name not in row), None)
            if missing is not None:
                raise InputError(
                    f"Example {missing} of the batch has no {name!r}.", "Give all examples the same names."
                )
            batch[name] = _stack(name, [row[name] for row in rows], kind)
    return batch


def _stack(name: str, values: list[Any], kind: str) -> Any:
    # Arrays keep their types.
    return as_tensor(name, np.stack(values) if isinstance(values[0], (np.ndarray, np.generic)) else values, kind)


def _labels(values: list[Any], kind: str) -> Any:
    if getattr(values[0], "ndim", 0) and isinstance(values[0], Tensor if kind == "pt" else np.ndarray):
        return _stack("labels", values, kind)
    array = as_tensor("labels", [to_python(value) for value in values], "np")
    array = array.astype(np.int64 if array.dtype.kind in "iub" else np.float32)
    return torch.from_numpy(array) if kind == "pt" else array


@dataclass
class DefaultDataCollator:
    """`default_data_collator` as an object."""

    return_tensors: str = "pt"

    def __call__(self, features: Sequence[Example], return_tensors: str | None = None) -> Batch:
        """The stacked batch."""
        return default_data_collator(features, return_tensors or self.return_tensors)


@dataclass
class DataCollatorWithPadding:
    """Pad examples to the longest of the batch; `label` and `label_ids` become `labels`. Arguments as in `pad`."""

    tokenizer: PreTrainedTokenizerBase
    padding: bool | str = True
    max_length: int | None = None
    pad_to_multiple_of: int | None = None
    return_tensors: str = "pt"

    def __call__(self, features: Sequence[Example]) -> BatchEncoding:
        """The padded batch."""
        batch = _padded(self, features, self.return_tensors)
        for name in ("label", "label_ids"):
            if name in batch:
                batch["labels"] = batch.pop(name)
        return batch


def _padded(collator: Any, features: Sequence[Example], return_tensors: str) -> BatchEncoding:
    _check(features)
    batch: BatchEncoding = collator.tokenizer.pad(
        list(features),
        padding=collator.padding,
        max_length=collator.max_length,
        pad_to_multiple_of=collator.pad_to_multiple_of,
        return_tensors=return_tensors,
    )
    return batch


def _split_labels(features: Sequence[Example]) -> tuple[str, list[Any] | None, list[dict[str, Any]]]:
    """The labels' name, the labels or None, and the examples without them."""
    _check(features)
    name = "label" if "label" in features[0] else "labels"
    if name in features[0] and (lacking := [i for i, row in enumerate(features) if name not in row]):
        raise InputError(f"Example {lacking[0]} of the batch has no {name!r}.", "Give all examples labels, or none.")
    labels = [row[name] for row in features] if name in features[0] else None
    return name, labels, [{key: value for key, value in row.items() if key != name} for row in features]


def _fill(rows: list[Any], width: int, left: bool, fill: int, kind: str, name: str) -> Any:
    """Rows of labels as one (rows, width) int64 tensor."""
    filled = np.full((len(rows), width), fill, dtype=np.int64)
    for index, row in enumerate(rows):
        if len(row) > width:
            raise InputError(
                f"An example has {len(row)} {name}; the batch is {width} wide.", "Truncate labels as you do tokens."
            )
        if len(row):
            filled[index, slice(-len(row), None) if left else slice(len(row))] = to_python(row)
    return torch.from_numpy(filled) if kind == "pt" else filled


@dataclass
class DataCollatorForTokenClassification:
    """Pad examples and the labels of their tokens, these with `label_pad_token_id`."""

    tokenizer: PreTrainedTokenizerBase
    padding: bool | str = True
    max_length: int | None = None
    pad_to_multiple_of: int | None = None
    label_pad_token_id: int = IGNORED
    return_tensors: str = "pt"

    def __call__(self, features: Sequence[Example], return_tensors: str | None = None) -> BatchEncoding:
        """The padded batch; labels keep their name."""
        kind = _kind(return_tensors or self.return_tensors)
        name, labels, inputs = _split_labels(features)
        batch = _padded(self, inputs, kind)
        if labels is not None:
            left, width = self.tokenizer.padding_side == "left", batch["input_ids"].shape[1]
            batch[name] = _fill(labels, width, left, self.label_pad_token_id, kind, name)
        return batch


@dataclass
class DataCollatorForSeq2Seq:
    """Pad examples, and their labels to the longest of these; with a `model` that makes decoder inputs, add them.

    padding="max_length" pads labels to `max_length` too. The batch has "labels" None where the examples have none.
    """

    tokenizer: PreTrainedTokenizerBase
    model: Any = None
    padding: bool | str = True
    max_length: int | None = None
    pad_to_multiple_of: int | None = None
    label_pad_token_id: int = IGNORED
    return_tensors: str = "pt"

    def __call__(self, features: Sequence[Example], return_tensors: str | None = None) -> BatchEncoding:
        """The padded batch."""
        kind = _kind(return_tensors or self.return_tensors)
        _, labels, inputs = _split_labels(features)
        batch = _padded(self, inputs, kind)
        batch["labels"] = None
        if labels is None or all(label is None for label in labels):
            return batch
        padding = getattr(self.padding, "value", self.padding)
        if padding in (False, "do_not_pad"):
            batch["labels"] = as_tensor("labels", labels, kind)
        else:
            width = max(map(len, labels))
            if padding == "max_length" and self.max_length is not None:
                width = self.max_length
            if self.pad_to_multiple_of is not None:
                width = -(-width // self.pad_to_multiple_of) * self.pad_to_multiple_of
            left = self.tokenizer.padding_side == "left"
            batch["labels"] = _fill(labels, width, left, self.label_pad_token_id, kind, "labels")
        if hasattr(self.model, "prepare_decoder_input_ids_from_labels"):
            batch["decoder_input_ids"] = self.model.prepare_decoder_input_ids_from_labels(labels=batch["labels"])
        return batch


@dataclass
class DataCollatorForMultipleChoice:
    """Pad every choice of every example: names become (examples, choices, length), `label` becomes `labels`."""

    tokenizer: PreTrainedTokenizerBase
    padding: bool | str = True
    max_length: int | None = None
    pad_to_multiple_of: int | None = None
    return_tensors: str = "pt"

    def __call__(self, features: Sequence[Example], return_tensors: str | None = None) -> dict[str, Any]:
        """The padded batch; labels where the examples have them."""
        kind = _kind(return_tensors or self.return_tensors)
        _, labels, inputs = _split_labels(features)
        counts = {len(row["input_ids"]) for row in inputs}
        if len(counts) != 1:
            raise InputError(
                f"Examples have {sorted(counts)} choices.", "Give all examples the same number of choices."
            )
        choices = counts.pop()
        flat = [{name: value[i] for name, value in row.items()} for row in inputs for i in range(choices)]
        padded = _padded(self, flat, kind)
        batch = {name: value.reshape(len(features), choices, -1) for name, value in padded.items()}
        if labels is not None:
            batch["labels"] = as_tensor("labels", labels, kind)
        return batch


@dataclass
class DataCollatorForLanguageModeling:
    """Examples for predicting masked tokens (Devlin et al., 2018), or with mlm=False each next one.

    Of the tokens that are not special, `mlm_probability` are to be predicted (labels; -100 elsewhere); of these,
    `mask_replace_prob` become the mask token, `random_replace_prob` any token, and the rest stay. `whole_word_mask`
    takes all tokens of a word together, all as masks; it needs the tokenizer's return_offsets_mapping=True. Without a
    `seed` numbers come from torch's global generator. Examples are mappings, or lists of ids; "special_tokens_mask"
    in them spares its computation.
    """

    tokenizer: PreTrainedTokenizerBase
    mlm: bool = True
    whole_word_mask: bool = False
    mlm_probability: float | None = 0.15
    mask_replace_prob: float = 0.8
    random_replace_prob: float = 0.1
    pad_to_multiple_of: int | None = None
    return_tensors: str = "pt"
    seed: int | None = None
    generator: torch.Generator | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.mlm and self.tokenizer.mask_token is None:
            raise InputError("This tokenizer has no mask token.", "Pass mlm=False, or set tokenizer.mask_token.")
        if self.whole_word_mask and not self.mlm:
            raise InputError("whole_word_mask=True is a way to mask, and mlm is False.", "Pass mlm=True.")
        probabilities = {"mask_replace_prob": self.mask_replace_prob, "random_replace_prob": self.random_replace_prob}
        if self.mlm:
            probabilities["mlm_probability"] = -1.0 if self.mlm_probability is None else self.mlm_probability
        for name, value in probabilities.items():
            if not 0 <= value <= 1:
                raise InputError(f"{name} is {getattr(self, name)}.", "Pass a probability, from 0 to 1.")
        if self.mask_replace_prob + self.random_replace_prob > 1:
            raise InputError(
                "mask_replace_prob and random_replace_prob are more than 1 together.", "Lower one; the rest stays."
            )
        if self.whole_word_mask and self.mask_replace_prob < 1:
            # Half a word of random tokens would be no word: as in the reference, all become masks.
            self.mask_replace_prob, self.random_replace_prob = 1.0, 0.0

    def reseed(self, number: int) -> None:
        """Draw from now on from a generator of its own, seeded with `number` and `seed`."""
        self.generator = torch.Generator().manual_seed(number + (self.seed or 0))

    def __call__(self, features: Sequence[Example], return_tensors: str | None = None) -> Batch:
        """The padded batch with its labels."""
        kind = _kind(return_tensors or self.return_tensors)
        _check(features)
        if self.seed is not None and self.generator is None:
            worker = torch.utils.data.get_worker_info()
            self.reseed(0 if worker is None else worker.id)
        bare = not isinstance(features[0], Mapping)
        rows = [{"input_ids": to_python(row)} if bare else dict(row) for row in features]
        offsets = [row.pop("offset_mapping", None) for row in rows]
        batch: Any = self._pad(rows)
        batch = {"input_ids": batch["input_ids"]} if bare else batch
        special = batch.pop("special_tokens_mask", None)
        if self.mlm:
            batch["input_ids"], batch["labels"] = self.mask(batch["input_ids"], special, self._offsets(batch, offsets))
        else:
            labels = batch["input_ids"].clone()
            if self.tokenizer.pad_token_id is not None:
                labels[labels == self.tokenizer.pad_token_id] = IGNORED
            batch["labels"] = labels
        if kind == "np":
            batch.update({name: value.numpy() for name, value in batch.items()})
        return batch

    def _pad(self, rows: list[dict[str, Any]]) -> BatchEncoding:
        lengths = {len(row["input_ids"]) for row in rows}
        even = len(lengths) == 1 and max(lengths) % (self.pad_to_multiple_of or 1) == 0
        # A tokenizer without a padding token serves where nothing is to be padded.
        padding = not even or self.tokenizer.pad_token is not None
        multiple = self.pad_to_multiple_of if padding else None
        batch: BatchEncoding = self.tokenizer.pad(
            rows, padding=padding, pad_to_multiple_of=multiple, return_tensors="pt"
        )
        return batch

    def _offsets(self, batch: Any, rows: list[Any]) -> Tensor | None:
        """Characters (B, S, 2) where tokens start and end, 0 at padding."""
        if not self.whole_word_mask:
            return None
        if any(row is None for row in rows):
            raise InputError(
                "whole_word_mask=True needs each example's offset_mapping.",
                "Tokenize with return_offsets_mapping=True, and keep that column.",
            )
        filled = torch.zeros(*batch["input_ids"].shape, 2, dtype=torch.long)
        for row, offsets in zip(filled, rows, strict=True):
            place = slice(-len(offsets), None) if self.tokenizer.padding_side == "left" else slice(len(offsets))
            row[place] = torch.as_tensor(to_python(offsets))
        return filled

    def mask(
        self, input_ids: Tensor, special_tokens_mask: Tensor | None = None, offset_mapping: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Masked copies of ids (B, S) and their labels (B, S); by whole words where `offset_mapping` (B, S, 2) is."""
        if special_tokens_mask is None:
            masks = [self.tokenizer.get_special_tokens_mask(row, None, True) for row in input_ids.tolist()]
            special_tokens_mask = torch.tensor(masks)
        free = ~special_tokens_mask.bool()
        words = None
        if offset_mapping is not None:
            free, words = _words(free, offset_mapping)
        assert self.mlm_probability is not None
        chosen = self._draw(torch.full(input_ids.shape, float(self.mlm_probability)).masked_fill_(~free, 0.0))
        if words is not None:
            # The first token of a word decides for all of it.
            by_word = torch.zeros(len(words), int(words.max()) + 1, dtype=torch.bool)
            chosen = by_word.scatter(1, words * free, chosen).gather(1, words)
        labels = input_ids.masked_fill(~chosen, IGNORED)
        masked = self._draw(torch.full(input_ids.shape, self.mask_replace_prob)) & chosen
        input_ids = input_ids.masked_fill(masked, self.tokenizer.mask_token_id)
        if self.mask_replace_prob == 1 or self.random_replace_prob == 0:
            return input_ids, labels
        share = self.random_replace_prob / (1 - self.mask_replace_prob)
        random = self._draw(torch.full(input_ids.shape, share)) & chosen & ~masked
        tokens = torch.randint(len(self.tokenizer), input_ids.shape, generator=self.generator)
        return torch.where(random, tokens, input_ids), labels

    def _draw(self, probabilities: Tensor) -> Tensor:
        return torch.bernoulli(probabilities, generator=self.generator).bool()


@dataclass
class DataCollatorForWholeWordMask(DataCollatorForLanguageModeling):
    """DataCollatorForLanguageModeling with whole_word_mask=True, for BERT's tokens also without their offsets.

    Without offset_mapping in the examples, a token that begins with ## goes on with the word before it.
    """

    whole_word_mask: bool = True

    def _offsets(self, batch: Any, rows: list[Any]) -> Tensor | None:
        if not self.whole_word_mask or any(row is not None for row in rows):
            return super()._offsets(batch, rows)
        tokens = [self.tokenizer.convert_ids_to_tokens(row) for row in batch["input_ids"].tolist()]
        goes_on = torch.tensor([[token.startswith("##") for token in row] for row in tokens], dtype=torch.long)
        # Numbers that meet where a word goes on, and nowhere else.
        places = 2 * torch.arange(goes_on.shape[1]).expand_as(goes_on)
        return torch.stack([places - goes_on, places + 1], dim=-1)


def _words(free: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Where words start (B, S), and the number of each token's word (B, S), 0 at special tokens.

    A word starts where a token does not go on at the character where the one before ended, or that one is special.
    """
    begin, end = offsets[..., 0], offsets[..., 1]
    joined = torch.zeros_like(free)
    joined[:, 1:] = (begin[:, 1:] == end[:, :-1]) & free[:, :-1]
    starts = free & ~joined
    return starts, starts.cumsum(1) * free
