"""Encoder–decoders as contenders: the shapes of T5-small and of a Marian translator, with random weights."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.timing import timed

Report = dict[str, Any]

# Tokens of the texts, and of what is written for each.
SOURCES = (12, 31, 8, 24, 40, 17, 22, 9, 35, 14, 28, 20, 11, 26, 33, 18)
NEW = 64
RUNS = 3

PAD = "<pad>"

T5 = "t5-small"
MARIAN = "marian"
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    T5: (
        "T5",
        {
            "vocab_size": 32128,
            "d_model": 512,
            "d_kv": 64,
            "d_ff": 2048,
            "num_layers": 6,
            "num_heads": 8,
            "pad_token_id": 0,
            "eos_token_id": 1,
            "decoder_start_token_id": 0,
        },
    ),
    MARIAN: (
        "Marian",
        {
            **dict.fromkeys(("vocab_size", "decoder_vocab_size"), 58101),
            "d_model": 512,
            "encoder_layers": 6,
            "decoder_layers": 6,
            "max_position_embeddings": 512,
            **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 8),
            **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 2048),
            "activation_function": "swish",
            "scale_embedding": True,
            "pad_token_id": 58100,
            "eos_token_id": 0,
            "decoder_start_token_id": 58100,
            "forced_eos_token_id": None,
        },
    ),
}


def seq2seq(library: str, shape: str, beams: str, folder: Path) -> Report:
    """64 tokens for each of 16 texts of 8 to 40 tokens: the median seconds of some calls, and the tokens."""
    import torch

    model = import_module(library).AutoModelForSeq2SeqLM.from_pretrained(str(folder / shape)).eval()
    rows = _sources(shape)
    longest, pad = max(map(len, rows)), model.config.pad_token_id
    inputs = {
        "input_ids": torch.tensor([row + [pad] * (longest - len(row)) for row in rows]),
        "attention_mask": torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows]),
    }

    def generate(tokens: int) -> Any:
        length = {"max_new_tokens": tokens, "min_new_tokens": tokens}
        return model.generate(**inputs, **length, num_beams=int(beams), do_sample=False)

    generate(4)
    calls = [timed(lambda: generate(NEW)) for _ in range(RUNS)]
    return {"seconds": median(seconds for seconds, _ in calls), "answer": calls[0][1][:, 1:].tolist()}


def ctranslate2(shape: str, beams: str, folder: Path) -> Report:
    """The same through CTranslate2, in float32."""
    reason = folder / f"{shape}-ct2.error"
    if reason.exists():
        sys.exit(reason.read_text())
    import ctranslate2 as library  # type: ignore[import-untyped]

    from formers.cli.machine import usable_cores

    cores = max(1, round(usable_cores()))
    translator = library.Translator(str(folder / f"{shape}-ct2"), compute_type="float32", intra_threads=cores)
    rows = [[_word(index) for index in row] for row in _sources(shape)]

    def generate(tokens: int) -> list[list[int]]:
        length = {"max_decoding_length": tokens, "min_decoding_length": tokens, "max_batch_size": len(rows)}
        found = translator.translate_batch(rows, beam_size=int(beams), **length)
        return [[_index(word, shape) for word in one.hypotheses[0]] for one in found]

    generate(4)
    calls = [timed(lambda: generate(NEW)) for _ in range(RUNS)]
    return {"seconds": median(seconds for seconds, _ in calls), "answer": calls[0][1]}


def prepare(folder: Path) -> None:
    """FOLDER/t5-small and FOLDER/marian, and where CTranslate2 is installed FOLDER/…-ct2."""
    import formers

    formers.set_seed(0)
    for shape, (family, values) in SHAPES.items():
        config = getattr(formers, f"{family}Config")(**values)
        formers.AutoModelForSeq2SeqLM.from_config(config).save_pretrained(folder / shape)
        _write_words(folder / shape, values)
        try:
            from ctranslate2.converters import TransformersConverter  # type: ignore[import-untyped]

            TransformersConverter(str(folder / shape)).convert(str(folder / f"{shape}-ct2"))
        except Exception as error:  # an optional peer: its rows say that it was skipped
            (folder / f"{shape}-ct2.error").write_text(f"not converted: {error!r:.200}")


def _write_words(folder: Path, values: dict[str, Any]) -> None:
    """A tokenizer whose words are the ids, which the converter asks for."""
    from tokenizers import Tokenizer, models

    words = [_word(index) for index in range(values["vocab_size"])]
    # The converter takes Marian's padding out of the vocabulary, by its usual name.
    words[values["pad_token_id"]] = PAD
    vocabulary = {word: index for index, word in enumerate(words)}
    Tokenizer(models.WordLevel(vocabulary, _word(2))).save(str(folder / "tokenizer.json"))
    special = {"pad_token": PAD, "eos_token": _word(values["eos_token_id"]), "unk_token": _word(2)}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def _word(index: int) -> str:
    return f"<{index}>"


def _index(word: str, shape: str) -> int:
    return int(SHAPES[shape][1]["pad_token_id"]) if word == PAD else int(word.strip("<>"))


def _sources(shape: str) -> list[list[int]]:
    """The same ids each time, each text with its end."""
    end = SHAPES[shape][1]["eos_token_id"]
    return [[3 + (37 * row + 101 * place) % 30000 for place in range(n - 1)] + [end] for row, n in enumerate(SOURCES)]
