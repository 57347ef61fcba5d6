"""What runs in a process of its own: `python -m benchmarks.worker TASK [ARGUMENT…] FOLDER` prints one line of JSON.

Each task loads a library, warms up, measures and reports `seconds` and `answer`. The libraries are named by their
modules: "formers" and "transformers" have the same calls.
"""

from __future__ import annotations

import gc
import json
import platform
import sys
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from hashlib import sha256
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from math import prod
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks import generation, seq2seq, speech
from benchmarks.timing import timed
from benchmarks.training import evaluate, fine_tune, first_losses

Report = dict[str, Any]

SINGLE = 200  # texts in the rows of one text at a time through a model
CALLS = 5000  # and through a tokenizer
BATCH = 32
WARM_UP = 4.0  # seconds of calls that do not count: libraries may prepare their models meanwhile


def classify(library: str, batch_size: str, folder: Path) -> Report:
    """All sentences in one call of a pipeline; `batch_size` "default" leaves it to the library."""
    classifier, texts = _classifier(library, folder), _texts(folder, "validation")
    options = {} if batch_size == "default" else {"batch_size": int(batch_size)}
    classifier(texts[: 2 * BATCH], **options)
    seconds, answer = _measured(lambda: classifier(texts, **options))
    return {"seconds": seconds, "answer": answer}


def classify_one(library: str, model: str, folder: Path) -> Report:
    """One sentence a call of a pipeline with FOLDER/`model`: the median call."""
    classifier, texts = _classifier(library, folder, model), _texts(folder, "validation")[:SINGLE]
    return _each(classifier, texts)


def onnx(folder: Path) -> Report:
    """All sentences through ONNX Runtime and the tokenizers engine: sorted by length, in padded batches."""
    import numpy as np

    run, encode = _session(folder)
    texts = _texts(folder, "validation")

    def classify(texts: list[str]) -> Any:
        encoded = encode(texts)
        order = sorted(range(len(texts)), key=lambda index: -len(encoded[index]))
        logits = np.empty((len(texts), 2), dtype=np.float32)
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            logits[batch] = run([encoded[index] for index in batch])
        return _labels(logits)

    classify(texts[: 2 * BATCH])
    seconds, answer = _measured(lambda: classify(texts))
    return {"seconds": seconds, "answer": answer}


def onnx_one(folder: Path) -> Report:
    """One sentence at a time through ONNX Runtime: the median."""
    run, encode = _session(folder)
    return _each(lambda text: _labels(run(encode([text]))), _texts(folder, "validation")[:SINGLE])


def tokenize(library: str, form: str, folder: Path) -> Report:
    """All lines in one call of a tokenizer: to padded "tensors", or to "lists"."""
    tokenizer, lines = _tokenizer(library, folder), _texts(folder, "train")
    options = {"padding": True, "return_tensors": "pt"} if form == "tensors" else {}
    tokenizer(lines[:1000], **options)
    seconds, encoding = _measured(lambda: tokenizer(lines, **options))
    return {"seconds": seconds, "answer": {name: _fingerprint(value) for name, value in encoding.items()}}


def tokenize_one(library: str, folder: Path) -> Report:
    """One line a call of a tokenizer: the median call."""
    tokenizer, lines = _tokenizer(library, folder), _texts(folder, "train")[:CALLS]
    report = _each(tokenizer, lines)
    return {**report, "answer": _fingerprint([dict(encoding) for encoding in report["answer"]])}


def engine(folder: Path) -> Report:
    """The floor of tokenization: the engine that both libraries stand on, and nothing around it."""
    encode, lines = _engine(folder).encode_batch_fast, _texts(folder, "train")
    encode(lines[:1000])
    return {"seconds": _measured(lambda: encode(lines))[0]}


def engine_one(folder: Path) -> Report:
    """The same for one line at a time."""
    return {"seconds": _each(_engine(folder).encode, _texts(folder, "train")[:CALLS])["seconds"]}


def encoder_floor(texts: str, folder: Path) -> Report:
    """The floor of the model: of "all" sentences, or of "one" of median length."""
    from benchmarks.floor import encoder_seconds

    lengths = [len(encoding) for encoding in _engine(folder).encode_batch(_texts(folder, "validation"))]
    return {"seconds": encoder_seconds(folder / "model", lengths if texts == "all" else [round(median(lengths))])}


def decoder_floor(tokens: str, folder: Path) -> Report:
    """The floor of one pass of so many tokens, with the weights as the file stores them."""
    from benchmarks.floor import decoder_seconds
    from formers import AutoConfig
    from formers.hub.files import Source, resolve
    from formers.hub.weights import open_weights

    source = Source(gguf_file=generation.GGUF)
    weights = open_weights(resolve(folder / "smollm", source))
    blocks = ((key, weights.blocks(key)) for key in weights.keys())  # noqa: SIM118
    size = sum(4 * prod(weights.shape(key)) if held is None else held.data.numel() for key, held in blocks)
    config = AutoConfig.from_pretrained(folder / "smollm", gguf_file=generation.GGUF)
    return {"seconds": decoder_seconds(config.to_dict(), size, int(tokens))}


def machine(folder: Path) -> Report:
    """What the figures were taken on."""
    import torch

    from benchmarks.floor import TOKENS, encoder_shapes, matmul_rate, read_bandwidth
    from formers.cli.machine import processor, usable_cores

    about = processor()
    config = json.loads((folder / "model/config.json").read_text())
    shapes = encoder_shapes(config)
    rates = [matmul_rate(shapes, dtype) / 1e9 for dtype in (torch.float32, torch.int8)]
    lengths = [len(encoding) for encoding in _engine(folder).encode_batch(_texts(folder, "validation"))]
    return {
        "seconds": 0.0,
        "answer": {
            "processor": f"{_cpu()}, {usable_cores():g} cores, {about['instructions']}",
            "torch threads": about["threads"],
            "the model's products": f"fp32 {rates[0]:.0f} GFLOP/s, int8 {rates[1]:.0f} GOP/s, {TOKENS:,} tokens",
            "read bandwidth": f"{read_bandwidth() / 1e9:.0f} GB/s",
            "data": f"{len(lengths):,} sentences of {sum(lengths) / len(lengths):.1f} tokens on average, "
            f"{len(_texts(folder, 'train')):,} lines",
            "versions": ", ".join(f"{name} {_version(name)}" for name in VERSIONS),
        },
    }


VERSIONS = ("python", "torch", "formers", "transformers", "tokenizers", "onnxruntime", "ctranslate2")

TASKS: dict[str, Callable[..., Report]] = {
    task.__name__: task
    for task in (
        classify,
        classify_one,
        onnx,
        onnx_one,
        tokenize,
        tokenize_one,
        engine,
        engine_one,
        encoder_floor,
        decoder_floor,
        generation.decode,
        generation.decode_ctranslate2,
        generation.greedy,
        generation.logits,
        generation.prefill,
        generation.ragged,
        generation.step_overhead,
        seq2seq.ctranslate2,
        seq2seq.seq2seq,
        speech.speech,
        speech.speech_ctranslate2,
        evaluate,
        fine_tune,
        first_losses,
        machine,
    )
}


def _measured(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result of one call, with no garbage of the warm-up left."""
    gc.collect()
    return timed(call)


def _each(call: Callable[[str], Any], texts: list[str]) -> Report:
    """Every text in a call of its own, after some that do not count: the median seconds, and all answers."""
    start = perf_counter()
    while perf_counter() - start < WARM_UP:
        for text in texts[: len(texts) // 10]:
            call(text)
    gc.collect()
    calls = [timed(lambda: call(text)) for text in texts]  # noqa: B023
    return {"seconds": median(seconds for seconds, _ in calls), "answer": [answer for _, answer in calls]}


def _texts(folder: Path, split: str) -> list[str]:
    return list(json.loads((folder / f"{split}.json").read_text()))


def _classifier(library: str, folder: Path, model: str = "model") -> Any:
    return import_module(library).pipeline("sentiment-analysis", model=str(folder / model))


def _tokenizer(library: str, folder: Path) -> Any:
    return import_module(library).AutoTokenizer.from_pretrained(str(folder / "model"))


def _engine(folder: Path) -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "model/tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _session(folder: Path) -> tuple[Callable[[list[list[int]]], Any], Callable[[list[str]], list[list[int]]]]:
    """From lists of ids to logits through ONNX Runtime, and from texts to lists of ids."""
    reason = folder / "classifier.onnx.error"
    if reason.exists():
        sys.exit(reason.read_text())
    import numpy as np
    import onnxruntime  # type: ignore[import-untyped]

    session = onnxruntime.InferenceSession(str(folder / "classifier.onnx"), providers=["CPUExecutionProvider"])
    tokenizer = _engine(folder)

    def run(texts: list[list[int]]) -> Any:
        ids = np.zeros((len(texts), max(map(len, texts))), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = text
            mask[row, : len(text)] = 1
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        return session.run(None, given)[0]

    return run, lambda texts: [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]


def _labels(logits: Any) -> list[dict[str, Any]]:
    import numpy as np

    from benchmarks.prepare import NAMES

    powers = np.exp(logits - logits.max(-1, keepdims=True))
    scores = powers / powers.sum(-1, keepdims=True)
    return [{"label": NAMES[int(row.argmax())], "score": float(row.max())} for row in scores]


def _fingerprint(value: Any) -> str:
    content = value.numpy().tobytes() if hasattr(value, "numpy") else json.dumps(value, sort_keys=True).encode()
    return sha256(content).hexdigest()[:16]


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names: Iterable[str] = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(iter(names), platform.machine())


def _version(package: str) -> str:
    if package == "python":
        return platform.python_version()
    if package == "formers":
        return str(import_module(package).__version__)
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    task, *arguments, where = sys.argv[1:]
    with redirect_stdout(sys.stderr):  # what a library prints is not the answer
        report = TASKS[task](*arguments, Path(where))
    print(json.dumps(report))
