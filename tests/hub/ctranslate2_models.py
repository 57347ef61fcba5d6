"""Models of CTranslate2 for the tests: a writer of its format, and a tiny Whisper in it."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import transformers

_TYPES = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4, "uint16": 5}
SPECIAL = ("<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|translate|>", "<|transcribe|>")
SPECIAL += ("<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>")


def text(value: str) -> bytes:
    """A text of the format."""
    raw = value.encode() + b"\0"
    return struct.pack("<H", len(raw)) + raw


def file_bytes(arrays: Mapping[str, Any], aliases: Mapping[str, str], *, spec: str = "WhisperSpec") -> bytes:
    """A whole file. Arrays of uint16 are written as bfloat16."""
    parts = [struct.pack("<I", 6), text(spec), struct.pack("<II", 3, len(arrays))]
    for name, value in arrays.items():
        array = np.asarray(value)
        parts += [text(name), struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)]
        parts += [struct.pack("<BI", _TYPES[str(array.dtype)], array.nbytes), array.tobytes()]
    parts.append(struct.pack("<I", len(aliases)))
    for alias, name in aliases.items():
        parts += [text(alias), text(name)]
    return b"".join(parts)


def tiny_whisper() -> transformers.WhisperForConditionalGeneration:
    """A Whisper of two layers with random weights."""
    config = transformers.WhisperConfig(
        vocab_size=60, d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=24, max_source_positions=50,
        max_target_positions=20, num_mel_bins=8, bos_token_id=10, eos_token_id=10, pad_token_id=10,
        decoder_start_token_id=11,
    )  # fmt: skip
    transformers.set_seed(0)
    model = transformers.WhisperForConditionalGeneration(config).eval()
    for parameter in model.parameters():
        parameter.data.normal_(std=0.2)
    return model


def arrays_of(model: transformers.WhisperForConditionalGeneration) -> dict[str, Any]:
    """The weights of a Whisper as CTranslate2 names and joins them."""
    state = {name.removeprefix("model."): value.numpy() for name, value in model.state_dict().items()}
    arrays: dict[str, Any] = {}

    def norm(theirs: str, ours: str) -> None:
        arrays[f"{theirs}/gamma"], arrays[f"{theirs}/beta"] = state[f"{ours}.weight"], state[f"{ours}.bias"]

    def linear(theirs: str, *ours: str) -> None:
        arrays[f"{theirs}/weight"] = np.concatenate([state[f"{name}.weight"] for name in ours])
        arrays[f"{theirs}/bias"] = np.concatenate(
            [state.get(f"{name}.bias", np.zeros(len(state[f"{name}.weight"]), np.float32)) for name in ours]
        )

    for part in ("encoder", "decoder"):
        arrays[f"{part}/position_encodings/encodings"] = state[f"{part}.embed_positions.weight"]
        arrays[f"{part}/num_heads"] = np.int16(2)
        norm(f"{part}/layer_norm", f"{part}.layer_norm")
        for index in range(2):
            theirs, ours = f"{part}/layer_{index}", f"{part}.layers.{index}"
            norm(f"{theirs}/self_attention/layer_norm", f"{ours}.self_attn_layer_norm")
            linear(f"{theirs}/self_attention/linear_0", *(f"{ours}.self_attn.{x}_proj" for x in "qkv"))
            linear(f"{theirs}/self_attention/linear_1", f"{ours}.self_attn.out_proj")
            norm(f"{theirs}/ffn/layer_norm", f"{ours}.final_layer_norm")
            linear(f"{theirs}/ffn/linear_0", f"{ours}.fc1")
            linear(f"{theirs}/ffn/linear_1", f"{ours}.fc2")
            if part == "decoder":
                norm(f"{theirs}/attention/layer_norm", f"{ours}.encoder_attn_layer_norm")
                linear(f"{theirs}/attention/linear_0", f"{ours}.encoder_attn.q_proj")
                linear(f"{theirs}/attention/linear_1", f"{ours}.encoder_attn.k_proj", f"{ours}.encoder_attn.v_proj")
                linear(f"{theirs}/attention/linear_2", f"{ours}.encoder_attn.out_proj")
    for name in ("conv1", "conv2"):
        linear(f"encoder/{name}", f"encoder.{name}")
    arrays["decoder/embeddings/weight"] = state["decoder.embed_tokens.weight"]
    return arrays


def write_folder(folder: Path, arrays: Mapping[str, Any], **config: Any) -> Path:
    """A folder as CTranslate2's converter makes it."""
    folder.mkdir()
    aliases = {"decoder/projection/weight": "decoder/embeddings/weight"}
    (folder / "model.bin").write_bytes(file_bytes(arrays, aliases))
    (folder / "config.json").write_text(json.dumps({"suppress_ids": [1, 2], "suppress_ids_begin": [3, 10]} | config))
    vocabulary = {character: index for index, character in enumerate("abcdefghij")}
    added = [
        {"id": 10 + index, "content": content, "special": True, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False}
        for index, content in enumerate(SPECIAL)
    ]  # fmt: skip
    tokenizer = {
        "version": "1.0", "added_tokens": added, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False,
        "trim_offsets": True, "use_regex": True}, "decoder": {"type": "ByteLevel", "add_prefix_space": True,
        "trim_offsets": True, "use_regex": True}, "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder
