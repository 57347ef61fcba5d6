"""The feature extractor and the processor of any model."""

from __future__ import annotations

import os
from typing import Any

from formers.audio.extractor import CONFIG_FILE, PROCESSOR_FILE, WhisperFeatureExtractor, read_settings
from formers.audio.processor import WhisperProcessor
from formers.errors import InputError, UnsupportedError
from formers.hub import ModelFiles, Source, resolve
from formers.tokenization import AutoTokenizer


class AutoFeatureExtractor:
    """Loads the feature extractor that a model's files name: `AutoFeatureExtractor.from_pretrained(name)`."""

    def __init__(self) -> None:
        raise InputError(
            "AutoFeatureExtractor makes no objects of its own.", "Use AutoFeatureExtractor.from_pretrained(name)."
        )

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        cache_dir: str | os.PathLike[str] | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        revision: str | None = None,
        subfolder: str = "",
        **settings: Any,
    ) -> WhisperFeatureExtractor:
        """Load the extractor of a model: a folder, an installed package or a name on the hub. `settings` change it."""
        source = Source(revision, token, cache_dir, local_files_only, subfolder, force_download)
        files = resolve(pretrained_model_name_or_path, source)
        values = read_settings(files)
        _check(files, values)
        return WhisperFeatureExtractor.from_dict({**values, **settings})


class AutoProcessor:
    """Loads what makes a model's inputs: `AutoProcessor.from_pretrained(name)`. Of a model of text, its tokenizer."""

    def __init__(self) -> None:
        raise InputError("AutoProcessor makes no objects of its own.", "Use AutoProcessor.from_pretrained(name).")

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        cache_dir: str | os.PathLike[str] | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        revision: str | None = None,
        subfolder: str = "",
    ) -> Any:
        """Load the processor of a model: a folder, an installed package or a name on the hub."""
        source = Source(revision, token, cache_dir, local_files_only, subfolder, force_download)
        files = resolve(pretrained_model_name_or_path, source)
        places: dict[str, Any] = {
            "cache_dir": cache_dir,
            "force_download": force_download,
            "local_files_only": local_files_only,
            "token": token,
            "revision": revision,
            "subfolder": subfolder,
        }
        if files.find(CONFIG_FILE) is None and files.find(PROCESSOR_FILE) is None:
            return AutoTokenizer.from_pretrained(pretrained_model_name_or_path, **places)
        _check(files, read_settings(files))
        return WhisperProcessor.from_pretrained(pretrained_model_name_or_path, **places)


def _check(files: ModelFiles, values: dict[str, Any]) -> None:
    named = values.get("feature_extractor_type", values.get("image_processor_type"))
    if named != WhisperFeatureExtractor.__name__:
        raise UnsupportedError(
            f"{files.name!r} wants {named or 'inputs that it does not name'}, which formers does not have.",
            "Use a Whisper model; features of other models have to come from their own library.",
        )
