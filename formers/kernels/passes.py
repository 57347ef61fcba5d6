"""The kernels of `training` and `attention` on tensors: float32, on a CPU, each in one piece of memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from formers.kernels import attention, training
from formers.kernels.team import together


@dataclass(frozen=True)
class Drop:
    """What dropout drops: a value where its 32 random bits, of a seed and its place, are below `limit`."""

    limit: int = 0
    seed: int = 0
    scale: float = 1.0

    @staticmethod
    def of(probability: float) -> Drop:
        """One for a probability, its seed from torch's generator."""
        limit = round(probability * 2**32)
        if limit <= 0:
            return Drop()
        seed = int(torch.empty((), dtype=torch.int64).random_(-(2**63), None))
        return Drop(min(limit, 2**32 - 1), seed, 1 / (1 - probability) if probability < 1 else 0.0)


@dataclass(frozen=True)
class Places:
    """Where sequences lie: (sequences, 4), the first query of each and their number, the first key and theirs."""

    table: Tensor

    @staticmethod
    def of(runs: Sequence[tuple[int, int, int]], first_only: bool) -> Places:
        """Those of runs (start, batch, length); with `first_only`, each sequence asks for its first token alone."""
        starts = [start + row * length for start, batch, length in runs for row in range(batch)]
        lengths = [length for _, batch, length in runs for _ in range(batch)]
        asked = [(row, 1) for row in range(len(starts))] if first_only else list(zip(starts, lengths, strict=True))
        rows = [(*each, start, length) for each, start, length in zip(asked, starts, lengths, strict=True)]
        # The longest first: they are what the threads would wait for at the end.
        return Places(torch.tensor(sorted(rows, key=lambda row: -row[3]), dtype=torch.int64))


def gelu(x: Tensor, bias: Tensor) -> Tensor:
    """The exact GELU of x (T, F) + bias (F)."""
    out = torch.empty_like(x)
    _run(training.gelu_body, _portions(x), len(x), x.shape[1], x, bias, out)
    return out


def gelu_back(grad: Tensor, x: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of x and bias."""
    out = torch.empty_like(x)
    totals = x.new_empty(_portions(x), x.shape[1])
    _run(training.gelu_back_body, _portions(x), len(x), x.shape[1], grad, x, bias, out, totals)
    return out, totals.sum(0)


def norm(x: Tensor, residual: Tensor, parameters: Tensor, drop: Drop, eps: float) -> tuple[Tensor, Tensor]:
    """Layer norm of dropout(x + bias) + residual, and each row's mean and 1 / deviation (T, 2).

    `parameters` (3, W): the bias, and weight and bias of the norm. x becomes what was normalised.
    """
    out, statistics = torch.empty_like(x), x.new_empty(len(x), 2)
    numbers = np.array([drop.scale, eps], np.float32)
    given = (x, residual, parameters, out, statistics)
    _run(training.norm_body, _portions(x), len(x), x.shape[1], drop.limit, drop.seed, numbers, *given)
    return out, statistics


def norm_back(
    grad: Tensor, summed: Tensor, parameters: Tensor, statistics: Tensor, drop: Drop
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of residual, of x, and of the parameters (3, W)."""
    to_sum = torch.empty_like(grad)
    to_x = torch.empty_like(grad) if drop.limit else to_sum
    totals = grad.new_empty(_portions(grad), *parameters.shape)
    numbers = np.array([drop.scale, 0.0], np.float32)
    given = (grad, summed, parameters, statistics, to_sum, to_x, totals)
    _run(training.norm_back_body, _portions(grad), len(grad), grad.shape[1], drop.limit, drop.seed, numbers, *given)
    return to_sum, to_x, totals.sum(0)


def attend(
    query: Tensor, key: Tensor, value: Tensor, biases: Tensor, places: Places, drop: Drop, scale: float, heads: int
) -> tuple[Tensor, Tensor]:
    """Attention of queries (Q, W) to keys and values (T, W), and the logarithms of its sums (Q, heads).

    Rows of keys and values have the same distance. `biases` (3, W) are added to queries, keys and values.
    """
    out, logs = torch.empty(query.shape), torch.empty(len(query), heads)
    _run(attention.attend_body, *_attention(query, key, value, biases, places, drop, scale, heads), out, logs)
    return out, logs


def attend_back(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    biases: Tensor,
    places: Places,
    drop: Drop,
    scale: float,
    heads: int,
    logs: Tensor,
    gradients: tuple[Tensor, Tensor, Tensor],
) -> Tensor:
    """Fill the gradients of query, key and value, of their strides; those of the biases (3, W) come back."""
    totals = torch.empty(len(places.table), *biases.shape)
    given = _attention(query, key, value, biases, places, drop, scale, heads)
    _run(attention.attend_back_body, *given, grad, logs, *gradients, totals)
    return totals.sum(0)


def _attention(
    query: Tensor, key: Tensor, value: Tensor, biases: Tensor, places: Places, drop: Drop, scale: float, heads: int
) -> tuple[Any, ...]:
    numbers = np.array([scale, drop.scale], np.float32)
    width = query.shape[1] // heads
    steps = query.stride(0) * 4, key.stride(0) * 4
    portions = len(places.table) * heads
    rows = (places.table, query, steps[0], key, value, steps[1], biases[0], biases[1], biases[2])
    return (portions, heads, width, drop.limit, drop.seed, numbers, *rows)


def _portions(x: Tensor) -> int:
    return -(-len(x) // training.ROWS)


def _run(body: Any, portions: int, *arguments: Any) -> None:
    """Let torch's threads run the portions of a job: numbers, and addresses of what is a tensor or an array."""
    words = [each if isinstance(each, int) else _address(each) for each in arguments]
    together(body, np.array([0, 0, portions, *words], np.int64), min(portions, torch.get_num_threads()))


def _address(values: Any) -> int:
    return int(values.data_ptr() if isinstance(values, Tensor) else values.ctypes.data)
