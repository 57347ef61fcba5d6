"""Disentangled attention (He et al., 2021): contents and relative positions scored against each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from formers.layers.attention import LayerBias, RunBias, SelfAttention
from formers.layers.dropout import dropout
from formers.layers.embeddings import table
from formers.layers.layout import Run
from formers.layers.linear import Linear

if TYPE_CHECKING:
    from formers.models.spec import ModelSpec


@dataclass(frozen=True)
class Disentangled:
    """What is scored: `terms` of "c2p" (content to position) and "p2c", over relative positions of up to `span` tokens.

    With `buckets`, positions farther than half of them share rows, up to `farthest` tokens. `shared` projects positions
    as contents are; `normed` normalises them first.
    """

    terms: tuple[str, ...]
    span: int
    farthest: int
    buckets: int
    shared: bool
    normed: bool


class DisentangledBias(nn.Module):
    """The position terms of all layers; padding gets none."""

    def __init__(self, settings: Disentangled, spec: ModelSpec) -> None:
        super().__init__()
        self.settings = settings
        self.dropout = spec.dropout
        self.embeddings = table(2 * settings.span, spec.width)
        self.norm = nn.LayerNorm(spec.width, spec.norm_eps) if settings.normed else None
        owned = () if settings.shared else settings.terms
        keys, queries = (spec.layers if term in owned else 0 for term in ("c2p", "p2c"))
        self.pos_key_proj = nn.ModuleList(Linear(spec.width, spec.width) for _ in range(keys))
        self.pos_query_proj = nn.ModuleList(Linear(spec.width, spec.width) for _ in range(queries))

    def forward(self, runs: Sequence[Run]) -> LayerBias:
        """Take from the table the rows that the longest run needs."""
        longest = max(run.length for run in runs)
        rows = table_rows(torch.arange(-longest, longest + 1), self.settings)
        low, high = int(rows[0]), int(rows[-1])
        table = self.embeddings.weight[low : high + 1]
        table = table if self.norm is None else self.norm(table)
        return partial(self._layer, table, (rows - low).to(table.device))

    def _layer(self, table: Tensor, rows: Tensor, attention: SelfAttention) -> RunBias:
        settings = self.settings
        table = dropout(table, self.dropout, self.training)
        keys = queries = None
        if "c2p" in settings.terms:
            project = attention.k_proj if settings.shared else self.pos_key_proj[attention.index]
            keys = (project(table) * attention.scale).index_select(0, rows[:-1].flip(0))
        if "p2c" in settings.terms:
            project = attention.q_proj if settings.shared else self.pos_query_proj[attention.index]
            queries = (project(table) * attention.scale).index_select(0, rows[1:])
        return _RunBias(keys, queries)


@dataclass(frozen=True)
class _RunBias:
    """One layer's scores, from its keys of positions L - 1 … -L and its queries of 1 - L … L, each (2 L, heads * D)."""

    keys: Tensor | None
    queries: Tensor | None

    def __call__(self, query: Tensor, key: Tensor, run: Run) -> Tensor | None:
        bias: Tensor | None = None
        if self.keys is not None:
            bias = by_distance(query, self.keys)
        if self.queries is not None:
            other = by_distance(key, self.queries).transpose(-1, -2)
            bias = other if bias is None else bias + other
        return bias if bias is None or run.mask is None else bias * run.mask.transpose(-1, -2)


def table_rows(distance: Tensor, settings: Disentangled) -> Tensor:
    """The table's row of each query-minus-key distance: exact when near, in logarithmic buckets when far."""
    if settings.buckets > 0:
        middle = settings.buckets // 2
        size = distance.abs().clamp(min=middle)
        ratio = torch.log(size / middle) / torch.log(torch.tensor((settings.farthest - 1) / middle))
        far = torch.ceil(ratio * (middle - 1)).long() + middle
        distance = torch.where(distance.abs() <= middle, distance, far * distance.sign())
    return (distance + settings.span).clamp(0, 2 * settings.span - 1)


def by_distance(content: Tensor, positions: Tensor) -> Tensor:
    """Products (B, heads, S, S) of content i (B, heads, S, D) with position j - i of the 2 L >= 2 S (2 L, heads * D).

    The products with all positions lie in memory so that the wanted ones are a view: each row starts one value earlier.
    """
    batch, heads, length, dim = content.shape
    middle = positions.shape[0] // 2
    positions = positions[middle - length : middle + length].unflatten(-1, (heads, dim))
    products = content.transpose(0, 1).flatten(1, 2) @ positions.permute(1, 2, 0)
    flat = products.unflatten(1, (batch, length)).flatten(2)
    rows: Tensor = flat[..., length - 1 : length - 1 + length * (2 * length - 1)].unflatten(
        -1, (length, 2 * length - 1)
    )
    return rows[..., :length].transpose(0, 1)
