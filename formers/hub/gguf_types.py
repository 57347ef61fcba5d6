"""The types of tensors in GGUF files, and their values as float32.

The layouts are those of ggml-quants.c. Types of most models in use are unpacked here with torch, in the order of the
reference's operations, so that values are the same to the bit; the others by the package `gguf`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from formers.errors import MissingDependencyError, UnsupportedError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Type: name, elements of a block, bytes of a block.
TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
}
_PLAIN = {
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F64": "float64",
    "I8": "int8",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
}
# Elements unpacked at a time: what lies between stays in the processor's cache, and torch does not share out such small
# pieces among threads, which would wait for one another at every step.
_CHUNK = 30_720


def dtype_of(kind: int) -> torch.dtype:
    """The torch type that tensors of a ggml type are read as: their own, float32 for quantized ones."""
    import torch

    dtype: torch.dtype = getattr(torch, _PLAIN.get(TYPES[kind][0], "float32"))
    return dtype


def dequantize(data: Tensor, kind: int, shape: tuple[int, ...], what: str) -> Tensor:
    """The values of bytes of a ggml type. Types that torch has are not copied. `what` names the tensor in errors."""
    import torch

    name, elements, width = TYPES[kind]
    if name in _PLAIN:
        dtype = dtype_of(kind)
        aligned = data.data_ptr() % dtype.itemsize == 0
        return (data if aligned else data.clone()).view(dtype).view(shape)
    blocks = data.view(-1, width)
    unpack = _UNPACK.get(name)
    if unpack is None:
        return _by_package(blocks, kind, what).view(shape)
    values = torch.empty(len(blocks), elements)
    step = _CHUNK // elements
    for start in range(0, len(blocks), step):
        unpack(blocks[start : start + step], values[start : start + step])
    return values.view(shape)


def _by_package(blocks: Tensor, kind: int, what: str) -> Tensor:
    import torch

    try:
        from gguf.constants import GGMLQuantizationType
        from gguf.quants import dequantize as unpack
    except ImportError as error:
        raise MissingDependencyError.for_extra("gguf", "gguf") from error
    try:
        return torch.from_numpy(unpack(blocks.numpy(), GGMLQuantizationType(kind)))
    except (NotImplementedError, ValueError) as error:
        raise UnsupportedError(
            f"The tensor {what} is of the type {TYPES[kind][0]}, which the package gguf does not unpack.",
            "Use another quantization of the model, or update gguf.",
        ) from error


def halves(blocks: Tensor, start: int) -> Tensor:
    """The float16 at a byte of every block, as float32 (blocks, 1)."""
    import torch

    return blocks[:, start : start + 2].contiguous().view(torch.float16).float()


def nibbles(data: Tensor, out: Tensor) -> None:
    """The low nibbles of bytes (…, n), then the high ones: (…, 2 n)."""
    half = data.shape[-1]
    out[..., :half] = data & 15
    out[..., half:] = data >> 4


def _q4_0(blocks: Tensor, out: Tensor) -> None:
    nibbles(blocks[:, 2:], out)
    out.sub_(8).mul_(halves(blocks, 0))


def _q4_1(blocks: Tensor, out: Tensor) -> None:
    nibbles(blocks[:, 4:], out)
    out.mul_(halves(blocks, 0)).add_(halves(blocks, 2))


def fifth_bits(data: Tensor) -> Tensor:
    """The bits of 4 bytes as 16 or 0: (blocks, 32)."""
    import torch

    bits = (data[:, :, None] >> torch.arange(8, dtype=torch.uint8)) & 1
    return bits.view(len(data), 32) << 4


def _q5_0(blocks: Tensor, out: Tensor) -> None:
    nibbles(blocks[:, 6:], out)
    out.add_(fifth_bits(blocks[:, 2:6])).sub_(16).mul_(halves(blocks, 0))


def _q5_1(blocks: Tensor, out: Tensor) -> None:
    nibbles(blocks[:, 8:], out)
    out.add_(fifth_bits(blocks[:, 4:8])).mul_(halves(blocks, 0)).add_(halves(blocks, 2))


def _q8_0(blocks: Tensor, out: Tensor) -> None:
    import torch

    out.copy_(blocks.view(torch.int8)[:, 2:])
    out.mul_(halves(blocks, 0))


def scales(data: Tensor) -> tuple[Tensor, Tensor]:
    """The 6-bit scales and minima of 8 sub-blocks, packed in 12 bytes."""
    import torch

    low, minimum, mixed = data[:, :4], data[:, 4:8], data[:, 8:]
    scale = torch.cat([low & 63, (mixed & 15) | ((low >> 2) & 48)], 1)
    return scale, torch.cat([minimum & 63, (mixed >> 4) | ((minimum >> 2) & 48)], 1)


def _scaled(blocks: Tensor, out: Tensor) -> None:
    """d·scale·q − dmin·minimum of 8 sub-blocks of 32."""
    scale, minimum = scales(blocks[:, 4:16])
    out = out.view(-1, 8, 32)
    out.mul_((halves(blocks, 0) * scale)[:, :, None]).sub_((halves(blocks, 2) * minimum)[:, :, None])


def _q4_k(blocks: Tensor, out: Tensor) -> None:
    nibbles(blocks[:, 16:].reshape(-1, 4, 32), out.view(-1, 4, 64))
    _scaled(blocks, out)


def _q5_k(blocks: Tensor, out: Tensor) -> None:
    nibbles(blocks[:, 48:].reshape(-1, 4, 32), out.view(-1, 4, 64))
    high, parts = blocks[:, 16:48], out.view(-1, 8, 32)
    for bit in range(8):
        parts[:, bit] += ((high >> bit) & 1) << 4
    _scaled(blocks, out)


def sixth_bits(blocks: Tensor, out: Tensor) -> None:
    """The 6-bit integers (blocks, 256) of Q6_K, from 0 on."""
    nibbles(blocks[:, :128].reshape(-1, 2, 64), out.view(-1, 2, 128))
    high, parts = blocks[:, 128:192].reshape(-1, 2, 32), out.view(-1, 2, 4, 32)
    for pair in range(4):
        parts[:, :, pair] += ((high >> (2 * pair)) & 3) << 4


def _q6_k(blocks: Tensor, out: Tensor) -> None:
    import torch

    sixth_bits(blocks, out)
    scale = blocks.view(torch.int8)[:, 192:208]
    out.view(-1, 16, 16).sub_(32).mul_((halves(blocks, 208) * scale)[:, :, None])


_UNPACK: dict[str, Callable[[Tensor, Tensor], None]] = {
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q8_0": _q8_0,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
}
