"""The tokenizer of BlenderbotSmall: BPE of words in lower case; "@@" ends a piece that the word goes on after."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from tokenizers import Tokenizer
from tokenizers.models import BPE

from formers.errors import ConfigError, InputError
from formers.tokenization.build import Recipe
from formers.tokenization.pieces import look_up
from formers.tokenization.special import Token
from formers.tokenization.tokenizer import PreTrainedTokenizerFast

_END = "</w>"
_GOES_ON = "@@"
_UNKNOWN = " "  # no word has a space
# The separators of ASCII are no spaces here, as they are for Python.
_WORD = re.compile(r"[\S\x1c-\x1f]+\n?")
_SPACES = re.compile(r"[^\S\x1c-\x1f]{2,}")


class _Cutter:
    end: None = None

    def __init__(self, merges: bytes) -> None:
        """merges: the content of merges.txt."""
        self._merges = merges
        lines = [line.split() for line in merges.decode("utf-8").split("\n")[1:-1]]
        if any(len(line) != 2 for line in lines):
            raise ConfigError("A line of merges.txt is not two tokens with a space between.", "Fetch the file again.")
        pairs = [(first, second) for first, second in lines]
        symbols = [symbol for first, second in pairs for symbol in (first, second, first + second)]
        ids = {symbol: index for index, symbol in enumerate(dict.fromkeys((_UNKNOWN, *symbols)))}
        self._engine = Tokenizer(BPE(ids, pairs, unk_token=_UNKNOWN, end_of_word_suffix=_END, fuse_unk=False))

    def __getstate__(self) -> bytes:
        return self._merges

    def __setstate__(self, merges: bytes) -> None:
        self.__init__(merges)  # type: ignore[misc]

    @property
    def files(self) -> dict[str, bytes]:
        return {"merges_file": self._merges}

    def cut(self, texts: Sequence[str]) -> list[list[str]]:
        rows = [_words(text) for text in texts]
        words = list(dict.fromkeys(word for row in rows for word in row))
        encodings = self._engine.encode_batch(words, add_special_tokens=False)
        known = {word: _pieces(word, encoding) for word, encoding in zip(words, encodings, strict=True)}
        return [[piece for word in row for piece in known[word]] for row in rows]

    def join(self, tokens: Iterable[str], special: Collection[str]) -> str:
        return " ".join(tokens).replace(_GOES_ON + " ", "").strip()


def _words(text: str) -> list[str]:
    """The words of a text, punctuation apart, "__newln__" for the ends of lines."""
    words = []
    for word in _WORD.findall(text):
        word = re.sub("([.,!?()])", r" \1", word)
        word = re.sub("(')", r" \1 ", word)
        word = _SPACES.sub(" ", word).replace("\n", " __newln__")
        words += [part.lower() for part in word.split(" ") if part]
    return words


def _pieces(word: str, encoding: Any) -> list[str]:
    # What no merge knows comes as it stands in the word.
    found = [
        word[start:end] if token == _UNKNOWN else token.removesuffix(_END)
        for token, (start, end) in zip(encoding.tokens, encoding.offsets, strict=True)
    ]
    return [*(piece + _GOES_ON for piece in found[:-1]), *found[-1:]]


def _cutter(source: Mapping[str, Any], special: Mapping[str, str], options: Mapping[str, Any]) -> _Cutter:
    path = source["merges_file"] or source["merges"]
    if path is None or not Path(path).is_file():
        raise InputError("BlenderbotSmallTokenizer needs merges besides its vocabulary.", "Pass `merges_file`.")
    return _Cutter(Path(path).read_bytes())


class BlenderbotSmallTokenizer(PreTrainedTokenizerFast):
    """BPE of words in lower case, with no special tokens around texts."""

    vocab_files_names: ClassVar[dict[str, str]] = {"vocab_file": "vocab.json", "merges_file": "merges.txt"}
    special_defaults: ClassVar[Mapping[str, Token]] = {
        "bos_token": "__start__",
        "eos_token": "__end__",
        "unk_token": "__unk__",
        "pad_token": "__null__",
    }
    recipe: ClassVar[Recipe | None] = Recipe(look_up, None, cutter=_cutter)
