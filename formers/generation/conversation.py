"""A chat with a model that keeps its cache from turn to turn, so that only new tokens are read."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from typing import Any

from formers.errors import FormersError, InputError
from formers.generation.config import GenerationConfig, over
from formers.generation.generate import stepwise
from formers.generation.planning import Call, model_config
from formers.generation.processing import token_ids
from formers.generation.streamers import TextPieces

# Settings where neither the caller nor the model says anything.
DEFAULTS: dict[str, Any] = {"max_new_tokens": 512, "do_sample": True, "temperature": 0.7}
_ROLES = ("system", "user", "assistant")


class Conversation:
    """Messages ({"role": …, "content": …}) and the model that answers them.

    `messages` may be changed at any time: of what the cache holds, the part that still fits is used. Where they outgrow
    the model's context, it sees the system message and the latest turns; `forgotten` counts the messages that it does
    not see. `settings` are those of `generate`.
    """

    def __init__(self, model: Any, tokenizer: Any, system: str | None = None, **settings: Any) -> None:
        if not getattr(tokenizer, "chat_template", None):
            raise InputError(
                f"{model.config.name_or_path or 'The model'} has no chat template: it continues texts.",
                "Use a model that was tuned for chats, often named …-Instruct or …-Chat, or the task text-generation.",
            )
        self.model, self.tokenizer, self.settings = model, tokenizer, settings
        self.messages: list[dict[str, str]] = []
        self.system = system
        self.forgotten = 0
        self.limit = _context(model, tokenizer)
        special = {name: getattr(tokenizer, name) for name in ("pad_token_id", "eos_token_id", "bos_token_id")}
        self._defaults = GenerationConfig(**DEFAULTS, **{k: v for k, v in special.items() if v is not None})
        own = self._defaults.under(model_config(model)).set_values()
        self._most = int(over(own, settings).get("max_new_tokens") or DEFAULTS["max_new_tokens"])
        ends = [] if own.get("eos_token_id") is None else token_ids(own["eos_token_id"])
        self._ends = sorted({*ends, *_ends_of_turns(tokenizer)})
        # What the model has read, and the tokens of it.
        self._cache: Any = None
        self._held: list[int] = []

    def reset(self) -> None:
        """Forget all messages but the system's."""
        self.messages, self.forgotten = [], 0

    def load(self, messages: Any) -> None:
        """Go on from these messages; a system message comes first, or there is none."""
        checked = _checked(messages)
        first = bool(checked) and checked[0]["role"] == "system"
        self.system = checked[0]["content"] if first else None
        self.messages, self.forgotten = checked[first:], 0

    def saved(self) -> list[dict[str, str]]:
        """All messages, the system's first."""
        return [*self._system(), *self.messages]

    def ask(self, text: str) -> Generator[str, None, None]:
        """The answer to a message in pieces, each as soon as it is certain.

        Stop iterating (or close it) to end it: what was said by then becomes the answer. Where nothing was said, the
        message is taken back.
        """
        self.messages.append({"role": "user", "content": text})
        said: list[str] = []
        try:
            with closing(self._pieces()) as pieces:
                for piece in pieces:
                    said.append(piece)
                    yield piece
        finally:
            if said:
                self.messages.append({"role": "assistant", "content": "".join(said)})
            else:
                self.messages.pop()

    def _pieces(self) -> Generator[str, None, None]:
        ids = self._fitted()
        self._rewind(ids)
        most = self._most if self.limit is None else min(self._most, self.limit - len(ids))
        settings = {**self.settings, "max_new_tokens": most, "eos_token_id": self._ends or None}
        call = Call([ids], past_key_values=self._cache, tokenizer=self.tokenizer, defaults=self._defaults)
        pieces = TextPieces(self.tokenizer, skip_special_tokens=True)
        read = list(ids)
        try:
            for step in stepwise(self.model, call, None, settings):
                read.extend(step.tokens)
                if piece := pieces.add(step.tokens):
                    yield piece
            if rest := pieces.add([], last=True):
                yield rest
        except GeneratorExit:
            raise
        except BaseException:
            # Nobody knows how far the layers came.
            self._cache = None
            raise
        finally:
            self._held = [] if self._cache is None else read[: self._cache.lengths[0]]

    def _rewind(self, ids: Sequence[int]) -> None:
        """Let the cache hold the beginning that it shares with `ids`, and no more."""
        both = enumerate(zip(ids, self._held, strict=False))
        same = next((place for place, (a, b) in both if a != b), min(len(ids), len(self._held)))
        same = min(same, len(ids) - 1)
        try:
            if self._cache is not None:
                self._cache.crop([same])
        except InputError:  # layers with a window have forgotten what comes before
            self._cache = None
        if self._cache is None:
            self._cache = self.model.new_cache(1, len(ids) + min(self._most, 256))

    def _fitted(self) -> list[int]:
        """The ids of what the model sees, with room for an answer."""
        ids = self._ids()
        if self.limit is None:
            return ids
        room = min(self._most, max(self.limit // 4, 1))
        if len(ids) + room <= self.limit:
            return ids
        # More than needed is dropped at once, so that the next turns find their beginning in the cache.
        aim = self.limit - room - self.limit // 8
        while len(ids) > aim and (turn := self._next_turn()) is not None:
            self.forgotten = turn
            ids = self._ids()
        if len(ids) + room > self.limit:
            raise InputError(
                f"The message, with the system prompt, has {len(ids)} tokens; the model takes {self.limit}, and "
                f"{room} of them are kept for the answer.",
                "Shorten it.",
            )
        return ids

    def _next_turn(self) -> int | None:
        """Where the second of the turns that the model sees begins; None if there is one alone."""
        later = range(self.forgotten + 1, len(self.messages))
        return next((place for place in later if self.messages[place]["role"] == "user"), None)

    def _system(self) -> list[dict[str, str]]:
        return [{"role": "system", "content": self.system}] if self.system else []

    def _ids(self) -> list[int]:
        seen = [*self._system(), *self.messages[self.forgotten :]]
        return _render(self.tokenizer, seen, add_generation_prompt=True)


def _render(tokenizer: Any, messages: Sequence[Mapping[str, str]], **options: Any) -> list[int]:
    ids: list[int] = tokenizer.apply_chat_template(list(messages), tokenize=True, return_dict=True, **options)[
        "input_ids"
    ]
    return ids


def _context(model: Any, tokenizer: Any) -> int | None:
    """The most tokens, prompt and answer, that the model takes; None where nothing says it."""
    spec = getattr(model, "spec", None)
    table = None if spec is None or spec.positions is None else spec.positions - spec.first_position
    declared = getattr(model.config, "max_position_embeddings", None)
    found = [n for n in (table, declared, tokenizer.model_max_length) if n is not None and 0 < n < 10**9]
    return min(found, default=None)


def _ends_of_turns(tokenizer: Any) -> list[int]:
    """The token with which the chat template ends an answer: models do not always name it as an end of sequence."""
    question = [{"role": "user", "content": "a"}]
    try:
        before = _render(tokenizer, question, add_generation_prompt=True)
        whole = _render(tokenizer, [*question, {"role": "assistant", "content": "b"}])
    except FormersError:
        return []
    if whole[: len(before)] != before:
        return []
    added = set(tokenizer.get_added_vocab().values())
    return [token for token in whole[len(before) :] if token in added][:1]


def _checked(messages: Any) -> list[dict[str, str]]:
    """Messages of a file, or an InputError that says what is wrong with them."""
    remedy = 'A chat is a list of {"role": "user" or "assistant", "content": "…"}; a system message may come first.'
    if not isinstance(messages, list):
        raise InputError(f"The chat is not a list but {type(messages).__name__}.", remedy)
    made = []
    for number, message in enumerate(messages, 1):
        fine = isinstance(message, Mapping) and isinstance(message.get("content"), str)
        if not fine or message.get("role") not in (_ROLES if number == 1 else _ROLES[1:]):
            raise InputError(f"Message {number} of the chat is {str(message)[:80]!r}.", remedy)
        made.append({"role": message["role"], "content": message["content"]})
    return made
