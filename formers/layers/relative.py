"""A bias for relative positions, of all layers or of each (Raffel et al., 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from formers.layers.attention import LayerBias, RunBias, SelfAttention
from formers.layers.cache import Read
from formers.layers.embeddings import table
from formers.layers.layout import Run
from formers.layers.positions import relative_buckets

# A decoder's table is made for multiples of so many tokens.
BLOCK = 256


class RelativeBias(nn.Module):
    """One number a head for each bucket of key-minus-query distances, added to the attention scores.

    All layers share one table, or with `layers` each has its own.
    """

    bidirectional = True

    def __init__(self, heads: int, buckets: int, max_distance: int, layers: int | None = None) -> None:
        super().__init__()
        self.buckets, self.max_distance, self.shared = buckets, max_distance, layers is None
        self.weights: nn.Module
        if layers is None:
            self.weights = table(buckets, heads)
        else:
            self.weights = nn.ModuleList(table(buckets, heads) for _ in range(layers))

    def forward(self, runs: Sequence[Run]) -> LayerBias:
        """The scores (heads, L, L) for the longest run; those of a shorter one are their upper left corner."""
        length = max(run.length for run in runs)
        count = len(self.weights) if isinstance(self.weights, nn.ModuleList) else 1
        made = [self.square(layer, length) for layer in range(count)]

        def corner(attention: SelfAttention) -> RunBias:
            scores = made[0 if self.shared else attention.index]
            return lambda query, key, run: scores[None, :, : run.length, : run.length]

        return corner

    def square(self, layer: int, length: int) -> Tensor:
        """The scores (heads, L, L) of a layer for queries and keys at the same `length` places."""
        line = self.line(layer, 1 - length, length)
        # Row i holds distances -i to L - 1 - i: the windows of the line of all distances, last one first.
        return line.unfold(1, length, 1).flip(1)

    def line(self, layer: int, low: int, high: int) -> Tensor:
        """The scores (heads, high - low) of a layer for key-minus-query distances from `low` up to `high` - 1."""
        weights = self._table(layer)
        distance = torch.arange(low, high, device=weights.weight.device)
        buckets = relative_buckets(distance, self.buckets, self.max_distance, self.bidirectional)
        scores: Tensor = weights(buckets).t()
        return scores

    def _table(self, layer: int) -> nn.Embedding:
        weights = self.weights
        if isinstance(weights, nn.ModuleList):
            weights = weights[layer]
        assert isinstance(weights, nn.Embedding)
        return weights


class CausalRelativeBias(RelativeBias):
    """The same for a decoder, whose tokens see none that follows."""

    bidirectional = False

    def __init__(self, heads: int, buckets: int, max_distance: int, layers: int | None = None) -> None:
        super().__init__(heads, buckets, max_distance, layers)
        # Without gradients, the scores of distances up to 0 by layer, and the weights that they were made of.
        self._lines: dict[int, tuple[tuple[int, int], Tensor]] = {}

    def prepare(self, runs: Sequence[Run]) -> None:
        """Make what `fresh` returns for all layers."""
        for run in runs:
            for layer in range(len(self.weights) if isinstance(self.weights, nn.ModuleList) else 1):
                self.fresh(layer, run)

    def fresh(self, layer: int, run: Run) -> Tensor:
        """For tokens of a run that see themselves alone: (1, heads, L, L)."""
        layer = 0 if self.shared else layer
        key = ("relative", layer)
        if key not in run.shared:
            run.shared[key] = self.square(layer, run.length)[None]
        return run.shared[key]

    def stored(self, layer: int, read: Read) -> Tensor:
        """For tokens that see what the cache holds: (batch or 1, heads, L, K)."""
        layer = 0 if self.shared else layer
        key = ("relative", layer)
        if key not in read.shared:
            read.shared[key] = self._stored(layer, read)
        return read.shared[key]

    def _stored(self, layer: int, read: Read) -> Tensor:
        keys = read.high - read.low
        line = self.distances(layer, keys)
        assert read.distances is not None
        if read.length == 1 and read.distances.shape[0] == 1:
            return line[:, line.shape[1] - keys :][None, :, None]
        back = torch.arange(read.length - 1, -1, -1, device=line.device)[:, None]
        # Distances to what follows a token are masked.
        distance = (read.distances[:, None] - back).clamp(min=0)
        return line[:, line.shape[1] - 1 - distance].transpose(0, 1)

    def distances(self, layer: int, keys: int) -> Tensor:
        """The scores (heads, N) of distances 1 - N to 0, for N of at least `keys`."""
        layer = 0 if self.shared else layer
        if torch.is_grad_enabled():
            return self.line(layer, 1 - keys, 1)
        weight = self._table(layer).weight
        state = (weight.data_ptr(), weight._version)
        held = self._lines.get(layer)
        if held is None or held[0] != state or held[1].shape[1] < keys:
            with torch.inference_mode(False), torch.no_grad():
                held = (state, self.line(layer, 1 - -(-keys // BLOCK) * BLOCK, 1).contiguous())
            self._lines[layer] = held
        return held[1]
