"""The command as a process of its own: start-up, streaming, signals, pipes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from formers import __version__

Start = Callable[..., "subprocess.Popen[str]"]

TIMEOUT = 300  # seconds; far more than needed, for machines that are busy


def test_version(start: Start) -> None:
    assert start("--version").communicate(timeout=TIMEOUT) == (f"formers {__version__}\n", "")


@pytest.mark.parametrize(
    "arguments",
    [[*name, "--help"] for name in ([], ["run"], ["pull"], ["chat"], ["train"], ["eval"])] + [["run", "nonsense"]],
)
def test_what_needs_no_model_imports_no_torch(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom formers.cli import main\n"
        f"sys.argv[1:] = {arguments!r}\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'numpy', 'huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=TIMEOUT)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_without_the_extra(package: str) -> None:
    code = f"import sys\nsys.modules[{package!r}] = None\nfrom formers.cli import main\nmain()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=TIMEOUT)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"error: This needs the package {package!r}, which is not installed. "
        "Install it with: pip install 'formers[cli]'\n"
    )


def test_no_texts_on_a_terminal_is_wrong_usage(start: Start) -> None:
    main, terminal = os.openpty()
    process = start("run", "ner", stdin=terminal)
    os.close(terminal)
    _, errors = process.communicate(timeout=TIMEOUT)
    os.close(main)
    assert process.returncode == 2
    assert "pipe them in" in errors


def test_each_line_is_answered_as_it_comes(start: Start, tiny_classifier: Path) -> None:
    process = start("run", "text-classification", "--model", tiny_classifier)
    assert process.stdin is not None
    assert process.stdout is not None
    for text in ("abc", "grün", "xyz"):
        process.stdin.write(text + "\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        assert answer["text"] == text
        assert answer["label"] in ("contradiction", "entailment")
    assert process.communicate(timeout=TIMEOUT) == ("", "")
    assert process.returncode == 0


def test_a_table_on_a_terminal(start: Start, tiny_classifier: Path) -> None:
    main, terminal = os.openpty()
    process = start("run", "text-classification", "abc", "--model", tiny_classifier, stdout=terminal)
    os.close(terminal)
    process.communicate(timeout=TIMEOUT)
    shown = os.read(main, 10_000).decode()
    os.close(main)
    assert "score" in shown
    assert "abc" in shown
    assert "{" not in shown


@pytest.mark.parametrize(("sent", "code", "errors"), [(signal.SIGINT, 130, "interrupted\n"), (signal.SIGTERM, 143, "")])
def test_signals_leave_nothing_half_written(
    start: Start, tiny_classifier: Path, tmp_path: Path, sent: signal.Signals, code: int, errors: str
) -> None:
    target = tmp_path / "out.jsonl"
    target.write_text("what was there before")
    process = start("run", "text-classification", "--model", tiny_classifier, "-o", target)
    assert process.stdin is not None
    for _ in range(1000):
        process.stdin.write("abc\n")
    process.stdin.flush()
    _wait_for_results(tmp_path, process)
    process.send_signal(sent)
    assert process.communicate(timeout=TIMEOUT) == ("", errors)
    assert process.returncode == code
    assert os.listdir(tmp_path) == ["out.jsonl"]
    assert target.read_text() == "what was there before"


def _wait_for_results(folder: Path, process: subprocess.Popen[str]) -> None:
    """Until the draft of the output holds something: then the work is under way."""
    deadline = time.monotonic() + TIMEOUT
    while not any(each.name != "out.jsonl" and each.stat().st_size for each in folder.iterdir()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_reader_that_leaves(start: Start, tiny_classifier: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.txt"
    source.write_text("abc\n" * 4_000)
    process = start("run", "text-classification", "--model", tiny_classifier, "-i", source)
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["text"] == "abc"
    process.stdout.close()
    process.stdout = None
    assert process.communicate(timeout=TIMEOUT)[1] == ""
    assert process.returncode == 141
