"""Small tokenizers of every kind, made here, and the reference implementation's versions of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = [
    "the quick brown fox jumps over the lazy dog",
    "Using a transformer network is simple, isn't it?",
    "This film was great! I've never seen such acting...",
    "naïve café, résumé: déjà vu — “quoted” text",
    "Numbers 1,234.56 and 2024; e-mails like a.b@c.org",
    "不得了 日本語 한국어 Ελληνικά русский עברית 🙂",
    "He said 'don't' and we're going to New York.",
    "short",
    "a b c d e f g h i j k l m n o p q r s t u v w x y z A B C D E",
]

TEXTS = [
    *CORPUS,
    "",
    " ",
    "  leading and trailing  ",
    "tab\tand\nnew line",
    "unbelievably longwordwithoutspaces",
    "[MASK] <mask> in [SEP] text </s>",
    "e\u0301 combining \u200b zero width \ufeff",
]


def _bert(folder: Path, lowercase: bool) -> Path:
    engine = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    engine.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    engine.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    engine.train_from_iterator(
        CORPUS * 3, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    )
    vocab = sorted(engine.get_vocab().items(), key=lambda item: item[1])
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("".join(token + "\n" for token, _ in vocab), encoding="utf-8")
    return folder


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """vocab.txt (lower case), configuration with a limit of 20 tokens."""
    folder = _bert(tmp_path_factory.mktemp("bert") / "model", lowercase=True)
    _write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "BertTokenizer", "model_max_length": 20, "do_lower_case": True},
    )
    _write_json(folder / "config.json", {"model_type": "bert"})
    return folder


@pytest.fixture(scope="session")
def cased_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nothing but a cased vocab.txt."""
    return _bert(tmp_path_factory.mktemp("cased") / "model", lowercase=False)


@pytest.fixture(scope="session")
def roberta_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """vocab.json and merges.txt."""
    folder = tmp_path_factory.mktemp("roberta") / "model"
    folder.mkdir()
    engine = Tokenizer(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    engine.train_from_iterator(CORPUS * 3, trainer)
    engine.model.save(str(folder))
    _write_json(folder / "tokenizer_config.json", {"tokenizer_class": "RobertaTokenizer", "model_max_length": 30})
    mask = {"content": "<mask>", "lstrip": True, "rstrip": False, "single_word": False, "normalized": False}
    _write_json(folder / "special_tokens_map.json", {"mask_token": mask})
    _write_json(folder / "config.json", {"model_type": "roberta"})
    return folder


@pytest.fixture(scope="session")
def generic_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tokenizer.json of a kind of its own: a byte-level model whose special tokens follow the text."""
    folder = tmp_path_factory.mktemp("generic") / "model"
    folder.mkdir()
    engine = Tokenizer(models.BPE())
    engine.normalizer = normalizers.NFC()
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = decoders.ByteLevel()
    special = ["<eos>", "<pad>", "<sep>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    engine.train_from_iterator(CORPUS * 3, trainer)
    ids = {token: engine.token_to_id(token) for token in special}
    engine.post_processor = processors.TemplateProcessing(
        single="$A:1 <eos>:2",
        pair="$A:1 <sep>:1 $B:3 <eos>:2",
        special_tokens=[("<eos>", ids["<eos>"]), ("<sep>", ids["<sep>"])],
    )
    engine.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
        "padding_side": "left",
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
    }
    _write_json(folder / "tokenizer_config.json", config)
    return folder


@pytest.fixture(scope="session")
def sentencepiece_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Trains a SentencePiece file; keyword arguments go to the trainer."""
    sentencepiece = pytest.importorskip("sentencepiece")

    def make(**settings: Any) -> Path:
        prefix = tmp_path_factory.mktemp("spm") / "model"
        defaults = {"model_type": "unigram", "vocab_size": 120, "hard_vocab_limit": False, "minloglevel": 2}
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(CORPUS * 3), model_prefix=str(prefix), **{**defaults, **settings}
        )
        return prefix.with_suffix(".model")

    return make


@pytest.fixture(scope="session")
def reference() -> Any:
    """The reference implementation's AutoTokenizer."""
    transformers = pytest.importorskip("transformers")
    return transformers.AutoTokenizer


@pytest.fixture(params=["bert", "roberta", "generic", "minilm"])
def both(request: pytest.FixtureRequest, reference: Any) -> tuple[Any, Any]:
    """The same tokenizer in formers and in the reference, for every kind."""
    name = "minilm" if request.param == "minilm" else f"{request.param}_folder"
    folder = request.getfixturevalue(name)
    return _loaded(folder, reference)


_CACHE: dict[Path, tuple[Any, Any]] = {}


def _loaded(folder: Path, reference: Any) -> tuple[Any, Any]:
    from formers import AutoTokenizer

    if folder not in _CACHE:
        _CACHE[folder] = (AutoTokenizer.from_pretrained(folder), reference.from_pretrained(folder))
    return _CACHE[folder]
