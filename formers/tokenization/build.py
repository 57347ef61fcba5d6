"""Engines made from vocabulary files, for model folders without tokenizer.json."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE, Unigram, WordPiece

from formers.errors import ConfigError, InputError
from formers.tokenization import sentencepiece

if TYPE_CHECKING:
    from formers.tokenization.pieces import Cutter

_SPACE = "▁"  # what SentencePiece writes for a space


@dataclass
class Vocabulary:
    """What the files of a family hold.

    pieces: ids by token, or (token, score) in the order of the ids (Unigram). sentencepiece: whether they are those of
    a SentencePiece file, without the special tokens that some families add to it. control, user_defined: tokens of
    such a file that are never cut, the first ones special.
    """

    pieces: dict[str, int] | list[tuple[str, float]]
    merges: list[tuple[str, str]] = field(default_factory=list)
    sentencepiece: bool = False
    charsmap: bytes = b""
    control: list[str] = field(default_factory=list)
    user_defined: list[str] = field(default_factory=list)

    def ids(self) -> dict[str, int]:
        """The ids by token. InputError for a Unigram vocabulary, which has scores."""
        if not isinstance(self.pieces, dict):
            raise InputError(
                "A vocabulary of ids is needed, and this one gives scores.",
                "Pass vocab.json (with merges.txt for BPE), a SentencePiece file of a BPE model, or a dictionary.",
            )
        return self.pieces


class Recipe(NamedTuple):
    """How a family makes its engine.

    make: from the vocabulary, the names of the special tokens and the family's options, without special tokens.
    frame: the post-processor that puts the special tokens around texts, once they have ids; None if the tokenizer's
    class does that. extra: from the given special tokens without a name and the options, those that the family has.
    cutter: from the family's files by name, the special tokens and the options, what cuts texts before the engine.
    """

    make: Callable[[Vocabulary, Mapping[str, str], Mapping[str, Any]], Tokenizer]
    frame: Callable[[Callable[[str], tuple[str, int]], Mapping[str, Any]], Any] | None
    extra: Callable[[Sequence[str], Mapping[str, Any]], Sequence[str]] | None = None
    cutter: Callable[[Mapping[str, Any], Mapping[str, str], Mapping[str, Any]], Cutter] | None = None


def read_vocabulary(vocab: Any, merges: Any) -> Vocabulary:
    """The vocabulary from files (`vocab.txt`, `vocab.json` with `merges.txt`, SentencePiece) or Python objects."""
    if isinstance(vocab, Mapping):
        if isinstance(merges, (str, Path)):
            merges = _lines(Path(merges))
        return Vocabulary(dict(vocab), [_merge(entry) for entry in merges or ()])
    if isinstance(vocab, Sequence) and not isinstance(vocab, str):
        return Vocabulary([(str(token), float(score)) for token, score in vocab])
    path = Path(vocab)
    if not path.is_file():
        raise InputError(f"There is no vocabulary file {str(path)!r}.", "Check the path.")
    if path.suffix == ".model":
        model = sentencepiece.read(path)
        pieces: dict[str, int] | list[tuple[str, float]] = model.pieces
        pairs: list[tuple[str, str]] = []
        if model.is_bpe:
            pieces = {token: index for index, (token, _) in enumerate(model.pieces)}
            pairs = merges_of(pieces, pieces.__getitem__)
        return Vocabulary(pieces, pairs, True, model.charsmap, model.control, model.user_defined)
    if path.suffix == ".json":
        if not isinstance(merges, (str, Path)):
            return read_vocabulary(_json_vocabulary(path), merges)
        try:
            pieces, pairs = BPE.read_file(str(path), str(merges))
        except Exception as error:  # the engine has no exception type of its own
            raise ConfigError(f"{path} and {merges} cannot be read: {error}.", "Fetch the files again.") from error
        return Vocabulary(pieces, pairs)
    try:
        return Vocabulary(WordPiece.read_file(str(path)))
    except Exception as error:  # the engine has no exception type of its own
        raise ConfigError(f"{path} cannot be read: {error}.", "It must be UTF-8 text, one token per line.") from error


def merges_of(
    vocab: Mapping[str, int], rank: Callable[[str], float], longest_first: bool = False
) -> list[tuple[str, str]]:
    """The merges that a vocabulary implies: each way to make a token of two others, tokens of a low rank first.

    longest_first: of a token's ways, those with a long first part come first, else those with a short one.
    """
    sign = -1 if longest_first else 1
    found = []
    for token in vocab:
        cuts = ((token[:cut], token[cut:]) for cut in range(1, len(token)))
        pairs = [pair for pair in cuts if pair[0] in vocab and pair[1] in vocab]
        pairs.sort(key=lambda pair: (vocab[pair[0]], vocab[pair[1]]))
        found += [(rank(token), sign * len(pair[0]), sign * len(pair[1]), pair) for pair in pairs]
    found.sort(key=lambda item: item[:3])
    return [item[3] for item in found]


def looks_cased(tokens: Mapping[str, int]) -> bool:
    """Whether a WordPiece vocabulary tells upper from lower case: then texts must not be lower-cased.

    Tokens in brackets, such as [CLS] and [unused1], are names and do not count.
    """
    return any(token != token.lower() for token in tokens if not (token[:1] in "[<" and token[-1:] in "]>"))


def _json_vocabulary(path: Path) -> dict[str, int]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is not valid JSON: {error}.", "Fetch the file again.") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path} must hold an object of tokens and ids.", "Fetch the file again.")
    return value


def _lines(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").split("\n")
    return [line for line in lines if line and not line.startswith("#version")]


def _merge(entry: Any) -> tuple[str, str]:
    parts = entry.split(" ") if isinstance(entry, str) else tuple(entry)
    if len(parts) != 2:
        raise InputError(f"{entry!r} is not a merge.", "A merge is two tokens, as a pair or with a space between.")
    return parts[0], parts[1]


def _wordpiece(vocabulary: Vocabulary, special: Mapping[str, str], options: Mapping[str, Any]) -> Tokenizer:
    if not isinstance(vocabulary.pieces, dict):
        raise InputError("A WordPiece vocabulary maps tokens to ids.", "Pass the path of vocab.txt or a dictionary.")
    engine = Tokenizer(WordPiece(vocabulary.pieces, unk_token=special["unk_token"]))
    engine.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=options["tokenize_chinese_chars"],
        strip_accents=options["strip_accents"],
        lowercase=options["do_lower_case"],
    )
    engine.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    engine.decoder = decoders.WordPiece(prefix="##")
    return engine


def byte_level(vocabulary: Vocabulary, special: Mapping[str, str], options: Mapping[str, Any]) -> Tokenizer:
    """Byte-level BPE, cut as GPT-2 has it."""
    if not isinstance(vocabulary.pieces, dict):
        raise InputError("A BPE vocabulary maps tokens to ids.", "Pass the path of vocab.json or a dictionary.")
    engine = Tokenizer(
        BPE(vocabulary.pieces, vocabulary.merges, continuing_subword_prefix="", end_of_word_suffix="", fuse_unk=False)
    )
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=options["add_prefix_space"])
    engine.decoder = decoders.ByteLevel()
    return engine


def unigram(pieces: list[tuple[str, float]], vocabulary: Vocabulary, unk: str) -> Tokenizer:
    """A Unigram engine of these pieces, with the tokens of the vocabulary that are never cut."""
    index = next((index for index, (token, _) in enumerate(pieces) if token == unk), None)
    if index is None:
        raise ConfigError(f"The vocabulary lacks the unknown token {unk!r}.", "Pass the `unk_token` that it has.")
    engine = Tokenizer(Unigram(pieces, unk_id=index, byte_fallback=False))
    engine.add_tokens([AddedToken(token, normalized=False) for token in vocabulary.user_defined])
    return engine


def scored(vocabulary: Vocabulary) -> list[tuple[str, float]]:
    """The pieces of a Unigram vocabulary."""
    if isinstance(vocabulary.pieces, dict):
        raise InputError(
            "A Unigram vocabulary is a list of (token, score).", "Pass the path of the `.model` file or such a list."
        )
    return vocabulary.pieces


def put_spaces_first(engine: Tokenizer, scheme: str) -> None:
    """Spaces begin the words that follow them. scheme: whether one is added to a text: "always", "first", "never"."""
    engine.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme=scheme)
    engine.decoder = decoders.Metaspace(replacement=_SPACE, prepend_scheme=scheme)


def split_at_spaces(engine: Tokenizer, scheme: str) -> None:
    """As `put_spaces_first`, with all kinds of white space taken as one space."""
    put_spaces_first(engine, scheme)
    engine.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), engine.pre_tokenizer])


def read_whole_texts(engine: Tokenizer, charsmap: bytes, scheme: str) -> None:
    """As `put_spaces_first`, with SentencePiece's own normalization: repeated spaces are one, the last ones nothing."""
    steps: list[Any] = [normalizers.Precompiled(charsmap)] if charsmap else []
    steps += [normalizers.Strip(left=False, right=True), normalizers.Replace(Regex(" {2,}"), _SPACE)]
    engine.normalizer = normalizers.Sequence(steps)
    put_spaces_first(engine, scheme)


def _scheme(options: Mapping[str, Any]) -> str:
    return "always" if options["add_prefix_space"] else "never"


def _albert(vocabulary: Vocabulary, special: Mapping[str, str], options: Mapping[str, Any]) -> Tokenizer:
    engine = unigram(scored(vocabulary), vocabulary, special["unk_token"])
    steps: list[Any] = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    if not options["keep_accents"]:
        steps += [normalizers.NFKD(), normalizers.StripAccents()]
    if options["do_lower_case"]:
        steps.append(normalizers.Lowercase())
    if vocabulary.charsmap:
        steps.append(normalizers.Precompiled(vocabulary.charsmap))
    engine.normalizer = normalizers.Sequence(steps)
    split_at_spaces(engine, _scheme(options))
    return engine


def _xlm_roberta(vocabulary: Vocabulary, special: Mapping[str, str], options: Mapping[str, Any]) -> Tokenizer:
    # The model's ids are those of fairseq: its own special tokens first, then the pieces after <unk>, <s> and </s>.
    names = ("bos_token", "pad_token", "eos_token", "unk_token")
    pieces = scored(vocabulary)
    if vocabulary.sentencepiece:
        pieces = [*((special[name], 0.0) for name in names), *pieces[3:], (special["mask_token"], 0.0)]
    return _fairseq(pieces, vocabulary, special, options)


def _camembert(vocabulary: Vocabulary, special: Mapping[str, str], options: Mapping[str, Any]) -> Tokenizer:
    pieces = scored(vocabulary)
    if vocabulary.sentencepiece:
        first = [("<s>NOTUSED", 0.0), (special["pad_token"], 0.0), ("</s>NOTUSED", 0.0), (special["unk_token"], 0.0)]
        pieces = [*first, ("<unk>NOTUSED", -100.0), *pieces[1:], (special["mask_token"], 0.0)]
    return _fairseq(pieces, vocabulary, special, options)


def _fairseq(
    pieces: list[tuple[str, float]], vocabulary: Vocabulary, special: Mapping[str, str], options: Mapping[str, Any]
) -> Tokenizer:
    engine = unigram(pieces, vocabulary, special["unk_token"])
    if vocabulary.charsmap:
        engine.normalizer = normalizers.Precompiled(vocabulary.charsmap)
    split_at_spaces(engine, _scheme(options))
    return engine


def _deberta_v2(vocabulary: Vocabulary, special: Mapping[str, str], options: Mapping[str, Any]) -> Tokenizer:
    engine = unigram(scored(vocabulary), vocabulary, special["unk_token"])
    steps: list[Any] = [normalizers.Lowercase()] if options["do_lower_case"] else []
    steps += [
        normalizers.Replace(Regex(r"\s{2,}|[\n\r\t]"), " "),
        normalizers.NFC(),
        normalizers.Strip(left=False, right=True),
    ]
    engine.normalizer = normalizers.Sequence(steps)
    scheme = "always" if options["add_prefix_space"] else "first"
    splits: list[Any] = [pre_tokenizers.Punctuation(behavior="isolated")] if options["split_by_punct"] else []
    splits.append(pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme=scheme))
    engine.pre_tokenizer = pre_tokenizers.Sequence(splits)
    engine.decoder = decoders.Metaspace(replacement=_SPACE, prepend_scheme=scheme)
    return engine


def bos_eos_frame(first: tuple[str, int] | None, last: tuple[str, int] | None) -> Any:
    """The post-processor that puts one token before and one after every text."""

    def around(text: str, kind: int) -> str:
        parts = (first and f"{first[0]}:{kind}", f"{text}:{kind}", last and f"{last[0]}:{kind}")
        return " ".join(part for part in parts if part)

    return processors.TemplateProcessing(
        single=around("$A", 0),
        pair=f"{around('$A', 0)} {around('$B', 1)}",
        special_tokens=[token for token in (first, last) if token],
    )


def end_each(special: Callable[[str], tuple[str, int]], options: Mapping[str, Any]) -> Any:
    """The frame that ends each text of a pair with the eos token."""
    last = special("eos_token")
    return processors.TemplateProcessing(
        single=["$A", last[0]], pair=["$A", last[0], "$B", last[0]], special_tokens=[last]
    )


def end_all(special: Callable[[str], tuple[str, int]], options: Mapping[str, Any]) -> Any:
    """The frame that ends a text, or both of a pair together, with the eos token."""
    last = special("eos_token")
    return processors.TemplateProcessing(single=["$A", last[0]], pair=["$A", "$B", last[0]], special_tokens=[last])


def _bert_frame(special: Callable[[str], tuple[str, int]], options: Mapping[str, Any]) -> Any:
    first, last = special("cls_token"), special("sep_token")
    return processors.TemplateProcessing(
        single=f"{first[0]}:0 $A:0 {last[0]}:0",
        pair=f"{first[0]}:0 $A:0 {last[0]}:0 $B:1 {last[0]}:1",
        special_tokens=[first, last],
    )


def _roberta_frame(special: Callable[[str], tuple[str, int]], options: Mapping[str, Any]) -> Any:
    return processors.RobertaProcessing(
        special("sep_token"),
        special("cls_token"),
        trim_offsets=options.get("trim_offsets", True),
        add_prefix_space=options.get("add_prefix_space", False),
    )


def _fairseq_frame(special: Callable[[str], tuple[str, int]], options: Mapping[str, Any]) -> Any:
    first, last = special("bos_token"), special("eos_token")
    return processors.TemplateProcessing(
        single=[first[0], "$A", last[0]],
        pair=[first[0], "$A", last[0], last[0], "$B", last[0]],
        special_tokens=[first, last],
    )


BERT = Recipe(_wordpiece, _bert_frame)
MPNET = Recipe(_wordpiece, _roberta_frame)
ROBERTA = Recipe(byte_level, _roberta_frame)
ALBERT = Recipe(_albert, _bert_frame)
XLM_ROBERTA = Recipe(_xlm_roberta, _fairseq_frame)
CAMEMBERT = Recipe(_camembert, _fairseq_frame)
DEBERTA_V2 = Recipe(_deberta_v2, _bert_frame)
