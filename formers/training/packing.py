"""Several documents in one row, none of which sees another: no padding is computed, and the loss stays the same.

A packed row is told by its position_ids, which restart at each document; the models keep its documents apart (see
formers.layers.layout). Rows may be longer than the model's limit for one document.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from formers.errors import InputError, UnsupportedError
from formers.tokenization.tensors import check_tensor_type, to_python
from formers.training.collators import IGNORED, Batch, Example


def first_fit(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Documents of these lengths in rows of at most `room` tokens: each document's number, row by row.

    The longest first, each into the first row that has room for it; at most 11/9 of the fewest rows, and one more.
    """
    rows: list[list[int]] = []
    left: list[int] = []
    for document in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        size = lengths[document]
        row = next((row for row, space in enumerate(left) if space >= size), None)
        if row is None:
            row = len(rows)
            rows.append([])
            left.append(room)
        rows[row].append(document)
        left[row] -= size
    return rows


@dataclass
class DataCollatorWithPacking:
    """What `collator` makes of single documents, packed into rows of at most `max_length` tokens.

    `collator`: one whose tensors have a value a token, such as DataCollatorForLanguageModeling or
    DataCollatorForTokenClassification; with the same seed it masks the same tokens as without packing. With mlm=False
    the first token of each document has no label, so that none is predicted from the document before. Positions start
    at `position_ids_start`, or where those of `model` do (RoBERTa's and MPNet's start at 2).
    """

    collator: Callable[[list[Example]], Batch]
    max_length: int
    model: Any = None
    position_ids_start: int | None = None

    def __post_init__(self) -> None:
        if self.max_length < 1:
            raise InputError(f"max_length is {self.max_length}.", "Pass how many tokens a row may have.")

    def reseed(self, number: int) -> None:
        """Seed the collator of single documents, where it can be."""
        if hasattr(self.collator, "reseed"):
            self.collator.reseed(number)

    def __call__(self, features: Sequence[Example]) -> dict[str, Any]:
        """The packed batch: (rows, tokens) of everything, "attention_mask" and "position_ids" included."""
        rows = [dict(row) if isinstance(row, Mapping) else {"input_ids": to_python(row)} for row in features]
        for row in rows:
            row.setdefault("attention_mask", [1] * len(row["input_ids"]))
        made = {name: torch.as_tensor(value) for name, value in dict(self.collator(rows)).items()}
        mask = made.pop("attention_mask").bool()
        self._check(made, mask)
        lengths = mask.sum(1).tolist()
        # Documents without a token would be a row's only ones, or a restart of nothing.
        filled = [i for i, length in enumerate(lengths) if length]
        plan = [[filled[i] for i in row] for row in first_fit([lengths[i] for i in filled], self.max_length)]
        width = max((sum(lengths[i] for i in row) for row in plan), default=0)
        if width == 0:
            raise InputError("The documents of a batch have no tokens.", "Leave out empty documents.")
        if "labels" in made and getattr(self.collator, "mlm", True) is False:
            first = mask & (mask.cumsum(1) == 1)
            made["labels"] = made["labels"].masked_fill(first, IGNORED)
        made["attention_mask"] = mask.long()
        made["position_ids"] = mask.cumsum(1) - 1 + self._start()
        batch = {name: self._join(name, value, mask, plan, width) for name, value in made.items()}
        numpy = getattr(self.collator, "return_tensors", "pt") == "np"
        return {name: value.numpy() for name, value in batch.items()} if numpy else batch

    def _start(self) -> int:
        if self.position_ids_start is None and self.model is not None:
            return int(self.model.spec.first_position)
        return self.position_ids_start or 0

    def _check(self, made: Mapping[str, Tensor], mask: Tensor) -> None:
        if other := [name for name, value in made.items() if value.shape[:2] != mask.shape]:
            raise InputError(
                f"{other[0]!r} has the shape {tuple(made[other[0]].shape)}; packing takes one value a token.",
                "Leave that column out, or do not pack: an answer for a whole document needs its own row.",
            )
        if (longest := int(mask.sum(1).max())) > self.max_length:
            raise InputError(
                f"A document has {longest} tokens, a row {self.max_length}.",
                "Cut it when tokenizing: truncation=True, max_length; return_overflowing_tokens=True keeps the rest.",
            )

    def _join(self, name: str, values: Tensor, mask: Tensor, plan: list[list[int]], width: int) -> Tensor:
        tokenizer = getattr(self.collator, "tokenizer", None)
        fills = {
            "input_ids": getattr(tokenizer, "pad_token_id", None) or 0,
            "labels": getattr(self.collator, "label_pad_token_id", IGNORED),
            "token_type_ids": getattr(tokenizer, "pad_token_type_id", 0),
            "position_ids": self._start(),
        }
        joined = values.new_full((len(plan), width, *values.shape[2:]), fills.get(name, 0))
        for row, documents in enumerate(plan):
            tokens = torch.cat([values[i, mask[i]] for i in documents])
            joined[row, : len(tokens)] = tokens
        return joined


@dataclass
class DataCollatorWithFlattening:
    """All examples end to end in one row, with positions that restart, for models of next tokens.

    The first token of each example has the label `separator_id`. `position_ids_start`: the model's first position.
    """

    return_tensors: str = "pt"
    return_position_ids: bool = True
    separator_id: int = IGNORED
    return_flash_attn_kwargs: bool = False
    return_seq_idx: bool = False
    position_ids_start: int = 0

    def __post_init__(self) -> None:
        for name in ("return_flash_attn_kwargs", "return_seq_idx"):
            if getattr(self, name):
                raise UnsupportedError(f"{name}=True is not supported.", "The models read position_ids instead.")

    def __call__(
        self, features: Sequence[Example], return_tensors: str | None = None, separator_id: int | None = None
    ) -> dict[str, Any]:
        """input_ids, labels and position_ids (1, all tokens)."""
        if not features:
            raise InputError("A collator got no examples.", "Give each batch at least one.")
        separator = self.separator_id if separator_id is None else separator_id
        batch: dict[str, list[int]] = {"input_ids": [], "labels": []}
        if self.return_position_ids:
            batch["position_ids"] = []
        for row in features:
            ids = to_python(row["input_ids"])
            batch["input_ids"] += ids
            if ids:
                batch["labels"] += [separator, *to_python(row.get("labels", ids))[1:]]
            if self.return_position_ids:
                batch["position_ids"] += range(self.position_ids_start, self.position_ids_start + len(ids))
        arrays = {name: np.array([values], dtype=np.int64) for name, values in batch.items()}
        if check_tensor_type(return_tensors or self.return_tensors) == "np":
            return dict(arrays)
        return {name: torch.from_numpy(array) for name, array in arrays.items()}
