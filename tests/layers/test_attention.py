"""Attention functions, and the layer around them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from formers.errors import InputError
from formers.layers.attention import (
    ATTENTION,
    AttentionContext,
    AttentionFunction,
    SelfAttention,
    attention_function,
    eager,
    sdpa,
)
from formers.layers.layout import Queries, Rectangle, Run, plan
from formers.layers.positions import rotary_table
from formers.models.spec import HeadSpec, ModelSpec

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def inputs(batch: int = 2, heads: int = 3, queries: int = 5, keys: int = 5, dim: int = 4) -> tuple[Tensor, ...]:
    query = torch.randn(batch, heads, queries, dim)
    return query, torch.randn(batch, heads, keys, dim), torch.randn(batch, heads, keys, dim)


def call(function: AttentionFunction, *qkv: Tensor, **options: Any) -> Tensor:
    out = function(*qkv, **{"mask": None, "bias": None, "scale": 0.5, "dropout": 0.0, **options})
    values: Tensor = out[0] if isinstance(out, tuple) else out
    return values


MASKS: dict[str, Tensor | None] = {
    "none": None,
    "padding": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]).bool()[:, None, None],
    "causal": torch.ones(5, 5).tril().bool(),
}
BIASES: dict[str, Tensor | None] = {
    "none": None,
    "shared": torch.linspace(-2, 2, 75).view(1, 3, 5, 5),
    "own": torch.linspace(-2, 2, 150).view(2, 3, 5, 5),
}


@pytest.mark.parametrize("name", ATTENTION)
@pytest.mark.parametrize("bias", BIASES.values(), ids=BIASES)
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_the_formula(mask: Tensor | None, bias: Tensor | None, name: str) -> None:
    query, key, value = inputs()
    found = call(ATTENTION[name], query, key, value, mask=mask, bias=bias)
    seen = torch.ones(2, 3, 5, 5, dtype=torch.bool) & (torch.tensor(True) if mask is None else mask)
    for b, h, i in ((0, 0, 0), (1, 2, 4), (1, 0, 2)):
        places = [j for j in range(5) if seen[b, h, i, j]]
        added = [0.0 if bias is None else float(bias[b % len(bias), h, i, j]) for j in places]
        scores = [float(query[b, h, i] @ key[b, h, j]) * 0.5 + more for j, more in zip(places, added, strict=True)]
        total = sum(map(math.exp, scores))
        expected = sum(
            (math.exp(score) / total * value[b, h, j] for j, score in zip(places, scores, strict=True)),
            torch.zeros(4),
        )
        torch.testing.assert_close(found[b, h, i], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bias", BIASES.values(), ids=BIASES)
def test_both_functions_have_the_same_gradients(bias: Tensor | None) -> None:
    found = []
    for function in (sdpa, eager):
        leaves = [part.clone().requires_grad_() for part in inputs()]
        torch.manual_seed(0)
        if bias is not None:
            leaves.append(bias.clone().requires_grad_())
        out = call(function, *leaves[:3], mask=MASKS["padding"], bias=leaves[3] if bias is not None else None)
        out.square().sum().backward()
        found.append([leaf.grad for leaf in leaves])
        torch.manual_seed(0)
    for own, other in zip(*found, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-5)


def test_weights() -> None:
    query, key, value = inputs()
    mask = MASKS["padding"]
    assert mask is not None
    out, weights = eager(query, key, value, mask=mask, bias=None, scale=0.5, dropout=0.0)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 5))
    assert float(weights.masked_select(~mask).abs().max()) == 0.0
    torch.testing.assert_close(weights @ value, out)


@pytest.mark.parametrize("bias", BIASES.values(), ids=BIASES)
@pytest.mark.parametrize("name", ATTENTION)
def test_rows_that_see_nothing(name: str, bias: Tensor | None) -> None:
    """They come out finite, with finite gradients, and change no other row."""
    mask = torch.ones(2, 1, 5, 5, dtype=torch.bool)
    mask[0, :, 1] = False
    mask[1, :, :] = False
    qkv = [part.requires_grad_() for part in inputs()]
    out = call(ATTENTION[name], *qkv, mask=mask, bias=bias)
    assert bool(out.isfinite().all())
    out.sum().backward()
    assert all(bool(part.grad.isfinite().all()) for part in qkv if part.grad is not None)
    whole = call(ATTENTION[name], *qkv, bias=bias)
    torch.testing.assert_close(out[0, :, [0, 2, 3, 4]], whole[0, :, [0, 2, 3, 4]], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ATTENTION)
def test_fewer_queries_than_keys(name: str) -> None:
    query, key, value = inputs()
    whole, first = (call(ATTENTION[name], q, key, value) for q in (query, query[:, :, :1]))
    torch.testing.assert_close(first, whole[:, :, :1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ATTENTION)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_types(name: str, dtype: torch.dtype) -> None:
    qkv = [part.to(dtype) for part in inputs()]
    bias = torch.zeros(1, 3, 5, 5, dtype=dtype)
    out = call(ATTENTION[name], *qkv, mask=MASKS["padding"], bias=bias)
    assert out.dtype == dtype
    expected = call(eager, *(part.double() for part in qkv), mask=MASKS["padding"])
    torch.testing.assert_close(out.double(), expected, rtol=3e-2, atol=3e-2)


@pytest.mark.parametrize("name", ATTENTION)
def test_dropout(name: str) -> None:
    query, key, _ = inputs(queries=40, keys=40)
    ones = torch.ones(2, 3, 40, 4)
    out = call(ATTENTION[name], query, key, ones, dropout=0.5)
    # Weights that stay are doubled: the mean is kept, and rows differ.
    assert abs(float(out.mean()) - 1.0) < 0.1
    assert float(out.std()) > 0.05
    torch.testing.assert_close(call(ATTENTION[name], query, key, ones), ones)


def test_choices() -> None:
    assert attention_function(None) is attention_function("sdpa") is sdpa
    assert attention_function("eager") is eager
    assert attention_function(max) is max
    with pytest.raises(InputError, match=r"Unknown attn_implementation 'eagre'. Use 'eager', or pass a function"):
        attention_function("eagre")
    with pytest.raises(InputError, match=r"Use 'sdpa' or 'eager'"):
        attention_function("flash_attention_2")


# -- the layer ---------------------------------------------------------------------------------------------------------


def spec(**values: Any) -> ModelSpec:
    sizes = {"vocab_size": 9, "width": 8, "layers": 2, "heads": 2, "ff_width": 5, "activation": "relu"}
    return ModelSpec(**{**sizes, "head": HeadSpec(dropout=0.0), **values})


def context(runs: list[Run], **values: Any) -> AttentionContext:
    return AttentionContext(runs, **{"function": sdpa, **values})


@pytest.mark.parametrize("attend", ["sdpa", "eager"])
@pytest.mark.parametrize(
    "values", [{}, {"causal": True}, {"windows": (1, None)}, {"rope_thetas": (100.0, 10.0)}, {"attention_bias": False}]
)
def test_dropping_padding_changes_nothing(values: dict[str, Any], attend: str) -> None:
    own = spec(**values)
    layer = SelfAttention(own, 0)
    mask = (torch.arange(6) < torch.tensor([[6], [2], [4], [2]])).long()
    x = torch.randn(4, 6, 8)
    found = []
    for pack in (True, False):
        layout = plan(4, 6, mask, causal=own.causal, pack=pack)
        assert len(layout.runs) == (3 if pack else 1)
        places = layout.gather(torch.arange(6).expand(4, 6))
        rotary = {theta: rotary_table(places, own.head_dim, theta, x.dtype) for theta in own.rope_thetas or ()}
        out = layer(layout.gather(x), context(layout.runs, function=ATTENTION[attend], rotary=rotary))
        found.append(layout.scatter(out)[mask == 1])
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bias", [True, False])
def test_joined_projections_change_nothing(bias: bool) -> None:
    layer = SelfAttention(spec(attention_bias=bias), 0).eval()
    x, runs = torch.randn(6, 8), [Run(0, 2, 3)]
    before = layer(x, context(runs))
    layer.pack()
    assert layer.joint is not None
    with torch.no_grad():
        torch.testing.assert_close(layer(x, context(runs)), before, rtol=1e-5, atol=1e-6)
    # Gradients go to the projections' own weights.
    layer(x, context(runs)).sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())


def test_replaced_projections_are_not_joined() -> None:
    """An adapter, say, in the place of one of them."""
    layer = SelfAttention(spec(), 0)
    layer.v_proj = torch.nn.Sequential(layer.v_proj)  # type: ignore[assignment]
    layer.pack()
    assert layer.joint is None


def test_functions_of_ones_own() -> None:
    seen: list[dict[str, Any]] = []

    def mean(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
        seen.append({**options, "shape": tuple(query.shape)})
        return value.mean(2, keepdim=True).expand_as(value)

    layer = SelfAttention(spec(attention_dropout=0.25), 0)
    x = torch.randn(7, 8)
    runs = [Run(0, 2, 2), Run(4, 1, 3)]
    bias = torch.randn(1, 2, 3, 3)
    out = layer(x, context(runs, function=mean, position_bias=lambda attention: lambda query, key, run: bias))
    value = layer.v_proj(x)
    torch.testing.assert_close(out[4:], layer.o_proj(value[4:].mean(0)).expand(3, 8))
    assert [call["shape"] for call in seen] == [(2, 2, 2, 4), (1, 2, 3, 4)]
    assert seen[0]["bias"] is bias
    assert seen[0]["mask"] is None
    assert seen[0]["scale"] == 0.5
    assert seen[0]["dropout"] == 0.25
    layer.eval()(x, context(runs, function=mean))
    assert seen[-1]["dropout"] == 0.0


def test_weights_are_collected_where_they_are_asked_for() -> None:
    layer = SelfAttention(spec(), 0)
    weights: list[Tensor] = []
    layer(torch.randn(6, 8), context([Run(0, 2, 3)], function=eager, weights=weights))
    assert [tuple(weight.shape) for weight in weights] == [(2, 2, 3, 3)]
    with pytest.raises(InputError, match=r"returned no weights.*Return \(output, weights\) from it"):
        layer(torch.randn(6, 8), context([Run(0, 2, 3)], function=sdpa, weights=[]))


def test_padding_that_sees_all_tokens_evenly() -> None:
    layer = SelfAttention(spec(even_padding=True), 0)
    x = torch.randn(4, 8)
    mask = torch.tensor([True, True, False, False])[None, None, None]
    for function in (sdpa, eager):
        out = layer(x, context([Run(0, 1, 4, mask)], function=function))
        torch.testing.assert_close(out[2:], layer.o_proj(layer.v_proj(x).mean(0)).expand(2, 8), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(out[:2], layer(x[:2], context([Run(0, 1, 2)])), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("first_only", [False, True])
def test_padded_attention_of_a_training_equals_that_of_runs(first_only: bool) -> None:
    layer = SelfAttention(spec(), 0)
    runs = [Run(0, 2, 3), Run(6, 1, 4), Run(10, 3, 5)]
    queries = Queries(torch.tensor([0, 3, 6, 10, 15, 20]), [Run(0, 2, 1), Run(2, 1, 1), Run(3, 3, 1)])
    results = []
    for rectangle in (None, Rectangle.of(runs, torch.device("cpu"))):
        x = torch.randn(25, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
        out = layer(x, context(runs, rectangle=rectangle), queries if first_only else None)
        out.square().sum().backward()
        results.append((out.detach(), x.grad, layer.q_proj.weight.grad.clone()))
        layer.zero_grad()
    for plain, padded in zip(*results, strict=True):
        torch.testing.assert_close(padded, plain, rtol=1e-5, atol=1e-6)
