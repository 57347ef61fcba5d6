"""Layers in one compiled call: the numbers of the same layers spelled out in float64."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
import torch

pytest.importorskip("numba")

from torch import Tensor
from torch.nn import functional as F

from formers.kernels.packed import LayerWeights, PackedLayers, _groups
from formers.kernels.panels import Norm, Product, Shape
from formers.kernels.rows import CHUNK, Activation

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    Activation.GELU: F.gelu,
    Activation.GELU_TANH: lambda x: F.gelu(x, approximate="tanh"),
    Activation.RELU: F.relu,
    Activation.SILU: F.silu,
    Activation.QUICK_GELU: lambda x: x * torch.sigmoid(1.702 * x),
}


@pytest.fixture(autouse=True, params=[1, 2], ids=["one thread", "two threads"])
def _threads(request: pytest.FixtureRequest) -> object:
    torch.manual_seed(0)
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def shape(
    width: int = 64, heads: int = 2, head: int = 32, inner: int = 128, kind: Activation = Activation.GELU
) -> Shape:
    return Shape(width, heads, head, inner, kind, 1e-5, head**-0.5)


def made(of: Shape, count: int = 2, half: bool = False, bias: bool = True) -> list[LayerWeights]:
    def product(out: int, inputs: int) -> Product:
        weight = torch.randn(out, inputs) / inputs**0.5
        return Product(weight.half().float() if half else weight, torch.randn(out) / 10 if bias else None)

    def norm() -> Norm:
        return Norm(1 + torch.randn(of.width) / 10, torch.randn(of.width) / 10 if bias else None)

    inner = of.heads * of.head_width
    return [
        LayerWeights(
            *(product(inner, of.width) for _ in range(3)),
            product(of.width, inner),
            product(of.inner, of.width),
            product(of.width, of.inner),
            norm(),
            norm(),
        )
        for _ in range(count)
    ]


def reference(of: Shape, layers: Sequence[LayerWeights], x: Tensor, lengths: list[int], norm: Norm | None) -> Tensor:
    """By torch alone, in float64."""

    def product(x: Tensor, by: Product) -> Tensor:
        return F.linear(x, by.weight.double(), None if by.bias is None else by.bias.double())

    def normed(x: Tensor, by: Norm) -> Tensor:
        bias = None if by.bias is None else by.bias.double()
        return F.layer_norm(x, (of.width,), by.weight.double(), bias, of.epsilon)

    def heads(x: Tensor) -> Tensor:
        return x.view(len(x), of.heads, of.head_width).transpose(0, 1)

    found = []
    for sequence in x.double().split(lengths):
        state, read = sequence, sequence if norm is None else normed(sequence, norm)
        for layer in layers:
            query, key, value = (heads(product(read, by)) for by in (layer.query, layer.key, layer.value))
            mixed = (query @ key.transpose(1, 2) * of.scale).softmax(-1) @ value
            state = state + product(mixed.transpose(0, 1).flatten(1), layer.output)
            read = normed(state, layer.middle)
            state = (read if norm is None else state) + product(
                ACTIVATIONS[of.activation](product(read, layer.up)), layer.down
            )
            read = normed(state, layer.last)
            state = read if norm is None else state
        found.append(read)
    return torch.cat(found)


def compare(
    of: Shape,
    layers: list[LayerWeights],
    lengths: list[int],
    norm: Norm | None = None,
    packed: PackedLayers | None = None,
) -> None:
    packed = packed or PackedLayers(of, layers, norm)
    x = torch.randn(sum(lengths), of.width)
    expected = reference(of, layers, x, lengths, norm)
    starts = torch.tensor([0, *lengths[:-1]]).cumsum(0)
    for narrow, right in ((False, expected), (True, expected[starts])):
        torch.testing.assert_close(packed(x, lengths, narrow).double(), right, rtol=1e-4, atol=1e-5)


LENGTHS = [
    [1],
    [2],
    [7],
    [14],
    [15],
    [25],
    [CHUNK],
    [CHUNK + 1],
    [70],
    [300],
    [5, 5, 6],
    [1, 1, 1, 2],
    [3, 200],
    [30] * 20 + [41] * 9,
    [1] * 300,
]


@pytest.mark.parametrize("half", [False, True], ids=["32 bits", "16 bits"])
@pytest.mark.parametrize("first", [False, True], ids=["norms last", "norms first"])
def test_lengths(half: bool, first: bool) -> None:
    of = shape()
    layers = made(of, half=half)
    norm = Norm(torch.rand(64), torch.rand(64)) if first else None
    packed = PackedLayers(of, layers, norm)
    # One after the other, in scratch memory that the calls before have used.
    for lengths in LENGTHS:
        compare(of, layers, lengths, norm, packed)


@pytest.mark.parametrize("rows", range(1, 71, 3))
def test_rows(rows: int) -> None:
    of = shape(32, 1, 32, 64)
    compare(of, made(of, 1), [rows])


@pytest.mark.parametrize(
    ("width", "heads", "head", "inner"),
    [
        (100, 3, 20, 70),
        (96, 2, 48, 200),
        (64, 5, 40, 33),
        (8, 2, 4, 12),
        (31, 1, 31, 1),
        (64, 1, 100, 65),
        (1, 1, 1, 1),
    ],
)
@pytest.mark.parametrize("half", [False, True], ids=["32 bits", "16 bits"])
def test_widths(width: int, heads: int, head: int, inner: int, half: bool) -> None:
    of = shape(width, heads, head, inner)
    layers = made(of, half=half)
    packed = PackedLayers(of, layers, None)
    for lengths in ([70], [9, 4], [25], [3, 3, 4]):
        compare(of, layers, lengths, packed=packed)


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_activations(kind: Activation) -> None:
    of = shape(kind=kind)
    compare(of, made(of), [11, 12])


def test_every_activation_has_a_reference() -> None:
    assert set(ACTIVATIONS) == set(Activation) - {Activation.NONE}


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_an_activation_at_its_ends(kind: Activation) -> None:
    """Of an identity between two norms that keep what they get: down(act(up(x)))."""
    of = Shape(32, 1, 32, 32, kind, 0.0, 1.0)
    none = Product(torch.zeros(32, 32), None)
    same = Product(torch.eye(32), None)
    values = torch.cat([torch.linspace(-40, 40, 31), torch.tensor([0.0])])
    up = Product(torch.zeros(32, 32), values)
    layer = LayerWeights(none, none, none, none, up, same, Norm(torch.ones(32), None), Norm(torch.ones(32), None))
    x = torch.randn(3, 32) * 1e-3
    expected = reference(of, [layer], x, [3], None)
    torch.testing.assert_close(PackedLayers(of, [layer], None)(x, [3]).double(), expected, rtol=1e-5, atol=1e-6)


def test_without_biases() -> None:
    of = shape(40, 2, 20, 50)
    compare(of, made(of, bias=False), [9, 9])


def test_layers_that_run_twice() -> None:
    of = shape()
    one, two = made(of)
    compare(of, [one, two, one, one], [25])


@pytest.mark.parametrize("size", [1e-30, 1e-3, 1e4, 1e15])
def test_small_and_large_values(size: float) -> None:
    of = shape()
    layers, x = made(of), torch.randn(25, 64) * size
    found = PackedLayers(of, layers, None)(x, [25]).double()
    torch.testing.assert_close(found, reference(of, layers, x, [25], None), rtol=1e-3, atol=1e-4)


def test_peaked_attention() -> None:
    of = shape()
    layers = made(of)
    for layer in layers:
        layer.query.weight.mul_(10)
    compare(of, layers, [40, 41])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_stays_in_its_sequence(value: float) -> None:
    of = shape()
    layers, x = made(of), torch.randn(30, 64)
    packed = PackedLayers(of, layers, None)
    clean = packed(x, [15, 15])
    x[17, 3] = value
    found = packed(x, [15, 15])
    assert found[15:].isnan().all()
    torch.testing.assert_close(found[:15], clean[:15])
    x[17, 3] = 0.0
    assert packed(x, [15, 15]).isfinite().all(), "it stayed in scratch memory"


def test_inputs_that_are_apart() -> None:
    of = shape()
    layers, x = made(of), torch.randn(64, 9)
    found = PackedLayers(of, layers, None)(x.t(), [9]).double()
    torch.testing.assert_close(found, reference(of, layers, x.t(), [9], None), rtol=1e-4, atol=1e-5)


def test_calls_of_many_threads() -> None:
    of = shape()
    layers = made(of)
    packed = PackedLayers(of, layers, None)
    inputs = [torch.randn(5 + 40 * index, 64) for index in range(6)]
    expected = [packed(x, [len(x)]) for x in inputs]

    def run(index: int) -> None:
        for _ in range(50):
            torch.testing.assert_close(packed(inputs[index], [len(inputs[index])]), expected[index])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(run, range(6)))


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_groups(lengths: list[int], threads: int) -> None:
    groups = _groups(lengths, threads)
    assert groups[0][0] == 0
    assert sum(groups[-1]) == len(lengths)
    assert all(sum(group) == following[0] for group, following in pairwise(groups))
    assert all(count > 0 for _, count in groups)


NARROWER = """
import sys; sys.path.insert(0, "tests/kernels"); import torch
from formers.kernels.tiles import TALLEST
import test_stack as tests
assert TALLEST == 6
for of in (tests.shape(), tests.shape(100, 3, 20, 70)):
    layers = tests.made(of, half=True)
    for lengths in ([1], [6], [25], [80], [5, 5, 6]):
        tests.compare(of, layers, lengths)
"""


@pytest.mark.skipif(sys.platform != "linux" or os.uname().machine != "x86_64", reason="names of x86 features")
def test_a_processor_with_narrower_vectors(tmp_path: os.PathLike[str]) -> None:
    known = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma,+f16c", "NUMBA_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", NARROWER], env=os.environ | known, check=True)


@pytest.mark.skipif(sys.platform != "linux" or os.uname().machine != "x86_64", reason="names of x86 features")
def test_a_processor_that_reads_no_halves(tmp_path: os.PathLike[str]) -> None:
    known = {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    code = "from formers.layers.compiled import available; import sys; sys.exit(available())"
    subprocess.run([sys.executable, "-c", code], env=os.environ | known, check=True)
