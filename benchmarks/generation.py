"""Generation as contenders: SmolLM2-135M from its GGUF file through each library, greedy, the same prompts."""

from __future__ import annotations

import gc
import sys
import time
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.timing import timed

Report = dict[str, Any]

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
GGUF = "model.gguf"
PROMPTS = (
    "The capital of France is",
    "Once upon a time there was a",
    "Water boils at a temperature of",
    "The three primary colours are",
    "To bake bread, first",
)
NEW = 64
LONG = 1024
RAGGED = (5, 17, 400, 33, 64, 8, 250, 120, 12, 300, 45, 90, 21, 180, 6, 70)
RUNS = 3


def greedy(library: str, folder: Path) -> Report:
    """64 tokens after each of 5 prompts, one at a time: seconds, and the tokens."""
    tokenizer, model = _loaded(library, "float32", folder)
    inputs = [tokenizer(prompt, return_tensors="pt") for prompt in PROMPTS]
    _generate(model, inputs[0], 4)
    seconds, answer = timed(lambda: [_generate(model, each, NEW)[0].tolist() for each in inputs])
    return {"seconds": seconds, "answer": answer}


def logits(library: str, folder: Path) -> Report:
    """Logits of every token of the prompts (their largest magnitudes are some tens)."""
    import torch

    tokenizer, model = _loaded(library, "float32", folder)
    inputs = [tokenizer(prompt, return_tensors="pt") for prompt in PROMPTS]
    with torch.inference_mode():
        seconds, outputs = timed(lambda: [model(**each).logits[0] for each in inputs])
    return {"seconds": seconds, "answer": [output[:, ::97].flatten().tolist() for output in outputs]}


def decode(library: str, dtype: str, batch: str, folder: Path) -> Report:
    """Seconds a step of `batch` rows: what 64 more tokens take, through 64."""
    tokenizer, model = _loaded(library, dtype, folder)
    prompt = tokenizer([PROMPTS[1]] * int(batch), return_tensors="pt")
    _generate(model, prompt, 4)

    def seconds(tokens: int) -> float:
        return median(timed(lambda: _generate(model, prompt, tokens))[0] for _ in range(RUNS))

    return {"seconds": (seconds(NEW + 1) - seconds(1)) / NEW}


def decode_ctranslate2(batch: str, folder: Path) -> Report:
    """As `decode` through CTranslate2, in float32, from the weights of the same file."""
    reason = folder / "smollm-ct2.error"
    if reason.exists():
        sys.exit(reason.read_text())
    import ctranslate2  # type: ignore[import-untyped]

    from formers import AutoTokenizer
    from formers.cli.machine import usable_cores

    tokenizer = AutoTokenizer.from_pretrained(str(folder / "smollm"), gguf_file=GGUF)
    cores = max(1, round(usable_cores()))
    model = ctranslate2.Generator(str(folder / "smollm-ct2"), compute_type="float32", intra_threads=cores)
    rows = [tokenizer.convert_ids_to_tokens(tokenizer(PROMPTS[1])["input_ids"])] * int(batch)

    def seconds(tokens: int) -> float:
        length = {"max_length": tokens, "min_length": tokens, "max_batch_size": len(rows)}
        return median(timed(lambda: model.generate_batch(rows, **length))[0] for _ in range(RUNS))

    seconds(4)
    return {"seconds": (seconds(NEW + 1) - seconds(1)) / NEW}


def ragged(library: str, folder: Path) -> Report:
    """16 prompts of 5 to 400 tokens in one call, 32 new tokens each."""
    tokenizer, model = _loaded(library, "float32", folder)
    text = tokenizer(" ".join(PROMPTS * 20))["input_ids"]
    rows = [{"input_ids": text[index : index + length]} for index, length in enumerate(RAGGED)]
    tokenizer.padding_side = "left"
    batch = tokenizer.pad(rows, return_tensors="pt")
    _generate(model, {name: value[:2, -8:] for name, value in batch.items()}, 4)
    gc.collect()
    return {"seconds": timed(lambda: _generate(model, batch, 32))[0]}


def prefill(library: str, folder: Path) -> Report:
    """From a prompt of 1,024 tokens to the first new one, through `generate`, which prepares the model."""
    import torch

    tokenizer, model = _loaded(library, "float32", folder)
    ids = torch.tensor([(tokenizer(" ".join(PROMPTS * 40))["input_ids"])[:LONG]])
    prompt = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    calls = [timed(lambda: _generate(model, prompt, 1))[0] for _ in range(RUNS + 1)]
    return {"seconds": median(calls[1:])}


def step_overhead(folder: Path) -> Report:
    """Seconds a step that generation takes outside the model, one row: what 64 more tokens take, through 64.

    Nothing is asked for but the likeliest tokens, after a prompt that is followed by as many.
    """
    tokenizer, model = _loaded("formers", "float32", folder)
    prompt = tokenizer(PROMPTS[2], return_tensors="pt")
    inside = 0.0
    forward = model.forward

    def watched(*args: Any, **named: Any) -> Any:
        nonlocal inside
        start = time.perf_counter()
        output = forward(*args, **named)
        inside += time.perf_counter() - start
        return output

    model.forward = watched
    _generate(model, prompt, 4)

    def outside(tokens: int) -> float:
        nonlocal inside
        inside = 0.0
        whole, ids = timed(lambda: model.generate(**prompt, max_new_tokens=tokens, do_sample=False))
        assert ids.shape[1] == prompt["input_ids"].shape[1] + tokens
        return whole - inside

    return {"seconds": median((outside(NEW + 1) - outside(1)) / NEW for _ in range(RUNS))}


def prepare(folder: Path) -> None:
    """FOLDER/smollm/model.gguf: the model, where it is installed; FOLDER/smollm-ct2, where CTranslate2 is."""
    from formers.hub.packages import KNOWN, find_package

    source = find_package(MODEL)
    if source is None:
        raise SystemExit(f"{MODEL} is not here: formers pull {MODEL}")
    (folder / "smollm").mkdir()
    (folder / "smollm" / GGUF).symlink_to(source / KNOWN[MODEL].weights)
    try:
        from ctranslate2.converters import TransformersConverter  # type: ignore[import-untyped]

        # The converter reads plain files.
        for part in _loaded("formers", "float32", folder):
            part.save_pretrained(folder / "smollm-plain")
        TransformersConverter(str(folder / "smollm-plain")).convert(str(folder / "smollm-ct2"))
    except Exception as error:  # an optional peer: its rows say that it was skipped
        (folder / "smollm-ct2.error").write_text(f"not converted: {error!r:.200}")


def _loaded(library: str, dtype: str, folder: Path) -> tuple[Any, Any]:
    import torch

    made, where = import_module(library), {"gguf_file": GGUF}
    tokenizer = made.AutoTokenizer.from_pretrained(str(folder / "smollm"), **where)
    model = made.AutoModelForCausalLM.from_pretrained(
        str(folder / "smollm"), dtype=getattr(torch, dtype), **where
    ).eval()
    return tokenizer, model


def _generate(model: Any, inputs: Any, tokens: int) -> Any:
    """Prompts and exactly `tokens` more."""
    return model.generate(**inputs, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False)
