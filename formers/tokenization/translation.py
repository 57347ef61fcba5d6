"""The tokenizers of translation models whose texts carry the code of their language: mBART, mBART-50, NLLB."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, ClassVar

from tokenizers import AddedToken, Regex, Tokenizer, normalizers, processors

from formers.errors import InputError
from formers.tokenization import build, causal, languages
from formers.tokenization.batch import BatchEncoding
from formers.tokenization.build import Recipe, Vocabulary
from formers.tokenization.engine import Engines
from formers.tokenization.families import FAIRSEQ_TOKENS, files
from formers.tokenization.special import Token
from formers.tokenization.tokenizer import PreTrainedTokenizerFast

if TYPE_CHECKING:
    from typing_extensions import Self

# The mask is looked for in the text as it is after normalization.
_TOKENS: dict[str, Token] = {
    **FAIRSEQ_TOKENS,
    "mask_token": AddedToken("<mask>", lstrip=True, normalized=True, special=True),
}


class TranslationTokenizer(PreTrainedTokenizerFast):
    """A tokenizer that frames texts with the code of their language: `src_lang` for inputs, `tgt_lang` for targets.

    Options: `src_lang`, `tgt_lang` (codes, such as those in `lang_code_to_id`).
    """

    languages: ClassVar[tuple[str, ...]] = ()
    default_language: ClassVar[str] = ""

    def _set_up(self, settings: dict[str, Any]) -> None:
        super()._set_up(settings)
        if self.init_kwargs["tgt_lang"] is not None:
            self._code(self.init_kwargs["tgt_lang"])
        self.src_lang = self.init_kwargs["src_lang"] or self.default_language

    @property
    def src_lang(self) -> str:
        """The language of inputs."""
        return self.init_kwargs["src_lang"]  # type: ignore[no-any-return]

    @src_lang.setter
    def src_lang(self, language: str) -> None:
        self.set_src_lang_special_tokens(language)
        self.init_kwargs["src_lang"] = language

    @property
    def tgt_lang(self) -> str | None:
        """The language of targets; that of inputs where it is None."""
        return self.init_kwargs["tgt_lang"]  # type: ignore[no-any-return]

    @tgt_lang.setter
    def tgt_lang(self, language: str | None) -> None:
        if language is not None:
            self._code(language)
        self.init_kwargs["tgt_lang"] = language

    @property
    def lang_code_to_id(self) -> dict[str, int]:
        """The ids of the languages' tokens by code."""
        find = self._engines.base.token_to_id
        codes = dict.fromkeys((*self._codes(), *self.extra_special_tokens))
        return {code: index for code in codes if (index := find(self._token(code))) is not None}

    @property
    def prefix_tokens(self) -> list[int]:
        """The ids that go before texts now."""
        return self.convert_tokens_to_ids(self._around(self._language)[0])  # type: ignore[no-any-return]

    @property
    def suffix_tokens(self) -> list[int]:
        """The ids that follow texts now."""
        return self.convert_tokens_to_ids(self._around(self._language)[1])  # type: ignore[no-any-return]

    def set_src_lang_special_tokens(self, src_lang: str) -> None:
        """Frame texts as inputs in this language from now on."""
        frame = self._frame(src_lang)

        def set_frame(engine: Tokenizer) -> None:
            engine.post_processor = frame

        self._engines.change(set_frame)
        self._language = src_lang

    def set_tgt_lang_special_tokens(self, lang: str) -> None:
        """Frame texts as targets in this language from now on, inputs too; `text_target` needs no such call."""
        self.set_src_lang_special_tokens(lang)

    def speaking(self, language: str) -> Self:
        """A tokenizer on the same engine whose inputs are in `language`; this one stays as it is."""
        other = copy(self)
        other.init_kwargs = {**self.init_kwargs, "src_lang": language}
        other._engines, other._language = self._engines.framed(language, lambda: self._frame(language)), language
        return other

    def prepare_seq2seq_batch(
        self,
        src_texts: Any,
        src_lang: str | None = None,
        tgt_texts: Any = None,
        tgt_lang: str | None = None,
        max_length: int | None = None,
        max_target_length: int | None = None,
        padding: bool | str = "longest",
        return_tensors: str | None = None,
        truncation: bool | str = True,
    ) -> BatchEncoding:
        """The older way to tokenize a batch of translations: sets the languages and returns inputs with "labels"."""
        self.src_lang = src_lang or self.src_lang
        self.tgt_lang = tgt_lang or self.tgt_lang
        limit = self.model_max_length if max_length is None else max_length
        return self(
            src_texts,
            text_target=tgt_texts,
            max_length=limit,
            max_target_length=limit if max_target_length is None else max_target_length,
            padding=padding,
            return_tensors=return_tensors,
            truncation=truncation,
        )

    def _build_translation_inputs(
        self, raw_inputs: Any, return_tensors: str | None, src_lang: str | None, tgt_lang: str | None, **settings: Any
    ) -> BatchEncoding:
        """Inputs of a translation, with the "forced_bos_token_id" that makes a model write `tgt_lang`."""
        if src_lang is None or tgt_lang is None:
            raise InputError("This model translates between many languages.", "Pass `src_lang` and `tgt_lang`.")
        target = self._code(tgt_lang)
        self.src_lang = src_lang
        batch = self(raw_inputs, return_tensors=return_tensors, **settings)
        batch["forced_bos_token_id"] = target
        return batch

    def _target_engines(self) -> Engines:
        language = self.tgt_lang or self.src_lang
        return self._engines.framed(language, lambda: self._frame(language))

    def _codes(self) -> Sequence[str]:
        """The codes of the family's languages."""
        return self.languages

    def _code(self, language: Any) -> int:
        """The id of the language's token. InputError for a language that the model does not have."""
        known = self.lang_code_to_id
        if language not in known:
            raise languages.unknown_language(language, known)
        return known[language]

    def _token(self, language: str) -> str:
        """The token of a language's code."""
        return language

    def _around(self, language: str) -> tuple[list[str], list[str]]:
        """The tokens before and after texts in this language."""
        return [self._token(language)], [str(self.eos_token)]

    def _frame(self, language: str) -> Any:
        self._code(language)
        before, after = self._around(language)
        return processors.TemplateProcessing(
            single=[*before, "$A", *after],
            pair=[*before, "$A", "$B", *after],
            special_tokens=[(token, self.convert_tokens_to_ids(token)) for token in dict.fromkeys((*before, *after))],
        )


def _with_codes(codes: Sequence[str]) -> Callable[[Sequence[str], Mapping[str, Any]], Sequence[str]]:
    return lambda given, options: codes


def _pieces(vocabulary: Vocabulary, special: Mapping[str, str], codes: Sequence[str]) -> list[tuple[str, float]]:
    """The pieces in the order of fairseq: special tokens first, codes and mask last."""
    pieces = build.scored(vocabulary)
    if not vocabulary.sentencepiece:
        return pieces
    first = [special[name] for name in ("cls_token", "pad_token", "eos_token", "unk_token")]
    named = [(token, 0.0) for token in first]
    return [*named, *pieces[3:], *((token, 0.0) for token in (*codes, special["mask_token"]))]


def _mbart(vocabulary: Vocabulary, special: Mapping[str, str], options: Mapping[str, Any]) -> Tokenizer:
    engine = build.unigram(_pieces(vocabulary, special, languages.MBART), vocabulary, special["unk_token"])
    build.read_whole_texts(engine, vocabulary.charsmap, "always")
    return engine


def _mbart50(vocabulary: Vocabulary, special: Mapping[str, str], options: Mapping[str, Any]) -> Tokenizer:
    engine = build.unigram(_pieces(vocabulary, special, languages.MBART50), vocabulary, special["unk_token"])
    _fold_spaces(engine, vocabulary, True)
    return engine


def _nllb(vocabulary: Vocabulary, special: Mapping[str, str], options: Mapping[str, Any]) -> Tokenizer:
    ids = vocabulary.ids()
    if vocabulary.sentencepiece:
        first = [special[name] for name in ("cls_token", "pad_token", "eos_token", "unk_token")]
        ids = {token: index for index, token in enumerate(dict.fromkeys((*first, *ids)))}
    engine = causal.bpe(ids, vocabulary.merges, fuse_unk=True, unk_token=special["unk_token"])
    _fold_spaces(engine, vocabulary, False)
    engine.add_tokens([AddedToken(token, normalized=False) for token in vocabulary.user_defined])
    if vocabulary.sentencepiece:
        # The published checkpoints have the codes after the pieces, and the mask after the codes.
        engine.add_special_tokens([*languages.NLLB, _TOKENS["mask_token"]])
    return engine


def _fold_spaces(engine: Tokenizer, vocabulary: Vocabulary, always: bool) -> None:
    """Take repeated spaces as one: `always`, or where the model has rules of normalization."""
    rules: list[Any] = [normalizers.Precompiled(vocabulary.charsmap)] if vocabulary.charsmap else []
    if rules or always:
        engine.normalizer = normalizers.Sequence([*rules, normalizers.Replace(Regex(r" {2,}"), " ")])
    build.put_spaces_first(engine, "always")


class MBartTokenizer(TranslationTokenizer):
    """SentencePiece Unigram with 25 languages, whose code follows the text. Options: `src_lang`, `tgt_lang`."""

    vocab_files_names: ClassVar[dict[str, str]] = files("sentencepiece.bpe.model")
    special_defaults: ClassVar[Mapping[str, Token]] = _TOKENS
    options: ClassVar[Mapping[str, Any]] = {"src_lang": None, "tgt_lang": None}
    recipe: ClassVar[Recipe | None] = Recipe(_mbart, None, _with_codes(languages.MBART))
    languages: ClassVar[tuple[str, ...]] = languages.MBART
    default_language: ClassVar[str] = "en_XX"

    def _around(self, language: str) -> tuple[list[str], list[str]]:
        return [], [str(self.eos_token), language]


class MBart50Tokenizer(TranslationTokenizer):
    """SentencePiece Unigram with 52 languages, whose code goes before the text. Options: `src_lang`, `tgt_lang`."""

    vocab_files_names: ClassVar[dict[str, str]] = files("sentencepiece.bpe.model")
    special_defaults: ClassVar[Mapping[str, Token]] = {n: t for n, t in _TOKENS.items() if n != "bos_token"}
    options: ClassVar[Mapping[str, Any]] = {"src_lang": None, "tgt_lang": None}
    recipe: ClassVar[Recipe | None] = Recipe(_mbart50, None, _with_codes(languages.MBART50))
    languages: ClassVar[tuple[str, ...]] = languages.MBART50
    default_language: ClassVar[str] = "en_XX"


class NllbTokenizer(TranslationTokenizer):
    """SentencePiece BPE with 202 languages, whose code goes before the text.

    Options: `src_lang`, `tgt_lang`, `legacy_behaviour` (True: the code follows the text).
    """

    vocab_files_names: ClassVar[dict[str, str]] = files("sentencepiece.bpe.model")
    special_defaults: ClassVar[Mapping[str, Token]] = _TOKENS
    options: ClassVar[Mapping[str, Any]] = {"src_lang": None, "tgt_lang": None, "legacy_behaviour": False}
    recipe: ClassVar[Recipe | None] = Recipe(_nllb, None, _with_codes(languages.NLLB))
    languages: ClassVar[tuple[str, ...]] = languages.NLLB
    default_language: ClassVar[str] = "eng_Latn"

    def _around(self, language: str) -> tuple[list[str], list[str]]:
        if self.legacy_behaviour:
            return [], [str(self.eos_token), language]
        return super()._around(language)
