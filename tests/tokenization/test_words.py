"""Remembered words change the speed of a call, never its result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from formers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerFast, RobertaTokenizer
from formers.tokenization import words as module
from formers.tokenization.words import words_of

from .conftest import CORPUS, TEXTS

QUIET = settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
# Letters, contractions, punctuation, every kind of space and control, accents, Chinese, emoji, parts of special tokens.
PARTS = [*"aAbBzZ09", "the", "isn't", "I'll", "'s", "'", *".,!?-_#@", "##", " ", "  ", "\t", "\n", "\r", "\x0b", "\x1f"]
PARTS += ["\u00a0", "\u2003", "\u200b", "\ufeff", "\x00", "\u0301", "é", "É", "ß", "İ", "Σ", "ﬁ", "中", "한", "🙂", "—"]
PARTS += ["[", "]", "[MASK]", "<", ">", "<mask>", "</s>", "<eos>", "\ufffd", "e\u0301", "①", "１", "ा"]


@pytest.fixture(params=["bert", "cased", "roberta", "spaced", "generic", "minilm"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    """Tokenizers whose words are remembered."""
    if request.param == "spaced":
        folder = request.getfixturevalue("roberta_folder")
        loaded: Any = RobertaTokenizer.from_pretrained(folder, add_prefix_space=True)
    elif request.param == "cased":
        loaded = BertTokenizer.from_pretrained(request.getfixturevalue("cased_folder"))
    else:
        name = "minilm" if request.param == "minilm" else f"{request.param}_folder"
        loaded = AutoTokenizer.from_pretrained(request.getfixturevalue(name))
    assert loaded._engines.words(False) is not None
    return loaded


def plain(tokenizer: Any, text: str, **arguments: Any) -> Any:
    return tokenizer(text, return_token_type_ids=False, **arguments)["input_ids"]


@QUIET
@given(text=st.lists(st.sampled_from(PARTS), max_size=24).map("".join))
def test_the_ids_are_those_of_the_engine(tokenizer: Any, text: str) -> None:
    engine = tokenizer._engines.base
    expected = engine.encode(text).ids
    assert plain(tokenizer, text) == expected
    assert plain(tokenizer, text) == expected  # now from memory
    assert plain(tokenizer, [text, text]) == [expected, expected]
    bare = engine.encode(text, add_special_tokens=False).ids
    assert plain(tokenizer, text, add_special_tokens=False) == bare


@QUIET
@given(text=st.text(max_size=50))
def test_any_unicode(tokenizer: Any, text: str) -> None:
    assert plain(tokenizer, text) == tokenizer._engines.base.encode(text).ids


@QUIET
@given(
    text=st.lists(st.sampled_from(["the", "quick", "isn't", "zzz"]), max_size=12).map(" ".join),
    max_length=st.integers(2, 16),
    side=st.sampled_from(["left", "right"]),
    special=st.booleans(),
)
def test_truncation(tokenizer: Any, text: str, max_length: int, side: str, special: bool) -> None:
    tokenizer.truncation_side = side
    arguments = {"truncation": True, "max_length": max_length, "add_special_tokens": special}
    batch = tokenizer(text, return_token_type_ids=False, **arguments)
    assert batch["input_ids"] == batch.encodings[0].ids
    assert batch["attention_mask"] == batch.encodings[0].attention_mask


def test_texts_of_both_kinds_in_one_batch(tokenizer: Any) -> None:
    texts = [*TEXTS, "plain words only", "a [MASK] b <mask>", "x\u00a0y", ""]
    expected = [encoding.ids for encoding in tokenizer._engines.base.encode_batch(texts)]
    for _ in range(2):
        assert plain(tokenizer, texts) == expected
    assert [row.ids for row in tokenizer(texts).encodings] == expected


def test_new_tokens_are_seen(bert_folder: Path) -> None:
    tokenizer = BertTokenizer.from_pretrained(bert_folder)
    before = tokenizer("the quick NewToken")["input_ids"]
    tokenizer.add_tokens(["newtoken"])
    after = tokenizer("the quick NewToken")["input_ids"]
    assert len(after) < len(before)
    assert tokenizer._engines.words(False) is None  # any text may hold it, once it is lower-cased
    tokenizer = BertTokenizer.from_pretrained(bert_folder)
    tokenizer.add_tokens([AddedToken("qu", normalized=False)])
    assert tokenizer._engines.words(False) is not None
    assert tokenizer("the quick fox")["input_ids"] == tokenizer._engines.base.encode("the quick fox").ids


def test_a_changed_engine_is_asked(bert_folder: Path) -> None:
    tokenizer = BertTokenizer.from_pretrained(bert_folder)
    tokenizer("The Fox")
    tokenizer.backend_tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    assert tokenizer("The Fox")["input_ids"] == tokenizer.backend_tokenizer.encode("The Fox").ids


def test_special_tokens_that_are_to_be_split(bert_folder: Path) -> None:
    tokenizer = BertTokenizer.from_pretrained(bert_folder)
    text = "the [MASK] fox"
    assert tokenizer.mask_token_id in tokenizer(text)["input_ids"]
    assert tokenizer.mask_token_id not in tokenizer(text, split_special_tokens=True)["input_ids"]
    split = BertTokenizer.from_pretrained(bert_folder, split_special_tokens=True)
    assert split(text) == tokenizer(text, split_special_tokens=True)
    assert split(text, split_special_tokens=False) == tokenizer(text)


def test_memory_is_bounded(bert_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_CHARACTERS", 40)
    tokenizer = BertTokenizer.from_pretrained(bert_folder)
    words = tokenizer._engines.words(False)
    assert words is not None
    for text in [*CORPUS, *CORPUS]:
        assert tokenizer(text)["input_ids"] == tokenizer._engines.base.encode(text).ids
        kept = sum(map(len, words._known))
        assert kept <= 40 or set(words._known) <= set(text.split(" "))


def test_engines_whose_words_depend_on_each_other() -> None:
    engine = Tokenizer(models.BPE({"a": 0, "b": 1, "Ġ": 2}, []))
    assert words_of(engine) is None
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(use_regex=False)
    assert words_of(engine) is None
    engine.pre_tokenizer = pre_tokenizers.ByteLevel()
    assert words_of(engine) is not None
    engine.normalizer = normalizers.Replace(" ", "_")
    assert words_of(engine) is None
    engine.normalizer = normalizers.NFC()
    assert words_of(engine) is not None
    engine.model = models.BPE({"a": 0}, [], dropout=0.5)
    assert words_of(engine) is None  # no two calls give the same
    engine = Tokenizer(models.WordPiece({"[UNK]": 0}))
    engine.pre_tokenizer = pre_tokenizers.Whitespace()
    assert words_of(engine) is None


def test_many_kinds_of_added_tokens() -> None:
    engine = Tokenizer(models.WordPiece({"[UNK]": 0}))
    engine.normalizer, engine.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    engine.add_special_tokens(["[A]", "<b>", "{c}", "|d|"])
    assert words_of(engine) is not None
    engine.add_special_tokens(["e"])
    assert words_of(engine) is None
    assert PreTrainedTokenizerFast(tokenizer_object=engine)("e f")["input_ids"] == [engine.token_to_id("e"), 0]
