"""Names of files and folders: which are safe to join, and where the caches are."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath, PureWindowsPath


def is_inside(filename: str) -> bool:
    """Whether a name taken from a user or from model data stays inside the folder that it is joined to."""
    posix, windows = PurePosixPath(filename), PureWindowsPath(filename)
    outside = posix.is_absolute() or windows.anchor or ".." in posix.parts or ".." in windows.parts
    return bool(filename) and "\0" not in filename and not outside


def hub_cache() -> Path:
    """The cache of huggingface_hub: $HF_HUB_CACHE, else hub/ in $HF_HOME, else ~/.cache/huggingface/hub."""
    explicit = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    home = os.environ.get("HF_HOME") or os.path.join(_user_cache(), "huggingface")
    return Path(os.path.expandvars(explicit or os.path.join(home, "hub"))).expanduser()


def formers_cache() -> Path:
    """The cache of formers itself: $FORMERS_CACHE, else ~/.cache/formers."""
    return Path(os.environ.get("FORMERS_CACHE") or os.path.join(_user_cache(), "formers")).expanduser()


def _user_cache() -> str:
    return os.environ.get("XDG_CACHE_HOME") or "~/.cache"
