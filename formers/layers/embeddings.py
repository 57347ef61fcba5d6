"""From ids to the first hidden states."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from formers.errors import InputError
from formers.layers.linear import Linear

if TYPE_CHECKING:
    from formers.models.spec import ModelSpec


class Embeddings(nn.Module):
    """Token, position and token-type embeddings, summed, normalised, and projected to the model's width."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        width = spec.embedding_width or spec.width
        self.dropout = spec.dropout if spec.embedding_dropout is None else spec.embedding_dropout
        self.tokens = nn.Embedding(spec.vocab_size, width, padding_idx=_inside(spec.pad_token_id, spec.vocab_size))
        # Padding has one position of its own where positions count real tokens; it is not trained.
        padding = _inside(spec.positions_after, spec.positions or 0)
        self.positions = nn.Embedding(spec.positions, width, padding_idx=padding) if spec.positions else None
        self.token_types = nn.Embedding(spec.token_types, width) if spec.token_types else None
        self.norm = nn.LayerNorm(width, spec.norm_eps, bias=spec.norm_bias) if spec.embedding_norm else None
        self.projection = None if spec.embedding_width is None else Linear(width, spec.width)

    def forward(self, tokens: Tensor, positions: Tensor | None, token_types: Tensor | None) -> Tensor:
        """Ids (T,) or embeddings (T, E), positions (T,) and token types (T,) to hidden states (T, W)."""
        x = self.summed(tokens, positions, token_types)
        if self.norm is not None:
            x = self.norm(x)
        x = F.dropout(x, self.dropout, self.training)
        return x if self.projection is None else self.projection(x)

    def summed(self, tokens: Tensor, positions: Tensor | None, token_types: Tensor | None) -> Tensor:
        """The sum of the embeddings (T, E)."""
        x = self.tokens(tokens) if tokens.dtype in (torch.int64, torch.int32) else tokens
        if self.token_types is not None:
            weight = self.token_types.weight
            x = x + (weight[0] if token_types is None else self.token_types(token_types))
        elif token_types is not None and bool(token_types.any()):
            raise InputError("This model has no token types.", "Leave token_type_ids out.")
        if self.positions is not None:
            x = x + self.positions(positions)
        return x


def _inside(index: int | None, size: int) -> int | None:
    return index if index is not None and 0 <= index < size else None
