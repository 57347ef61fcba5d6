"""A new vocabulary for a tokenizer: same kind, same settings, other texts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from tokenizers import AddedToken, Tokenizer, pre_tokenizers, trainers

from formers.errors import InputError, UnsupportedError
from formers.tokenization.special import Token

if TYPE_CHECKING:
    from formers.tokenization.tokenizer import PreTrainedTokenizerFast

Kind = TypeVar("Kind", bound="PreTrainedTokenizerFast")

_TRAINERS = {
    "BPE": trainers.BpeTrainer,
    "Unigram": trainers.UnigramTrainer,
    "WordLevel": trainers.WordLevelTrainer,
    "WordPiece": trainers.WordPieceTrainer,
}


def train(
    tokenizer: Kind,
    texts: Iterable[Any],
    vocab_size: int,
    length: int | None,
    new_special_tokens: Sequence[Token],
    renamed: Mapping[str, str],
    settings: Mapping[str, Any],
) -> Kind:
    """A tokenizer like `tokenizer` whose vocabulary is learned from `texts`. `renamed`: new special tokens by old."""
    plan = json.loads(tokenizer._engines.base.to_str())
    # Both hold ids of the old vocabulary.
    added, frame = plan.pop("added_tokens"), plan.pop("post_processor")
    model = plan["model"]
    if model["type"] not in _TRAINERS:
        raise UnsupportedError(
            f"Models of the type {model['type']} cannot be trained.", f"Possible are {', '.join(_TRAINERS)}."
        )
    settings = {**_trainer_settings(model, plan["pre_tokenizer"], renamed), **settings}
    _empty(model, renamed)
    engine = Tokenizer.from_str(json.dumps(plan))
    special: list[Token] = [
        AddedToken(renamed.get(token["content"], token["content"]), **_flags(token))
        for token in added
        if token["special"] or model["type"] == "Unigram"
    ]
    special += new_special_tokens
    try:
        trainer = _TRAINERS[model["type"]](vocab_size=vocab_size, special_tokens=special, **settings)
    except TypeError as error:
        raise InputError(f"The trainer refuses its settings: {error}.", "See tokenizers.trainers for them.") from error
    engine.train_from_iterator(texts, trainer=trainer, length=length)
    if frame is not None:
        trained = json.loads(engine.to_str())
        trained["post_processor"] = _with_new_ids(frame, engine, renamed)
        engine = Tokenizer.from_str(json.dumps(trained))
    twin = type(tokenizer).__new__(type(tokenizer))
    twin._set_up(
        {
            **tokenizer.init_kwargs,
            **_special_settings(tokenizer, new_special_tokens, renamed),
            "tokenizer_object": engine,
        }
    )
    return twin


def _empty(model: dict[str, Any], renamed: Mapping[str, str]) -> None:
    """Take the old vocabulary out of the model's description."""
    if model["type"] == "Unigram":
        if model["unk_id"] is not None:
            unknown = model["vocab"][model["unk_id"]][0]
            model["vocab"], model["unk_id"] = [[renamed.get(unknown, unknown), 0.0]], 0
        return
    model["vocab"] = {}
    if model["type"] == "BPE":
        model["merges"] = []
    if model.get("unk_token") in renamed:
        model["unk_token"] = renamed[model["unk_token"]]


def _trainer_settings(model: dict[str, Any], pre_tokenizer: Any, renamed: Mapping[str, str]) -> dict[str, Any]:
    """What the trainer must know of the old model."""
    settings: dict[str, Any] = {}
    if model["type"] == "BPE":
        names = ("continuing_subword_prefix", "end_of_word_suffix")
        settings.update({name: model[name] for name in names if model[name] is not None})
    if model["type"] == "Unigram" and model["unk_id"] is not None:
        unknown = model["vocab"][model["unk_id"]][0]
        settings["unk_token"] = renamed.get(unknown, unknown)
    steps = [] if pre_tokenizer is None else [pre_tokenizer, *pre_tokenizer.get("pretokenizers", ())]
    if any(step["type"] == "ByteLevel" for step in steps):
        settings["initial_alphabet"] = pre_tokenizers.ByteLevel.alphabet()
    return settings


def _flags(token: Mapping[str, Any]) -> dict[str, bool]:
    return {flag: token[flag] for flag in ("single_word", "lstrip", "rstrip", "normalized", "special")}


def _with_new_ids(frame: Any, engine: Tokenizer, renamed: Mapping[str, str]) -> Any:
    """The description of a post-processor with the new names and ids of its special tokens."""

    def current(token: str) -> tuple[str, int]:
        token = renamed.get(token, token)
        index = engine.token_to_id(token)
        if index is None:
            raise InputError(
                f"The post-processor needs the token {token!r}, which the new vocabulary lacks.",
                "Check `special_tokens_map`.",
            )
        return token, index

    if frame["type"] == "Sequence":
        return {**frame, "processors": [_with_new_ids(step, engine, renamed) for step in frame["processors"]]}
    frame = dict(frame)
    for name in ("cls", "sep"):
        if name in frame:
            frame[name] = list(current(frame[name][0]))
    if "special_tokens" in frame:
        entries = {}
        for name, entry in frame["special_tokens"].items():
            found = [current(token) for token in entry["tokens"]]
            entries[name] = {**entry, "tokens": [token for token, _ in found], "ids": [index for _, index in found]}
        frame["special_tokens"] = entries
    return frame


def _special_settings(
    tokenizer: PreTrainedTokenizerFast, new: Sequence[Token], renamed: Mapping[str, str]
) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for name, token in tokenizer.special.named.items():
        if isinstance(token, AddedToken):
            settings[name] = AddedToken(
                renamed.get(token.content, token.content),
                single_word=token.single_word,
                lstrip=token.lstrip,
                rstrip=token.rstrip,
                normalized=token.normalized,
                special=True,
            )
        elif token is not None:
            settings[name] = renamed.get(token, token)
    extra = [*tokenizer.special.extra, *new]
    if extra:
        settings["extra_special_tokens"] = extra
    return settings
