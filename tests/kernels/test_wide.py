"""A wide product of few rows, against torch's."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("numba")

from torch.nn import functional as F

from formers.kernels.wide import WideWeight
from formers.layers.linear import WIDE, Linear


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(("out", "inputs"), [(1, 1), (31, 33), (32, 64), (1001, 100), (257, 512)])
def test_products_are_those_of_torch(out: int, inputs: int, half: bool, threads: int) -> None:
    torch.manual_seed(out)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        weight, bias = torch.randn(out, inputs), torch.randn(out)
        weight = weight.half().float() if half else weight
        for offset in (bias, None):
            wide = WideWeight(weight, offset)
            for rows in (1, 2, 3, 7, 16, 64):
                x = torch.randn(rows, inputs)
                torch.testing.assert_close(wide(x), F.linear(x, weight, offset), rtol=1e-4, atol=1e-4)
    finally:
        torch.set_num_threads(before)


def test_a_wide_layer_gets_ready_beside_its_first_calls_and_follows_its_weights() -> None:
    torch.manual_seed(0)
    layer = Linear(40, WIDE + 3).eval()
    layer.pack()
    assert layer.wide is not None
    with torch.no_grad():
        layer.wide.prepare()
        for x in (torch.randn(4, 40), torch.randn(2, 3, 40), torch.randn(40)):
            torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias), rtol=1e-4, atol=1e-4)
        layer.weight.mul_(3)
        x = torch.randn(4, 40)
        torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias), rtol=1e-4, atol=1e-4)
    narrow = Linear(40, 40).eval()
    narrow.pack()
    assert narrow.wide is None
