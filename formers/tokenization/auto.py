"""The tokenizer of any model."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

from formers.errors import InputError, ModelNotFoundError, UnsupportedError
from formers.hub import ModelFiles, Source, resolve
from formers.registry import FAMILIES, TOKENIZERS
from formers.tokenization.load import CONFIG_FILE, TOKENIZER_FILE, gguf_of, load, load_files
from formers.tokenization.tokenizer import PreTrainedTokenizerFast

_GENERIC = ("PreTrainedTokenizer", "PreTrainedTokenizerBase", "TokenizersBackend", "PythonBackend")


class AutoTokenizer:
    """Loads the tokenizer that a model's files name: `AutoTokenizer.from_pretrained(name)`."""

    def __init__(self) -> None:
        raise InputError("AutoTokenizer makes no objects of its own.", "Use AutoTokenizer.from_pretrained(name).")

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *inputs: Any,
        cache_dir: str | os.PathLike[str] | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        revision: str | None = None,
        subfolder: str = "",
        gguf_file: str | None = None,
        config: Any = None,
        tokenizer_type: str | None = None,
        **settings: Any,
    ) -> PreTrainedTokenizerFast:
        """Load the tokenizer of a model: a folder, an installed package or a name on the hub.

        config: the model's configuration, whose `model_type` is used where the tokenizer's files name no class.
        tokenizer_type: a model type whose tokenizer to use. gguf_file: the GGUF file to read.
        settings: those of the class, over what the files say.
        """
        source = Source(revision, token, cache_dir, local_files_only, subfolder, force_download, gguf_file)
        if tokenizer_type is not None:
            return load(_class_of_type(tokenizer_type), pretrained_model_name_or_path, source, inputs, settings)
        path = Path(os.path.expanduser(pretrained_model_name_or_path))
        if path.is_file() and path.suffix != ".gguf":
            return load(PreTrainedTokenizerFast, pretrained_model_name_or_path, source, inputs, settings)
        files = resolve(pretrained_model_name_or_path, source)
        return load_files(_class_of(files, config), files, inputs, settings)


def class_named(name: str) -> type[PreTrainedTokenizerFast] | None:
    """The class of a name, with or without "Fast"; None if formers has none of that name."""
    name = name.removesuffix("Fast")
    if name in _GENERIC:
        return PreTrainedTokenizerFast
    module = TOKENIZERS.get(name)
    return None if module is None else getattr(import_module(f"formers.tokenization.{module}"), name)


def _class_of_type(model_type: str) -> type[PreTrainedTokenizerFast]:
    family = FAMILIES.get(model_type)
    if family is None:
        raise InputError(f"{model_type!r} is no model type of formers.", f"Use one of {', '.join(sorted(FAMILIES))}.")
    return class_named(family.tokenizer) or PreTrainedTokenizerFast


def _class_of(files: ModelFiles, config: Any) -> type[PreTrainedTokenizerFast]:
    """The class that tokenizer_config.json names, or config.json; else that of the model type; else the generic one."""
    if gguf_of(files) is not None:
        return PreTrainedTokenizerFast
    named = files.read_json(CONFIG_FILE).get("tokenizer_class") if files.find(CONFIG_FILE) else None
    model_type = getattr(config, "model_type", None)
    if named is None and model_type is None and files.find("config.json"):
        described = files.read_json("config.json")
        named, model_type = described.get("tokenizer_class"), described.get("model_type")
    if named is not None:
        cls = class_named(str(named))
        if cls is not None:
            return cls
    elif model_type in FAMILIES:
        return _class_of_type(str(model_type))
    if files.find(TOKENIZER_FILE):
        return PreTrainedTokenizerFast  # the file says all that the engine needs
    if named is not None:
        raise UnsupportedError(
            f"{files.name!r} wants the tokenizer {named!r}, which formers does not have, and has no {TOKENIZER_FILE}.",
            "Load it with the reference implementation and save it: save_pretrained writes that file.",
        )
    raise ModelNotFoundError(
        f"{files.name!r} has no {TOKENIZER_FILE}, and neither {CONFIG_FILE} nor config.json names a tokenizer.",
        "Use the class of its family, such as BertTokenizer.from_pretrained for a folder with vocab.txt, or pass "
        "`tokenizer_type`.",
    )
