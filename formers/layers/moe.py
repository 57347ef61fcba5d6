"""A choice of feed-forward layers for every token (Shazeer et al., 2017)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from formers.layers.block import FeedForward
from formers.layers.linear import Linear

if TYPE_CHECKING:
    from formers.models.spec import Experts, ModelSpec


class MixtureOfExperts(nn.Module):
    """A router weighs all experts, and the best few of each token answer. Experts that no token chose cost nothing."""

    def __init__(self, spec: ModelSpec, experts: Experts) -> None:
        super().__init__()
        self.active, self.normalise = experts.active, experts.normalise
        self.router = Linear(spec.width, experts.count, bias=False)
        own = replace(spec, ff_width=experts.width)
        self.experts = nn.ModuleList(FeedForward(own) for _ in range(experts.count))

    def forward(self, x: Tensor) -> Tensor:
        """(T, W) to (T, W)."""
        weights, chosen = self.router(x).softmax(-1, dtype=torch.float32).topk(self.active, dim=-1)
        if self.normalise:
            weights = weights / weights.sum(-1, keepdim=True)
        weights = weights.to(x.dtype)
        out = torch.zeros_like(x)
        for index in chosen.unique().tolist():
            tokens, place = (chosen == index).nonzero(as_tuple=True)
            answer = self.experts[index](x[tokens]) * weights[tokens, place, None]
            out = out.index_add(0, tokens, answer)
        return out
