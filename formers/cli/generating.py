"""`formers run` of the tasks that generate: prompts, settings, and text shown while it is made."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any
from unicodedata import category

from formers.cli.sampling import settings_of
from formers.errors import InputError

TASK = "text-generation"
SOURCED = ("summarization", "text2text-generation", "translation")
"""The tasks that write a text from a text, with an encoder–decoder."""
TASKS = (TASK, *SOURCED)

OPTIONS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("chat", "return_full_text", "system"), (TASK,)),
    **dict.fromkeys(("src_lang", "tgt_lang"), ("translation",)),
    **dict.fromkeys(("max_length", "min_length", "truncation"), SOURCED),
    **dict.fromkeys(("do_sample", "json_schema", "max_new_tokens", "num_beams", "num_return_sequences"), TASKS),
    **dict.fromkeys(("regex", "seed", "temperature", "top_p"), TASKS),
}
"""The options of these tasks alone, and the tasks that take them; all take `top_k` too."""


def call_options(task: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of the pipeline's call from the flags of the command."""
    settings = {name: value for name, value in given.items() if name not in ("chat", "system")}
    temperature, do_sample = settings.pop("temperature", None), settings.pop("do_sample", None)
    if settings.get("json_schema") is not None:
        settings["json_schema"] = _schema(settings["json_schema"])
    if task == TASK:
        settings.setdefault("return_full_text", False)
    return settings_of(settings, temperature, do_sample)


def prompter(given: Mapping[str, Any]) -> Callable[[str], Any]:
    """What the pipeline takes for a text: the text, or a chat with it as the user's message."""
    if not given.get("chat"):
        return lambda text: text
    system = given.get("system")
    before = [] if system is None else [{"role": "system", "content": system}]
    return lambda text: [*before, {"role": "user", "content": text}]


def flat(result: Any) -> Any:
    """One generated text by itself; of a chat only what the model said."""
    texts = [_said(each) for each in result]
    return texts[0] if len(texts) == 1 else texts


def show(pipe: Any, prompt: Any, options: Mapping[str, Any]) -> None:
    """Generate one text and write it to the terminal as it is made."""
    from formers.generation.streamers import TextStreamer

    class Screen(TextStreamer):
        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            sys.stdout.write(printable(text) + ("\n" if stream_end else ""))
            sys.stdout.flush()

    if options.get("return_full_text") and isinstance(prompt, str):
        sys.stdout.write(printable(prompt))
    pipe(prompt, streamer=Screen(pipe.tokenizer, skip_prompt=True, skip_special_tokens=True), **options)


def printable(text: str) -> str:
    """A text without the signs that steer a terminal."""
    return "".join(sign for sign in text if sign in "\n\t" or category(sign) != "Cc")


def _said(prediction: Mapping[str, Any]) -> dict[str, Any]:
    text = prediction.get("generated_text")
    return {**prediction, "generated_text": text[-1]["content"]} if isinstance(text, list) else dict(prediction)


def _schema(file: str) -> Any:
    with open(file, encoding="utf-8") as text:
        try:
            return json.load(text)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{file} is not JSON: {error}.", "--json-schema takes a file with a JSON schema."
            ) from None
