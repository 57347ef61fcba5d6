"""`formers run`, with a pipeline that computes nothing."""

from __future__ import annotations

import csv
import io
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from formers.cli import run as run_module
from formers.errors import ConfigError
from formers.registry import TASKS

if TYPE_CHECKING:
    from tests.cli.conftest import FakePipeline

Invoke = Callable[..., Any]


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def test_every_task_is_known_to_the_command() -> None:
    assert set(run_module.PREDICTED) == set(TASKS)
    assert {task for tasks in run_module.OPTIONS.values() for task in tasks} <= set(TASKS)


def test_texts_become_json_lines_in_order(invoke: Invoke, fake: FakePipeline) -> None:
    result = invoke("run", "sentiment-analysis", "four", "three")
    assert result.exit_code == 0
    assert lines(result.stdout) == [
        {"text": "four", "label": "EVEN", "score": 0.5},
        {"text": "three", "label": "ODD", "score": 0.5},
    ]
    assert (fake.task, fake.loading, fake.options) == ("text-classification", {}, {})


def test_options_reach_the_pipeline(invoke: Invoke, fake: FakePipeline) -> None:
    invoke(
        *("run", "zero-shot-classification", "a text", "--model", "m", "--revision", "r", "--device", "1"),
        *("--dtype", "bfloat16", "--batch-size", "8", "--candidate-labels", "sports, world news ,", "--multi-label"),
        *("--hypothesis-template", "It is {}."),
    )
    assert fake.loading == {"model": "m", "revision": "r", "device": 1, "dtype": "bfloat16", "batch_size": 8}
    assert fake.options == {
        "candidate_labels": ["sports", "world news"],
        "multi_label": True,
        "hypothesis_template": "It is {}.",
    }


@pytest.mark.parametrize(("device", "expected"), [("cpu", "cpu"), ("cuda:1", "cuda:1"), ("-1", -1), ("0", 0)])
def test_device_is_a_name_or_a_number(invoke: Invoke, fake: FakePipeline, device: str, expected: str | int) -> None:
    invoke("run", "ner", "a", "--device", device)
    assert fake.loading == {"device": expected}


@pytest.mark.parametrize("arguments", [(), ("--input", "-")])
def test_lines_of_stdin(invoke: Invoke, fake: FakePipeline, arguments: tuple[str, ...]) -> None:
    result = invoke("run", "sentiment-analysis", *arguments, input="\ufeffgrün\r\n\n  \nlast, without a line break")
    assert [line["text"] for line in lines(result.stdout)] == ["grün", "last, without a line break"]
    assert "grün" in result.stdout


def test_stdin_in_another_format(invoke: Invoke, fake: FakePipeline) -> None:
    result = invoke("run", "sentiment-analysis", "--input-format", "jsonl", input='{"id": 7, "text": "a"}\n"b"\n')
    assert lines(result.stdout) == [
        {"id": 7, "text": "a", "label": "ODD", "score": 0.5},
        {"text": "b", "label": "ODD", "score": 0.5},
    ]


def test_csv_to_csv_keeps_the_columns(invoke: Invoke, fake: FakePipeline, tmp_path: Path) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text('label,text\n1,"two\nlines, and a comma"\n0,x\n', encoding="utf-8")
    assert invoke("run", "text-classification", "-i", source, "-o", target).exit_code == 0
    assert list(csv.DictReader(io.StringIO(target.read_text(encoding="utf-8")))) == [
        {"label": "1", "text": "two\nlines, and a comma", "predicted_label": "EVEN", "score": "0.5"},
        {"label": "0", "text": "x", "predicted_label": "ODD", "score": "0.5"},
    ]
    assert sorted(os.listdir(tmp_path)) == ["in.csv", "out.csv"]


def test_a_result_may_be_the_next_input(invoke: Invoke, fake: FakePipeline, tmp_path: Path) -> None:
    first, second = tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    invoke("run", "text-classification", "a", "-o", first)
    invoke("run", "text-classification", "-i", first, "-o", second)
    assert lines(second.read_text()) == [
        {"text": "a", "label": "ODD", "score": 0.5, "predicted_label": "ODD", "predicted_score": 0.5}
    ]


def test_input_may_be_output(invoke: Invoke, fake: FakePipeline, tmp_path: Path) -> None:
    file = tmp_path / "both.jsonl"
    file.write_text('{"text": "a"}\n{"text": "bb"}\n', encoding="utf-8")
    assert invoke("run", "text-classification", "-i", file, "-o", file).exit_code == 0
    assert [line["label"] for line in lines(file.read_text())] == ["ODD", "EVEN"]


def test_lists_of_predictions(invoke: Invoke, fake: FakePipeline, tmp_path: Path) -> None:
    ann, rome = {"entity": "PER", "word": "Ann"}, {"entity": "LOC", "word": "Rome"}
    found = {"": [], "Ann": [ann], "Ann in Rome": [ann, rome]}
    fake.answer = found.__getitem__
    source = tmp_path / "in.csv"
    source.write_text('id,text\n1,""\n2,Ann\n3,\n4,Ann in Rome\n', encoding="utf-8")
    as_lines = invoke("run", "ner", "-i", source).stdout
    assert [line["predictions"] for line in lines(as_lines)] == [found[text] for text in fake.inputs]
    as_csv = invoke("run", "ner", "-i", source, "--output-format", "csv").stdout
    assert as_csv == "id,text,entity,word\n1,,,\n2,Ann,PER,Ann\n3,,,\n4,Ann in Rome,PER,Ann\n4,Ann in Rome,LOC,Rome\n"


def test_no_predictions_at_all_as_csv(invoke: Invoke, fake: FakePipeline) -> None:
    fake.answer = lambda text: []
    assert invoke("run", "ner", "a", "b", "--output-format", "csv").stdout == "text\na\nb\n"


def test_zero_shot_as_csv_has_a_line_a_label(invoke: Invoke, fake: FakePipeline) -> None:
    fake.answer = lambda text: {"sequence": text, "labels": ["x", "y"], "scores": [0.75, 0.25]}
    command = ("run", "zero-shot-classification", "a", "--candidate-labels", "x,y")
    assert invoke(*command, "--output-format", "csv").stdout == "text,label,score\na,x,0.75\na,y,0.25\n"
    assert lines(invoke(*command).stdout) == [
        {"text": "a", "sequence": "a", "labels": ["x", "y"], "scores": [0.75, 0.25]}
    ]


def test_several_masks(invoke: Invoke, fake: FakePipeline) -> None:
    one, two = {"token_str": "b", "score": 0.5}, {"token_str": "c", "score": 0.25}
    fake.answer = lambda text: [[one], [two]]
    command = ("run", "fill-mask", "a [MASK] [MASK]")
    assert lines(invoke(*command).stdout)[0]["predictions"] == [[one], [two]]
    assert invoke(*command, "--output-format", "csv").stdout.splitlines()[1:] == [
        "a [MASK] [MASK],0,b,0.5",
        "a [MASK] [MASK],1,c,0.25",
    ]


def test_features(invoke: Invoke, fake: FakePipeline) -> None:
    fake.answer = lambda text: [[[0.5, 1.0], [2.0, 4.0]]]
    command = ("run", "feature-extraction", "a")
    assert lines(invoke(*command).stdout) == [{"text": "a", "features": [[[0.5, 1.0], [2.0, 4.0]]]}]
    assert invoke(*command, "--output-format", "csv").stdout == 'text,features\na,"[[[0.5, 1.0], [2.0, 4.0]]]"\n'
    assert "1 × 2 × 2: 0.500, 1.000" in invoke(*command, "--output-format", "table").stdout


def test_pairs(invoke: Invoke, fake: FakePipeline, tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("first,second\na,b\n", encoding="utf-8")
    fake.answer = lambda pair: {"label": "SAME", "score": 1.0}
    invoke("run", "text-classification", "-i", source, "--column", "first", "--pair-column", "second")
    assert fake.inputs == [{"text": "a", "text_pair": "b"}]


def test_questions_and_contexts(invoke: Invoke, fake: FakePipeline, tmp_path: Path) -> None:
    fake.answer = lambda pair: {"answer": "Rome", "score": 1.0}
    source = tmp_path / "in.jsonl"
    source.write_text('{"question": "Where?", "context": "In Rome.", "body": "In Oslo."}\n', encoding="utf-8")
    invoke("run", "question-answering", "-i", source)
    invoke("run", "question-answering", "-i", source, "--question-column", "body", "--column", "question")
    result = invoke("run", "question-answering", "-i", source, "--question", "Which?", "--column", "body")
    texts = invoke("run", "question-answering", "--question", "Where?", "In Rome.", "In Bern.")
    assert fake.inputs == [
        {"question": "Where?", "context": "In Rome."},
        {"question": "In Oslo.", "context": "Where?"},
        {"question": "Which?", "context": "In Oslo."},
        {"question": "Where?", "context": "In Rome."},
        {"question": "Where?", "context": "In Bern."},
    ]
    assert lines(result.stdout)[0]["question"] == "Which?"
    assert lines(texts.stdout)[1] == {"context": "In Bern.", "question": "Where?", "answer": "Rome", "score": 1.0}


def test_the_only_column_needs_no_name(invoke: Invoke, fake: FakePipeline) -> None:
    invoke("run", "ner", "--input-format", "csv", input="body\nhello\n")
    assert fake.inputs == ["hello"]


def test_an_empty_input_has_an_empty_output(invoke: Invoke, fake: FakePipeline, tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    assert invoke("run", "ner", "-o", target, input="").exit_code == 0
    assert target.read_text() == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sentimental-analysis", "a"), "sentiment-analysis"),
        (("ner", "a", "--top-k", "2"), "It is for fill-mask, question-answering"),
        (("ner", "a", "--question", "Who?"), "question-answering"),
        (("zero-shot-classification", "a"), "--candidate-labels"),
        (("zero-shot-classification", "a", "--candidate-labels", ", "), "--candidate-labels"),
        (("question-answering", "a", "--question", "Who?", "--question-column", "q"), "not both"),
        (("ner", "a", "--input", "b.txt"), "texts on the command line already"),
        (("ner", "--input", "texts.doc"), "--input-format"),
        (("ner", "a", "--output", "out.xlsx"), "--output-format"),
        (("ner", "a", "--output-format", "yaml"), "There is no format 'yaml'"),
        (("ner", "a", "--batch-size", "0"), "batch-size"),
        (("ner", "a", "--colour", "red"), "--colour"),
    ],
)
def test_wrong_usage(invoke: Invoke, fake: FakePipeline, arguments: tuple[str, ...], message: str) -> None:
    result = invoke("run", *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert fake.task == ""


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.csv", b"a,b\n1,2\n", "The input has no column 'text'; it has 'a', 'b'. Name the column with --column."),
        ("in.csv", b"a,a\n1,2\n", "line 1, names a column twice: a, a."),
        ("in.csv", b"id,text\n1,a,b\n", "line 2, has more fields than the 2 columns of the first line."),
        ("in.csv", b"text,id\n", None),
        ("in.jsonl", b'{"text": "a"}\n{"text": \n', "line 2, is not JSON"),
        ("in.jsonl", b'{"text": "a"}\n[1]\n', "line 2, is neither a JSON object nor a string."),
        ("in.jsonl", b'{"text": "a"}\n{"id": 2}\n', "line 2 has no column 'text'."),
        ("in.jsonl", b'{"text": "a"}\n{"text": 2}\n', "line 2, column 'text', holds 2, which is not a text."),
        pytest.param("in.jsonl", b"[" * 100_000, "line 1, is not JSON", id="deep"),
        ("in.txt", b"a\nb\xff\n", "line 2, is not UTF-8"),
        ("missing.txt", None, "No such file or directory"),
    ],
)
def test_inputs_that_cannot_be_read(
    invoke: Invoke, fake: FakePipeline, tmp_path: Path, name: str, content: bytes | None, message: str | None
) -> None:
    source, target = tmp_path / name, tmp_path / "out.jsonl"
    if content is not None:
        source.write_bytes(content)
    target.write_text("what was there before")
    result = invoke("run", "ner", "-i", source, "-o", target)
    if message is None:
        assert (result.exit_code, target.read_text()) == (0, "")
        return
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert target.read_text() == "what was there before"
    assert sorted(os.listdir(tmp_path)) == sorted({name, "out.jsonl"} if content is not None else {"out.jsonl"})


def test_a_csv_field_of_a_megabyte(invoke: Invoke, fake: FakePipeline) -> None:
    invoke("run", "ner", "--input-format", "csv", input="text\n" + "a" * 1_000_000 + "\n")
    assert len(fake.inputs[0]) == 1_000_000


def test_what_is_ragged_does_not_fit_csv(invoke: Invoke, fake: FakePipeline, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "a"}\n{"text": "b", "id": 2}\n', encoding="utf-8")
    result = invoke("run", "text-classification", "-i", source, "--output-format", "csv")
    assert result.exit_code == 1
    assert "line 2: the columns id are not among those of the first line" in result.stderr
    assert "--output-format jsonl" in result.stderr


@pytest.mark.parametrize(
    ("target", "message"), [("missing/out.jsonl", "which does not exist"), ("folder.jsonl", "is a folder")]
)
def test_outputs_that_cannot_be_written(
    invoke: Invoke, fake: FakePipeline, tmp_path: Path, target: str, message: str
) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    result = invoke("run", "ner", "a", "-o", tmp_path / target)
    assert result.exit_code == 1
    assert message in result.stderr
    assert fake.task == "", "the model was loaded before the output was looked at"


def test_a_failure_of_the_pipeline(invoke: Invoke, fake: FakePipeline, tmp_path: Path) -> None:
    def fail(text: str) -> Any:
        raise ConfigError("The model is strange.", "Use another.")

    fake.answer = fail
    result = invoke("run", "ner", "a", "-o", tmp_path / "out.csv")
    assert (result.exit_code, result.stderr) == (1, "error: The model is strange. Use another.\n")
    assert os.listdir(tmp_path) == []


def test_ctrl_c(invoke: Invoke, fake: FakePipeline, tmp_path: Path) -> None:
    def interrupt(text: str) -> Any:
        raise KeyboardInterrupt

    fake.answer = interrupt
    result = invoke("run", "ner", "a", "-o", tmp_path / "out.csv")
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")
    assert os.listdir(tmp_path) == []


def test_a_named_pipe_is_written_to_and_stays(invoke: Invoke, fake: FakePipeline, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    assert invoke("run", "ner", "a", "-o", pipe, "--output-format", "jsonl").exit_code == 0
    reader.join(10)
    assert lines(read[0])[0]["text"] == "a"
    assert pipe.is_fifo()


def test_a_link_stays_a_link(invoke: Invoke, fake: FakePipeline, tmp_path: Path) -> None:
    link, file = tmp_path / "link.jsonl", tmp_path / "file.jsonl"
    file.write_text("old")
    link.symlink_to(file)
    invoke("run", "ner", "a", "-o", link)
    assert link.is_symlink()
    assert lines(file.read_text())[0]["text"] == "a"
