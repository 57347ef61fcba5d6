"""`formers chat`: a conversation with a model, typed or piped."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer

from formers.cli.generating import printable
from formers.cli.report import EXPECTED, exit_codes
from formers.cli.rows import STDIO, from_file
from formers.cli.sampling import device_of, quantize_of, settings_of
from formers.errors import InputError, ModelNotFoundError
from formers.registry import TASKS

if TYPE_CHECKING:
    from formers.generation.conversation import Conversation

HELP = """\
/reset         forget what was said
/system TEXT   set the system prompt; without TEXT, remove it
/save FILE     write the chat as JSON
/load FILE     go on with a chat that was saved
/help          this list
/exit          leave (also Ctrl-D)
Ctrl-C stops an answer. A message that begins with a slash is written with two."""


def _option(panel: str, help: str, *names: str, **settings: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, **settings)


def chat(
    model: Annotated[
        str | None, _option("Model", "Folder or name (default: SmolLM2-135M-Instruct, if it is here).", "--model", "-m")
    ] = None,
    system: Annotated[
        str | None, typer.Option("--system", "-s", help="What the model is told before all else.")
    ] = None,
    load: Annotated[str | None, typer.Option(help="Go on with a chat that was saved.", metavar="FILE")] = None,
    max_new_tokens: Annotated[
        int | None, _option("Answers", "The longest answer, in tokens (default: 512).", min=1)
    ] = None,
    temperature: Annotated[
        float | None, _option("Answers", "Higher is more varied, 0 takes the likeliest (default: 0.7).", min=0)
    ] = None,
    top_k: Annotated[int | None, _option("Answers", "Draw from the so many likeliest tokens.", min=1)] = None,
    top_p: Annotated[float | None, _option("Answers", "Draw from the likeliest that make up this share.")] = None,
    min_p: Annotated[float | None, _option("Answers", "Draw from those at least so likely, beside the first.")] = None,
    repetition_penalty: Annotated[float | None, _option("Answers", "Above 1: repeat less.")] = None,
    seed: Annotated[int | None, _option("Answers", "The same chat gets the same answers.")] = None,
    revision: Annotated[str | None, _option("Model", "Branch, tag or commit of the model on the hub.")] = None,
    device: Annotated[str | None, _option("Model", "cpu, cuda, cuda:1, mps, or a GPU's number.")] = None,
    dtype: Annotated[str | None, _option("Model", "float32, bfloat16, float16 or auto.")] = None,
    int8: Annotated[bool, _option("Model", "Load the model with 8 bits a weight.", "--int8")] = False,
    int4: Annotated[bool, _option("Model", "Load the model with 4 bits a weight.", "--int4")] = False,
) -> None:
    """Chat with a model.

    Answers appear as they are made. What was said before is read once. Lines from a pipe are messages, answered on
    stdout without anything else.
    """
    with exit_codes():
        given = {
            "max_new_tokens": max_new_tokens,
            "top_k": top_k,
            "top_p": top_p,
            "min_p": min_p,
            "repetition_penalty": repetition_penalty,
            "seed": seed,
        }
        settings = settings_of(given, temperature)
        loading = {
            "model": model or default_model(),
            "revision": revision,
            "device": None if device is None else device_of(device),
            "dtype": dtype,
            "quantize": quantize_of(int8, int4),
        }
        from formers import pipeline
        from formers.generation.conversation import Conversation

        pipe = pipeline("text-generation", **{name: value for name, value in loading.items() if value is not None})
        conversation = Conversation(pipe.model, pipe.tokenizer, system, **settings)
        if load is not None:
            conversation.load(_read(load))
            conversation.system = conversation.system if system is None else system
        if sys.stdin is not None and sys.stdin.isatty():
            say(f"{loading['model']}: /help lists what there is beside talking, Ctrl-D leaves.")
            Chat(conversation, typed=True).run(_typed())
        else:
            with from_file(STDIO, "txt") as rows:
                Chat(conversation, typed=False).run(row.text("text") for row in rows)


def default_model() -> str:
    """The model to chat with where none is named: it must be on this machine already."""
    from formers.hub import Source, resolve

    name = TASKS["text-generation"].default_model
    try:
        resolve(name, Source(local_files_only=True))
    except ModelNotFoundError as error:
        raise ModelNotFoundError(
            f"No model was named, and {name} is not on this machine.",
            f"Fetch it once with `formers pull {name}`, or name a model with --model.",
        ) from error
    return name


class Chat:
    """Messages and commands, line by line. A line that fails is told to who types; a pipe ends with it."""

    def __init__(self, conversation: Conversation, typed: bool) -> None:
        self.conversation, self.typed = conversation, typed
        # What a terminal shows must not steer it.
        self._clean = sys.stdout.isatty()
        self._commands: dict[str, Callable[[str], bool]] = {
            "/reset": self._reset,
            "/system": self._system,
            "/save": self._save,
            "/load": self._load,
            "/help": self._help,
            "/exit": lambda _: True,
            "/quit": lambda _: True,
        }
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(encoding="utf-8")

    def run(self, lines: Iterator[str]) -> None:
        """Until the lines end, or one asks to leave."""
        for line in lines:
            try:
                if line.strip() and self._line(line.strip()):
                    return
            except EXPECTED as error:
                if not self.typed or isinstance(error, BrokenPipeError):
                    raise
                say(f"error: {error}")

    def _line(self, line: str) -> bool:
        """Do what a line asks for; whether it asks to leave."""
        name, _, rest = line.partition(" ")
        # A path is no command: those have one slash.
        if line.startswith("/") and "/" not in name[1:]:
            if name not in self._commands:
                near = get_close_matches(name, self._commands, n=1)
                raise InputError(
                    f"There is no command {name}.",
                    f"Did you mean {near[0]}?" if near else "/help lists those there are.",
                )
            return self._commands[name](rest.strip())
        self._answer(line.removeprefix("/") if line.startswith("//") else line)
        return False

    def _answer(self, message: str) -> None:
        conversation, forgotten = self.conversation, self.conversation.forgotten
        answer = conversation.ask(message)
        with _interruptible(self.typed) as stopped:
            for piece in answer:
                sys.stdout.write(printable(piece) if self._clean else piece)
                sys.stdout.flush()
                if stopped():
                    answer.close()
                    break
        sys.stdout.write("\n")
        sys.stdout.flush()
        if conversation.forgotten and not forgotten:
            say("The chat outgrew what the model can read: from now on it forgets the oldest messages.")

    def _reset(self, rest: str) -> bool:
        self.conversation.reset()
        self._tell("Forgotten.")
        return False

    def _system(self, text: str) -> bool:
        self.conversation.system = text or None
        self._tell("The system prompt is set." if text else "There is no system prompt now.")
        return False

    def _save(self, file: str) -> bool:
        from formers.hub.atomic import write_json

        saved = self.conversation.saved()
        write_json(_named(file, "/save"), saved)
        self._tell(f"{len(saved)} messages are in {file}.")
        return False

    def _load(self, file: str) -> bool:
        self.conversation.load(_read(_named(file, "/load")))
        self._tell(f"{len(self.conversation.messages)} messages were read.")
        return False

    def _help(self, rest: str) -> bool:
        say(HELP)
        return False

    def _tell(self, text: str) -> None:
        if self.typed:
            say(text)


def say(text: str) -> None:
    """What is no answer goes to stderr."""
    print(text, file=sys.stderr, flush=True)


def _named(file: str, command: str) -> str:
    if not file:
        raise InputError(f"{command} needs a file.", f"For example: {command} chat.json")
    return os.path.expanduser(file)  # no shell has done it


def _read(file: str) -> Any:
    with open(file, encoding="utf-8") as text:
        try:
            return json.load(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{file} is not JSON: {error}.", "Give a file that /save wrote.") from None


def _typed() -> Iterator[str]:
    """Lines of the terminal, with what Readline offers where both ends are one."""
    prompt = "> "
    if sys.stdout.isatty():
        with suppress(ImportError):
            import_module("readline")  # input() uses it
    while True:
        try:
            if not sys.stdout.isatty():
                sys.stderr.write(prompt)
                sys.stderr.flush()
            yield input(prompt if sys.stdout.isatty() else "")
        except EOFError:
            say("")
            return
        except KeyboardInterrupt:
            say("\nCtrl-D or /exit leaves.")


@contextmanager
def _interruptible(typed: bool) -> Iterator[Callable[[], bool]]:
    """Ctrl-C is noted instead of raised, so that a step ends whole; pressed again, it is raised."""
    pressed = False

    def note(signum: int, frame: object) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    if not typed:
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)
