"""Matrices and vectors as compiled code takes them: in panels of 32 columns (see `tiles`), by their addresses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from formers.kernels.blocks import Memory
from formers.kernels.rows import Activation
from formers.kernels.tiles import COLUMNS

_Word = TypeVar("_Word", bound=int)


@dataclass(frozen=True)
class Product:
    """Weights (out, in) and bias (out,) of a dense layer."""

    weight: Tensor
    bias: Tensor | None

    def filled(self, heads: int = 1) -> Product:
        """With the inputs of each head filled up with zeros to whole blocks."""
        out, inputs = self.weight.shape
        width = inputs // heads
        filled = self.weight.new_zeros(out, heads, blocks(width) * COLUMNS)
        filled[:, :, :width] = self.weight.view(out, heads, width)
        return Product(filled.flatten(1), self.bias)


@dataclass(frozen=True)
class Norm:
    """Weight and bias of a norm."""

    weight: Tensor
    bias: Tensor | None


@dataclass(frozen=True)
class Shape:
    """What all layers have in common. `scale` multiplies attention scores."""

    width: int
    heads: int
    head_width: int
    inner: int
    activation: Activation
    epsilon: float
    scale: float


def blocks(columns: int) -> int:
    """How many blocks so many columns fill."""
    return -(-columns // COLUMNS)


def joined(parts: Sequence[Product], heads: int) -> Product:
    """Products with the same input as one, a head of each after another, each filled up to whole blocks."""
    inputs = parts[0].weight.shape[1]
    width = parts[0].weight.shape[0] // heads
    weight = torch.zeros(heads, len(parts), blocks(width) * COLUMNS, inputs)
    bias = torch.zeros(weight.shape[:3])
    for place, part in enumerate(parts):
        weight[:, place, :width] = part.weight.view(heads, width, inputs)
        if part.bias is not None:
            bias[:, place, :width] = part.bias.view(heads, width)
    return Product(weight.flatten(0, 2), bias.flatten())


class Panels:
    """Memory that belongs to a model's tables. Matrices are 16-bit floats where these hold them exactly."""

    def __init__(self) -> None:
        self._memory = Memory()
        self._kept: list[Tensor] = []

    def product(self, product: Product) -> tuple[int, int, int]:
        """The addresses of panels and bias, and whether the weights are 16-bit."""
        weight = product.weight
        rows, columns = weight.shape
        padded = blocks(rows) * COLUMNS
        half = torch.equal(weight.half().float(), weight)
        dtype = torch.float16 if half else torch.float32
        panels = self._memory.take(padded * columns * dtype.itemsize).view(dtype).view(-1, columns, COLUMNS)
        whole = rows // COLUMNS
        panels[:whole] = weight[: whole * COLUMNS].view(whole, COLUMNS, columns).transpose(1, 2)
        if rows % COLUMNS:
            panels[whole] = 0
            panels[whole, :, : rows % COLUMNS] = weight[whole * COLUMNS :].t()
        return self.keep(panels), self.vector(product.bias, rows), int(half)

    def norm(self, norm: Norm) -> tuple[int, int]:
        """The addresses of its weight and bias."""
        return self.vector(norm.weight, len(norm.weight)), self.vector(norm.bias, len(norm.weight))

    def vector(self, vector: Tensor | None, size: int) -> int:
        """The address of a vector, or zeros, filled up to whole blocks."""
        padded = torch.zeros(blocks(size) * COLUMNS)
        if vector is not None:
            padded[:size] = vector
        return self.keep(padded)

    def keep(self, tensor: Tensor) -> int:
        """The address of a tensor, which lives on with this."""
        self._kept.append(tensor)
        return tensor.data_ptr()


class Scratch:
    """Memory for calls from any number of threads, used again and again: it holds ordinary numbers."""

    def __init__(self) -> None:
        self._free: list[Tensor] = []

    def take(self, size: int) -> Tensor:
        """At least so many bytes, for one call."""
        try:
            found = self._free.pop()
        except IndexError:
            found = torch.empty(0)
        return found if found.nbytes >= size else torch.zeros(-(-size // 4))

    def give(self, memory: Tensor) -> None:
        """Memory that a call has done with."""
        self._free.append(memory)


def lay_out(words: list[int], places: Mapping[_Word, int], total: int) -> None:
    """Write to the words named in `places` where so many bytes for each begin, and to the word `total` their sum."""
    for place, size in places.items():
        words[place] = words[total]
        words[total] += size
