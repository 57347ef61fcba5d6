"""Features of sound, beside the reference's."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import formers
from formers.audio.mel import LogMel
from formers.audio.samples import Held
from formers.errors import ConfigError, InputError, UnsupportedError


def sound(samples: int, seed: int = 0) -> Any:
    """Noise under a slow swell."""
    return np.random.default_rng(seed).normal(size=samples).astype(np.float32) * np.linspace(0, 0.3, samples)


def both(**settings: Any) -> tuple[Any, Any]:
    return formers.WhisperFeatureExtractor(**settings), transformers.WhisperFeatureExtractor(**settings)


def assert_same(ours: Any, theirs: Any) -> None:
    assert set(ours) == set(theirs)
    for name in theirs:
        assert type(ours[name]) is type(theirs[name])
        assert ours[name].dtype == theirs[name].dtype
        np.testing.assert_allclose(ours[name], theirs[name], atol=5e-5)


@pytest.mark.parametrize("mels", [80, 128])
@pytest.mark.parametrize(
    "call",
    [
        {},
        {"return_tensors": "pt", "return_attention_mask": True},
        {"padding": "longest", "truncation": False, "return_attention_mask": True, "return_tensors": "np"},
        {"padding": True, "pad_to_multiple_of": 3200},
        {"max_length": 20000, "return_tensors": "pt", "do_normalize": True},
        {"max_length": 20011, "return_attention_mask": True, "pad_to_multiple_of": 100},
    ],
)
def test_features_are_the_references(mels: int, call: dict[str, Any]) -> None:
    ours, theirs = both(feature_size=mels, chunk_length=3)
    for given in (sound(16000), [sound(16000), sound(70001, 1)], np.stack([sound(9000), sound(9000, 1)])):
        # The reference gives the mask of samples, not of frames, when only the normalization wants it.
        expected = theirs(given, sampling_rate=16000, **call)
        if call.get("do_normalize"):
            expected.pop("attention_mask")
        assert_same(ours(given, sampling_rate=16000, **call), expected)


def test_forms_of_input() -> None:
    ours, theirs = both(chunk_length=1)
    wave = sound(5000)
    expected = theirs(wave, sampling_rate=16000)
    for given in (
        wave.tolist(),
        torch.from_numpy(wave),
        wave.astype(np.float32),
        [wave],
        (wave.tolist(),),
        wave[::-1][::-1],
    ):
        assert_same(ours(given, sampling_rate=16000), expected)
    frozen = wave.astype(np.float32)
    frozen.setflags(write=False)
    assert_same(ours(frozen, sampling_rate=16000), expected)
    whole = (wave * 32767).round().astype(np.int16)
    np.testing.assert_allclose(
        ours(whole, sampling_rate=16000)["input_features"], expected["input_features"], atol=0.05
    )


def test_padding_on_the_left_and_other_values() -> None:
    ours, theirs = both(chunk_length=1, padding_side="left", padding_value=0.1, return_attention_mask=True)
    expected = theirs(sound(5000), sampling_rate=16000, return_attention_mask=True)
    assert_same(ours(sound(5000), sampling_rate=16000), expected)


def test_dither_is_noise_of_its_size() -> None:
    quiet = np.zeros(16000, np.float32)
    ours = formers.WhisperFeatureExtractor(dither=0.01)(quiet, sampling_rate=16000, padding=False)["input_features"]
    theirs = transformers.WhisperFeatureExtractor(dither=0.01)(quiet, sampling_rate=16000, padding=True)
    assert abs(ours.mean() - theirs["input_features"].mean()) < 0.02


def test_windows_of_a_recording_are_parts_of_the_whole() -> None:
    samples = torch.from_numpy(sound(50123).astype(np.float32))
    log_mel = LogMel()
    whole = log_mel(samples[None])
    loudest = log_mel.loudest(Held(samples))
    for start, count in ((0, 313), (0, 1), (100, 57), (312, 1)):
        part = log_mel.scaled(log_mel.logarithms(Held(samples[None]), start, count), loudest)
        torch.testing.assert_close(part, whole[..., start : start + count])


def test_rate_is_checked(caplog: pytest.LogCaptureFixture) -> None:
    extractor = formers.WhisperFeatureExtractor()
    with pytest.raises(InputError, match=r"has 44100 samples a second; this model reads 16000\. Resample it"):
        extractor(sound(100), sampling_rate=44100)
    with caplog.at_level(logging.WARNING, "formers"):
        extractor(sound(100))
    assert "Pass sampling_rate=" in caplog.text


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.array([0.0, np.nan, np.inf]), "2 of 3 samples are infinite or no numbers"),
        (np.array([]), "has no samples"),
        ([], "has no samples"),
        ([np.zeros(10), []], "has no samples"),
        (np.zeros((2, 3, 4)), r"have the shape \(2, 3, 4\)"),
        (["a", "b"], "is of type str|are of type str"),
        ("file.wav", "are of type str"),
        (np.zeros(4, complex), "no numbers"),
        (torch.zeros(4, dtype=torch.complex64), "complex"),
        (np.zeros(4, bool), "no numbers"),
        (None, "are of type NoneType"),
    ],
)
def test_unusable_samples(given: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        formers.WhisperFeatureExtractor()(given, sampling_rate=16000)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"padding": "do_not_pad"}, "10 to 20 samples and are not to be padded"),
        ({"padding": "some"}, "padding='some'"),
        ({"padding": "longest"}, "20 samples is too short for a spectrum of 400"),
        ({"return_tensors": "tf"}, "return_tensors='tf'"),
    ],
)
def test_unusable_arguments(call: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        formers.WhisperFeatureExtractor()([np.zeros(10), np.zeros(20)], sampling_rate=16000, **call)


def test_unusable_settings() -> None:
    with pytest.raises(ConfigError, match="feature_size = 0"):
        formers.WhisperFeatureExtractor(feature_size=0)
    with pytest.raises(ConfigError, match="padding_side = 'up'"):
        formers.WhisperFeatureExtractor(padding_side="up")


def test_files_both_ways(tmp_path: Path) -> None:
    ours, theirs = both(feature_size=128, chunk_length=5)
    theirs.save_pretrained(tmp_path / "theirs")
    loaded = formers.AutoFeatureExtractor.from_pretrained(tmp_path / "theirs")
    assert (loaded.feature_size, loaded.n_samples, loaded.nb_max_frames) == (128, 80000, 500)
    loaded.save_pretrained(tmp_path / "ours")
    again = transformers.AutoFeatureExtractor.from_pretrained(tmp_path / "ours")
    wave = sound(30000)
    assert_same(loaded(wave, sampling_rate=16000), again(wave, sampling_rate=16000))
    np.testing.assert_allclose(ours.mel_filters, theirs.mel_filters, atol=1e-7)
    changed = formers.WhisperFeatureExtractor.from_pretrained(tmp_path / "ours", chunk_length=1)
    assert changed.n_samples == 16000
    assert json.loads(changed.to_json_string())["chunk_length"] == 1
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "processor_config.json").write_text(json.dumps({"feature_extractor": loaded.to_dict()}))
    assert formers.AutoFeatureExtractor.from_pretrained(tmp_path / "new").feature_size == 128
    (tmp_path / "ours" / "preprocessor_config.json").write_text('{"image_processor_type": "ViTImageProcessor"}')
    for auto in (formers.AutoFeatureExtractor, formers.AutoProcessor):
        with pytest.raises(UnsupportedError, match="wants ViTImageProcessor"):
            auto.from_pretrained(tmp_path / "ours")


def test_a_batch_moves_and_casts() -> None:
    batch = formers.WhisperFeatureExtractor(chunk_length=1)(
        sound(400), sampling_rate=16000, return_tensors="pt", return_attention_mask=True
    )
    assert batch.to(torch.bfloat16) is batch
    assert (batch.input_features.dtype, batch.attention_mask.dtype) == (torch.bfloat16, torch.int32)
    assert batch.to("cpu", dtype=torch.float32)["input_features"].dtype == torch.float32
    with pytest.raises(AttributeError, match="no attribute 'labels'"):
        _ = batch.labels
