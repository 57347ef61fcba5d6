"""What a tokenizer returns: a mapping of model inputs that also relates tokens, words and characters."""

from __future__ import annotations

import logging
from collections import UserDict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from tokenizers import Encoding

from formers.errors import InputError
from formers.tokenization.tensors import as_tensors, check_tensor_type

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)


class CharSpan(NamedTuple):
    """Characters `start` to `end` (exclusive) of the original text."""

    start: int
    end: int


class TokenSpan(NamedTuple):
    """Tokens `start` to `end` (exclusive) of a row."""

    start: int
    end: int


class BatchEncoding(UserDict[str, Any]):
    """Model inputs by name ("input_ids", "attention_mask", …), also as attributes, for one text or a batch of rows.

    The methods that relate tokens to words and characters need the engine's encodings. Those of a plain call are made
    when first asked for, with the settings of that call, so calls that never ask do not pay for them.
    """

    def __init__(
        self,
        data: Mapping[str, Any] | None = None,
        encoding: Encoding | Sequence[Encoding] | None = None,
        tensor_type: Any = None,
        prepend_batch_axis: bool = False,
        n_sequences: int | None = None,
    ) -> None:
        # Not through UserDict.__init__, which copies key by key: this runs for every text.
        self.data = dict(data) if data is not None else {}
        self._encodings: list[Encoding] | None = None
        self._make_encodings: Callable[[], list[Encoding]] | None = None
        self._n_sequences = n_sequences
        if encoding is not None:
            self._encodings = [encoding] if isinstance(encoding, Encoding) else list(encoding)
        if tensor_type is not None:
            self.convert_to_tensors(tensor_type, prepend_batch_axis)

    @classmethod
    def with_lazy_encodings(cls, data: dict[str, Any], make: Callable[[], list[Encoding]]) -> BatchEncoding:
        """A batch that owns `data` and whose encodings `make` gives when they are asked for."""
        batch = cls.__new__(cls)
        batch.__dict__ = {"data": data, "_encodings": None, "_make_encodings": make, "_n_sequences": None}
        return batch

    def __getitem__(self, item: Any) -> Any:
        """The value of a name; with an int, the encoding of that row; with a slice, the rows in it."""
        if isinstance(item, str):
            return self.data[item]
        if self.encodings is not None:
            return self.encodings[item]
        if isinstance(item, slice):
            return {name: value[item] for name, value in self.data.items()}
        raise KeyError(f"{item!r}: use a name ({', '.join(self.data)}) or a slice; this batch has no encodings.")

    def __getattr__(self, name: str) -> Any:
        # Only names that are not attributes come here. `data` itself is missing while an object is being unpickled.
        data = self.__dict__.get("data")
        if data is None or name not in data:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return data[name]

    def __getstate__(self) -> dict[str, Any]:
        return {"data": self.data, "encodings": self.encodings}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["data"], state["encodings"])  # type: ignore[misc]

    @property
    def encodings(self) -> list[Encoding] | None:
        """The engine's encoding of every row, None for a batch that does not come from text."""
        if self._encodings is None and self._make_encodings is not None:
            self._encodings = self._make_encodings()
            self._make_encodings = None
        return self._encodings

    @property
    def is_fast(self) -> bool:
        """Whether the batch has encodings."""
        return self._encodings is not None or self._make_encodings is not None

    @property
    def n_sequences(self) -> int | None:
        """How many texts a row is made of: 1, 2 for pairs, None when unknown."""
        if self._n_sequences is None and self.encodings:
            return self.encodings[0].n_sequences
        return self._n_sequences

    def tokens(self, batch_index: int = 0) -> list[str]:
        """The tokens of a row."""
        return self._row(batch_index).tokens

    def word_ids(self, batch_index: int = 0) -> list[int | None]:
        """For every token of a row the index of its word, None for special tokens."""
        return self._row(batch_index).word_ids

    def words(self, batch_index: int = 0) -> list[int | None]:
        """The older name of `word_ids`."""
        return self.word_ids(batch_index)

    def sequence_ids(self, batch_index: int = 0) -> list[int | None]:
        """For every token of a row the index of its text (0 or 1), None for special tokens."""
        return self._row(batch_index).sequence_ids

    def token_to_sequence(self, batch_or_token_index: int, token_index: int | None = None) -> int | None:
        """The index of the text that a token belongs to. Arguments: (token) or (row, token)."""
        row, index = self._token(batch_or_token_index, token_index)
        return row.token_to_sequence(index)

    def token_to_word(self, batch_or_token_index: int, token_index: int | None = None) -> int | None:
        """The index of a token's word, None for special tokens. Arguments: (token) or (row, token)."""
        row, index = self._token(batch_or_token_index, token_index)
        return row.token_to_word(index)

    def token_to_chars(self, batch_or_token_index: int, token_index: int | None = None) -> CharSpan | None:
        """The characters of a token, None for special tokens. Arguments: (token) or (row, token)."""
        row, index = self._token(batch_or_token_index, token_index)
        span = row.token_to_chars(index)
        return None if span is None else CharSpan(*span)

    def word_to_tokens(
        self, batch_or_word_index: int, word_index: int | None = None, sequence_index: int = 0
    ) -> TokenSpan | None:
        """The tokens of a word, None if it has none. Arguments: (word) or (row, word)."""
        row, index = self._split(batch_or_word_index, word_index)
        span = row.word_to_tokens(index, sequence_index)
        return None if span is None else TokenSpan(*span)

    def word_to_chars(
        self, batch_or_word_index: int, word_index: int | None = None, sequence_index: int = 0
    ) -> CharSpan | None:
        """The characters of a word, None if it has no tokens. Arguments: (word) or (row, word)."""
        row, index = self._split(batch_or_word_index, word_index)
        span = row.word_to_chars(index, sequence_index)
        return None if span is None else CharSpan(*span)

    def char_to_token(
        self, batch_or_char_index: int, char_index: int | None = None, sequence_index: int = 0
    ) -> int | None:
        """The token that covers a character, None if none does. Arguments: (character) or (row, character)."""
        row, index = self._split(batch_or_char_index, char_index)
        return row.char_to_token(index, sequence_index)

    def char_to_word(
        self, batch_or_char_index: int, char_index: int | None = None, sequence_index: int = 0
    ) -> int | None:
        """The word that covers a character, None if none does. Arguments: (character) or (row, character)."""
        row, index = self._split(batch_or_char_index, char_index)
        return row.char_to_word(index, sequence_index)

    def convert_to_tensors(self, tensor_type: Any = None, prepend_batch_axis: bool = False) -> BatchEncoding:
        """Turn the values into tensors in place ("pt" or "np"; None does nothing) and return the batch.

        prepend_batch_axis: treat the values as one row. InputError if rows differ in length.
        """
        kind = check_tensor_type(tensor_type)
        if kind is not None:
            values = {name: [value] for name, value in self.data.items()} if prepend_batch_axis else self.data
            self.data = as_tensors(values, kind)
        return self

    def to(self, device: str | int | torch.device, *, non_blocking: bool = False) -> BatchEncoding:
        """Move the tensors to a device in place and return the batch."""
        if isinstance(device, (str, int)) or type(device).__name__ == "device":
            for name, value in self.data.items():
                if callable(getattr(value, "to", None)):
                    self.data[name] = value.to(device=device, non_blocking=non_blocking)
        else:
            # Wrappers of models cast everything they are given; token ids must stay integers.
            logger.warning("BatchEncoding.to() moves to a device; it does not cast to %s.", device)
        return self

    def _row(self, index: int) -> Encoding:
        encodings = self.encodings
        if encodings is None:
            raise InputError(
                "Only the result of tokenizing text relates tokens to words and characters; "
                "this batch comes from `pad`, token ids or other data.",
                "Ask the batch that the tokenizer returned for the text.",
            )
        return encodings[index]

    def _split(self, first: int, second: int | None) -> tuple[Encoding, int]:
        return (self._row(0), first) if second is None else (self._row(first), second)

    def _token(self, first: int, second: int | None) -> tuple[Encoding, int]:
        row, index = self._split(first, second)
        return row, index + len(row) if index < 0 else index
