"""Several layers as one product, and weights in 16 bits: the same numbers, never stale."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from formers.layers.linear import JointWeight, Linear


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


def packed(bias: bool = True, exact: bool = True) -> Linear:
    layer = Linear(40, 24, bias=bias).eval()
    if exact:
        layer.weight.data = layer.weight.data.half().float()
    layer.pack()
    return layer


def expected_of(layer: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.linear(x, layer.weight, layer.bias)


@pytest.mark.skipif(torch.backends.quantized.engine not in ("x86", "fbgemm", "onednn"), reason="no 16-bit product")
class TestHalfWeight:
    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("rows", [1, 7, 64, 65])
    def test_same_numbers(self, rows: int, bias: bool) -> None:
        layer, x = packed(bias), torch.randn(rows, 40)
        assert layer.compact is not None
        with torch.no_grad():
            assert layer.compact.serves(x, list(layer.parameters())) == (rows <= 64)
            torch.testing.assert_close(layer(x), expected_of(layer, x), rtol=1e-5, atol=1e-6)

    def test_only_where_nothing_is_lost(self) -> None:
        assert packed(exact=False).compact is None
        layer = Linear(8, 4).eval()
        layer.weight.data.fill_(1e6)
        layer.pack()
        assert layer.compact is None
        layer = Linear(8, 4).double()
        layer.pack()
        assert layer.compact is None

    def test_gradients_and_other_inputs_take_the_common_way(self) -> None:
        layer = packed()
        assert layer.compact is not None
        parameters = list(layer.parameters())
        assert not layer.compact.serves(torch.randn(3, 40), parameters)
        layer(torch.randn(3, 40)).sum().backward()
        assert layer.weight.grad is not None
        with torch.no_grad():
            assert layer(torch.randn(2, 3, 40)).shape == (2, 3, 24)

    def test_changed_parameters_are_not_stale(self) -> None:
        x = torch.randn(3, 40)
        layer = packed()
        with torch.no_grad():
            layer.bias.add_(1.0)
            torch.testing.assert_close(layer(x), expected_of(layer, x))
            layer = packed()
            layer.load_state_dict(nn.Linear(40, 24).state_dict())
            torch.testing.assert_close(layer(x), expected_of(layer, x))
            layer = packed()
            layer.weight = nn.Parameter(torch.randn(24, 40))
            torch.testing.assert_close(layer(x), expected_of(layer, x))
            layer = packed().double()
            assert layer(x.double()).dtype == torch.float64

    def test_joint_layers(self) -> None:
        parts, x = [packed(), packed(), packed()], torch.randn(5, 40)
        expected = torch.cat([expected_of(part, x) for part in parts], dim=1)
        joint = JointWeight.packed(parts, None, None)
        with torch.no_grad():
            assert joint.compacted(x)
            torch.testing.assert_close(joint(x, 0), expected, rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(joint(x, 1), expected[:, 24:], rtol=1e-5, atol=1e-6)
            parts[2].weight.mul_(2.0)
            assert not joint.compacted(x)
            assert joint.holds(parts)
            torch.testing.assert_close(joint(x, 2), expected_of(parts[2], x), rtol=1e-5, atol=1e-6)

    def test_copies(self) -> None:
        layer, x = packed(), torch.randn(3, 40)
        other = copy.deepcopy(layer)
        with torch.no_grad():
            other.weight.zero_()
            torch.testing.assert_close(other(x), other.bias.expand(3, 24))
            torch.testing.assert_close(layer(x), expected_of(layer, x), rtol=1e-5, atol=1e-6)
