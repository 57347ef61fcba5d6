"""Dropout: how often, how much, and from which random numbers."""

from __future__ import annotations

import pytest
import torch

from formers.layers.dropout import dropout


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_share_and_scale(probability: float) -> None:
    torch.manual_seed(0)
    out = dropout(torch.ones(500, 401), probability)
    kept = out[out != 0]
    assert float((out == 0).float().mean()) == pytest.approx(probability, abs=0.005)
    assert float(out.mean()) == pytest.approx(1.0, abs=0.03)
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - probability)), rtol=1e-3, atol=0)


def test_neighbours_are_independent() -> None:
    torch.manual_seed(0)
    out = (dropout(torch.ones(400_000), 0.5) != 0).float() - 0.5
    for distance in (1, 2, 3, 4, 8):
        assert abs(float((out[distance:] * out[:-distance]).mean())) < 0.002


def test_seeds_decide() -> None:
    torch.manual_seed(1)
    first = dropout(torch.ones(7, 3), 0.5)
    second = dropout(torch.ones(7, 3), 0.5)
    torch.manual_seed(1)
    assert torch.equal(dropout(torch.ones(7, 3), 0.5), first)
    assert not torch.equal(first, second)


def test_nothing_to_drop() -> None:
    x = torch.randn(3, 4)
    assert dropout(x, 0.5, training=False) is x
    assert dropout(x, 0.0) is x
    assert (dropout(x, 1.0) == 0).all()
    assert dropout(torch.empty(0, 4), 0.5).shape == (0, 4)


def test_gradients_pass_where_values_do() -> None:
    x = torch.randn(50, 6, requires_grad=True)
    out = dropout(x, 0.3)
    out.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad * x.detach(), out.detach())
