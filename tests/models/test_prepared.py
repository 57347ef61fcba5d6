"""A model is prepared once, and again after it has changed."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from formers.models.prepared import Prepared


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
    prepared = Prepared(it)
    assert prepared.current()
    it(torch.randn(2, 3))
    assert prepared.current()
    assert callable(act)
    act(it)
    assert not prepared.current()


def test_a_copy_is_to_be_prepared_itself() -> None:
    assert copy.deepcopy(Prepared(model())) is None


def test_parameters_made_in_inference_mode() -> None:
    with torch.inference_mode():
        it = model()
    assert Prepared(it).current()
