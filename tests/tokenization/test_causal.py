"""Tokenizers of decoder families from vocabulary files, and SentencePiece's BPE, against the reference's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st

import formers
from formers.errors import ConfigError, InputError

from .conftest import TEXTS

NAMES = ["GPT2Tokenizer", "CodeGenTokenizer", "GPTNeoXTokenizer", "Qwen2Tokenizer"]
MORE = [*TEXTS, "x  = [1, 22,  333]\n\n\tif a:\n", "I'LL don't\r\n\r\n", "<|endoftext|> x <|endoftext|>", "   "]
LLAMA = {"byte_fallback": True, "normalization_rule_name": "identity", "remove_extra_whitespaces": False}
GEMMA = {
    **LLAMA,
    "add_dummy_prefix": False,
    "pad_id": 0,
    "eos_id": 1,
    "bos_id": 2,
    "unk_id": 3,
    "pad_piece": "<pad>",
    "eos_piece": "<eos>",
    "bos_piece": "<bos>",
    "user_defined_symbols": ["<mask>", "\n", "▁▁"],
    "control_symbols": ["<start_of_turn>"],
}


@pytest.fixture(scope="module")
def byte_folder(roberta_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """vocab.json and merges.txt alone, with the special tokens of these families."""
    folder = tmp_path_factory.mktemp("bytes")
    vocab = json.loads((roberta_folder / "vocab.json").read_text())
    size = len(vocab)
    vocab.update({"<|endoftext|>": size, "<|padding|>": size + 1})
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text((roberta_folder / "merges.txt").read_text())
    return folder


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("options", [{}, {"add_prefix_space": True}, {"bos_token": "<s>", "add_bos_token": True}])
def test_vocabulary_files(byte_folder: Path, name: str, options: dict[str, Any], tmp_path: Path) -> None:
    ours = getattr(formers, name).from_pretrained(byte_folder, **options)
    theirs = getattr(transformers, name).from_pretrained(byte_folder, **options)
    assert ours.special_tokens_map == theirs.special_tokens_map
    assert (ours.padding_side, ours.add_bos_token) == (theirs.padding_side, theirs.add_bos_token)
    for text in MORE:
        assert ours(text)["input_ids"] == theirs(text)["input_ids"]
        assert (
            ours(text, return_offsets_mapping=True)["offset_mapping"]
            == theirs(text, return_offsets_mapping=True)["offset_mapping"]
        )
    ours.save_pretrained(tmp_path)
    # The reference forgets the bos token of this family when it loads it again, also from files of its own.
    forgets = name == "GPTNeoXTokenizer" and "add_bos_token" in options
    for library in (formers,) if forgets else (formers, transformers):
        again = library.AutoTokenizer.from_pretrained(tmp_path)
        assert [again(text)["input_ids"] for text in MORE] == [ours(text)["input_ids"] for text in MORE]
    assert getattr(formers, name + "Fast") is getattr(formers, name)


@pytest.mark.parametrize(("name", "settings"), [("LlamaTokenizer", LLAMA), ("GemmaTokenizer", GEMMA)])
def test_sentencepiece_bpe(
    sentencepiece_model: Callable[..., Path], tmp_path: Path, name: str, settings: dict[str, Any]
) -> None:
    source = sentencepiece_model(model_type="bpe", vocab_size=440, **settings)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "tokenizer.model").write_bytes(source.read_bytes())
    ours, theirs = (getattr(library, name).from_pretrained(folder) for library in (formers, transformers))
    for text in MORE:
        ids = ours(text, add_special_tokens=False)["input_ids"]
        assert ids == theirs(text, add_special_tokens=False)["input_ids"]
        assert ours.decode(ids) == theirs.decode(ids)
    assert ours("a")["input_ids"][0] == ours.bos_token_id
    assert ours.padding_side == "left"
    ours.save_pretrained(tmp_path / "saved")
    assert (tmp_path / "saved" / "tokenizer.model").read_bytes() == source.read_bytes()
    for library in (formers, transformers):
        again = library.AutoTokenizer.from_pretrained(tmp_path / "saved")
        assert [again(text)["input_ids"] for text in MORE] == [ours(text)["input_ids"] for text in MORE]
    bare = getattr(formers, name).from_pretrained(folder, add_bos_token=False, add_eos_token=True)
    assert bare("a")["input_ids"] == [*ours("a")["input_ids"][1:], ours.eos_token_id]


def test_ids_are_sentencepieces_own(sentencepiece_model: Callable[..., Path], tmp_path: Path) -> None:
    import sentencepiece

    path = sentencepiece_model(model_type="bpe", vocab_size=440, **LLAMA)
    (tmp_path / "tokenizer.model").write_bytes(path.read_bytes())
    ours = formers.LlamaTokenizer.from_pretrained(tmp_path, add_bos_token=False)
    own = sentencepiece.SentencePieceProcessor(model_file=str(path))

    @given(st.text(st.characters(codec="utf-8", exclude_characters="▁</s>unk\0"), min_size=1))
    def check(text: str) -> None:
        text = "a" + text  # before a first space sentencepiece adds another one
        ids = ours(text)["input_ids"]
        assert ids == own.encode(text)
        assert ours.decode(ids) == text

    check()


def test_kinds_do_not_mix(sentencepiece_model: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece_model().read_bytes())
    with pytest.raises(InputError, match=r"this one gives scores.*a SentencePiece file of a BPE model"):
        formers.LlamaTokenizer.from_pretrained(tmp_path)
    (tmp_path / "spiece.model").write_bytes(sentencepiece_model(model_type="bpe").read_bytes())
    with pytest.raises(InputError, match="A Unigram vocabulary is a list"):
        formers.AlbertTokenizer.from_pretrained(tmp_path)


def test_merges_without_their_tokens(byte_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text('{"a": 0, "<|endoftext|>": 1}')
    (tmp_path / "merges.txt").write_text("a b\n")
    with pytest.raises(ConfigError, match="do not fit together"):
        formers.GPT2Tokenizer.from_pretrained(tmp_path)


def test_bloom_is_padded_on_the_left(generic_folder: Path) -> None:
    tokenizer = formers.BloomTokenizerFast.from_pretrained(generic_folder, pad_token="<pad>")
    assert tokenizer.padding_side == "left"
