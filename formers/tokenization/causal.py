"""Engines of decoder families: byte-level BPE, and SentencePiece's BPE with byte fallback."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE

from formers.errors import ConfigError
from formers.tokenization.build import Recipe, Vocabulary, bos_eos_frame

Merges = Sequence[tuple[str, str]]

_SPACE = "▁"  # what SentencePiece writes for a space

# Where texts are cut before their bytes are merged. GPT-2's own pattern is part of the engine.
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_CASED = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+%s"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*%s"
    r"|%s| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEKKEN = _CASED % ("", "", r"\p{N}")
GPT4O = _CASED % (*("(?i:'s|'t|'re|'ve|'m|'ll|'d)?",) * 2, r"\p{N}{1,3}")
BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"


def byte_level(
    vocab: Mapping[str, int], merges: Merges, pattern: str | None = None, prefix_space: bool = False, nfc: bool = False
) -> Tokenizer:
    """Byte-level BPE, cut by `pattern` (None: GPT-2's). prefix_space: one before a text. nfc: compose characters."""
    engine = bpe(vocab, merges, continuing_subword_prefix="", end_of_word_suffix="", fuse_unk=False)
    if nfc:
        engine.normalizer = normalizers.NFC()
    bytes_of = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space, use_regex=pattern is None)
    engine.pre_tokenizer = bytes_of
    if pattern is not None:
        engine.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(pattern), behavior="isolated"), bytes_of]
        )
    engine.decoder = decoders.ByteLevel()
    return engine


def llama(vocab: Mapping[str, int], merges: Merges, prefix_space: bool = True) -> Tokenizer:
    """SentencePiece's BPE as Llama has it: texts are one piece; unknown characters become their bytes."""
    engine = bpe(vocab, merges, fuse_unk=True, byte_fallback=True)
    scheme = "first" if prefix_space else "never"
    engine.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme=scheme, split=False)
    engine.decoder = _spaces(strip=prefix_space)
    return engine


def gemma(vocab: Mapping[str, int], merges: Merges, unknown: str) -> Tokenizer:
    """SentencePiece's BPE as Gemma has it: no space is added before a text."""
    engine = bpe(vocab, merges, fuse_unk=True, byte_fallback=True, unk_token=unknown)
    engine.normalizer = normalizers.Replace(" ", _SPACE)
    engine.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous")
    engine.decoder = _spaces(strip=False)
    return engine


def prepend_always(engine: Tokenizer) -> None:
    """Phi-3's way with spaces: one is added before every text, also before one that begins with a space."""
    engine.normalizer = normalizers.Sequence([normalizers.Prepend(_SPACE), normalizers.Replace(" ", _SPACE)])
    engine.pre_tokenizer = None


def bpe(vocab: Mapping[str, int], merges: Merges, **settings: Any) -> Tokenizer:
    """A BPE engine; settings are those of the engine's model. ConfigError for merges of unknown tokens."""
    try:
        return Tokenizer(BPE(dict(vocab), list(merges), **settings))
    except Exception as error:  # the engine has no exception type of its own
        raise ConfigError(
            f"The vocabulary and the merges do not fit together: {error}.", "Fetch the model's files again."
        ) from error


def _spaces(strip: bool) -> Any:
    steps: list[Any] = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    return decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if strip else steps)


def _from_bytes(
    pattern: str | None = None, nfc: bool = False
) -> Callable[[Vocabulary, Mapping[str, str], Mapping[str, Any]], Tokenizer]:
    def make(vocabulary: Vocabulary, special: Mapping[str, str], options: Mapping[str, Any]) -> Tokenizer:
        return byte_level(vocabulary.ids(), vocabulary.merges, pattern, options["add_prefix_space"], nfc)

    return make


def _llama(vocabulary: Vocabulary, special: Mapping[str, str], options: Mapping[str, Any]) -> Tokenizer:
    engine = llama(vocabulary.ids(), vocabulary.merges, options["add_prefix_space"])
    return _with_added(engine, vocabulary)


def _gemma(vocabulary: Vocabulary, special: Mapping[str, str], options: Mapping[str, Any]) -> Tokenizer:
    engine = gemma(vocabulary.ids(), vocabulary.merges, special["unk_token"])
    return _with_added(engine, vocabulary)


def _with_added(engine: Tokenizer, vocabulary: Vocabulary) -> Tokenizer:
    engine.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in vocabulary.control])
    engine.add_tokens([AddedToken(token, normalized=False) for token in vocabulary.user_defined])
    return engine


def _frame(special: Callable[[str], tuple[str, int]], options: Mapping[str, Any]) -> Any:
    first = special("bos_token") if options["add_bos_token"] else None
    last = special("eos_token") if options["add_eos_token"] else None
    return bos_eos_frame(first, last)


def _codegen_frame(special: Callable[[str], tuple[str, int]], options: Mapping[str, Any]) -> Any:
    if options["add_bos_token"] or options["add_eos_token"]:
        return _frame(special, options)
    return processors.ByteLevel(add_prefix_space=True, use_regex=True, trim_offsets=False)


GPT2 = Recipe(_from_bytes(), _frame)
CODEGEN = Recipe(_from_bytes(), _codegen_frame)
GPT_NEOX = Recipe(_from_bytes(nfc=True), _frame)
QWEN2_RECIPE = Recipe(_from_bytes(QWEN2, nfc=True), _frame)
LLAMA = Recipe(_llama, _frame)
GEMMA = Recipe(_gemma, _frame)
