"""Several layers as one product: the same numbers, never stale."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from formers.layers.linear import JointWeight


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def layers(bias: bool = True) -> list[nn.Linear]:
    return [nn.Linear(6, out, bias=bias) for out in (4, 2, 3)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("first", [0, 1, 2])
def test_one_product_for_all(first: int, bias: bool) -> None:
    parts, x = layers(bias), torch.randn(5, 6)
    expected = torch.cat([part(x) for part in parts[first:]], dim=1)
    parameters = [part.weight for part in parts]
    joint = JointWeight(parts)
    assert joint.holds(parts)
    torch.testing.assert_close(joint(x, first), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(torch.cat([part(x) for part in parts[first:]], dim=1), expected, rtol=1e-5, atol=1e-6)
    assert all(part.weight is parameter for part, parameter in zip(parts, parameters, strict=True))


def test_layers_with_and_without_a_bias() -> None:
    parts, x = [nn.Linear(6, 4), nn.Linear(6, 2, bias=False), nn.Linear(6, 3)], torch.randn(5, 6)
    expected = torch.cat([part(x) for part in parts], dim=1)
    joint = JointWeight(parts)
    torch.testing.assert_close(joint(x, 0), expected, rtol=1e-5, atol=1e-6)
    parts[0].bias = None
    assert not joint.holds(parts)


def test_changes_in_place_reach_the_joint_product() -> None:
    parts, x = layers(), torch.randn(5, 6)
    joint = JointWeight(parts)
    with torch.no_grad():
        parts[1].weight.fill_(0.5)
        parts[2].bias.fill_(7.0)
        parts[0].load_state_dict(nn.Linear(6, 4).state_dict())
    assert joint.holds(parts)
    torch.testing.assert_close(joint(x, 0), torch.cat([part(x) for part in parts], dim=1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["weight", "bias"])
@pytest.mark.parametrize("index", [0, 2])
def test_assigned_parameters_end_it(index: int, name: str) -> None:
    parts = layers()
    joint = JointWeight(parts)
    setattr(parts[index], name, nn.Parameter(getattr(parts[index], name).detach() + 1))
    assert not joint.holds(parts)


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_moved_parameters_end_it(name: str) -> None:
    parts = layers()
    joint = JointWeight(parts)
    getattr(parts[1], name).data = getattr(parts[1], name).data.clone()
    assert not joint.holds(parts)


def test_other_types_end_it() -> None:
    parts = layers()
    joint = JointWeight(parts)
    nn.ModuleList(parts).to(torch.float64)
    assert not joint.holds(parts)


def test_copies_stand_alone() -> None:
    part = nn.ModuleList(layers())
    joint = JointWeight(list(part))  # type: ignore[arg-type]
    assert not joint.holds(list(copy.deepcopy(part)))  # type: ignore[arg-type]
