"""Encoder–decoders whose tokenizers the reference has engines for: T5, Pegasus, BART, Blenderbot, mBART, NLLB."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

import formers
from formers.errors import InputError
from formers.tokenization import languages

from .conftest import TEXTS

T5 = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
FAIRSEQ = {"unk_id": 0, "bos_id": 1, "eos_id": 2}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "T5Tokenizer": ("spiece.model", T5),
    "PegasusTokenizer": ("spiece.model", T5),
    "MBartTokenizer": ("sentencepiece.bpe.model", FAIRSEQ),
    "MBart50Tokenizer": ("sentencepiece.bpe.model", FAIRSEQ),
    "NllbTokenizer": ("sentencepiece.bpe.model", {**FAIRSEQ, "model_type": "bpe", "vocab_size": 300}),
}
NORMALIZERS = ["nmt_nfkc", "identity", "nfkc_cf"]
SIGNS = [
    "</s>",
    "<pad>",
    "<unk>",
    "<extra_id_1>",
    "<mask>",
    "<mask_1>",
    "<unk_5>",
    "en_XX",
    "<user>",
    "  ",
    "▁",
    "ｆ",
    "①",
]
ANY = st.lists(st.one_of(st.text(st.characters(codec="utf-8"), max_size=12), st.sampled_from(SIGNS + TEXTS))).map(
    "".join
)


@pytest.fixture(scope="module")
def folders(sentencepiece_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    made: dict[tuple[str, str], Path] = {}

    def folder(name: str, rules: str = "nmt_nfkc") -> Path:
        if (name, rules) not in made:
            file, arguments = MODELS[name]
            made[name, rules] = tmp_path_factory.mktemp(name)
            model = sentencepiece_model(
                normalization_rule_name=rules, user_defined_symbols=["<user>"], **{"vocab_size": 150, **arguments}
            )
            (made[name, rules] / file).write_bytes(model.read_bytes())
        return made[name, rules]

    return folder


def _both(name: str, folder: Path, **options: Any) -> tuple[Any, Any]:
    return (
        getattr(formers, name).from_pretrained(folder, **options),
        getattr(transformers, name).from_pretrained(folder, **options),
    )


@pytest.mark.parametrize("rules", NORMALIZERS)
@pytest.mark.parametrize("name", ["T5Tokenizer", "PegasusTokenizer", "MBart50Tokenizer", "NllbTokenizer"])
def test_ids_and_texts(folders: Callable[..., Path], name: str, rules: str) -> None:
    ours, theirs = _both(name, folders(name, rules))
    # The reference does not add the languages of NLLB where a folder has nothing but the SentencePiece file.
    framed = name != "NllbTokenizer"

    @settings(max_examples=60)
    @given(ANY)
    def check(text: str) -> None:
        text = text if framed else text.replace("<mask>", "")
        ids = ours(text, add_special_tokens=framed)["input_ids"]
        assert ids == theirs(text, add_special_tokens=framed)["input_ids"]
        assert ours.decode(ids) == theirs.decode(ids)
        assert ours.decode(ids, skip_special_tokens=True) == theirs.decode(ids, skip_special_tokens=True)

    check()
    if framed:
        assert ours("a b", "c")["input_ids"] == theirs("a b", "c")["input_ids"]
        assert len(ours) == len(theirs)
        assert ours.special_tokens_map == {k: v for k, v in theirs.special_tokens_map.items() if isinstance(v, str)}


@pytest.mark.parametrize("rules", NORMALIZERS)
def test_mbart_keeps_the_rules_of_its_file(folders: Callable[..., Path], rules: str) -> None:
    # The reference drops them, so that the oracle is SentencePiece, but for the special tokens and unknown characters.
    import sentencepiece

    folder = folders("MBartTokenizer", rules)
    ours, theirs = _both("MBartTokenizer", folder)
    own = sentencepiece.SentencePieceProcessor(model_file=str(folder / "sentencepiece.bpe.model"))
    for text in ["the quick brown fox", "Ｔｈｅ ｑｕｉｃｋ ﬁｌｍ  was", " naïve café — ½", "  trailing  "]:
        assert ours.tokenize(text) == own.encode(text, out_type=str)
    plain = "he said 'don't' and we're going to new york."
    assert ours(plain)["input_ids"] == theirs(plain)["input_ids"]
    assert ours(plain)["input_ids"][-2:] == [ours.eos_token_id, ours.lang_code_to_id["en_XX"]]


@pytest.mark.parametrize("name", MODELS)
def test_save_and_load(folders: Callable[..., Path], name: str, tmp_path: Path) -> None:
    ours = getattr(formers, name).from_pretrained(folders(name))
    written = {Path(path).name for path in ours.save_pretrained(tmp_path)}
    assert {"tokenizer.json", "tokenizer_config.json", MODELS[name][0]} <= written
    texts = ["the quick brown fox", "a </s> b", "Numbers 1,234.56 and 2024"]
    expected = [ours(text)["input_ids"] for text in texts]
    for library in (formers, transformers):
        again = library.AutoTokenizer.from_pretrained(tmp_path)
        assert [again(text)["input_ids"] for text in texts] == expected
    again = formers.AutoTokenizer.from_pretrained(tmp_path, from_slow=True)
    assert type(again) is type(ours)
    assert [again(text)["input_ids"] for text in texts] == expected
    for twin in (pickle.loads(pickle.dumps(ours)), copy.deepcopy(ours)):  # noqa: S301
        assert [twin(text, text_target=text).data for text in texts] == [
            ours(text, text_target=text).data for text in texts
        ]


@pytest.mark.parametrize("name", ["T5Tokenizer", "PegasusTokenizer", "MBart50Tokenizer"])
def test_files_of_the_reference(folders: Callable[..., Path], name: str, tmp_path: Path) -> None:
    theirs = getattr(transformers, name).from_pretrained(folders(name))
    theirs.save_pretrained(tmp_path)
    ours = formers.AutoTokenizer.from_pretrained(tmp_path)
    assert type(ours) is getattr(formers, name) is getattr(formers, name + "Fast")
    for text in TEXTS:
        assert ours(text)["input_ids"] == theirs(text)["input_ids"]


def test_sentinels(folders: Callable[..., Path]) -> None:
    folder = folders("T5Tokenizer")
    ours, theirs = _both("T5Tokenizer", folder, extra_ids=7)
    assert len(ours) == len(theirs)
    assert ours.get_sentinel_tokens() == [f"<extra_id_{index}>" for index in range(7)]
    assert ours.get_sentinel_token_ids() == theirs.convert_tokens_to_ids(ours.get_sentinel_tokens())
    assert ours.get_sentinel_token_ids()[0] == len(ours) - 1
    with pytest.raises(InputError, match=r"extra_ids=3 asks for as many.* name 1 of them.*Pass extra_ids=1"):
        formers.T5Tokenizer.from_pretrained(folder, extra_ids=3, additional_special_tokens=["<extra_id_0>"])
    more = formers.T5Tokenizer.from_pretrained(folder, extra_ids=2, additional_special_tokens=["<more>"])
    assert more.additional_special_tokens == ["<more>", "<extra_id_0>", "<extra_id_1>"]


def test_t5_without_legacy_behaviour(folders: Callable[..., Path]) -> None:
    # As version 4 of the reference has it: what follows a special token begins no word unless a space says so.
    ours = formers.T5Tokenizer.from_pretrained(folders("T5Tokenizer"), legacy=False)
    older = formers.T5Tokenizer.from_pretrained(folders("T5Tokenizer"))
    assert ours.tokenize("a<extra_id_0>b <extra_id_1> b") == ["▁a", "<extra_id_0>", "b", "<extra_id_1>", "▁b"]
    assert older.tokenize("a<extra_id_0>b") == ["▁a", "<extra_id_0>", "▁b"]
    assert ours("the quick brown fox") == older("the quick brown fox")


def test_pegasus_without_an_offset(folders: Callable[..., Path]) -> None:
    folder = folders("PegasusTokenizer")
    ours = formers.PegasusTokenizer.from_pretrained(folder, offset=0, mask_token_sent=None, mask_token="[MASK]")
    assert (ours.unk_token_id, ours.pad_token_id, ours.eos_token_id) == (2, 0, 1)
    usual = formers.PegasusTokenizer.from_pretrained(folder)
    assert usual.convert_tokens_to_ids(["<mask_1>", "<mask_2>", "<unk_2>", "<unk_102>", "<unk>"]) == [2, 3, 4, 104, 105]
    assert usual.mask_token_sent == "<mask_1>"


@pytest.mark.parametrize("name", ["BartTokenizer", "BlenderbotTokenizer"])
def test_byte_level(roberta_folder: Path, name: str, tmp_path: Path) -> None:
    for file in ("vocab.json", "merges.txt"):
        (tmp_path / file).write_text((roberta_folder / file).read_text())
    ours, theirs = _both(name, tmp_path)
    # The reference forgets Blenderbot's last token.
    framed = name == "BartTokenizer"
    for text in (text for text in TEXTS if "<mask>" not in text):
        assert ours(text, add_special_tokens=framed) == theirs(text, add_special_tokens=framed)
    assert ours("a")["input_ids"][-1] == ours.eos_token_id
    assert len(ours("a", "b")["input_ids"]) == (6 if framed else 2)
    ours.save_pretrained(tmp_path / "saved")
    assert type(formers.AutoTokenizer.from_pretrained(tmp_path / "saved")).__name__ == name
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert again("the fox")["input_ids"] == ours("the fox")["input_ids"]


@pytest.mark.parametrize(
    ("name", "source", "target"),
    [
        ("MBartTokenizer", "de_DE", "ro_RO"),
        ("MBart50Tokenizer", "uk_UA", "fr_XX"),
        ("NllbTokenizer", "deu_Latn", "fra_Latn"),
    ],
)
def test_languages(folders: Callable[..., Path], name: str, source: str, target: str, tmp_path: Path) -> None:
    ours = getattr(formers, name).from_pretrained(folders(name), src_lang=source, tgt_lang=target)
    ours.save_pretrained(tmp_path)
    theirs = getattr(transformers, name).from_pretrained(tmp_path)
    assert (ours.src_lang, ours.tgt_lang) == (theirs.src_lang, theirs.tgt_lang) == (source, target)
    batch = ours(["a b", "c"], text_target=["b", "a c"], padding=True)
    assert batch.data == theirs(["a b", "c"], text_target=["b", "a c"], padding=True).data
    assert batch["labels"] != ours(["b", "a c"])["input_ids"]
    with ours.as_target_tokenizer():
        assert ours(["b", "a c"])["input_ids"] == ours(text_target=["b", "a c"])["input_ids"]
    assert ours("a")["input_ids"] == theirs("a")["input_ids"]
    assert (ours.prefix_tokens, ours.suffix_tokens) == (theirs.prefix_tokens, theirs.suffix_tokens)
    for tokenizer in (ours, theirs):
        tokenizer.src_lang = target
    assert ours("a")["input_ids"] == theirs("a")["input_ids"]
    twin = ours.speaking(source)
    ours.set_tgt_lang_special_tokens(source)
    assert ours("a")["input_ids"] == twin("a")["input_ids"]
    inputs = ours._build_translation_inputs("a", None, source, target)
    assert inputs["forced_bos_token_id"] == ours.convert_tokens_to_ids(target)
    ours.save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "tokenizer_config.json").read_text())["src_lang"] == source
    twin = ours.speaking(target)
    assert (twin.src_lang, ours.src_lang) == (target, source)
    ours.tgt_lang = None
    assert ours(text_target="a")["input_ids"] == ours("a")["input_ids"]


def test_codes_of_nllb_follow_the_pieces(folders: Callable[..., Path]) -> None:
    ours = formers.NllbTokenizer.from_pretrained(folders("NllbTokenizer"))
    codes = [ours.lang_code_to_id[code] for code in languages.NLLB]
    assert codes == list(range(ours.vocab_size, ours.vocab_size + 202))
    assert ours.mask_token_id == len(ours) - 1
    legacy = formers.NllbTokenizer.from_pretrained(folders("NllbTokenizer"), legacy_behaviour=True)
    assert legacy("a")["input_ids"] == [*ours("a")["input_ids"][1:], ours.lang_code_to_id["eng_Latn"]]


def test_a_language_of_ones_own(folders: Callable[..., Path]) -> None:
    ours = formers.MBartTokenizer.from_pretrained(folders("MBartTokenizer"), additional_special_tokens=["xx_YY"])
    ours.src_lang = "xx_YY"
    assert ours("a")["input_ids"][-1] == ours.convert_tokens_to_ids("xx_YY") == len(ours) - 1


def test_unknown_languages(folders: Callable[..., Path]) -> None:
    folder = folders("MBart50Tokenizer")
    with pytest.raises(InputError, match=r"'fr_FR' is none of the 52 languages.*Near ones are .*'fr_XX'"):
        formers.MBart50Tokenizer.from_pretrained(folder, src_lang="fr_FR")
    with pytest.raises(InputError, match=r"'deu' is none of the 202 languages.*'deu_Latn'"):
        formers.NllbTokenizer.from_pretrained(folders("NllbTokenizer"), tgt_lang="deu")
    ours = formers.MBart50Tokenizer.from_pretrained(folder)
    for language in ("the", "</s>", None, 5, "??"):
        with pytest.raises(InputError, match="is none of the 52 languages"):
            ours.src_lang = language  # type: ignore[assignment]
    assert ours.src_lang == "en_XX"
    with pytest.raises(InputError, match="'ro' is none of the 52 languages"):
        ours.tgt_lang = "ro"
    with pytest.raises(InputError, match="Pass `src_lang` and `tgt_lang`"):
        ours._build_translation_inputs("a", None, None, "ro_RO")


def test_the_older_batch_of_translations(folders: Callable[..., Path]) -> None:
    ours = formers.MBartTokenizer.from_pretrained(folders("MBartTokenizer"))
    batch = ours.prepare_seq2seq_batch(["a b"], "de_DE", ["c"], "ro_RO", max_length=20, return_tensors="np")
    assert batch["input_ids"][0, -1] == ours.lang_code_to_id["de_DE"]
    assert batch["labels"][0, -1] == ours.lang_code_to_id["ro_RO"]


def test_wrong_kinds_of_models(
    folders: Callable[..., Path], sentencepiece_model: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "spiece.model").write_bytes(sentencepiece_model(model_type="bpe").read_bytes())
    with pytest.raises(InputError, match=r"A Unigram vocabulary is a list of \(token, score\)"):
        formers.T5Tokenizer.from_pretrained(tmp_path)
    (tmp_path / "sentencepiece.bpe.model").write_bytes(sentencepiece_model().read_bytes())
    with pytest.raises(InputError, match="this one gives scores"):
        formers.NllbTokenizer.from_pretrained(tmp_path)
