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

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6
_UNIGRAM, _BPE = 1, 2
# Numbers of fields: of the model, of its trainer's settings and of its normalizer's.
_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
_KIND, _SPACE_AS_SUFFIX, _BYTE_FALLBACK, _UNK_SURFACE = 3, 24, 35, 44
_CHARSMAP, _DUMMY_PREFIX, _EXTRA_WHITESPACES, _ESCAPE_WHITESPACES = 2, 3, 4, 5


@dataclass(frozen=True)
class SentencePieceModel:
    """pieces: (text, log probability) in the order of their ids; with BPE the score says which merge comes first.

    control, user_defined: pieces that are never cut. bytes: those that stand for a byte. charsmap: the compiled
    normalization rules. unk_surface: what the unknown piece is decoded to. The others are settings of SentencePiece;
    space_as_suffix: spaces end the word before them.
    """

    pieces: list[tuple[str, float]]
    unk_id: int
    control: list[str]
    user_defined: list[str]
    charsmap: bytes
    is_bpe: bool
    bytes: frozenset[str] = frozenset()
    unused: frozenset[str] = frozenset()
    byte_fallback: bool = False
    space_as_suffix: bool = False
    unk_surface: str = " ⁇ "
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True
    escape_whitespaces: bool = True


def read(path: Path) -> SentencePieceModel:
    """Read a Unigram or BPE model. ConfigError if the file is damaged, UnsupportedError for other kinds of model."""
    return parse(path.read_bytes(), str(path))


def parse(data: bytes, name: str) -> SentencePieceModel:
    """As `read`, for the content of the file `name`."""
    try:
        return _model(data, name)
    except (IndexError, ValueError, struct.error) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{name} is not a SentencePiece model: {error}.", "Fetch the file again.") from error


def _model(data: bytes, name: str) -> SentencePieceModel:
    pieces: list[tuple[str, float]] = []
    roles: dict[int, list[str]] = {}
    unk_id = 0
    trainer: dict[int, int | bytes] = {}
    normalizer: dict[int, int | bytes] = {}
    for number, value in _fields(data):
        if not isinstance(value, bytes):
            continue
        if number == _PIECES:
            text, score, role = _piece(value)
            roles.setdefault(role, []).append(text)
            if role == _UNKNOWN:
                unk_id = len(pieces)
            pieces.append((text, score))
        elif number == _TRAINER:
            trainer.update(_fields(value))
        elif number == _NORMALIZER:
            normalizer.update(_fields(value))
    if not pieces:
        raise ValueError("it holds no pieces")
    kind, surface = trainer.get(_KIND, _UNIGRAM), trainer.get(_UNK_SURFACE)
    charsmap = normalizer.get(_CHARSMAP, b"")
    if kind not in (_UNIGRAM, _BPE):
        raise UnsupportedError(
            f"{name} is a SentencePiece model of words or characters, not of the kinds Unigram and BPE.",
            "Use a folder with tokenizer.json: the reference implementation writes one with save_pretrained.",
        )
    return SentencePieceModel(
        pieces,
        unk_id,
        roles.get(_CONTROL, []),
        roles.get(_USER_DEFINED, []),
        charsmap if isinstance(charsmap, bytes) else b"",
        kind == _BPE,
        frozenset(roles.get(_BYTE, ())),
        frozenset(roles.get(_UNUSED, ())),
        byte_fallback=bool(trainer.get(_BYTE_FALLBACK, False)),
        space_as_suffix=bool(trainer.get(_SPACE_AS_SUFFIX, False)),
        unk_surface=surface.decode("utf-8") if isinstance(surface, bytes) else SentencePieceModel.unk_surface,
        add_dummy_prefix=bool(normalizer.get(_DUMMY_PREFIX, True)),
        remove_extra_whitespaces=bool(normalizer.get(_EXTRA_WHITESPACES, True)),
        escape_whitespaces=bool(normalizer.get(_ESCAPE_WHITESPACES, True)),
    )


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
