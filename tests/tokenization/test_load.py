"""Loading: from tokenizer.json, from vocabulary files, with the settings that the files and the caller give."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import transformers
from tokenizers import AddedToken, Tokenizer

import formers
from formers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerFast, RobertaTokenizer
from formers.errors import ConfigError, InputError, ModelNotFoundError, UnsupportedError

from .conftest import TEXTS

FAMILIES = ("Albert", "Bert", "Camembert", "DebertaV2", "DistilBert", "Electra", "MPNet", "Roberta", "XLMRoberta")


def ids(tokenizer: Any) -> Any:
    return tokenizer(TEXTS)["input_ids"]


def write(folder: Path, name: str, value: Any) -> None:
    (folder / name).write_text(json.dumps(value), encoding="utf-8")


@pytest.mark.parametrize("family", FAMILIES)
def test_names_of_the_families(family: str) -> None:
    cls = getattr(formers, f"{family}Tokenizer")
    assert getattr(formers, f"{family}TokenizerFast") is cls
    assert cls.__name__ == f"{family}Tokenizer"
    reference = getattr(transformers, f"{family}Tokenizer")
    assert cls.model_input_names == reference.model_input_names
    assert (
        cls.vocab_files_names.items()
        >= {name: file for name, file in reference.vocab_files_names.items() if name != "merges_file"}.items()
    )


@pytest.mark.parametrize("family", ["Bert", "DistilBert", "Electra", "MPNet"])
def test_wordpiece_from_vocab_txt(bert_folder: Path, family: str) -> None:
    ours = getattr(formers, f"{family}Tokenizer").from_pretrained(bert_folder)
    theirs = getattr(transformers, f"{family}Tokenizer").from_pretrained(bert_folder)
    assert dict(ours(TEXTS, TEXTS[::-1])) == dict(theirs(TEXTS, TEXTS[::-1]))
    assert ours.get_vocab() == theirs.get_vocab()
    for name in ("do_lower_case",):
        assert getattr(ours, name) == getattr(theirs, name)


@pytest.mark.parametrize(
    "options",
    [
        {"do_lower_case": False},
        {"do_lower_case": True, "strip_accents": False},
        {"tokenize_chinese_chars": False},
        {"pad_token": "<padding>"},
        {"model_max_length": 9, "padding_side": "left", "truncation_side": "left"},
        {"additional_special_tokens": ["<one>", "the"]},
        {"model_input_names": ["input_ids"]},
    ],
    ids=lambda value: "-".join(value),
)
def test_options(bert_folder: Path, options: dict[str, Any]) -> None:
    arguments = {"padding": True, "truncation": True}
    for cls, reference in ((BertTokenizer, transformers.BertTokenizer), (AutoTokenizer, transformers.AutoTokenizer)):
        ours, theirs = cls.from_pretrained(bert_folder, **options), reference.from_pretrained(bert_folder, **options)
        assert dict(ours(TEXTS, **arguments)) == dict(theirs(TEXTS, **arguments))


@pytest.mark.parametrize(
    "options", [{}, {"add_prefix_space": True}, {"trim_offsets": False}], ids=lambda v: "-".join(v)
)
def test_byte_level_from_vocab_json(roberta_folder: Path, options: dict[str, Any]) -> None:
    ours = RobertaTokenizer.from_pretrained(roberta_folder, **options)
    theirs = transformers.RobertaTokenizer.from_pretrained(roberta_folder, **options)
    arguments = {
        "return_offsets_mapping": True,
        "truncation": True,
        "max_length": 12,
        "return_overflowing_tokens": True,
    }
    for texts in ((TEXTS,), (TEXTS, TEXTS[::-1])):
        assert dict(ours(*texts, **arguments)) == dict(theirs(*texts, **arguments))
    assert ours.get_vocab() == theirs.get_vocab()


def test_the_mask_takes_the_space_before_it(roberta_folder: Path, tmp_path: Path) -> None:
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(roberta_folder / name, tmp_path)
    tokenizer = RobertaTokenizer.from_pretrained(tmp_path)
    ids = tokenizer("a <mask>", add_special_tokens=False)["input_ids"]
    assert ids == [tokenizer.convert_tokens_to_ids("a"), tokenizer.mask_token_id]


def test_options_go_over_tokenizer_json(bert_folder: Path, roberta_folder: Path, tmp_path: Path) -> None:
    bert = BertTokenizer.from_pretrained(bert_folder)
    bert.save_pretrained(tmp_path / "bert", legacy_format=False)
    cased = BertTokenizer.from_pretrained(tmp_path / "bert", do_lower_case=False)
    assert not cased.do_lower_case
    assert ids(cased) == ids(BertTokenizer.from_pretrained(bert_folder, do_lower_case=False))
    roberta = RobertaTokenizer.from_pretrained(roberta_folder)
    roberta.save_pretrained(tmp_path / "roberta", legacy_format=False)
    spaced = RobertaTokenizer.from_pretrained(tmp_path / "roberta", add_prefix_space=True, trim_offsets=False)
    expected = RobertaTokenizer.from_pretrained(roberta_folder, add_prefix_space=True, trim_offsets=False)
    arguments = {"return_offsets_mapping": True}
    assert dict(spaced(TEXTS, **arguments)) == dict(expected(TEXTS, **arguments))


def test_casing_without_a_word_about_it(cased_folder: Path, bert_folder: Path, tmp_path: Path) -> None:
    cased = BertTokenizer.from_pretrained(cased_folder)
    assert not cased.do_lower_case
    assert ids(cased) == ids(transformers.BertTokenizer.from_pretrained(cased_folder, do_lower_case=False))
    assert BertTokenizer.from_pretrained(cased_folder, do_lower_case=True).do_lower_case
    shutil.copy(bert_folder / "vocab.txt", tmp_path)
    assert BertTokenizer.from_pretrained(tmp_path).do_lower_case
    # A tokenizer.json says itself whether it lower-cases.
    cased.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert ids(BertTokenizer.from_pretrained(tmp_path)) == ids(cased)


def test_from_objects_and_paths(bert_folder: Path, roberta_folder: Path, tmp_path: Path) -> None:
    expected = ids(BertTokenizer.from_pretrained(bert_folder))
    vocab = BertTokenizer.from_pretrained(bert_folder).get_vocab()
    assert ids(BertTokenizer(str(bert_folder / "vocab.txt"))) == expected
    assert ids(BertTokenizer(vocab_file=bert_folder / "vocab.txt")) == expected
    assert ids(BertTokenizer(vocab)) == expected
    assert ids(BertTokenizer.from_pretrained(bert_folder / "vocab.txt")) == expected
    tokenizer_file = tmp_path / "tokenizer.json"
    BertTokenizer(vocab).backend_tokenizer.save(str(tokenizer_file))
    assert ids(BertTokenizer(tokenizer_file=tokenizer_file)) == expected
    assert ids(PreTrainedTokenizerFast.from_pretrained(tokenizer_file)) == expected
    assert ids(AutoTokenizer.from_pretrained(tokenizer_file)) == expected
    engine = Tokenizer.from_file(str(tokenizer_file))
    wrapped = PreTrainedTokenizerFast(tokenizer_object=engine, pad_token="[PAD]")
    engine.enable_truncation(2)
    engine.add_tokens(["quick"])
    assert ids(wrapped) == expected
    files = roberta_folder / "vocab.json", roberta_folder / "merges.txt"
    byte_level = ids(RobertaTokenizer.from_pretrained(roberta_folder))
    assert ids(RobertaTokenizer(*files)) == byte_level
    merges = [tuple(line.split(" ")) for line in files[1].read_text().splitlines() if not line.startswith("#version")]
    assert ids(RobertaTokenizer(json.loads(files[0].read_text()), merges)) == byte_level


def test_defaults_that_tokenizer_json_asks_for(bert_folder: Path, tmp_path: Path) -> None:
    engine = BertTokenizer.from_pretrained(bert_folder).backend_tokenizer
    engine.enable_truncation(4, direction="left")
    engine.enable_padding(length=9, direction="left", pad_token="[PAD]", pad_id=0)
    engine.save(str(tmp_path / "tokenizer.json"))
    ours = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path)
    for name in ("padding_side", "truncation_side", "pad_token"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ids(ours) == ids(theirs)  # but nothing is cut or padded unless a call says so
    ours.save_pretrained(tmp_path / "saved")
    saved = Tokenizer.from_file(str(tmp_path / "saved" / "tokenizer.json"))
    assert saved.truncation["max_length"] == 4
    assert saved.padding["length"] == 9


def test_tokens_in_the_files_of_older_versions(bert_folder: Path, tmp_path: Path) -> None:
    shutil.copy(bert_folder / "vocab.txt", tmp_path)
    size = len((tmp_path / "vocab.txt").read_text().splitlines())
    write(tmp_path, "added_tokens.json", {"[ENT]": size + 1, "plainadded": size})
    special = {"mask_token": {"content": "[MASK]", "lstrip": True}, "additional_special_tokens": ["[ENT]"]}
    write(tmp_path, "special_tokens_map.json", special)
    ours, theirs = BertTokenizer.from_pretrained(tmp_path), transformers.BertTokenizer.from_pretrained(tmp_path)
    text = "a [MASK] PlainAdded [ENT] plainadded"
    assert ours(text)["input_ids"] == theirs(text)["input_ids"]
    assert ours.added_tokens_encoder == theirs.added_tokens_encoder
    assert ours.extra_special_tokens == theirs.extra_special_tokens == ["[ENT]"]
    special["additional_special_tokens"] = [{"content": "[ENT]", "normalized": False}]
    write(tmp_path, "special_tokens_map.json", special)
    described = BertTokenizer.from_pretrained(tmp_path)
    assert described.extra_special_tokens == ["[ENT]"]
    assert described(text)["input_ids"] == theirs(text)["input_ids"]
    assert described.decode(described("[ENT]")["input_ids"], skip_special_tokens=True) == ""
    write(tmp_path, "added_tokens.json", {"x": "first"})
    with pytest.raises(ConfigError, match="gives 'x' the id 'first'"):
        BertTokenizer.from_pretrained(tmp_path)


def test_tokens_in_the_configuration(bert_folder: Path, tmp_path: Path) -> None:
    shutil.copy(bert_folder / "vocab.txt", tmp_path)
    size = len((tmp_path / "vocab.txt").read_text().splitlines())
    config = {
        "added_tokens_decoder": {
            str(size + 1): {"content": "<late>", "special": True},
            str(size): {"content": "<early>", "lstrip": True, "normalized": True},
        },
        "mask_token": {"__type": "AddedToken", "content": "[MASK]", "lstrip": True, "special": True},
        "pad_token": {"content": "[PAD]", "__type": "AddedToken"},
        "unknown_setting": [1, 2],
    }
    write(tmp_path, "tokenizer_config.json", config)
    ours, theirs = BertTokenizer.from_pretrained(tmp_path), transformers.BertTokenizer.from_pretrained(tmp_path)
    text = "a <early> b <late> [MASK]"
    assert ours(text)["input_ids"] == theirs(text)["input_ids"]
    assert ours.init_kwargs["unknown_setting"] == [1, 2]
    assert ours.pad_token == "[PAD]"


def test_paths_in_a_configuration_are_not_followed(bert_folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")
    folder = tmp_path / "model"
    folder.mkdir()
    shutil.copy(bert_folder / "vocab.txt", folder)
    write(
        folder, "tokenizer_config.json", {"vocab_file": str(secret), "tokenizer_file": str(secret), "vocab": {"a": 0}}
    )
    assert len(BertTokenizer.from_pretrained(folder)) > 100


def test_chat_templates(bert_folder: Path, tmp_path: Path) -> None:
    shutil.copy(bert_folder / "vocab.txt", tmp_path)
    write(tmp_path, "tokenizer_config.json", {"chat_template": "old"})
    assert BertTokenizer.from_pretrained(tmp_path).chat_template == "old"
    write(tmp_path, "tokenizer_config.json", {"chat_template": [{"name": "default", "template": "x"}]})
    assert BertTokenizer.from_pretrained(tmp_path).chat_template == {"default": "x"}
    (tmp_path / "chat_template.jinja").write_text("{{ new }}")
    assert BertTokenizer.from_pretrained(tmp_path).chat_template == "{{ new }}"
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "tools.jinja").write_text("{{ tools }}")
    tokenizer = BertTokenizer.from_pretrained(tmp_path)
    assert tokenizer.chat_template == {"default": "{{ new }}", "tools": "{{ tools }}"}
    tokenizer.save_pretrained(tmp_path / "saved")
    assert BertTokenizer.from_pretrained(tmp_path / "saved").chat_template == tokenizer.chat_template
    assert transformers.BertTokenizer.from_pretrained(tmp_path / "saved").chat_template == tokenizer.chat_template
    assert BertTokenizer.from_pretrained(bert_folder, chat_template="mine").chat_template == "mine"


def test_auto_finds_the_class(bert_folder: Path, generic_folder: Path, tmp_path: Path) -> None:
    assert type(AutoTokenizer.from_pretrained(bert_folder)) is BertTokenizer
    assert type(AutoTokenizer.from_pretrained(generic_folder)) is PreTrainedTokenizerFast
    shutil.copy(bert_folder / "vocab.txt", tmp_path)
    write(tmp_path, "config.json", {"model_type": "electra"})
    assert type(AutoTokenizer.from_pretrained(tmp_path)) is formers.ElectraTokenizer
    write(tmp_path, "config.json", {"model_type": "electra", "tokenizer_class": "BertTokenizerFast"})
    assert type(AutoTokenizer.from_pretrained(tmp_path)) is BertTokenizer
    write(tmp_path, "tokenizer_config.json", {"tokenizer_class": "DistilBertTokenizerFast"})
    assert type(AutoTokenizer.from_pretrained(tmp_path)) is formers.DistilBertTokenizer
    assert type(AutoTokenizer.from_pretrained(tmp_path, tokenizer_type="mpnet")) is formers.MPNetTokenizer
    shutil.copy(generic_folder / "tokenizer.json", tmp_path)
    for name in ("TokenizersBackend", "SomethingElseTokenizer"):
        write(tmp_path, "tokenizer_config.json", {"tokenizer_class": name})
        assert type(AutoTokenizer.from_pretrained(tmp_path)) is PreTrainedTokenizerFast


def test_auto_takes_the_model_type_of_a_configuration(bert_folder: Path, tmp_path: Path) -> None:
    class Config:
        model_type = "electra"

    shutil.copy(bert_folder / "vocab.txt", tmp_path)
    assert type(AutoTokenizer.from_pretrained(tmp_path, config=Config())) is formers.ElectraTokenizer


def test_what_cannot_be_loaded(bert_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"no tokenizer.json, and neither .* names a tokenizer.*BertTokenizer"):
        AutoTokenizer.from_pretrained(tmp_path)
    with pytest.raises(ModelNotFoundError, match=r"no tokenizer.json and no vocab.txt, which BertTokenizer needs"):
        BertTokenizer.from_pretrained(tmp_path)
    with pytest.raises(ModelNotFoundError, match=r"no tokenizer.json, which PreTrainedTokenizerFast needs"):
        PreTrainedTokenizerFast.from_pretrained(bert_folder)
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(ModelNotFoundError, match=r"no tokenizer.json and no merges.txt"):
        RobertaTokenizer.from_pretrained(tmp_path)
    write(tmp_path, "tokenizer_config.json", {"tokenizer_class": "XLNetTokenizer"})
    with pytest.raises(UnsupportedError, match=r"'XLNetTokenizer', which formers does not have.*save_pretrained"):
        AutoTokenizer.from_pretrained(tmp_path)
    with pytest.raises(InputError, match="'nothing' is no model type"):
        AutoTokenizer.from_pretrained(bert_folder, tokenizer_type="nothing")
    with pytest.raises(InputError, match=r"AutoTokenizer\.from_pretrained"):
        AutoTokenizer()
    with pytest.raises(UnsupportedError, match="HTTPS_PROXY"):
        BertTokenizer.from_pretrained(bert_folder, proxies={"https": "x"})
    (tmp_path / "tokenizer.json").write_text("{broken")
    with pytest.raises(ConfigError, match=r"tokenizer.json cannot be read"):
        PreTrainedTokenizerFast.from_pretrained(tmp_path)
    with pytest.raises(InputError, match="no vocabulary file"):
        BertTokenizer(vocab_file=tmp_path / "nothing.txt")
    with pytest.raises(InputError, match=r"no file .*tokenizer_file"):
        BertTokenizer(tokenizer_file=tmp_path / "nothing.json")
    with pytest.raises(InputError, match="BertTokenizer needs a vocabulary"):
        BertTokenizer()
    with pytest.raises(InputError, match="needs merges"):
        RobertaTokenizer({"a": 0})
    with pytest.raises(InputError, match="padding_side='up'"):
        BertTokenizer.from_pretrained(bert_folder, padding_side="up")
    (tmp_path / "damaged.json").write_text("[1]")
    with pytest.raises(ConfigError, match="object of tokens and ids"):
        RobertaTokenizer(tmp_path / "damaged.json", [])
    (tmp_path / "merges.txt").write_text("a b c\n")
    with pytest.raises(ConfigError, match="cannot be read"):
        RobertaTokenizer(tmp_path / "vocab.json", tmp_path / "merges.txt")


def test_arguments_without_an_effect_warn(bert_folder: Path) -> None:
    with pytest.warns(UserWarning, match="no setting 'do_lowercase'.*Did you mean do_lower_case?"):
        BertTokenizer.from_pretrained(bert_folder, do_lowercase=True)
    with pytest.warns(UserWarning, match="no setting 'add_bos_token'"):
        BertTokenizer.from_pretrained(bert_folder, add_bos_token=True)
    with pytest.warns(UserWarning, match="no setting 'nothing_like_it': it has no effect"):
        BertTokenizer(bert_folder / "vocab.txt", nothing_like_it=1)


@pytest.mark.filterwarnings("error")
def test_arguments_of_published_scripts_do_not_warn(bert_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(
        str(bert_folder),
        use_fast=True,
        trust_remote_code=True,
        revision="main",
        token=None,
        cache_dir=None,
        mask_token=AddedToken("[MASK]", lstrip=True),
        model_max_length=12,
    )
    assert tokenizer.model_max_length == 12
    assert BertTokenizer(bert_folder / "vocab.txt", max_len=13).model_max_length == 13


def test_every_name_is_one_class() -> None:
    assert formers.PreTrainedTokenizer is PreTrainedTokenizerFast
    assert isinstance(BertTokenizer({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2}), formers.PreTrainedTokenizerBase)
