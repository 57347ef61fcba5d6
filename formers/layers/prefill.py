"""Prompts through all blocks of a decoder as one compiled call (`formers.kernels.prefill`), from a program's tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Tables(NamedTuple):
    """What `formers.kernels.decode` describes, as numpy arrays: the model, its layers, this call's states, numbers."""

    model: Any
    layers: Any
    states: Any
    numbers: Any


def prefill(x: Tensor, tables: Tables, lengths: Sequence[int]) -> Tensor:
    """(T, W) to (T, W): sequences of these lengths, end to end, whose tokens see nothing before their own sequence."""
    import numpy

    from formers.kernels.prefill import PANELS, STAGES, Job, prefill_body
    from formers.kernels.rows import ASKING
    from formers.kernels.team import together
    from formers.kernels.tiles import COLUMNS, ROW, tile

    width, heads, key_heads, head_dim, layers, joint, ff = (int(number) for number in tables.model)
    tokens, threads = len(x), torch.get_num_threads()
    # Rows past the last one are computed along.
    line = (tokens + 2) * ROW
    lengths = [length for length in lengths if length]
    panels = sum(-(-length // COLUMNS) for length in lengths)
    own = {
        Job.PANEL: PANELS * max(width, heads * head_dim, ff) * ROW,
        Job.BLOCK: PANELS * line,
        Job.SCORES: -(-max(lengths) // COLUMNS) * (ASKING + 2) * ROW,
        Job.ANSWER: head_dim // COLUMNS * (ASKING + 2) * ROW,
    }
    shared = {
        Job.RESIDUAL: width // COLUMNS * line,
        Job.NORMED: width // COLUMNS * line,
        Job.JOINT: joint // COLUMNS * line,
        Job.MIXED: heads * head_dim // COLUMNS * line,
        Job.BETWEEN: ff // COLUMNS * line,
        Job.TURNED: key_heads * panels * head_dim * ROW,
        Job.ZEROS: width * 4,
        Job.PRIVATE: threads * sum(own.values()),
    }
    # Memory that was never used holds zeros, which cost nothing.
    memory = torch.from_numpy(numpy.zeros(sum(shared.values()) // 4 + 16, dtype=numpy.float32))
    words, place = [0] * Job.WORDS, memory.data_ptr() + 63 & -64
    for name, size in shared.items():
        words[name] = place
        place += size
    place = 0
    for name, size in own.items():
        words[name] = place
        place += size
    counters = numpy.zeros(layers * STAGES * 8 + 8, dtype=numpy.int64)
    words[Job.PRIVATE_STEP], words[Job.TURNED_STEP] = place, panels * head_dim * ROW
    words[Job.TOKENS], words[Job.SEQUENCES] = tokens, len(lengths)
    words[Job.CHUNKS] = sum(-(-length // ASKING) for length in lengths)
    words[Job.MODEL : Job.NUMBERS + 1] = (table.ctypes.data for table in tables)
    words[Job.COUNTERS], words[Job.TILE] = counters.ctypes.data, tile.address or 0
    start = (words[Job.RESIDUAL] - memory.data_ptr()) // 4
    residual = memory[start : start + shared[Job.RESIDUAL] // 4].view(width // COLUMNS, tokens + 2, COLUMNS)[:, :tokens]
    residual.copy_(x.view(tokens, -1, COLUMNS).transpose(0, 1))
    together(prefill_body, numpy.array(words, dtype=numpy.int64), threads)
    return residual.transpose(0, 1).reshape(tokens, width)
