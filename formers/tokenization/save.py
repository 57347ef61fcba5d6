"""A tokenizer's files, written so that the reference implementation loads them too."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tokenizers import AddedToken, Tokenizer

from formers.errors import ConfigError, InputError, UnsupportedError
from formers.hub.atomic import write_bytes, write_json, write_text
from formers.hub.paths import is_inside
from formers.tokenization.engine import derive
from formers.tokenization.load import (
    ADDED_TOKENS_FILE,
    CHAT_TEMPLATE_FILE,
    CHAT_TEMPLATE_FOLDER,
    CONFIG_FILE,
    SPECIAL_TOKENS_FILE,
    TOKENIZER_FILE,
)
from formers.tokenization.special import to_json

if TYPE_CHECKING:
    from formers.tokenization.tokenizer import PreTrainedTokenizerFast

# What a call or this machine adds to the settings is no property of the tokenizer.
_PRIVATE = ("name_or_path", "verbose", "chat_template", "added_tokens_decoder", "add_bos_token", "add_eos_token")


def save(
    tokenizer: PreTrainedTokenizerFast, folder: str | os.PathLike[str], legacy: bool | None, prefix: str | None
) -> tuple[str, ...]:
    """Write all files into `folder`, made if need be; the paths of what was written."""
    target = Path(folder)
    if target.exists() and not target.is_dir():
        raise InputError(f"{str(target)!r} is a file.", "Pass the path of a folder.")
    target.mkdir(parents=True, exist_ok=True)
    has_vocabulary = _can_write_vocabulary(tokenizer)
    if legacy and not has_vocabulary:
        raise UnsupportedError(
            f"{type(tokenizer).__name__} has no other files than {TOKENIZER_FILE} to write.",
            "Leave out legacy_format=True.",
        )
    paths = [write_json(_named(target, CONFIG_FILE, prefix), _config(tokenizer), sort_keys=True)]
    paths.append(write_json(_named(target, SPECIAL_TOKENS_FILE, prefix), _special_tokens(tokenizer)))
    paths += _write_chat_template(tokenizer.chat_template, target, prefix)
    if legacy is not False and has_vocabulary:
        paths += map(Path, save_vocabulary(tokenizer, target, prefix))
        base = tokenizer.vocab_size
        added = {token: index for token, index in tokenizer.added_tokens_encoder.items() if index >= base}
        if added:
            paths.append(write_json(_named(target, ADDED_TOKENS_FILE, prefix), added))
    if not legacy and "tokenizer_file" in tokenizer.vocab_files_names:
        text = _with_baked_settings(tokenizer).to_str(pretty=True)
        paths.append(write_text(_named(target, TOKENIZER_FILE, prefix), text))
    return tuple(str(path) for path in paths)


def save_vocabulary(
    tokenizer: PreTrainedTokenizerFast, folder: str | os.PathLike[str], prefix: str | None
) -> tuple[str, ...]:
    """Write the vocabulary files of the tokenizer's family into an existing folder; their paths."""
    target = Path(folder)
    if not target.is_dir():
        raise InputError(f"There is no folder {str(target)!r}.", "Make it first.")
    if not _can_write_vocabulary(tokenizer):
        raise UnsupportedError(
            f"{type(tokenizer).__name__} has no vocabulary file to write.",
            f"save_pretrained writes {TOKENIZER_FILE}, which holds the vocabulary.",
        )
    if not tokenizer.vocab_files_names:
        return ()
    if _from_sentencepiece(tokenizer):
        copy = _named(target, tokenizer.vocab_files_names["vocab_file"], prefix)
        source = Path(str(tokenizer.vocab_file))
        if not (copy.exists() and copy.samefile(source)):
            shutil.copyfile(source, copy)
        return (str(copy),)
    with TemporaryDirectory(dir=target) as draft:
        written = [Path(path) for path in tokenizer._engines.base.model.save(draft, prefix)]
        paths = [path.replace(target / path.name) for path in written]
    for name, data in tokenizer.kept_files().items():
        paths.append(write_bytes(_named(target, tokenizer.vocab_files_names[name], prefix), data))
    return tuple(str(path) for path in paths)


def _named(folder: Path, name: str, prefix: str | None) -> Path:
    if prefix and not is_inside(prefix):
        raise InputError(f"filename_prefix={prefix!r} leaves the folder.", "Use a plain name.")
    return folder / (f"{prefix}-{name}" if prefix else name)


def _can_write_vocabulary(tokenizer: PreTrainedTokenizerFast) -> bool:
    if not {"vocab_file", "vocab"} & tokenizer.vocab_files_names.keys():
        return not tokenizer.vocab_files_names  # all that there is can be written: nothing
    if not _from_sentencepiece(tokenizer):
        return True
    # The engine cannot write SentencePiece files; the one that the tokenizer came from is copied.
    return (
        tokenizer.vocab_file is not None
        and tokenizer.vocab_file.endswith(".model")
        and os.path.isfile(tokenizer.vocab_file)
    )


def _from_sentencepiece(tokenizer: PreTrainedTokenizerFast) -> bool:
    return tokenizer.vocab_files_names.get("vocab_file", "").endswith(".model")


def _config(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    settings = {**tokenizer.init_kwargs, **{name: getattr(tokenizer, name) for name in tokenizer.options}}
    config = {name: _plain(value) for name, value in settings.items() if name not in _PRIVATE}
    if "add_bos_token" in tokenizer.options:
        config.update(add_bos_token=tokenizer.add_bos_token, add_eos_token=tokenizer.add_eos_token)
    config.update(tokenizer.special_tokens_map)
    config["model_max_length"] = tokenizer.model_max_length
    config["clean_up_tokenization_spaces"] = tokenizer.clean_up_tokenization_spaces
    config["tokenizer_class"] = type(tokenizer).__name__
    for name in ("padding_side", "truncation_side", "model_input_names"):
        value = getattr(tokenizer, name)
        if name in config or value != getattr(type(tokenizer), name):
            config[name] = value
    if tokenizer.split_special_tokens:
        config["split_special_tokens"] = True
    if tokenizer.special.extra:
        config["additional_special_tokens"] = tokenizer.extra_special_tokens
    config["added_tokens_decoder"] = {
        str(index): {**to_json(token), "special": token.special}
        for index, token in tokenizer.added_tokens_decoder.items()
    }
    return config


def _special_tokens(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    added = {token.content: token for token in tokenizer.added_tokens_decoder.values()}
    special = tokenizer.special
    named = {name: to_json(added.get(str(token), token)) for name, token in special.named.items() if token is not None}
    if special.extra:
        named["additional_special_tokens"] = [to_json(added.get(str(token), token)) for token in special.extra]
    return named


def _plain(value: Any) -> Any:
    """The value as JSON holds it."""
    if isinstance(value, AddedToken):
        return {"__type": "AddedToken", **to_json(value), "special": value.special}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    return value


def _with_baked_settings(tokenizer: PreTrainedTokenizerFast) -> Tokenizer:
    """The engine with the padding and truncation that its file asked for: other programs go by them."""
    engine = derive(tokenizer._engines.base)
    truncation, padding = tokenizer._baked["truncation"], tokenizer._baked["padding"]
    if truncation is not None:
        engine.enable_truncation(**truncation)
    if padding is not None:
        engine.enable_padding(**padding)
    return engine


def _write_chat_template(template: Any, folder: Path, prefix: str | None) -> list[Path]:
    """The template in a file of its own; of several the one named "default", the others in a folder by their names."""
    if template is None:
        return []
    if isinstance(template, str):
        return [write_text(_named(folder, CHAT_TEMPLATE_FILE, prefix), template)]
    paths = []
    for name, text in template.items():
        if name == "default":
            paths.append(write_text(_named(folder, CHAT_TEMPLATE_FILE, prefix), text))
            continue
        if not is_inside(name) or "/" in name or "\\" in name:
            raise ConfigError(f"{name!r} cannot name the file of a chat template.", "Rename the template.")
        (folder / CHAT_TEMPLATE_FOLDER).mkdir(exist_ok=True)
        paths.append(write_text(folder / CHAT_TEMPLATE_FOLDER / f"{name}.jinja", text))
    return paths
