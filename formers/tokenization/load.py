"""From a model's files to its tokenizer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from tokenizers import AddedToken

from formers.errors import ConfigError, InputError, ModelNotFoundError, UnsupportedError
from formers.hub import ModelFiles, Source, resolve
from formers.tokenization.setup import SOURCES, warn_unknown
from formers.tokenization.special import NAMES
from formers.tokenization.tokenizer import PreTrainedTokenizerFast

Kind = TypeVar("Kind", bound=PreTrainedTokenizerFast)

CONFIG_FILE = "tokenizer_config.json"
TOKENIZER_FILE = "tokenizer.json"
SPECIAL_TOKENS_FILE = "special_tokens_map.json"
ADDED_TOKENS_FILE = "added_tokens.json"
CHAT_TEMPLATE_FILE = "chat_template.jinja"
CHAT_TEMPLATE_FOLDER = "additional_chat_templates"

# Arguments of the reference that need nothing done here: every tokenizer is "fast", and no code of a model is run.
_ACCEPTED = ("use_fast", "trust_remote_code", "resume_download", "legacy", "_from_auto", "_from_pipeline")


def load(
    cls: type[Kind], name: str | os.PathLike[str], source: Source, inputs: Sequence[Any], settings: dict[str, Any]
) -> Kind:
    """The tokenizer of a model, `settings` going over what its files say."""
    path = Path(os.path.expanduser(name))
    if path.is_file() and path.suffix != ".gguf":
        whole = path.name == TOKENIZER_FILE or (path.suffix == ".json" and "merges_file" not in cls.vocab_files_names)
        kind = "tokenizer_file" if whole else "vocab_file"
        return make(cls, {kind: str(path)}, inputs, {"name_or_path": str(name), **settings})
    return load_files(cls, resolve(name, source), inputs, settings)


def load_files(cls: type[Kind], files: ModelFiles, inputs: Sequence[Any], settings: dict[str, Any]) -> Kind:
    """The tokenizer that `files` describe."""
    settings = dict(settings)
    path = gguf_of(files)
    if path is not None:
        from formers.tokenization import gguf

        return make(cls, {**gguf.read(path), "name_or_path": files.name}, inputs, settings)
    found = _config(cls, files)
    sources = _sources(cls, files, from_vocabulary=bool(settings.pop("from_slow", False)))
    if "tokenizer_file" in sources:
        # The file says where bos and eos go; these settings only describe it, unless the caller gives them.
        found.pop("add_bos_token", None)
        found.pop("add_eos_token", None)
    if "added_tokens_decoder" not in found:
        _read_older_tokens(files, found, added="tokenizer_file" not in sources)
    template = _chat_template(files)
    if template is not None:
        found["chat_template"] = template
    found["name_or_path"] = files.name
    return make(cls, {**found, **sources}, inputs, settings)


def gguf_of(files: ModelFiles) -> Path | None:
    """The GGUF file that holds the tokenizer: the one asked for, or a folder's only one where nothing else does."""
    if files.gguf_file is None and (files.find(TOKENIZER_FILE) or files.find(CONFIG_FILE)):
        return None
    return files.gguf


def make(cls: type[Kind], found: dict[str, Any], inputs: Sequence[Any], settings: dict[str, Any]) -> Kind:
    """A tokenizer from what the files gave and the caller's settings."""
    settings = dict(settings)
    if settings.pop("proxies", None):
        raise UnsupportedError(
            "`proxies` is not supported.", "Set the environment variables HTTPS_PROXY and HTTP_PROXY."
        )
    for name in _ACCEPTED:
        if name not in cls.options:
            settings.pop(name, None)
    warn_unknown(cls, settings)
    if len(inputs) > 2:
        raise InputError("Too many positional arguments.", "Pass settings by name.")
    settings.update(zip(("vocab", "merges"), inputs, strict=False))
    tokenizer = cls.__new__(cls)
    tokenizer._set_up({**found, **settings})
    return tokenizer


def _config(cls: type[PreTrainedTokenizerFast], files: ModelFiles) -> dict[str, Any]:
    config = files.read_json(CONFIG_FILE) if files.find(CONFIG_FILE) else {}
    # Paths in a model's file would point outside of it; the class was chosen before.
    for name in (
        *SOURCES,
        *cls.vocab_files_names,
        "tokenizer_class",
        "auto_map",
        "special_tokens_map_file",
        "init_inputs",
    ):
        config.pop(name, None)
    return {name: _revived(value) for name, value in config.items()}


def _revived(value: Any) -> Any:
    """AddedTokens where the file describes one."""
    if isinstance(value, dict) and value.get("__type") == "AddedToken":
        return AddedToken(**{name: item for name, item in value.items() if name != "__type"})
    if isinstance(value, list):
        return [_revived(item) for item in value]
    return value


def _sources(cls: type[PreTrainedTokenizerFast], files: ModelFiles, from_vocabulary: bool) -> dict[str, Any]:
    names = dict(cls.vocab_files_names)
    whole = files.find(TOKENIZER_FILE) if names.pop("tokenizer_file", None) and not from_vocabulary else None
    found = {name: str(path) for name, file in names.items() if (path := files.find(file)) is not None}
    if whole is not None:
        # SentencePiece files are saved again with the tokenizer; the others are made from the engine.
        kept = {
            name: path for name, path in found.items() if names[name].endswith(".model") or name in cls.optional_files
        }
        return {"tokenizer_file": str(whole), **kept}
    missing = [file for name, file in names.items() if name not in found and name not in cls.optional_files]
    if missing or (not names and "tokenizer_file" in cls.vocab_files_names):
        lacking = [TOKENIZER_FILE] if "tokenizer_file" in cls.vocab_files_names else []
        raise ModelNotFoundError(
            f"{files.name!r} has no "
            + " and no ".join([*lacking, *([" and ".join(missing)] if missing else [])])
            + f", which {cls.__name__} needs.",
            "Check the name, or load the tokenizer of the model it was made from.",
        )
    return found


def _read_older_tokens(files: ModelFiles, config: dict[str, Any], added: bool) -> None:
    """Special and added tokens from the files that held them before `tokenizer_config.json` did."""
    if files.find(SPECIAL_TOKENS_FILE):
        for name, value in files.read_json(SPECIAL_TOKENS_FILE).items():
            if isinstance(value, dict) and "content" in value:
                value = {**value, "special": True}
            config[name] = value
    if added and files.find(ADDED_TOKENS_FILE):
        special = {str(_content(config[name])) for name in NAMES if config.get(name)}
        extra = config.get("extra_special_tokens") or config.get("additional_special_tokens") or ()
        special.update(str(_content(token)) for token in extra)
        decoder = {}
        for token, index in files.read_json(ADDED_TOKENS_FILE).items():
            if not isinstance(index, int):
                raise ConfigError(f"{ADDED_TOKENS_FILE} gives {token!r} the id {index!r}.", "Ids are ints.")
            is_special = token in special
            decoder[index] = AddedToken(token, normalized=not is_special, special=is_special)
        config["added_tokens_decoder"] = decoder


def _content(token: Any) -> Any:
    return token.get("content") if isinstance(token, dict) else token


def _chat_template(files: ModelFiles) -> Any:
    """Templates in files of their own; they win over those in the configuration."""
    templates = {}
    path = files.find(CHAT_TEMPLATE_FILE)
    if path is not None:
        templates["default"] = path.read_text(encoding="utf-8")
        folder = path.parent / CHAT_TEMPLATE_FOLDER
        for file in sorted(folder.glob("*.jinja")) if folder.is_dir() else ():
            templates[file.stem] = file.read_text(encoding="utf-8")
    if list(templates) == ["default"]:
        return templates["default"]
    return templates or None
