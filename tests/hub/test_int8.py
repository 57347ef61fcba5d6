"""int8 storage: what is stored, how close it comes, what shows."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from formers.errors import CheckpointError, InputError
from formers.hub.files import resolve
from formers.hub.int8 import Dequantized, quantize
from formers.hub.weights import Checkpoint, save_weights


def stored(tensors, folder):
    save_weights(tensors, folder)
    return Checkpoint.open(resolve(folder))


def test_round_trip_through_a_file(tmp_path):
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "linear.weight": torch.randn(7, 33, generator=generator) * torch.logspace(-6, 3, 7)[:, None],
        "half.weight": torch.randn(4, 8, generator=generator).to(torch.bfloat16),
        "linear.bias": torch.randn(7, generator=generator),
        "conv.weight": torch.randn(2, 3, 4, generator=generator),
        "ids": torch.arange(6).reshape(2, 3),
        "bytes": torch.ones(2, 2, dtype=torch.int8),
        "empty": torch.zeros(0, 4),
    }
    raw = stored(quantize(tensors), tmp_path)
    assert raw.dtype("linear.weight") is torch.int8
    assert raw.shape("linear.weight_scale") == (7,)
    view = Dequantized(raw)
    assert set(view.keys()) == set(tensors)
    for key, tensor in tensors.items():
        assert view.shape(key) == tuple(tensor.shape)
        assert view.dtype(key) is view.tensor(key).dtype
        if key in ("linear.weight", "half.weight"):
            assert view.dtype(key) is torch.float32
            half_step = tensor.float().abs().amax(1, keepdim=True) / 225
            assert ((view.tensor(key) - tensor.float()).abs() <= half_step * 1.0001).all()
        else:
            assert torch.equal(view.tensor(key), tensor)


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=6))
def test_every_finite_row(row):
    weight = torch.tensor([row, [0.0] * len(row)])
    saved = quantize({"w": weight})
    back = saved["w"].float() * saved["w_scale"][:, None]
    assert ((back - weight).abs() <= weight.abs().amax(1, keepdim=True) / 225 * 1.001 + 1e-44).all()
    assert (back[1] == 0).all()


def test_without_int8_all_stays(tmp_path):
    tensors = {"w": torch.ones(2, 2), "w_scale": torch.ones(2)}
    view = Dequantized(stored(tensors, tmp_path))
    assert set(view.keys()) == {"w", "w_scale"}
    assert view.dtype("w") is torch.float32


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_not_finite(value):
    with pytest.raises(InputError, match="'w' holds values that are not finite"):
        quantize({"w": torch.tensor([[1.0, value]])})


def test_name_of_the_scale_is_taken():
    with pytest.raises(InputError, match="'w_scale' is taken"):
        quantize({"w": torch.ones(2, 2), "w_scale": torch.ones(2)})


@pytest.mark.parametrize("scale", [torch.ones(3), torch.ones(2, 1), torch.ones(2, dtype=torch.float16)])
def test_scales_that_do_not_fit(tmp_path, scale):
    with pytest.raises(CheckpointError, match=r"'w' of shape .* has scales of shape .* expected one float32 per row"):
        Dequantized(stored({"w": torch.ones(2, 2, dtype=torch.int8), "w_scale": scale}, tmp_path))


def test_what_comes_back_is_exact_in_half_precision():
    weight = torch.randn(64, 33, generator=torch.Generator().manual_seed(0)) * torch.logspace(-3, 4, 64)[:, None]
    saved = quantize({"w": weight})
    back = saved["w"].float() * saved["w_scale"][:, None]
    assert torch.equal(back.half().float(), back)
