"""Matrices to blocks of 32 integers: those of Q8_0 (8 bits, a scale) and Q4_1 (4 bits, a scale and a minimum).

The layouts are those of ggml-quants.c, as in `gguf_types`, which reads them back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from formers.errors import InputError
from formers.hub.gguf_blocks import Blocks

if TYPE_CHECKING:
    from torch import Tensor

GROUP = 32
KINDS = {8: 8, 4: 3}  # ggml's types, by bits
_LARGEST = 65504.0  # of 16-bit floats
# How much of the range from the least to the largest weight the 16 steps of 4 bits span.
_SPANS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7)
# Groups at a time: what lies between stays in the processor's cache.
_CHUNK = 2048


def to_blocks(matrix: Tensor, bits: int, what: str) -> Blocks:
    """A matrix (rows, columns) of floats in blocks of 8 or 4 bits, columns a multiple of 32. `what` names it in errors.

    8 bits: an error is at most half a step, the largest magnitude of a block / 254, and what 16 bits do to the scale.
    4 bits: of several scales and minima, each fitted to its integers by least squares, the pair with the least error.
    """
    import torch

    rows, columns = matrix.shape
    groups = matrix.detach().reshape(-1, GROUP)
    encode, size = (_eights, 34) if bits == 8 else (_fours, 20)
    data = torch.empty(len(groups), size, dtype=torch.uint8)
    for start in range(0, len(groups), _CHUNK):
        chunk = groups[start : start + _CHUNK].float()
        if not bool((chunk.abs() < _LARGEST).all()):
            raise InputError(
                f"{what} holds values that are not finite, or beyond {_LARGEST:g}.", "Load the model without quantize=."
            )
        data[start : start + _CHUNK] = encode(chunk)
    return Blocks(KINDS[bits], data.view(rows, columns // GROUP * size))


def _eights(groups: Tensor) -> Tensor:
    import torch

    scale = (groups.abs().amax(1, keepdim=True) / 127).half()
    step = scale.float()
    codes = torch.where(step > 0, groups / step, 0.0).round_().clamp_(-127, 127).to(torch.int8)
    return torch.cat((scale.view(torch.uint8), codes.view(torch.uint8)), 1)


def _fours(groups: Tensor) -> Tensor:
    import torch

    low, high = groups.aminmax(dim=1, keepdim=True)
    middle, spread = (low + high) / 2, high - low
    best: tuple[Tensor, ...] | None = None
    for span in _SPANS:
        scale, minimum = _fitted(groups, _codes(groups, spread * (span / 15), middle - spread * (span / 2)))
        codes = _codes(groups, scale.float(), minimum.float())
        error = (codes * scale.float() + minimum.float() - groups).square_().sum(1, keepdim=True)
        found = (error, codes, scale, minimum)
        better = None if best is None else error < best[0]
        best = found if better is None or best is None else _chosen(better, found, best)
    assert best is not None
    _, codes, scale, minimum = best
    bytes_ = codes.to(torch.uint8)
    nibbles = bytes_[:, : GROUP // 2] | (bytes_[:, GROUP // 2 :] << 4)
    return torch.cat((scale.view(torch.uint8), minimum.view(torch.uint8), nibbles), 1)


def _chosen(better: Tensor, found: tuple[Tensor, ...], best: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    import torch

    return tuple(torch.where(better, new, old) for new, old in zip(found, best, strict=True))


def _codes(groups: Tensor, scale: Tensor, minimum: Tensor) -> Tensor:
    """The integers nearest to the weights, as floats."""
    import torch

    return torch.where(scale > 0, (groups - minimum) / scale, 0.0).round_().clamp_(0, 15)


def _fitted(groups: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """The scale and minimum in 16 bits with which the integers come nearest to the weights."""
    import torch

    mean, centre = groups.mean(1, keepdim=True), codes.mean(1, keepdim=True)
    apart = codes - centre
    variance = apart.square().sum(1, keepdim=True)
    scale = torch.where(variance > 0, (apart * groups).sum(1, keepdim=True) / variance, 0.0).half()
    return scale, (mean - scale.float() * centre).half()
