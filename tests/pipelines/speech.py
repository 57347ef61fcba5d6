"""A tiny random Whisper with a tokenizer, and something for it to hear."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers.pre_tokenizers import ByteLevel

RATE = 16000
# The tiny model hears two seconds at once.
WINDOW = 2
LETTERS = sorted(ByteLevel.alphabet())
WORDS = ["Ġthe", "Ġcat", "Ġsat", "Ġon", "Ġmat", "Ġéa", "ing", 'Ġ"', "Ġ42", "ed", ".", "Ġso", "ly"]
SPECIAL = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|translate|>", "<|transcribe|>"]
SPECIAL += ["<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
FIRST = len(LETTERS) + len(WORDS)
ID = {name: FIRST + place for place, name in enumerate(SPECIAL)}
STEPS = WINDOW * 50 + 1


def made(folder: Path) -> str:
    """A folder with the model, written by the reference."""
    end, start = ID["<|endoftext|>"], ID["<|startoftranscript|>"]
    config = transformers.WhisperConfig(
        vocab_size=FIRST + len(SPECIAL) + STEPS, d_model=16, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=24,
        max_source_positions=WINDOW * 50, max_target_positions=60, num_mel_bins=8, bos_token_id=end,
        eos_token_id=end, pad_token_id=end, decoder_start_token_id=start, begin_suppress_tokens=None,
    )  # fmt: skip
    transformers.set_seed(11)
    model = transformers.WhisperForConditionalGeneration(config)
    for parameter in model.parameters():
        parameter.data.normal_(std=0.35)
    # Let it write words, and times where it has to.
    embeddings = model.model.decoder.embed_tokens.weight.data
    embeddings[: len(LETTERS)] *= 0.1
    embeddings[FIRST:] *= 0.4
    model.generation_config = transformers.GenerationConfig(
        no_timestamps_token_id=ID["<|notimestamps|>"], prev_sot_token_id=ID["<|startofprev|>"],
        alignment_heads=[[1, 0], [0, 1]], is_multilingual=True, lang_to_id={name: ID[name] for name in SPECIAL[2:4]},
        task_to_id={"translate": ID["<|translate|>"], "transcribe": ID["<|transcribe|>"]}, eos_token_id=end,
        max_initial_timestamp_index=20, max_length=60, decoder_start_token_id=start, pad_token_id=end,
        suppress_tokens=sorted(ID.values())[1:], begin_suppress_tokens=[end], return_timestamps=False,
    )  # fmt: skip
    model.save_pretrained(folder)
    transformers.WhisperFeatureExtractor(8, chunk_length=WINDOW).save_pretrained(folder)
    _write_tokenizer(folder)
    return str(folder)


def _write_tokenizer(folder: Path) -> None:
    (folder / "vocab.json").write_text(json.dumps({word: place for place, word in enumerate([*LETTERS, *WORDS])}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    flags = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False}
    times = [f"<|{step * 0.02:.2f}|>" for step in range(STEPS)]
    added = {
        str(FIRST + place): {"content": token, "special": token in ID, **flags}
        for place, token in enumerate([*SPECIAL, *times])
    }
    settings = {
        "tokenizer_class": "WhisperTokenizer",
        "additional_special_tokens": SPECIAL[1:],
        "added_tokens_decoder": added,
        "pad_token": SPECIAL[0],
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def sound(seconds: float, seed: int = 0, rate: int = RATE) -> Any:
    """Tones that come and go, with noise, float32 (N,)."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    tones = sum(np.sin(2 * np.pi * pitch * time * (1 + 0.1 * np.sin(time))) for pitch in random.uniform(150, 3000, 4))
    return (tones * (0.1 + 0.1 * np.sin(3 * time)) + 0.02 * random.normal(size=len(time))).astype(np.float32)


def wav(samples: Any, rate: int = RATE) -> bytes:
    """The bytes of a wav file of 16 bits."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def spoken(text: str) -> torch.Tensor:
    """A text as espeak-ng says it, at 16 kHz. The test is skipped where it is not installed."""
    from formers.audio.files import read

    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng, which speaks the texts, is not installed")
    command = ["espeak-ng", "-v", "en-gb", "-s", "150", "--stdout", text]
    return read(subprocess.run(command, check=True, capture_output=True).stdout)
