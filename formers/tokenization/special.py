"""Special tokens: which ones a tokenizer has, by name, and the attributes that show them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from tokenizers import AddedToken

from formers.errors import InputError

if TYPE_CHECKING:
    from formers.tokenization.base import PreTrainedTokenizerBase

NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
"""The names that every tokenizer has; a model may add names of its own, such as `image_token`."""

Token: TypeAlias = str | AddedToken


class SpecialTokens:
    """The special tokens of one tokenizer: `named` ones and `extra` ones without a name."""

    def __init__(self) -> None:
        self.named: dict[str, Token | None] = dict.fromkeys(NAMES)
        self.extra: list[Token] = []

    def set(self, name: str, value: Any) -> None:
        """Name a token; None removes the name."""
        self.named[name] = None if value is None else _special_or_text(value, name)

    def set_extra(self, tokens: Any) -> None:
        """Replace the extra tokens; a mapping gives them names."""
        if isinstance(tokens, Mapping):
            for name, token in tokens.items():
                self.set(name, token)
            return
        if isinstance(tokens, (str, AddedToken)) or not isinstance(tokens, Iterable):
            raise InputError(f"extra_special_tokens={tokens!r} is not a list.", "Pass a list of tokens.")
        self.extra = [_special_or_text(token, "extra_special_tokens") for token in tokens]

    def update(self, tokens: Mapping[str, Any], replace: bool) -> list[Token]:
        """Name tokens and set or extend the extra ones, as `add_special_tokens` takes them; returns the tokens."""
        given: list[Token] = []
        for name, value in tokens.items():
            if name in ("extra_special_tokens", "additional_special_tokens"):
                if not isinstance(value, (list, tuple)):
                    raise InputError(f"{name}={value!r} is not a list.", "Pass a list of tokens.")
                new = [_special(token, name) for token in value]
                if not replace:
                    known = {str(token) for token in self.extra}
                    new = [token for token in new if str(token) not in known]
                    self.extra = [*self.extra, *new]
                elif new:
                    self.extra = list(new)
                given += new
            elif name in self.named:
                self.named[name] = _special(value, name)
                given.append(_special(value, name))
            else:
                raise InputError(
                    f"{name!r} is not the name of a special token.",
                    f"Use one of {', '.join(self.named)} or 'extra_special_tokens'.",
                )
        return given

    def text(self, name: str) -> str | None:
        """The token of that name as a string."""
        token = self.named.get(name)
        return None if token is None else str(token)

    def map(self) -> dict[str, str]:
        """The named tokens that are set, as strings."""
        return {name: str(token) for name, token in self.named.items() if token is not None}

    def all(self) -> list[Token]:
        """Every token once, named ones first."""
        unique: dict[str, Token] = {}
        for token in (*self.named.values(), *self.extra):
            if token is not None:
                unique.setdefault(str(token), token)
        return list(unique.values())

    def copy(self) -> SpecialTokens:
        """An independent copy."""
        twin = SpecialTokens()
        twin.named = dict(self.named)
        twin.extra = list(self.extra)
        return twin


def _special_or_text(value: Any, name: str) -> Token:
    # The dictionaries in configuration files do not always say that a special token is special.
    return as_token({"special": True, **value} if isinstance(value, Mapping) else value, name)


def _special(value: Any, name: str) -> AddedToken:
    token = as_token(value, name)
    return AddedToken(token, normalized=False, special=True) if isinstance(token, str) else token


def as_token(value: Any, name: str) -> Token:
    """`value` as a token: a string, an AddedToken, or the dictionary that configuration files hold for one."""
    if isinstance(value, (str, AddedToken)):
        return value
    if isinstance(value, Mapping) and isinstance(value.get("content"), str):
        flags = ("lstrip", "rstrip", "single_word", "normalized", "special")
        return AddedToken(value["content"], **{flag: bool(value[flag]) for flag in flags if flag in value})
    raise InputError(f"{name}={value!r} is not a token.", "Use a string or an AddedToken.")


def to_json(token: Token) -> Any:
    """The token as configuration files hold it: the reverse of `as_token`."""
    if isinstance(token, str):
        return token
    return {
        "content": token.content,
        "lstrip": token.lstrip,
        "normalized": token.normalized,
        "rstrip": token.rstrip,
        "single_word": token.single_word,
    }


class TokenAttribute:
    """An attribute such as `pad_token`: the token as a string or None; settable to a string, AddedToken or None."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, tokenizer: PreTrainedTokenizerBase | None, owner: Any = None) -> Any:
        return self if tokenizer is None else tokenizer.special.text(self.name)

    def __set__(self, tokenizer: PreTrainedTokenizerBase, value: Any) -> None:
        tokenizer.special.set(self.name, value)


class IdAttribute:
    """An attribute such as `pad_token_id`: the token's id or None; settable to an id of the vocabulary or None."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, tokenizer: PreTrainedTokenizerBase | None, owner: Any = None) -> Any:
        if tokenizer is None:
            return self
        token = tokenizer.special.text(self.name)
        return None if token is None else tokenizer.convert_tokens_to_ids(token)

    def __set__(self, tokenizer: PreTrainedTokenizerBase, value: Any) -> None:
        tokenizer.special.set(self.name, None if value is None else tokenizer.convert_ids_to_tokens(value))
