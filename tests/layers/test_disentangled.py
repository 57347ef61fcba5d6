"""Disentangled attention, against its formula spelled out and the reference's buckets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

from formers.layers.attention import SelfAttention
from formers.layers.disentangled import Disentangled, DisentangledBias, by_distance, table_rows
from formers.layers.layout import Run
from formers.models.spec import HeadSpec, ModelSpec

SETTINGS = Disentangled(terms=("c2p", "p2c"), span=4, farthest=12, buckets=4, shared=False, normed=True)
SPEC = ModelSpec(
    vocab_size=9,
    width=12,
    layers=1,
    heads=2,
    ff_width=5,
    activation="relu",
    score_terms=3,
    head=HeadSpec(dropout=0.0),
)


@given(st.integers(1, 9), st.integers(0, 5), st.integers(1, 3), st.integers(1, 3))
def test_products_by_distance(length: int, more: int, batch: int, heads: int) -> None:
    torch.manual_seed(0)
    longest = length + more
    content = torch.randn(batch, heads, length, 4)
    positions = torch.randn(2 * longest, heads * 4)
    found = by_distance(content, positions)
    assert found.shape == (batch, heads, length, length)
    table = positions.unflatten(-1, (heads, 4))
    for i in range(length):
        for j in range(length):
            expected = torch.einsum("bhd,hd->bh", content[:, :, i], table[longest - 1 + j - i])
            torch.testing.assert_close(found[:, :, i, j], expected, rtol=1e-5, atol=1e-5)


@given(st.integers(2, 300), st.integers(2, 600))
def test_buckets(buckets: int, farthest: int) -> None:
    farthest = max(farthest, buckets // 2 + 2)
    distance = torch.arange(-700, 701)
    expected = make_log_bucket_position(distance, buckets, farthest).long()
    settings = replace(SETTINGS, span=buckets, farthest=farthest, buckets=buckets)
    assert torch.equal(table_rows(distance, settings), (expected + buckets).clamp(0, 2 * buckets - 1))


def test_rows_without_buckets() -> None:
    settings = replace(SETTINGS, span=3, buckets=-1)
    assert table_rows(torch.arange(-5, 6), settings).tolist() == [0, 0, 0, 1, 2, 3, 4, 5, 5, 5, 5]


@pytest.mark.parametrize("values", [{}, {"shared": True}, {"normed": False}, {"buckets": -1}, {"terms": ("p2c",)}])
def test_the_formula(values: dict[str, Any]) -> None:
    torch.manual_seed(0)
    settings = replace(SETTINGS, **values)
    attention, bias = SelfAttention(SPEC, 0).eval(), DisentangledBias(settings, SPEC).eval()
    runs = [Run(0, 3, 2), Run(6, 1, 7), Run(13, 2, 1)]
    of_run = bias(runs)(attention)
    table = bias.embeddings.weight if bias.norm is None else bias.norm(bias.embeddings.weight)
    keys = attention.k_proj if settings.shared else (*bias.pos_key_proj, None)[0]
    queries = attention.q_proj if settings.shared else bias.pos_query_proj[0]
    for run in runs:
        query, key = (torch.randn(run.batch, 2, run.length, 6) for _ in range(2))
        found = of_run(query, key, run)
        assert found is not None
        place = torch.arange(run.length)
        rows = table_rows(place[:, None] - place[None, :], settings)
        expected = torch.einsum("bhkd,qkhd->bhqk", key, queries(table).unflatten(-1, (2, 6))[rows])
        if "c2p" in settings.terms:
            assert keys is not None
            expected = expected + torch.einsum("bhqd,qkhd->bhqk", query, keys(table).unflatten(-1, (2, 6))[rows])
        torch.testing.assert_close(found, expected * (6 * 3) ** -0.5, rtol=1e-4, atol=1e-5)


def test_padding_gets_no_score() -> None:
    bias = DisentangledBias(SETTINGS, SPEC)
    run = Run(0, 1, 3, torch.tensor([True, True, False])[None, None, None])
    scores = bias([run])(SelfAttention(SPEC, 0))(torch.randn(1, 2, 3, 6), torch.randn(1, 2, 3, 6), run)
    assert scores is not None
    assert not bool(scores[:, :, 2].any())
    assert bool(scores[:, :, :2].all())


def test_no_terms() -> None:
    bias = DisentangledBias(replace(SETTINGS, terms=()), SPEC)
    run = Run(0, 1, 3)
    assert bias([run])(SelfAttention(SPEC, 0))(torch.randn(1, 2, 3, 6), torch.randn(1, 2, 3, 6), run) is None
