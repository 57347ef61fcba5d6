"""Vocabulary, added tokens and special tokens."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken

from formers import AutoTokenizer

NAMES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")


@pytest.fixture(params=["bert_folder", "roberta_folder", "generic_folder"])
def fresh(request: pytest.FixtureRequest, reference: Any) -> tuple[Any, Any]:
    """A pair of tokenizers of one's own."""
    folder = request.getfixturevalue(request.param)
    return AutoTokenizer.from_pretrained(folder), reference.from_pretrained(folder)


def alike(ours: Any, theirs: Any) -> None:
    for name in NAMES:
        assert getattr(ours, f"{name}_token") == getattr(theirs, f"{name}_token"), name
        assert getattr(ours, f"{name}_token_id") == getattr(theirs, f"{name}_token_id"), name
    for name in (
        "all_special_tokens",
        "all_special_ids",
        "special_tokens_map",
        "extra_special_tokens",
        "extra_special_tokens_ids",
        "vocab_size",
        "added_tokens_encoder",
        "padding_side",
        "truncation_side",
        "model_input_names",
        "model_max_length",
        "pad_token_type_id",
        "is_fast",
        "max_len_single_sentence",
        "max_len_sentences_pair",
    ):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert len(ours) == len(theirs)
    assert ours.get_vocab() == ours.vocab == theirs.get_vocab()
    assert ours.get_added_vocab() == theirs.get_added_vocab()
    assert {index: repr(token) for index, token in ours.added_tokens_decoder.items()} == {
        index: repr(token) for index, token in theirs.added_tokens_decoder.items()
    }


def test_as_the_reference(both: tuple[Any, Any]) -> None:
    alike(*both)
    assert bool(both[0])
    assert both[0].num_special_tokens_to_add() == both[1].num_special_tokens_to_add()
    assert both[0].num_special_tokens_to_add(pair=True) == both[1].num_special_tokens_to_add(pair=True)


def test_adding_tokens(fresh: tuple[Any, Any]) -> None:
    text = "some newone and <special> and NewOne then stripped ."
    for tokens, special in (
        (["newone", "the"], False),
        ("single", False),
        ([AddedToken("stripped", lstrip=True, rstrip=True)], False),
        (["<special>"], True),
        (["newone"], False),
        ([], False),
    ):
        counts = {tokenizer.add_tokens(tokens, special_tokens=special) for tokenizer in fresh}
        assert len(counts) == 1
        alike(*fresh)
        ours, theirs = (tokenizer(text, return_offsets_mapping=True) for tokenizer in fresh)
        assert dict(ours) == dict(theirs)
        assert fresh[0].decode(ours["input_ids"], skip_special_tokens=True) == fresh[1].decode(
            theirs["input_ids"], skip_special_tokens=True
        )


def test_naming_special_tokens(fresh: tuple[Any, Any]) -> None:
    for tokens in (
        {"pad_token": "<p>", "cls_token": AddedToken("<c>", lstrip=True)},
        {"extra_special_tokens": ["<a>", AddedToken("<b>", rstrip=True)]},
        {"additional_special_tokens": ["<d>"]},
        {},
    ):
        assert len({tokenizer.add_special_tokens(dict(tokens)) for tokenizer in fresh}) == 1
        alike(*fresh)
        ours, theirs = (tokenizer("x <a> y <b> z <c> <d> <p>")["input_ids"] for tokenizer in fresh)
        assert ours == theirs
    added = {"extra_special_tokens": ["<d>", "<e>"]}
    assert len({tokenizer.add_special_tokens(dict(added), False) for tokenizer in fresh}) == 1
    alike(*fresh)
    assert fresh[0].additional_special_tokens == ["<d>", "<e>"]
    assert fresh[0].additional_special_tokens_ids == fresh[0].extra_special_tokens_ids


def test_setting_attributes(fresh: tuple[Any, Any]) -> None:
    for tokenizer in fresh:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.sep_token
        tokenizer.mask_token_id = 5
        tokenizer.bos_token = None
        tokenizer.sep_token = AddedToken("<added>")
        tokenizer.padding_side = "left"
        tokenizer.model_max_length = 77
    alike(*fresh)
    for tokenizer in fresh:
        tokenizer.extra_special_tokens = ["a"]
    alike(*fresh)


def test_tokens_as_they_were_given(roberta_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(roberta_folder)
    assert tokenizer.special_tokens_map_extended["mask_token"].lstrip
    assert tokenizer.special_tokens_map_extended["bos_token"] == "<s>"
    assert [str(token) for token in tokenizer.all_special_tokens_extended] == tokenizer.all_special_tokens


def test_tokens_of_one_model(bert_folder: Path, reference: Any) -> None:
    given = {"extra_special_tokens": {"image_token": "<image>", "audio_token": "<audio>"}}
    ours, theirs = AutoTokenizer.from_pretrained(bert_folder, **given), reference.from_pretrained(bert_folder, **given)
    alike(ours, theirs)
    assert ours.image_token == theirs.image_token == "<image>"
    assert ours.audio_token_id == theirs.audio_token_id
    assert ours.special_tokens_map["image_token"] == "<image>"


def test_special_tokens_around_ids(both: tuple[Any, Any]) -> None:
    ours, theirs = both
    first, second = ([9, 8, 7], [6, 5])
    text = theirs("the quick", "brown", return_token_type_ids=True, return_special_tokens_mask=True)
    parts = [theirs(part, add_special_tokens=False)["input_ids"] for part in ("the quick", "brown")]
    assert ours.build_inputs_with_special_tokens(*parts) == text["input_ids"]
    assert ours.create_token_type_ids_from_sequences(*parts) == text["token_type_ids"]
    assert ours.get_special_tokens_mask(*parts) == text["special_tokens_mask"]
    single = ours.build_inputs_with_special_tokens(first)
    assert len(single) == 3 + ours.num_special_tokens_to_add()
    assert ours.get_special_tokens_mask(single, already_has_special_tokens=True) == theirs.get_special_tokens_mask(
        single, already_has_special_tokens=True
    )
    with pytest.raises(ValueError, match="Leave out token_ids_1"):
        ours.get_special_tokens_mask(first, second, already_has_special_tokens=True)


@pytest.mark.parametrize("pair", [None, "dog"])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"add_special_tokens": False},
        {"truncation": True, "max_length": 7},
        {"truncation": "only_first", "max_length": 9, "padding": "max_length"},
        {"padding": "max_length", "max_length": 20, "padding_side": "left", "return_special_tokens_mask": True},
        {"return_token_type_ids": True, "return_attention_mask": False},
    ],
    ids=lambda value: "-".join(map(str, value)) or "plain",
)
@pytest.mark.parametrize("side", ["right", "left"])
def test_inputs_from_ids(both: tuple[Any, Any], pair: str | None, arguments: dict[str, Any], side: str) -> None:
    tokenizer = both[0]
    tokenizer.truncation_side = side
    texts = ["the quick brown fox jumps", pair]
    ids = [None if text is None else tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    if pair is not None and arguments.get("truncation") is True:
        # Of an odd number of tokens the engine and the reference's algorithm for ids do not remove the same ones.
        arguments = {**arguments, "truncation": "only_first"}
    assert dict(tokenizer.prepare_for_model(*ids, **arguments)) == dict(tokenizer(*texts, **arguments))


def test_ids_cut_off(bert_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(bert_folder)
    cut = tokenizer.prepare_for_model(
        [10, 11, 12, 13, 14],
        truncation=True,
        max_length=5,
        stride=1,
        return_overflowing_tokens=True,
        return_length=True,
    )
    assert cut["input_ids"] == [2, 10, 11, 12, 3]
    assert cut["overflowing_tokens"] == [12, 13, 14]
    assert cut["num_truncated_tokens"] == 2
    assert cut["length"] == 5
    assert tokenizer.prepare_for_model([10], return_tensors="pt", prepend_batch_axis=True)["input_ids"].shape == (1, 3)
    assert tokenizer.truncate_sequences([1, 2, 3], [4, 5, 6, 7], 3) == ([1, 2], [4, 5], [])
    assert tokenizer.truncate_sequences([1, 2, 3], [4, 5], 1, "only_second", stride=1) == ([1, 2, 3], [4], [4, 5])
    tokenizer.truncation_side = "left"
    assert tokenizer.truncate_sequences([1, 2, 3], None, 1) == ([2, 3], None, [1])
    with pytest.raises(ValueError, match="remove 5 tokens from a sequence of 3"):
        tokenizer.truncate_sequences([1, 2, 3], None, 5)
    with pytest.raises(ValueError, match="needs a second sequence"):
        tokenizer.truncate_sequences([1, 2, 3], None, 1, "only_second")
    with pytest.raises(ValueError, match="gives no overflowing tokens"):
        tokenizer.prepare_for_model([1, 2], [3], truncation=True, max_length=4, return_overflowing_tokens=True)


def test_bos_and_eos_on_demand(generic_folder: Path, reference: Any) -> None:
    given = {"bos_token": "<eos>", "add_bos_token": True, "add_eos_token": True}
    ours, theirs = (
        AutoTokenizer.from_pretrained(generic_folder, **given),
        reference.from_pretrained(generic_folder, **given),
    )
    for tokenizer in (ours, theirs):
        assert tokenizer.add_bos_token
    assert dict(ours("a b", "c")) == dict(theirs("a b", "c"))
    for tokenizer in (ours, theirs):
        tokenizer.add_bos_token = False
    assert dict(ours("a b", "c")) == dict(theirs("a b", "c"))
    for tokenizer in (ours, theirs):
        tokenizer.add_eos_token = False
    assert dict(ours("a b", "c")) == dict(theirs("a b", "c"))


def test_changes_to_the_engine_count(bert_folder: Path) -> None:
    from tokenizers import processors

    tokenizer = AutoTokenizer.from_pretrained(bert_folder)
    tokenizer("text", truncation=True, max_length=4)
    engine = tokenizer.backend_tokenizer
    assert engine is tokenizer.backend_tokenizer
    engine.post_processor = processors.TemplateProcessing(single="$A:1 [SEP]:1", special_tokens=[("[SEP]", 3)])
    engine.enable_truncation(2)
    engine.enable_padding(length=99)
    assert tokenizer("a b c d")["input_ids"][-1] == 3
    assert len(tokenizer("a b c d")["input_ids"]) == 5
    assert tokenizer("a b c d")["token_type_ids"] == [1] * 5
    assert len(tokenizer("a b c d", truncation=True, max_length=4)["input_ids"]) == 4
    engine.add_tokens(["addedlater"])
    assert len(tokenizer("addedlater", truncation=True, max_length=4)["input_ids"]) == 2
    tokenizer.add_tokens(["addedtoo"])
    assert tokenizer.backend_tokenizer is engine
    assert engine.token_to_id("addedtoo") == tokenizer("addedtoo")["input_ids"][0]


def test_ten_thousand_added_tokens(bert_folder: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(bert_folder)
    tokens = [f"added{index}" for index in range(10_000)]
    assert tokenizer.add_tokens(tokens) == 10_000
    tokenizer.save_pretrained(tmp_path)
    start = time.process_time()
    twin = AutoTokenizer.from_pretrained(tmp_path)
    assert time.process_time() - start < 5  # ten times what it takes; an engine that adds one by one takes minutes
    assert twin.get_vocab() == tokenizer.get_vocab()
    ids = twin("added17 text added9999 added4")["input_ids"]
    assert ids == tokenizer("added17 text added9999 added4")["input_ids"]
    assert ids == twin("added17 text added9999 added4", truncation=True, max_length=19)["input_ids"]


def test_the_prefix_of_tokens_that_continue_a_word(bert_folder: Path, roberta_folder: Path) -> None:
    assert AutoTokenizer.from_pretrained(bert_folder).continuing_subword_prefix == "##"
    assert AutoTokenizer.from_pretrained(roberta_folder).continuing_subword_prefix is None


def test_representation(bert_folder: Path) -> None:
    text = repr(AutoTokenizer.from_pretrained(bert_folder))
    assert text.startswith("BertTokenizer(name_or_path=")
    assert "model_max_length=20" in text
    assert "'cls_token': '[CLS]'" in text
