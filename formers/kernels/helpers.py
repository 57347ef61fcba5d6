"""Threads that share a product's groups of rows with the thread that asks for it.

torch's own threads cannot run compiled Python. A call hands out its groups in portions by one shared word; helpers
look at that word while they are awake, so a portion changes hands in a fraction of a microsecond. The caller takes
portions like everyone else: a helper that sleeps makes a call slower but never wrong. After some idle milliseconds a
helper goes to sleep.
"""

from __future__ import annotations

import os
import threading
from functools import lru_cache

import numpy as np
from numba import njit

from formers.kernels import atomic
from formers.kernels.products import groups_product

# Words of the board, each in a cache line of its own where threads write at the same time.
_OPEN, _DONE, _AWAKE, _CALL = 0, 8, 16, 24
_WORDS = 48
# The word of open portions: how many there are below, the number of the call above, so that no two calls are confused.
_COUNT_BITS = 20
_COUNT = (1 << _COUNT_BITS) - 1
# Looks at an empty board before a helper goes to sleep: some milliseconds, more than lies between a model's products.
_PATIENCE = 60_000


@njit(nogil=True, cache=True)
def _work(board: int) -> int:
    """Take open portions and compute them until there is none; how many there were."""
    taken = 0
    while True:
        word = atomic.load(board + _OPEN * 8)
        portion = (word & _COUNT) - 1
        if portion < 0:
            return taken
        if not atomic.replace(board + _OPEN * 8, word, word - 1):
            continue
        # The call cannot end before this portion does, so its arguments stay as they are.
        call = board + _CALL * 8
        groups, size = atomic.load(call + 40), atomic.load(call + 48)
        first = portion * size
        groups_product(
            atomic.load(call),
            atomic.load(call + 8),
            atomic.load(call + 16),
            atomic.load(call + 24),
            atomic.load(call + 32),
            first,
            min(first + size, groups),
            atomic.load(call + 56),
            atomic.load(call + 64),
            atomic.load(call + 72),
            atomic.load(call + 80),
            atomic.load(call + 88),
        )
        atomic.add(board + _DONE * 8, 1)
        taken += 1


@njit(nogil=True, cache=True)
def _help(board: int, patience: int) -> None:
    """Work, and wait for work, until there has been none for a while."""
    atomic.add(board + _AWAKE * 8, 1)
    idle = 0
    while True:
        if _work(board):
            idle = 0
        idle += 1
        if idle < patience:
            atomic.pause()
            continue
        atomic.add(board + _AWAKE * 8, -1)
        if not atomic.load(board + _OPEN * 8) & _COUNT:
            return
        atomic.add(board + _AWAKE * 8, 1)
        idle = 0


@njit(nogil=True, cache=True)
def _share(
    board: int,
    portions: int,
    form: int,
    tiles: int,
    size: int,
    blocks: int,
    columns: int,
    groups: int,
    portion: int,
    rows: int,
    x: int,
    x_step: int,
    y: int,
    y_step: int,
) -> None:
    """One call: put it on the board, work, and wait for what the helpers have taken."""
    call = board + _CALL * 8
    atomic.store(call, form)
    atomic.store(call + 8, tiles)
    atomic.store(call + 16, size)
    atomic.store(call + 24, blocks)
    atomic.store(call + 32, columns)
    atomic.store(call + 40, groups)
    atomic.store(call + 48, portion)
    atomic.store(call + 56, rows)
    atomic.store(call + 64, x)
    atomic.store(call + 72, x_step)
    atomic.store(call + 80, y)
    atomic.store(call + 88, y_step)
    atomic.store(board + _DONE * 8, 0)
    number = (atomic.load(board + _OPEN * 8) >> _COUNT_BITS) + 1
    atomic.store(board + _OPEN * 8, ((number & 0x3FFFFFFFFFF) << _COUNT_BITS) | portions)
    _work(board)
    while atomic.load(board + _DONE * 8) < portions:
        atomic.pause()


class Helpers:
    """One thread less than `threads`, for calls from any thread; a call that finds them busy does without."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        memory = np.zeros(_WORDS + 8, dtype=np.int64)
        start = -memory.ctypes.data % 64 // 8
        self._words = memory[start : start + _WORDS]
        self._board: int = self._words.ctypes.data
        self._busy = threading.Lock()
        self._wake = [threading.Event() for _ in range(threads - 1)]
        for event in self._wake:
            threading.Thread(target=self._run, args=(event,), name="formers-helper", daemon=True).start()

    def product(
        self,
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
        """As `groups_product`, of all groups."""
        if groups < 2 * self.threads or not self._busy.acquire(blocking=False):
            groups_product(form, tiles, size, blocks, columns, 0, groups, rows, x, x_step, y, y_step)
            return
        try:
            if self._words[_AWAKE] < len(self._wake):
                for event in self._wake:
                    event.set()
            portion = -(-groups // (8 * self.threads))
            portions = -(-groups // portion)
            _share(
                self._board,
                portions,
                form,
                tiles,
                size,
                blocks,
                columns,
                groups,
                portion,
                rows,
                x,
                x_step,
                y,
                y_step,
            )
        finally:
            self._busy.release()

    def _run(self, event: threading.Event) -> None:
        while True:
            event.wait()
            event.clear()
            _help(self._board, _PATIENCE)


@lru_cache(maxsize=1)
def helpers(process: int, threads: int) -> Helpers:
    """The helpers of a process; a forked one has threads of its own."""
    return Helpers(threads)


def here(threads: int) -> Helpers:
    """The helpers of this process, for products by `threads` threads in all."""
    return helpers(os.getpid(), threads)
