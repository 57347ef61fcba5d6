"""The tokenizers of encoder–decoders for one language: T5, BART, Pegasus, Blenderbot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from tokenizers import Regex, Tokenizer, normalizers, processors

from formers.errors import InputError
from formers.tokenization import build
from formers.tokenization.build import Recipe, Vocabulary
from formers.tokenization.families import FAIRSEQ_TOKENS, files
from formers.tokenization.special import Token
from formers.tokenization.tokenizer import PreTrainedTokenizerFast

Special = Callable[[str], tuple[str, int]]
_SENTINEL = "<extra_id_"
_UNUSED_SCORE = -100.0  # lower than that of any piece, so that no text is cut into it


def sentinels(count: int) -> list[str]:
    """The tokens that stand for what T5's training left out of a text."""
    return [f"{_SENTINEL}{index}>" for index in range(count)]


def extra_with_sentinels(given: Sequence[str], options: Mapping[str, Any]) -> list[str]:
    """The extra special tokens of a tokenizer with `extra_ids` sentinels. InputError if some but not all are given."""
    count = options["extra_ids"]
    named = sum(_SENTINEL in token for token in given)
    if named and count and named != count:
        raise InputError(
            f"extra_ids={count} asks for as many sentinel tokens, and the special tokens name {named} of them.",
            f"Pass extra_ids={named}, or leave the sentinel tokens out of `additional_special_tokens`.",
        )
    return list(given) if named else [*given, *sentinels(count)]


def _t5(vocabulary: Vocabulary, special: Mapping[str, str], options: Mapping[str, Any]) -> Tokenizer:
    pieces = build.scored(vocabulary)
    if vocabulary.sentencepiece:
        pieces = [*pieces, *((token, 0.0) for token in reversed(sentinels(options["extra_ids"])))]
    engine = build.unigram(pieces, vocabulary, special["unk_token"])
    if options["legacy"] is False:
        build.read_whole_texts(engine, vocabulary.charsmap, "first")
        return engine
    if vocabulary.charsmap:
        engine.normalizer = normalizers.Precompiled(vocabulary.charsmap)
    build.split_at_spaces(engine, "always")
    return engine


def _pegasus(vocabulary: Vocabulary, special: Mapping[str, str], options: Mapping[str, Any]) -> Tokenizer:
    pieces = build.scored(vocabulary)
    if vocabulary.sentencepiece:
        # The tokens of the training come between the first two pieces, padding and end, and the others.
        first = [special["pad_token"], special["eos_token"], options["mask_token_sent"]]
        first += [special.get("mask_token")] if options["offset"] else []
        named = [(token, 0.0) for token in first if token is not None]
        unused = [(token, _UNUSED_SCORE) for token in _unused(options)]
        pieces = [*named, *unused, *pieces[2:]]
    # What the user defined is a piece like the others here.
    engine = build.unigram(pieces, replace(vocabulary, user_defined=[]), special["unk_token"])
    steps: list[Any] = [
        normalizers.Precompiled(vocabulary.charsmap) if vocabulary.charsmap else normalizers.Replace(Regex(r"\n"), " "),
        normalizers.Replace(Regex(r" {2,}"), " "),
    ]
    engine.normalizer = normalizers.Sequence(steps)
    build.put_spaces_first(engine, "always")
    return engine


def _unused(options: Mapping[str, Any]) -> list[str]:
    return [f"<unk_{index}>" for index in range(2, options["offset"])]


def _pegasus_extra(given: Sequence[str], options: Mapping[str, Any]) -> list[str]:
    sentence = options["mask_token_sent"]
    return [*([] if sentence is None else [sentence]), *_unused(options)]


def _blenderbot_frame(special: Special, options: Mapping[str, Any]) -> Any:
    last = special("eos_token")
    return processors.TemplateProcessing(single=["$A", last[0]], pair=["$A", "$B:1"], special_tokens=[last])


class T5Tokenizer(PreTrainedTokenizerFast):
    """SentencePiece Unigram of T5, mT5 and UMT5.

    Options: `extra_ids` (how many sentinel tokens end the vocabulary), `legacy` (False: no space is put before what
    follows a special token).
    """

    vocab_files_names: ClassVar[dict[str, str]] = files("spiece.model")
    special_defaults: ClassVar[Mapping[str, Token]] = {
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
    }
    options: ClassVar[Mapping[str, Any]] = {"extra_ids": 100, "legacy": None}
    recipe: ClassVar[Recipe | None] = Recipe(_t5, build.end_each, extra_with_sentinels)

    def get_sentinel_tokens(self) -> list[str]:
        """The sentinel tokens, "<extra_id_0>" first."""
        return [token for token in self.extra_special_tokens if token.startswith(_SENTINEL)]

    def get_sentinel_token_ids(self) -> list[int]:
        """The ids of `get_sentinel_tokens`."""
        return self.convert_tokens_to_ids(self.get_sentinel_tokens())  # type: ignore[no-any-return]


class PegasusTokenizer(PreTrainedTokenizerFast):
    """SentencePiece Unigram after the tokens of the training: "<mask_1>" and "<mask_2>", "<unk_2>" and so on.

    Options: `mask_token_sent` (masks a sentence; None without one), `offset` (how many ids they take).
    """

    vocab_files_names: ClassVar[dict[str, str]] = files("spiece.model")
    special_defaults: ClassVar[Mapping[str, Token]] = {
        "pad_token": "<pad>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "mask_token": "<mask_2>",
    }
    options: ClassVar[Mapping[str, Any]] = {"mask_token_sent": "<mask_1>", "offset": 103}
    recipe: ClassVar[Recipe | None] = Recipe(_pegasus, build.end_all, _pegasus_extra)


class BartTokenizer(PreTrainedTokenizerFast):
    """RoBERTa's. Options: `add_prefix_space` (before the first word), `trim_offsets` (without spaces)."""

    vocab_files_names: ClassVar[dict[str, str]] = files("vocab.json", "merges.txt")
    special_defaults: ClassVar[Mapping[str, Token]] = FAIRSEQ_TOKENS
    options: ClassVar[Mapping[str, Any]] = {"add_prefix_space": False, "trim_offsets": True, "errors": "replace"}
    recipe: ClassVar[Recipe | None] = build.ROBERTA


class BlenderbotTokenizer(PreTrainedTokenizerFast):
    """Byte-level BPE with one token at the end. Option: `add_prefix_space` (before the first word)."""

    vocab_files_names: ClassVar[dict[str, str]] = files("vocab.json", "merges.txt")
    special_defaults: ClassVar[Mapping[str, Token]] = FAIRSEQ_TOKENS
    options: ClassVar[Mapping[str, Any]] = {"add_prefix_space": True, "errors": "replace"}
    recipe: ClassVar[Recipe | None] = Recipe(build.byte_level, _blenderbot_frame)
