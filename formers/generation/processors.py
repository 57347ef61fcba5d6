"""Processors that reward, penalise, force or forbid tokens. Names and formulas are those of the reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any

import torch
from torch import Tensor

from formers.errors import InputError
from formers.generation.processing import RowProcessor, is_number, only, require, token_ids, whole, without


def _past(columns: int, limit: int | Tensor) -> bool:
    """Whether no row has fewer than `limit` columns."""
    return columns >= int(limit.max() if isinstance(limit, Tensor) else limit)


class MinLengthLogitsProcessor(RowProcessor):
    """No end before `min_length` tokens, the prompt and its padding counted; a tensor (B,) gives each row its own."""

    def __init__(
        self, min_length: int | Tensor, eos_token_id: int | list[int] | Tensor, device: str | torch.device = "cpu"
    ) -> None:
        self.min_length = min_length.to(device) if isinstance(min_length, Tensor) else min_length
        self.eos_token_id = token_ids(eos_token_id)

    def __call__(self, input_ids: Tensor, scores: Tensor, starts: Tensor | None = None) -> Tensor:
        """The new scores (B, V)."""
        columns = input_ids.shape[-1]
        if _past(columns, self.min_length):
            return scores
        ended = without(scores, self.eos_token_id)
        if isinstance(self.min_length, Tensor):
            return torch.where((columns < self.min_length)[:, None], ended, scores)
        return ended

    def select(self, rows: Sequence[int]) -> None:
        """Keep the state of these rows."""
        if isinstance(self.min_length, Tensor):
            self.min_length = self.min_length[list(rows)]


class MinNewTokensLengthLogitsProcessor(RowProcessor):
    """No end before `min_new_tokens` tokens after the prompt."""

    def __init__(
        self,
        prompt_length_to_skip: int,
        min_new_tokens: int,
        eos_token_id: int | list[int] | Tensor,
        device: str | torch.device = "cpu",
    ) -> None:
        self.inner = MinLengthLogitsProcessor(prompt_length_to_skip + min_new_tokens, eos_token_id, device)

    def __call__(self, input_ids: Tensor, scores: Tensor, starts: Tensor | None = None) -> Tensor:
        """The new scores (B, V)."""
        return self.inner(input_ids, scores)


class RepetitionPenaltyLogitsProcessor(RowProcessor):
    """Divides positive and multiplies negative scores of tokens seen before (arXiv:1909.05858).

    `prompt_ignore_length` leaves out that many first columns; a tensor (B,) gives each row its own.
    """

    def __init__(self, penalty: float, prompt_ignore_length: int | Tensor | None = None) -> None:
        require(is_number(penalty) and penalty > 0, "repetition_penalty", penalty, "a number above 0")
        self.penalty = penalty
        self.prompt_ignore_length = prompt_ignore_length

    def __call__(self, input_ids: Tensor, scores: Tensor, starts: Tensor | None = None) -> Tensor:
        """The new scores (B, V)."""
        return _penalised(scores, input_ids, self.penalty, starts, self.prompt_ignore_length)

    def select(self, rows: Sequence[int]) -> None:
        """Keep the state of these rows."""
        if isinstance(self.prompt_ignore_length, Tensor):
            self.prompt_ignore_length = self.prompt_ignore_length[list(rows)]


class NewTokenPenaltyLogitsProcessor(RowProcessor):
    """Takes `presence` off tokens generated before, and `frequency` for every time; the prompt does not count."""

    def __init__(self, prompt_length: int, presence: float = 0.0, frequency: float = 0.0) -> None:
        self.prompt_length, self.presence, self.frequency = prompt_length, presence, frequency

    def __call__(self, input_ids: Tensor, scores: Tensor, starts: Tensor | None = None) -> Tensor:
        """The new scores (B, V)."""
        new = input_ids[:, self.prompt_length :]
        counts = torch.zeros_like(scores).scatter_add_(1, new, torch.ones_like(new, dtype=scores.dtype))
        return scores - self.frequency * counts - self.presence * (counts > 0)


class EncoderRepetitionPenaltyLogitsProcessor(RowProcessor):
    """Favours tokens of the encoder's input: the repetition penalty the other way round."""

    def __init__(self, penalty: float, encoder_input_ids: Tensor) -> None:
        require(is_number(penalty) and penalty > 0, "encoder_repetition_penalty", penalty, "a number above 0")
        self.penalty = 1 / penalty
        self.encoder_input_ids = encoder_input_ids

    def __call__(self, input_ids: Tensor, scores: Tensor, starts: Tensor | None = None) -> Tensor:
        """The new scores (B, V)."""
        ids = _expanded(self.encoder_input_ids, len(scores))
        return _penalised(scores, ids, self.penalty, None, None)

    def select(self, rows: Sequence[int]) -> None:
        """Keep the state of these rows."""
        self.encoder_input_ids = self.encoder_input_ids[list(rows)]


class NoRepeatNGramLogitsProcessor(RowProcessor):
    """No n tokens in a row that were there in this order before."""

    def __init__(self, ngram_size: int) -> None:
        require(whole(ngram_size, 1), "ngram_size", ngram_size, "a whole number above 0")
        self.ngram_size = ngram_size

    def __call__(self, input_ids: Tensor, scores: Tensor, starts: Tensor | None = None) -> Tensor:
        """The new scores (B, V)."""
        return _ban_ngrams(input_ids, input_ids, scores, self.ngram_size, starts)


class EncoderNoRepeatNGramLogitsProcessor(RowProcessor):
    """No n tokens in a row that the encoder's input has in this order."""

    def __init__(self, encoder_ngram_size: int, encoder_input_ids: Tensor) -> None:
        size = encoder_ngram_size
        require(whole(size, 1), "encoder_ngram_size", size, "a whole number above 0")
        self.ngram_size = encoder_ngram_size
        self.encoder_input_ids = encoder_input_ids if encoder_input_ids.dim() == 2 else encoder_input_ids[None]

    def __call__(self, input_ids: Tensor, scores: Tensor, starts: Tensor | None = None) -> Tensor:
        """The new scores (B, V)."""
        return _ban_ngrams(_expanded(self.encoder_input_ids, len(scores)), input_ids, scores, self.ngram_size, None)

    def select(self, rows: Sequence[int]) -> None:
        """Keep the state of these rows."""
        self.encoder_input_ids = self.encoder_input_ids[list(rows)]


class SequenceBiasLogitsProcessor(RowProcessor):
    """Adds a bias to the token that would complete a sequence: `{(1, 2): -5.0}` or `[[[1, 2], -5.0]]`."""

    def __init__(self, sequence_bias: Mapping[tuple[int, ...], float] | list[list[Any]]) -> None:
        pairs = sequence_bias.items() if isinstance(sequence_bias, Mapping) else sequence_bias
        try:
            biases = [(tuple(int(i) for i in ids), float(bias)) for ids, bias in pairs]
        except (TypeError, ValueError):
            biases = []
        if not biases or any(not ids or min(ids) < 0 for ids, _ in biases):
            raise InputError(
                f"sequence_bias={sequence_bias!r} was given.", "Give [[[token ids], bias], …] with numbers as biases."
            )
        self.biases = biases

    def __call__(self, input_ids: Tensor, scores: Tensor, starts: Tensor | None = None) -> Tensor:
        """The new scores (B, V)."""
        bias = torch.zeros_like(scores)
        columns, vocabulary = input_ids.shape[-1], scores.shape[-1]
        for ids, value in self.biases:
            if max(ids) >= vocabulary:
                raise InputError(
                    f"Token {max(ids)} has a bias, and the vocabulary has {vocabulary} tokens.",
                    "Use ids of this model's tokenizer.",
                )
            before = len(ids) - 1
            if before == 0:
                bias[:, ids[0]] += value
            elif before <= columns:
                matches = (input_ids[:, columns - before :] == input_ids.new_tensor(ids[:-1])).all(1)
                if starts is not None:
                    matches &= starts <= columns - before
                bias[:, ids[-1]] += torch.where(matches, value, 0.0).to(bias.dtype)
        return scores + bias


class NoBadWordsLogitsProcessor(RowProcessor):
    """Forbids sequences of tokens, the end of sequence by itself excepted."""

    def __init__(self, bad_words_ids: list[list[int]], eos_token_id: int | list[int] | Tensor | None = None) -> None:
        require(_words(bad_words_ids), "bad_words_ids", bad_words_ids, "a list of lists of token ids")
        ends = [] if eos_token_id is None else token_ids(eos_token_id)
        kept = [ids for ids in bad_words_ids if len(ids) > 1 or ids[0] not in ends]
        self.inner = SequenceBiasLogitsProcessor([[ids, -inf] for ids in kept]) if kept else None

    def __call__(self, input_ids: Tensor, scores: Tensor, starts: Tensor | None = None) -> Tensor:
        """The new scores (B, V)."""
        return scores if self.inner is None else self.inner(input_ids, scores, starts)


class PrefixConstrainedLogitsProcessor(RowProcessor):
    """Only the tokens that a function of (number of the prompt, ids so far (S,)) allows."""

    def __init__(self, prefix_allowed_tokens_fn: Callable[[int, Tensor], Sequence[int]], num_beams: int = 1) -> None:
        self.allowed, self.num_beams = prefix_allowed_tokens_fn, num_beams
        self.prompts: list[int] | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor, starts: Tensor | None = None) -> Tensor:
        """The new scores (B, V)."""
        mask = torch.full_like(scores, -inf)
        prompts = self._prompts(len(input_ids))
        firsts = [0] * len(input_ids) if starts is None else starts.tolist()
        for row, (prompt, first) in enumerate(zip(prompts, firsts, strict=True)):
            ids = list(self.allowed(prompt, input_ids[row, first:]))
            if not ids:
                raise InputError(
                    f"prefix_allowed_tokens_fn allowed no token for prompt {prompt}.",
                    "Let it return at least one: the end of sequence where the text is complete.",
                )
            mask[row, ids] = 0
        allowed = scores + mask
        # What is allowed may be ruled out already, in every beam of a prompt: then it is allowed all the same.
        stuck = allowed.amax(-1).isneginf()
        for prompt in set(prompts):
            of_prompt = stuck.new_tensor([p == prompt for p in prompts])
            stuck &= ~of_prompt | (stuck | ~of_prompt).all()
        return torch.where(stuck[:, None], mask, allowed)

    def _prompts(self, rows: int) -> list[int]:
        return [row // self.num_beams for row in range(rows)] if self.prompts is None else self.prompts

    def select(self, rows: Sequence[int]) -> None:
        """Keep the state of these rows."""
        prompts = self._prompts(max(rows, default=0) + 1)
        self.prompts = [prompts[row] for row in rows]


class ForcedBOSTokenLogitsProcessor(RowProcessor):
    """The first token after a single one (a decoder's start) is this one."""

    def __init__(self, bos_token_id: int) -> None:
        self.bos_token_id = bos_token_id

    def __call__(self, input_ids: Tensor, scores: Tensor, starts: Tensor | None = None) -> Tensor:
        """The new scores (B, V)."""
        return only(scores, [self.bos_token_id]) if input_ids.shape[-1] == 1 else scores


class ForcedEOSTokenLogitsProcessor(RowProcessor):
    """The last of `max_length` tokens is an end of sequence; a tensor (B,) gives each row its own limit."""

    def __init__(
        self, max_length: int | Tensor, eos_token_id: int | list[int] | Tensor, device: str | torch.device = "cpu"
    ) -> None:
        self.eos_token_id = token_ids(eos_token_id)
        require(min(self.eos_token_id) >= 0, "eos_token_id", eos_token_id, "token ids of at least 0")
        self.max_length = max_length.to(device) if isinstance(max_length, Tensor) else max_length

    def __call__(self, input_ids: Tensor, scores: Tensor, starts: Tensor | None = None) -> Tensor:
        """The new scores (B, V)."""
        columns = input_ids.shape[-1]
        if isinstance(self.max_length, Tensor):
            return only(scores, self.eos_token_id, self.max_length - 1 == columns)
        return only(scores, self.eos_token_id) if columns == self.max_length - 1 else scores

    def select(self, rows: Sequence[int]) -> None:
        """Keep the state of these rows."""
        if isinstance(self.max_length, Tensor):
            self.max_length = self.max_length[list(rows)]


class InfNanRemoveLogitsProcessor(RowProcessor):
    """Replaces nan by 0 and infinities by the largest finite numbers."""

    def __call__(self, input_ids: Tensor, scores: Tensor, starts: Tensor | None = None) -> Tensor:
        """The new scores (B, V)."""
        return scores.nan_to_num(0.0)


class ExponentialDecayLengthPenalty(RowProcessor):
    """From `start` new tokens on, the end becomes likelier by `factor` to the power of the tokens since."""

    def __init__(
        self,
        exponential_decay_length_penalty: tuple[int, float] | list[float],
        eos_token_id: int | list[int] | Tensor,
        input_ids_seq_length: int,
    ) -> None:
        start, self.regulation_factor = exponential_decay_length_penalty
        self.regulation_start = start + input_ids_seq_length
        self.eos_token_id = token_ids(eos_token_id)

    def __call__(self, input_ids: Tensor, scores: Tensor, starts: Tensor | None = None) -> Tensor:
        """The new scores (B, V)."""
        since = input_ids.shape[-1] - self.regulation_start
        if since <= 0:
            return scores
        scores = scores.clone()
        ends = scores[:, self.eos_token_id]
        gain = ends.abs() * (self.regulation_factor**since - 1)
        scores[:, self.eos_token_id] = ends + gain.masked_fill(~ends.isfinite(), 0.0)
        return scores


class LogitNormalization(RowProcessor):
    """Scores as logarithms of probabilities."""

    def __call__(self, input_ids: Tensor, scores: Tensor, starts: Tensor | None = None) -> Tensor:
        """The new scores (B, V)."""
        return scores.log_softmax(-1)


class SuppressTokensLogitsProcessor(RowProcessor):
    """Forbids tokens."""

    def __init__(self, suppress_tokens: Sequence[int] | Tensor, device: str | torch.device = "cpu") -> None:
        self.suppress_tokens = token_ids(suppress_tokens)
        # Those that the vocabulary has.
        self._columns: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor, starts: Tensor | None = None) -> Tensor:
        """The new scores (B, V)."""
        if self._columns is None:
            known = [token for token in self.suppress_tokens if token < scores.shape[-1]]
            self._columns = torch.tensor(known, dtype=torch.long, device=scores.device)
        return scores.index_fill(1, self._columns, float("-inf"))


class SuppressTokensAtBeginLogitsProcessor(RowProcessor):
    """Forbids tokens at one place: after `begin_index` tokens."""

    def __init__(
        self, begin_suppress_tokens: Sequence[int] | Tensor, begin_index: int, device: str | torch.device = "cpu"
    ) -> None:
        self.begin_suppress_tokens = token_ids(begin_suppress_tokens)
        self.begin_index = begin_index

    def __call__(self, input_ids: Tensor, scores: Tensor, starts: Tensor | None = None) -> Tensor:
        """The new scores (B, V)."""
        return without(scores, self.begin_suppress_tokens) if input_ids.shape[-1] == self.begin_index else scores


def _penalised(
    scores: Tensor, ids: Tensor, penalty: float, starts: Tensor | None, ignored: int | Tensor | None
) -> Tensor:
    """Scores (B, V), those of the tokens in ids (B, S) divided if positive and multiplied if negative.

    Columns before `starts` and among the first `ignored` do not count, nor do ids beyond the vocabulary.
    """
    vocabulary = scores.shape[-1]
    ids = ids.clamp(max=vocabulary)
    for first in (starts, ignored):
        if first is not None:
            columns = torch.arange(ids.shape[1], device=ids.device)
            before = columns < (first.to(ids.device)[:, None] if isinstance(first, Tensor) else first)
            ids = ids.masked_fill(before, vocabulary)
    # What does not count goes to a column of its own, which is cut off.
    wider = torch.nn.functional.pad(scores, (0, 1))
    found = wider.gather(1, ids)
    changed = torch.where(found < 0, found * penalty, found / penalty)
    return wider.scatter_(1, ids, changed)[:, :vocabulary]


def _words(value: object) -> bool:
    """Whether this is a list of lists of token ids, none of them empty."""
    return isinstance(value, list) and bool(value) and all(isinstance(i, list) and i and min(i) >= 0 for i in value)


def _expanded(ids: Tensor, rows: int) -> Tensor:
    """One row of ids for each of `rows` rows: beams share those of their prompt."""
    return ids.repeat_interleave(rows // len(ids), 0) if rows > len(ids) else ids


def _ban_ngrams(source: Tensor, ids: Tensor, scores: Tensor, size: int, starts: Tensor | None) -> Tensor:
    """Forbid the tokens that would complete an n-gram of `source` (B, S)."""
    columns = ids.shape[1]
    if columns + 1 < size or source.shape[1] < size:
        return scores
    windows = source.unfold(1, size, 1)
    matches = (windows[:, :, :-1] == ids[:, None, columns + 1 - size :]).all(-1)
    if starts is not None:
        matches &= torch.arange(windows.shape[1], device=ids.device) >= starts[:, None]
        matches &= (starts <= columns + 1 - size)[:, None]
    rows, places = [part.tolist() for part in matches.nonzero(as_tuple=True)]
    scores = scores.clone()
    scores[rows, windows[:, :, -1][rows, places]] = -inf
    return scores
