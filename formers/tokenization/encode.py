"""The way of a call: texts in, the engine's ids, padded rows or tensors out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple

from tokenizers import Encoding, Tokenizer

from formers.errors import InputError, UnsupportedError
from formers.tokenization.batch import BatchEncoding
from formers.tokenization.engine import Engines, Truncation
from formers.tokenization.inputs import collect, explain, holds_pairs
from formers.tokenization.padding import pad_rows
from formers.tokenization.settings import Limits, Padding
from formers.tokenization.tensors import as_tensor, concatenate, flatten, mask, pack, ragged, single_row, wrap
from formers.tokenization.words import Words

# Texts per call of the engine: enough to keep every core busy, few enough to bound the memory of its encodings.
_CHUNK = 2048

# What is fetched from the engine's encodings. Masks and all-zero types are made here: that is faster.
_GETTERS = {
    "input_ids": attrgetter("ids"),
    "token_type_ids": attrgetter("type_ids"),
    "special_tokens_mask": attrgetter("special_tokens_mask"),
    "offset_mapping": attrgetter("offsets"),
}


class Request(NamedTuple):
    """What one call wants. `tensors`: "pt", "np" or None for lists."""

    limits: Limits
    add_special_tokens: bool
    is_split_into_words: bool
    split_special_tokens: bool
    tensors: str | None
    token_type_ids: bool
    attention_mask: bool
    special_tokens_mask: bool
    offsets: bool
    overflow: bool
    lengths: bool


class Fill(NamedTuple):
    """What padding is made of."""

    token: str
    id: int
    type_id: int


@dataclass
class _Rows:
    """What the engine gave: for every name its rows as lists or, for tensors, flat arrays that hold them in a row."""

    columns: dict[str, list[Any]]
    lengths: list[int] = field(default_factory=list)
    longest: int = 0
    owners: list[int] = field(default_factory=list)
    encodings: list[Encoding] = field(default_factory=list)


class _Shape(NamedTuple):
    """The padded form of the rows: `width` tokens at least, filled up on the left or the right."""

    width: int
    left: bool
    fill: Fill


_UNPADDED = _Shape(0, False, Fill("", 0, 0))


def _shape(padding: Padding | None, longest: int, fill: Fill | None) -> _Shape:
    if padding is None or fill is None:
        return _UNPADDED
    return _Shape(padding.width(longest), padding.side == "left", fill)


def encode(
    engines: Engines, text: Any, text_pair: Any, request: Request, fill: Fill | None
) -> tuple[BatchEncoding, int]:
    """Tokenize one text (the values are flat lists, unless tensors or overflow are wanted) or a batch of texts.

    fill: needed where the request asks for padding. Returns the batch and the tokens of the longest row.
    """
    if type(text) is str and not text_pair and engines.cutter is None and _is_plain(request):
        return _encode_one(engines, text, request, fill)
    inputs, batched = collect(text, text_pair, request.is_split_into_words)
    truncation = request.limits.truncation
    pairs = holds_pairs(inputs, request.is_split_into_words)
    if engines.cutter is not None:
        if request.offsets:
            raise UnsupportedError(
                "This tokenizer does not know where its tokens lie in a text.",
                "Leave out return_offsets_mapping, as with the reference's tokenizer of this family.",
            )
        words, whole = request.is_split_into_words, request.split_special_tokens
        inputs = engines.cut(inputs, words, whole, request.add_special_tokens)
        request = request._replace(is_split_into_words=True)
    if truncation is not None:
        _check_room(engines.base, truncation, request, pairs)
    engine = engines.get(truncation, request.split_special_tokens)
    zero_types = not pairs and engines.gives_zero_types
    known = None if pairs else _words(engines, request, zero_types)
    try:
        rows = _run(engine, known, inputs, request, zero_types)
    except TypeError as error:
        raise explain(inputs, request.is_split_into_words) from error
    shape = _shape(request.limits.padding, rows.longest, fill)
    if request.tensors is not None:
        data = _as_tensors(rows, request, shape, request.tensors)
    else:
        data = _as_lists(rows, request, shape)
        if not batched and not request.overflow:
            data = {name: value if name == "length" else value[0] for name, value in data.items()}
    if request.offsets or request.overflow:
        kept = rows.encodings
        batch = BatchEncoding.with_lazy_encodings(data, lambda: _padded(kept, shape))
    else:
        batch = BatchEncoding.with_lazy_encodings(data, lambda: _padded(_call(engine, inputs, request, True), shape))
    return batch, rows.longest


def _is_plain(request: Request) -> bool:
    """Whether a single text needs neither padding nor offsets: then there is a shorter way."""
    if request.is_split_into_words or request.offsets or request.overflow:
        return False
    padding = request.limits.padding
    return padding is None or (padding.length is None and padding.multiple is None)


def _encode_one(engines: Engines, text: str, request: Request, fill: Fill | None) -> tuple[BatchEncoding, int]:
    """The short way of `encode` for what servers and loops do most."""
    truncation = request.limits.truncation
    if truncation is not None:
        _check_room(engines.base, truncation, request, False)
    engine = engines.get(truncation, request.split_special_tokens)
    zero_types = engines.gives_zero_types
    words = _words(engines, request, zero_types)
    ids = None if words is None else words.rows([text], request.add_special_tokens, truncation)[0]
    encoding = None
    if ids is None:
        try:
            encoding = _call(engine, [text], request, False)[0]
        except TypeError as error:
            raise explain([text], False) from error
        ids = encoding.ids
    length = len(ids)
    data: dict[str, Any] = {"input_ids": ids}
    if request.token_type_ids:
        data["token_type_ids"] = [0] * length if zero_types or encoding is None else encoding.type_ids
    if request.attention_mask:
        data["attention_mask"] = [1] * length
    if encoding is not None and request.special_tokens_mask:
        data["special_tokens_mask"] = encoding.special_tokens_mask
    if request.tensors is not None:
        data = {name: single_row(row, request.tensors) for name, row in data.items()}
    if request.lengths:
        data["length"] = [length] if request.tensors is None else as_tensor("length", [length], request.tensors)

    def encodings() -> list[Encoding]:
        return _padded(_call(engine, [text], request, True), _shape(request.limits.padding, length, fill))

    return BatchEncoding.with_lazy_encodings(data, encodings), length


def _words(engines: Engines, request: Request, zero_types: bool) -> Words | None:
    """The words that the engine knows, if ids are all that is wanted of single texts."""
    if request.is_split_into_words or request.offsets or request.overflow or request.special_tokens_mask:
        return None
    if request.token_type_ids and not zero_types:
        return None
    truncation = request.limits.truncation
    if truncation is not None and truncation.strategy == "only_second":
        return None  # the engine refuses texts that this cannot shorten
    return engines.words(request.split_special_tokens)


def _run(engine: Tokenizer, words: Words | None, inputs: list[Any], request: Request, zero_types: bool) -> _Rows:
    names = ["input_ids"]
    if request.token_type_ids and not zero_types:
        names.append("token_type_ids")
    if request.special_tokens_mask:
        names.append("special_tokens_mask")
    if request.offsets:
        names.append("offset_mapping")
    rows = _Rows({name: [] for name in names})
    keep = request.offsets or request.overflow
    for start in range(0, len(inputs), _CHUNK):
        texts = inputs[start : start + _CHUNK]
        values: dict[str, Iterable[Any]]
        if words is not None:
            ids = _ids(engine, words, texts, request)
            values, lengths = {"input_ids": ids}, list(map(len, ids))
            rows.longest = max(rows.longest, *lengths)
        else:
            encodings = _call(engine, texts, request, keep)
            # As in the reference, overflow does not count for the width of the rows.
            rows.longest = max(rows.longest, *map(len, encodings))
            if request.overflow:
                encodings = _with_overflow(encodings, start, rows.owners)
            if keep:
                rows.encodings += encodings
            values, lengths = {name: map(_GETTERS[name], encodings) for name in names}, list(map(len, encodings))
        rows.lengths += lengths
        for name, column in rows.columns.items():
            if request.tensors is None or name == "offset_mapping":
                column.extend(values[name])
            else:
                column.append(flatten(values[name], sum(lengths)))
    return rows


def _ids(engine: Tokenizer, words: Words, texts: list[Any], request: Request) -> list[list[int]]:
    """The ids of single texts: of remembered words where that is possible, else from the engine."""
    rows = words.rows(texts, request.add_special_tokens, request.limits.truncation)
    left = [index for index, row in enumerate(rows) if row is None]
    if left:
        encodings = _call(engine, [texts[index] for index in left], request, False)
        for index, encoding in zip(left, encodings, strict=True):
            rows[index] = encoding.ids
    return rows  # type: ignore[return-value]  # none is None any more


def _call(engine: Tokenizer, inputs: list[Any], request: Request, offsets: bool) -> list[Encoding]:
    call = engine.encode_batch if offsets else engine.encode_batch_fast
    try:
        return call(inputs, request.is_split_into_words, request.add_special_tokens)
    except BaseException as error:
        # The engine's errors have no type of their own. It panics, which is no Exception, where the windows of one of
        # two texts would be no longer than their overlap.
        panic = type(error).__name__ == "PanicException"
        if type(error) is not Exception and not panic:
            raise
        truncation = request.limits.truncation
        if truncation is not None and (panic or "Truncation" in str(error)):
            raise InputError(
                f"These texts cannot be cut to max_length={truncation.max_length} with truncation="
                f"{truncation.strategy!r} and stride={truncation.stride}: {error}.",
                "Use truncation='longest_first', a larger max_length or a smaller stride.",
            ) from error
        raise InputError(
            f"The engine cannot tokenize these texts: {error}.", "Check that the vocabulary has the unknown token."
        ) from error


def _with_overflow(encodings: list[Encoding], start: int, owners: list[int]) -> list[Encoding]:
    """Every encoding followed by the windows that were cut off it; `owners` gets the index of each one's text."""
    rows = []
    for index, encoding in enumerate(encodings, start):
        windows = [encoding, *encoding.overflowing]
        rows += windows
        owners += [index] * len(windows)
    return rows


def _check_room(engine: Tokenizer, truncation: Truncation, request: Request, pairs: bool) -> None:
    special = engine.num_special_tokens_to_add(pairs) if request.add_special_tokens else 0
    room = truncation.max_length - special
    if room < 0:
        raise InputError(
            f"max_length={truncation.max_length} leaves no room for the {special} special tokens.",
            f"Use a max_length of more than {special}, or add_special_tokens=False.",
        )
    # The engine itself checks the overlap against what a single text with special tokens would have.
    least = truncation.max_length - engine.num_special_tokens_to_add(False)
    if 0 < room <= truncation.stride or 0 <= least < truncation.stride:
        raise InputError(
            f"stride={truncation.stride} leaves no new tokens in a window: max_length={truncation.max_length} holds "
            f"{min(room, least)} tokens besides the special ones.",
            "Use a smaller stride or a larger max_length.",
        )


def _as_lists(rows: _Rows, request: Request, shape: _Shape) -> dict[str, Any]:
    width, left, fill = shape

    def padded(name: str, filler: Any) -> list[list[Any]]:
        return pad_rows(rows.columns[name], width, filler, left) if width else rows.columns[name]

    data: dict[str, Any] = {"input_ids": padded("input_ids", fill.id)}
    if request.token_type_ids:
        if "token_type_ids" in rows.columns:
            data["token_type_ids"] = padded("token_type_ids", fill.type_id)
        else:
            zeros = [[0] * length for length in rows.lengths]
            data["token_type_ids"] = pad_rows(zeros, width, fill.type_id, left) if width else zeros
    if request.attention_mask:
        ones = [[1] * length for length in rows.lengths]
        data["attention_mask"] = pad_rows(ones, width, 0, left) if width else ones
    if request.special_tokens_mask:
        data["special_tokens_mask"] = padded("special_tokens_mask", 1)
    if request.offsets:
        data["offset_mapping"] = padded("offset_mapping", (0, 0))
    if request.lengths:
        data["length"] = [max(length, width) for length in rows.lengths]
    if request.overflow:
        data["overflow_to_sample_mapping"] = rows.owners
    return data


def _as_tensors(rows: _Rows, request: Request, shape: _Shape, kind: str) -> dict[str, Any]:
    import numpy as np

    width, left, fill = shape
    lengths = np.array(rows.lengths, dtype=np.int64)
    shortest, longest = (max(width, min(rows.lengths)), max(width, max(rows.lengths))) if rows.lengths else (0, 0)
    if shortest != longest:
        if kind == "pt":
            raise ragged("input_ids", shortest, longest)
        # NumPy can hold rows of different lengths, as an array of arrays; the reference makes these too.
        ends = np.cumsum(lengths)[:-1]
        for name, column in rows.columns.items():
            if name != "offset_mapping":
                column[:] = [row.tolist() for row in np.split(concatenate(column), ends)]
        return {name: as_tensor(name, value, kind) for name, value in _as_lists(rows, request, shape).items()}

    def packed(name: str, filler: int) -> Any:
        return pack(concatenate(rows.columns[name]), lengths, longest, filler, left)

    data: dict[str, Any] = {"input_ids": packed("input_ids", fill.id)}
    if request.token_type_ids:
        if "token_type_ids" in rows.columns:
            data["token_type_ids"] = packed("token_type_ids", fill.type_id)
        elif fill.type_id == 0:
            data["token_type_ids"] = np.zeros((len(lengths), longest), dtype=np.int64)
        else:
            data["token_type_ids"] = np.where(mask(lengths, longest, left), 0, fill.type_id)
    if request.attention_mask:
        data["attention_mask"] = mask(lengths, longest, left).astype(np.int64)
    if request.special_tokens_mask:
        data["special_tokens_mask"] = packed("special_tokens_mask", 1)
    data = {name: wrap(array, kind) for name, array in data.items()}
    if request.offsets:
        offsets = pad_rows(rows.columns["offset_mapping"], longest, (0, 0), left)
        data["offset_mapping"] = as_tensor("offset_mapping", offsets, kind)
    if request.lengths:
        data["length"] = wrap(np.maximum(lengths, longest), kind)
    if request.overflow:
        data["overflow_to_sample_mapping"] = as_tensor("overflow_to_sample_mapping", rows.owners, kind)
    return data


def _padded(encodings: list[Encoding], shape: _Shape) -> list[Encoding]:
    width, left, fill = shape
    for encoding in encodings if width else ():
        encoding.pad(
            width,
            direction="left" if left else "right",
            pad_id=fill.id,
            pad_type_id=fill.type_id,
            pad_token=fill.token,
        )
    return encodings
