"""Engines: a tokenizer's `tokenizers.Tokenizer` and its variants for other settings.

The engine keeps truncation and special-token splitting as mutable state, which calls from several threads would fight
over. So an engine in use is never changed: every setting gets an engine of its own, and adding tokens makes a new one.
Variants share the vocabulary and the model with the engine they come from, so one costs microseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any, NamedTuple, TypeVar

from tokenizers import Tokenizer

from formers.tokenization.pieces import AddedTokens, Cutter, cut_inputs
from formers.tokenization.probe import encoding_of
from formers.tokenization.words import Words, words_of

Result = TypeVar("Result")

# Programs use a handful of settings; a loop over thousands of lengths must not keep an engine for each.
_MAX_VARIANTS = 64


class Truncation(NamedTuple):
    """How to shorten: at most `max_length` tokens, special tokens included.

    strategy: "longest_first", "only_first" or "only_second". stride: tokens that neighbouring overflow windows share.
    side: the end, "right" or "left", that is cut.
    """

    max_length: int
    strategy: str
    stride: int
    side: str


class _State:
    """One generation of engines. Replaced as a whole, so readers need no lock."""

    def __init__(self, base: Tokenizer) -> None:
        self.base = base
        self.variants: dict[tuple[Truncation | None, bool], Tokenizer] = {}
        self.others: dict[str, Engines] = {}
        self.handed_out = False
        self.splits_special = base.encode_special_tokens
        self.gives_zero_types = _gives_zero_types(base)
        self.words = words_of(base)
        self.added: AddedTokens | None = None


class Engines:
    """The engines of one tokenizer. Safe to use and to change from any number of threads.

    cutter: what cuts texts into the pieces that the engine has ids for; None where the engine reads texts.
    """

    def __init__(self, engine: Tokenizer, cutter: Cutter | None = None) -> None:
        engine.no_padding()
        engine.no_truncation()
        self._state = _State(engine)
        self._changing = Lock()
        self.cutter = cutter

    def __getstate__(self) -> tuple[Tokenizer, Cutter | None]:
        return self._state.base, self.cutter

    def __setstate__(self, state: tuple[Tokenizer, Cutter | None]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    @property
    def base(self) -> Tokenizer:
        """The engine without truncation or padding, for use inside formers: it must not be changed."""
        return self._state.base

    @property
    def gives_zero_types(self) -> bool:
        """Whether every token of a single text surely has the type 0."""
        return self._state.gives_zero_types and not self._state.handed_out

    def words(self, split_special_tokens: bool) -> Words | None:
        """The remembered words of the engine, None where whole texts must be tokenized."""
        state = self._state
        return None if state.handed_out or split_special_tokens != state.splits_special else state.words

    def hand_out(self) -> Tokenizer:
        """The engine for the user, who may change it: from now on an engine is made afresh for every call."""
        with self._changing:
            state = self._state
            state.handed_out = True
            state.variants, state.others, state.added = {}, {}, None
            return state.base

    def get(self, truncation: Truncation | None, split_special_tokens: bool) -> Tokenizer:
        """An engine with these settings."""
        state = self._state
        if truncation is None and not state.handed_out and split_special_tokens == state.splits_special:
            return state.base
        key = (truncation, split_special_tokens)
        engine = state.variants.get(key)
        if engine is None:
            engine = derive(state.base)
            engine.encode_special_tokens = split_special_tokens
            if truncation is not None:
                engine.enable_truncation(
                    truncation.max_length,
                    stride=truncation.stride,
                    strategy=truncation.strategy,
                    direction=truncation.side,
                )
            if not state.handed_out:
                if len(state.variants) >= _MAX_VARIANTS:
                    state.variants = {}
                state.variants[key] = engine
        return engine

    def cut(self, inputs: list[Any], words: bool, split_special_tokens: bool, framed: bool) -> list[Any]:
        """Inputs as the pieces that the cutter gives: see `cut_inputs`."""
        assert self.cutter is not None
        state = self._state
        added = state.added
        if added is None:
            added = AddedTokens(state.base.get_added_tokens_decoder().values())
            state.added = None if state.handed_out else added
        return cut_inputs(self.cutter, added, inputs, words, split_special_tokens, framed)

    def other(self, name: str, make: Callable[[Tokenizer], Engines]) -> Engines:
        """Engines that `make` makes from a copy of this one, kept by `name` until this one changes."""
        state = self._state
        engines = state.others.get(name)
        if engines is None:
            engines = make(derive(state.base))
            if not state.handed_out:
                state.others[name] = engines
        return engines

    def framed(self, name: str, frame: Callable[[], Any]) -> Engines:
        """Engines like these with the post-processor that `frame` makes, kept by `name`."""

        def make(engine: Tokenizer) -> Engines:
            engine.post_processor = frame()
            return Engines(engine, self.cutter)

        return self.other(name, make)

    def change(self, edit: Callable[[Tokenizer], Result]) -> Result:
        """Apply `edit` to a new engine that takes the place of the present one; calls under way keep the old one.

        An engine that the user has is changed itself: it must stay the tokenizer's.
        """
        with self._changing:
            state = self._state
            if state.handed_out:
                return edit(state.base)
            engine = derive(state.base)
            result = edit(engine)
            self._state = _State(engine)
            return result


def _gives_zero_types(engine: Tokenizer) -> bool:
    # Post-processors set one type for each text and special token, so one token tells.
    return not any(engine.post_process(encoding_of([0])).type_ids)


def derive(engine: Tokenizer) -> Tokenizer:
    """A new engine with the same vocabulary (shared, not copied), parts and added tokens; no truncation or padding."""
    twin = Tokenizer(engine.model)
    twin.normalizer = engine.normalizer
    twin.pre_tokenizer = engine.pre_tokenizer
    twin.post_processor = engine.post_processor
    twin.decoder = engine.decoder
    added = engine.get_added_tokens_decoder()
    # Ids are given out in order, so adding in the order of the ids gives every token the id it had.
    twin.add_tokens([added[index] for index in sorted(added)])
    twin.encode_special_tokens = engine.encode_special_tokens
    return twin
