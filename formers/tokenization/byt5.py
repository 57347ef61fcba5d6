"""The tokenizer of ByT5: the bytes of a text are its tokens."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from tokenizers import AddedToken

from formers.tokenization.build import Recipe, end_each
from formers.tokenization.pieces import look_up
from formers.tokenization.special import Token
from formers.tokenization.text2text import extra_with_sentinels
from formers.tokenization.tokenizer import PreTrainedTokenizerFast

_BYTES = 256


@dataclass(frozen=True)
class _Cutter:
    """A byte's token is the character of its number."""

    end: str
    files: dict[str, bytes] = field(default_factory=dict)

    def cut(self, texts: Sequence[str]) -> list[list[str]]:
        return [list(text.encode("utf-8").decode("latin-1")) for text in texts]

    def join(self, tokens: Iterable[str], special: Collection[str]) -> str:
        data = (
            token.encode("utf-8" if token in special or len(token) > 1 or ord(token) >= _BYTES else "latin-1")
            for token in tokens
        )
        return b"".join(data).decode("utf-8", errors="ignore")


def _cutter(source: Mapping[str, Any], special: Mapping[str, str], options: Mapping[str, Any]) -> _Cutter:
    return _Cutter(special["eos_token"])


def _spaceless(token: str) -> AddedToken:
    return AddedToken(token, lstrip=True, rstrip=True, special=True)


class ByT5Tokenizer(PreTrainedTokenizerFast):
    """UTF-8 bytes, without a vocabulary file. Option: `extra_ids` (how many sentinel tokens follow the bytes)."""

    vocab_files_names: ClassVar[dict[str, str]] = {}
    special_defaults: ClassVar[Mapping[str, Token]] = {
        "pad_token": _spaceless("<pad>"),
        "eos_token": _spaceless("</s>"),
        "unk_token": _spaceless("<unk>"),
    }
    options: ClassVar[Mapping[str, Any]] = {"extra_ids": 125}
    recipe: ClassVar[Recipe | None] = Recipe(look_up, end_each, extra_with_sentinels, _cutter)

    def _set_up(self, settings: dict[str, Any]) -> None:
        names = ("pad_token", "eos_token", "unk_token")
        tokens = [str(settings.get(name) or self.special_defaults[name]) for name in names]
        tokens += [chr(byte) for byte in range(_BYTES)]
        super()._set_up({**settings, "vocab": {token: index for index, token in enumerate(tokens)}})

    @property
    def vocab_size(self) -> int:
        """The number of bytes; `len(tokenizer)` counts special tokens too."""
        return _BYTES
