"""Speculation: several tokens are guessed and read at once; the text is that of plain decoding, sooner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from formers.errors import InputError
from formers.generation.forward import Forward
from formers.generation.sources import Conditioned, is_encoder_decoder
from formers.generation.steps import Chooser, Plan, Step
from formers.generation.validation import OUTPUTS


class PromptLookup:
    """Guesses what followed the last tokens when they were there before, in the text or in the `source` of it."""

    def __init__(self, count: int, longest: int, ends: frozenset[int], source: Sequence[int] = ()) -> None:
        self.count, self.longest, self.ends, self.source = count, longest, ends, list(source)

    def guess(self, ids: Sequence[int], room: int) -> list[int]:
        """At most `room` tokens that may follow `ids`."""
        room = min(room, self.count)
        ids = self.source + list(ids)
        for size in range(min(self.longest, len(ids) - 1), 0, -1):
            tail = list(ids[-size:])
            for place in range(len(ids) - size - 1, -1, -1):
                if ids[place] == tail[0] and ids[place : place + size] == tail:
                    found = list(ids[place + size : place + size + room])
                    for index, token in enumerate(found):
                        if token in self.ends:
                            return found[:index]
                    return found
        return []

    def learn(self, guessed: int, right: int) -> None:
        """Nothing is learned from how many guesses were right."""


class Assistant:
    """Guesses the likeliest tokens of a smaller model, while it is sure enough of them."""

    def __init__(self, model: Any, config: Any, pad: int) -> None:
        self.forward = Forward(model, pad=pad)
        self.count = float(config.num_assistant_tokens or 20)
        self.sure = float(config.assistant_confidence_threshold or 0.0)
        self.learns = config.num_assistant_tokens_schedule in ("heuristic", "heuristic_transient")
        self._read: list[int] = []

    def guess(self, ids: Sequence[int], room: int) -> list[int]:
        """At most `room` tokens that may follow `ids`."""
        room = min(room, int(self.count))
        if room < 1:
            return []
        guessed: list[int] = []
        logits = self._catch_up(list(ids))
        while True:
            scores = logits[0, -1].float()
            token = int(scores.argmax())
            guessed.append(token)
            if len(guessed) == room or float(scores.softmax(-1)[token]) < self.sure:
                return guessed
            logits = self.forward.step([token])
            self._read.append(token)

    def _catch_up(self, ids: list[int]) -> Any:
        """Read what is new in `ids`, forgetting guesses that were wrong."""
        same = 0
        for mine, theirs in zip(self._read, ids[:-1], strict=False):
            if mine != theirs:
                break
            same += 1
        if not self._read:
            self._read = ids
            return self.forward.begin([ids])
        if same < len(self._read):
            self.forward.rewind(same)
        self._read = ids
        return self.forward.extend(ids[same:])

    def learn(self, guessed: int, right: int) -> None:
        """Guess more after a full success, fewer after a failure."""
        if self.learns:
            self.count = self.count + 2 if right == guessed else max(1.0, self.count - 1)


def _reader(assistant: Any, source: Conditioned | None) -> Any:
    """The assistant, which reads the model's source with an encoder of its own where the model has one."""
    if is_encoder_decoder(assistant) != (source is not None):
        kind = "a decoder" if source is None else "an encoder–decoder"
        raise InputError(
            f"The model is {kind}, and the assistant {type(assistant).__name__} is not.",
            f"Use {kind} as assistant_model.",
        )
    if source is None:
        return assistant
    if not source.source.inputs:
        raise InputError(
            "encoder_outputs were given with an assistant, which has an encoder of its own.", "Pass input_ids instead."
        )
    return Conditioned(assistant, replace(source.source, outputs=None))


class Speculation:
    """Decoding one text with guesses. Every token is chosen by the model, as without them.

    Each guess is compared with what greedy search, or the row's own draw, takes in its place: right ones are kept, and
    the first that is wrong is replaced.
    """

    def __init__(self, plan: Plan, assistant_model: Any = None) -> None:
        config = plan.config
        if len(plan.rows) > 1:
            raise InputError(
                f"Speculation was asked for with {len(plan.rows)} texts.",
                "Generate one at a time, or leave it out: a batch gains more by itself.",
            )
        if any(getattr(config, name) for name in OUTPUTS):
            raise InputError(
                "Scores, attentions or hidden states were asked for with speculation.", "Leave speculation out."
            )
        self.plan = plan
        source = plan.forward.source
        (self.row,) = plan.rows
        self.choose = Chooser(plan, plan.rows)
        self.started = False
        self.guesser: PromptLookup | Assistant
        if assistant_model is None:
            longest = int(config.max_matching_ngram_size or 2)
            text = [] if source is None or source.source.ids is None else source.source.row(0)
            self.guesser = PromptLookup(int(config.prompt_lookup_num_tokens or 1), longest, plan.ends, text)
        else:
            self.guesser = Assistant(_reader(assistant_model, source), config, plan.pad)

    @property
    def done(self) -> bool:
        """Whether the text has ended."""
        return bool(self.row.reason)

    def answers(self) -> list[list[int]]:
        """The new tokens of the text."""
        return [self.row.new]

    def advance(self) -> Step:
        """Guess, read, and keep what is right: at least one token."""
        plan, row = self.plan, self.row
        guess = self.guesser.guess(row.ids, row.limit - row.count - 1)
        if self.started:
            logits = plan.forward.extend([row.ids[-1], *guess])
        else:
            logits = plan.forward.begin([[*row.ids, *guess]], keep=len(guess) + 1)
            self.started = True
        step = Step([], [])
        right = 0
        for place in range(len(guess) + 1):
            (token,) = self.choose([row], logits[:, place])
            row.ids.append(token)
            step.rows.append(row.index)
            step.tokens.append(token)
            self.choose.append([token])
            row.reason = plan.reason(row, 0) or self._criteria() or ("time" if plan.out_of_time() else "")
            if row.reason or place == len(guess) or token != guess[place]:
                break
            right += 1
        self.guesser.learn(len(guess), right)
        if row.reason:
            step.finished[row.index] = row.reason
        # The last token has been chosen, not read; wrong guesses have been read.
        plan.forward.rewind(len(row.ids) - 1)
        return step

    def _criteria(self) -> str:
        history = self.choose.history
        if not self.plan.criteria or history is None:
            return ""
        return "criteria" if bool(self.plan.criteria(history.ids, None).all()) else ""
