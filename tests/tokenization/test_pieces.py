"""Encoder–decoders that the reference has no engine for: M2M100, Marian, ByT5, BlenderbotSmall."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

import formers
from formers.errors import ConfigError, InputError, ModelNotFoundError, UnsupportedError
from formers.tokenization import languages
from formers.tokenization.sentencepiece_text import SentencePieceCutter

from .conftest import CORPUS

SIGNS = ["</s>", "<unk>", "<pad>", "__en__", ">>fra<<", "<<", "<extra_id_3>", "<user>", "  ", "▁", "...", "aaa", "ｆ"]
SIGNS += ["①", "가", "e\u0301\u0302", "\x1f", "\n", "'", "__end__", "<0x41>"]
ANY = st.lists(st.one_of(st.text(st.characters(codec="utf-8"), max_size=12), st.sampled_from([*SIGNS, *CORPUS]))).map(
    "".join
)
FAMILIES = ["m2m_100", "marian", "marian-apart", "byt5", "blenderbot_small"]
Make = Callable[..., Path]


def _pieces(path: Path) -> list[str]:
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return [model.id_to_piece(index) for index in range(3, model.get_piece_size())]


def _write(path: Path, tokens: list[str]) -> None:
    path.write_text(json.dumps({token: index for index, token in enumerate(dict.fromkeys(tokens))}))


def _m2m_100(folder: Path, make: Make, kind: str) -> str:
    path = folder / "sentencepiece.bpe.model"
    path.write_bytes(make(model_type=kind, vocab_size=300 if kind == "bpe" else 150).read_bytes())
    # Some pieces have no ids.
    _write(folder / "vocab.json", ["<s>", "<pad>", "</s>", "<unk>", *_pieces(path)[::2]])
    return "M2M100Tokenizer"


def _marian(folder: Path, make: Make, kind: str, apart: bool = False) -> str:
    size = 300 if kind == "bpe" else 140
    (folder / "source.spm").write_bytes(make(model_type=kind, vocab_size=size).read_bytes())
    (folder / "target.spm").write_bytes(make(model_type=kind, vocab_size=size - 20).read_bytes())
    source, target = _pieces(folder / "source.spm"), _pieces(folder / "target.spm")
    first = ["</s>", "<unk>", "<pad>"]
    _write(folder / "vocab.json", [*first, *source, *([] if apart else [*target, ">>fra<<", "ｆ"])])
    if apart:
        _write(folder / "target_vocab.json", [*first, *target[::-1]])
    return "MarianTokenizer"


def _blenderbot_small(folder: Path) -> str:
    engine = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    engine.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(vocab_size=300, end_of_word_suffix="</w>", show_progress=False)
    engine.train_from_iterator([text.lower() for text in CORPUS * 3], trainer)
    engine.model.save(str(folder))
    pieces = [piece[:-4] if piece.endswith("</w>") else piece + "@@" for piece in engine.get_vocab()]
    _write(folder / "vocab.json", ["__null__", "__start__", "__end__", "__unk__", "__newln__", *sorted(pieces)])
    return "BlenderbotSmallTokenizer"


@pytest.fixture(scope="module")
def folders(sentencepiece_model: Make, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    made: dict[tuple[str, str], Path] = {}

    def folder(family: str, kind: str = "unigram") -> Path:
        if (family, kind) in made:
            return made[family, kind]
        path = made[family, kind] = tmp_path_factory.mktemp(family)
        config: dict[str, Any] = {}
        if family == "m2m_100":
            name = _m2m_100(path, sentencepiece_model, kind)
            # Without these the reference does not know the languages inside of texts.
            config["additional_special_tokens"] = [f"__{code}__" for code in languages.M2M100]
        elif family == "byt5":
            name = "ByT5Tokenizer"
        elif family == "blenderbot_small":
            name = _blenderbot_small(path)
        else:
            config["separate_vocabs"] = family == "marian-apart"
            name = _marian(path, sentencepiece_model, kind, apart=config["separate_vocabs"])
        (path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name, **config}))
        return path

    return folder


def _both(folder: Path) -> tuple[Any, Any]:
    ours = formers.AutoTokenizer.from_pretrained(folder)
    return ours, getattr(transformers, type(ours).__name__).from_pretrained(folder)


@pytest.mark.parametrize(
    ("family", "kind"), [*((family, "unigram") for family in FAMILIES), ("m2m_100", "bpe"), ("marian", "bpe")]
)
def test_ids_and_texts(folders: Callable[..., Path], family: str, kind: str) -> None:
    ours, theirs = _both(folders(family, kind))
    assert ours.get_vocab() == theirs.get_vocab()
    assert (len(ours), ours.vocab_size) == (len(theirs), theirs.vocab_size)
    targets = family.startswith("marian")

    @settings(max_examples=50)
    @given(ANY)
    def check(text: str) -> None:
        ids = ours(text)["input_ids"]
        assert ids == theirs(text)["input_ids"]
        assert ours.tokenize(text) == theirs.tokenize(text)
        if targets:
            ids = ours(text_target=text)["input_ids"]
            assert ids == theirs(text_target=text)["input_ids"]
        for skip in (False, True):
            assert ours.decode(ids, skip_special_tokens=skip) == theirs.decode(ids, skip_special_tokens=skip)

    check()
    for arguments in ({"padding": True}, {"truncation": True, "max_length": 6}, {"add_special_tokens": False}):
        texts = ["the quick brown fox", "short", "don't  stop", ""]
        assert ours(texts, **arguments).data == theirs(texts, **arguments).data
    assert ours("the fox", "a dog")["input_ids"] == theirs("the fox", "a dog")["input_ids"]
    words = ["the", "fox.", "jumps"]
    assert ours(words, is_split_into_words=True)["input_ids"] == theirs(words, is_split_into_words=True)["input_ids"]
    assert ours.batch_decode([[5, 6], [7]]) == theirs.batch_decode([[5, 6], [7]])


@pytest.mark.parametrize("family", FAMILIES)
def test_save_and_load(folders: Callable[..., Path], family: str, tmp_path: Path) -> None:
    ours = formers.AutoTokenizer.from_pretrained(folders(family))
    ours.add_tokens(["<new>"])
    if family == "m2m_100":
        ours.tgt_lang = "fr"
    ours.save_pretrained(tmp_path)
    assert not (tmp_path / "tokenizer.json").exists()
    texts = ["the quick brown fox", "a<new>b", "Numbers 1,234.56"]
    twins = [pickle.loads(pickle.dumps(ours)), copy.deepcopy(ours)]  # noqa: S301
    twins += [library.AutoTokenizer.from_pretrained(tmp_path) for library in (formers, transformers)]
    for twin in twins:
        assert type(twin).__name__ == type(ours).__name__
        assert [twin(text)["input_ids"] for text in texts] == [ours(text)["input_ids"] for text in texts]
        assert twin(text_target=texts[0])["input_ids"] == ours(text_target=texts[0])["input_ids"]


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize("rules", ["nmt_nfkc", "identity", "nfkc_cf"])
@pytest.mark.parametrize(
    "settings_of_model",
    [
        {"byte_fallback": True},
        {"remove_extra_whitespaces": False},
        {"add_dummy_prefix": False, "byte_fallback": True, "user_defined_symbols": ["<user>", "  "]},
        {"treat_whitespace_as_suffix": True, "user_defined_symbols": ["<user>"]},
    ],
)
def test_pieces_are_sentencepieces(
    sentencepiece_model: Make, kind: str, rules: str, settings_of_model: dict[str, Any]
) -> None:
    size = 560 if "byte_fallback" in settings_of_model else 300 if kind == "bpe" else 150
    path = sentencepiece_model(model_type=kind, normalization_rule_name=rules, vocab_size=size, **settings_of_model)
    ours = SentencePieceCutter.read(path, "file")
    own = sentencepiece.SentencePieceProcessor(model_file=str(path))

    @settings(max_examples=30)
    @given(ANY, st.lists(st.integers(0, own.get_piece_size() - 1), max_size=8))
    def check(text: str, ids: list[int]) -> None:
        pieces = own.encode(text, out_type=str)
        assert ours.cut([text]) == [pieces]
        pieces = [*pieces, *map(own.id_to_piece, ids), "nowhere▁", *map(own.id_to_piece, ids)]
        assert ours.join(pieces) == own.decode_pieces(pieces)

    check()


def test_equally_probable_pieces(sentencepiece_model: Make) -> None:
    path = sentencepiece_model(vocab_size=160)
    ours = SentencePieceCutter.read(path, "file")
    own = sentencepiece.SentencePieceProcessor(model_file=str(path))
    texts = [start + "." * count + end for start in ("", "the fox ") for count in range(1, 60) for end in ("", " dog")]
    assert ours.cut(texts) == own.encode(texts, out_type=str)
    assert {".", ".."} <= set(own.encode("." * 21, out_type=str))


def test_languages_of_m2m_100(folders: Callable[..., Path]) -> None:
    ours, theirs = _both(folders("m2m_100"))
    assert ours("a")["input_ids"][0] == ours.get_lang_id("en") == theirs.get_lang_id("en")
    assert (ours.get_lang_token("fr"), ours.lang_code_to_id) == ("__fr__", theirs.lang_code_to_id)
    assert ours.lang_token_to_id == theirs.lang_token_to_id
    assert ours.id_to_lang_token == theirs.id_to_lang_token
    assert ours.lang_code_to_token == theirs.lang_code_to_token
    for tokenizer in (ours, theirs):
        tokenizer.src_lang, tokenizer.tgt_lang = "de", "fr"
    assert ours(["a b"], text_target=["b"]).data == theirs(["a b"], text_target=["b"]).data
    with pytest.raises(InputError, match=r"'eng' is none of the 100 languages.*'en'"):
        ours.get_lang_id("eng")
    with pytest.raises(InputError, match="language_codes='all' is no set of languages"):
        formers.M2M100Tokenizer.from_pretrained(folders("m2m_100"), language_codes="all")


def test_sides_of_marian(folders: Callable[..., Path]) -> None:
    ours, theirs = _both(folders("marian"))
    assert ours.supported_language_codes == theirs.supported_language_codes == [">>fra<<"]
    assert ours(">>fra<< the fox")["input_ids"][0] == ours.convert_tokens_to_ids(">>fra<<")
    assert ours.model_max_length == 512
    with ours.as_target_tokenizer():
        assert ours.tokenize("café")
        assert ours("café")["input_ids"] == ours(text_target="café")["input_ids"]
    ours, theirs = _both(folders("marian-apart"))
    ids = ours(text_target="the quick fox")["input_ids"]
    assert ids == theirs(text_target="the quick fox")["input_ids"] != ours("the quick fox")["input_ids"]
    assert ours.convert_ids_to_tokens(ids) == theirs.convert_ids_to_tokens(ids)
    assert ours.batch_decode([ids], use_source_tokenizer=True) == theirs.batch_decode([ids], use_source_tokenizer=True)
    assert ours.get_src_vocab() != ours.get_tgt_vocab()


def test_byt5_needs_no_files(tmp_path: Path) -> None:
    ours = formers.ByT5Tokenizer(extra_ids=4)
    theirs = transformers.ByT5Tokenizer(extra_ids=4)
    assert ours.get_vocab() == theirs.get_vocab()
    assert ours("a</s>")["input_ids"] == [100, 1]
    assert ours("a</s>", add_special_tokens=False)["input_ids"] == [100, 1]
    assert ours.decode([230, 131, 175, 3, 262, 258]) == theirs.decode([230, 131, 175, 3, 262, 258])
    assert ours.save_vocabulary(str(tmp_path)) == ()


@pytest.mark.parametrize(
    ("family", "name", "file"),
    [
        ("m2m_100", "M2M100Tokenizer", "sentencepiece.bpe.model"),
        ("marian", "MarianTokenizer", "target.spm"),
        ("blenderbot_small", "BlenderbotSmallTokenizer", "merges.txt"),
    ],
)
def test_missing_files_are_named(
    folders: Callable[..., Path], tmp_path: Path, family: str, name: str, file: str
) -> None:
    for source in folders(family).iterdir():
        if source.name != file:
            (tmp_path / source.name).write_bytes(source.read_bytes())
    with pytest.raises(ModelNotFoundError, match=f"has no {file}, which {name} needs"):
        formers.AutoTokenizer.from_pretrained(tmp_path)


def test_wrong_files_and_settings(folders: Callable[..., Path], tmp_path: Path, sentencepiece_model: Make) -> None:
    folder = folders("marian")
    vocab, source = str(folder / "vocab.json"), str(folder / "source.spm")
    with pytest.raises(
        InputError, match=r"There is no SentencePiece model\. Pass the path of the file as `target_spm`"
    ):
        formers.MarianTokenizer(vocab=vocab, source_spm=source)
    with pytest.raises(InputError, match=r"'nowhere\.spm' is no file"):
        formers.MarianTokenizer(vocab=vocab, source_spm=source, target_spm="nowhere.spm")
    with pytest.raises(InputError, match="separate_vocabs=True needs the vocabulary of the target"):
        formers.MarianTokenizer.from_pretrained(folder, separate_vocabs=True)
    with pytest.raises(UnsupportedError, match=r"sp_model_kwargs=.*is for the package sentencepiece"):
        formers.MarianTokenizer.from_pretrained(folder, sp_model_kwargs={"enable_sampling": True})
    with pytest.raises(ConfigError, match=r"vocab\.json is not a SentencePiece model"):
        formers.MarianTokenizer(vocab=vocab, source_spm=source, target_spm=vocab)
    chars = str(sentencepiece_model(model_type="char"))
    with pytest.raises(UnsupportedError, match="of words or characters"):
        formers.MarianTokenizer(vocab=vocab, source_spm=source, target_spm=chars)
    (tmp_path / "vocab.json").write_text('{"a": 0}')
    with pytest.raises(ConfigError, match="lacks the unknown token '<unk>'"):
        formers.MarianTokenizer(vocab=str(tmp_path / "vocab.json"), source_spm=source, target_spm=source)
    ours = formers.AutoTokenizer.from_pretrained(folder)
    with pytest.raises(UnsupportedError, match="does not know where its tokens lie"):
        ours("a", return_offsets_mapping=True)
    for wrong in (["a", 5], ["a\ud800"], [["a", "b", "c"]]):
        with pytest.raises(InputError, match=r"Text \d of \d cannot be tokenized"):
            ours(wrong)
    with pytest.raises(InputError, match="These are no token ids"):
        ours.decode([-100])
