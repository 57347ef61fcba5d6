"""The model as generation sees it: something to call with ids and a cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from formers.errors import InputError
from formers.generation.rows import padded
from formers.generation.sources import Conditioned


class Forward:
    """A model and what it has read. Rows are read once (`begin`), then go on token by token (`step`).

    Without a cache every call reads everything again. `extra` are further arguments of the model's call.
    """

    def __init__(
        self,
        model: Any,
        *,
        cache: Any = None,
        use_cache: bool = True,
        capacity: int | None = None,
        pad: int = 0,
        extra: dict[str, Any] | None = None,
    ) -> None:
        self.model, self.cache, self.use_cache, self.capacity, self.pad = model, cache, use_cache, capacity, pad
        self.extra = {"return_dict": True, **(extra or {})}
        self.device = torch.device(model.device)
        # The encoder–decoder and what it decodes from, if it is one.
        self.source = model if isinstance(model, Conditioned) else None
        self.output: Any = None
        self._rows: list[list[int]] = []

    def begin(self, rows: Sequence[Sequence[int]], keep: int = 1) -> Tensor:
        """Read the prompts; the logits (B, keep, V) of each row's last tokens.

        What a passed cache holds of them already is not read again.
        """
        if not self.use_cache:
            self._rows = [list(row) for row in rows]
            return self._read(self._rows, keep)
        if self.cache is None:
            self.cache = self.model.new_cache(len(rows), self.capacity)
        held = list(self.cache.lengths)
        if not any(held) and len(held) in (0, len(rows)):
            return self._read(rows, keep)
        if len(held) != len(rows):
            raise InputError(
                f"past_key_values hold {len(held)} rows, and there are {len(rows)} prompts.",
                "Pass the cache that was made with these prompts.",
            )
        for length, row in zip(held, rows, strict=True):
            if length > len(row):
                raise InputError(
                    f"past_key_values hold {length} tokens of a row, and its prompt has {len(row)}.",
                    "Pass the whole text so far as the prompt, or shorten the cache with its crop().",
                )
        # The last token is read again when the cache has all: its logits are needed.
        held = [min(length, len(row) - keep) for length, row in zip(held, rows, strict=True)]
        if held != list(self.cache.lengths):
            self.cache.crop(held)
        return self._read([row[length:] for length, row in zip(held, rows, strict=True)], keep)

    def step(self, tokens: Sequence[int]) -> Tensor:
        """Read one more token a row; the logits (B, 1, V)."""
        if self.use_cache:
            return self._read([[token] for token in tokens], 1)
        for row, token in zip(self._rows, tokens, strict=True):
            row.append(token)
        return self._read(self._rows, 1)

    def extend(self, tokens: Sequence[int]) -> Tensor:
        """Read several tokens of a single row; their logits (1, tokens, V)."""
        if self.use_cache:
            return self._read([tokens], len(tokens))
        self._rows[0].extend(tokens)
        return self._read(self._rows, len(tokens))

    def rewind(self, length: int) -> None:
        """Forget all but the first `length` tokens of a single row."""
        if self.use_cache:
            self.cache.crop([length])
        else:
            del self._rows[0][length:]

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows, in this order, some perhaps more than once."""
        if self.use_cache:
            self.cache.select(rows)
        else:
            self._rows = [list(self._rows[row]) for row in rows]
            if self.source is not None:
                self.source.select(rows)

    def _read(self, rows: Sequence[Sequence[int]], keep: int) -> Tensor:
        ids = padded(rows, self.pad).to(self.device)
        lengths = [len(row) for row in rows]
        mask = None
        if min(lengths) < ids.shape[1]:
            first = torch.tensor([ids.shape[1] - length for length in lengths], device=ids.device)
            mask = (torch.arange(ids.shape[1], device=ids.device) >= first[:, None]).long()
        self.output = self.model(
            ids,
            attention_mask=mask,
            past_key_values=self.cache,
            use_cache=self.use_cache,
            logits_to_keep=keep,
            **self.extra,
        )
        logits: Tensor = self.output.logits
        return logits
