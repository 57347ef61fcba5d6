"""Making a tokenizer: which engine, which special tokens, which settings."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers, processors

from formers.errors import ConfigError, InputError
from formers.tokenization.build import Vocabulary, bos_eos_frame, looks_cased, read_vocabulary
from formers.tokenization.engine import Engines
from formers.tokenization.probe import encoding_of
from formers.tokenization.settings import NO_LIMIT, check_side
from formers.tokenization.special import NAMES, SpecialTokens, Token, as_token

if TYPE_CHECKING:
    from formers.tokenization.base import PreTrainedTokenizerBase

# Where the engine comes from: these are no settings, and no file keeps them.
SOURCES = ("engine", "tokenizer_object", "tokenizer_file", "vocab", "merges", "vocab_file", "merges_file")

FORCE_CLEAN_UP = "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output"

_SETTINGS = {
    "model_max_length",
    "max_len",
    "padding_side",
    "truncation_side",
    "model_input_names",
    "clean_up_tokenization_spaces",
    FORCE_CLEAN_UP,
    "split_special_tokens",
    "chat_template",
    "name_or_path",
    "verbose",
    "additional_special_tokens",
    "extra_special_tokens",
    "added_tokens_decoder",
}
_PROBE = 0xFFFFFFF  # no token's id
_FRAME_SETTINGS = {"add_bos_token", "add_eos_token"}  # families have frames of their own


@dataclass
class Parts:
    """What a tokenizer is made of."""

    engines: Engines
    special: SpecialTokens
    options: dict[str, Any]
    baked: dict[str, Any]
    vocab_file: str | None
    from_file: bool


def assemble(cls: type[PreTrainedTokenizerBase], settings: dict[str, Any]) -> Parts:
    """Make the engine and the special tokens from the constructor's arguments; `settings` keeps what remains."""
    source = {name: settings.pop(name, None) for name in dict.fromkeys((*SOURCES, *cls.vocab_files_names))}
    special = _special_tokens(cls, settings)
    engine = _given_engine(source)
    from_file = engine is not None
    options = dict(cls.options)
    if engine is None:
        vocabulary = _vocabulary(cls, source)
        if "do_lower_case" in options and isinstance(vocabulary.pieces, dict):
            # A cased vocabulary without a word about casing: lower-casing would lose most of it.
            options["do_lower_case"] = not looks_cased(vocabulary.pieces)
        options.update({name: settings[name] for name in options if name in settings})
        assert cls.recipe is not None
        engine = cls.recipe.make(vocabulary, special.map(), options)
    else:
        _adjust(engine, {name: settings[name] for name in options if name in settings})
        options.update(_read_options(engine, options))
        options.update({name: settings[name] for name in options if name in settings})
    if cls.recipe is not None and cls.recipe.extra is not None:
        given = [str(token) for token in special.extra]
        special.extra += [token for token in cls.recipe.extra(given, options) if token not in given]
    baked = {"truncation": engine.truncation, "padding": engine.padding}
    _take_baked_defaults(cls, baked, special, settings)
    engine.encode_special_tokens = bool(settings.get("split_special_tokens", False))
    _add_tokens(engine, settings.pop("added_tokens_decoder", None) or {}, special)
    if not from_file and cls.recipe is not None and cls.recipe.frame is not None:
        engine.post_processor = cls.recipe.frame(named_ids(engine, special), options)
    vocab_file = source["vocab_file"]
    cutter = (
        None if cls.recipe is None or cls.recipe.cutter is None else cls.recipe.cutter(source, special.map(), options)
    )
    return Parts(
        Engines(engine, cutter), special, options, baked, None if vocab_file is None else str(vocab_file), from_file
    )


def warn_unknown(cls: type[PreTrainedTokenizerBase], names: Iterable[str]) -> None:
    """Warn of arguments without an effect: the reference takes them in silence, typing errors included."""
    known = {
        *_SETTINGS,
        *SOURCES,
        *cls.vocab_files_names,
        *cls.options,
        *NAMES,
        *(_FRAME_SETTINGS if has_bos_eos_frame(cls) else ()),
    }
    for name in names:
        if name not in known and (name in _FRAME_SETTINGS or not name.endswith("_token")):
            from difflib import get_close_matches

            near = get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            warnings.warn(f"{cls.__name__} has no setting {name!r}: it has no effect.{hint}", stacklevel=3)


def _given_engine(source: Mapping[str, Any]) -> Tokenizer | None:
    if source["engine"] is not None:
        return source["engine"]  # type: ignore[no-any-return]  # made for this tokenizer alone
    if source["tokenizer_object"] is not None:
        # The caller goes on using the object; this tokenizer must not see what happens to it.
        return copy.deepcopy(source["tokenizer_object"])  # type: ignore[no-any-return]
    if source["tokenizer_file"] is None:
        return None
    path = Path(source["tokenizer_file"])
    if not path.is_file():
        raise InputError(f"There is no file {str(path)!r}.", "Check the path in `tokenizer_file`.")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the engine has no exception type of its own
        raise ConfigError(f"{path} cannot be read: {error}.", "Fetch the file again or update `tokenizers`.") from error


def _vocabulary(cls: type[PreTrainedTokenizerBase], source: Mapping[str, Any]) -> Vocabulary:
    vocab = source["vocab"] if source["vocab"] is not None else source["vocab_file"]
    merges = source["merges"] if source["merges"] is not None else source["merges_file"]
    if cls.recipe is None:
        raise InputError(
            f"{cls.__name__} is made from a tokenizer.json file or an engine, and got neither.",
            "Pass `tokenizer_file` or `tokenizer_object`, or use the class of the model's family.",
        )
    if vocab is None:
        raise InputError(
            f"{cls.__name__} needs a vocabulary.",
            f"Pass `vocab_file` (such as {_vocabulary_file(cls)}), `tokenizer_file` or "
            f"`tokenizer_object`, or load a model with {cls.__name__}.from_pretrained.",
        )
    if "merges_file" in cls.vocab_files_names and merges is None:
        raise InputError(f"{cls.__name__} needs merges besides its vocabulary.", "Pass `merges_file` (merges.txt).")
    return read_vocabulary(vocab, merges)


def _vocabulary_file(cls: type[PreTrainedTokenizerBase]) -> str:
    return cls.vocab_files_names.get("vocab_file") or cls.vocab_files_names["vocab"]


def _special_tokens(cls: type[PreTrainedTokenizerBase], settings: dict[str, Any]) -> SpecialTokens:
    special = SpecialTokens()
    for name, token in cls.special_defaults.items():
        special.set(name, token)
    for name in [name for name in settings if name.endswith("_token") and not name.startswith("add_")]:
        value = settings[name]
        if value is None or isinstance(value, (str, AddedToken, Mapping)):
            special.set(name, settings.pop(name))
    older = settings.pop("additional_special_tokens", None)
    extra = settings.pop("extra_special_tokens", None) or older
    if extra is not None:
        special.set_extra(extra)
    return special


def _add_tokens(engine: Tokenizer, decoder: Mapping[Any, Any], special: SpecialTokens) -> None:
    """Register what the files name besides the vocabulary, in the order of the ids, then missing special tokens."""
    present = {token.content for token in engine.get_added_tokens_decoder().values()}
    missing: dict[str, Token] = {}
    for _, token in sorted((int(index), as_token(token, "added_tokens_decoder")) for index, token in decoder.items()):
        missing.setdefault(str(token), token)
    named = {str(token) for token in special.named.values() if token is not None}
    for token in special.all():
        missing.setdefault(str(token), token)
    tokens = []
    for text, token in missing.items():
        if text in present:
            continue
        if isinstance(token, str):
            token = AddedToken(token, special=True)
        elif text in named:
            token.special = True
        tokens.append(token)
    if tokens:
        engine.add_tokens(tokens)


def named_ids(engine: Tokenizer, special: SpecialTokens) -> Any:
    """Special tokens by name, as frames need them: the token and its id. InputError for what is not set."""

    def named(name: str) -> tuple[str, int]:
        token = special.text(name)
        index = None if token is None else engine.token_to_id(token)
        if token is None or index is None:
            raise InputError(f"This family's texts need a {name}.", f"Pass `{name}`.")
        return token, index

    return named


def _take_baked_defaults(
    cls: type[PreTrainedTokenizerBase], baked: Mapping[str, Any], special: SpecialTokens, settings: dict[str, Any]
) -> None:
    """Padding and truncation that tokenizer.json itself asks for give the defaults of sides and padding token."""
    padding, truncation = baked["padding"], baked["truncation"]
    if padding is not None:
        settings.setdefault("padding_side", padding["direction"])
        if special.text("pad_token") is None:
            special.set("pad_token", padding["pad_token"])
    if truncation is not None:
        settings.setdefault("truncation_side", truncation["direction"])


def _read_options(engine: Tokenizer, names: Mapping[str, Any]) -> dict[str, Any]:
    """The family's options as the engine has them."""
    found: dict[str, Any] = {}
    if isinstance(engine.normalizer, normalizers.BertNormalizer):
        found["do_lower_case"] = engine.normalizer.lowercase
        found["strip_accents"] = engine.normalizer.strip_accents
        found["tokenize_chinese_chars"] = engine.normalizer.handle_chinese_chars
    if isinstance(engine.pre_tokenizer, pre_tokenizers.ByteLevel):
        found["add_prefix_space"] = engine.pre_tokenizer.add_prefix_space
    if isinstance(engine.post_processor, processors.RobertaProcessing):
        found["trim_offsets"] = _state(engine.post_processor)["trim_offsets"]
    return {name: value for name, value in found.items() if name in names}


def _adjust(engine: Tokenizer, options: Mapping[str, Any]) -> None:
    """Make the parts that tokenizer.json describes follow options that were given explicitly."""
    normalizer = engine.normalizer
    if isinstance(normalizer, normalizers.BertNormalizer):
        engine.normalizer = normalizers.BertNormalizer(
            clean_text=normalizer.clean_text,
            handle_chinese_chars=options.get("tokenize_chinese_chars", normalizer.handle_chinese_chars),
            strip_accents=options.get("strip_accents", normalizer.strip_accents),
            lowercase=options.get("do_lower_case", normalizer.lowercase),
        )
    pre_tokenizer = engine.pre_tokenizer
    if isinstance(pre_tokenizer, pre_tokenizers.ByteLevel) and "add_prefix_space" in options:
        pre_tokenizer.add_prefix_space = options["add_prefix_space"]
        engine.pre_tokenizer = pre_tokenizer
    post_processor = engine.post_processor
    if isinstance(post_processor, processors.RobertaProcessing):
        state = _state(post_processor)
        engine.post_processor = processors.RobertaProcessing(
            tuple(state["sep"]),
            tuple(state["cls"]),
            trim_offsets=options.get("trim_offsets", state["trim_offsets"]),
            add_prefix_space=options.get("add_prefix_space", state["add_prefix_space"]),
        )


def _state(part: Any) -> dict[str, Any]:
    return json.loads(part.__getstate__())  # type: ignore[no-any-return]


def sides(cls: type[PreTrainedTokenizerBase], settings: Mapping[str, Any]) -> tuple[str, str]:
    """The default padding and truncation sides."""
    return (
        check_side("padding_side", settings.get("padding_side", cls.padding_side)),
        check_side("truncation_side", settings.get("truncation_side", cls.truncation_side)),
    )


def limit(settings: Mapping[str, Any]) -> int:
    """`model_max_length` (older name: `max_len`), NO_LIMIT if it is not set."""
    value = settings.get("model_max_length")
    value = settings.get("max_len") if value is None else value
    return NO_LIMIT if value is None else int(value)


def chat_template(settings: Mapping[str, Any]) -> Any:
    """The chat template, or several by name; older files list them."""
    template = settings.get("chat_template")
    if isinstance(template, (list, tuple)):
        return {entry["name"]: entry["template"] for entry in template}
    return template


def has_bos_eos_frame(cls: type[PreTrainedTokenizerBase]) -> bool:
    """Whether `add_bos_token` and `add_eos_token` say what stands around texts; some families have other frames."""
    return cls.recipe is None or "add_bos_token" in cls.options


def frame_found(tokenizer: PreTrainedTokenizerBase) -> dict[str, bool]:
    """Whether the engine puts bos before and eos after texts, under the names of the settings."""
    ids = tokenizer._engines.base.post_process(encoding_of([_PROBE])).ids
    first = ids[0] != _PROBE and ids[0] == tokenizer.bos_token_id
    return {"add_bos_token": first, "add_eos_token": ids[-1] != _PROBE and ids[-1] == tokenizer.eos_token_id}


def frame(tokenizer: PreTrainedTokenizerBase, bos: bool, eos: bool) -> Any:
    """The post-processor that puts bos before and eos after every text, as far as wanted and set."""
    named = (tokenizer.bos_token if bos else None), (tokenizer.eos_token if eos else None)
    first, last = ((token, tokenizer.convert_tokens_to_ids(token)) if token else None for token in named)
    return bos_eos_frame(first, last)
