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
from typing import Any, NamedTuple

import torch

from formers.kernels.products import groups_product, portions_body, shared_product

# Portions a thread: enough for a thread that starts late to find less.
_PORTIONS = 8


class Library(NamedTuple):
    """Addresses of functions of the OpenMP library that torch uses; 0 if they are not known here."""

    parallel: int = 0
    barrier: int = 0
    thread: int = 0
    threads: int = 0


@lru_cache(maxsize=1)
def library() -> Library:
    """GOMP_parallel, GOMP_barrier, omp_get_thread_num and omp_get_num_threads."""
    package = Path(torch.__file__).parent
    for folder in (package / "lib", package.with_name("torch.libs")):
        for path in (*folder.glob("libgomp*"), *folder.glob("libiomp5*"), *folder.glob("libomp*")):
            try:
                loaded = ctypes.CDLL(str(path))
                names = ("GOMP_parallel", "GOMP_barrier", "omp_get_thread_num", "omp_get_num_threads")
                functions = [ctypes.cast(getattr(loaded, name), ctypes.c_void_p).value or 0 for name in names]
            except (OSError, AttributeError):
                continue
            return Library(*functions)
    return Library()


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
    threads, parallel, body = torch.get_num_threads(), library().parallel, portions_body.address
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


def together(body: Any, job: Any, threads: int) -> None:
    """Every thread calls `body`, a compiled function of a job's address, and may wait for the others inside.

    `job` is an array of 64-bit integers. Word 1 is set to the address of what waits (0: there is nobody to wait for).
    """
    openmp = library()
    if threads > 1 and openmp.parallel:
        job[1] = openmp.barrier
        _PARALLEL(openmp.parallel)(body.address, job.ctypes.data, threads, 0)
    else:
        job[1] = 0
        body.ctypes(job.ctypes.data)


_PARALLEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
