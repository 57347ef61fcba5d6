"""The process's memory on a CPU: what is freed is used again."""

from __future__ import annotations

import ctypes
import sys
from functools import lru_cache

# glibc's names (malloc.h): freed memory at the end of the heap is given back beyond the first, and blocks beyond the
# second are asked of the system and given back each by itself.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_TRIM, _MMAP = 2**31 - 1, 2**30


@lru_cache(maxsize=1)
def keep_freed_memory() -> None:
    """Let the C library keep what tensors free, for the next ones; where it is glibc. Once is enough.

    By default it hands large blocks back to the system, and every page of the next one costs a fault: for a tensor of
    some megabytes that takes longer than to fill it. The peak of memory stays what it is.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _TRIM)
        mallopt(_M_MMAP_THRESHOLD, _MMAP)
