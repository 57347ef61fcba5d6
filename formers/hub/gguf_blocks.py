"""Quantized matrices of GGUF files in parts: the integers of each block, their scale, and what is added to them.

A weight is scale * integer + minimum. The layouts are those of ggml-quants.c, as in `gguf_types`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from formers.hub.gguf_types import TYPES, dequantize, fifth_bits, halves, nibbles, scales, sixth_bits

if TYPE_CHECKING:
    from torch import Tensor


class Parts(NamedTuple):
    """A matrix of R rows in blocks of `width` columns, B to a row.

    codes: int8 (R, B, width), or for 4 bits uint8 (R, B, 16), columns 0 to 15 in the low halves of the bytes and 16 to
    31 in the high ones. scale and minimum: float32 (R, B). halves: whether 16-bit floats hold both exactly.
    """

    bits: int
    width: int
    halves: bool
    codes: Tensor
    scale: Tensor
    minimum: Tensor | None


@dataclass(frozen=True)
class Blocks:
    """The bytes (rows, bytes a row) of a matrix of a ggml type."""

    kind: int
    data: Tensor

    def __deepcopy__(self, _memo: dict[int, Any]) -> Blocks:
        return self

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the matrix."""
        _, elements, width = TYPES[self.kind]
        rows, size = self.data.shape
        return rows, size // width * elements

    def moved(self, move: Callable[[Tensor], Tensor]) -> Blocks:
        """The same after a function that moves, repeats or leaves out whole rows."""
        return replace(self, data=move(self.data))

    def floats(self) -> Tensor:
        """The matrix as float32."""
        return dequantize(self.data.flatten(), self.kind, self.shape, "of blocks")

    def parts(self) -> Parts:
        """The matrix in parts."""
        rows, columns = self.shape
        name, elements, width = TYPES[self.kind]
        return PARTS[name](self.data.reshape(rows * (columns // elements), width), rows)


def _q4_0(blocks: Tensor, rows: int) -> Parts:
    scale = halves(blocks, 0)
    minimum = scale * -8
    return _parts(rows, 4, bool((minimum.abs() < 65504).all()), blocks[:, 2:], scale, minimum)


def _q4_1(blocks: Tensor, rows: int) -> Parts:
    return _parts(rows, 4, True, blocks[:, 4:], halves(blocks, 0), halves(blocks, 2))


def _q5_0(blocks: Tensor, rows: int) -> Parts:
    return _parts(rows, 8, True, _fives(blocks[:, 6:], blocks[:, 2:6]) - 16, halves(blocks, 0))


def _q5_1(blocks: Tensor, rows: int) -> Parts:
    codes = _fives(blocks[:, 8:], blocks[:, 4:8])
    return _parts(rows, 8, False, codes, halves(blocks, 0), halves(blocks, 2))


def _q8_0(blocks: Tensor, rows: int) -> Parts:
    import torch

    return _parts(rows, 8, True, blocks.view(torch.int8)[:, 2:], halves(blocks, 0))


def _q4_k(blocks: Tensor, rows: int) -> Parts:
    import torch

    # 32 bytes hold two sub-blocks, one in the low halves and one in the high ones.
    data = blocks[:, 16:].reshape(-1, 4, 2, 16)
    left, right = data[:, :, 0], data[:, :, 1]
    codes = torch.stack(((left & 15) | (right << 4), (left >> 4) | (right & 240)), dim=2)
    return _parts(rows, 4, False, codes, *_scaled(blocks))


def _q5_k(blocks: Tensor, rows: int) -> Parts:
    import torch

    codes = torch.empty(len(blocks), 8, 32, dtype=torch.uint8)
    nibbles(blocks[:, 48:].reshape(-1, 4, 32), codes.view(-1, 4, 64))
    for bit in range(8):
        codes[:, bit] += ((blocks[:, 16:48] >> bit) & 1) << 4
    return _parts(rows, 8, False, codes.view(torch.int8), *_scaled(blocks))


def _q6_k(blocks: Tensor, rows: int) -> Parts:
    import torch

    codes = torch.empty(len(blocks), 256, dtype=torch.uint8)
    sixth_bits(blocks, codes)
    scale = halves(blocks, 208) * blocks.view(torch.int8)[:, 192:208]
    return _parts(rows, 8, False, codes.view(torch.int8) - 32, scale)


def _fives(low: Tensor, high: Tensor) -> Tensor:
    """5-bit integers: int8 (blocks, 32)."""
    import torch

    codes = torch.empty(len(low), 32, dtype=torch.uint8)
    nibbles(low, codes)
    return (codes + fifth_bits(high)).view(torch.int8)


def _scaled(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Scales and minima (blocks, 8) of sub-blocks of 32."""
    scale, minimum = scales(blocks[:, 4:16])
    return halves(blocks, 0) * scale, halves(blocks, 2) * minimum * -1


def _parts(rows: int, bits: int, halves_: bool, codes: Tensor, scale: Tensor, minimum: Tensor | None = None) -> Parts:
    blocks = scale.numel() // rows
    codes = codes.reshape(rows, blocks, -1)
    width = codes.shape[-1] * (8 // bits)
    least = None if minimum is None else minimum.reshape(rows, blocks)
    return Parts(bits, width, halves_, codes, scale.reshape(rows, blocks), least)


PARTS: dict[str, Callable[[Tensor, int], Parts]] = {
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q8_0": _q8_0,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
}
