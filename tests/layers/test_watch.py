"""Modules that are watched."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from formers.layers.watch import Watch


def model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 2), nn.ReLU())).eval()


def replace_parameter(it: nn.Sequential) -> None:
    it[0].weight = nn.Parameter(it[0].weight.detach().clone())


def move(it: nn.Sequential) -> None:
    it[0].weight.data = it[0].weight.data.clone()


def change(it: nn.Sequential) -> None:
    with torch.no_grad():
        it[1][0].bias.add_(1)


def replace_module(it: nn.Sequential) -> None:
    it[1][1] = nn.GELU().eval()


@pytest.mark.parametrize("act", [replace_parameter, move, change, replace_module, nn.Module.train])
def test_what_changes_a_model_ends_it(act: object) -> None:
    it = model()
    watch = Watch([it])
    assert watch.same()
    it(torch.randn(2, 3))
    assert watch.same()
    assert callable(act)
    act(it)
    assert not watch.same()


def hook(it: nn.Sequential) -> None:
    it[1][0].register_forward_hook(lambda *_: None)


def override(it: nn.Sequential) -> None:
    it[0].forward = lambda x: x


@pytest.mark.parametrize("act", [hook, override])
def test_who_looks_inside_is_seen(act: object) -> None:
    it = model()
    watch = Watch([it])
    assert watch.unseen()
    assert callable(act)
    act(it)
    assert not watch.unseen()
    assert watch.same()


def test_a_copy_watches_nothing() -> None:
    assert copy.deepcopy(Watch([model()])) is None


def test_parameters_made_in_inference_mode() -> None:
    with torch.inference_mode():
        it = model()
    assert Watch([it]).same()


def test_a_fused_optimizer_is_noticed() -> None:
    layer = nn.Linear(4, 4)
    watch = Watch([layer])
    optimizer = torch.optim.AdamW(layer.parameters(), fused=True)
    layer(torch.ones(4)).sum().backward()
    assert watch.same()
    optimizer.step()
    assert not watch.same()
