"""Dropout (Srivastava et al., 2014)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def dropout(x: Tensor, probability: float, training: bool = True) -> Tensor:
    """Zero each value with a probability and scale the rest up, in training; x of any shape.

    On a CPU one random number of 64 bits decides for four values, where torch draws one for each: the probability is
    rounded to a multiple of 2^-16, and the rest scaled by what it is then.
    """
    if not training or not probability:
        return x
    dropped = round(probability * 65536)
    if x.device.type != "cpu" or not 0 < dropped < 65536:
        return F.dropout(x, probability)
    count = x.numel()
    bits = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    kept = bits.view(torch.int16)[:count].view(x.shape) >= dropped - 32768
    return x * kept.to(x.dtype).mul_(65536 / (65536 - dropped))
