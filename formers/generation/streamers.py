"""Streamers: text handed out while it is being generated. The reader gets the exception if generation fails."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from queue import Queue
from typing import Any

from torch import Tensor

from formers.errors import InputError


class BaseStreamer:
    """What `generate(streamer=…)` talks to: `put` gets the prompt, then each step's tokens; `end` comes last."""

    def put(self, value: Tensor) -> None:
        """Take ids: the prompt (1, S) first, then (1,) a step."""
        raise NotImplementedError(f"{type(self).__name__} has no put.")

    def end(self) -> None:
        """There is no more."""
        raise NotImplementedError(f"{type(self).__name__} has no end.")

    def fail(self, error: BaseException) -> None:
        """Generation failed; it raises the error itself too."""
        self.end()


class TextPieces:
    """Token ids to pieces of text that will not change any more.

    Text is held back while it ends in an unfinished character, or (words) in a word that may go on.
    """

    def __init__(self, tokenizer: Any, words: bool = False, **decode_options: Any) -> None:
        self.tokenizer, self.words, self.options = tokenizer, words, decode_options
        self.ids: list[int] = []
        self.shown = 0

    def add(self, ids: list[int], last: bool = False) -> str:
        """The new text after these ids; with `last` all that was held back."""
        self.ids.extend(ids)
        text = self._decode()
        if last or text.endswith("\n"):
            self.ids.clear()
            piece, self.shown = text[self.shown :], 0
            return piece
        end = len(text.rstrip("\ufffd"))
        if self.words and end and not _stands_alone(text[end - 1]):
            end = text.rfind(" ", 0, end) + 1
        piece = text[self.shown : end]
        self.shown = max(self.shown, end)
        return piece

    def _decode(self) -> str:
        return str(self.tokenizer.decode(self.ids, **self.options)) if self.ids else ""


class TextStreamer(BaseStreamer):
    """Prints text as soon as whole words are there; `on_finalized_text` may be overridden.

    `skip_prompt` leaves out the prompt; other keywords are those of `tokenizer.decode`.
    """

    def __init__(self, tokenizer: Any, skip_prompt: bool = False, **decode_kwargs: Any) -> None:
        self.tokenizer = tokenizer
        self.skip_prompt = skip_prompt
        self.decode_kwargs = decode_kwargs
        self.next_tokens_are_prompt = True
        self._pieces = TextPieces(tokenizer, words=True, **decode_kwargs)

    def put(self, value: Tensor) -> None:
        """Take ids, print what is certain."""
        if value.dim() > 1 and value.shape[0] > 1:
            raise InputError(f"A {type(self).__name__} got {value.shape[0]} texts.", "Stream one text at a time.")
        if self.next_tokens_are_prompt:
            self.next_tokens_are_prompt = False
            if self.skip_prompt:
                return
        self.on_finalized_text(self._pieces.add(value.flatten().tolist()))

    def end(self) -> None:
        """Print the rest."""
        self.next_tokens_are_prompt = True
        self.on_finalized_text(self._pieces.add([], last=True), stream_end=True)

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Print the new text, and a line break after the last."""
        sys.stdout.write(text + ("\n" if stream_end else ""))
        sys.stdout.flush()


class TextIteratorStreamer(TextStreamer):
    """Text to iterate over, while `generate` runs in another thread. `timeout` in seconds raises queue.Empty."""

    def __init__(
        self, tokenizer: Any, skip_prompt: bool = False, timeout: float | None = None, **decode_kwargs: Any
    ) -> None:
        super().__init__(tokenizer, skip_prompt, **decode_kwargs)
        self.timeout = timeout
        self.stop_signal = None
        self.text_queue: Queue[str | BaseException | None] = Queue()

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Hand the text to the reader."""
        if text or stream_end:
            self.text_queue.put(text, timeout=self.timeout)
        if stream_end:
            self.text_queue.put(self.stop_signal, timeout=self.timeout)

    def fail(self, error: BaseException) -> None:
        """Raise the error where the text is read."""
        self.text_queue.put(error)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        value = self.text_queue.get(timeout=self.timeout)
        if value is None:
            raise StopIteration
        if isinstance(value, BaseException):
            raise value
        return value


class AsyncTextIteratorStreamer(TextStreamer):
    """Text to iterate over with `async for`. Make it inside the event loop that reads it."""

    def __init__(
        self, tokenizer: Any, skip_prompt: bool = False, timeout: float | None = None, **decode_kwargs: Any
    ) -> None:
        super().__init__(tokenizer, skip_prompt, **decode_kwargs)
        self.timeout = timeout
        self.stop_signal = None
        self.text_queue: asyncio.Queue[str | BaseException | None] = asyncio.Queue()
        self.loop = asyncio.get_running_loop()

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Hand the text to the reader."""
        if text or stream_end:
            self._put(text)
        if stream_end:
            self._put(self.stop_signal)

    def fail(self, error: BaseException) -> None:
        """Raise the error where the text is read."""
        self._put(error)

    def _put(self, value: str | BaseException | None) -> None:
        self.loop.call_soon_threadsafe(self.text_queue.put_nowait, value)

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        value = await asyncio.wait_for(self.text_queue.get(), self.timeout)
        if value is None:
            raise StopAsyncIteration
        if isinstance(value, BaseException):
            raise value
        return value


def _stands_alone(sign: str) -> bool:
    """Whether a sign is a word by itself: space, and the CJK ideographs."""
    code = ord(sign)
    ideographs = ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0xF900, 0xFAFF), (0x20000, 0x2CEAF), (0x2F800, 0x2FA1F))
    return sign.isspace() or any(first <= code <= last for first, last in ideographs)
