"""A block with a convolution over neighbouring tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from formers.layers.activations import activation
from formers.layers.attention import AttentionContext
from formers.layers.block import Block
from formers.layers.dropout import dropout
from formers.layers.layout import Queries, Run

if TYPE_CHECKING:
    from formers.models.spec import ModelSpec


class ConvolutionBlock(Block):
    """A block that adds to its output a convolution of its input, and normalises the sum; padding becomes zero."""

    def __init__(self, spec: ModelSpec, index: int, *, kernel: int, groups: int, act: str) -> None:
        super().__init__(spec, index)
        self.conv = nn.Conv1d(spec.width, spec.width, kernel, padding=kernel // 2, groups=groups)
        self.conv_norm = nn.LayerNorm(spec.width, spec.norm_eps)
        self.conv_activation = activation(act)

    def forward(self, x: Tensor, context: AttentionContext, queries: Queries | None = None) -> Tensor:
        """(T, W) to (T, W)."""
        convolved = dropout(self._convolve(x, context.runs), self.mlp_dropout, self.training)
        x = self.conv_norm(super().forward(x, context, queries) + self.conv_activation(convolved))
        mask = context.runs[0].mask
        return x if mask is None else x * mask.flatten()[:, None]

    def _convolve(self, x: Tensor, runs: Sequence[Run]) -> Tensor:
        # One product for all sequences, laid end to end with zeros between them.
        gap = self.conv.padding[0]
        assert isinstance(gap, int)
        parts = x.split([run.batch * run.length for run in runs])
        shapes = [(run.batch, run.length) for run in runs]
        spread = [F.pad(part.unflatten(0, shape), (0, 0, 0, gap)) for part, shape in zip(parts, shapes, strict=True)]
        line = torch.cat([part.flatten(0, 1) for part in spread])
        line = self.conv(line.t()[None])[0].t()
        parts = line.split([run.batch * (run.length + gap) for run in runs])
        narrow = [part.unflatten(0, (b, s + gap))[:, :s] for part, (b, s) in zip(parts, shapes, strict=True)]
        return torch.cat([part.flatten(0, 1) for part in narrow])
