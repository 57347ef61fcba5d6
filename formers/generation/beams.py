"""Beam search: several continuations of a prompt side by side, of which the best are returned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from formers.generation.drawing import best
from formers.generation.results import (
    GenerateBeamDecoderOnlyOutput,
    GenerateBeamEncoderDecoderOutput,
    per_step,
    sequences,
)
from formers.generation.rows import Row
from formers.generation.steps import Chooser, Plan, Step

# The score of a beam that stands for nothing: below all others, finite so that sums stay numbers.
_NOTHING = -1e9


@dataclass
class _Found:
    """A finished continuation: `origins` are the beams that its tokens came from."""

    score: float
    new: list[int]
    origins: list[int]


@dataclass
class _Beam:
    """A continuation that goes on; `score` is the sum of its tokens' scores."""

    score: float
    new: list[int]
    origins: list[int]


@dataclass
class _Item:
    """One prompt with its beams."""

    row: Row
    beams: list[_Beam]
    found: list[_Found] = field(default_factory=list)
    done: bool = False


class Beams:
    """Beam search over all prompts at once; a prompt leaves the batch when none of its beams can win any more."""

    def __init__(self, plan: Plan) -> None:
        config = plan.config
        self.plan = plan
        self.width = int(config.num_beams or 1)
        self.penalty = float(1.0 if config.length_penalty is None else config.length_penalty)
        self.early = config.early_stopping
        self.candidates = max(2, 1 + len(plan.ends)) * self.width
        self.items = [
            _Item(row, [_Beam(0.0 if beam == 0 else _NOTHING, [], []) for beam in range(self.width)])
            for row in plan.rows
        ]
        self.live = list(self.items)
        self.choose = Chooser(plan, [row for row in plan.rows for _ in range(self.width)])
        self.tokens: list[int] = []
        self.all_scores: tuple[Tensor, ...] = ()

    @property
    def done(self) -> bool:
        """Whether every prompt has its answers."""
        return all(item.done for item in self.live)

    def advance(self) -> Step:
        """Read the last tokens of all beams and choose how they go on."""
        plan = self.plan
        logits = self._logits().float()
        scores = logits.log_softmax(-1)
        history = self.choose.history
        if history is not None and plan.processors:
            scores = plan.processors(history.ids, scores, history.starts)
        step = Step([], [])
        if plan.keep_logits:
            step.logits = logits
        if plan.keep_scores:
            step.scores = scores
            self.all_scores += (scores,)
        if plan.keep_states:
            step.take_states(plan.forward.output, len(logits))
        values, places = self._best(scores)
        ended = self._criteria(places, scores.shape[-1])
        late = plan.out_of_time()
        take: list[int] = []
        tokens: list[int] = []
        for number, item in enumerate(self.live):
            chosen = self._go_on(item, values[number], places[number], ended[number], late, scores.shape[-1], number)
            take.extend(number * self.width + beam for beam, _ in chosen)
            tokens.extend(token for _, token in chosen)
        self._move(take, tokens)
        return step

    def _logits(self) -> Tensor:
        plan = self.plan
        if self.tokens:
            return plan.forward.step(self.tokens)[:, -1]
        logits = plan.forward.begin(plan.prompts.rows)[:, -1]
        each = [prompt for prompt in range(len(self.items)) for _ in range(self.width)]
        plan.forward.select(each)
        return logits[each]

    def _best(self, scores: Tensor) -> tuple[list[list[float]], list[list[int]]]:
        """Scores and places (beam * V + token) of the best continuations of each prompt, or of drawn ones."""
        so_far = torch.tensor([[beam.score] for item in self.live for beam in item.beams], device=scores.device)
        items, vocabulary = len(self.live), scores.shape[-1]
        if self.plan.sampling:
            sums = (scores + so_far).view(items, -1)
            places = torch.stack([self._drawn(item, row) for item, row in zip(self.live, sums, strict=True)])
            return sums.gather(1, places).tolist(), places.tolist()
        # The best of a prompt are among the best of its beams.
        values, tokens = best(scores, min(self.candidates, vocabulary))
        firsts = torch.arange(0, self.width * vocabulary, vocabulary, device=scores.device)
        places = tokens.view(items, self.width, -1) + firsts[:, None]
        values, chosen = (values + so_far).view(items, -1).topk(self.candidates)
        return values.tolist(), places.flatten(1).gather(1, chosen).tolist()

    def _drawn(self, item: _Item, sums: Tensor) -> Tensor:
        """Continuations drawn without replacement, by the prompt's own random numbers."""
        numbers = item.row.numbers
        seed = 0 if numbers is None else int(numbers.next() * 2**53)
        generator = torch.Generator(sums.device).manual_seed(seed)
        return torch.multinomial(sums.softmax(-1), self.candidates, generator=generator)

    def _go_on(
        self,
        item: _Item,
        values: Sequence[float],
        places: Sequence[int],
        ended: Sequence[bool],
        late: bool,
        vocabulary: int,
        number: int,
    ) -> list[tuple[int, int]]:
        """Sort the candidates of one prompt into found and going on: beam and token of those that go on."""
        going: list[tuple[float, int, int]] = []
        over = 0
        length = len(item.beams[0].new) + 1
        for rank, (value, place, end) in enumerate(zip(values, places, ended, strict=True)):
            source, token = divmod(place, vocabulary)
            beam = item.beams[source]
            if end or late or self._ends(item.row, beam, token, length):
                over += 1
                going.append((value + _NOTHING, source, token))
                # Candidates beyond the beams are there to go on with, not to be found.
                if rank < self.width and not item.done:
                    origin = number * self.width + source
                    item.found.append(_Found(value / length**self.penalty, [*beam.new, token], [*beam.origins, origin]))
            else:
                going.append((value, source, token))
        item.found.sort(key=lambda found: -found.score)
        del item.found[self.width :]
        going = sorted(going, key=lambda candidate: -candidate[0])[: self.width]
        old = item.beams
        item.beams = [
            _Beam(value, [*old[source].new, token], [*old[source].origins, number * self.width + source])
            for value, source, token in going
        ]
        item.done = item.done or over == len(values) or not self._may_improve(item, length)
        return [(source, token) for _, source, token in going]

    def _ends(self, row: Row, beam: _Beam, token: int, length: int) -> bool:
        plan = self.plan
        if token in plan.ends or length >= row.limit:
            return True
        stop = plan.stop_strings
        return stop is not None and stop.ends([*row.ids, *beam.new, token])

    def _may_improve(self, item: _Item, length: int) -> bool:
        """Whether a beam of this prompt could still beat the worst of those found."""
        if len(item.found) < self.width:
            return True
        if self.early is True:
            return False
        longest = item.row.limit if self.early == "never" and self.penalty > 0 else length
        return bool(item.beams[0].score / longest**self.penalty > item.found[-1].score)

    def _criteria(self, places: Sequence[Sequence[int]], vocabulary: int) -> list[list[bool]]:
        """What the caller's criteria say to each candidate."""
        history = self.choose.history
        if not self.plan.criteria or history is None:
            return [[False] * len(row) for row in places]
        beams = [number * self.width + place // vocabulary for number, row in enumerate(places) for place in row]
        tokens = torch.tensor([place % vocabulary for row in places for place in row], device=history.ids.device)
        ids = torch.cat((history.ids[beams], tokens[:, None]), 1)
        ended: list[list[bool]] = self.plan.criteria(ids, self.all_scores or None).view(len(places), -1).tolist()
        return ended

    def _move(self, take: list[int], tokens: list[int]) -> None:
        """Follow the chosen beams; prompts that are done leave."""
        if self.plan.leave and any(item.done for item in self.live):
            kept = [number for number, item in enumerate(self.live) if not item.done]
            self.live = [self.live[number] for number in kept]
            places = [number * self.width + beam for number in kept for beam in range(self.width)]
            take, tokens = [take[place] for place in places], [tokens[place] for place in places]
        if not take or self.done:
            return
        self.plan.forward.select(take)
        self.choose.select(take)
        self.tokens = tokens
        self.choose.append(tokens)

    def answers(self) -> list[list[int]]:
        """The new tokens of the best continuations, those of one prompt together, best first."""
        return [one.new for one in self._chosen()]

    def _chosen(self) -> list[_Found]:
        count = int(self.plan.config.num_return_sequences or 1)
        best: list[_Found] = []
        for item in self.items:
            # Ended early, there may be too few: beams that were under way stand in.
            spare = [_Found(_NOTHING, beam.new, beam.origins) for beam in item.beams]
            best.extend([*item.found, *spare][:count])
        return best

    def output(self, steps: Sequence[Step]) -> GenerateBeamDecoderOnlyOutput | GenerateBeamEncoderDecoderOutput:
        """The best continuations with what else was asked for."""
        plan, best = self.plan, self._chosen()
        width = max(len(one.origins) for one in best)
        origins = [one.origins + [-1] * (width - len(one.origins)) for one in best]
        kind = GenerateBeamDecoderOnlyOutput if plan.forward.source is None else GenerateBeamEncoderDecoderOutput
        return kind(
            sequences=sequences(plan, [one.new for one in best]),
            sequences_scores=torch.tensor([one.score for one in best]) if plan.keep_scores else None,
            beam_indices=torch.tensor(origins) if plan.keep_scores else None,
            past_key_values=plan.forward.cache,
            **per_step(plan, steps),
        )
