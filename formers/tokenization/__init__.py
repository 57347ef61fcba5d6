"""Text to token ids and back, on the `tokenizers` engine. Imports neither torch nor NumPy until tensors are wanted."""

from __future__ import annotations

from tokenizers import AddedToken

from formers.tokenization.auto import AutoTokenizer
from formers.tokenization.base import PreTrainedTokenizerBase
from formers.tokenization.batch import BatchEncoding, CharSpan, TokenSpan
from formers.tokenization.families import (
    AlbertTokenizer,
    BertTokenizer,
    BloomTokenizer,
    CamembertTokenizer,
    CodeGenTokenizer,
    DebertaV2Tokenizer,
    DistilBertTokenizer,
    ElectraTokenizer,
    GemmaTokenizer,
    GPT2Tokenizer,
    GPTNeoXTokenizer,
    LlamaTokenizer,
    MPNetTokenizer,
    Qwen2Tokenizer,
    RobertaTokenizer,
    XLMRobertaTokenizer,
)
from formers.tokenization.fork import keep_forks_quiet
from formers.tokenization.tokenizer import PreTrainedTokenizerFast

# The reference keeps tokenizers with and without the engine apart; here there is one kind under all of the names.
PreTrainedTokenizer = PreTrainedTokenizerFast
AlbertTokenizerFast = AlbertTokenizer
BertTokenizerFast = BertTokenizer
CamembertTokenizerFast = CamembertTokenizer
DebertaV2TokenizerFast = DebertaV2Tokenizer
DistilBertTokenizerFast = DistilBertTokenizer
ElectraTokenizerFast = ElectraTokenizer
MPNetTokenizerFast = MPNetTokenizer
Qwen2TokenizerFast = Qwen2Tokenizer
LlamaTokenizerFast = LlamaTokenizer
GemmaTokenizerFast = GemmaTokenizer
GPTNeoXTokenizerFast = GPTNeoXTokenizer
GPT2TokenizerFast = GPT2Tokenizer
CodeGenTokenizerFast = CodeGenTokenizer
BloomTokenizerFast = BloomTokenizer
RobertaTokenizerFast = RobertaTokenizer
XLMRobertaTokenizerFast = XLMRobertaTokenizer

__all__ = [
    "AddedToken",
    "AlbertTokenizer",
    "AlbertTokenizerFast",
    "AutoTokenizer",
    "BatchEncoding",
    "BertTokenizer",
    "BertTokenizerFast",
    "BloomTokenizer",
    "BloomTokenizerFast",
    "CamembertTokenizer",
    "CamembertTokenizerFast",
    "CharSpan",
    "CodeGenTokenizer",
    "CodeGenTokenizerFast",
    "DebertaV2Tokenizer",
    "DebertaV2TokenizerFast",
    "DistilBertTokenizer",
    "DistilBertTokenizerFast",
    "ElectraTokenizer",
    "ElectraTokenizerFast",
    "GPT2Tokenizer",
    "GPT2TokenizerFast",
    "GPTNeoXTokenizer",
    "GPTNeoXTokenizerFast",
    "GemmaTokenizer",
    "GemmaTokenizerFast",
    "LlamaTokenizer",
    "LlamaTokenizerFast",
    "MPNetTokenizer",
    "MPNetTokenizerFast",
    "PreTrainedTokenizer",
    "PreTrainedTokenizerBase",
    "PreTrainedTokenizerFast",
    "Qwen2Tokenizer",
    "Qwen2TokenizerFast",
    "RobertaTokenizer",
    "RobertaTokenizerFast",
    "TokenSpan",
    "XLMRobertaTokenizer",
    "XLMRobertaTokenizerFast",
]

keep_forks_quiet()
