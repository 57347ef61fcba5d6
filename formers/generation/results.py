"""What `generate` returns, put together from steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from formers.generation.rows import padded
from formers.outputs import ModelOutput

if TYPE_CHECKING:
    from formers.generation.steps import Plan, Step


@dataclass
class GenerateDecoderOnlyOutput(ModelOutput):
    """`sequences` (B, S): prompts and what follows, padded at the end. The others when asked for, one entry a step:
    `scores` and `logits` (B, V), `attentions` and `hidden_states` of all layers; `logprobs` is (B, steps), 0 after
    the end.
    """

    sequences: Tensor | None = None
    scores: tuple[Tensor, ...] | None = None
    logits: tuple[Tensor, ...] | None = None
    attentions: tuple[Any, ...] | None = None
    hidden_states: tuple[Any, ...] | None = None
    past_key_values: Any = None
    logprobs: Tensor | None = None


@dataclass
class GenerateBeamDecoderOnlyOutput(ModelOutput):
    """As GenerateDecoderOnlyOutput for beams: also `sequences_scores` (B,) and `beam_indices` (B, steps).

    The rows of scores, logits, attentions and hidden states are beams, (B * num_beams, …).
    """

    sequences: Tensor | None = None
    sequences_scores: Tensor | None = None
    scores: tuple[Tensor, ...] | None = None
    logits: tuple[Tensor, ...] | None = None
    beam_indices: Tensor | None = None
    attentions: tuple[Any, ...] | None = None
    hidden_states: tuple[Any, ...] | None = None
    past_key_values: Any = None
    logprobs: Tensor | None = None


@dataclass
class GenerateEncoderDecoderOutput(ModelOutput):
    """`sequences` (B, T): the decoder's prompts and what follows, padded at the end. The others when asked for: of the
    encoder as it returned them; of the decoder one entry a step, as in GenerateDecoderOnlyOutput.
    """

    sequences: Tensor | None = None
    scores: tuple[Tensor, ...] | None = None
    logits: tuple[Tensor, ...] | None = None
    encoder_attentions: tuple[Tensor, ...] | None = None
    encoder_hidden_states: tuple[Tensor, ...] | None = None
    decoder_attentions: tuple[Any, ...] | None = None
    cross_attentions: tuple[Any, ...] | None = None
    decoder_hidden_states: tuple[Any, ...] | None = None
    past_key_values: Any = None
    logprobs: Tensor | None = None


@dataclass
class GenerateBeamEncoderDecoderOutput(ModelOutput):
    """As GenerateEncoderDecoderOutput for beams, with what GenerateBeamDecoderOnlyOutput adds."""

    sequences: Tensor | None = None
    sequences_scores: Tensor | None = None
    scores: tuple[Tensor, ...] | None = None
    logits: tuple[Tensor, ...] | None = None
    beam_indices: Tensor | None = None
    encoder_attentions: tuple[Tensor, ...] | None = None
    encoder_hidden_states: tuple[Tensor, ...] | None = None
    decoder_attentions: tuple[Any, ...] | None = None
    cross_attentions: tuple[Any, ...] | None = None
    decoder_hidden_states: tuple[Any, ...] | None = None
    past_key_values: Any = None
    logprobs: Tensor | None = None


def sequences(plan: Plan, new: Sequence[Sequence[int]]) -> Tensor:
    """The prompts as they came in, each `len(new) / B` times, with their new tokens: (len(new), S)."""
    prompts = plan.prompts.ids
    added = padded(new, plan.pad, left=False).to(prompts.device) if any(new) else prompts.new_empty((len(new), 0))
    return torch.cat((prompts.repeat_interleave(len(new) // len(prompts), 0), added.long()), 1)


def output(plan: Plan, steps: Sequence[Step]) -> GenerateDecoderOnlyOutput | GenerateEncoderDecoderOutput:
    """The texts of greedy search, sampling and speculation with what else was asked for."""
    kind = GenerateDecoderOnlyOutput if plan.forward.source is None else GenerateEncoderDecoderOutput
    return kind(
        sequences=sequences(plan, [row.new for row in plan.rows]),
        past_key_values=plan.forward.cache,
        logprobs=_logprobs(plan, steps) if plan.keep_logprobs else None,
        **per_step(plan, steps),
    )


def per_step(plan: Plan, steps: Sequence[Step]) -> dict[str, Any]:
    """The values that were asked for, as tuples with an entry a step."""
    config, source = plan.config, plan.forward.source
    values: dict[str, Any] = {
        "scores": tuple(s.scores for s in steps) if config.output_scores else None,
        "logits": tuple(s.logits for s in steps) if config.output_logits else None,
    }
    own = "" if source is None else "decoder_"
    if config.output_attentions:
        values[f"{own}attentions"] = tuple(s.attentions for s in steps)
    if config.output_hidden_states:
        values[f"{own}hidden_states"] = tuple(s.hidden_states for s in steps)
    if source is not None and config.output_attentions:
        values["cross_attentions"] = tuple(s.cross_attentions for s in steps)
        values["encoder_attentions"] = source.encoded.attentions
    if source is not None and config.output_hidden_states:
        values["encoder_hidden_states"] = source.encoded.hidden_states
    return values


def _logprobs(plan: Plan, steps: Sequence[Step]) -> Tensor:
    values = [step.logprobs for step in steps if step.logprobs is not None]
    if not values:
        return torch.zeros((len(plan.rows), 0))
    counts = torch.tensor([row.count for row in plan.rows], device=values[0].device)
    table = torch.stack(values, 1)
    return table * (torch.arange(table.shape[1], device=table.device) < counts[:, None])


def transition_scores(
    sequences: Tensor, scores: Sequence[Tensor], beam_indices: Tensor | None = None, normalize_logits: bool = False
) -> Tensor:
    """The score of each generated token (B, steps) from what `generate` returned; 0 after the end of a beam."""
    table = torch.stack(tuple(scores), 1)
    if normalize_logits:
        table = table.log_softmax(-1)
    if beam_indices is None:
        new = sequences[:, -table.shape[1] :]
        return table.gather(2, new[:, :, None]).squeeze(2)
    beams = beam_indices.to(table.device)
    steps = beams.shape[1]
    new = sequences[:, -steps:]
    found = table[beams.clamp(min=0), torch.arange(steps, device=table.device)].gather(2, new[:, :, None]).squeeze(2)
    return found.masked_fill(beams < 0, 0.0)
