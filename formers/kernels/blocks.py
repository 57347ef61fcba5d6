"""Matrices kept in the blocks of a quantized file, for products of few rows.

Such a product waits for its weights to arrive from memory, and 5 bits arrive sooner than 32. The numbers are those of
the float32 weights that the blocks stand for; x, products and sums are float32. Only the order of the sums differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from formers.hub.gguf_blocks import Blocks, Parts

# With more rows, unpacking the weights costs more than reading them whole.
MOST_ROWS = 16
# Rows of a tile, as in `formers.kernels.products`.
TILE = 32


class Memory:
    """Memory for many matrices in few large pieces, which the system maps with large pages where it can."""

    PIECE = 1 << 26

    def __init__(self) -> None:
        self._left = torch.empty(0, dtype=torch.uint8)

    def take(self, size: int) -> Tensor:
        """So many bytes, from an address that 64 divides."""
        if size > len(self._left):
            import numpy

            # numpy asks for large pages, torch does not.
            piece = torch.from_numpy(numpy.empty(max(size, self.PIECE) + 64, dtype=numpy.uint8))
            self._left = piece[-piece.data_ptr() % 64 :]
        taken, self._left = self._left[:size], self._left[-(-size // 64) * 64 :]
        return taken


class Tiles(NamedTuple):
    """Some rows of a matrix, (groups, blocks, bytes of a tile), and from which row of the whole they come."""

    form: int
    columns: int
    data: Tensor
    start: int


class BlockWeight:
    """A dense layer's weights (out, in) as tiles of integers with their scales, and its bias (out,)."""

    def __init__(self, blocks: Sequence[Blocks], bias: Tensor | None, memory: Memory) -> None:
        self.rows = sum(each.shape[0] for each in blocks)
        self.columns = blocks[0].shape[1]
        self.bias = None if bias is None else bias.detach()
        self.tiles: list[Tiles] = []
        start = 0
        for parts in _joined([each.parts() for each in blocks]):
            self.tiles.append(_tiles(parts, start, memory))
            start += parts.scale.shape[0]
        last = self.tiles[-1]
        # Rows that fill the last tile come last, and are cut off.
        self.width = last.start + last.data.shape[0] * TILE

    @staticmethod
    def of(blocks: Sequence[Blocks | None], bias: Tensor | None, memory: Memory) -> BlockWeight | None:
        """The rows of several matrices as one; None where one has no blocks, or numba is not here (extra `fast`)."""
        known = [each for each in blocks if each is not None]
        if len(known) < len(blocks) or not _compiled():
            return None
        # Parts of different kinds follow one another; each but the last has to fill its tiles.
        kinds = {each.kind for each in known}
        if len(kinds) > 1 and any(each.shape[0] % TILE for each in known[:-1]):
            return None
        return BlockWeight(known, bias, memory)

    def serves(self, x: Tensor) -> bool:
        """Whether x is a few rows (T, in) in float32, and no gradients are asked for."""
        few = x.dim() == 2 and x.shape[0] <= MOST_ROWS and x.dtype is torch.float32
        return few and not torch.is_grad_enabled() and not torch.compiler.is_compiling()

    def __call__(self, x: Tensor) -> Tensor:
        """(T, in) to (T, out)."""
        from formers.kernels.team import product

        rows, columns = x.shape
        x = x.contiguous()
        out = torch.zeros(rows, self.width)
        if self.bias is not None:
            out[:, : self.rows] = self.bias
        source, target, step = x.data_ptr(), out.data_ptr(), self.width * 4
        for form, width, data, start in self.tiles:
            groups, blocks, size = data.shape
            product(
                form,
                data.data_ptr(),
                size,
                blocks,
                width,
                groups,
                rows,
                source,
                columns * 4,
                target + start * 4,
                step,
            )
        return out if self.width == self.rows else out[:, : self.rows]

    def cut(self, first: int, last: int) -> Tiles | None:
        """The tiles of some rows, None where they do not lie in whole tiles of one kind."""
        for each in self.tiles:
            start, stop = first - each.start, last - each.start
            if 0 <= start < stop <= each.data.shape[0] * TILE:
                whole = not (start % TILE or stop % TILE)
                return each._replace(data=each.data[start // TILE : stop // TILE], start=0) if whole else None
        return None

    def reference(self, x: Tensor) -> Tensor:
        """The same product by torch alone, from the same tiles."""
        return F.linear(x, torch.cat([_dense(tiles) for tiles in self.tiles])[: self.rows], self.bias)


def _compiled() -> bool:
    try:
        import formers.kernels.team
    except (ImportError, RuntimeError):
        # RuntimeError: numba finds no folder for its cache.
        return False
    return formers.kernels.team is not None


def _joined(parts: Sequence[Parts]) -> list[Parts]:
    """Neighbours of one kind as one."""
    joined: list[Parts] = []
    for each in parts:
        if joined and joined[-1][:3] == each[:3] and (joined[-1].minimum is None) == (each.minimum is None):
            last = joined.pop()
            minimum = None
            if last.minimum is not None and each.minimum is not None:
                minimum = torch.cat((last.minimum, each.minimum))
            each = each._replace(
                codes=torch.cat((last.codes, each.codes)), scale=torch.cat((last.scale, each.scale)), minimum=minimum
            )
        joined.append(each)
    return joined


def _tiles(parts: Parts, start: int, memory: Memory) -> Tiles:
    from formers.kernels.products import FORMS, tile_bytes

    form = (parts.bits, parts.width, parts.halves, parts.minimum is not None)
    rows, blocks = parts.scale.shape
    groups = -(-rows // TILE)
    size = tile_bytes(form)
    data = memory.take(groups * blocks * size).view(groups, blocks, size)
    at = 0
    for numbers in (parts.scale, parts.minimum):
        if numbers is not None:
            each = _filled(numbers).view(groups, TILE, blocks).transpose(1, 2)
            stored = each.to(torch.float16 if parts.halves else torch.float32).contiguous().view(torch.uint8)
            data[:, :, at : at + stored.shape[-1]] = stored
            at += stored.shape[-1]
    codes = _filled(parts.codes)
    packed: tuple[Tensor, ...]
    if parts.bits == 4:
        halves = codes.view(groups, 2, TILE // 2, blocks, 16)
        left, right = halves[:, 0], halves[:, 1]
        packed = (left & 15) | (right << 4), (left >> 4) | (right & 240)
    else:
        packed = (codes.view(torch.uint8).view(groups, TILE, blocks, parts.width),)
    for each in packed:
        across = each.permute(0, 2, 3, 1)
        end = at + across.shape[2] * across.shape[3]
        data[:, :, at:end].view(*across.shape).copy_(across)
        at = end
    return Tiles(FORMS.index(form), parts.width, data, start)


def _filled(tensor: Tensor) -> Tensor:
    """With rows of zeros up to a whole tile, contiguous."""
    missing = -len(tensor) % TILE
    if missing:
        tensor = torch.cat((tensor, tensor.new_zeros(missing, *tensor.shape[1:])))
    return tensor.contiguous()


def _dense(tiles: Tiles) -> Tensor:
    """The weights of tiles, (groups * 32, in)."""
    from formers.kernels.products import FORMS

    bits, width, halves, minimum = FORMS[tiles.form]
    groups, blocks, _ = tiles.data.shape
    size = TILE * (2 if halves else 4)

    def numbers(start: int) -> Tensor:
        each = tiles.data[:, :, start : start + size].contiguous()
        return each.view(torch.float16 if halves else torch.float32).float()[:, :, None]

    codes = tiles.data[:, :, size * (2 if minimum else 1) :]
    if bits == 4:
        codes = codes.reshape(groups, blocks, width, TILE // 2)
        weights = torch.cat((codes & 15, codes >> 4), dim=-1).float()
    else:
        weights = codes.contiguous().view(torch.int8).view(groups, blocks, width, TILE).float()
    weights = weights * numbers(0)
    if minimum:
        weights = weights + numbers(size)
    return weights.permute(0, 3, 1, 2).reshape(groups * TILE, blocks * width)
