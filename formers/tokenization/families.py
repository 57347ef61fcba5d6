"""The tokenizers of the model families: which files, special tokens, options and model inputs each has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from tokenizers import AddedToken

from formers.tokenization import build, causal
from formers.tokenization.build import Recipe
from formers.tokenization.special import Token
from formers.tokenization.tokenizer import PreTrainedTokenizerFast

_BERT_OPTIONS = {"do_lower_case": True, "tokenize_chinese_chars": True, "strip_accents": None}
_BERT_TOKENS = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
# The mask takes the space before it, so that "is <mask>" masks a word as it stands in a text.
FAIRSEQ_TOKENS: dict[str, Token] = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "sep_token": "</s>",
    "cls_token": "<s>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "mask_token": AddedToken("<mask>", lstrip=True, special=True),
}


def files(vocab_file: str, merges_file: str | None = None) -> dict[str, str]:
    """The names of a family's files."""
    names = {"vocab_file": vocab_file, "tokenizer_file": "tokenizer.json"}
    return names if merges_file is None else {**names, "merges_file": merges_file}


class BertTokenizer(PreTrainedTokenizerFast):
    """WordPiece, as BERT has it.

    Options: `do_lower_case` (without a word about it, a vocabulary with upper-case tokens is taken as cased),
    `tokenize_chinese_chars` (every one a word), `strip_accents` (None: if lower-cased).
    """

    vocab_files_names: ClassVar[dict[str, str]] = files("vocab.txt")
    model_input_names: list[str] = ["input_ids", "token_type_ids", "attention_mask"]  # noqa: RUF012
    special_defaults: ClassVar[Mapping[str, Token]] = _BERT_TOKENS
    options: ClassVar[Mapping[str, Any]] = _BERT_OPTIONS
    recipe: ClassVar[Recipe | None] = build.BERT


class DistilBertTokenizer(PreTrainedTokenizerFast):
    """BERT's, for a model without token types."""

    vocab_files_names: ClassVar[dict[str, str]] = files("vocab.txt")
    special_defaults: ClassVar[Mapping[str, Token]] = _BERT_TOKENS
    options: ClassVar[Mapping[str, Any]] = _BERT_OPTIONS
    recipe: ClassVar[Recipe | None] = build.BERT


class ElectraTokenizer(PreTrainedTokenizerFast):
    """BERT's."""

    vocab_files_names: ClassVar[dict[str, str]] = files("vocab.txt")
    model_input_names: list[str] = ["input_ids", "token_type_ids", "attention_mask"]  # noqa: RUF012
    special_defaults: ClassVar[Mapping[str, Token]] = _BERT_TOKENS
    options: ClassVar[Mapping[str, Any]] = _BERT_OPTIONS
    recipe: ClassVar[Recipe | None] = build.BERT


class MPNetTokenizer(PreTrainedTokenizerFast):
    """BERT's WordPiece with RoBERTa's special tokens."""

    vocab_files_names: ClassVar[dict[str, str]] = files("vocab.txt")
    special_defaults: ClassVar[Mapping[str, Token]] = {**FAIRSEQ_TOKENS, "unk_token": "[UNK]"}
    options: ClassVar[Mapping[str, Any]] = _BERT_OPTIONS
    recipe: ClassVar[Recipe | None] = build.MPNET


class RobertaTokenizer(PreTrainedTokenizerFast):
    """Byte-level BPE. Options: `add_prefix_space` (before the first word), `trim_offsets` (without spaces)."""

    vocab_files_names: ClassVar[dict[str, str]] = files("vocab.json", "merges.txt")
    special_defaults: ClassVar[Mapping[str, Token]] = FAIRSEQ_TOKENS
    options: ClassVar[Mapping[str, Any]] = {"add_prefix_space": False, "trim_offsets": True, "errors": "replace"}
    recipe: ClassVar[Recipe | None] = build.ROBERTA


class XLMRobertaTokenizer(PreTrainedTokenizerFast):
    """SentencePiece Unigram with RoBERTa's special tokens. Option: `add_prefix_space`."""

    vocab_files_names: ClassVar[dict[str, str]] = files("sentencepiece.bpe.model")
    special_defaults: ClassVar[Mapping[str, Token]] = FAIRSEQ_TOKENS
    options: ClassVar[Mapping[str, Any]] = {"add_prefix_space": True}
    recipe: ClassVar[Recipe | None] = build.XLM_ROBERTA


class CamembertTokenizer(PreTrainedTokenizerFast):
    """SentencePiece Unigram with RoBERTa's special tokens and some unused ones. Option: `add_prefix_space`."""

    vocab_files_names: ClassVar[dict[str, str]] = files("sentencepiece.bpe.model")
    special_defaults: ClassVar[Mapping[str, Token]] = FAIRSEQ_TOKENS
    options: ClassVar[Mapping[str, Any]] = {"add_prefix_space": True}
    recipe: ClassVar[Recipe | None] = build.CAMEMBERT


class AlbertTokenizer(PreTrainedTokenizerFast):
    """SentencePiece Unigram. Options: `do_lower_case`, `keep_accents`, `add_prefix_space`."""

    vocab_files_names: ClassVar[dict[str, str]] = files("spiece.model")
    special_defaults: ClassVar[Mapping[str, Token]] = {
        "bos_token": "[CLS]",
        "eos_token": "[SEP]",
        "unk_token": "<unk>",
        "sep_token": "[SEP]",
        "pad_token": "<pad>",
        "cls_token": "[CLS]",
        "mask_token": AddedToken("[MASK]", lstrip=True, special=True),
    }
    options: ClassVar[Mapping[str, Any]] = {"do_lower_case": True, "keep_accents": False, "add_prefix_space": True}
    recipe: ClassVar[Recipe | None] = build.ALBERT


class DebertaV2Tokenizer(PreTrainedTokenizerFast):
    """SentencePiece Unigram. Options: `do_lower_case`, `split_by_punct` (punctuation apart), `add_prefix_space`."""

    vocab_files_names: ClassVar[dict[str, str]] = files("spm.model")
    model_input_names: list[str] = ["input_ids", "attention_mask", "token_type_ids"]  # noqa: RUF012
    special_defaults: ClassVar[Mapping[str, Token]] = {"bos_token": "[CLS]", "eos_token": "[SEP]", **_BERT_TOKENS}
    options: ClassVar[Mapping[str, Any]] = {"do_lower_case": False, "split_by_punct": False, "add_prefix_space": True}
    recipe: ClassVar[Recipe | None] = build.DEBERTA_V2


_CAUSAL_OPTIONS = {"add_prefix_space": False, "add_bos_token": False, "add_eos_token": False}
_END_OF_TEXT = {"unk_token": "<|endoftext|>", "bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}


class GPT2Tokenizer(PreTrainedTokenizerFast):
    """Byte-level BPE. Options: `add_prefix_space`, `add_bos_token`, `add_eos_token`."""

    vocab_files_names: ClassVar[dict[str, str]] = files("vocab.json", "merges.txt")
    special_defaults: ClassVar[Mapping[str, Token]] = _END_OF_TEXT
    options: ClassVar[Mapping[str, Any]] = {**_CAUSAL_OPTIONS, "errors": "replace"}
    recipe: ClassVar[Recipe | None] = causal.GPT2


class CodeGenTokenizer(PreTrainedTokenizerFast):
    """GPT-2's, with offsets that keep spaces. Options: `add_prefix_space`, `add_bos_token`, `add_eos_token`."""

    vocab_files_names: ClassVar[dict[str, str]] = files("vocab.json", "merges.txt")
    special_defaults: ClassVar[Mapping[str, Token]] = _END_OF_TEXT
    options: ClassVar[Mapping[str, Any]] = _CAUSAL_OPTIONS
    recipe: ClassVar[Recipe | None] = causal.CODEGEN


class GPTNeoXTokenizer(PreTrainedTokenizerFast):
    """GPT-2's on composed characters. Options: `add_prefix_space`, `add_bos_token`, `add_eos_token`."""

    vocab_files_names: ClassVar[dict[str, str]] = files("vocab.json", "merges.txt")
    special_defaults: ClassVar[Mapping[str, Token]] = {**_END_OF_TEXT, "pad_token": "<|padding|>"}
    options: ClassVar[Mapping[str, Any]] = _CAUSAL_OPTIONS
    recipe: ClassVar[Recipe | None] = causal.GPT_NEOX


class Qwen2Tokenizer(PreTrainedTokenizerFast):
    """Byte-level BPE that takes digits one by one. Options: `add_prefix_space`, `add_bos_token`, `add_eos_token`."""

    vocab_files_names: ClassVar[dict[str, str]] = files("vocab.json", "merges.txt")
    special_defaults: ClassVar[Mapping[str, Token]] = {
        "unk_token": "<|endoftext|>",
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    }
    options: ClassVar[Mapping[str, Any]] = _CAUSAL_OPTIONS
    recipe: ClassVar[Recipe | None] = causal.QWEN2_RECIPE


class BloomTokenizer(PreTrainedTokenizerFast):
    """Byte-level BPE from a tokenizer.json."""

    special_defaults: ClassVar[Mapping[str, Token]] = {
        "unk_token": "<unk>",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
    }
    padding_side: str = "left"


class LlamaTokenizer(PreTrainedTokenizerFast):
    """SentencePiece BPE with byte fallback. Options: `add_prefix_space`, `add_bos_token`, `add_eos_token`."""

    vocab_files_names: ClassVar[dict[str, str]] = files("tokenizer.model")
    special_defaults: ClassVar[Mapping[str, Token]] = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    options: ClassVar[Mapping[str, Any]] = {**_CAUSAL_OPTIONS, "add_prefix_space": True, "add_bos_token": True}
    recipe: ClassVar[Recipe | None] = causal.LLAMA
    padding_side: str = "left"


class GemmaTokenizer(PreTrainedTokenizerFast):
    """SentencePiece BPE with byte fallback, no space added before texts. Options: `add_bos_token`, `add_eos_token`."""

    vocab_files_names: ClassVar[dict[str, str]] = files("tokenizer.model")
    special_defaults: ClassVar[Mapping[str, Token]] = {
        "unk_token": "<unk>",
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
        "mask_token": "<mask>",
    }
    options: ClassVar[Mapping[str, Any]] = {"add_bos_token": True, "add_eos_token": False}
    recipe: ClassVar[Recipe | None] = causal.GEMMA
    padding_side: str = "left"
