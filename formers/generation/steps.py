"""The decoding loop: an iterator over steps, which plain results, streams and beams wrap."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from formers.generation.drawing import draw, likeliest
from formers.generation.forward import Forward
from formers.generation.processing import LogitsProcessorList
from formers.generation.rows import History, Prompts, Row
from formers.generation.stopping import StoppingCriteriaList, StopStringCriteria

if TYPE_CHECKING:
    from formers.generation.config import GenerationConfig
    from formers.generation.constraints import Constraint


@dataclass(slots=True)
class Step:
    """What one step added: a token each for some rows of the answer, and why those that have ended did.

    Reasons are "eos", "length", "stop" (a stop string), "complete" (a constraint allows no more), "criteria" (one of
    the caller's) and "time". `logits`, `scores` (processed logits), both (B, V), and `logprobs` (B,), of the tokens
    among the model's own logits, are kept when asked for; the batch then stays together.
    """

    rows: list[int]
    tokens: list[int]
    finished: dict[int, str] = field(default_factory=dict)
    logits: Tensor | None = None
    scores: Tensor | None = None
    logprobs: Tensor | None = None
    attentions: Any = None
    hidden_states: Any = None
    cross_attentions: Any = None

    def take_states(self, output: Any, rows: int) -> None:
        """Keep what a model's output has of attention maps and hidden states, for `rows` rows."""
        own = "decoder_" if hasattr(output, "decoder_hidden_states") else ""
        self.attentions = _repeated(getattr(output, f"{own}attentions"), rows)
        self.hidden_states = _repeated(getattr(output, f"{own}hidden_states"), rows)
        self.cross_attentions = _repeated(getattr(output, "cross_attentions", None), rows)


def _repeated(layers: Sequence[Tensor] | None, rows: int) -> tuple[Tensor, ...] | None:
    """The states of all layers, for rows that were read once as the prompt of several."""
    if layers is None:
        return None
    return tuple(layer.repeat_interleave(rows // len(layer), 0) for layer in layers)


@dataclass
class Plan:
    """One call, checked and ready: settings, rows, and everything that acts on them."""

    config: GenerationConfig
    prompts: Prompts
    rows: list[Row]
    forward: Forward
    processors: LogitsProcessorList
    criteria: StoppingCriteriaList
    ends: frozenset[int]
    pad: int
    copies: int
    # Whether rows leave the batch when they have finished: not, if something sees the batch as a whole.
    leave: bool
    stop_strings: StopStringCriteria | None = None
    constraint: Constraint | None = None
    # On the clock of time.monotonic(); None without max_time.
    deadline: float | None = None
    # Whether the caller sees the cache: it must then be usable outside of inference mode.
    visible: bool = False

    def __post_init__(self) -> None:
        config = self.config
        self.sampling = bool(config.do_sample)
        self.keep_scores = bool(config.output_scores)
        self.keep_logits = bool(config.output_logits)
        self.keep_logprobs = bool(config.output_logprobs)
        self.keep_states = bool(config.output_attentions or config.output_hidden_states)
        self.with_history = bool(self.processors or self.criteria)

    def mode(self) -> torch.no_grad | torch.inference_mode:
        """What steps are computed in."""
        return torch.no_grad() if self.visible else torch.inference_mode()

    def reason(self, row: Row, place: int) -> str:
        """Why a row, at `place` among the live ones, ends with its last token; "" if it goes on."""
        if row.ids[-1] in self.ends:
            return "eos"
        if self.constraint is not None and self.constraint.complete(place):
            return "complete"
        if self.stop_strings is not None and self.stop_strings.ends(row.ids):
            return "stop"
        return "length" if row.count >= row.limit else ""

    def out_of_time(self) -> bool:
        """Whether max_time is over."""
        return self.deadline is not None and time.monotonic() > self.deadline


class Search(Protocol):
    """A strategy: it advances step by step until it is done."""

    @property
    def done(self) -> bool:
        """Whether there is nothing left to do."""

    def advance(self) -> Step:
        """One step."""

    def answers(self) -> list[list[int]]:
        """The new tokens of every text, those of one prompt together."""


def run(search: Search, plan: Plan) -> Iterator[Step]:
    """The steps of a search. The caller's own code between them runs outside of inference mode."""
    while not search.done:
        with plan.mode():
            step = search.advance()
        yield step


class Chooser:
    """The next token of each row: processors, then the likeliest or a draw, then what a constraint says to it."""

    def __init__(self, plan: Plan, rows: Sequence[Row]) -> None:
        self.plan = plan
        width = plan.prompts.width
        self.history = History(rows, plan.pad, width, plan.prompts.device) if plan.with_history else None
        self.scores: Tensor | None = None

    def __call__(self, rows: Sequence[Row], logits: Tensor) -> list[int]:
        """A token a row, from logits (B, V)."""
        plan, history = self.plan, self.history
        scores = logits
        if history is not None and plan.processors:
            scores = plan.processors(history.ids, scores.float(), history.starts)
        if plan.sampling:
            tokens = draw(scores, [row.numbers.next() if row.numbers is not None else 0.0 for row in rows])
        else:
            tokens = likeliest(scores)
        self.scores = scores
        if plan.constraint is not None:
            tokens = plan.constraint.settle(tokens, [0 if row.reason else row.limit - row.count for row in rows])
        return tokens

    def append(self, tokens: Sequence[int]) -> None:
        """Let processors and criteria know what was taken."""
        if self.history is not None:
            self.history.append(tokens)

    def select(self, keep: Sequence[int]) -> None:
        """Keep these rows."""
        if self.history is not None:
            self.history.select(keep)
        self.plan.processors.select(keep)


class TokenByToken:
    """Greedy search and sampling."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.live = list(plan.rows)
        self.choose = Chooser(plan, self.live)
        self.tokens: list[int] = []
        self.all_scores: tuple[Tensor, ...] = ()

    @property
    def done(self) -> bool:
        """Whether every row has ended."""
        return not self.live

    def answers(self) -> list[list[int]]:
        """The new tokens of every text, those of one prompt together."""
        return [row.new for row in self.plan.rows]

    def advance(self) -> Step:
        """Read the last tokens, choose the next."""
        plan, live = self.plan, self.live
        logits = self._logits()
        tokens = self.choose(live, logits)
        step = Step([], [])
        self._record(step, logits, tokens)
        for place, (row, token) in enumerate(zip(live, tokens, strict=True)):
            if row.reason:  # it has ended and only waits for the others
                tokens[place] = plan.pad
                continue
            row.ids.append(token)
            step.rows.append(row.index)
            step.tokens.append(token)
            row.reason = plan.reason(row, place)
            if row.reason:
                step.finished[row.index] = row.reason
        self.tokens = tokens
        self.choose.append(tokens)
        self._ask_criteria(step)
        if plan.out_of_time():
            self._finish(step, [row for row in live if not row.reason], "time")
        self._leave(step)
        return step

    def _logits(self) -> Tensor:
        plan = self.plan
        if self.tokens:
            return plan.forward.step(self.tokens).select(1, -1)
        logits = plan.forward.begin(plan.prompts.rows)[:, -1]
        if plan.copies > 1:
            # A prompt is read once, whatever the number of texts from it.
            each = [prompt for prompt in range(len(plan.prompts.rows)) for _ in range(plan.copies)]
            plan.forward.select(each)
            logits = logits[each]
        return logits

    def _record(self, step: Step, logits: Tensor, tokens: Sequence[int]) -> None:
        plan = self.plan
        if plan.keep_logits:
            step.logits = logits.float()
        if plan.keep_scores and self.choose.scores is not None:
            step.scores = self.choose.scores.float()
            self.all_scores += (step.scores,)
        if plan.keep_logprobs:
            step.logprobs = logits.float().log_softmax(-1)[range(len(tokens)), tokens]
        if plan.keep_states:
            step.take_states(plan.forward.output, len(tokens))

    def _ask_criteria(self, step: Step) -> None:
        plan, history = self.plan, self.choose.history
        if plan.criteria and history is not None:
            ended = plan.criteria(history.ids, self.all_scores or None).tolist()
            self._finish(
                step, [row for row, end in zip(self.live, ended, strict=True) if end and not row.reason], "criteria"
            )

    def _finish(self, step: Step, rows: Sequence[Row], reason: str) -> None:
        for row in rows:
            row.reason = step.finished[row.index] = reason

    def _leave(self, step: Step) -> None:
        """Let rows that have ended leave the batch, or wait if it stays together."""
        if not step.finished:
            return
        keep = [place for place, row in enumerate(self.live) if not row.reason]
        if not keep:
            self.live = []
        elif self.plan.leave:
            self.live = [self.live[place] for place in keep]
            self.plan.forward.select(keep)
            self.choose.select(keep)
            self.tokens = [self.tokens[place] for place in keep]
