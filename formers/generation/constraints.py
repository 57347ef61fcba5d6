"""Text that fits a JSON schema, a regular expression or a grammar, through llguidance, whatever the limit of tokens.

A grammar allows many texts and the limit may come first. So at every moment a way to the end is known that fits into
what is left of the limit. A token that the model chooses is taken if after it such a way exists; if none is found, the
next token of the known way is taken instead. A limit too small for any way is refused before work starts.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy
import torch
from torch import Tensor

from formers.errors import InputError, MissingDependencyError
from formers.generation.processing import RowProcessor

# What ends things in the usual formats, then what is short, then the rest.
_CLOSING = "}])>\"'"
_QUOTES = "\"'"
_ORDER = _CLOSING + "0123456789,:;aeiou./-_bcdfghjklmnpqrstvwxyz{[(<ABCDEFGHIJKLMNOPQRSTUVWXYZ!#$%&*+=?@\\^`|~ \n\t\r"
# Ways that are tried: the first by this order alone, the others with chance where nothing ends, and a look ahead.
_TRIES = 24

_lock = threading.Lock()
_vocabularies: WeakKeyDictionary[Any, _Vocabulary] = WeakKeyDictionary()


class _Vocabulary:
    """A tokenizer as llguidance needs it, and its tokens of one sign. Making one takes up to a second."""

    def __init__(self, tokenizer: Any, ends: Sequence[int]) -> None:
        llguidance = _library()
        self.key = (len(tokenizer), tuple(ends))
        self.engine = llguidance.LLTokenizer(tokenizer.backend_tokenizer.to_str(), eos_token=list(ends))
        signs: dict[bytes, int] = {}
        for token in range(self.engine.vocab_size):
            sign = self.engine.decode_bytes([token])
            if len(sign) == 1 and not self.engine.is_special_token(token):
                signs.setdefault(sign, token)
        self.order = [signs[sign.encode()] for sign in _ORDER if sign.encode() in signs]
        self.spaces = {signs[sign] for sign in (b" ", b"\n", b"\t", b"\r") if sign in signs}
        self.quotes = [signs[sign.encode()] for sign in _QUOTES if sign.encode() in signs]
        self.letters = {signs[sign] for sign in (b"}", b"a", b"q") if sign in signs}
        self.closing = {signs[sign.encode()] for sign in _CLOSING if sign.encode() in signs}


class Constraint(RowProcessor):
    """Lets a row say only what the grammar allows, and makes sure that it comes to an end within its limit.

    `kind` is "json_schema" (a dictionary, its JSON text, or a pydantic model), "regex" or "grammar" (Lark).
    `limits` are the new tokens that each row may have.
    """

    def __init__(self, kind: str, value: Any, tokenizer: Any, ends: Sequence[int], limits: Sequence[int]) -> None:
        library = _library()
        if not ends:
            raise InputError(f"{kind} needs a token that ends the text.", "Give eos_token_id.")
        self.ends = list(ends)
        self.lucky = 0
        self.vocabulary = _vocabulary(tokenizer, ends)
        engine = self.vocabulary.engine
        grammar = _grammar(kind, value, library)
        problem = library.LLMatcher.validate_grammar(grammar, engine)
        if problem and not problem.startswith("WARNING"):
            raise InputError(f"The {kind} cannot be used: {problem.strip().splitlines()[0]}", "Correct it.")
        matcher = library.LLMatcher(engine, grammar)
        shortest = self._way(matcher, min(limits), _TRIES)
        if shortest is None or len(shortest) > min(limits):
            needed = "more" if shortest is None else f"{len(shortest)} tokens"
            raise InputError(
                f"The shortest text found for the {kind} needs {needed}, and {min(limits)} may be generated.",
                "Raise max_new_tokens.",
            )
        self.matchers = [matcher.deep_copy() for _ in limits]
        # For each row the tokens of a way to the end.
        self.ways = [list(shortest) for _ in limits]

    def __call__(self, input_ids: Tensor, scores: Tensor, starts: Tensor | None = None) -> Tensor:
        """The scores (B, V) of allowed tokens alone."""
        allowed = numpy.zeros(tuple(scores.shape), dtype=bool)
        for row, matcher in enumerate(self.matchers):
            if matcher.is_stopped():  # it has ended and waits for the others
                allowed[row] = True
                continue
            bits = numpy.unpackbits(numpy.frombuffer(matcher.compute_bitmask(), numpy.uint8), bitorder="little")
            width = min(len(bits), scores.shape[1])
            allowed[row, :width] = bits[:width]
        return scores.masked_fill(~torch.from_numpy(allowed).to(scores.device), float("-inf"))

    def settle(self, tokens: Sequence[int], rooms: Sequence[int]) -> list[int]:
        """The tokens to take, one a row, when these were chosen and `rooms` tokens, these included, are left."""
        return [self._settle(row, token, room) if room else token for row, (token, room) in _pairs(tokens, rooms)]

    def _settle(self, row: int, token: int, room: int) -> int:
        way = self.ways[row]
        after = self.matchers[row].deep_copy()
        if after.consume_token(token):
            found = self._reused(after, way, token)
            if found is None or len(found) > room - 1:
                found = self._way(after, room - 1)
            if found is not None and len(found) <= room - 1:
                self.matchers[row], self.ways[row] = after, found
                return token
        forced = way[0] if way else self.ends[0]
        self.matchers[row].consume_token(forced)
        self.ways[row] = way[1:]
        return forced

    def complete(self, row: int) -> bool:
        """Whether nothing can follow in a row."""
        return bool(self.matchers[row].is_stopped())

    def select(self, rows: Sequence[int]) -> None:
        """Keep the state of these rows."""
        self.matchers = [self.matchers[row].deep_copy() for row in rows]
        self.ways = [list(self.ways[row]) for row in rows]

    def _reused(self, matcher: Any, way: list[int], token: int) -> list[int] | None:
        """The known way, or its end, if it still leads to the end after `token`."""
        if matcher.is_accepting():
            return []
        if way and way[0] == token:
            return way[1:]
        for first in range(min(8, len(way))):
            rest, copy = way[first:], matcher.deep_copy()
            if copy.try_consume_tokens(rest) == len(rest) and copy.is_accepting():
                return rest
        return None

    def _way(self, matcher: Any, room: int, tries: int = 4) -> list[int] | None:
        """Tokens from here to an end, at most `room` of them if such are found; None if no end is."""
        best: list[int] | None = None
        # What found a way before is likely to find one again.
        for attempt in sorted(range(tries), key=lambda attempt: attempt != self.lucky):
            chance = random.Random(attempt) if attempt else None
            found = self._walk(matcher.deep_copy(), 3 * room + 48, chance)
            if found is not None:
                found = self._shorter(matcher, found)
                if best is None or len(found) < len(best):
                    best, self.lucky = found, attempt
            if best is not None and len(best) <= room:
                break
        return best

    def _walk(self, matcher: Any, longest: int, chance: random.Random | None) -> list[int] | None:
        way: list[int] = []
        while not matcher.is_accepting():
            forced = matcher.compute_ff_tokens()
            tokens = forced or [self._pick(matcher, chance)]
            if len(way) + len(tokens) > longest or not matcher.consume_tokens(tokens):
                return None
            way.extend(tokens)
        return way

    def _pick(self, matcher: Any, chance: random.Random | None) -> int:
        bits = matcher.compute_bitmask()
        allowed = [token for token in self.vocabulary.order if bits[token >> 3] >> (token & 7) & 1]
        if not allowed:
            anything = numpy.unpackbits(numpy.frombuffer(bits, numpy.uint8), bitorder="little")
            places = numpy.flatnonzero(anything)
            return int(places[0] if chance is None or not len(places) else chance.choice(places.tolist()))
        if chance is not None:
            # One sign ahead: any that ends it all is right.
            for token in allowed:
                copy = matcher.deep_copy()
                if copy.consume_token(token) and copy.is_accepting():
                    return token
        # Where letters and brackets may come the text is quoted, and brackets end nothing.
        if self.vocabulary.letters <= set(allowed):
            allowed = [*(token for token in self.vocabulary.quotes if token in allowed), *allowed]
        # What ends something is seldom wrong; other signs may lead round in circles.
        strays = 0.0 if chance is None else 0.02 if allowed[0] in self.vocabulary.closing else 0.5
        if chance is None or chance.random() >= strays:
            return allowed[0]
        return chance.choice([token for token in allowed if token not in self.vocabulary.spaces] or allowed)

    def _shorter(self, matcher: Any, way: list[int]) -> list[int]:
        """The same text in the tokenizer's own tokens, if these are fewer and allowed."""
        engine = self.vocabulary.engine
        tokens: list[int] = engine.tokenize_bytes(engine.decode_bytes(way))
        copy = matcher.deep_copy()
        fits = len(tokens) < len(way) and copy.try_consume_tokens(tokens) == len(tokens) and copy.is_accepting()
        return tokens if fits else way


def _pairs(tokens: Sequence[int], rooms: Sequence[int]) -> Any:
    return enumerate(zip(tokens, rooms, strict=True))


def _library() -> Any:
    try:
        import llguidance
    except ImportError as error:
        raise MissingDependencyError.for_extra("llguidance", "constraints") from error
    return llguidance


def _vocabulary(tokenizer: Any, ends: Sequence[int]) -> _Vocabulary:
    with _lock:
        known = _vocabularies.get(tokenizer)
        if known is None or known.key != (len(tokenizer), tuple(ends)):
            known = _vocabularies[tokenizer] = _Vocabulary(tokenizer, ends)
        return known


def _grammar(kind: str, value: Any, library: Any) -> str:
    matcher = library.LLMatcher
    if kind == "regex":
        return str(matcher.grammar_from_regex(value))
    if kind == "grammar":
        return str(matcher.grammar_from_lark(value))
    if hasattr(value, "model_json_schema"):
        value = value.model_json_schema()
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise InputError(f"json_schema is no JSON: {error}.", "Pass a dictionary or a pydantic model.") from error
    if not isinstance(value, Mapping):
        raise InputError(
            f"json_schema is of type {type(value).__name__}.", "Pass a dictionary, its JSON text or a pydantic model."
        )
    return str(matcher.grammar_from_json_schema(dict(value)))
