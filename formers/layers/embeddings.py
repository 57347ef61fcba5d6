"""From ids to the first hidden states."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from formers.errors import InputError
from formers.layers.dropout import dropout
from formers.layers.linear import Linear
from formers.layers.positions import ComputedSinusoids, StoredSinusoids

if TYPE_CHECKING:
    from formers.models.spec import ModelSpec


class ScaledEmbedding(nn.Embedding):
    """An embedding whose rows are multiplied by `scale` when they are looked up (Gemma)."""

    scale: float = 1.0

    def forward(self, ids: Tensor) -> Tensor:
        """(…) to (…, W)."""
        return super().forward(ids) * torch.tensor(self.scale, dtype=self.weight.dtype, device=self.weight.device)


def table(rows: int, width: int, padding_idx: int | None = None, scale: float | None = None) -> nn.Embedding:
    """An embedding with standard normal rows; on the meta device without, since torch loads its compiler for those."""
    weight = torch.empty(rows, width)
    if not weight.is_meta:
        nn.init.normal_(weight)
        if padding_idx is not None:
            weight[padding_idx].zero_()
    if scale is None:
        return nn.Embedding(rows, width, padding_idx, _weight=weight)
    scaled = ScaledEmbedding(rows, width, padding_idx, _weight=weight)
    scaled.scale = scale
    return scaled


class Embeddings(nn.Module):
    """Token, position and token-type embeddings, summed, normalised, and projected to the model's width."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        width = spec.embedding_width or spec.width
        self.dropout = spec.dropout if spec.embedding_dropout is None else spec.embedding_dropout
        self.tokens = table(
            spec.vocab_size, width, _inside(spec.pad_token_id, spec.vocab_size), scale=spec.embedding_scale
        )
        # Padding has one position of its own where positions count real tokens; it is not trained.
        padding = _inside(spec.positions_after, spec.positions or 0)
        self.positions: nn.Module | None = None
        if spec.sinusoids == "computed":
            self.positions = ComputedSinusoids(width, zero=padding)
        elif spec.positions and spec.sinusoids:
            self.positions = StoredSinusoids(spec.positions, width)
        elif spec.positions:
            self.positions = table(spec.positions, width, padding_idx=padding)
        self.token_types = table(spec.token_types, width) if spec.token_types else None
        self.norm = nn.LayerNorm(width, spec.norm_eps, bias=spec.norm_bias) if spec.embedding_norm else None
        self.projection = None if spec.embedding_width is None else Linear(width, spec.width)

    def forward(self, tokens: Tensor, positions: Tensor | None, token_types: Tensor | None) -> Tensor:
        """Ids (T,) or embeddings (T, E), positions (T,) and token types (T,) to hidden states (T, W)."""
        x = self.summed(tokens, positions, token_types)
        if self.norm is not None:
            x = self.norm(x)
        x = dropout(x, self.dropout, self.training)
        return x if self.projection is None else self.projection(x)

    def summed(self, tokens: Tensor, positions: Tensor | None, token_types: Tensor | None) -> Tensor:
        """The sum of the embeddings (T, E)."""
        x = self.looked_up(tokens)
        if self.token_types is not None:
            weight = self.token_types.weight
            types = None if token_types is None else _rows(self.token_types, token_types, "token types", _TYPES)
            x = x + (weight[0] if types is None else types)
        elif token_types is not None and bool(token_types.any()):
            raise InputError("This model has no token types.", _TYPES)
        return self.placed(x, positions)

    def looked_up(self, tokens: Tensor) -> Tensor:
        """Ids (T,) or embeddings (T, E) to embeddings."""
        return tokens if tokens.is_floating_point() else _rows(self.tokens, tokens, "token ids", _TOKENS)

    def placed(self, x: Tensor, positions: Tensor | None) -> Tensor:
        """Embeddings (T, E) with those of their positions (T,)."""
        if self.positions is None or positions is None:
            return x
        return x + _rows(self.positions, positions, "positions", _POSITIONS).to(x.dtype)


_TOKENS = (
    "Use the model's own tokenizer; after adding tokens to it, call model.resize_token_embeddings(len(tokenizer))."
)
_TYPES = "Leave token_type_ids out, or use the model's own tokenizer."
_POSITIONS = "Shorten the input, for example with truncation=True in the tokenizer's call, or correct position_ids."


def _rows(table: nn.Module, ids: Tensor, name: str, remedy: str) -> Tensor:
    try:
        rows: Tensor = table(ids)
    except IndexError as error:
        low, high = torch.aminmax(ids)
        raise InputError(
            f"The {name} go from {int(low)} to {int(high)}; the model has {table.num_embeddings}, from 0 on.", remedy
        ) from error
    return rows


def _inside(index: int | None, size: int) -> int | None:
    return index if index is not None and 0 <= index < size else None
