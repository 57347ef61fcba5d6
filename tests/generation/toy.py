"""A model of a few lines with the interface that generation knows: its logits come from a table of hashes."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor


class ToyCache:
    """Keeps the ids themselves, a list a row."""

    def __init__(self, rows: int) -> None:
        self.ids: list[list[int]] = [[] for _ in range(rows)]

    @property
    def lengths(self) -> list[int]:
        return [len(row) for row in self.ids]

    def get_seq_length(self) -> int:
        return max(self.lengths)

    def select(self, rows: Tensor | Sequence[int]) -> None:
        self.ids = [list(self.ids[row]) for row in (rows.tolist() if isinstance(rows, Tensor) else rows)]

    def crop(self, lengths: int | Sequence[int]) -> None:
        per_row = [lengths] * len(self.ids) if isinstance(lengths, int) else lengths
        self.ids = [row[:length] for row, length in zip(self.ids, per_row, strict=True)]


class Toy:
    """Logits hang on the last three tokens of a row, and on nothing else."""

    device = torch.device("cpu")

    def __init__(self, vocabulary: int = 50, eos: int | None = None, seed: int = 0, **config: Any) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.table = torch.randn(997, vocabulary, generator=generator) * 3
        self.config = SimpleNamespace(to_dict=lambda: {"eos_token_id": eos, **config})
        self.calls: list[int] = []

    def new_cache(self, rows: int, capacity: int | None = None) -> ToyCache:
        return ToyCache(rows)

    def logits(self, ids: Sequence[int]) -> Tensor:
        place = 0
        for token in ids[-3:]:
            place = (place * 131 + token + 7) % 997
        return self.table[place]

    def __call__(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: ToyCache | None = None,
        use_cache: bool = True,
        logits_to_keep: int = 0,
        return_dict: bool = True,
    ) -> Any:
        cache = past_key_values if past_key_values is not None else ToyCache(len(input_ids))
        self.calls.append(len(input_ids))
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        out = []
        for row, (ids, real) in enumerate(zip(input_ids.tolist(), mask.tolist(), strict=True)):
            made = []
            for token, kept in zip(ids, real, strict=True):
                if kept:
                    cache.ids[row].append(token)
                    made.append(self.logits(cache.ids[row]))
            out.append(torch.stack(made[-logits_to_keep:]))
        return SimpleNamespace(logits=torch.stack(out), past_key_values=cache)


class ToyPairCache(ToyCache):
    """Also knows which source each row reads, once the encoder has run."""

    def __init__(self, rows: int) -> None:
        super().__init__(rows)
        self.sources: list[list[int]] = []

    def select(self, rows: Tensor | Sequence[int]) -> None:
        chosen = rows.tolist() if isinstance(rows, Tensor) else list(rows)
        super().select(chosen)
        self.sources = [self.sources[row] for row in chosen]


class ToyPair(Toy):
    """An encoder–decoder: the logits hang on the last three tokens of the decoder and on all tokens of the source."""

    main_input_name = "input_ids"

    def __init__(self, vocabulary: int = 50, eos: int | None = None, seed: int = 0, **config: Any) -> None:
        super().__init__(vocabulary, eos, seed, **config)
        self.config.is_encoder_decoder = True
        self.encoded = 0

    def new_cache(self, rows: int, capacity: int | None = None) -> ToyPairCache:
        return ToyPairCache(rows)

    def encode(self, ids: Tensor, mask: Tensor | None) -> Any:
        """As hidden state of each token its id, 0 for padding."""
        self.encoded += 1
        return (ids if mask is None else ids * mask)[:, :, None].float()

    def __call__(  # type: ignore[override]
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        encoder_outputs: Any = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        past_key_values: ToyPairCache | None = None,
        use_cache: bool = True,
        logits_to_keep: int = 0,
        return_dict: bool = True,
    ) -> Any:
        assert decoder_input_ids is not None
        cache = past_key_values if past_key_values is not None else ToyPairCache(len(decoder_input_ids))
        if not cache.sources:
            if encoder_outputs is None:
                assert input_ids is not None
                states = self.encode(input_ids, attention_mask)
            else:
                states = encoder_outputs.last_hidden_state
            cache.sources = [[int(i) for i in row if i] for row in states[:, :, 0].tolist()]
        else:
            states = None
        self.calls.append(len(decoder_input_ids))
        mask = torch.ones_like(decoder_input_ids) if decoder_attention_mask is None else decoder_attention_mask
        out = []
        for row, (ids, real) in enumerate(zip(decoder_input_ids.tolist(), mask.tolist(), strict=True)):
            made = []
            for token, kept in zip(ids, real, strict=True):
                if kept:
                    cache.ids[row].append(token)
                    made.append(self.logits([sum(cache.sources[row]) * 31 + token, *cache.ids[row][-2:]]))
            out.append(torch.stack(made[-logits_to_keep:]))
        return SimpleNamespace(
            logits=torch.stack(out),
            past_key_values=cache,
            encoder_last_hidden_state=states,
            encoder_hidden_states=None,
            encoder_attentions=None,
        )
