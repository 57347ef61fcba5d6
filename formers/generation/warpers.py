"""Processors that reshape a distribution before a token is drawn: temperature, and which tokens stay in."""

from __future__ import annotations

from math import inf

import torch
from torch import Tensor

from formers.generation.drawing import ascending, last_of_best
from formers.generation.processing import RowProcessor, is_number, require, whole


def _keep_count(count: int) -> int:
    require(whole(count, 1), "min_tokens_to_keep", count, "a whole number of at least 1")
    return count


def _among_best(scores: Tensor, count: int) -> Tensor:
    """Whether a token is among the `count` best of its row."""
    return scores >= last_of_best(scores, count)


class TemperatureLogitsWarper(RowProcessor):
    """Divides scores by a temperature: below 1 the likely become likelier."""

    def __init__(self, temperature: float) -> None:
        require(is_number(temperature) and temperature > 0, "temperature", temperature, "a number above 0")
        self.temperature = temperature

    def __call__(self, input_ids: Tensor, scores: Tensor, starts: Tensor | None = None) -> Tensor:
        """The new scores (B, V)."""
        return scores / self.temperature


class TopKLogitsWarper(RowProcessor):
    """Keeps the k best tokens, and those that equal the last of them."""

    def __init__(self, top_k: int, filter_value: float = -inf, min_tokens_to_keep: int = 1) -> None:
        require(whole(top_k, 1), "top_k", top_k, "a whole number of at least 1")
        self.top_k = max(top_k, _keep_count(min_tokens_to_keep))
        self.filter_value = filter_value

    def __call__(self, input_ids: Tensor, scores: Tensor, starts: Tensor | None = None) -> Tensor:
        """The new scores (B, V)."""
        return torch.where(_among_best(scores, self.top_k), scores, self.filter_value)


class TopPLogitsWarper(RowProcessor):
    """Keeps the smallest set of tokens whose probabilities reach p (nucleus sampling, arXiv:1904.09751).

    Tokens that equal the last of them stay too.
    """

    def __init__(self, top_p: float, filter_value: float = -inf, min_tokens_to_keep: int = 1) -> None:
        require(is_number(top_p) and 0 <= top_p <= 1, "top_p", top_p, "a number in [0, 1]")
        self.top_p = float(top_p)
        self.filter_value = filter_value
        self.min_tokens_to_keep = _keep_count(min_tokens_to_keep)

    def __call__(self, input_ids: Tensor, scores: Tensor, starts: Tensor | None = None) -> Tensor:
        """The new scores (B, V)."""
        ordered = ascending(scores)
        # The mass of a token and all below it: what is cut off is the tail of at most 1 - p.
        cut = ordered.softmax(-1).cumsum(-1) <= 1 - self.top_p
        first = cut.sum(-1, keepdim=True).clamp_(max=max(cut.shape[-1] - self.min_tokens_to_keep, 0))
        return scores.masked_fill(scores < ordered.gather(1, first), self.filter_value)


class TopHLogitsWarper(RowProcessor):
    """Keeps the best tokens up to a share of the entropy of the hundred best (arXiv:2509.02510)."""

    def __init__(self, top_h: float, filter_value: float = -inf) -> None:
        require(is_number(top_h) and 0 < top_h <= 1, "top_h", top_h, "a number in (0, 1]")
        self.top_h = top_h
        self.filter_value = filter_value
        self.top_n = 100

    def __call__(self, input_ids: Tensor, scores: Tensor, starts: Tensor | None = None) -> Tensor:
        """The new scores (B, V)."""
        best, order = scores.topk(min(self.top_n, scores.shape[-1]))
        terms = torch.special.entr(best.softmax(-1))
        kept = terms.cumsum(-1) <= self.top_h * terms.sum(-1, keepdim=True)
        kept[:, 0] = True
        mask = torch.zeros_like(scores, dtype=torch.bool).scatter(1, order, kept)
        return scores.masked_fill(~mask, self.filter_value)


class MinPLogitsWarper(RowProcessor):
    """Keeps tokens with at least this share of the likeliest token's probability (arXiv:2407.01082)."""

    def __init__(self, min_p: float, filter_value: float = -inf, min_tokens_to_keep: int = 1) -> None:
        require(is_number(min_p) and 0 <= min_p <= 1, "min_p", min_p, "a number in [0, 1]")
        self.min_p = min_p
        self.filter_value = filter_value
        self.min_tokens_to_keep = _keep_count(min_tokens_to_keep)

    def __call__(self, input_ids: Tensor, scores: Tensor, starts: Tensor | None = None) -> Tensor:
        """The new scores (B, V)."""
        shares = scores.softmax(-1)
        cut = shares < self.min_p * shares.amax(-1, keepdim=True)
        cut.scatter_(1, shares.topk(min(self.min_tokens_to_keep, shares.shape[-1])).indices, False)
        return scores.masked_fill(cut, self.filter_value)


class TypicalLogitsWarper(RowProcessor):
    """Keeps the tokens whose surprise is nearest to the expected one, up to a mass (arXiv:2202.00666)."""

    def __init__(self, mass: float = 0.9, filter_value: float = -inf, min_tokens_to_keep: int = 1) -> None:
        require(is_number(mass) and 0 < mass < 1, "typical_p", mass, "a number in (0, 1)")
        self.mass = float(mass)
        self.filter_value = filter_value
        self.min_tokens_to_keep = _keep_count(min_tokens_to_keep)

    def __call__(self, input_ids: Tensor, scores: Tensor, starts: Tensor | None = None) -> Tensor:
        """The new scores (B, V)."""
        logs = scores.log_softmax(-1)
        entropy = -(logs * logs.exp()).nansum(-1, keepdim=True)
        distance, order = (-logs - entropy).abs().sort(descending=False)
        mass = scores.gather(1, order).softmax(-1).cumsum(-1)
        last = (mass < self.mass).sum(1, keepdim=True).clamp_(max=distance.shape[-1] - 1)
        cut = distance > distance.gather(1, last)
        cut[:, : self.min_tokens_to_keep] = False
        return scores.masked_fill(torch.zeros_like(cut).scatter(1, order, cut), self.filter_value)


class EpsilonLogitsWarper(RowProcessor):
    """Leaves out tokens less likely than epsilon (truncation sampling, arXiv:2210.15191)."""

    def __init__(self, epsilon: float, filter_value: float = -inf, min_tokens_to_keep: int = 1) -> None:
        require(is_number(epsilon) and 0 < epsilon < 1, "epsilon_cutoff", epsilon, "a number in (0, 1)")
        self.epsilon = float(epsilon)
        self.filter_value = filter_value
        self.min_tokens_to_keep = _keep_count(min_tokens_to_keep)

    def __call__(self, input_ids: Tensor, scores: Tensor, starts: Tensor | None = None) -> Tensor:
        """The new scores (B, V)."""
        cut = scores.softmax(-1) < self.epsilon
        return scores.masked_fill(cut & ~_among_best(scores, self.min_tokens_to_keep), self.filter_value)


class EtaLogitsWarper(RowProcessor):
    """As epsilon, with a threshold that falls with the entropy of the distribution (arXiv:2210.15191)."""

    def __init__(
        self, epsilon: float, filter_value: float = -inf, min_tokens_to_keep: int = 1, device: str = "cpu"
    ) -> None:
        require(is_number(epsilon) and 0 < epsilon < 1, "eta_cutoff", epsilon, "a number in (0, 1)")
        self.epsilon = torch.tensor(float(epsilon), device=device)
        self.filter_value = filter_value
        self.min_tokens_to_keep = _keep_count(min_tokens_to_keep)

    def __call__(self, input_ids: Tensor, scores: Tensor, starts: Tensor | None = None) -> Tensor:
        """The new scores (B, V)."""
        logs = scores.log_softmax(-1)
        shares = logs.exp()
        entropy = -(logs * shares).nansum(-1, keepdim=True)
        epsilon = self.epsilon.to(scores.device)
        threshold = torch.minimum(epsilon, epsilon.sqrt() * (-entropy).exp())
        cut = shares < threshold
        return scores.masked_fill(cut & ~_among_best(scores, self.min_tokens_to_keep), self.filter_value)
