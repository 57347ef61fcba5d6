"""Text to token ids and back, on the `tokenizers` engine. Imports neither torch nor NumPy until tensors are wanted.

The classes of the model families are loaded when first used, as `formers.registry` lists them.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tokenizers import AddedToken

from formers.registry import TOKENIZERS
from formers.tokenization.auto import AutoTokenizer
from formers.tokenization.base import PreTrainedTokenizerBase
from formers.tokenization.batch import BatchEncoding, CharSpan, TokenSpan
from formers.tokenization.fork import keep_forks_quiet
from formers.tokenization.tokenizer import PreTrainedTokenizerFast

# The reference keeps tokenizers with and without the engine apart; here there is one kind under all of the names.
PreTrainedTokenizer = PreTrainedTokenizerFast

__all__ = [
    "AddedToken",
    "AutoTokenizer",
    "BatchEncoding",
    "CharSpan",
    "PreTrainedTokenizer",
    "PreTrainedTokenizerBase",
    "PreTrainedTokenizerFast",
    "TokenSpan",
]


def __getattr__(name: str) -> Any:
    family = name.removesuffix("Fast")
    if family not in TOKENIZERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{TOKENIZERS[family]}"), family)
    globals()[name] = value
    return value


keep_forks_quiet()
