"""Tiny random models, made with the reference implementation and loaded by both."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import transformers

TEXT = (
    "the a of and to in is was it that he she they we you I on for with as at by from not have be this are or an but "
    "good bad great awful movie film story plot acting scene long short dull funny brilliant boring watch seen never "
    "always Berlin London Paris Wolfgang Sarah Maria lives works likes city river company bank play game team music "
    "science sports politics example question answer where who what when does live work name my your his her very"
)
WORDS = TEXT.split()
ENDS = "s ed ing er ly est un re pre able ness ment tion ##s ##ed ##ing ##er ##ly ##est ##able ##ness ##ment"
PIECES = ENDS.split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
MOST_TOKENS = 48

Make = Callable[..., Path]


def _letters() -> list[str]:
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)] + [chr(c) for c in range(ord("A"), ord("Z") + 1)]
    return [*letters, *("##" + letter for letter in letters), *".,!?'-:;0123456789"]


def write_tokenizer(folder: Path) -> None:
    """A cased WordPiece tokenizer that knows some words, pieces and all letters."""
    vocabulary = list(dict.fromkeys([*SPECIAL, *WORDS, *PIECES, *_letters()]))
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": False, "model_max_length": MOST_TOKENS}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    transformers.BertTokenizer.from_pretrained(folder).save_pretrained(folder)


@pytest.fixture(scope="session")
def make_bert(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """make_bert("ForTokenClassification", labels=[...], **config): the folder of a tiny random BERT, made once."""
    made: dict[str, Path] = {}

    def make(head: str, labels: list[str] | None = None, **config: Any) -> Path:
        key = repr((head, labels, sorted(config.items())))
        if key not in made:
            folder = tmp_path_factory.mktemp("bert")
            write_tokenizer(folder)
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
            names = labels or ["NEGATIVE", "POSITIVE", "NEUTRAL"]
            settings = transformers.BertConfig(
                vocab_size=len(tokenizer),
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=4,
                intermediate_size=64,
                max_position_embeddings=MOST_TOKENS,
                # Larger than usual, so that random answers differ from text to text.
                initializer_range=0.4,
                id2label=dict(enumerate(names)),
                label2id={name: index for index, name in enumerate(names)},
                **config,
            )
            torch.manual_seed(len(made))
            getattr(transformers, "Bert" + head)(settings).save_pretrained(folder)
            made[key] = folder
        return made[key]

    return make


def write_byte_level_tokenizer(folder: Path) -> None:
    """A byte-level BPE tokenizer as RoBERTa has it, trained on the words."""
    bpe = tokenizers.ByteLevelBPETokenizer()
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    corpus = [" ".join(WORDS[start:] + WORDS[:start]) for start in range(len(WORDS))]
    bpe.train_from_iterator(corpus, vocab_size=400, min_frequency=1, special_tokens=specials)
    bpe.save_model(str(folder))
    settings = {"tokenizer_class": "RobertaTokenizer", "model_max_length": MOST_TOKENS}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    transformers.RobertaTokenizer.from_pretrained(folder).save_pretrained(folder)


@pytest.fixture(scope="session")
def make_roberta(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """make_roberta("ForMaskedLM", labels=[...]): the folder of a tiny random RoBERTa."""

    def make(head: str, labels: list[str] | None = None) -> Path:
        folder = tmp_path_factory.mktemp("roberta")
        write_byte_level_tokenizer(folder)
        settings = transformers.RobertaConfig(
            vocab_size=len(transformers.AutoTokenizer.from_pretrained(folder)),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=MOST_TOKENS + 2,
            type_vocab_size=1,
            initializer_range=0.4,
            id2label=dict(enumerate(labels or ["A", "B"])),
        )
        torch.manual_seed(0)
        getattr(transformers, "Roberta" + head)(settings).save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def reference() -> Callable[..., Any]:
    """The reference's pipeline on the CPU."""

    def make(task: str, folder: Path, **arguments: Any) -> Any:
        return transformers.pipeline(task, model=str(folder), device="cpu", **arguments)

    return make


def check_same(mine: Any, theirs: Any, where: str = "answer") -> None:
    """Same structure and texts, same numbers to float32 accuracy."""
    if isinstance(theirs, dict):
        assert isinstance(mine, dict), where
        assert mine.keys() == theirs.keys(), where
        for key, value in theirs.items():
            check_same(mine[key], value, f"{where}[{key!r}]")
    elif isinstance(theirs, list) and theirs and isinstance(theirs[0], float) and isinstance(mine, list):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5, err_msg=where)
    elif isinstance(theirs, (list, tuple)):
        assert isinstance(mine, list), where
        assert len(mine) == len(theirs), where
        for index, value in enumerate(theirs):
            check_same(mine[index], value, f"{where}[{index}]")
    elif isinstance(theirs, torch.Tensor):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
    elif hasattr(theirs, "dtype") or isinstance(theirs, float):
        assert isinstance(mine, float), where
        assert mine == pytest.approx(float(theirs), rel=1e-4, abs=1e-5), where
    else:
        assert type(mine) is type(theirs), where
        assert mine == theirs, where


@pytest.fixture(scope="session")
def same() -> Callable[[Any, Any], None]:
    """same(mine, theirs) fails unless both answers agree."""
    return check_same


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Texts of many lengths, some with unknown signs, one empty."""
    made = [
        "a good movie",
        "Sarah lives in Berlin and works for the bank.",
        "",
        "It was the best of times, it was the worst of times",
        "bad",
        "Wolfgang never watched a duller film: the acting was awful — unbelievable!",
        "ça va? 日本 great",
    ]
    return made + [" ".join(WORDS[start : start + 1 + start % 13]) for start in range(0, 60, 2)]
