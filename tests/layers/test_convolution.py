"""A block with a convolution over neighbouring tokens."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from formers.layers.attention import AttentionContext, sdpa
from formers.layers.block import Block
from formers.layers.convolution import ConvolutionBlock
from formers.layers.layout import Run
from formers.models.spec import HeadSpec, ModelSpec

SPEC = ModelSpec(vocab_size=9, width=12, layers=1, heads=2, ff_width=5, activation="relu", head=HeadSpec(dropout=0.0))


def block(kernel: int, groups: int = 1) -> ConvolutionBlock:
    torch.manual_seed(0)
    return ConvolutionBlock(SPEC, 0, kernel=kernel, groups=groups, act="tanh").eval()


@pytest.mark.parametrize(("kernel", "groups"), [(1, 1), (3, 1), (3, 2), (7, 1)])
def test_no_sequence_sees_its_neighbours(kernel: int, groups: int) -> None:
    own = block(kernel, groups)
    x = torch.randn(2 * 3 + 1 + 5, 12)
    runs = [Run(0, 1, 1), Run(1, 2, 3), Run(7, 1, 5)]
    found = own(x, AttentionContext(runs, sdpa))
    pieces = x.split([1, 3, 3, 5])
    expected = [own(piece, AttentionContext([Run(0, 1, len(piece))], sdpa)) for piece in pieces]
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-5, atol=1e-6)


def test_the_formula() -> None:
    own = block(3)
    x = torch.randn(4, 12)
    context = AttentionContext([Run(0, 1, 4)], sdpa)
    padded = F.pad(x, (0, 0, 1, 1))
    convolved = sum(padded[k : k + 4] @ own.conv.weight[:, :, k].t() for k in range(3)) + own.conv.bias
    expected = own.conv_norm(Block.forward(own, x, context) + torch.tanh(convolved))
    torch.testing.assert_close(own(x, context), expected, rtol=1e-5, atol=1e-6)


def test_padding_becomes_zero() -> None:
    own = block(3)
    x = torch.randn(2, 4, 12)
    mask = torch.tensor([[True, True, False, False], [True, True, True, True]])
    x = x * mask[..., None]
    found = own(x.flatten(0, 1), AttentionContext([Run(0, 2, 4, mask[:, None, None])], sdpa)).unflatten(0, (2, 4))
    assert not bool(found[0, 2:].any())
    alone = own(x[0, :2], AttentionContext([Run(0, 1, 2)], sdpa))
    torch.testing.assert_close(found[0, :2], alone, rtol=1e-5, atol=1e-6)
