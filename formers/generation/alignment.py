"""When each token of a transcript was spoken: cross-attention read along its cheapest path (dynamic time warping)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F


def token_times(
    attentions: Sequence[Tensor],
    heads: Sequence[Sequence[int]],
    prompt: int,
    states: int | None,
    width: int,
    seconds: float,
) -> list[float]:
    """The times in seconds of `prompt` tokens, which are 0, and of those after them.

    attentions: (1, heads, T, S) a layer, of all tokens but the last. heads: the (layer, head) pairs that align.
    states: how many of the encoder's states are sound; None for all. width: of the median filter. seconds: of a state.
    """
    weights = torch.stack([attentions[layer][0, head] for layer, head in heads])[:, prompt:, :states].float()
    if weights.shape[1] == 0 or weights.shape[2] == 0:
        return [0.0] * (prompt + weights.shape[1] + 1)
    deviation, mean = torch.std_mean(weights, dim=-2, keepdim=True, correction=0)
    weights = median((weights - mean) / deviation, width).mean(0)
    tokens, places = cheapest_path(-weights.double().numpy())
    jumps = np.diff(tokens, prepend=-1) > 0
    times: list[float] = torch.from_numpy(places[jumps] * seconds).float().tolist()
    return [0.0] * prompt + times + times[-1:]


def median(values: Tensor, width: int) -> Tensor:
    """The running median along the last dimension (…, S); ends are mirrored."""
    reach = width // 2
    if values.shape[-1] <= reach:
        return values
    return F.pad(values, (reach, reach), mode="reflect").unfold(-1, width, 1).median(-1).values


def cheapest_path(costs: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The rows and columns of the cheapest way through costs (T, S) by steps down, right, or both.

    Computed one diagonal after another: each depends on the two before it alone.
    """
    rows, columns = costs.shape
    total = np.full((rows + 1, columns + 1), np.inf, dtype=np.float32)
    total[0, 0] = 0
    step = np.zeros((rows + 1, columns + 1), dtype=np.int8)
    step[0, :], step[:, 0] = 2, 1
    for diagonal in range(2, rows + columns + 1):
        i = np.arange(max(1, diagonal - columns), min(rows, diagonal - 1) + 1)
        j = diagonal - i
        both, down, right = total[i - 1, j - 1], total[i - 1, j], total[i, j - 1]
        taken = np.where((both < down) & (both < right), 0, np.where((down < both) & (down < right), 1, 2))
        step[i, j] = taken
        total[i, j] = costs[i - 1, j - 1] + np.choose(taken, (both, down, right))
    i, j, path = rows, columns, []
    while i > 0 or j > 0:
        path.append((i - 1, j - 1))
        move = step[i, j]
        i, j = i - (move != 2), j - (move != 1)
    way = np.array(path[::-1])
    return way[:, 0], way[:, 1]
