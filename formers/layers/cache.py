"""The cache: keys and values of all layers, preallocated, with a length of its own for every row and no padding.

Layers that see only a window keep little more than it. Where the tokens of a forward go, and what they see, is worked
out once for all layers of one window (`Append`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from formers.errors import InputError
from formers.layers.layout import Layout

if TYPE_CHECKING:
    from formers.layers.cross import CrossMemory

# Memory grows by multiples of so many tokens, and by half of what there is, whichever is more.
BLOCK = 64
# How many tokens beyond a window stay at least, so that a cache can be rolled back by so many.
SPARE = 64


@dataclass
class Store:
    """Keys and values of the layers that see the same window, token by token: (2, layers, rows, capacity, heads, D)."""

    window: int | None
    memory: Tensor
    # The position of each row's first stored token.
    bases: list[int]
    # In which row each token of each row lies (rows, capacity), once rows were moved without their tokens.
    origins: Tensor | None = None
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.replace(self.memory)

    def replace(self, memory: Tensor) -> None:
        """Use other memory."""
        self.memory = memory
        self.keys, self.values = list(memory[0].unbind(0)), list(memory[1].unbind(0))

    @property
    def capacity(self) -> int:
        """How many tokens a row may hold."""
        return self.memory.shape[3]

    def grow(self, capacity: int) -> None:
        """Memory for at least `capacity` tokens a row."""
        memory = self.memory.new_zeros(*self.memory.shape[:3], capacity, *self.memory.shape[4:])
        memory[:, :, :, : self.capacity] = self.memory
        self.replace(memory)

    def select(self, rows: Sequence[int], lengths: Sequence[int]) -> None:
        """Keep these rows of `lengths` tokens. Where as many stay, as with beams, only what moves is copied."""
        if len(rows) == len(self.bases):
            moved = [place for place, row in enumerate(rows) if place != row]
            used = max(lengths[rows[place]] - self.bases[rows[place]] for place in moved)
            places = torch.tensor(moved, device=self.memory.device)
            origins = torch.tensor([rows[place] for place in moved], device=self.memory.device)
            part = self.memory[:, :, :, :used]
            part.index_copy_(2, places, part.index_select(2, origins))
        else:
            used = max(lengths[row] - self.bases[row] for row in rows)
            memory = self.memory.new_zeros(*self.memory.shape[:2], len(rows), *self.memory.shape[3:])
            places = torch.tensor(rows, device=self.memory.device)
            memory[:, :, :, :used] = self.memory[:, :, :, :used].index_select(2, places)
            self.replace(memory)
        self.bases = [self.bases[row] for row in rows]

    def move(self, rows: Sequence[int]) -> None:
        """Keep these rows in this order, as many as there are, and leave their tokens where they are."""
        if self.origins is None:
            count = self.memory.shape[2]
            self.origins = torch.arange(count)[:, None].expand(count, self.capacity)
        self.origins = self.origins[torch.tensor(rows)]

    def settle(self, used: int) -> None:
        """Move the first `used` tokens of every row to the row itself."""
        if self.origins is not None:
            found = self.memory[:, :, self.origins[:, :used], torch.arange(used)]
            self.memory[:, :, :, :used] = found
            self.origins = None

    def trim(self, row: int, length: int, keep: int) -> None:
        """Move the last `keep` tokens of a row of `length` to its front."""
        first = max(length - keep, self.bases[row])
        moved = self.memory[:, :, row, first - self.bases[row] : length - self.bases[row]].clone()
        self.memory[:, :, row, : moved.shape[2]] = moved
        self.bases[row] = first


@dataclass
class Read:
    """Tokens that look into the cache together: `batch` sequences of `length` new tokens, from flat token `start` on.

    They see the stored tokens `low` to `high` of the rows from `row` on, as far as `mask` (batch or 1, 1, length, K)
    allows; `distances` are those from the last new token's place to the keys seen (batch or 1, K).
    """

    start: int
    batch: int
    length: int
    row: int
    low: int
    high: int
    mask: Tensor | None
    distances: Tensor | None = None
    shared: dict[object, Tensor] = field(default_factory=dict)


@dataclass
class Append:
    """What one forward does with one store: where its new tokens go and what they see there."""

    store: Store
    # New tokens (rows, length) go to places `start` on of every row; or, with `places`, flat `tokens` to flat places.
    rows: int
    start: int
    length: int
    places: Tensor | None
    tokens: Tensor | None
    # Empty where the new tokens are all there is: they attend to themselves.
    reads: list[Read]

    def write(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Store keys and values (T, heads, D) of a layer."""
        for memory, new in ((self.store.keys[layer], key), (self.store.values[layer], value)):
            new = new.detach()
            if self.places is not None:
                new = new if self.tokens is None else new.index_select(0, self.tokens)
                memory.view(-1, *memory.shape[2:]).index_copy_(0, self.places, new)
            else:
                new = new.view(self.rows, -1, *new.shape[1:])
                if new.shape[1] > self.length:
                    new = new[:, new.shape[1] - self.length :]
                memory.narrow(1, self.start, self.length).copy_(new)


class Cache:
    """Keys and values of earlier tokens, for any decoder. It takes its shape from the model that first uses it.

    `capacity` tokens a row are reserved at first; `fixed` forbids more.
    """

    def __init__(self, rows: int | None = None, capacity: int | None = None, fixed: bool = False) -> None:
        if fixed and not capacity:
            raise InputError("A cache of fixed capacity needs one.", "Pass capacity= (max_cache_len=) in tokens.")
        self.lengths: list[int] = [0] * (rows or 0)
        self.capacity = capacity
        self.fixed = fixed
        self.stores: list[Store] = []
        # Which store each layer uses, and which of its layers it is.
        self.slots: list[tuple[int, int]] = []
        # What cross-attention reads.
        self.cross: CrossMemory | None = None
        # Whether tokens may lie in other rows than their own: what the last forward said.
        self.scattered = False

    # -- what generation uses --------------------------------------------------------------------------------------

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.lengths)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens in the longest row."""
        return max(self.lengths, default=0)

    def get_max_cache_shape(self, layer_idx: int = 0) -> int:
        """The fixed capacity in tokens, -1 for a cache that grows."""
        return self.capacity if self.fixed and self.capacity else -1

    def __len__(self) -> int:
        return len(self.slots)

    def __bool__(self) -> bool:
        return True

    def select(self, rows: Tensor | Sequence[int]) -> None:
        """Keep these rows in this order; a row may be repeated."""
        chosen: list[int] = rows.tolist() if isinstance(rows, Tensor) else list(rows)
        if chosen == list(range(self.rows)):
            return
        if not chosen or min(chosen) < 0 or max(chosen) >= self.rows:
            raise InputError(f"Rows {chosen} of a cache with {self.rows} rows.", "Choose among its rows.")
        if self.scattered and len(chosen) == self.rows and len(set(self.lengths)) == 1:
            # Of rows as long as one another, none writes where another reads.
            for store in self.stores:
                store.move(chosen)
        else:
            self._settle()
            for store in self.stores:
                store.select(chosen, self.lengths)
        self.lengths = [self.lengths[row] for row in chosen]
        if self.cross is not None:
            self.cross.select(chosen)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """The reference's name of `select`."""
        self.select(beam_idx)

    def batch_select_indices(self, indices: Tensor) -> None:
        """The reference's name of `select`."""
        self.select(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every row."""
        self.select([row for row in range(self.rows) for _ in range(repeats)])

    def crop(self, lengths: int | Sequence[int]) -> None:
        """Forget what follows the first `lengths` tokens, one number for all rows or one a row.

        A negative number forgets that many. Shorter rows stay as they are.
        """
        wanted = [lengths] * self.rows if isinstance(lengths, int) else list(lengths)
        if len(wanted) != self.rows:
            raise InputError(f"{len(wanted)} lengths for {self.rows} rows.", "Give one number, or one a row.")
        self._settle()
        both = zip(self.lengths, wanted, strict=True)
        kept = [min(have, want) if want >= 0 else max(have + want, 0) for have, want in both]
        for store in self.stores:
            for row, length in enumerate(kept):
                if length and store.bases[row] and length - (store.window or 0) < store.bases[row]:
                    raise InputError(
                        f"Row {row} cannot go back to {length} tokens: layers with a window of {store.window} tokens "
                        f"have kept those from {store.bases[row]} on.",
                        f"Go back by at most {SPARE} tokens, or crop to 0 and compute the row again.",
                    )
        for store in self.stores:
            store.bases = [base if length else 0 for base, length in zip(store.bases, kept, strict=True)]
        self.lengths = kept

    def reset(self) -> None:
        """Forget everything, and keep the memory."""
        self.crop(0)
        self.cross = None

    # -- what models use -------------------------------------------------------------------------------------------

    def prepare(
        self, rows: int, windows: Sequence[int | None], heads: int, width: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        """Reserve memory, or check that what is there fits: `windows` of all layers, `heads` of `width` values."""
        if self.stores:
            memory = self.stores[0].memory
            found = (self.rows, len(self.slots), memory.shape[4], memory.shape[5], memory.dtype, memory.device)
            wanted = (rows, len(windows), heads, width, dtype, device)
            if found != wanted:
                raise InputError(
                    f"The cache holds (rows, layers, heads, head width, type, device) {found}; "
                    f"here {wanted} is needed.",
                    "Use a cache with the model and the batch that it was made for (cache.select changes its rows).",
                )
            return
        if self.lengths and len(self.lengths) != rows:
            raise InputError(f"The cache was made for {self.rows} rows; the input has {rows}.", "Make a new one.")
        self.lengths = [0] * rows
        kinds = list(dict.fromkeys(windows))
        for window in kinds:
            capacity = _round(self.capacity or BLOCK) if not self.fixed else self.capacity or 0
            capacity = capacity if window is None else min(capacity, _round(window + 2 * SPARE))
            shape = (2, list(windows).count(window), rows, capacity, heads, width)
            self.stores.append(Store(window, torch.zeros(shape, dtype=dtype, device=device), [0] * rows))
        counts = [0] * len(kinds)
        for window in windows:
            kind = kinds.index(window)
            self.slots.append((kind, counts[kind]))
            counts[kind] += 1

    def append(self, layout: Layout, counts: Sequence[int], separate: bool = False) -> list[Append]:
        """Make room for `counts` new tokens a row, laid out as `layout` says; what each store does with them.

        `separate`: every row reads for itself.
        """
        self._check(counts)
        self._settle()
        return [self._append(store, layout, counts, separate) for store in self.stores]

    def reserve(self, counts: Sequence[int], scattered: bool = False) -> None:
        """Make room for `counts` new tokens a row, all of which are stored.

        `scattered`: whoever asks finds tokens by their store's `origins`.
        """
        self._check(counts)
        if not scattered:
            self._settle()
        for store in self.stores:
            self._make_room(store, [have + new for have, new in zip(self.lengths, counts, strict=True)])
        self.scattered = scattered

    def advance(self, counts: Sequence[int]) -> None:
        """Count the tokens that all layers have stored."""
        self.lengths = [have + new for have, new in zip(self.lengths, counts, strict=True)]

    def _settle(self) -> None:
        """Every token lies in its own row."""
        for store in self.stores:
            store.settle(max(self.lengths))
        self.scattered = False

    def _check(self, counts: Sequence[int]) -> None:
        longest = max(have + new for have, new in zip(self.lengths, counts, strict=True))
        if self.fixed and self.capacity and longest > self.capacity:
            raise InputError(
                f"The cache has room for {self.capacity} tokens a row; {longest} were asked for.",
                "Make a larger one, or use DynamicCache, which grows.",
            )

    def _append(self, store: Store, layout: Layout, counts: Sequence[int], separate: bool) -> Append:
        fresh = not any(self.lengths)
        window, lengths = store.window, self.lengths
        # Of new tokens that attend to themselves, a window stores the last ones only.
        stored = list(counts)
        if fresh and window is not None:
            stored = [min(new, window + SPARE) for new in counts]
            store.bases = [new - kept for new, kept in zip(counts, stored, strict=True)]
        self._make_room(store, [have + new for have, new in zip(lengths, counts, strict=True)])
        places = [max(have - base, 0) for have, base in zip(lengths, store.bases, strict=True)]
        same = len(set(counts)) == 1
        reads = [] if fresh else _reads(store, layout, lengths, counts, separate or not same)
        if same and len(set(places)) == 1 and len(set(stored)) == 1:
            return Append(store, len(counts), places[0], stored[0], None, None, reads)
        device, capacity = store.memory.device, store.capacity
        into: list[int] = []
        tokens: list[int] = []
        start = 0
        for row in layout.order():
            skipped = counts[row] - stored[row]
            into.extend(range(row * capacity + places[row], row * capacity + places[row] + stored[row]))
            tokens.extend(range(start + skipped, start + counts[row]))
            start += counts[row]
        chosen = None if len(tokens) == start else torch.tensor(tokens, device=device)
        return Append(store, len(counts), 0, 0, torch.tensor(into, device=device), chosen, reads)

    def _make_room(self, store: Store, totals: list[int]) -> None:
        needed = max(total - base for total, base in zip(totals, store.bases, strict=True))
        if needed <= store.capacity:
            return
        self._settle()
        if store.window is not None:
            for row, length in enumerate(self.lengths):
                store.trim(row, length, store.window + SPARE)
            needed = max(total - base for total, base in zip(totals, store.bases, strict=True))
            if needed <= store.capacity:
                return
            store.grow(_round(needed + SPARE))
        else:
            grown = _round(max(needed, store.capacity * 3 // 2))
            store.grow(min(grown, self.capacity) if self.fixed and self.capacity else grown)


def _reads(store: Store, layout: Layout, lengths: Sequence[int], counts: Sequence[int], separate: bool) -> list[Read]:
    if not separate:
        return [_read(store, 0, 0, list(lengths), counts[0])]
    reads = []
    start = 0
    for row in layout.order():
        if counts[row]:
            reads.append(_read(store, start, row, [lengths[row]], counts[row]))
        start += counts[row]
    return reads


def _read(store: Store, start: int, row: int, lengths: list[int], count: int) -> Read:
    """What `count` new tokens of each of the rows from `row` on see, which held `lengths` tokens before."""
    batch, window, device = len(lengths), store.window, store.memory.device
    bases = store.bases[row : row + batch]
    high = max(have + count - base for have, base in zip(lengths, bases, strict=True))
    lows = [0 if window is None else max(have - window - base, 0) for have, base in zip(lengths, bases, strict=True)]
    low = min(lows)
    even = all(have - base == lengths[0] - bases[0] for have, base in zip(lengths, bases, strict=True))
    if even:
        lengths, bases = lengths[:1], bases[:1]
    query = torch.tensor([have - base for have, base in zip(lengths, bases, strict=True)], device=device)
    place = torch.arange(low, high, device=device)
    last = query[:, None] + (count - 1) - place
    mask = None
    if not (even and count == 1):
        distance = query[:, None, None] + torch.arange(count, device=device)[:, None] - place
        mask = distance >= 0
        if window is not None:
            mask &= distance <= window
        mask = mask[:, None]
    return Read(start, batch, count, row, low, high, mask, last)


def _round(tokens: int) -> int:
    return -(-tokens // BLOCK) * BLOCK


class EncoderDecoderCache(Cache):
    """The cache of an encoder–decoder: any cache is one, once its decoder has read an encoder's states.

    `self_attention_cache`, if given, must be empty, and says whether memory is fixed; `cross_attention_cache` is
    accepted as in the reference.
    """

    def __init__(self, self_attention_cache: Cache | None = None, cross_attention_cache: Cache | None = None) -> None:
        given = [cache for cache in (self_attention_cache, cross_attention_cache) if cache is not None]
        if any(any(cache.lengths) for cache in given):
            raise InputError(
                "A cache is made from empty caches alone.", "Let a model fill a new EncoderDecoderCache()."
            )
        like = Cache() if self_attention_cache is None else self_attention_cache
        super().__init__(capacity=like.capacity, fixed=like.fixed)

    @property
    def self_attention_cache(self) -> Cache:
        """The keys and values of the decoder's own tokens."""
        return self


class DynamicCache(Cache):
    """A cache that grows as needed. `config` is accepted as in the reference; the model knows its own."""

    def __init__(self, ddp_cache_data: None = None, config: object = None) -> None:
        if ddp_cache_data is not None:
            raise InputError("A cache is not made from other caches' tensors.", "Let a model fill a new one.")
        super().__init__()


class StaticCache(Cache):
    """A cache for `max_cache_len` tokens a row, whose memory never moves. `config` as in DynamicCache."""

    def __init__(self, config: object = None, max_cache_len: int | None = None) -> None:
        super().__init__(capacity=max_cache_len, fixed=True)
