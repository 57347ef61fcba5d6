"""Compiled products on torch's own threads.

A second set of threads would fight with torch's, which go on spinning for some milliseconds after each operation. So
the work is handed to the OpenMP library that torch came with, by the call that compilers make for `#pragma omp
parallel`. The threads take portions of the rows until none is left. Calls from several Python threads are as safe as
torch's.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from pathlib import Path

import torch

from formers.kernels.products import groups_product, portions_body, shared_product

# Portions a thread: enough for a thread that starts late to find less.
_PORTIONS = 8


@lru_cache(maxsize=1)
def _parallel() -> int:
    """The address of GOMP_parallel in the OpenMP library that torch uses; 0 if it is not known here."""
    package = Path(torch.__file__).parent
    for folder in (package / "lib", package.with_name("torch.libs")):
        for path in (*folder.glob("libgomp*"), *folder.glob("libiomp5*"), *folder.glob("libomp*")):
            try:
                function = ctypes.CDLL(str(path)).GOMP_parallel
            except (OSError, AttributeError):
                continue
            return ctypes.cast(function, ctypes.c_void_p).value or 0
    return 0


def product(
    form: int,
    tiles: int,
    size: int,
    blocks: int,
    columns: int,
    groups: int,
    rows: int,
    x: int,
    x_step: int,
    y: int,
    y_step: int,
) -> None:
    """As `groups_product`, of all groups, by as many threads as torch uses."""
    threads, parallel, body = torch.get_num_threads(), _parallel(), portions_body.address
    if threads == 1 or not parallel or not body or groups < 2 * threads:
        groups_product(form, tiles, size, blocks, columns, 0, groups, rows, x, x_step, y, y_step)
        return
    portion = -(-groups // (_PORTIONS * threads))
    shared_product(
        parallel,
        body,
        threads,
        portion,
        form,
        tiles,
        size,
        blocks,
        columns,
        groups,
        rows,
        x,
        x_step,
        y,
        y_step,
    )
