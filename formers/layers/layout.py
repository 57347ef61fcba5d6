"""How the tokens of a batch lie in memory: end to end, in runs of equally long sequences.

Every layer works on flat tokens (T, W); only attention looks at the runs. A batch with padding is either one run with a
mask, or, with its padding dropped, several runs without one. A row may hold several sequences, its positions restarting
at each: every one of them is a sequence of a run then, so that nothing (attention, relative biases, convolutions)
reaches across their border.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from formers.errors import InputError


@dataclass
class Run:
    """`batch` sequences of `length` tokens, from flat token `start` on. `mask` (batch, 1, 1, length): True = attend."""

    start: int
    batch: int
    length: int
    mask: Tensor | None = None
    causal: bool = False
    # What attention layers of one forward share about this run (window masks, position biases), by name.
    shared: dict[object, Tensor] = field(default_factory=dict)

    def rows(self, flat: Tensor) -> Tensor:
        """The run's part of flat (T, heads, D), as (batch, heads, length, D)."""
        part = flat if self.start == 0 and flat.shape[0] == self.batch * self.length else self._part(flat)
        return part.view(self.batch, self.length, *part.shape[1:]).transpose(1, 2)

    def _part(self, flat: Tensor) -> Tensor:
        return flat[self.start : self.start + self.batch * self.length]

    def visible(self, window: int | None, device: torch.device) -> Tensor | None:
        """A layer's boolean mask, None where every token sees every token. `window`: tokens seen on either side."""
        if window is not None and window >= self.length - 1:
            window = None
        if window is None and not self.causal:
            return self.mask
        key = ("visible", window)
        if key not in self.shared:
            place = torch.arange(self.length, device=device)
            distance = place[:, None] - place[None, :]
            seen = torch.ones_like(distance, dtype=torch.bool)
            if self.causal:
                seen &= distance >= 0
            if window is not None:
                seen &= distance.abs() <= window
            self.shared[key] = seen if self.mask is None else seen & self.mask
        return self.shared[key]


@dataclass
class Rectangle:
    """Sequences of all lengths as (sequences, longest), in the order of the flat tokens.

    `places` (sequences * longest) are the flat tokens, the first one standing for padding; `kept` (T) the way back;
    `mask` (sequences, 1, 1, longest) is True at tokens.
    """

    places: Tensor
    kept: Tensor
    mask: Tensor

    @classmethod
    def of(cls, runs: Sequence[Run], device: torch.device) -> Rectangle | None:
        """That of some runs without masks; None where they are few, or their lengths too far apart for it to pay."""
        if len(runs) <= 2 or any(run.causal or run.mask is not None for run in runs):
            return None
        scores = sum(run.batch * run.length**2 for run in runs)
        if sum(run.batch for run in runs) * max(run.length for run in runs) ** 2 > 4 * scores:
            return None
        lengths = torch.tensor([run.length for run in runs for _ in range(run.batch)], device=device)
        line = torch.arange(int(lengths.max()), device=device)
        seen = line < lengths[:, None]
        starts = lengths.cumsum(0) - lengths
        places = torch.where(seen, starts[:, None] + line, 0)
        return cls(places.flatten(), seen.flatten().nonzero().squeeze(1), seen[:, None, None])

    def pad(self, flat: Tensor) -> Tensor:
        """(T, heads, D) to (sequences, heads, longest, D)."""
        rows = flat.flatten(1).index_select(0, self.places)
        return rows.view(self.mask.shape[0], self.mask.shape[3], *flat.shape[1:]).transpose(1, 2)


@dataclass
class Queries:
    """The tokens that a layer is to answer for, one a sequence: flat places (B) and their own runs."""

    places: Tensor
    runs: list[Run]


@dataclass
class Layout:
    """The runs of a batch of shape (B, S), and where its flat tokens come from."""

    batch: int
    length: int
    runs: list[Run]
    # Flat positions, in the padded batch, of the tokens that are kept; None when all are.
    kept: Tensor | None = None
    # Whether some row holds more than one sequence.
    packed: bool = False
    # The row of each sequence, in the order of the runs; None: in the order of the batch.
    rows: list[int] | None = None

    def order(self) -> Sequence[int]:
        """The row of each sequence, in the order of the runs."""
        return range(self.batch) if self.rows is None else self.rows

    def gather(self, padded: Tensor) -> Tensor:
        """(B, S, …) to flat (T, …)."""
        flat = padded.flatten(0, 1)
        return flat if self.kept is None else flat.index_select(0, self.kept)

    def scatter(self, flat: Tensor) -> Tensor:
        """Flat (T, …) to (B, S, …); dropped tokens are zero."""
        if self.kept is None:
            return flat.view(self.batch, self.length, *flat.shape[1:])
        padded = flat.new_zeros(self.batch * self.length, *flat.shape[1:])
        return padded.index_copy(0, self.kept, flat).view(self.batch, self.length, *flat.shape[1:])

    def first_tokens(self) -> Queries:
        """The first token of every sequence, in the order of the runs."""
        runs: list[Run] = []
        places: list[int] = []
        for run in self.runs:
            runs.append(Run(len(places), run.batch, 1))
            places.extend(range(run.start, run.start + run.batch * run.length, run.length))
        device = None if self.kept is None else self.kept.device
        return Queries(torch.tensor(places, device=device), runs)

    def last_tokens(self) -> Tensor:
        """The flat places (B) of the last token of every sequence, in the order of the runs."""
        ends = [run.start + run.length * (row + 1) - 1 for run in self.runs for row in range(run.batch)]
        return torch.tensor(ends, device=None if self.kept is None else self.kept.device)

    def scatter_sequences(self, rows: Tensor, queries: Queries) -> Tensor:
        """One row (B, …) a sequence, in the order of the runs, to the order of the batch."""
        if self.kept is None:
            return rows
        return torch.empty_like(rows).index_copy(0, self.kept[queries.places] // self.length, rows)


def plan(
    batch: int,
    length: int,
    mask: Tensor | None,
    *,
    causal: bool = False,
    pack: bool = True,
    positions: Tensor | None = None,
    first: int = 0,
    anywhere: bool = False,
) -> Layout:
    """The layout of a batch (B, S) with an attention mask (B, S), non-zero where a token counts, or None.

    With `pack`, tokens that do not count are dropped and the sequences sorted into runs of equal length, where all
    padding is on the right, or `anywhere`. Otherwise the batch stays one run with a mask: heads look at the first place
    of each row, and what stands there is to come out the same. Where the `positions` (B, S) of all rows count up by
    one, and restart at 0 or `first` within a row, each restart begins a new sequence; tokens that do not count are
    always dropped then.
    """
    counts = None if mask is None else mask != 0
    packed = None if positions is None else _restarts(counts, positions, first)
    if packed is not None:
        runs, kept, _ = _runs(*packed, causal)
        return Layout(batch, length, runs, kept, packed=True)
    if counts is None:
        return Layout(batch, length, [Run(0, batch, length, None, causal)])
    lengths = counts.sum(1).tolist()
    if min(lengths) == length:
        return Layout(batch, length, [Run(0, batch, length, None, causal)])
    if not (pack and (anywhere or (min(lengths) > 0 and _padded_right(counts)))):
        return Layout(batch, length, [Run(0, batch, length, counts[:, None, None, :], causal)])
    runs, kept, order = _runs(counts.flatten().nonzero().squeeze(1), lengths, causal)
    return Layout(batch, length, runs, kept, rows=order)


def _runs(kept: Tensor, lengths: list[int], causal: bool) -> tuple[list[Run], Tensor, list[int]]:
    """Runs of sequences of `lengths`, end to end in `kept`; the kept tokens and the sequences in the runs' order."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    if lengths != [lengths[row] for row in order]:
        pieces = kept.split(lengths)
        kept = torch.cat([pieces[row] for row in order])
    runs: list[Run] = []
    start = 0
    for size in (lengths[row] for row in order):
        if runs and runs[-1].length == size:
            runs[-1].batch += 1
        else:
            runs.append(Run(start, 1, size, None, causal))
        start += size
    return runs, kept, order


def _restarts(counts: Tensor | None, positions: Tensor, first: int) -> tuple[Tensor, list[int]] | None:
    """Flat places of the tokens that count, and the lengths of their sequences, where a row holds more than one."""
    length = positions.shape[1]
    place = positions.flatten()
    kept = torch.arange(len(place), device=place.device) if counts is None else counts.flatten().nonzero().squeeze(1)
    place, row = place[kept], kept // length
    same_row = row[1:] == row[:-1]
    # Within a sequence, positions and places in the row go up together.
    inside = (place - kept).diff() == 0
    restart = same_row & ~inside
    if not bool(restart.any()) or not bool((~restart | (place[1:] == 0) | (place[1:] == first)).all()):
        return None
    inside &= same_row
    if bool((inside & (kept.diff() != 1)).any()):
        raise InputError(
            "The attention_mask leaves out tokens inside a sequence of a packed row (position_ids restart in it).",
            "Leave out only what stands between or after the sequences of a row, or pass one sequence a row.",
        )
    starts = (~inside).nonzero().squeeze(1) + 1
    return kept, starts.diff(prepend=starts.new_zeros(1), append=starts.new_full((1,), len(kept))).tolist()


def _padded_right(counts: Tensor) -> bool:
    """Whether no row goes from dropped to kept tokens."""
    return not bool((counts[:, 1:] & ~counts[:, :-1]).any())
