"""Matrices in blocks of 8 and 4 bits: how near they come, and that compiled products agree with the reference."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from formers.errors import InputError
from formers.hub.block_quantization import to_blocks
from formers.kernels.blocks import BlockWeight, Memory


@given(st.integers(1, 70), st.integers(1, 5), st.sampled_from([1e-3, 1.0, 300.0]), st.integers(0, 2**31))
def test_eight_bits_are_within_half_a_step(rows: int, blocks: int, size: float, seed: int) -> None:
    matrix = torch.randn(rows, 32 * blocks, generator=torch.Generator().manual_seed(seed)) * size
    error = (to_blocks(matrix, 8, "w").floats() - matrix).view(-1, 32).abs().amax(1)
    largest = matrix.view(-1, 32).abs().amax(1)
    # 16 bits change a scale by a 2048th at most, and 127 steps by that.
    assert bool((error <= largest * (0.5 / 127 + 1 / 2048) + 127 * 6e-8).all())


@given(st.integers(1, 70), st.integers(1, 5), st.sampled_from([1e-2, 1.0, 300.0]), st.integers(0, 2**31))
def test_four_bits_are_nearer_than_least_and_largest(rows: int, blocks: int, size: float, seed: int) -> None:
    matrix = torch.randn(rows, 32 * blocks, generator=torch.Generator().manual_seed(seed)) * size + size
    groups = matrix.view(-1, 32)
    low, high = groups.aminmax(dim=1, keepdim=True)
    step = (high - low) / 15
    plain = ((groups - low) / step).round() * step + low
    error = (to_blocks(matrix, 4, "w").floats().view(-1, 32) - groups).square().sum()
    assert error <= (plain - groups).square().sum() * 1.01


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("value", [0.0, 0.5, -2.0])
def test_a_block_of_one_value_is_kept(bits: int, value: float) -> None:
    matrix = torch.full((3, 64), value)
    torch.testing.assert_close(to_blocks(matrix, bits, "w").floats(), matrix, rtol=1e-3, atol=0)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_values_that_16_bits_cannot_hold_are_refused(bits: int, value: float) -> None:
    matrix = torch.zeros(2, 32)
    matrix[1, 3] = value
    with pytest.raises(InputError, match="'w' holds values that are not finite"):
        to_blocks(matrix, bits, "'w'")


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize(("rows", "columns"), [(32, 32), (45, 96), (96, 256)])
@pytest.mark.parametrize("tokens", [1, 4, 7, 16])
def test_compiled_products_agree_with_the_dequantized_matrix(bits: int, rows: int, columns: int, tokens: int) -> None:
    pytest.importorskip("numba")
    torch.manual_seed(0)
    blocks = to_blocks(torch.randn(rows, columns), bits, "w")
    bias, x = torch.randn(rows), torch.randn(tokens, columns)
    weight = BlockWeight.of([blocks], bias, Memory())
    assert weight is not None
    expected = torch.nn.functional.linear(x, blocks.floats(), bias)
    torch.testing.assert_close(weight(x), expected, rtol=1e-4, atol=1e-4)
