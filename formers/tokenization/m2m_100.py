"""The tokenizer of M2M100: SentencePiece with ids of its own, and tokens such as "__en__" for its languages."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from formers.errors import InputError
from formers.tokenization import languages
from formers.tokenization.build import Recipe
from formers.tokenization.pieces import look_up
from formers.tokenization.sentencepiece_text import SentencePieceCutter, refuse_sampling
from formers.tokenization.special import Token
from formers.tokenization.translation import TranslationTokenizer

_LANGUAGES = {"m2m100": languages.M2M100, "wmt21": languages.WMT21}


@dataclass(frozen=True)
class _Cutter:
    model: SentencePieceCutter
    end: None = None

    @property
    def files(self) -> dict[str, bytes]:
        return {"spm_file": self.model.data}

    def cut(self, texts: Sequence[str]) -> list[list[str]]:
        return self.model.cut(texts)

    def join(self, tokens: Iterable[str], special: Collection[str]) -> str:
        return self.model.join(tokens, special).strip()


def _cutter(source: Mapping[str, Any], special: Mapping[str, str], options: Mapping[str, Any]) -> _Cutter:
    refuse_sampling(options)
    return _Cutter(SentencePieceCutter.read(source["spm_file"], "spm_file"))


def _tokens(given: Sequence[str], options: Mapping[str, Any]) -> list[str]:
    kind = options["language_codes"]
    if kind not in _LANGUAGES:
        raise InputError(f"language_codes={kind!r} is no set of languages.", "Use 'm2m100' or 'wmt21'.")
    return [f"__{code}__" for code in _LANGUAGES[kind]]


class M2M100Tokenizer(TranslationTokenizer):
    """SentencePiece whose pieces have the ids of vocab.json; the token of the language goes before a text.

    Options: `src_lang`, `tgt_lang` (codes such as "en"), `language_codes` ("m2m100" or "wmt21"), `num_madeup_words`.
    """

    vocab_files_names: ClassVar[dict[str, str]] = {
        "vocab_file": "vocab.json",
        "spm_file": "sentencepiece.bpe.model",
    }
    special_defaults: ClassVar[Mapping[str, Token]] = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "sep_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
    }
    options: ClassVar[Mapping[str, Any]] = {
        "src_lang": None,
        "tgt_lang": None,
        "language_codes": "m2m100",
        "num_madeup_words": 8,
        "sp_model_kwargs": None,
    }
    recipe: ClassVar[Recipe | None] = Recipe(look_up, None, _tokens, _cutter)
    default_language: ClassVar[str] = "en"

    @property
    def lang_code_to_token(self) -> dict[str, str]:
        """The languages' tokens by code."""
        return {code: self._token(code) for code in self._codes()}

    @property
    def lang_token_to_id(self) -> dict[str, int]:
        """The ids of the languages' tokens."""
        return {self._token(code): index for code, index in self.lang_code_to_id.items()}

    @property
    def id_to_lang_token(self) -> dict[int, str]:
        """The languages' tokens by id."""
        return {index: token for token, index in self.lang_token_to_id.items()}

    def get_lang_token(self, lang: str) -> str:
        """The token of a language. InputError for one that the model does not have."""
        self._code(lang)
        return self._token(lang)

    def get_lang_id(self, lang: str) -> int:
        """The id of a language's token. InputError for one that the model does not have."""
        return self._code(lang)

    def _codes(self) -> Sequence[str]:
        return _LANGUAGES[self.language_codes]

    def _token(self, language: str) -> str:
        return f"__{language}__"
