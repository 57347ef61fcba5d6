"""Whisper beside the reference: logits, gradients, files, and transcripts of random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import formers
from formers.errors import InputError, UnsupportedError
from tests.parity.tiny_seq2seq import TINY_SEQ2SEQ

SAID: dict[str, Any] = {
    "no_timestamps_token_id": 19, "prev_sot_token_id": 17, "alignment_heads": [[1, 0], [0, 1]],
    "is_multilingual": True, "lang_to_id": {"<|en|>": 12, "<|de|>": 13}, "suppress_tokens": [5, 6],
    "task_to_id": {"transcribe": 15, "translate": 14}, "max_initial_timestamp_index": 10, "max_length": 20,
    "begin_suppress_tokens": [3, 10], "decoder_start_token_id": 11, "eos_token_id": 10, "pad_token_id": 10,
}  # fmt: skip


def pair(head: str = "ForConditionalGeneration") -> tuple[Any, Any]:
    """The reference's model and ours, with the same random weights."""
    transformers.set_seed(0)
    theirs = getattr(transformers, f"Whisper{head}")(transformers.WhisperConfig(**TINY_SEQ2SEQ["whisper"])).eval()
    for parameter in theirs.parameters():
        parameter.data.normal_(std=0.3)
    ours = getattr(formers, f"Whisper{head}")(formers.WhisperConfig(**TINY_SEQ2SEQ["whisper"]))
    ours.load_state_dict(theirs.state_dict())
    if head == "ForConditionalGeneration":
        theirs.generation_config = transformers.GenerationConfig(**SAID)
        ours.generation_config = formers.GenerationConfig.from_dict(SAID)
    return theirs, ours.eval()


def features(rows: int, frames: int = 60) -> torch.Tensor:
    return torch.randn(rows, 8, frames, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("head", ["Model", "ForConditionalGeneration"])
def test_outputs_and_gradients(head: str) -> None:
    theirs, ours = pair(head)
    inputs = {"input_features": features(2), "decoder_input_ids": torch.tensor([[11, 20, 3], [11, 4, 5]])}
    expected, got = theirs(**inputs), ours(**inputs)
    torch.testing.assert_close(got[0], expected[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got.encoder_last_hidden_state, expected.encoder_last_hidden_state, rtol=1e-4, atol=1e-5)
    if head == "ForConditionalGeneration":
        labels = torch.tensor([[20, 3, 10], [4, -100, -100]])
        first, second = (m(input_features=inputs["input_features"], labels=labels) for m in (theirs, ours))
        torch.testing.assert_close(second.loss, first.loss)
        first.loss.backward()
        second.loss.backward()
        stem = ours.model.encoder.stem
        torch.testing.assert_close(stem.conv1.weight.grad, theirs.model.encoder.conv1.weight.grad, rtol=1e-3, atol=1e-5)


def test_classification_and_the_decoder_alone() -> None:
    theirs, ours = pair("ForAudioClassification")
    expected, got = (m(input_features=features(2), labels=torch.tensor([0, 1])) for m in (theirs, ours))
    torch.testing.assert_close(got.logits, expected.logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got.loss, expected.loss)
    theirs, ours = pair("ForCausalLM")
    ids = torch.tensor([[11, 20, 3]])
    torch.testing.assert_close(ours(ids).logits, theirs(ids).logits, rtol=1e-4, atol=1e-5)


def test_files_both_ways(tmp_path: Path) -> None:
    theirs, ours = pair()
    ours.save_pretrained(tmp_path / "ours")
    again, info = transformers.WhisperForConditionalGeneration.from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert not any(info.values())
    inputs = {"input_features": features(1), "decoder_input_ids": torch.tensor([[11, 20, 3]])}
    torch.testing.assert_close(again.eval()(**inputs).logits, theirs(**inputs).logits)
    theirs.save_pretrained(tmp_path / "theirs")
    loaded = formers.AutoModelForSpeechSeq2Seq.from_pretrained(tmp_path / "theirs")
    torch.testing.assert_close(loaded(**inputs).logits, theirs(**inputs).logits, rtol=1e-4, atol=1e-5)
    assert loaded.generation_config.extra["no_timestamps_token_id"] == 19


@pytest.mark.parametrize(
    "call",
    [
        {},
        {"language": "german", "task": "translate"},
        {"language": ["en", "de"]},
        {"return_timestamps": True},
        {"return_timestamps": True, "num_beams": 2},
        {"return_timestamps": True, "prompt_ids": torch.tensor([17, 3, 4])},
    ],
)
def test_transcripts_of_a_batch(call: dict[str, Any]) -> None:
    theirs, ours = pair()
    expected = theirs.generate(features(2), **call)
    torch.testing.assert_close(ours.generate(features(2), **call), expected)


@pytest.mark.parametrize(
    "call",
    [
        {},
        {"condition_on_prev_tokens": True},
        {"condition_on_prev_tokens": True, "compression_ratio_threshold": 0.5, "temperature": (0.0, 0.0)},
        {"logprob_threshold": -0.1, "no_speech_threshold": 0.0, "temperature": 0.0},
    ],
)
def test_long_recordings(call: dict[str, Any]) -> None:
    theirs, ours = pair()
    expected = theirs.generate(features(1, 170), language="en", return_segments=True, **call)
    got = ours.generate(features(1, 170), language="en", return_segments=True, **call)
    torch.testing.assert_close(got["sequences"], expected["sequences"].long())
    for first, second in zip(got["segments"][0], expected["segments"][0], strict=True):
        assert first["tokens"].tolist() == second["tokens"].tolist()
        assert (float(first["start"]), float(first["end"])) == pytest.approx(
            (float(second["start"]), float(second["end"]))
        )


def test_times_of_tokens() -> None:
    theirs, ours = pair()
    call = {"language": "en", "return_timestamps": True, "return_token_timestamps": True, "return_segments": True}
    mask = torch.ones(1, 60, dtype=torch.int32)
    expected = theirs.generate(features(1), attention_mask=mask, **call)
    got = ours.generate(features(1), attention_mask=mask, **call)
    for first, second in zip(got["segments"][0], expected["segments"][0], strict=True):
        torch.testing.assert_close(first["token_timestamps"], second["token_timestamps"].float())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"language": "germn"}, "german"),
        ({"language": "fr"}, "does not know the language 'fr'. It knows: de, en"),
        ({"language": ["en"]}, "1 languages were given for 2 recordings"),
        ({"task": "transcrib"}, "Use 'transcribe'"),
        ({"is_multilingual": False, "language": "en"}, "English alone"),
        ({"prompt_ids": [17] * 20}, "the model has 20 positions"),
        ({"max_new_tokens": 30}, "is to write 30 more; the model has 20 positions"),
        ({"prompt_condition_type": "all-segments"}, "condition_on_prev_tokens=True"),
        ({"no_speech_threshold": 0.5}, "without logprob_threshold"),
        ({"temperature": -1.0}, "temperature=-1.0"),
    ],
)
def test_unusable_arguments(call: dict[str, Any], message: str) -> None:
    _, ours = pair()
    with pytest.raises(InputError, match=message):
        ours.generate(features(2), **call)


def test_unusable_features() -> None:
    _, ours = pair()
    with pytest.raises(InputError, match=r"shape \(1, 8, 59\); \(batch, 8, 60\) is expected"):
        ours(input_features=features(1, 59), decoder_input_ids=torch.tensor([[11]]))
    with pytest.raises(InputError, match=r"\(batch, 8, frames\) is expected"):
        ours.generate(torch.zeros(8, 60))
    with pytest.raises(InputError, match="without an attention_mask"):
        ours.generate(features(2, 170))
    with pytest.raises(InputError, match="return_timestamps=False"):
        ours.generate(features(1, 170), return_timestamps=False)
    with pytest.raises(UnsupportedError, match="num_return_sequences"):
        ours.generate(features(1), num_return_sequences=2)
