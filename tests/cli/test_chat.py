"""`formers chat`, with a model that says what it is told to."""

from __future__ import annotations

import builtins
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import formers
from formers.cli import chat as chat_module
from formers.cli.chat import Chat
from formers.errors import ModelNotFoundError
from formers.generation.conversation import Conversation
from tests.generation.chats import Scripted, small_llama

Invoke = Callable[..., Any]
TIMEOUT = 300


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    """What `formers.pipeline` loads here; how it was asked to is in `loading`."""
    made = Scripted(lambda text: f"You said {text}.")

    def load(task: str, **loading: Any) -> Any:
        made.loading = {"task": task, **loading}
        return SimpleNamespace(model=made, tokenizer=made.tokenizer)

    monkeypatch.setitem(vars(formers), "pipeline", load)
    return made


def talk(model: Scripted, *lines: str, typed: bool = True, **settings: Any) -> Conversation:
    conversation = Conversation(model, model.tokenizer, do_sample=False, **settings)
    Chat(conversation, typed).run(iter(lines))
    return conversation


def test_lines_of_a_pipe_are_messages(invoke: Invoke, model: Scripted) -> None:
    result = invoke("chat", "--model", "m", input="hello\n\n  grün \n")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "You said hello.\nYou said grün.\n", "")
    assert model.loading == {"task": "text-generation", "model": "m"}
    assert "<|im_start|>assistant\nYou said hello.<|im_end|>\n<|im_start|>user\ngrün" in model.seen


def test_options_reach_the_model(invoke: Invoke, model: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    class Kept(Conversation):
        def __init__(self, *args: Any, **settings: Any) -> None:
            asked.append((args[2], settings))
            super().__init__(*args, **settings)

    monkeypatch.setattr("formers.generation.conversation.Conversation", Kept)
    invoke(
        *("chat", "-m", "m", "--system", "Be kind.", "--max-new-tokens", "5", "--temperature", "0.5", "--top-k", "3"),
        *("--top-p", "0.9", "--seed", "7", "--dtype", "auto", "--device", "0", "--revision", "r"),
        input="hello\n",
    )
    settings = {"max_new_tokens": 5, "temperature": 0.5, "top_k": 3, "top_p": 0.9, "seed": 7, "do_sample": True}
    assert asked == [("Be kind.", settings)]
    assert model.loading == {"task": "text-generation", "model": "m", "revision": "r", "device": 0, "dtype": "auto"}
    assert model.seen.startswith("<|im_start|>system\nBe kind.<|im_end|>")
    asked.clear()
    assert invoke("chat", "-m", "m", "--temperature", "0", input="hello\n").stdout == "You said hello.\n"
    assert asked == [(None, {"do_sample": False})]


def test_commands(invoke: Invoke, model: Scripted, tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    script = f"/system Be kind.\none\n/save {file}\n/reset\ntwo\n/load {file}\nthree\n/exit\nnever\n"
    result = invoke("chat", "-m", "m", input=script)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "You said one.\nYou said two.\nYou said three.\n"
    saved = json.loads(file.read_text())
    assert saved == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "You said one."},
    ]
    assert model.seen.count("<|im_start|>user") == 2
    assert "two" not in model.seen
    assert invoke("chat", "-m", "m", "--load", file, "--system", "Be brief.", input="four\n").exit_code == 0
    assert model.seen.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\none")


def test_files_in_the_home_folder(invoke: Invoke, model: Scripted, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert invoke("chat", "-m", "m", input="one\n/save ~/chat.json\n/load ~/chat.json\n").exit_code == 0
    assert (tmp_path / "chat.json").is_file()


def test_messages_that_begin_with_a_slash(invoke: Invoke, model: Scripted) -> None:
    result = invoke("chat", "-m", "m", input="/etc/hosts is what?\n//reset\n")
    assert result.stdout == "You said /etc/hosts is what?.\nYou said /reset.\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/rest", "There is no command /rest. Did you mean /reset?"),
        ("/save", "/save needs a file. For example: /save chat.json"),
        ("/load missing.json", "No such file or directory"),
    ],
)
def test_a_pipe_ends_with_its_first_error(invoke: Invoke, model: Scripted, line: str, message: str) -> None:
    result = invoke("chat", "-m", "m", input=f"one\n{line}\ntwo\n")
    assert (result.exit_code, result.stdout) == (1, "You said one.\n")
    assert message in result.stderr


def test_who_types_is_told_of_errors_and_goes_on(
    model: Scripted, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    talk(model, "/rest", "one", f"/load {broken}", "/help", "/reset", "two", "/quit", "three")
    shown = capsys.readouterr()
    assert shown.out == "You said one.\nYou said two.\n"
    assert "error: There is no command /rest." in shown.err
    assert "broken.json is not JSON" in shown.err
    assert "/system TEXT" in shown.err
    assert shown.err.endswith("Forgotten.\n")


def test_ctrl_c_stops_the_answer_and_keeps_the_chat(capsys: pytest.CaptureFixture[str]) -> None:
    class Interrupted(Scripted):
        def __call__(self, *args: Any, **named: Any) -> Any:
            if "count" in self.seen and self.seen.endswith("12"):
                os.kill(os.getpid(), signal.SIGINT)
            return super().__call__(*args, **named)

    model = Interrupted(lambda text: "0123456789" if text == "count" else "still here")
    handler = signal.getsignal(signal.SIGINT)
    conversation = talk(model, "count", "hello")
    out = capsys.readouterr().out
    first, second = out.splitlines()
    assert first.startswith("012")
    assert len(first) < 10
    assert second == "still here"
    assert conversation.messages[1] == {"role": "assistant", "content": first}
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_notice_says_once_that_the_oldest_is_forgotten(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Scripted(str.upper, max_position_embeddings=128)
    talk(model, *["some words"] * 8, typed=False, max_new_tokens=20)
    shown = capsys.readouterr()
    assert shown.out == "SOME WORDS\n" * 8
    assert shown.err.count("forgets the oldest messages") == 1


def test_a_terminal_gets_no_control_characters(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Scripted(lambda text: "a\x1b[31mb\tc")
    talk(model, "hello", typed=False)
    assert capsys.readouterr().out == "a\x1b[31mb\tc\n"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    talk(model, "hello")
    assert capsys.readouterr().out == "a[31mb\tc\n"


def test_the_prompt_of_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    script: Iterator[Any] = iter(["one", KeyboardInterrupt(), "two", EOFError()])

    def answer(prompt: str) -> str:
        value = next(script)
        if isinstance(value, BaseException):
            raise value
        return str(value)

    monkeypatch.setattr(builtins, "input", answer)
    assert list(chat_module._typed()) == ["one", "two"]
    assert "Ctrl-D or /exit leaves." in capsys.readouterr().err


def test_without_the_default_model(invoke: Invoke, model: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "HuggingFaceTB/SmolLM2-135M-Instruct"
    asked: list[Any] = []

    def resolve(name: str, source: Any) -> None:
        asked.append((name, source.local_files_only))
        raise ModelNotFoundError("It is not here.", "Fetch it.")

    monkeypatch.setattr("formers.hub.resolve", resolve)
    result = invoke("chat", input="hello\n")
    assert result.exit_code == 1
    assert result.stderr == (
        f"error: No model was named, and {name} is not on this machine. "
        f"Fetch it once with `formers pull {name}`, or name a model with --model.\n"
    )
    assert asked == [(name, True)]
    monkeypatch.setattr("formers.hub.resolve", lambda name, source: None)
    assert invoke("chat", input="hello\n").stdout == "You said hello.\n"
    assert model.loading["model"] == name


def test_a_model_that_only_continues_texts(invoke: Invoke, model: Scripted) -> None:
    model.tokenizer.chat_template = None
    result = invoke("chat", "-m", "m", input="hello\n")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "has no chat template" in result.stderr


def test_a_terminal(start: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    main, terminal = os.openpty()
    folder = small_llama(tmp_path)
    process = start("chat", "--model", folder, "--seed", "1", "--max-new-tokens", "4", stdin=terminal)
    os.close(terminal)
    os.write(main, b"hello\n\x04")
    out, errors = process.communicate(timeout=TIMEOUT)
    os.close(main)
    assert process.returncode == 0, errors
    assert out.endswith("\n")
    assert "/help lists what there is" in errors
    assert errors.count("> ") == 2
