"""From a model's name to its files: a folder, an installed package, the hub's cache, a download."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from formers.errors import ConfigError, InputError, ModelNotFoundError


@dataclass(frozen=True)
class Source:
    """Where and how to look for a model: the arguments that every `from_pretrained` shares.

    revision: branch, tag or commit on the hub (None: the main branch).
    token: access token; True: the stored one must be used; False: none is sent; None: the stored one if there is one.
    cache_dir: the hub's cache folder (None: as the environment says).
    local_files_only: never use the network.
    subfolder: folder inside the model that holds the files.
    force_download: fetch from the hub again what is cached already.
    """

    revision: str | None = None
    token: str | bool | None = None
    cache_dir: str | os.PathLike[str] | None = None
    local_files_only: bool = False
    subfolder: str = ""
    force_download: bool = False


@dataclass(frozen=True)
class ModelFiles:
    """The files of one model, found by name when they are asked for.

    name: what the user asked for. place: where the files are, in words, for messages.
    remedy: what to do when a file is missing. locate: file name to path, None if the model has no such file.
    """

    name: str
    place: str
    remedy: str
    locate: Callable[[str], Path | None]

    def find(self, filename: str) -> Path | None:
        """The path of `filename`, or None if this model has no such file."""
        if not is_inside(filename):
            raise InputError(
                f"{filename!r} is not the name of a file inside the model {self.name!r}.",
                "File names must be relative and stay in the model's folder.",
            )
        return self.locate(filename)

    def require(self, filename: str) -> Path:
        """The path of `filename`; ModelNotFoundError if this model has no such file."""
        path = self.find(filename)
        if path is None:
            raise ModelNotFoundError(f"{self.place} has no file {filename!r}.", self.remedy)
        return path

    def read_json(self, filename: str) -> dict[str, Any]:
        """The object in the JSON file `filename`; ConfigError if it holds anything else."""
        path = self.require(filename)
        remedy = f"Fix or replace {path}."
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{filename!r} of {self.name!r} is not valid JSON: {error}.", remedy) from error
        if not isinstance(value, dict):
            raise ConfigError(
                f"{filename!r} of {self.name!r} must hold a JSON object, not {type(value).__name__}.", remedy
            )
        return value


def resolve(name_or_path: str | os.PathLike[str], source: Source = Source()) -> ModelFiles:
    """Find a model: an existing folder wins, then an installed model package, then the hub (its cache first)."""
    name = os.fspath(name_or_path)
    if source.subfolder and not is_inside(source.subfolder):
        raise InputError(
            f"subfolder={source.subfolder!r} leaves the model's folder.", "Pass a relative path inside it."
        )
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _in_folder(name, folder / source.subfolder)
    raise ModelNotFoundError(f"There is no folder {name!r}.", "Pass the path of a folder that holds a model.")


def is_inside(filename: str) -> bool:
    """Whether a name taken from a user or from model data stays inside the folder that it is joined to."""
    posix, windows = PurePosixPath(filename), PureWindowsPath(filename)
    return (
        bool(filename)
        and "\0" not in filename
        and not (posix.is_absolute() or windows.anchor or ".." in posix.parts or ".." in windows.parts)
    )


def _in_folder(name: str, folder: Path) -> ModelFiles:
    if not folder.is_dir():
        raise ModelNotFoundError(f"There is no folder {str(folder)!r}.", "Check the `subfolder` argument.")

    def locate(filename: str) -> Path | None:
        path = folder / filename
        return path if path.is_file() else None

    return ModelFiles(
        name, f"The folder {str(folder)!r}", "Put the file there, or pass another folder or model name.", locate
    )
