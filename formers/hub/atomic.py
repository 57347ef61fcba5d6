"""Files that appear whole or not at all: written beside their target, then moved over it."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def staged(target: str | os.PathLike[str]) -> Iterator[Path]:
    """A path to write to, which replaces `target` when the block ends and vanishes when the block raises.

    It lies in the folder of `target`, because a rename is atomic only within a file system. A link is replaced, not
    followed: the files of the hub's cache are links, and what they point to is shared.
    """
    target = Path(target)
    draft = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        draft.touch()
        mode = draft.stat().st_mode
        yield draft
        # The writer may have made a private file of its own there; give it the rights of any new file.
        draft.chmod(mode)
        _flush_to_disk(draft)
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)


def write_bytes(target: str | os.PathLike[str], data: bytes) -> Path:
    """Write `data` to `target` atomically; the folder must exist."""
    with staged(target) as draft:
        draft.write_bytes(data)
    return Path(target)


def write_text(target: str | os.PathLike[str], text: str) -> Path:
    """Write `text` to `target` as UTF-8 with plain line feeds, atomically."""
    return write_bytes(target, text.encode("utf-8"))


def write_json(target: str | os.PathLike[str], value: Any, *, sort_keys: bool = False) -> Path:
    """Write `value` to `target` as indented JSON that ends in a line break, atomically."""
    return write_text(target, json.dumps(value, indent=2, sort_keys=sort_keys, ensure_ascii=False) + "\n")


def _flush_to_disk(path: Path) -> None:
    # Without this a power cut can leave the new name on an empty file.
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
