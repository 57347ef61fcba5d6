"""SentencePiece `.model` files, read without the sentencepiece package.

The file is a protocol buffer message, `ModelProto` of sentencepiece_model.proto; only the few fields that describe the
pieces and the normalization are read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from formers.errors import ConfigError, UnsupportedError

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED = 1, 2, 3, 4
_UNIGRAM, _BPE = 1, 2


@dataclass(frozen=True)
class SentencePieceModel:
    """pieces: (text, log probability) in the order of their ids; with BPE the score says which merge comes first.

    control, user_defined: pieces that are never cut. charsmap: the compiled normalization rules.
    """

    pieces: list[tuple[str, float]]
    unk_id: int
    control: list[str]
    user_defined: list[str]
    charsmap: bytes
    is_bpe: bool


def read(path: Path) -> SentencePieceModel:
    """Read a Unigram or BPE model. ConfigError if the file is damaged, UnsupportedError for other kinds of model."""
    try:
        return _parse(path.read_bytes(), path)
    except (IndexError, ValueError, struct.error) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path} is not a SentencePiece model: {error}.", "Fetch the file again.") from error


def _parse(data: bytes, path: Path) -> SentencePieceModel:
    pieces: list[tuple[str, float]] = []
    control: list[str] = []
    user_defined: list[str] = []
    kind, charsmap, unk_id = _UNIGRAM, b"", 0
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):  # pieces
            text, score, role = _piece(value)
            if role == _CONTROL:
                control.append(text)
            elif role == _USER_DEFINED:
                user_defined.append(text)
            elif role == _UNKNOWN:
                unk_id = len(pieces)
            pieces.append((text, score))
        elif number == 2 and isinstance(value, bytes):  # trainer_spec
            kind = next((item for field, item in _fields(value) if field == 3 and isinstance(item, int)), _UNIGRAM)
        elif number == 3 and isinstance(value, bytes):  # normalizer_spec
            charsmap = next((item for field, item in _fields(value) if field == 2 and isinstance(item, bytes)), b"")
    if not pieces:
        raise ValueError("it holds no pieces")
    if kind not in (_UNIGRAM, _BPE):
        raise UnsupportedError(
            f"{path} is a SentencePiece model of words or characters, not of the kinds Unigram and BPE.",
            "Use a folder with tokenizer.json: the reference implementation writes one with save_pretrained.",
        )
    return SentencePieceModel(pieces, unk_id, control, user_defined, charsmap, kind == _BPE)


def _piece(data: bytes) -> tuple[str, float, int]:
    text, score, role = "", 0.0, _NORMAL
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            text = value.decode("utf-8")
        elif number == 2 and isinstance(value, bytes):
            score = float(struct.unpack("<f", value)[0])
        elif number == 3 and isinstance(value, int):
            role = value
    return text, score, role


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message: number and value, an int (varint) or bytes (the rest)."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        wire = key & 7
        if wire == 0:
            value, position = _varint(data, position)
            yield key >> 3, value
            continue
        if wire == 2:
            size, position = _varint(data, position)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"unknown field type {wire} at byte {position}")
        if position + size > len(data):
            raise ValueError("it ends in the middle of a field")
        yield key >> 3, data[position : position + size]
        position += size


def _varint(data: bytes, position: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = data[position]
        position += 1
        result |= (byte & 127) << shift
        if byte < 128:
            return result, position
        shift += 7
        if shift > 63:
            raise ValueError(f"a number at byte {position} is too long")
