from __future__ import annotations

import builtins
import copy
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

pytest.importorskip("gguf")
pytest.importorskip("numba")

from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from formers.hub.gguf_blocks import PARTS, Blocks
from formers.hub.gguf_types import TYPES
from formers.kernels import blocks as room
from formers.kernels.blocks import MOST_ROWS, BlockWeight, Memory
from formers.layers.linear import JointWeight, Linear, Packing

KINDS = {name: kind for kind, (name, _, _) in TYPES.items()}
# Where the 16-bit floats of a block are.
FLOATS = {"Q4_0": (0,), "Q5_0": (0,), "Q8_0": (0,), "Q6_K": (208,)}


def made(name: str, rows: int, blocks: int, seed: int = 0) -> Blocks:
    """A matrix of random blocks with sensible scales."""
    generator = torch.Generator().manual_seed(seed)
    width = TYPES[KINDS[name]][2]
    data = torch.randint(0, 256, (rows * blocks, width), dtype=torch.uint8, generator=generator)
    for place in FLOATS.get(name, (0, 2)):
        scale = (torch.rand(len(data), 1, generator=generator) - 0.5) / 50
        data[:, place : place + 2] = scale.half().view(torch.uint8)
    return Blocks(KINDS[name], data.view(rows, -1))


def weights(blocks: Blocks) -> Tensor:
    rows, columns = blocks.shape
    return torch.from_numpy(dequantize(blocks.data.numpy(), GGMLQuantizationType(blocks.kind))).view(rows, columns)


def packed(*blocks: Blocks, bias: Tensor | None = None) -> BlockWeight:
    weight = BlockWeight.of(blocks, bias, Memory())
    assert weight is not None
    return weight


def compare(weight: BlockWeight, dense: Tensor, x: Tensor, bias: Tensor | None = None) -> None:
    exact = torch.nn.functional.linear(x.double(), dense.double(), None if bias is None else bias.double())
    largest = float(x.abs().sum(1).max() * dense.abs().max()) + 1
    with torch.no_grad():
        assert weight.serves(x)
        for got in (weight(x), weight.reference(x)):
            torch.testing.assert_close(got.double(), exact, rtol=1e-5, atol=2e-6 * largest)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(PARTS)),
    rows=st.integers(1, 200),
    blocks=st.integers(1, 3),
    tokens=st.integers(1, MOST_ROWS),
    bias=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_same_numbers_as_the_weights(name: str, rows: int, blocks: int, tokens: int, bias: bool, seed: int) -> None:
    matrix = made(name, rows, blocks, seed)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(tokens, matrix.shape[1], generator=generator)
    added = torch.randn(rows, generator=generator) if bias else None
    compare(packed(matrix, bias=added), weights(matrix), x, added)


@pytest.mark.parametrize("name", sorted(PARTS))
def test_every_row_and_column_is_where_it_belongs(name: str) -> None:
    matrix = made(name, 96, 2)
    weight = packed(matrix)
    eye = torch.eye(matrix.shape[1])
    with torch.no_grad():
        columns = torch.cat([weight(part) for part in eye.split(MOST_ROWS)])
    torch.testing.assert_close(columns.t(), weights(matrix), rtol=1e-5, atol=1e-7)


def test_matrices_of_one_kind_follow_one_another() -> None:
    parts = [made("Q4_1", rows, 4, rows) for rows in (5, 64, 33)]
    compare(packed(*parts), torch.cat([weights(part) for part in parts]), torch.randn(3, 128))


def test_matrices_of_several_kinds_follow_one_another() -> None:
    parts = [made("Q4_K", 64, 2), made("Q6_K", 32, 2), made("Q4_K", 7, 2)]
    compare(packed(*parts), torch.cat([weights(part) for part in parts]), torch.randn(5, 512))


def test_kinds_that_would_share_a_tile_stay_as_they_are() -> None:
    assert BlockWeight.of([made("Q4_K", 5, 2), made("Q6_K", 32, 2)], None, Memory()) is None


def test_a_matrix_without_blocks_keeps_all_as_they_are() -> None:
    assert BlockWeight.of([made("Q4_1", 32, 2), None], None, Memory()) is None


def test_scales_beyond_16_bits() -> None:
    matrix = made("Q4_0", 32, 2)
    matrix.data.view(32, 2, 18)[:, :, :2] = torch.tensor([30000.0]).half().view(torch.uint8)
    compare(packed(matrix), weights(matrix), torch.randn(2, 64))


def test_rows_of_x_that_are_apart() -> None:
    matrix = made("Q8_0", 64, 2)
    compare(packed(matrix), weights(matrix), torch.randn(64, 3).t())


def test_memory_is_aligned_and_separate() -> None:
    memory = Memory()
    taken = [memory.take(size) for size in (1, 100, 64, 0, 7)]
    for number, piece in enumerate(taken):
        piece.fill_(number)
        assert not len(piece) or piece.data_ptr() % 64 == 0
    assert [piece.unique().tolist() for piece in taken] == [[0], [1], [2], [], [4]]
    assert len(memory.take(Memory.PIECE + 1)) == Memory.PIECE + 1


def test_many_threads_at_once() -> None:
    matrix = made("Q4_1", 480, 6)
    weight = packed(matrix)
    inputs = [torch.randn(1 + index % 5, 192) for index in range(8)]
    with torch.no_grad():
        expected = [weight.reference(x) for x in inputs]

    def run(index: int) -> None:
        with torch.no_grad():
            for _ in range(200):
                torch.testing.assert_close(weight(inputs[index]), expected[index], rtol=1e-5, atol=1e-5)

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(run, range(8)))
    finally:
        torch.set_num_threads(before)


class TestLayers:
    def layer(self, rows: int = 64, seed: int = 0) -> tuple[Linear, Packing]:
        blocks = made("Q4_1", rows, 2, seed)
        layer = Linear(64, rows).eval()
        layer.weight.data = weights(blocks)
        return layer, Packing({id(layer.weight): blocks})

    def test_few_rows_use_the_blocks(self) -> None:
        layer, packing = self.layer()
        layer.pack(packing)
        assert layer.compact is not None
        for shape in ((3, 64), (2, 4, 64), (1, 1, 64)):
            x = torch.randn(shape)
            with torch.no_grad():
                assert layer.compact.serves(x.view(-1, 64), list(layer.parameters()))
                expected = torch.nn.functional.linear(x, layer.weight, layer.bias)
                torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)

    def test_other_inputs_do_not(self) -> None:
        layer, packing = self.layer()
        layer.pack(packing)
        assert layer.compact is not None
        parameters = list(layer.parameters())
        with torch.no_grad():
            assert not layer.compact.serves(torch.randn(MOST_ROWS + 1, 64), parameters)
            assert not layer.compact.serves(torch.randn(2, 64).double(), parameters)
        assert not layer.compact.serves(torch.randn(2, 64), parameters)
        layer(torch.randn(2, 64)).sum().backward()
        assert layer.weight.grad is not None

    def test_changed_parameters_end_it(self) -> None:
        layer, packing = self.layer()
        layer.pack(packing)
        assert layer.compact is not None
        x = torch.randn(2, 64)
        with torch.no_grad():
            layer.weight[0, 0] += 1
            assert not layer.compact.serves(x, list(layer.parameters()))
            torch.testing.assert_close(layer(x), torch.nn.functional.linear(x, layer.weight, layer.bias))

    def test_packing_again_keeps_what_is_good(self) -> None:
        layer, packing = self.layer()
        layer.pack(packing)
        first = layer.compact
        layer.pack()
        assert layer.compact is first

    def test_joint(self) -> None:
        pairs = [self.layer(rows, rows) for rows in (64, 32, 33)]
        layers = [layer for layer, _ in pairs]
        every = Packing({key: blocks for _, packing in pairs for key, blocks in packing.blocks.items()})
        joint = JointWeight.packed(layers, every, None)
        x = torch.randn(4, 64)
        with torch.no_grad():
            assert joint.compacted(x)
            expected = torch.nn.functional.linear(x, joint.weight, joint.bias)
            torch.testing.assert_close(joint(x, 0), expected, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(joint(x, 1), expected[:, 64:], rtol=1e-4, atol=1e-5)
            assert JointWeight.packed(layers, None, joint) is joint
            layers[1].weight.mul_(2)
            assert not joint.compacted(x)
            expected = torch.nn.functional.linear(x, joint.weight, joint.bias)
            torch.testing.assert_close(joint(x, 0), expected, rtol=1e-4, atol=1e-5)

    def test_copies_do_without(self) -> None:
        layer, packing = self.layer()
        layer.pack(packing)
        twin = copy.deepcopy(layer)
        assert twin.compact is not None
        with torch.no_grad():
            assert not twin.compact.serves(torch.randn(1, 64), list(twin.parameters()))


def test_without_numba_weights_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any, **named: Any) -> Any:
        if name.split(".")[0] in ("numba", "llvmlite"):
            raise ImportError(name)
        return real(name, *args, **named)

    for name in [name for name in sys.modules if name.startswith("formers.kernels.") and name != room.__name__]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", missing)
    assert BlockWeight.of([made("Q4_1", 32, 2)], None, Memory()) is None


@pytest.mark.parametrize("name", sorted(PARTS))
def test_a_panel_is_32_rows_of_the_matrix(name: str) -> None:
    from formers.kernels.decode import SEGMENT
    from formers.kernels.prefill import unpack

    blocks = [made(name, 64, 2), made("Q8_0", 32, 2 * TYPES[KINDS[name]][1] // 32, seed=1)]
    dense, weight = torch.cat([weights(each) for each in blocks]), packed(*blocks)
    table = torch.zeros(len(weight.tiles), SEGMENT, dtype=torch.int64)
    for row, tiles in zip(table, weight.tiles, strict=True):
        groups, count, size = tiles.data.shape
        row[:7] = torch.tensor([tiles.form, tiles.data.data_ptr(), size, count, tiles.columns, groups, tiles.start])
    for group in range(3):
        panel = torch.zeros(dense.shape[1], 32)
        unpack(table.data_ptr(), group, panel.data_ptr())
        torch.testing.assert_close(panel.t(), dense[group * 32 : (group + 1) * 32], rtol=1e-6, atol=1e-6)
