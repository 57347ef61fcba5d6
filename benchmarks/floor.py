"""The floor: what the machine's arithmetic and memory allow, measured beside the contenders."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import timed

TOKENS = 4096  # in one product: large enough to be bound by arithmetic alone
TRIES = 5


# Inputs, outputs and number of a layer's matrices of one size.
Shapes = Sequence[tuple[int, int, int]]


def encoder_shapes(config: Mapping[str, Any]) -> Shapes:
    """The matrices of a BERT layer: four of attention, two of the feed-forward."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    return ((width, width, 4), (width, inner, 1), (inner, width, 1))


def decoder_shapes(config: Mapping[str, Any]) -> Shapes:
    """The matrices of a Llama layer: four of attention, two of them for fewer heads, three of a gated feed-forward."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    keys = width // config["num_attention_heads"] * config["num_key_value_heads"]
    return ((width, width, 2), (width, keys, 2), (width, inner, 2), (inner, width, 1))


def weights(shapes: Shapes) -> int:
    """How many numbers the matrices hold."""
    return sum(rows * columns * count for rows, columns, count in shapes)


def matmul_rate(shapes: Shapes, dtype: torch.dtype = torch.float32) -> float:
    """Operations a second (a multiplication and an addition are two) in a layer's products, each over `TOKENS` rows.

    Of float32, or of int8 with sums of 32 bits, as torch alone computes them.
    """
    operations = seconds = 0.0
    for rows, columns, count in shapes:
        if dtype is torch.int8:
            codes, other = (torch.randint(-127, 128, size, dtype=dtype) for size in ((TOKENS, rows), (columns, rows)))
            seconds += count * _fastest(lambda: torch._int_mm(codes, other.t()))  # noqa: B023
        else:
            left, right, out = torch.rand(TOKENS, rows), torch.rand(rows, columns), torch.empty(TOKENS, columns)
            seconds += count * _fastest(lambda: torch.mm(left, right, out=out))  # noqa: B023
        operations += count * 2 * TOKENS * rows * columns
    return operations / seconds


def read_bandwidth(size: int = 1 << 28) -> float:
    """Bytes a second in a sum over `size` bytes, many times the size of the caches."""
    values = torch.ones(size // 4)
    return size / _fastest(lambda: values.sum())


def encoder_seconds(model: Path, lengths: Sequence[int]) -> float:
    """The least seconds for an encoder's forward over texts of these lengths in tokens, without padding.

    Its matrix products at the measured rate, or reading its weights once, whichever is more. Attention's own products,
    norms and activations are left out: a floor, not an estimate.
    """
    config = json.loads((model / "config.json").read_text())
    shapes = encoder_shapes(config)
    held = config["num_hidden_layers"] * weights(shapes)
    return max(2 * held * sum(lengths) / matmul_rate(shapes), 4 * held / read_bandwidth())


def decoder_seconds(config: Mapping[str, Any], size: int, tokens: int) -> float:
    """The least seconds for `tokens` tokens in one pass of a decoder whose weights take `size` bytes.

    As `encoder_seconds`; products are of float32, whatever the weights are stored as.
    """
    shapes = decoder_shapes(config)
    held = config["num_hidden_layers"] * weights(shapes)
    return max(2 * held * tokens / matmul_rate(shapes), size / read_bandwidth())


def _fastest(call: Callable[[], object]) -> float:
    call()
    return min(timed(call)[0] for _ in range(TRIES))
