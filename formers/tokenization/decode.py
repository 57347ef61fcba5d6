"""From ids back to text."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer
from tokenizers.models import BPE

from formers.errors import InputError
from formers.tokenization.tensors import to_python

if TYPE_CHECKING:
    from formers.tokenization.base import PreTrainedTokenizerBase
    from formers.tokenization.pieces import Cutter

logger = logging.getLogger(__name__)

# English contractions and punctuation that WordPiece leaves a space before.
_SPACED = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")


def decode(engine: Tokenizer | Joined, token_ids: Any, skip_special_tokens: bool, clean_up: bool) -> str | list[str]:
    """The text of an id or of a row of ids; a list of texts for a batch of rows (lists, arrays or tensors)."""
    if isinstance(token_ids, Mapping):
        token_ids = token_ids["input_ids"]
    ids = to_python(token_ids)
    if isinstance(ids, int):
        ids = [ids]
    try:
        if ids and isinstance(ids[0], (list, tuple)):
            texts = engine.decode_batch(ids, skip_special_tokens=skip_special_tokens)
            return [clean(text) for text in texts] if clean_up else texts
        text = engine.decode(ids, skip_special_tokens=skip_special_tokens)
        return clean(text) if clean_up else text
    except (TypeError, OverflowError) as error:
        raise InputError(
            f"These are no token ids: {error}.",
            "Pass ints of at least 0, as a list, array or tensor with one or two axes; replace -100 in labels "
            "by `tokenizer.pad_token_id` first.",
        ) from error


class Joined:
    """Decodes as an engine does, for tokenizers whose pieces a cutter joins."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, cutter: Cutter) -> None:
        self._tokenizer = tokenizer
        self._cutter = cutter
        self._special = set(tokenizer.all_special_tokens)

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """The text of a row of ids."""
        if any(index < 0 for index in ids):
            raise OverflowError(f"{min(ids)} is negative")
        tokens = self._tokenizer.convert_ids_to_tokens(ids, skip_special_tokens)
        return self._cutter.join([token for token in tokens if token is not None], self._special)

    def decode_batch(self, rows: Sequence[Sequence[int]], skip_special_tokens: bool = False) -> list[str]:
        """The texts of rows of ids."""
        return [self.decode(row, skip_special_tokens) for row in rows]


def clean(text: str) -> str:
    """The text without the spaces before English punctuation and contractions."""
    for spaced in _SPACED:
        text = text.replace(spaced, spaced.strip())
    return text


def keeps_spaces(engine: Tokenizer) -> bool:
    """Whether the model encodes spaces itself (BPE), so that cleaning would remove spaces of the text."""
    return isinstance(engine.model, BPE)
