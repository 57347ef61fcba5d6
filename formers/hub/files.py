"""From a model's name to its files: a folder, an installed package, the hub's cache, a download."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from formers.errors import ConfigError, InputError, ModelNotFoundError
from formers.hub.packages import ALIASES, find_package
from formers.hub.paths import is_inside

CONFIG_FILE = "config.json"
_LATER_PART = re.compile(r"-(?!00001)\d{5}-of-\d{5}\.gguf$")


@dataclass(frozen=True)
class Source:
    """Where and how to look for a model: the arguments that every `from_pretrained` shares.

    revision: branch, tag or commit on the hub (None: the main branch).
    token: access token; True: the stored one must be used; False: none is sent; None: the stored one if there is one.
    cache_dir: the hub's cache folder (None: as the environment says).
    local_files_only: never use the network.
    subfolder: folder inside the model that holds the files.
    force_download: fetch from the hub again what is cached already.
    gguf_file: the GGUF file of the model that everything is read from.
    """

    revision: str | None = None
    token: str | bool | None = None
    cache_dir: str | os.PathLike[str] | None = None
    local_files_only: bool = False
    subfolder: str = ""
    force_download: bool = False
    gguf_file: str | None = None


class Home(Protocol):
    """Where the files of a model are: a folder, or a repository on the hub."""

    @property
    def place(self) -> str:
        """The place in words, to begin a message with."""

    @property
    def remedy(self) -> str:
        """What to do when a file is missing here."""

    def locate(self, filename: str) -> Path | None:
        """The path of a file, None if there is no such file here."""


@dataclass(frozen=True)
class ModelFiles:
    """The files of one model, found by name when they are asked for. `name` is what the user asked for.

    gguf_file: the GGUF file that holds the model, if the user named one.
    """

    name: str
    home: Home
    gguf_file: str | None = None

    def find(self, filename: str) -> Path | None:
        """The path of `filename`, or None if this model has no such file."""
        if not is_inside(filename):
            raise InputError(
                f"{filename!r} is not the name of a file inside the model {self.name!r}.",
                "File names must be relative and stay in the model's folder.",
            )
        return self.home.locate(filename)

    def require(self, filename: str) -> Path:
        """The path of `filename`; ModelNotFoundError if this model has no such file."""
        path = self.find(filename)
        if path is None:
            raise ModelNotFoundError(f"{self.home.place} has no file {filename!r}.", self.home.remedy)
        return path

    @property
    def gguf(self) -> Path | None:
        """The GGUF file that holds the model: the one asked for, else the only one of a folder without config.json."""
        if self.gguf_file is not None:
            return self.require(self.gguf_file)
        if not isinstance(self.home, Folder) or self.find(CONFIG_FILE):
            return None
        found = [path for path in sorted(self.home.folder.glob("*.gguf")) if not _LATER_PART.search(path.name)]
        if len(found) > 1:
            raise InputError(
                f"{self.home.place} holds {len(found)} GGUF files: {', '.join(path.name for path in found)}.",
                "Choose one with `gguf_file`.",
            )
        return found[0] if found else None

    def read_config(self) -> dict[str, Any]:
        """What `config.json` holds, or what the GGUF file says instead."""
        path = self.gguf
        if path is None:
            return self.read_json(CONFIG_FILE)
        from formers.hub.gguf import open_parts
        from formers.hub.gguf_config import config_values

        return config_values(open_parts(path))

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
                f"{filename!r} of {self.name!r} must hold a JSON object, not a {type(value).__name__}.", remedy
            )
        return value


def resolve(name_or_path: str | os.PathLike[str], source: Source = Source()) -> ModelFiles:
    """Find a model: an existing folder wins, then an installed model package, then the hub (its cache first).

    A package holds one revision, the main one: another `revision`, and `force_download`, go to the hub.
    """
    name = _as_name(name_or_path)
    if source.subfolder and not is_inside(source.subfolder):
        raise InputError(f"subfolder={source.subfolder!r} leaves the model's folder.", "Pass a path inside it.")
    path = Path(os.path.expanduser(name))
    chosen = source.gguf_file
    if path.is_dir():
        return ModelFiles(name, Folder(path, source.subfolder), chosen)
    if path.is_file():
        if path.suffix == ".gguf" and chosen is None:
            return ModelFiles(name, Folder(path.parent, source.subfolder), path.name)
        raise ModelNotFoundError(f"{name!r} is a file.", "Pass the folder that holds the model.")
    if source.revision in (None, "main") and not source.force_download:
        package = find_package(name)
        if package is not None:
            return ModelFiles(name, Folder(package, source.subfolder), chosen)
    from formers.hub.remote import HubRepo

    return ModelFiles(name, HubRepo(ALIASES.get(name, name), source), chosen)


def _as_name(value: Any) -> str:
    name = os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
    if isinstance(name, str) and name.strip():
        return name
    raise InputError(
        f"A model is named by a string or a path, not by {value!r}.",
        "Pass a folder, or a name such as 'sentence-transformers/all-MiniLM-L6-v2'.",
    )


class Folder:
    """A model in a folder on this machine."""

    def __init__(self, root: Path, subfolder: str) -> None:
        self.folder = root / subfolder
        if not self.folder.is_dir():
            raise ModelNotFoundError(f"There is no folder {str(self.folder)!r}.", "Check the `subfolder` argument.")
        self.place = f"The folder {str(self.folder)!r}"
        self.remedy = "Put the file there, or pass another folder or model name."

    def locate(self, filename: str) -> Path | None:
        """The path of a file, None if there is no such file here."""
        path = self.folder / filename
        return path if path.is_file() else None
