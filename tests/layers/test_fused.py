"""A whole block as one operation: the same numbers as the block, and only where nothing else is asked for."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from formers.layers import fused
from formers.layers.attention import AttentionContext, eager, sdpa
from formers.layers.block import Block
from formers.layers.fused import fused_block
from formers.layers.layout import Run
from formers.models.spec import HeadSpec, ModelSpec

SPEC = ModelSpec(
    vocab_size=9, width=8, layers=2, heads=2, ff_width=12, activation="gelu", head=HeadSpec(dropout=0.0), dropout=0.1
)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def make(spec: ModelSpec = SPEC, index: int = 1) -> Block:
    block = Block(spec, index).eval()
    for parameter in block.parameters():
        nn.init.normal_(parameter, 0.1, 0.5)
    block.self_attn.pack()
    return block


def context(*runs: Run, function: object = sdpa, **more: object) -> AttentionContext:
    return AttentionContext(runs=list(runs), function=function, **more)  # type: ignore[arg-type]


@torch.no_grad()
def both(block: Block, x: Tensor, runs: Run) -> tuple[Tensor | None, Tensor]:
    plain = copy.deepcopy(block)
    plain.self_attn.joint = None
    return fused_block(block, x, context(runs)), plain(x, context(runs))


@pytest.mark.parametrize("activation", ["gelu", "relu"])
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize(("batch", "length"), [(1, 1), (1, 7), (3, 5)])
def test_it_gives_the_numbers_of_the_block(activation: str, norm_first: bool, batch: int, length: int) -> None:
    block = make(replace(SPEC, activation=activation, norm_first=norm_first))
    one, several = both(block, torch.randn(batch * length, 8), Run(0, batch, length))
    assert one is not None
    torch.testing.assert_close(one, several, rtol=1e-4, atol=1e-5)


def test_the_block_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    block, x = make(), torch.randn(6, 8)
    marker = torch.full((6, 8), 3.0)
    monkeypatch.setattr("formers.layers.block.fused_block", lambda *_: marker)
    assert block(x, context(Run(0, 2, 3))) is marker


@pytest.mark.parametrize(
    "change",
    [
        {"activation": "gelu_new"},
        {"gated": True},
        {"attention_bias": False},
        {"ff_bias": False},
        {"norm_bias": False},
        {"score_terms": 3},
        {"windows": (1, 1)},
        {"even_padding": True},
    ],
)
@torch.no_grad()
def test_other_kinds_of_blocks_are_left_to_the_block(change: dict[str, object]) -> None:
    block = make(replace(SPEC, **change))  # type: ignore[arg-type]
    assert fused_block(block, torch.randn(5, 8), context(Run(0, 1, 5))) is None


@torch.no_grad()
def test_other_passes_are_left_to_the_block() -> None:
    block, x, run = make(), torch.randn(6, 8), Run(0, 2, 3)
    assert fused_block(block, x, context(run)) is not None
    others = [
        context(Run(0, 1, 2), Run(2, 1, 4)),
        context(Run(0, 2, 3, causal=True)),
        context(Run(0, 2, 3, mask=torch.ones(2, 1, 1, 3, dtype=torch.bool))),
        context(run, function=eager),
        context(run, weights=[]),
        context(run, position_bias=lambda attention: lambda query, key, run: None),
    ]
    assert [fused_block(block, x, other) for other in others] == [None] * len(others)
    assert fused_block(block.double(), x.double(), context(run)) is None
    assert fused_block(make().train(), x, context(run)) is None
    with torch.enable_grad():
        assert fused_block(make(), x, context(run)) is None


@torch.no_grad()
def test_many_tokens_are_left_to_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "MOST_TOKENS", 5)
    block = make()
    assert fused_block(block, torch.randn(5, 8), context(Run(0, 1, 5))) is not None
    assert fused_block(block, torch.randn(6, 8), context(Run(0, 1, 6))) is None


class Adapter(nn.Linear):
    """A layer that someone put in the place of a projection."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1.0


@pytest.mark.parametrize("name", ["self_attn.o_proj", "mlp.up_proj", "mlp.down_proj", "self_attn.q_proj"])
@torch.no_grad()
def test_replaced_parts_are_left_to_the_block(name: str) -> None:
    block = make()
    old = block.get_submodule(name)
    assert isinstance(old, nn.Linear)
    parent, _, leaf = name.rpartition(".")
    setattr(block.get_submodule(parent), leaf, Adapter(old.in_features, old.out_features))
    assert fused_block(block, torch.randn(4, 8), context(Run(0, 1, 4))) is None


@pytest.mark.parametrize(
    "name", ["self_attn", "self_attn.k_proj", "self_attn.o_proj", "mlp", "mlp.up_proj", "attn_norm"]
)
@torch.no_grad()
def test_hooks_are_called(name: str) -> None:
    block, x, run = make(), torch.randn(4, 8), Run(0, 1, 4)
    calls: list[nn.Module] = []
    handle = block.get_submodule(name).register_forward_hook(lambda module, *_: calls.append(module))
    block(x, context(run))
    assert calls == [block.get_submodule(name)]
    handle.remove()
    assert fused_block(block, x, context(run)) is not None


@torch.no_grad()
def test_changed_weights_count() -> None:
    block, x, run = make(), torch.randn(4, 8), Run(0, 1, 4)
    block.mlp.up_proj.weight.mul_(2)
    block.self_attn.k_proj.weight.mul_(-1)
    one, several = both(block, x, run)
    assert one is not None
    torch.testing.assert_close(one, several, rtol=1e-4, atol=1e-5)
