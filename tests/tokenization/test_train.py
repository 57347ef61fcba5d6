"""Learning a vocabulary for the same kind of tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken

from formers import AutoTokenizer
from formers.errors import InputError

from .conftest import CORPUS, TEXTS


def batches() -> Any:
    for _ in range(3):
        yield CORPUS


@pytest.mark.parametrize("kind", ["bert", "roberta", "generic", "unigram"])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"new_special_tokens": ["<one>", AddedToken("<two>", lstrip=True)]},
        {"special_tokens_map": {"[CLS]": "[FIRST]", "</s>": "<end>", "<eos>": "<end>"}},
    ],
    ids=lambda value: "-".join(value) or "plain",
)
def test_as_the_reference(
    kind: str, arguments: dict[str, Any], request: pytest.FixtureRequest, reference: Any, tmp_path: Path
) -> None:
    if kind == "unigram":
        folder = unigram(request, tmp_path)
    else:
        folder = request.getfixturevalue(f"{kind}_folder")
    size = {"bert": 200, "unigram": 90}.get(kind, 330)
    ours, theirs = (
        auto.from_pretrained(folder).train_new_from_iterator(batches(), size, show_progress=False, **arguments)
        for auto in (AutoTokenizer, reference)
    )
    renames = "special_tokens_map" in arguments
    if kind in ("roberta", "generic") and not renames:
        # The engine's trainers for WordPiece and Unigram do not give the same twice.
        assert ours.get_vocab() == theirs.get_vocab()
        assert dict(ours(TEXTS, TEXTS[::-1])) == dict(theirs(TEXTS, TEXTS[::-1]))
    elif not renames:
        assert abs(len(ours) - len(theirs)) <= 3
        assert set(ours.added_tokens_encoder) == set(theirs.added_tokens_encoder)
    assert ours.special_tokens_map == theirs.special_tokens_map
    if kind != "unigram":
        assert ours.extra_special_tokens == theirs.extra_special_tokens
    if renames:
        old = set(arguments["special_tokens_map"])
        assert not old & set(ours.get_vocab())
        assert ours.convert_ids_to_tokens(ours("the")["input_ids"][-1]) not in old
    assert type(ours) is type(AutoTokenizer.from_pretrained(folder))
    assert ours.decode(ours("the quick brown fox")["input_ids"], skip_special_tokens=True) == "the quick brown fox"
    assert ours("the")["input_ids"][-1] == ours.convert_tokens_to_ids(ours.sep_token or ours.eos_token)
    ours.save_pretrained(tmp_path / "saved")
    assert dict(AutoTokenizer.from_pretrained(tmp_path / "saved")(TEXTS)) == dict(ours(TEXTS))


def unigram(request: pytest.FixtureRequest, folder: Path) -> Path:
    model = request.getfixturevalue("sentencepiece_model")()
    (folder / "sentencepiece.bpe.model").write_bytes(model.read_bytes())
    (folder / "config.json").write_text('{"model_type": "xlm-roberta"}')
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "XLMRobertaTokenizer"}')
    return folder


def test_the_first_tokenizer_stays_as_it_is(bert_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(bert_folder)
    before = dict(tokenizer(TEXTS))
    tokenizer.train_new_from_iterator(CORPUS, 100, length=len(CORPUS), show_progress=False)
    assert dict(tokenizer(TEXTS)) == before


def test_settings_that_the_trainer_refuses(bert_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(bert_folder)
    with pytest.raises(InputError, match="trainer refuses"):
        tokenizer.train_new_from_iterator(CORPUS, "many")
