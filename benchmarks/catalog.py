"""The benchmarks: who is measured, against whom, and what has to be reached. Adding one is adding an entry here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from benchmarks.generation import LONG
from benchmarks.seq2seq import SHAPES
from benchmarks.table import FLOOR, OURS, Bar, Comparison
from benchmarks.timing import Contender

TRANSFORMERS = "transformers"
ONNX = "onnxruntime"
TRAINING = "training"
FIRST_LOSSES = "training-losses"
GENERATION = "generation"
SEQ2SEQ = "seq2seq"
SPEECH = "speech"
CTRANSLATE2 = "ctranslate2"
BATCH_SIZES = (8, 16, 32)
TEXT = "Using a transformer network is simple, and this sentence is about as long as most."


@dataclass(frozen=True)
class Benchmark:
    """Contenders that take turns, and the lines of the table made from them.

    `warmups`: turns that do not count. `turns`: how many count, where the benchmark says so itself.
    `needs`: what is to be prepared beyond the common model and data.
    """

    name: str
    contenders: Mapping[str, Contender]
    comparisons: tuple[Comparison, ...]
    warmups: int = 0
    turns: int | None = None
    needs: str | None = None


def _imports(statement: str, check: str = "") -> Contender:
    """Seconds of one statement in a fresh process."""
    code = (
        "import sys, time; start = time.perf_counter()\n"
        f"{statement}\n"
        f"seconds = time.perf_counter() - start\n{check}\n"
        "print('{\"seconds\": %r}' % seconds)"
    )
    return Contender(("-c", code))


def _process(statements: str, result: str, clock: Literal["answered", "ended"]) -> Contender:
    """A whole process from its start; `folder` is the data folder."""
    code = (
        f"import sys; folder = sys.argv[1]\n{statements}\nresult = {result}\n"
        "import json; print(json.dumps({'answer': result}))"
    )
    return Contender(("-c", code), clock)


def _worker(*arguments: str) -> Contender:
    return Contender(("-m", "benchmarks.worker", *arguments))


def _tokenizer_process(library: str) -> Contender:
    return _process(
        f"from {library} import AutoTokenizer; tokenizer = AutoTokenizer.from_pretrained(folder + '/model')",
        f"tokenizer({TEXT!r})['input_ids']",
        "ended",
    )


def _first_answer(library: str) -> Contender:
    return _process(
        f"from {library} import pipeline; classify = pipeline('sentiment-analysis', model=folder + '/model')",
        f"classify({TEXT!r})",
        "answered",
    )


def _first_token(library: str) -> Contender:
    return _process(
        f"from {library} import AutoModelForCausalLM, AutoTokenizer; name = folder + '/smollm'\n"
        "tokenizer = AutoTokenizer.from_pretrained(name, gguf_file='model.gguf')\n"
        "model = AutoModelForCausalLM.from_pretrained(name, gguf_file='model.gguf')\n"
        f"inputs = tokenizer({TEXT!r}, return_tensors='pt')",
        "model.generate(**inputs, max_new_tokens=1, do_sample=False)[0].tolist()",
        "answered",
    )


def _pipelines(task: str, *arguments: str) -> dict[str, Contender]:
    return {library: _worker(task, library, *arguments) for library in (OURS, TRANSFORMERS)}


def _seq2seq(shape: str, beams: int) -> Benchmark:
    what = f"{shape} shape, 16 texts, 64 tokens each, {'greedy' if beams == 1 else f'{beams} beams'}"
    return Benchmark(
        f"{shape}-{'greedy' if beams == 1 else 'beams'}",
        {
            **{library: _worker("seq2seq", library, shape, str(beams)) for library in (OURS, TRANSFORMERS)},
            CTRANSLATE2: _worker("ctranslate2", shape, str(beams)),
        },
        (
            Comparison(what, (TRANSFORMERS,), Bar("speed", 2)),
            Comparison("against its float32", (CTRANSLATE2,), Bar("speed")),
        ),
        turns=3,
        needs=SEQ2SEQ,
    )


_BATCHED = {f"{TRANSFORMERS}, batch_size={size}": size for size in BATCH_SIZES}

BENCHMARKS = (
    Benchmark(
        "import",
        {OURS: _imports("import formers", "if 'torch' in sys.modules: sys.exit('import formers imports torch')")},
        (Comparison("import formers, without torch", (), Bar("seconds", 0.1)),),
        warmups=1,
    ),
    Benchmark(
        "import-pipeline",
        {
            OURS: _imports("from formers import pipeline"),
            "torch": _imports("import torch"),
            TRANSFORMERS: _imports("from transformers import pipeline"),
        },
        (
            Comparison("from formers import pipeline", ("torch",), Bar("time", 1.15)),
            Comparison("from formers import pipeline", (TRANSFORMERS,), Bar("time")),
        ),
        warmups=1,
    ),
    Benchmark(
        "tokenizer-process",
        {
            OURS: _tokenizer_process(OURS),
            TRANSFORMERS: _tokenizer_process(TRANSFORMERS),
            FLOOR: _process(
                "from tokenizers import Tokenizer; tokenizer = Tokenizer.from_file(folder + '/model/tokenizer.json')",
                f"tokenizer.encode({TEXT!r}).ids",
                "ended",
            ),
        },
        (
            Comparison("AutoTokenizer, one sentence, whole process", (TRANSFORMERS,), Bar("time", 0.15)),
            Comparison("its peak memory", (TRANSFORMERS,), Bar("time"), "rss"),
        ),
        warmups=1,
    ),
    Benchmark(
        "first-answer",
        {
            OURS: _first_answer(OURS),
            TRANSFORMERS: _first_answer(TRANSFORMERS),
            FLOOR: _process("import torch", "None", "answered"),
        },
        (
            Comparison("process start to first sentiment", (TRANSFORMERS,), Bar("time", 0.5)),
            Comparison("its peak memory", (TRANSFORMERS,), Bar("time"), "rss"),
        ),
        warmups=1,
    ),
    Benchmark(
        "sst2",
        {
            **_pipelines("classify", "default"),
            **{name: _worker("classify", TRANSFORMERS, str(size)) for name, size in _BATCHED.items()},
            ONNX: _worker("onnx"),
            FLOOR: _worker("encoder_floor", "all"),
        },
        (
            Comparison("SST-2 validation, defaults", (TRANSFORMERS,), Bar("speed", 3)),
            Comparison("against the best batch_size", tuple(_BATCHED), Bar("speed", 1.5)),
            Comparison("against sorted batches of 32", (ONNX,), Bar("speed")),
        ),
    ),
    Benchmark(
        "one-sentence",
        {**_pipelines("classify_one", "model"), ONNX: _worker("onnx_one"), FLOOR: _worker("encoder_floor", "one")},
        (
            Comparison("one sentence through a pipeline, p50", (TRANSFORMERS,), Bar("time", 0.5)),
            Comparison("against model and engine alone", (ONNX,), Bar("speed")),
        ),
    ),
    Benchmark(
        "one-sentence-full",
        _pipelines("classify_one", "base"),
        (Comparison("the same, weights that need all 32 bits", (TRANSFORMERS,), Bar("time", 0.5)),),
    ),
    Benchmark(
        "tokenize-tensors",
        {**_pipelines("tokenize", "tensors"), FLOOR: _worker("engine")},
        (Comparison("SST-2 train to padded tensors", (TRANSFORMERS,), Bar("speed", 4)),),
    ),
    Benchmark(
        "tokenize-lists",
        {**_pipelines("tokenize", "lists"), FLOOR: _worker("engine")},
        (Comparison("SST-2 train to lists", (TRANSFORMERS,), Bar("speed", 1.6)),),
    ),
    Benchmark(
        "tokenize-one",
        {**_pipelines("tokenize_one"), FLOOR: _worker("engine_one")},
        (Comparison("one text a call, p50", (TRANSFORMERS,), Bar("speed", 1.5)),),
    ),
    Benchmark(
        TRAINING,
        {library: _worker("fine_tune", library, "{turn}") for library in (OURS, TRANSFORMERS)},
        (
            Comparison("MRPC, 3 epochs: samples a second", (TRANSFORMERS,), Bar("speed", 1.6)),
            Comparison("its peak memory", (TRANSFORMERS,), Bar("time", 0.8), "rss"),
            Comparison("test accuracy, mean of the seeds", (TRANSFORMERS,), Bar("points", -0.5), "accuracy"),
            Comparison("test F1, mean of the seeds", (TRANSFORMERS,), Bar("points", -0.5), "f1"),
        ),
        turns=3,
        needs=TRAINING,
    ),
    Benchmark(
        "evaluation",
        {library: _worker("evaluate", library) for library in (OURS, TRANSFORMERS)},
        (Comparison("MRPC's test set: same loss; samples a second", (TRANSFORMERS,), Bar("speed", 2)),),
        turns=3,
        needs=TRAINING,
    ),
    Benchmark(
        FIRST_LOSSES,
        {library: _worker("first_losses", library) for library in (OURS, TRANSFORMERS)},
        (Comparison("first 20 losses agree; seconds", (TRANSFORMERS,), Bar("time", 1)),),
        turns=1,
        needs=TRAINING,
    ),
    Benchmark(
        "logits",
        _pipelines("logits"),
        (Comparison("SmolLM2, fp32: logits agree; seconds", (TRANSFORMERS,), Bar("time")),),
        turns=1,
        needs=GENERATION,
    ),
    Benchmark(
        "greedy",
        _pipelines("greedy"),
        (Comparison("5 prompts, 64 tokens each: same text; seconds", (TRANSFORMERS,), Bar("time")),),
        turns=1,
        needs=GENERATION,
    ),
    Benchmark(
        "decode",
        {
            **_pipelines("decode", "float32", "1"),
            CTRANSLATE2: _worker("decode_ctranslate2", "1"),
            FLOOR: _worker("decoder_floor", "1"),
        },
        (
            Comparison("a step, fp32, one row", (TRANSFORMERS,), Bar("speed", 2)),
            Comparison("against its float32", (CTRANSLATE2,), Bar("speed")),
        ),
        needs=GENERATION,
    ),
    Benchmark(
        "decode-8",
        {
            OURS: _worker("decode", OURS, "float32", "8"),
            **{
                f"{TRANSFORMERS}, {dtype}": _worker("decode", TRANSFORMERS, dtype, "8")
                for dtype in ("float32", "bfloat16")
            },
            CTRANSLATE2: _worker("decode_ctranslate2", "8"),
            FLOOR: _worker("decoder_floor", "8"),
        },
        (
            Comparison("against its float32", (CTRANSLATE2,), Bar("speed")),
            Comparison(
                "a step, fp32, eight rows, against the best dtype",
                (f"{TRANSFORMERS}, float32", f"{TRANSFORMERS}, bfloat16"),
                Bar("speed", 1.5),
            ),
        ),
        needs=GENERATION,
    ),
    Benchmark(
        "ragged",
        _pipelines("ragged"),
        (Comparison("16 prompts of 5 to 400 tokens, 32 more each", (TRANSFORMERS,), Bar("speed", 2.5)),),
        needs=GENERATION,
    ),
    Benchmark(
        "prefill",
        {**_pipelines("prefill"), FLOOR: _worker("decoder_floor", str(LONG))},
        (Comparison("1,024 tokens into the cache", (TRANSFORMERS,), Bar("speed", 1.2)),),
        needs=GENERATION,
    ),
    Benchmark(
        "step-overhead",
        {OURS: _worker("step_overhead")},
        (Comparison("a step, outside the model", (), Bar("seconds", 0.0002)),),
        needs=GENERATION,
    ),
    Benchmark(
        "first-token",
        {library: _first_token(library) for library in (OURS, TRANSFORMERS)},
        (Comparison("process start to first token, from GGUF", (TRANSFORMERS,), Bar("time", 0.4)),),
        needs=GENERATION,
    ),
    Benchmark(
        SPEECH,
        {**_pipelines("speech"), CTRANSLATE2: _worker("speech_ctranslate2")},
        (
            Comparison("60 s of speech, greedy: same text; s a second", (TRANSFORMERS,), Bar("time", 0.4)),
            Comparison("against its float32", (CTRANSLATE2,), Bar("time", 1)),
        ),
        turns=3,
        needs=SPEECH,
    ),
    *(_seq2seq(shape, beams) for shape in SHAPES for beams in (1, 4)),
)
