"""What a call cannot do it refuses, saying what to do instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from formers import AutoTokenizer, PreTrainedTokenizerFast
from formers.errors import InputError, UnsupportedError


@pytest.fixture
def tokenizer(bert_folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(bert_folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"padding": "long"}, "padding='long' is unknown.*'longest'"),
        ({"truncation": "first"}, "truncation='first' is unknown.*'only_first'"),
        ({"padding": True, "padding_side": "top"}, "padding_side='top' is not a side.*'right' or 'left'"),
        ({"return_tensors": "xx"}, "return_tensors='xx' is unknown.*'pt'"),
        ({"truncation": True, "max_length": -1}, "max_length=-1 is not a whole number.*at least 0"),
        ({"truncation": True, "max_length": 5.5}, "max_length=5.5 is not a whole number"),
        ({"truncation": True, "max_length": 8, "stride": -1}, "stride=-1"),
        ({"padding": True, "pad_to_multiple_of": 0}, "pad_to_multiple_of=0"),
        ({"truncation": True, "max_length": 1}, "max_length=1 leaves no room for the 2 special tokens"),
        ({"truncation": True, "max_length": 6, "stride": 4}, "stride=4 leaves no new tokens.*smaller stride"),
        ({"truncation": True, "max_length": 6, "stride": 9}, "stride=9 leaves no new tokens"),
        (
            {"truncation": True, "max_length": 10, "padding": "max_length", "pad_to_multiple_of": 8},
            "not a multiple of pad_to_multiple_of=8.*2 smaller",
        ),
        ({"truncation": "only_second", "max_length": 4}, "cannot be cut to max_length=4.*'longest_first'"),
    ],
)
def test_settings(tokenizer: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tokenizer("the quick brown fox jumps over the lazy dog", **arguments)


def test_a_strategy_that_cannot_shorten_enough(tokenizer: Any) -> None:
    with pytest.raises(InputError, match=r"cannot be cut.*truncation='only_first'.*longest_first"):
        tokenizer("one", "the quick brown fox jumps over the lazy dog", truncation="only_first", max_length=6)


@pytest.mark.parametrize("kind", ["tf", "jax", "mlx"])
def test_tensors_of_other_libraries(tokenizer: Any, kind: str) -> None:
    with pytest.raises(UnsupportedError, match=f"no '{kind}' tensors.*'np'"):
        tokenizer("text", return_tensors=kind)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None,), "neither `text` nor `text_target`"),
        ((5,), "`text` is of type int.*Pass a string"),
        (({"text": "a"},), "`text` is of type dict"),
        ((iter(["a"]),), "`text` is of type list_iterator"),
        ((["fine", None, "fine"],), "Text 1 of 3 .*type NoneType"),
        (([float("nan"), "a"],), "Text 0 of 2 .*type float"),
        (([["a", "b", "c"]],), "Text 0 of 1 .*a list of 3"),
        ((["half \ud83d of a pair"],), "surrogate"),
        ((["a", "b"], "c"), "`text_pair` one string"),
        ((["a", "b"], ["c"]), "`text` has 2 entries and `text_pair` 1"),
        ((["a", "b"], ["c", None]), "Text 1 of 2"),
    ],
)
def test_inputs(tokenizer: Any, arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tokenizer(*arguments)


def test_words(tokenizer: Any) -> None:
    with pytest.raises(InputError, match="is_split_into_words=True needs words"):
        tokenizer("not words", is_split_into_words=True)
    with pytest.raises(InputError, match=r"Text 1 of 2 .*not a list of words"):
        tokenizer([["two", "words"], "text"], is_split_into_words=True)


def test_rows_that_make_no_tensor(tokenizer: Any) -> None:
    with pytest.raises(InputError, match=r"'input_ids' have between 3 and .* tokens: .*padding=True"):
        tokenizer(["short", "the quick brown fox"], return_tensors="pt")
    with pytest.raises(ValueError, match="padding=True"):
        tokenizer(["short", "the quick brown fox"]).convert_to_tensors("pt")


def test_padding_without_a_padding_token(generic_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(generic_folder)
    tokenizer.pad_token = None
    with pytest.raises(InputError, match=r"has none\. .*pad_token = tokenizer\.eos_token"):
        tokenizer(["a", "b c"], padding=True)
    tokenizer.pad_token = tokenizer.eos_token
    assert tokenizer(["a", "b c d"], padding=True)["input_ids"][0][0] == tokenizer.eos_token_id


def test_an_unknown_token_outside_the_vocabulary(bert_folder: Path) -> None:
    with pytest.raises(InputError, match=r"cannot tokenize these texts: .*unknown token"):
        AutoTokenizer.from_pretrained(bert_folder, unk_token="<none>")("\u2603")


def test_a_padding_token_outside_the_vocabulary(generic_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(generic_folder)
    tokenizer.pad_token = "<nowhere>"
    for pad in (lambda: tokenizer(["a"], padding=True), lambda: tokenizer.pad({"input_ids": [[1]]})):
        with pytest.raises(InputError, match="'<nowhere>' is not in the vocabulary"):
            pad()


def test_an_unknown_argument(tokenizer: Any) -> None:
    with pytest.raises(TypeError, match="paddding"):
        tokenizer("text", paddding=True)


def test_encode_plus_takes_one_text(tokenizer: Any) -> None:
    with pytest.raises(InputError, match=r"encode_plus takes one text.*prepare_for_model"):
        tokenizer.encode_plus([1, 2, 3])
    with pytest.raises(InputError, match="batch_encode_plus takes a list"):
        tokenizer.batch_encode_plus("text")


def test_padding_to_nothing_warns(tokenizer: Any, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.warns(UserWarning, match=r"max_length=9 has no effect.*padding='max_length'"):
        tokenizer(["text"], padding=True, max_length=9, truncation=False)


def test_no_length_to_truncate_to(generic_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = AutoTokenizer.from_pretrained(generic_folder)
    assert tokenizer("a b c", truncation=True, padding="max_length") == tokenizer("a b c")
    assert "model_max_length" in caplog.text


def test_a_text_too_long_for_the_model_warns_once(tokenizer: Any, caplog: pytest.LogCaptureFixture) -> None:
    long = "a b c d e f g h i j k l m n o p q r s t u v w"
    for _ in range(3):
        tokenizer(long)
        tokenizer([long, "short"])
    assert caplog.text.count("the model takes 20") == 1
    assert caplog.text.count("WARNING") == 1
    silenced = AutoTokenizer.from_pretrained(tokenizer.name_or_path)
    silenced.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = True
    silenced(long)
    AutoTokenizer.from_pretrained(tokenizer.name_or_path)(long, verbose=False)
    assert caplog.text.count("WARNING") == 1


@pytest.mark.parametrize("ids", [[1, -100], "text", [1.5], [None], [[1], ["a"]]])
def test_what_cannot_be_decoded(tokenizer: Any, ids: Any) -> None:
    with pytest.raises(InputError, match=r"no token ids.*replace -100"):
        tokenizer.decode(ids)


def test_special_tokens(tokenizer: Any) -> None:
    with pytest.raises(InputError, match=r"'padd_token' is not the name of a special token.*pad_token"):
        tokenizer.add_special_tokens({"padd_token": "[PAD]"})
    with pytest.raises(InputError, match="pad_token=5 is not a token"):
        tokenizer.pad_token = 5
    with pytest.raises(InputError, match="7 is not a token"):
        tokenizer.add_tokens(["a", 7])
    with pytest.raises(InputError, match="is not a list"):
        tokenizer.add_special_tokens({"extra_special_tokens": "<a>"})
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        tokenizer.nothing  # noqa: B018


def test_a_tokenizer_from_nothing() -> None:
    with pytest.raises(InputError, match=r"tokenizer.json file or an engine"):
        PreTrainedTokenizerFast()
