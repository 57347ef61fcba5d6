"""Small tokenizers, here and in the reference implementation."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

import formers

TEXTS = [
    "the quick brown fox jumps over the lazy dog",
    "a transformer is simple",
    "unbelievable, isn't it? yes, unbelievably so!",
    "short",
]


class Pair(NamedTuple):
    """One tokenizer twice."""

    ours: Any
    reference: Any


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small BERT vocabulary."""
    engine = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    engine.normalizer = normalizers.BertNormalizer(lowercase=True)
    engine.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=61, special_tokens=special, show_progress=False)
    engine.train_from_iterator(TEXTS * 3, trainer)
    vocab = sorted(engine.get_vocab().items(), key=lambda item: item[1])
    folder = tmp_path_factory.mktemp("tokenizer")
    (folder / "vocab.txt").write_text("".join(token + "\n" for token, _ in vocab), encoding="utf-8")
    return folder


@pytest.fixture(params=["right", "left"])
def pair(request: pytest.FixtureRequest, vocabulary: Path) -> Pair:
    """BERT's tokenizer, padding on each side."""
    return both(vocabulary, padding_side=request.param)


@pytest.fixture
def tokenizer(vocabulary: Path) -> Any:
    """Our tokenizer, padding on the right."""
    return both(vocabulary).ours


def both(folder: Path, **settings: Any) -> Pair:
    """The same tokenizer here and in the reference."""
    return Pair(
        formers.BertTokenizer.from_pretrained(folder, **settings),
        transformers.BertTokenizer.from_pretrained(folder, **settings),
    )
