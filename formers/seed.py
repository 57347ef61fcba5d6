"""One call that seeds every source of random numbers."""

from __future__ import annotations

import random


def set_seed(seed: int, deterministic: bool = False) -> None:
    """Seed Python, numpy and torch; `deterministic=True` also asks torch for deterministic algorithms."""
    import numpy
    import torch

    random.seed(seed)
    numpy.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    if deterministic:
        torch.use_deterministic_algorithms(True)
