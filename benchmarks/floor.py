"""The floor: what the machine's arithmetic and memory allow, measured beside the contenders."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmarks.timing import timed

TOKENS = 4096  # in one product: large enough to be bound by arithmetic alone
TRIES = 5


def matmul_rate(width: int, inner: int) -> float:
    """fp32 operations a second (a multiplication and an addition are two) in a block's matrix products.

    The shapes: four products width × width, one width × inner, one inner × width, each over `TOKENS` rows.
    """
    shapes = ((width, width, 4), (width, inner, 1), (inner, width, 1))
    operations = seconds = 0.0
    for rows, columns, count in shapes:
        left, right = torch.rand(TOKENS, rows), torch.rand(rows, columns)
        out = torch.empty(TOKENS, columns)
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
    width, inner = config["hidden_size"], config["intermediate_size"]
    weights: int = config["num_hidden_layers"] * (4 * width * width + 2 * width * inner)
    return max(2 * weights * sum(lengths) / matmul_rate(width, inner), 4 * weights / read_bandwidth())


def _fastest(call: Callable[[], object]) -> float:
    call()
    return min(timed(call)[0] for _ in range(TRIES))
