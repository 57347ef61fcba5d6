"""Every Python snippet of the pages runs, and every option of their command lines exists."""

from __future__ import annotations

import json
import re
import shlex
import wave
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from textwrap import dedent
from typing import Any, NamedTuple

import pytest
import torch
import transformers
import typer
from tokenizers.pre_tokenizers import ByteLevel

from formers.registry import TASK_ALIASES, TASKS
from formers.training.arguments import TrainingArguments
from tests.pipelines import speech, text2text

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
CHAT = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"

# What a page's snippet takes for granted, by the page and the snippet's number.
GIVEN = {
    ("seq2seq_training.md", 0): """
def example(text):
    return {"input_ids": [20, 21, 1], "labels": [22, 23, 1]}
train = held_out = [example(text) for text in range(4)]
""",
    ("speech.md", 0): "samples = [0.0] * 44100",
    ("tokenization.md", 0): "from formers import AutoTokenizer; tokenizer = AutoTokenizer.from_pretrained('mbart')",
    ("tokenization.md", 1): """
tokenizer = AutoTokenizer.from_pretrained("openai/whisper-tiny.en")
ids = tokenizer("the cat")["input_ids"]
""",
}
# The real Whisper listens four times.
SLOW = ("speech.md",)
# Needs an accelerator beside the CPU.
ELSEWHERE = {("loading.md", 0)}


class Snippet(NamedTuple):
    """A block of a page, and the line before it."""

    page: str
    line: int
    language: str
    code: str


def snippets(page: Path) -> Iterator[Snippet]:
    text = page.read_text(encoding="utf-8")
    for found in re.finditer(r"^ *```(\w*)\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL):
        yield Snippet(page.name, text.count("\n", 0, found.start()) + 1, found[1], dedent(found[2]))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the names of models that the pages use are folders of tiny ones."""
    root = tmp_path_factory.mktemp("models")
    makers = {"google-t5/t5-small": text2text.t5, "google/flan-t5-small": text2text.t5, "mbart": text2text.mbart}
    for name, make in {**makers, "facebook/bart-large-cnn": text2text.bart}.items():
        (root / name).mkdir(parents=True)
        make(root / name)
    for name in ("HuggingFaceTB/SmolLM2-135M-Instruct", "openai/whisper-tiny.en"):
        (root / name).mkdir(parents=True)
    speech.made(root / "openai" / "whisper-tiny.en")
    _write_llama(root / "HuggingFaceTB" / "SmolLM2-135M-Instruct")
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    transformers.BertModel(transformers.BertConfig(vocab_size=200, **sizes)).save_pretrained(root / "bert-base-uncased")
    with wave.open(str(root / "meeting.wav"), "wb") as file:
        file.setparams((1, 2, speech.RATE, 0, "NONE", "not compressed"))
        file.writeframes(bytes(2 * 3 * speech.RATE))  # silence, of which little is written
    return root


def _write_llama(folder: Path) -> None:
    from tokenizers import Tokenizer, decoders, models

    letters = sorted(ByteLevel.alphabet())
    engine = Tokenizer(models.BPE({token: index for index, token in enumerate(["<end>", *letters])}, []))
    engine.pre_tokenizer, engine.decoder = ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    engine.add_special_tokens(["<end>"])
    engine.save(str(folder / "tokenizer.json"))
    names = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<end>", "pad_token": "<end>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**names, "chat_template": CHAT}))
    config = transformers.LlamaConfig(
        vocab_size=len(letters) + 1,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        eos_token_id=0,
        bos_token_id=0,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=[pytest.mark.slow] * (page.name in SLOW), id=page.name) for page in PAGES]
)
def test_python_runs(
    page: Path, models: Path, minilm: Path, whisper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for entry in models.iterdir():
        if (page.name, entry.name) != ("speech.md", "openai"):  # the tiny model hears too little for its pieces
            (tmp_path / entry.name).symlink_to(entry)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": page.stem}
    for number, snippet in enumerate(one for one in snippets(page) if one.language == "python"):
        if (page.name, number) not in ELSEWHERE:
            exec(GIVEN.get((page.name, number), ""), names)  # noqa: S102 - ours, as the next line
            exec(compile(snippet.code, f"{page.name}, after line {snippet.line}", "exec"), names)  # noqa: S102


def lines() -> list[tuple[str, list[str]]]:
    """The command lines of `formers` in all pages, as words."""
    found = []
    for page in PAGES:
        for snippet in snippets(page):
            for line in snippet.code.splitlines() if snippet.language in ("sh", "console") else ():
                for part in line.partition(" #")[0].removeprefix("$ ").split("|"):
                    words = shlex.split(part.partition(" < ")[0].partition(" > ")[0])
                    if words[:1] == ["formers"]:
                        found.append((f"{page.name}: {line}", words[1:]))
    return found


def options(command: str) -> set[str]:
    app = typer.Typer()
    app.command()(getattr(import_module(f"formers.cli.{command}"), "evaluate" if command == "eval" else command))
    return {option for each in typer.main.get_command(app).params for option in (*each.opts, *each.secondary_opts)}


@pytest.mark.parametrize(("where", "words"), lines())
def test_command_lines_have_their_options(where: str, words: list[str]) -> None:
    command, rest = words[0], words[1:]
    known = options(command)
    if command == "train":
        known |= {"--" + name.replace("_", "-") for name in TrainingArguments.__dataclass_fields__}
    assert {word for word in rest if re.match(r"--?[a-z]", word)} <= known, where
    if command == "run":
        assert rest[0] in {*TASKS, *TASK_ALIASES} or re.fullmatch(r"translation_\w+_to_\w+", rest[0]), where
