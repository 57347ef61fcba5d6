"""Encodings made by hand, to see what an engine's post-processor does with ids."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tokenizers import Encoding


def encoding_of(ids: Sequence[int]) -> Encoding:
    """An encoding with these ids as its tokens, as if they came from one text."""
    count = len(ids)
    state = {
        "ids": list(ids),
        "type_ids": [0] * count,
        "tokens": [""] * count,
        "words": [None] * count,
        "offsets": [[0, 0]] * count,
        "special_tokens_mask": [0] * count,
        "attention_mask": [1] * count,
        "overflowing": [],
        "sequence_ranges": {},
    }
    encoding = Encoding()
    encoding.__setstate__(json.dumps(state).encode())
    return encoding
