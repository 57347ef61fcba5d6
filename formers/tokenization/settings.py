"""The arguments `padding`, `truncation` and their companions, checked and resolved before any text is touched."""

from __future__ import annotations

import logging
import warnings
from operator import index
from typing import Any, NamedTuple

from formers.errors import InputError
from formers.tokenization.engine import Truncation

logger = logging.getLogger(__name__)

NO_LIMIT = int(1e30)
"""`model_max_length` of a tokenizer that knows no limit."""
_LARGE = int(1e20)

_PADDING = ("longest", "max_length", "do_not_pad")
_TRUNCATION = ("longest_first", "only_first", "only_second", "do_not_truncate")
_SIDES = ("right", "left")


class Padding(NamedTuple):
    """How to fill up rows: to `length` tokens (None: to the longest row), rounded up to a multiple of `multiple`."""

    length: int | None
    multiple: int | None
    side: str

    def width(self, longest: int) -> int:
        """The number of tokens of a padded row when the longest row has `longest`."""
        width = longest if self.length is None else self.length
        if self.multiple:
            width += -width % self.multiple
        return width


class Limits(NamedTuple):
    """What the caller's arguments come to. `max_length` is None when nothing limits or fixes the length."""

    padding: Padding | None
    truncation: Truncation | None
    max_length: int | None


FREE = Limits(None, None, None)


def resolve(
    padding: bool | str,
    truncation: bool | str | None,
    max_length: int | None,
    *,
    stride: int,
    pad_to_multiple_of: int | None,
    padding_side: str,
    truncation_side: str,
    model_max_length: int,
    has_pad_token: bool,
    verbose: bool = True,
) -> Limits:
    """Check the arguments as the reference does and say what to do. Raises InputError on what cannot be done."""
    if padding is False and truncation in (None, False) and max_length is None:
        return FREE
    max_length = _number("max_length", max_length, at_least=0)
    stride = _number("stride", stride, at_least=0) or 0
    pad_to_multiple_of = _number("pad_to_multiple_of", pad_to_multiple_of, at_least=1)
    if max_length is not None and padding is False and truncation is None:
        truncation = "longest_first"
    pad = _choice("padding", padding, _PADDING, "longest", "do_not_pad")
    cut = _choice("truncation", truncation, _TRUNCATION, "longest_first", "do_not_truncate")
    if padding is True and max_length is not None and cut == "do_not_truncate" and verbose:
        warnings.warn(
            f"padding=True pads to the longest row, so max_length={max_length} has no effect: use padding='max_length' "
            "to pad to it, or truncation=True to cut at it.",
            stacklevel=4,
        )
    if max_length is None and (pad == "max_length" or cut != "do_not_truncate"):
        if model_max_length > _LARGE:
            # As in the reference: without any length there is nothing to pad or cut to.
            if verbose:
                logger.warning(
                    "Neither `max_length` nor the tokenizer's `model_max_length` is set: lengths stay as is."
                )
            pad = "do_not_pad" if pad == "max_length" else pad
            cut = "do_not_truncate"
        else:
            max_length = model_max_length
    if pad != "do_not_pad" and not has_pad_token:
        raise InputError(
            "Padding needs a padding token, and this tokenizer has none.",
            "Set one, for example `tokenizer.pad_token = tokenizer.eos_token`, "
            "or add one: `tokenizer.add_special_tokens({'pad_token': '[PAD]'})`.",
        )
    surplus = (max_length or 0) % (pad_to_multiple_of or 1)
    if pad != "do_not_pad" and cut != "do_not_truncate" and surplus:
        raise InputError(
            f"max_length={max_length} is not a multiple of pad_to_multiple_of={pad_to_multiple_of}, so rows cut at it "
            "cannot be padded to such a multiple.",
            f"Use a max_length that is {surplus} smaller, or drop pad_to_multiple_of.",
        )
    check_side("padding_side", padding_side)
    return Limits(
        None
        if pad == "do_not_pad"
        else Padding(max_length if pad == "max_length" else None, pad_to_multiple_of, padding_side),
        None
        if cut == "do_not_truncate" or max_length is None
        else Truncation(max_length, cut, stride, check_side("truncation_side", truncation_side)),
        max_length,
    )


def check_side(name: str, side: Any) -> str:
    """`side` if it is "right" or "left"; InputError otherwise."""
    if side not in _SIDES:
        raise InputError(f"{name}={side!r} is not a side.", "Use 'right' or 'left'.")
    return str(side)


def _choice(name: str, value: Any, choices: tuple[str, ...], yes: str, no: str) -> str:
    if value is True:
        return yes
    if value is False or value is None:
        return no
    value = getattr(value, "value", value)  # a member of an enumeration, as the reference has them
    if value not in choices:
        raise InputError(f"{name}={value!r} is unknown.", f"Use True, False or one of {', '.join(map(repr, choices))}.")
    return str(value)


def _number(name: str, value: Any, at_least: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < at_least:
        raise InputError(f"{name}={value!r} is not a whole number of tokens.", f"Use an int of at least {at_least}.")
    return index(value)
