"""Question answering: against version 4 of the reference, which still has it, and on its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from formers import pipeline
from formers.errors import InputError
from formers.pipelines.spans import best_spans

CONTEXT = "My name is Wolfgang and I live in Berlin, not in Paris."
OTHER = "Sarah works for the bank in London: she likes the city very, very much!"
LONG = " ".join([CONTEXT, OTHER, "It was a good day in the river city."] * 4)
WHERE = "Where does Wolfgang live?"
WHO = "Who likes the city?"
OPTIONS: list[dict[str, Any]] = [
    {},
    {"top_k": 3},
    {"topk": 4},
    {"max_answer_len": 2, "top_k": 5},
    {"max_answer_len": 60},
    {"handle_impossible_answer": True},
    {"handle_impossible_answer": True, "top_k": 4},
    {"align_to_words": False, "top_k": 5},
    {"max_seq_len": 30, "doc_stride": 8},
    {"max_seq_len": 24, "doc_stride": 4, "top_k": 3, "handle_impossible_answer": True},
    {"padding": "max_length"},
    {"batch_size": 2},
]
CALLS: list[tuple[list[Any], dict[str, Any]]] = [
    *(([], {"question": WHERE, "context": context, **options}) for options in OPTIONS for context in (CONTEXT, LONG)),
    ([], {"question": [WHERE, WHO], "context": LONG}),
    ([], {"question": [WHERE, WHO], "context": [CONTEXT, OTHER], "top_k": 2}),
    ([], {"question": [WHERE], "context": [CONTEXT]}),
    ([{"question": WHERE, "context": CONTEXT}], {}),
    ([[{"question": WHERE, "context": CONTEXT}]], {}),
    ([[{"question": WHERE, "context": CONTEXT}, {"question": WHO, "context": LONG}]], {"top_k": 2}),
    ([WHERE, CONTEXT], {}),
    ([{"question": WHERE, "context": CONTEXT}, {"question": WHO, "context": OTHER}], {}),
]
# Run by the other version's interpreter: one JSON line in, one out.
SCRIPT = """
import json, sys, warnings
warnings.simplefilter("ignore")
from transformers import pipeline
job = json.loads(sys.stdin.read())
answers = []
for folder in job["folders"]:
    pipe = pipeline("question-answering", model=folder, device="cpu")
    answers.append([pipe(*args, **options) for args, options in job["calls"]])
print("ANSWERS" + json.dumps(answers))
"""


@pytest.fixture(scope="module")
def folder(make_bert: Callable[..., Path]) -> Path:
    return make_bert("ForQuestionAnswering", ["start", "end"])


@pytest.fixture(scope="module")
def pipe(folder: Path) -> Any:
    return pipeline("question-answering", model=folder)


@pytest.fixture(scope="module")
def byte_level(make_roberta: Callable[..., Path]) -> Path:
    return make_roberta("ForQuestionAnswering")


@pytest.fixture(scope="module")
def v4(folder: Path, byte_level: Path) -> list[list[Any]]:
    """The answers of version 4 of the reference to all calls, for both models."""
    python = os.environ.get("FORMERS_V4_PYTHON") or str(Path(".venv-v4") / "bin" / "python")
    if not Path(python).exists():
        pytest.skip("there is no environment with version 4 of the reference (FORMERS_V4_PYTHON or .venv-v4)")
    job = json.dumps({"folders": [str(folder), str(byte_level)], "calls": CALLS})
    command = [python, "-W", "ignore", "-c", SCRIPT]
    done = subprocess.run(command, input=job, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    answers: list[list[Any]] = json.loads(done.stdout.rpartition("ANSWERS")[2])
    return answers


@pytest.mark.v4
@pytest.mark.parametrize("place", [0, 1], ids=["word pieces", "bytes"])
def test_calls_equal_version_4(
    pipe: Any, byte_level: Path, v4: list[list[Any]], same: Callable[..., None], place: int
) -> None:
    mine = pipeline("question-answering", model=byte_level) if place else pipe
    for (args, options), theirs in zip(CALLS, v4[place], strict=True):
        same(mine(*args, **options), theirs)


def test_one_question_gives_one_answer_of_the_context(pipe: Any) -> None:
    answer = pipe(question=WHERE, context=CONTEXT)
    assert answer.keys() == {"score", "start", "end", "answer"}
    assert CONTEXT[answer["start"] : answer["end"]] == answer["answer"]


def test_long_contexts_are_read_whole(pipe: Any) -> None:
    found = pipe(question=WHERE, context=LONG, top_k=200, max_answer_len=4)
    assert any(answer["start"] > len(LONG) * 0.7 for answer in found)
    assert all(LONG[answer["start"] : answer["end"]] == answer["answer"] for answer in found)


def test_streams_answer_one_by_one(pipe: Any) -> None:
    asked = [{"question": WHERE, "context": CONTEXT}, {"question": WHO, "context": LONG}]
    assert [answer["answer"] for answer in pipe(iter(asked))] == [answer["answer"] for answer in pipe(asked)]


def test_a_long_question_can_be_cut(pipe: Any) -> None:
    question = "where does Wolfgang live " * 20
    with pytest.raises(InputError, match=r"cannot be cut .* max_question_len"):
        pipe(question=question, context=CONTEXT)
    assert pipe(question=question, context=CONTEXT, max_question_len=5) == pipe(
        question="where does Wolfgang live where", context=CONTEXT
    )


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        ([], {}, "no question"),
        ([], {"question": WHERE}, "NoneType"),
        ([], {"question": "", "context": CONTEXT}, "question is ''"),
        ([], {"question": WHERE, "context": ""}, "context is ''"),
        ([], {"question": [WHERE, WHO], "context": [CONTEXT]}, "2 questions and 1 contexts"),
        ([{"question": WHERE}], {}, r"keys \['question'\]"),
        (["a text"], {}, "type str"),
        ([], {"question": WHERE, "context": CONTEXT, "top_k": 0}, "top_k=0"),
        ([], {"question": WHERE, "context": CONTEXT, "max_answer_len": 0}, "max_answer_len=0"),
        ([], {"question": WHERE, "context": CONTEXT, "max_seq_len": 100}, "max_seq_len=100"),
        ([], {"question": WHERE, "context": CONTEXT, "max_seq_len": 20, "doc_stride": 30}, "doc_stride"),
        ([], {"question": WHERE, "context": CONTEXT, "padding": "both"}, "padding='both'"),
        ([], {"question": WHERE, "context": CONTEXT, "stride": 3}, "no option 'stride'"),
    ],
    ids=str,
)
def test_wrong_calls_are_refused(pipe: Any, args: list[Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        pipe(*args, **options)


def test_spans_are_the_products_of_their_ends() -> None:
    rng = np.random.default_rng(0)
    start, end = rng.normal(size=(2, 9)).astype(np.float32)
    allowed = np.array([1, 0, 0, 1, 1, 1, 1, 1, 0], bool)
    spans = best_spans(start, end, allowed, 100, 3)
    p, q = (np.exp(x) * allowed / (np.exp(x) * allowed).sum() for x in (start, end))
    wanted = {(i, j): p[i] * q[j] for i in range(3, 8) for j in range(i, min(i + 3, 8))}
    found = dict(zip(zip(spans.starts, spans.ends, strict=True), spans.scores, strict=True))
    assert found == pytest.approx(wanted, rel=1e-5)
    assert spans.scores == sorted(spans.scores, reverse=True)
    assert spans.null == pytest.approx(p[0] * q[0], rel=1e-5)
    best = max(wanted, key=wanted.__getitem__)
    one = best_spans(start, end, allowed, 1, 3)
    assert (one.starts, one.ends) == ([best[0]], [best[1]])
