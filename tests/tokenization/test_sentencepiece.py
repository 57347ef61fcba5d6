"""SentencePiece files, read without their own package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers

import formers
from formers.errors import ConfigError, UnsupportedError
from formers.tokenization.sentencepiece import read

from .conftest import TEXTS

FILES = {
    "Albert": "spiece.model",
    "Camembert": "sentencepiece.bpe.model",
    "DebertaV2": "spm.model",
    "XLMRoberta": "sentencepiece.bpe.model",
}
PIECES: dict[str, dict[str, Any]] = {
    "Albert": {
        "pad_id": 0,
        "unk_id": 1,
        "bos_id": -1,
        "eos_id": -1,
        "pad_piece": "<pad>",
        "control_symbols": ["[CLS]", "[SEP]"],
        "user_defined_symbols": ["(", ")"],
    },
    "Camembert": {"unk_id": 0, "bos_id": 1, "eos_id": 2},
    "DebertaV2": {
        "pad_id": 0,
        "bos_id": 1,
        "eos_id": 2,
        "unk_id": 3,
        "pad_piece": "[PAD]",
        "bos_piece": "[CLS]",
        "eos_piece": "[SEP]",
        "unk_piece": "[UNK]",
    },
    "XLMRoberta": {"unk_id": 0, "bos_id": 1, "eos_id": 2},
}
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "Albert": [{}, {"do_lower_case": False}, {"keep_accents": True}],
    "Camembert": [{}],
    "DebertaV2": [{}, {"do_lower_case": True}, {"split_by_punct": True}],
    "XLMRoberta": [{}, {"add_prefix_space": False}],
}


def test_pieces(sentencepiece_model: Callable[..., Path]) -> None:
    import sentencepiece

    path = sentencepiece_model(user_defined_symbols=["<user>"], control_symbols=["<control>"])
    model, processor = read(path), sentencepiece.SentencePieceProcessor(model_file=str(path))
    size = processor.get_piece_size()
    assert model.pieces == [
        (processor.id_to_piece(index), pytest.approx(processor.get_score(index))) for index in range(size)
    ]
    assert model.unk_id == processor.unk_id()
    assert model.control == ["<s>", "</s>", "<control>"]
    assert model.user_defined == ["<user>"]
    assert len(model.charsmap) > 1000


@pytest.mark.parametrize(
    ("family", "options"), [(family, options) for family, every in OPTIONS.items() for options in every]
)
def test_families(
    family: str, options: dict[str, Any], sentencepiece_model: Callable[..., Path], tmp_path: Path
) -> None:
    model = sentencepiece_model(**PIECES[family])
    (tmp_path / FILES[family]).write_bytes(model.read_bytes())
    ours = getattr(formers, f"{family}Tokenizer").from_pretrained(tmp_path, **options)
    theirs = getattr(transformers, f"{family}Tokenizer").from_pretrained(tmp_path, **options)
    texts = [text for text in TEXTS if "mask" not in text]
    arguments = {"return_offsets_mapping": True}
    assert dict(ours(texts, texts[::-1], **arguments)) == dict(theirs(texts, texts[::-1], **arguments))
    rows = ours(texts)["input_ids"]
    assert [ours.decode(row) for row in rows] == [theirs.decode(row) for row in rows]
    assert ours.get_vocab() == theirs.get_vocab()
    assert ours.mask_token_id == theirs.mask_token_id

    files = [Path(path).name for path in ours.save_pretrained(tmp_path / "saved")]
    assert FILES[family] in files
    for auto in (formers.AutoTokenizer, transformers.AutoTokenizer):
        again = auto.from_pretrained(tmp_path / "saved")
        assert dict(again(texts)) == dict(ours(texts))
    assert dict(formers.AutoTokenizer.from_pretrained(tmp_path / "saved", from_slow=True)(texts)) == dict(ours(texts))


def test_a_file_of_its_own(sentencepiece_model: Callable[..., Path]) -> None:
    path = sentencepiece_model()
    assert len(formers.XLMRobertaTokenizer(path)) == len(formers.XLMRobertaTokenizer.from_pretrained(path))


def test_a_vocabulary_in_memory() -> None:
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁a", -1.0), ("b", -2.0), ("<mask>", 0.0)]
    ours, theirs = formers.XLMRobertaTokenizer(pieces), transformers.XLMRobertaTokenizer(pieces)
    assert ours("a ab b c")["input_ids"] == theirs("a ab b c")["input_ids"]
    with pytest.raises(ValueError, match=r"list of \(token, score\)"):
        formers.XLMRobertaTokenizer({"a": 0})
    with pytest.raises(ValueError, match="maps tokens to ids"):
        formers.BertTokenizer(pieces)
    with pytest.raises(ConfigError, match="lacks the unknown token '<no>'"):
        formers.XLMRobertaTokenizer(pieces, unk_token="<no>")


def test_other_kinds_of_models(sentencepiece_model: Callable[..., Path]) -> None:
    with pytest.raises(UnsupportedError, match=r"of words or characters.*tokenizer.json"):
        read(sentencepiece_model(model_type="char"))


def test_damaged_files(sentencepiece_model: Callable[..., Path], tmp_path: Path) -> None:
    data = sentencepiece_model().read_bytes()
    path = tmp_path / "damaged.model"
    for damaged in (b"", b"\xff" * 50, b"plain text, no message", data[: len(data) // 2], b"\x0a\xff\xff\xff\xff\x0f"):
        path.write_bytes(damaged)
        with pytest.raises(ConfigError, match="not a SentencePiece model"):
            read(path)
