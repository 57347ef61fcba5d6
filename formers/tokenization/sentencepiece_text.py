"""SentencePiece's own way from a text to what its model cuts, and from pieces back to a text.

The engine has parts for most of this, but not for all: its normalizer looks at single characters where SentencePiece
takes the longest rule that fits. Families that the reference reads with SentencePiece itself go this way.
"""

from __future__ import annotations

import re
import sys
from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import dropwhile
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE, Unigram

from formers.errors import InputError, UnsupportedError
from formers.tokenization.build import merges_of
from formers.tokenization.sentencepiece import SentencePieceModel, parse
from formers.tokenization.ties import Ties

_SPACE = "▁"  # what SentencePiece writes for a space
_RUNS = re.compile(" |[^ ]+")
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
# What SentencePiece takes off the least probable piece's score for a character in no piece, and off user symbols'.
_UNKNOWN_PENALTY, _SYMBOL_PENALTY = 10.0, 0.1
# Of a unit of the trie: the byte that it stands for, with a sign that marks values; and a value's bits.
_LABEL, _VALUE = 0x800000FF, 0x7FFFFFFF


class Charsmap:
    """Normalization rules as SentencePiece compiles them: what stands for which characters.

    The rules are a double-array trie of the UTF-8 bytes (Darts) and the replacements, ended by zeros.
    """

    def __init__(self, blob: bytes) -> None:
        size = int.from_bytes(blob[:4], "little")
        self._units = array("I", blob[4 : 4 + size])
        if sys.byteorder == "big":
            self._units.byteswap()
        self._replacements = blob[4 + size :]

    def longest(self, data: bytes, start: int) -> tuple[int, str] | None:
        """The longest rule that fits at `start`: how many bytes it replaces, and by what."""
        units, found = self._units, None
        node = _children(units[0])
        for place in range(start, len(data)):
            node ^= data[place]
            if node >= len(units) or units[node] & _LABEL != data[place]:
                break
            unit = units[node]
            node ^= _children(unit)
            if unit >> 8 & 1:
                found = place + 1 - start, units[node] & _VALUE
        if found is None:
            return None
        length, at = found
        return length, self._replacements[at : self._replacements.index(0, at)].decode("utf-8")

    def begins(self, char: str) -> bool:
        """Whether some rule begins with this character."""
        node = _children(self._units[0])
        for byte in char.encode("utf-8"):
            node ^= byte
            if node >= len(self._units) or self._units[node] & _LABEL != byte:
                return False
            node ^= _children(self._units[node])
        return True


def _children(unit: int) -> int:
    """How far the children of a unit lie from it, to be combined with it by exclusive or."""
    return unit >> 10 << ((unit & 1 << 9) >> 6)


class Normalizer:
    """A text as a model's pieces have it. Safe to use from any number of threads."""

    def __init__(self, model: SentencePieceModel) -> None:
        self._model = model
        self._rules = Charsmap(model.charsmap) if model.charsmap else None
        # Symbols of the user stay as they are, the longest first.
        symbols = sorted(model.user_defined, key=len, reverse=True)
        self._symbols = re.compile("|".join(map(re.escape, symbols))) if symbols else None
        self._active = {symbol[0] for symbol in symbols}
        self._inert: set[str] = set()

    def normalize(self, text: str) -> str:
        """The text after the rules, spaces as "▁"."""
        model, units = self._model, self._units(text)
        if model.remove_extra_whitespaces:
            units = list(dropwhile(" ".__eq__, units))
        if not units:
            return ""
        parts = [" "] if model.add_dummy_prefix and not model.space_as_suffix else []
        after_space = model.remove_extra_whitespaces
        for unit in units:
            if after_space:
                unit = unit.lstrip(" ")
            if unit:
                parts.append(unit)
                after_space = model.remove_extra_whitespaces and unit[-1] == " "
        text, space = "".join(parts), " "
        if model.escape_whitespaces:
            text, space = text.replace(" ", _SPACE), _SPACE
        if model.remove_extra_whitespaces:
            text = text.rstrip(space)
        return text + space if model.add_dummy_prefix and model.space_as_suffix else text

    def _units(self, text: str) -> list[str]:
        """The text in parts: what rules and symbols gave, single spaces, and what stays as it is."""
        new = set(text) - self._inert - self._active
        if new:
            active = {char for char in new if self._rules is not None and self._rules.begins(char)}
            self._active = self._active | active
            self._inert = self._inert | (new - active)
        active = self._active
        if active.isdisjoint(text):
            return _RUNS.findall(text)
        data, units, index, place = text.encode("utf-8"), [], 0, 0
        while index < len(text):
            char = text[index]
            symbol = self._symbols.match(text, index) if char in active and self._symbols else None
            rule = self._rules.longest(data, place) if char in active and self._rules and symbol is None else None
            if symbol is not None:
                unit, end = symbol[0], place + len(symbol[0].encode("utf-8"))
            elif rule is not None:
                unit, end = rule[1], place + rule[0]
            else:
                unit, end = char, place + 1
            units.append(unit)
            while place < end:
                place += len(text[index].encode("utf-8"))
                index += 1
        return units


class SentencePieceCutter:
    """Cuts texts into the pieces of a SentencePiece model, as SentencePiece does."""

    def __init__(self, data: bytes, name: str) -> None:
        """data: the content of the model's file. name: the file, for error messages."""
        self._data = data
        self._name = name
        model = self._model = parse(data, name)
        self._normalizer = Normalizer(model)
        self._ties: Ties | None = None
        if model.is_bpe:
            self._engine = _bpe(model)
        else:
            self._engine, self._ties = _unigram(model)
        self._unknown = model.pieces[model.unk_id][0]
        self._known = {piece for piece, _ in model.pieces} - set(model.control) - {self._unknown}

    def __getstate__(self) -> tuple[bytes, str]:
        return self._data, self._name

    def __setstate__(self, state: tuple[bytes, str]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    @classmethod
    def read(cls, path: Any, option: str) -> SentencePieceCutter:
        """From a file. InputError naming the `option` that gives its path where there is none."""
        if path is None or not Path(path).is_file():
            problem = "There is no SentencePiece model" + ("." if path is None else f": {str(path)!r} is no file.")
            raise InputError(problem, f"Pass the path of the file as `{option}`, or load a folder that has it.")
        return cls(Path(path).read_bytes(), str(path))

    @property
    def data(self) -> bytes:
        """The content of the model's file."""
        return self._data

    def cut(self, texts: Sequence[str]) -> list[list[str]]:
        """The pieces of each text; what is in no piece comes as it is, or as its bytes if the model has these."""
        texts = [self._normalizer.normalize(text) for text in texts]
        encodings = self._engine.encode_batch(texts, add_special_tokens=False)
        unknown, rows = self._model.unk_id, []
        for text, encoding in zip(texts, encodings, strict=True):
            row = encoding.tokens if self._ties is None else self._ties.settle(encoding.tokens)
            if unknown in encoding.ids:
                parts = zip(encoding.ids, row, encoding.offsets, strict=True)
                row = [
                    piece
                    for index, token, (start, end) in parts
                    for piece in (self._outside(text[start:end]) if index == unknown else [token])
                ]
            rows.append(row)
        return rows

    def _outside(self, text: str) -> list[str]:
        if not self._model.byte_fallback:
            return [text]
        return [f"<0x{byte:02X}>" for byte in text.encode("utf-8")]

    def join(self, tokens: Iterable[str], special: Collection[str] = (), after: str = "") -> str:
        """The text of pieces. special: tokens that stand for themselves, with `after` behind each."""
        text = ""
        pieces: list[str] = []
        for token in tokens:
            if token in special:
                text += self._decode(pieces) + token + after
                pieces = []
            else:
                pieces.append(token)
        return text + self._decode(pieces)

    def _decode(self, pieces: Iterable[str]) -> str:
        model, text, pending = self._model, "", bytearray()
        at_start = True
        for piece in pieces:
            byte = _BYTE.fullmatch(piece) if piece in model.bytes else None
            if byte is not None:
                pending.append(int(byte[1], 16))
                continue
            text += _utf8(pending)
            pending.clear()
            at_start = at_start and not text
            if piece in model.control:
                continue
            if piece == self._unknown:
                text += model.unk_surface
            elif piece not in self._known:
                text += piece
            else:
                if at_start and (model.add_dummy_prefix or model.remove_extra_whitespaces) and piece[:1] == _SPACE:
                    piece = piece[1:]
                    # Only where spaces count is one of them the prefix that was added, and all others the text's.
                    at_start = model.remove_extra_whitespaces
                text += piece.replace(_SPACE, " ")
        return text + _utf8(pending)


def refuse_sampling(options: Mapping[str, Any]) -> None:
    """UnsupportedError where the option `sp_model_kwargs` asks SentencePiece for something."""
    if options["sp_model_kwargs"]:
        raise UnsupportedError(
            f"sp_model_kwargs={options['sp_model_kwargs']!r} is for the package sentencepiece, which is not used here.",
            "Leave it out: texts are cut in the one most probable way.",
        )


def _utf8(data: bytearray) -> str:
    # One sign for every byte that is part of no character.
    return re.sub("[\udc80-\udcff]", "\ufffd", data.decode("utf-8", errors="surrogateescape"))


def _named(model: SentencePieceModel) -> list[tuple[str, float]]:
    """The model's pieces. What texts cannot hold gets a name with a space, which no normalized text has."""
    reserved = {*model.control, *model.bytes, *model.unused, model.pieces[model.unk_id][0]}
    return [(f" {piece}" if piece in reserved else piece, score) for piece, score in model.pieces]


def _bpe(model: SentencePieceModel) -> Tokenizer:
    ids = {piece: index for index, (piece, _) in enumerate(_named(model))}
    symbols = set(model.user_defined)
    merges = merges_of({piece: index for piece, index in ids.items() if piece not in symbols}, ids.__getitem__)
    engine = Tokenizer(BPE(ids, merges, unk_token=f" {model.pieces[model.unk_id][0]}", fuse_unk=True))
    engine.add_tokens([AddedToken(symbol, normalized=False) for symbol in model.user_defined])
    return engine


def _unigram(model: SentencePieceModel) -> tuple[Tokenizer, Ties]:
    scores, symbols = dict(_named(model)), set(model.user_defined)
    normal = [score for piece, score in scores.items() if piece[:1] != " " and piece not in symbols] or [0.0]
    # SentencePiece takes what the user defined before other pieces, by a score that no combination of them reaches.
    best = max(normal)
    scores.update({symbol: len(symbol.encode("utf-8")) * best - _SYMBOL_PENALTY for symbol in symbols})
    engine = Tokenizer(Unigram(list(scores.items()), unk_id=model.unk_id, byte_fallback=False))
    return engine, Ties(scores, min(normal) - _UNKNOWN_PENALTY)
