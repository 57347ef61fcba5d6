"""Saved tokenizers load again, here and in the reference; so do copies."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import transformers

from formers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerFast
from formers.errors import ConfigError, InputError, UnsupportedError

from .conftest import TEXTS


def changed(tokenizer: Any) -> Any:
    """With everything that a file must keep."""
    tokenizer.add_tokens(["addedword"])
    tokenizer.add_special_tokens({"extra_special_tokens": ["<extra>"], "pad_token": "<newpad>"})
    tokenizer.padding_side = "left"
    tokenizer.truncation_side = "left"
    tokenizer.model_max_length = 15
    tokenizer.chat_template = "{{ messages }}"
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    return tokenizer


def alike(first: Any, second: Any) -> None:
    texts = [*TEXTS, "an addedword and <extra>"]
    arguments = {"padding": True, "truncation": True}
    assert dict(first(texts, **arguments)) == dict(second(texts, **arguments))
    assert dict(first(texts, texts[::-1])) == dict(second(texts, texts[::-1]))
    assert first.special_tokens_map == second.special_tokens_map
    assert first.extra_special_tokens == second.extra_special_tokens
    assert first.added_tokens_encoder == second.added_tokens_encoder
    for name in ("padding_side", "truncation_side", "model_max_length", "chat_template", "model_input_names"):
        assert getattr(first, name) == getattr(second, name), name


@pytest.mark.parametrize("kind", ["bert", "roberta", "generic"])
@pytest.mark.parametrize("change", [False, True])
def test_round_trips(kind: str, change: bool, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder = request.getfixturevalue(f"{kind}_folder")
    ours = AutoTokenizer.from_pretrained(folder)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    if change:
        ours, theirs = changed(ours), changed(theirs)
    paths = ours.save_pretrained(tmp_path / "ours")
    assert sorted(Path(path).name for path in paths) == sorted(path.name for path in (tmp_path / "ours").iterdir())
    alike(AutoTokenizer.from_pretrained(tmp_path / "ours"), ours)
    alike(transformers.AutoTokenizer.from_pretrained(tmp_path / "ours"), ours)
    theirs.save_pretrained(tmp_path / "theirs")
    # The reference does not save all of its attributes, so what it loads again is what counts.
    alike(
        AutoTokenizer.from_pretrained(tmp_path / "theirs"),
        transformers.AutoTokenizer.from_pretrained(tmp_path / "theirs"),
    )


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_vocabulary_files_alone(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    ours = AutoTokenizer.from_pretrained(request.getfixturevalue(f"{kind}_folder"))
    ours.add_tokens(["addedword"])
    ours.save_pretrained(tmp_path, legacy_format=True)
    assert not (tmp_path / "tokenizer.json").exists()
    assert json.loads((tmp_path / "added_tokens.json").read_text()) == {"addedword": len(ours) - 1}
    alike(AutoTokenizer.from_pretrained(tmp_path), ours)
    whole = tmp_path / "whole"
    ours.save_pretrained(whole)
    # The file holds the engine itself; from_slow goes back to the vocabulary.
    alike(AutoTokenizer.from_pretrained(whole, from_slow=True), ours)


def test_names_of_files(bert_folder: Path, tmp_path: Path) -> None:
    tokenizer = BertTokenizer.from_pretrained(bert_folder)
    paths = tokenizer.save_pretrained(tmp_path, filename_prefix="my")
    assert {Path(path).name for path in paths} == {
        "my-tokenizer_config.json",
        "my-special_tokens_map.json",
        "my-vocab.txt",
        "my-tokenizer.json",
    }
    assert [Path(path).name for path in tokenizer.save_vocabulary(tmp_path)] == ["vocab.txt"]
    assert (tmp_path / "vocab.txt").read_text() == (bert_folder / "vocab.txt").read_text()
    only = tokenizer.save_pretrained(tmp_path / "new" / "folder", legacy_format=False)
    assert not any(path.endswith("vocab.txt") for path in only)


def test_casing_is_saved(cased_folder: Path, tmp_path: Path) -> None:
    ours = BertTokenizer.from_pretrained(cased_folder)
    ours.save_pretrained(tmp_path)
    theirs = transformers.BertTokenizer.from_pretrained(tmp_path)
    assert theirs(TEXTS)["input_ids"] == ours(TEXTS)["input_ids"]


def test_what_cannot_be_saved(bert_folder: Path, generic_folder: Path, tmp_path: Path) -> None:
    tokenizer = BertTokenizer.from_pretrained(bert_folder)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(InputError, match="is a file"):
        tokenizer.save_pretrained(file)
    with pytest.raises(InputError, match="leaves the folder"):
        tokenizer.save_pretrained(tmp_path, filename_prefix="../up")
    with pytest.raises(InputError, match="no folder"):
        tokenizer.save_vocabulary(tmp_path / "nothing")
    generic = AutoTokenizer.from_pretrained(generic_folder)
    with pytest.raises(UnsupportedError, match="no vocabulary file"):
        generic.save_vocabulary(tmp_path)
    with pytest.raises(UnsupportedError, match="legacy_format"):
        generic.save_pretrained(tmp_path, legacy_format=True)
    tokenizer.chat_template = {"../../evil": "x"}
    with pytest.raises(ConfigError, match="cannot name the file"):
        tokenizer.save_pretrained(tmp_path)


def test_copies(bert_folder: Path) -> None:
    tokenizer = changed(BertTokenizer.from_pretrained(bert_folder))
    tokenizer("text", truncation=True, max_length=5)
    for twin in (copy.deepcopy(tokenizer), pickle.loads(pickle.dumps(tokenizer))):  # noqa: S301
        alike(twin, tokenizer)
        twin.add_tokens(["onlyintwin"])
        twin.pad_token = "[PAD]"
        assert "onlyintwin" not in tokenizer.get_vocab()
        assert tokenizer.pad_token == "<newpad>"


def test_the_same_tokenizer_is_always_saved_alike(bert_folder: Path) -> None:
    tokenizer = BertTokenizer.from_pretrained(bert_folder)
    before = pickle.dumps(tokenizer)
    tokenizer(TEXTS, truncation=True, max_length=5, padding=True)
    tokenizer(TEXTS)  # which warns of long texts
    # Caches of data sets go by this.
    assert pickle.dumps(tokenizer) == before


def test_pushing(bert_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from formers.hub import upload

    sent: list[tuple[str, list[str]]] = []

    def pretend(folder: Any, repo_id: str, **_: Any) -> str:
        sent.append((repo_id, sorted(path.name for path in Path(folder).iterdir())))
        return "address"

    monkeypatch.setattr(upload, "upload_folder", pretend)
    tokenizer = BertTokenizer.from_pretrained(bert_folder)
    assert tokenizer.push_to_hub("me/mine") == "address"
    tokenizer.save_pretrained(tmp_path / "named", push_to_hub=True)
    files = ["special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"]
    assert sent == [("me/mine", files), ("named", files)]


def test_the_class_that_others_know(generic_folder: Path, tmp_path: Path) -> None:
    AutoTokenizer.from_pretrained(generic_folder).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == PreTrainedTokenizerFast.__name__ == "PreTrainedTokenizerFast"
    assert "name_or_path" not in config
