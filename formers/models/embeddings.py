"""Changing the size of a vocabulary."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from formers.errors import InputError

if TYPE_CHECKING:
    from formers.models.base import PreTrainedModel


def resize(model: PreTrainedModel, size: int | None, multiple: int | None, mean: bool) -> nn.Embedding:
    """Set the number of rows of the token embeddings, and of the output layer where there is one."""
    tokens = model.get_input_embeddings()
    old = tokens.num_embeddings
    size = old if size is None else size
    if multiple is not None:
        size = -(-size // multiple) * multiple
    if size < 1:
        raise InputError(f"A vocabulary of {size} tokens was asked for.", "Give a positive number.")
    if size != old:
        output = model.get_output_embeddings()
        tokens.weight = nn.Parameter(_rows(tokens.weight, size, mean, model.spec.initializer_range))
        tokens.num_embeddings = size
        if tokens.padding_idx is not None and tokens.padding_idx >= size:
            tokens.padding_idx = None
        if isinstance(output, nn.Linear):
            output.weight = nn.Parameter(_rows(output.weight, size, mean, model.spec.initializer_range))
            output.out_features = size
            if output.bias is not None:
                output.bias = nn.Parameter(_rows(output.bias, size, False, 0.0))
        bias = dict(model.named_parameters()).get("head.bias")
        if bias is not None and bias.shape == (1, old):
            grown = _rows(bias.t(), size, False, 0.0).t()
            model.get_submodule("head").bias = nn.Parameter(grown, requires_grad=False)
        model.config.vocab_size = size
        model.tie_weights()
    return tokens


def _rows(old: Tensor, size: int, mean: bool, std: float) -> Tensor:
    kept = old.detach()[:size]
    added = size - kept.shape[0]
    if added <= 0:
        return kept.clone()
    new = old.detach().new_empty(added, *old.shape[1:])
    if mean:
        # Draws from a normal distribution around the old rows (Hewitt, 2021), narrow enough to keep logits calm.
        centre = old.detach().float().mean(0)
        spread = old.detach().float().std(0) * 1e-3
        new.copy_(centre + spread * torch.randn(added, *old.shape[1:], device=old.device))
    else:
        new.normal_(0.0, std) if std else new.zero_()
    return torch.cat([kept, new])
