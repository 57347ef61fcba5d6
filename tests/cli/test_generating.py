"""`formers run` of the tasks that generate."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import formers
from formers.cli import generating
from tests.generation.chats import small_llama
from tests.pipelines.text2text import PAIR, made

if TYPE_CHECKING:
    from tests.cli.conftest import FakePipeline

Invoke = Callable[..., Any]


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def generator(fake: FakePipeline) -> FakePipeline:
    fake.answer = lambda text: [{"generated_text": f"after {text}"}]
    return fake


def test_a_text_is_a_row(invoke: Invoke, generator: FakePipeline) -> None:
    result = invoke("run", "text-generation", "a", "b")
    assert lines(result.stdout) == [
        {"text": "a", "generated_text": "after a"},
        {"text": "b", "generated_text": "after b"},
    ]
    assert generator.options == {"return_full_text": False}
    as_csv = invoke("run", "text-generation", "--output-format", "csv", input="a\n").stdout
    assert as_csv == "text,generated_text\na,after a\n"
    assert "after a" in invoke("run", "text-generation", "a", "--output-format", "table").stdout


def test_several_texts_a_prompt(invoke: Invoke, generator: FakePipeline) -> None:
    generator.answer = lambda text: [{"generated_text": "1"}, {"generated_text": "2"}]
    command = ("run", "text-generation", "a", "--num-return-sequences", "2")
    assert lines(invoke(*command).stdout) == [
        {"text": "a", "predictions": [{"generated_text": "1"}, {"generated_text": "2"}]}
    ]
    assert invoke(*command, "--output-format", "csv").stdout == "text,generated_text\na,1\na,2\n"
    assert generator.options["num_return_sequences"] == 2


def test_options_reach_the_pipeline(invoke: Invoke, generator: FakePipeline, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "integer"}')
    invoke(
        *("run", "text-generation", "a", "--max-new-tokens", "5", "--temperature", "0.5", "--top-k", "3"),
        *("--top-p", "0.9", "--seed", "7", "--json-schema", schema, "--return-full-text"),
    )
    assert generator.options == {
        "max_new_tokens": 5,
        "temperature": 0.5,
        "top_k": 3,
        "top_p": 0.9,
        "seed": 7,
        "do_sample": True,
        "json_schema": {"type": "integer"},
        "return_full_text": True,
    }
    invoke("run", "text-generation", "a", "--no-do-sample", "--regex", "[ab]+")
    assert generator.options == {"do_sample": False, "regex": "[ab]+", "return_full_text": False}
    invoke("run", "text-generation", "a", "--temperature", "0")
    assert generator.options == {"do_sample": False, "return_full_text": False}


def test_prompts_as_messages(invoke: Invoke, generator: FakePipeline) -> None:
    generator.answer = lambda chat: [{"generated_text": f"to {chat[-1]['content']}"}]
    result = invoke("run", "text-generation", "--chat", "--system", "Be kind.", input="a\n")
    assert lines(result.stdout) == [{"text": "a", "generated_text": "to a"}]
    assert generator.inputs == [[{"role": "system", "content": "Be kind."}, {"role": "user", "content": "a"}]]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("text-generation", "a", "--system", "b"), 2, "add --chat"),
        (("text-generation", "a", "--chat", "--return-full-text"), 2, "no prompt before it"),
        (("ner", "a", "--max-new-tokens", "3"), 2, "It is for text-generation, summarization, "),
        (("text-generation", "a", "--src-lang", "en"), 2, "It is for translation, not for text-generation"),
        (("summarization", "a", "--chat"), 2, "It is for text-generation, not for summarization"),
        (("translation_en_fr", "a"), 2, "Did you mean translation"),
        (("text-generation", "a", "--do-sample", "--temperature", "0"), 1, "Leave one of them out."),
        (("text-generation", "a", "--json-schema", "missing.json"), 1, "No such file"),
        (("text-generation", "a", "--json-schema", __file__), 1, "is not JSON"),
    ],
)
def test_wrong_usage(
    invoke: Invoke, generator: FakePipeline, arguments: tuple[str, ...], code: int, message: str
) -> None:
    result = invoke("run", *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert generator.task == "", "the model was loaded before the options were looked at"


def test_a_real_model(invoke: Invoke, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("llguidance")
    small_llama(tmp_path)
    command = ("run", "text-generation", "--model", tmp_path, "--max-new-tokens", "8")
    rows = lines(invoke(*command, "--regex", "[a-c]{3,6}", "--seed", "1", input="one\na longer one\n").stdout)
    assert [row["text"] for row in rows] == ["one", "a longer one"]
    assert all(3 <= len(row["generated_text"]) <= 6 and set(row["generated_text"]) <= set("abc") for row in rows)
    pipe = formers.pipeline("text-generation", model=str(tmp_path))
    options = {"max_new_tokens": 8, "seed": 1, "regex": "[a-c]{3,6}", "return_full_text": False}
    chat = [{"role": "user", "content": "one"}]
    for prompt in ("one", chat):
        generating.show(pipe, prompt, options)
        assert capsys.readouterr().out == pipe(prompt, **options)[0]["generated_text"] + "\n"
    generating.show(pipe, "one", {**options, "return_full_text": True})
    assert capsys.readouterr().out == "one" + rows[0]["generated_text"] + "\n"


def test_a_text_from_a_text(invoke: Invoke, fake: FakePipeline) -> None:
    fake.answer = lambda text: [{"translation_text": text.upper()}]
    command = ("run", "translation_en_to_fr", "a", "--num-beams", "2", "--max-length", "9", "--no-truncation")
    assert lines(invoke(*command).stdout) == [{"text": "a", "translation_text": "A"}]
    assert (fake.task, fake.options) == (
        "translation_en_to_fr",
        {"num_beams": 2, "max_length": 9, "truncation": False},
    )
    invoke("run", "translation", "a", "--src-lang", "en_XX", "--tgt-lang", "fr_XX", "--temperature", "0.5")
    assert (fake.task, fake.options) == (
        "translation",
        {"src_lang": "en_XX", "tgt_lang": "fr_XX", "do_sample": True, "temperature": 0.5},
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return made(tmp_path_factory.mktemp("models"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("task", "model", "arguments", "options"),
    [
        ("summarization", "t5", ["--max-length", "9"], {"max_length": 9}),
        ("text2text-generation", "bart", ["--num-return-sequences", "2"], {"num_return_sequences": 2}),
        (
            "translation_en_to_de",
            "t5",
            ["--max-new-tokens", "6", "--num-beams", "1"],
            {"max_new_tokens": 6, "num_beams": 1},
        ),
        ("translation", "mbart", ["--src-lang", "fr_XX", "--tgt-lang", "de_DE"], PAIR),
    ],
)
def test_a_column_of_texts(
    invoke: Invoke,
    folders: dict[str, str],
    tmp_path: Path,
    task: str,
    model: str,
    arguments: list[str],
    options: dict[str, Any],
) -> None:
    source = tmp_path / "in.csv"
    source.write_text("id,article\n1,the cat sat on the mat\n2,a dog\n", encoding="utf-8")
    command = ("run", task, "-m", folders[model], "-i", source, "--column", "article", *arguments)
    found = lines(invoke(*command).stdout)
    expected = formers.pipeline(task, model=folders[model])(["the cat sat on the mat", "a dog"], **options)
    for row, answer in zip(found, expected, strict=True):
        made_of_it = {name: value for name, value in row.items() if name not in ("id", "article")}
        assert made_of_it == ({"predictions": answer} if isinstance(answer, list) else answer)
    table = invoke(*command, "--output-format", "csv").stdout.splitlines()
    assert table[0].split(",")[:2] == ["id", "article"]
    assert table[0].endswith("_text")


def test_one_text_on_a_terminal(start: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    pytest.importorskip("llguidance")
    main, terminal = os.openpty()
    command = ("run", "text-generation", "one", "--model", small_llama(tmp_path), "--regex", "[a-c]{3,6}")
    process = start(*command, "--max-new-tokens", "8", stdout=terminal)
    os.close(terminal)
    process.communicate(timeout=300)
    shown = os.read(main, 1000).decode().strip()
    os.close(main)
    assert 3 <= len(shown) <= 6
    assert set(shown) <= set("abc")


def test_what_a_terminal_shows() -> None:
    assert generating.printable("a\x1b[2Jb\r\n\tü\x07") == "a[2Jb\n\tü"
