"""A bias for relative positions that all layers share (Raffel et al., 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from formers.layers.attention import LayerBias
from formers.layers.embeddings import table
from formers.layers.layout import Run
from formers.layers.positions import relative_buckets


class RelativeBias(nn.Module):
    """One number a head for each bucket of key-minus-query distances, added to the attention scores of every layer."""

    def __init__(self, heads: int, buckets: int, max_distance: int) -> None:
        super().__init__()
        self.max_distance = max_distance
        self.weights = table(buckets, heads)

    def forward(self, runs: Sequence[Run]) -> LayerBias:
        """The scores (heads, L, L) for the longest run; those of a shorter one are their upper left corner."""
        length = max(run.length for run in runs)
        device = self.weights.weight.device
        distance = torch.arange(1 - length, length, device=device)
        buckets = relative_buckets(distance, self.weights.num_embeddings, self.max_distance)
        # Row i holds distances -i to L - 1 - i: the windows of the line of all distances, last one first.
        scores = self.weights(buckets).t().unfold(1, length, 1).flip(1)

        def corner(query: Tensor, key: Tensor, run: Run) -> Tensor:
            own: Tensor = scores[None, :, : run.length, : run.length]
            return own

        return lambda attention: corner
