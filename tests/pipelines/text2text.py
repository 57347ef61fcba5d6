"""Tiny encoder–decoders with weights and vocabularies that never change, and what version 4 of the reference answers.

`FORMERS_V4_PYTHON=… python -m tests.pipelines.text2text` writes those answers to data/text2text_v4.json.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing

from formers.tokenization.languages import MBART

RECORDED = Path(__file__).parent / "data" / "text2text_v4.json"
WORDS = "the a cat dog sat ran on mat home and to eat good news of day summarize translate English French German"
LETTERS = "abcdefghijklmnopqrstuvwxyzESTFGR.,:;!?'-0123456789"
LONG = "the cat sat on the mat and the dog ran home to eat, good news of the day. " * 3
TEXTS = ["the cat sat on the mat and the dog ran home to eat", "a dog", "good news: the day, the day! 42", ""]

TASKS = {
    "summarization": {
        "early_stopping": True,
        "length_penalty": 2.0,
        "max_length": 14,
        "min_length": 5,
        "no_repeat_ngram_size": 3,
        "num_beams": 4,
        "prefix": "summarize: ",
    },
    "translation_en_to_fr": {"max_length": 12, "num_beams": 2, "prefix": "translate English to French: "},
    "translation_en_to_de": {"max_length": 12, "num_beams": 4, "prefix": "translate English to German: "},
}


def _pieces(first: list[str]) -> list[tuple[str, float]]:
    words = [("▁" + word, -5.0 - 0.01 * place) for place, word in enumerate(WORDS.split())]
    return [
        *((token, 0.0) for token in first),
        *words,
        ("▁", -6.0),
        *((letter, -9.0 - 0.01 * place) for place, letter in enumerate(LETTERS)),
    ]


def _unigram(first: list[str], last: list[str], unknown: int, frame: TemplateProcessing) -> Tokenizer:
    engine = Tokenizer(models.Unigram(_pieces(first), unknown, False))
    engine.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    engine.decoder = decoders.Metaspace(prepend_scheme="always")
    engine.add_special_tokens([*first, *last])
    engine.post_processor = frame
    return engine


def _write(folder: Path, engine: Tokenizer, name: str, **settings: Any) -> None:
    engine.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": name, "model_max_length": 40, **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


def _fill(model: Any, folder: Path) -> None:
    """Save a model with weights that hang on their names alone."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            # This generator's numbers never change.
            draw = np.random.RandomState(crc32(name.encode()))
            values = torch.from_numpy(draw.standard_normal(weight.shape)).float()
            if "norm" in name and name.endswith("weight"):
                weight.copy_(1 + 0.1 * values)
            else:
                # Small embeddings, or else every token is followed by itself.
                weight.copy_((0.1 if "shared" in name or "embed" in name else 0.5) * values)
    model.save_pretrained(folder)


def t5(folder: Path) -> None:
    """T5 whose configuration knows a summary and two languages."""
    frame = TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    engine = _unigram(["<pad>", "</s>", "<unk>"], [], 2, frame)
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "extra_ids": 0}
    _write(folder, engine, "T5Tokenizer", **special)
    config = transformers.T5Config(
        vocab_size=engine.get_vocab_size(),
        d_model=32,
        d_kv=8,
        d_ff=48,
        num_layers=2,
        num_heads=4,
        decoder_start_token_id=0,
        task_specific_params=TASKS,
    )
    _fill(transformers.T5ForConditionalGeneration(config), folder)


def bart(folder: Path) -> None:
    """BART over letters, with 60 positions and settings of its own."""
    first = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    vocabulary = {name: place for place, name in enumerate([*first, "Ġ", *LETTERS])}
    engine = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = decoders.ByteLevel()
    engine.add_special_tokens(first)
    engine.post_processor = TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    special = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token", "mask_token"), first, strict=True))
    _write(folder, engine, "BartTokenizer", **special, cls_token="<s>", sep_token="</s>")
    _bart(transformers.BartConfig, transformers.BartForConditionalGeneration, engine, folder, forced_bos_token_id=0)
    _set(folder, max_length=18, min_length=3, num_beams=3, no_repeat_ngram_size=3)


def mbart(folder: Path) -> None:
    """mBART with its 25 languages."""
    first = ["<s>", "<pad>", "</s>", "<unk>"]
    engine = _unigram(first, [*MBART, "<mask>"], 3, TemplateProcessing(single="$A", pair="$A $B", special_tokens=[]))
    frame = TemplateProcessing(
        single="$A </s> en_XX",
        pair="$A $B </s> en_XX",
        special_tokens=[("</s>", 2), ("en_XX", engine.token_to_id("en_XX"))],
    )
    engine.post_processor = frame
    special = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token"), first, strict=True))
    more = {"mask_token": "<mask>", "cls_token": "<s>", "sep_token": "</s>", "src_lang": "en_XX"}
    _write(folder, engine, "MBartTokenizer", **special, **more)
    _bart(transformers.MBartConfig, transformers.MBartForConditionalGeneration, engine, folder)
    _set(folder, decoder_start_token_id=2, forced_eos_token_id=2)


def _bart(config: Any, model: Any, engine: Tokenizer, folder: Path, **special: Any) -> None:
    sizes = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48}
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
    made = config(vocab_size=engine.get_vocab_size(), max_position_embeddings=60, **sizes, **heads, **special)
    _fill(model(made), folder)


def _set(folder: Path, **settings: Any) -> None:
    file = folder / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}), encoding="utf-8")


MAKERS = {"t5": t5, "bart": bart, "mbart": mbart}

SHORT: dict[str, Any] = {"max_new_tokens": 8}
PAIR = {"src_lang": "fr_XX", "tgt_lang": "de_DE"}
# Task, model, inputs, options. Where the model sets the number of beams (BART) the call does too: version 4 documents
# that the model's counts, and takes its own.
CALLS: list[tuple[str, str, Any, dict[str, Any]]] = [
    ("text2text-generation", "t5", TEXTS, SHORT),
    ("text2text-generation", "t5", TEXTS[0], {"max_new_tokens": 6, "num_beams": 1}),
    ("text2text-generation", "t5", TEXTS, {**SHORT, "num_return_sequences": 3}),
    ("text2text-generation", "t5", TEXTS[1], {**SHORT, "num_return_sequences": 3}),
    ("text2text-generation", "t5", TEXTS, {**SHORT, "return_tensors": True}),
    ("text2text-generation", "t5", LONG, SHORT),
    ("text2text-generation", "t5", LONG, {**SHORT, "truncation": True}),
    ("text2text-generation", "t5", TEXTS[1], {**SHORT, "clean_up_tokenization_spaces": True}),
    ("text2text-generation", "t5", TEXTS[0], {"generation_config": {"max_new_tokens": 5}}),
    ("text2text-generation", "t5", TEXTS[1], {}),
    ("summarization", "t5", TEXTS, {"max_new_tokens": 13}),
    ("summarization", "t5", TEXTS[0], {"max_new_tokens": 9, "num_beams": 1, "min_length": 2}),
    ("summarization", "t5", TEXTS[0], {**SHORT, "repetition_penalty": 1.3, "bad_words_ids": [[5], [7, 8]]}),
    ("translation_en_to_fr", "t5", TEXTS, {"max_new_tokens": 11}),
    ("translation_en_to_de", "t5", TEXTS, {"max_new_tokens": 11}),
    ("translation", "t5", TEXTS[0], {"max_new_tokens": 11}),
    ("translation_en_to_ro", "t5", TEXTS[0], SHORT),
    ("summarization", "bart", TEXTS, {"num_beams": 3}),
    ("summarization", "bart", TEXTS, {**SHORT, "num_beams": 4}),
    ("summarization", "bart", LONG, {"truncation": True, "max_new_tokens": 10, "num_beams": 3, "length_penalty": 0.5}),
    ("text2text-generation", "bart", TEXTS[0], {**SHORT, "num_beams": 1, "return_tensors": True}),
    (
        "text2text-generation",
        "bart",
        TEXTS[2],
        {**SHORT, "num_beams": 4, "early_stopping": "never", "num_return_sequences": 3},
    ),
    ("translation", "mbart", TEXTS, {**PAIR, **SHORT}),
    ("translation", "mbart", TEXTS[0], {**PAIR, **SHORT, "num_beams": 1, "return_tensors": True}),
    ("translation", "mbart", TEXTS[0], {"src_lang": "en_XX", "tgt_lang": "ro_RO", **SHORT}),
]

SCRIPT = """
import json, sys
import torch, transformers
from transformers import GenerationConfig, pipeline

def plain(value):
    if isinstance(value, torch.Tensor):
        return {"ids": value.tolist()}
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list) else value

job, answers = json.load(sys.stdin), []
for task, model, inputs, options in job["calls"]:
    if "generation_config" in options:
        options["generation_config"] = GenerationConfig(**options["generation_config"])
    pipe = pipeline(task, model=job["folders"][model], device="cpu")
    answers.append(plain(pipe(inputs, **options)))
print("ANSWERS" + json.dumps(answers))
"""


def v4_python() -> str | None:
    """The Python of an environment with version 4, if there is one."""
    python = os.environ.get("FORMERS_V4_PYTHON") or str(Path(".venv-v4") / "bin" / "python")
    return python if Path(python).exists() else None


def ask_v4(python: str, folders: dict[str, str]) -> list[Any]:
    """The answers of version 4 to all calls."""
    job = json.dumps({"folders": folders, "calls": CALLS})
    command = [python, "-W", "ignore", "-c", SCRIPT]
    done = subprocess.run(command, input=job, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    answers: list[Any] = json.loads(done.stdout.rpartition("ANSWERS")[2])
    return answers


def made(root: Path) -> dict[str, str]:
    """The folders of all models, made in one folder."""
    for name, make in MAKERS.items():
        (root / name).mkdir()
        make(root / name)
    return {name: str(root / name) for name in MAKERS}


if __name__ == "__main__":
    python = v4_python()
    if python is None:
        sys.exit("There is no environment with version 4 of the reference (FORMERS_V4_PYTHON or .venv-v4).")
    with tempfile.TemporaryDirectory() as root:
        found = ask_v4(python, made(Path(root)))
    RECORDED.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
