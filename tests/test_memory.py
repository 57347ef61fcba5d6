"""Freed memory is kept for the next tensors."""

from __future__ import annotations

import resource
import sys

import pytest
import torch

from formers.memory import keep_freed_memory


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_large_blocks_are_used_again() -> None:
    keep_freed_memory()
    for _ in range(20):  # the heap grows first
        torch.zeros(4_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.zeros(4_000_000)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    assert faults < 2000  # 16 MB are 3,906 pages each time
