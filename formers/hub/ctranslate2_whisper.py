"""Whisper of CTranslate2 as a folder that formers and the reference load: weights, configurations and tokenizer.

The weights keep the type that they have (int8 becomes float32) and get the names of the reference's checkpoints. What a
folder of CTranslate2 leaves out follows from what it has: sizes from the weights, special tokens from the tokenizer.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from formers.errors import CheckpointError, ConfigError, UnsupportedError
from formers.hub.atomic import write_json
from formers.hub.ctranslate2 import MODEL_FILE, CTranslate2File
from formers.hub.files import ModelFiles

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

SPECIFICATION = "WhisperSpec"
_END, _START = "<|endoftext|>", "<|startoftranscript|>"
_TASKS = ("translate", "transcribe")
_BEFORE, _PLAIN = "<|startofprev|>", "<|notimestamps|>"
_LANGUAGE = re.compile(r"<\|([a-z]{2,3})\|>")
# Words, special tokens and timestamps of the English models; others have at least one token more.
_ENGLISH_VOCABULARY = 51864
# Where a first timestamp may stand at most, in timestamps: after one second.
_LATEST_START = 50
_NORM = {"gamma": "weight", "beta": "bias"}


def is_ctranslate2(files: ModelFiles) -> bool:
    """Whether a model is one of CTranslate2."""
    return files.find(MODEL_FILE) is not None and "model_type" not in files.read_json("config.json")


def write_folder(files: ModelFiles, folder: Path, dtype: str | None = None, max_shard_size: int | str = "50GB") -> None:
    """Convert the model in `files` into an existing folder. `dtype`: of the weights, else as they are stored."""
    import torch

    from formers.hub.weights import save_weights

    file = CTranslate2File(files.require(MODEL_FILE))
    if file.specification != SPECIFICATION:
        raise UnsupportedError(
            f"{files.name!r} is a {file.specification} of CTranslate2.",
            f"Only {SPECIFICATION} is converted; use the model that it was made from.",
        )
    said, tokens = files.read_json("config.json"), _special_tokens(files)
    wanted = None if dtype is None else getattr(torch, dtype)
    tensors = {name: _tensor(array, wanted) for name, array in _weights(file)}
    kinds = [tensor.dtype for tensor in tensors.values()]
    config = _config(file, said, tokens)
    config["dtype"] = str(max(kinds, key=kinds.count)).removeprefix("torch.")
    save_weights(tensors, folder, max_shard_size=max_shard_size)
    write_json(folder / "config.json", config)
    write_json(folder / "generation_config.json", _generation_config(config, said, tokens))
    write_json(folder / "preprocessor_config.json", _preprocessor_config(config))
    _write_tokenizer(files, folder, config)


def _tensor(array: NDArray[Any], dtype: torch.dtype | None) -> torch.Tensor:
    import torch

    tensor = torch.from_numpy(array.copy())
    return tensor if dtype is None else tensor.to(dtype)


# Weights.


def _weights(file: CTranslate2File) -> Iterator[tuple[str, NDArray[Any]]]:
    """All weights under the names of the reference's checkpoints. The output projection is tied, and left out."""
    for part in ("encoder", "decoder"):
        ours = f"model.{part}"
        yield f"{ours}.embed_positions.weight", file.weight(f"{part}/position_encodings/encodings")
        yield from _norm(file, f"{part}/layer_norm", f"{ours}.layer_norm")
        for index in range(_count_layers(file, part)):
            yield from _layer(file, f"{part}/layer_{index}", f"{ours}.layers.{index}")
    yield "model.decoder.embed_tokens.weight", file.weight("decoder/embeddings/weight")
    for name in ("conv1", "conv2"):
        yield from _linear(file, f"encoder/{name}", [f"model.encoder.{name}"])


def _layer(file: CTranslate2File, theirs: str, ours: str) -> Iterator[tuple[str, NDArray[Any]]]:
    own, cross = f"{ours}.self_attn", f"{ours}.encoder_attn"
    yield from _norm(file, f"{theirs}/self_attention/layer_norm", f"{own}_layer_norm")
    yield from _linear(file, f"{theirs}/self_attention/linear_0", [f"{own}.{x}_proj" for x in "qkv"])
    yield from _linear(file, f"{theirs}/self_attention/linear_1", [f"{own}.out_proj"])
    if f"{theirs}/attention/linear_0/weight" in file:
        yield from _norm(file, f"{theirs}/attention/layer_norm", f"{cross}_layer_norm")
        yield from _linear(file, f"{theirs}/attention/linear_0", [f"{cross}.q_proj"])
        yield from _linear(file, f"{theirs}/attention/linear_1", [f"{cross}.k_proj", f"{cross}.v_proj"])
        yield from _linear(file, f"{theirs}/attention/linear_2", [f"{cross}.out_proj"])
    yield from _norm(file, f"{theirs}/ffn/layer_norm", f"{ours}.final_layer_norm")
    yield from _linear(file, f"{theirs}/ffn/linear_0", [f"{ours}.fc1"])
    yield from _linear(file, f"{theirs}/ffn/linear_1", [f"{ours}.fc2"])


def _norm(file: CTranslate2File, theirs: str, ours: str) -> Iterator[tuple[str, NDArray[Any]]]:
    for old, new in _NORM.items():
        yield f"{ours}.{new}", file.weight(f"{theirs}/{old}")


def _linear(file: CTranslate2File, theirs: str, ours: list[str]) -> Iterator[tuple[str, NDArray[Any]]]:
    """One product of theirs as several of ours, which lie one below the other in it. Keys have no bias."""
    for kind in ("weight", "bias"):
        whole = file.weight(f"{theirs}/{kind}")
        if len(whole) % len(ours):
            raise CheckpointError(f"{theirs!r} in {file.path} does not divide by {len(ours)}.", "Convert it again.")
        size = len(whole) // len(ours)
        for position, name in enumerate(ours):
            rows = whole[position * size : (position + 1) * size]
            if kind == "weight" or not name.endswith(".k_proj"):
                yield f"{name}.{kind}", rows
            elif rows.any():
                raise CheckpointError(f"{theirs!r} in {file.path} gives keys a bias.", "It is no Whisper model.")


def _count_layers(file: CTranslate2File, part: str) -> int:
    found = (re.match(rf"{part}/layer_(\d+)/", key) for key in file.keys())  # noqa: SIM118
    return 1 + max((int(match[1]) for match in found if match), default=-1)


# Configurations.


def _special_tokens(files: ModelFiles) -> dict[str, int]:
    """The ids of special tokens, by their text."""
    added = files.read_json("tokenizer.json").get("added_tokens")
    ids = {token.get("content"): token.get("id") for token in added or () if isinstance(token, dict)}
    missing = [name for name in (_END, _START, _BEFORE, _PLAIN) if not isinstance(ids.get(name), int)]
    if missing:
        raise ConfigError(
            f"The tokenizer of {files.name!r} lacks Whisper's tokens {', '.join(missing)}.",
            "Put the tokenizer.json of the model that it was converted from into its folder.",
        )
    return {name: number for name, number in ids.items() if isinstance(name, str) and isinstance(number, int)}


def _config(file: CTranslate2File, said: dict[str, Any], tokens: dict[str, int]) -> dict[str, Any]:
    vocabulary, width = file.array("decoder/embeddings/weight").shape
    return {
        "architectures": ["WhisperForConditionalGeneration"],
        "model_type": "whisper",
        "is_encoder_decoder": True,
        "vocab_size": vocabulary,
        "d_model": width,
        "num_mel_bins": file.array("encoder/conv1/weight").shape[1],
        "encoder_layers": _count_layers(file, "encoder"),
        "encoder_attention_heads": file.number("encoder/num_heads"),
        "encoder_ffn_dim": file.array("encoder/layer_0/ffn/linear_0/weight").shape[0],
        "decoder_layers": _count_layers(file, "decoder"),
        "decoder_attention_heads": file.number("decoder/num_heads"),
        "decoder_ffn_dim": file.array("decoder/layer_0/ffn/linear_0/weight").shape[0],
        "max_source_positions": file.array("encoder/position_encodings/encodings").shape[0],
        "max_target_positions": file.array("decoder/position_encodings/encodings").shape[0],
        "activation_function": "gelu",
        "scale_embedding": False,
        "bos_token_id": tokens[_END],
        "eos_token_id": tokens[_END],
        "pad_token_id": tokens[_END],
        "decoder_start_token_id": tokens[_START],
        "begin_suppress_tokens": said.get("suppress_ids_begin") or [220, tokens[_END]],
        "suppress_tokens": said.get("suppress_ids") or [],
        "tie_word_embeddings": True,
    }


def _generation_config(config: dict[str, Any], said: dict[str, Any], tokens: dict[str, int]) -> dict[str, Any]:
    """What decoding needs. An English model has no room for languages: its tokens for them mean nothing."""
    multilingual = config["vocab_size"] > _ENGLISH_VOCABULARY
    values: dict[str, Any] = {
        name: config[name]
        for name in (
            "begin_suppress_tokens",
            "suppress_tokens",
            "bos_token_id",
            "eos_token_id",
            "pad_token_id",
            "decoder_start_token_id",
        )
    }
    values["max_length"] = config["max_target_positions"]
    values["is_multilingual"] = multilingual
    values["max_initial_timestamp_index"] = _LATEST_START
    values["no_timestamps_token_id"] = tokens[_PLAIN]
    values["prev_sot_token_id"] = tokens[_BEFORE]
    values["return_timestamps"] = False
    if said.get("alignment_heads"):
        values["alignment_heads"] = said["alignment_heads"]
    if multilingual:
        values["lang_to_id"] = {name: number for name, number in tokens.items() if _LANGUAGE.fullmatch(name)}
        values["task_to_id"] = {task: tokens[f"<|{task}|>"] for task in _TASKS if f"<|{task}|>" in tokens}
    return values


def _preprocessor_config(config: dict[str, Any]) -> dict[str, Any]:
    return {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "processor_class": "WhisperProcessor",
        "feature_size": config["num_mel_bins"],
        "sampling_rate": 16000,
        "hop_length": 160,
        "n_fft": 400,
        "chunk_length": 2 * config["max_source_positions"] // 100,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": False,
    }


def _write_tokenizer(files: ModelFiles, folder: Path, config: dict[str, Any]) -> None:
    """The tokenizer as it is, and what the reference wants beside it."""
    path = files.require("tokenizer.json")
    shutil.copyfile(path, folder / "tokenizer.json")
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    model = tokenizer["model"]
    write_json(folder / "vocab.json", model["vocab"])
    pairs = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(pairs) + "\n", encoding="utf-8")
    values = {
        "tokenizer_class": "WhisperTokenizer",
        "processor_class": "WhisperProcessor",
        "model_max_length": config["max_target_positions"],
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        # In the order of their ids: the reference takes the last one for the one before the timestamps.
        "additional_special_tokens": [token["content"] for token in tokenizer["added_tokens"] if token["special"]],
        **dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), _END),
    }
    write_json(folder / "tokenizer_config.json", values)
