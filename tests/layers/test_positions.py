"""Rotary tables, position ids, and relative positions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder
from transformers.models.roberta.modeling_roberta import RobertaEmbeddings

from formers.layers.layout import Run
from formers.layers.positions import positions_after_padding, relative_buckets, rotary_table, rotate, sinusoids
from formers.layers.relative import RelativeBias


@given(st.integers(1, 4), st.sampled_from([2, 4, 6, 16]), st.sampled_from([10.0, 1e4, 1.6e5]), st.integers(0, 3000))
def test_rotation_turns_pairs_of_values(heads: int, dim: int, theta: float, position: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(1, heads, dim)
    found = rotate(x, *rotary_table(torch.tensor([position]), dim, theta, torch.float32))
    pairs = torch.complex(x[..., : dim // 2].double(), x[..., dim // 2 :].double())
    # The angle itself is a single-precision number.
    angles = (position * (1.0 / theta ** (torch.arange(0, dim, 2) / dim))).double()
    turned = pairs * torch.polar(torch.ones_like(angles), angles)
    expected = torch.cat([turned.real, turned.imag], dim=-1).float()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_rotated_products_know_distances_alone() -> None:
    torch.manual_seed(0)
    query, key = torch.randn(8), torch.randn(8)
    places = torch.tensor([0, 3, 40, 43])
    cos, sin = rotary_table(places, 8, 100.0, torch.float32)
    queries, keys = (rotate(part.expand(4, 1, 8), cos, sin)[:, 0] for part in (query, key))
    torch.testing.assert_close(queries[1] @ keys[0], queries[3] @ keys[2], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(queries[0] @ keys[0], query @ key, rtol=1e-4, atol=1e-4)
    assert abs(float(queries[1] @ keys[0] - query @ key)) > 1e-2


def test_rotation_keeps_types() -> None:
    tables = rotary_table(torch.arange(3), 4, 10.0, torch.bfloat16)
    assert all(table.dtype == torch.bfloat16 for table in tables)
    assert rotate(torch.ones(3, 2, 4, dtype=torch.bfloat16), *tables).dtype == torch.bfloat16


@pytest.mark.parametrize("padding", [0, 1, 5])
def test_positions_after_padding(padding: int) -> None:
    ids = torch.tensor([[7, 8, 9, padding, padding], [padding, 7, padding, 8, 9], [padding] * 5])
    expected = RobertaEmbeddings.create_position_ids_from_input_ids(ids, padding)
    assert torch.equal(positions_after_padding(ids, padding), expected)


@given(st.integers(2, 32).map(lambda n: 2 * n), st.integers(40, 300))
def test_relative_buckets(buckets: int, farthest: int) -> None:
    distance = torch.arange(-700, 701)
    expected = MPNetEncoder.relative_position_bucket(distance, buckets, farthest)
    assert torch.equal(relative_buckets(distance, buckets, farthest), expected)


def test_causal_buckets() -> None:
    found = relative_buckets(torch.tensor([5, 1, 0, -1, -7, -8, -100, -1000]), 16, 128, bidirectional=False)
    assert found.tolist() == [0, 0, 0, 1, 7, 8, 15, 15]


def test_sinusoids() -> None:
    found = sinusoids(50, 6)
    assert found.shape == (50, 6)
    place, rate = torch.arange(50.0), 10000 ** (-2 / 6)
    torch.testing.assert_close(found[:, 0], place.sin())
    torch.testing.assert_close(found[:, 1], place.cos())
    torch.testing.assert_close(found[:, 3], (place * rate).cos())


def test_relative_bias() -> None:
    torch.manual_seed(0)
    bias = RelativeBias(heads=2, buckets=8, max_distance=20)
    runs = [Run(0, 2, 3), Run(6, 1, 9)]
    of_layer = bias(runs)(None)  # type: ignore[arg-type]
    for run in runs:
        found = of_layer(torch.zeros(0), torch.zeros(0), run)
        assert found is not None
        assert found.shape == (1, 2, run.length, run.length)
        for i, j in ((0, 0), (0, 2), (2, 0), (run.length - 1, 0)):
            bucket = relative_buckets(torch.tensor(j - i), 8, 20)
            assert torch.equal(found[0, :, i, j], bias.weights.weight[bucket])
