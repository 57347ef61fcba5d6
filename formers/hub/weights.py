"""The weights of a model: reading and writing safetensors and `pytorch_model.bin`, whole or in shards."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from formers.errors import CheckpointError, InputError, ModelNotFoundError
from formers.hub.atomic import staged, write_json
from formers.hub.files import ModelFiles
from formers.hub.paths import is_inside

if TYPE_CHECKING:
    import torch

    from formers.hub.gguf_blocks import Blocks


class Weights(Protocol):
    """A read-only view of a model's weights."""

    def keys(self) -> list[str]:
        """The names of all weights."""

    def shape(self, key: str) -> tuple[int, ...]:
        """The shape of one weight."""

    def dtype(self, key: str) -> torch.dtype:
        """The data type of one weight."""

    def tensor(self, key: str) -> torch.Tensor:
        """One weight."""

    def blocks(self, key: str) -> Blocks | None:
        """The blocks that a quantized matrix is stored in, where products can use them."""


class _Shard(Protocol):
    """One open weight file."""

    def keys(self) -> Iterable[str]: ...

    def get_tensor(self, name: str) -> torch.Tensor: ...


@dataclass(frozen=True)
class _Format:
    stem: str
    suffix: str

    def name(self, variant: str | None, shard: str = "") -> str:
        return f"{self.stem}{'.' + variant if variant else ''}{shard}.{self.suffix}"

    def index(self, variant: str | None) -> str:
        return f"{self.stem}.{self.suffix}.index.{variant + '.' if variant else ''}json"

    def owns(self, filename: str, variant: str | None) -> bool:
        """Whether a file belongs to weights of this format: whole, a shard or the index."""
        pattern = re.escape(self.name(variant, "#")).replace(r"\#", r"(-\d{5}-of-\d{5})?")
        return filename == self.index(variant) or re.fullmatch(pattern, filename) is not None


SAFETENSORS = _Format("model", "safetensors")
TORCH_BIN = _Format("pytorch_model", "bin")


class Checkpoint:
    """A read-only view of all weights of a model. The files are memory-mapped: a tensor costs no copy."""

    def __init__(self, shard_of: Mapping[str, _Shard]) -> None:
        self._shard_of = dict(shard_of)

    @classmethod
    def open(cls, files: ModelFiles, *, variant: str | None = None, use_safetensors: bool | None = None) -> Checkpoint:
        """Open the weights of a model: safetensors first, then `pytorch_model.bin`, each whole or with an index.

        variant: opens `model.<variant>.safetensors` and so on.
        use_safetensors: True never reads `.bin`, False reads nothing else.
        """
        formats = [f for f in (SAFETENSORS, TORCH_BIN) if use_safetensors in (None, f is SAFETENSORS)]
        for form in formats:
            whole = files.find(form.name(variant))
            if whole is not None:
                shard = _open_shard(whole)
                return cls(dict.fromkeys(shard.keys(), shard))
            if files.find(form.index(variant)) is not None:
                return cls(_open_shards(files, form.index(variant)))
        looked_for = [name for form in formats for name in (form.name(variant), form.index(variant))]
        raise ModelNotFoundError(
            f"{files.home.place} has no weights: looked for {', '.join(looked_for)}.", files.home.remedy
        )

    def keys(self) -> list[str]:
        """The names of all weights, in the order of the files."""
        return list(self._shard_of)

    def shape(self, key: str) -> tuple[int, ...]:
        """The shape of one weight."""
        return tuple(self.tensor(key).shape)

    def dtype(self, key: str) -> torch.dtype:
        """The data type of one weight."""
        return self.tensor(key).dtype

    def tensor(self, key: str) -> torch.Tensor:
        """One weight as a CPU tensor. Writing to it changes this process's view, never the file."""
        return self._shard_of[key].get_tensor(key)

    def blocks(self, key: str) -> None:
        """None: these are plain tensors."""


def open_weights(files: ModelFiles, *, variant: str | None = None, use_safetensors: bool | None = None) -> Weights:
    """The weights of a model: of the GGUF file that it is read from, else as `Checkpoint.open` finds them."""
    path = files.gguf
    if path is None:
        return Checkpoint.open(files, variant=variant, use_safetensors=use_safetensors)
    if variant is not None or use_safetensors is not None:
        raise InputError(
            f"{files.name!r} is read from {path.name}, which has neither variants nor another format.",
            "Leave out `variant` and `use_safetensors`.",
        )
    from formers.hub.gguf import open_parts
    from formers.hub.gguf_weights import GGUFWeights

    return GGUFWeights(open_parts(path))


def save_weights(
    tensors: Mapping[str, torch.Tensor],
    folder: str | os.PathLike[str],
    *,
    max_shard_size: int | str = "50GB",
    safe_serialization: bool = True,
    variant: str | None = None,
) -> list[Path]:
    """Write weights into `folder` and return the files' paths, the index of a sharded set last.

    max_shard_size: bytes, or text such as "5GB" (10⁹) or "5GiB" (2³⁰); a larger tensor gets a shard of its own.
    All files are written under other names first and put in place together; then weight files of an earlier save that
    are not part of this one are removed, so the folder never lacks readable weights.
    """
    folder = Path(folder)
    form = SAFETENSORS if safe_serialization else TORCH_BIN
    shards = _split(tensors, size_in_bytes("max_shard_size", max_shard_size))
    _check(tensors, form)
    folder.mkdir(parents=True, exist_ok=True)
    names = [form.name(variant, f"-{i:05d}-of-{len(shards):05d}") for i in range(1, len(shards) + 1)]
    if len(shards) == 1:
        names = [form.name(variant)]
    written = [folder / name for name in names]
    with ExitStack() as stack:
        # Leaving the block puts the files in place in reverse order: the index, entered first, comes last.
        if len(shards) > 1:
            written.append(folder / form.index(variant))
            index = {
                "metadata": {"total_size": sum(map(_nbytes, tensors.values()))},
                "weight_map": {key: name for name, keys in zip(names, shards, strict=True) for key in keys},
            }
            write_json(stack.enter_context(staged(written[-1])), index, sort_keys=True)
        for name, keys in zip(names, shards, strict=True):
            _write(stack.enter_context(staged(folder / name)), {key: tensors[key] for key in keys}, form)
    for old in folder.iterdir():
        if old not in written and (SAFETENSORS.owns(old.name, variant) or TORCH_BIN.owns(old.name, variant)):
            old.unlink()
    return written


def read_file(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """The tensors of one file, mapped: safetensors, or what `torch.save` wrote."""
    shard = _open_shard(Path(path))
    return {key: shard.get_tensor(key) for key in shard.keys()}  # noqa: SIM118


def save_file(tensors: Mapping[str, torch.Tensor], path: str | os.PathLike[str]) -> Path:
    """Write tensors into one file, as its ending says; it appears whole or not at all."""
    path = Path(path)
    form = SAFETENSORS if path.suffix == ".safetensors" else TORCH_BIN
    _check(tensors, form)
    with staged(path) as draft:
        _write(draft, tensors, form)
    return path


def _open_shard(path: Path) -> _Shard:
    return _Safetensors(path) if path.suffix == ".safetensors" else _open_bin(path)


class _Safetensors:
    """The tensors of a safetensors file, mapped."""

    def __init__(self, path: Path) -> None:
        from safetensors import safe_open

        self._path = path
        self._file = self._guarded(lambda: safe_open(path, framework="pt"))

    def keys(self) -> Iterable[str]:
        keys: list[str] = self._file.keys()
        return keys

    def get_tensor(self, name: str) -> torch.Tensor:
        tensor: torch.Tensor = self._guarded(lambda: self._file.get_tensor(name))
        return tensor

    def _guarded(self, action: Callable[[], Any]) -> Any:
        from safetensors import SafetensorError

        try:
            return action()
        except SafetensorError as error:
            raise _damaged(self._path, error) from error


class _TorchBin:
    """The tensors of a file that `torch.save` wrote."""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        self._tensors = tensors

    def keys(self) -> Iterable[str]:
        return self._tensors

    def get_tensor(self, name: str) -> torch.Tensor:
        return self._tensors[name]


def _open_bin(path: Path) -> _Shard:
    import pickle

    import torch

    try:
        # Files from before torch 1.6 are no zip archives and cannot be mapped.
        state: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        if _is_lfs_pointer(path):
            raise _damaged(path, error) from error
        reason = re.search(r"WeightsUnpickler error: (.*)", str(error))
        raise CheckpointError(
            f"{path} holds more than tensors, or is damaged: {reason[1] if reason else 'it cannot be read'}",
            "formers runs no code from model files. If you trust the file, convert it to safetensors elsewhere.",
        ) from error
    except Exception as error:  # anything may come of a file that is not what it says
        raise _damaged(path, error) from error
    if not isinstance(state, dict) or not all(
        isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in state.items()
    ):
        raise CheckpointError(f"{path} is not a flat mapping of names to tensors.", "Save the model's state_dict().")
    return _TorchBin(state)


def _open_shards(files: ModelFiles, index_name: str) -> dict[str, _Shard]:
    """Every key with its open shard, from the index of a sharded checkpoint."""
    weight_map = files.read_json(index_name).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(v, str) for v in weight_map.values()):
        raise CheckpointError(
            f"{index_name!r} of {files.name!r} has no weight_map of names to files.", "Save it again."
        )
    shards: dict[str, _Shard] = {}
    for filename in dict.fromkeys(weight_map.values()):
        if not is_inside(filename):
            raise CheckpointError(
                f"{index_name!r} of {files.name!r} names a file outside the model's folder: {filename!r}.",
                "Do not use this model: its index is damaged or malicious.",
            )
        shards[filename] = _open_shard(files.require(filename))
    found = {filename: set(shard.keys()) for filename, shard in shards.items()}
    missing = [key for key, filename in weight_map.items() if key not in found[filename]]
    if missing:
        raise CheckpointError(
            f"{index_name!r} of {files.name!r} promises weights that its shards lack: {_some(missing)}.",
            "Download or save the model again.",
        )
    # Weights that the index forgot are read too, as in the reference implementation.
    unlisted = {key: shards[filename] for filename, keys in found.items() for key in sorted(keys)}
    return unlisted | {key: shards[filename] for key, filename in weight_map.items()}


def _write(path: Path, tensors: Mapping[str, torch.Tensor], form: _Format) -> None:
    import torch

    if form is TORCH_BIN:
        torch.save({key: _compact(tensor.detach().cpu()) for key, tensor in tensors.items()}, path)
        return
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file({key: tensor.detach().contiguous() for key, tensor in tensors.items()}, path, {"format": "pt"})
    except SafetensorError as error:
        raise CheckpointError(
            f"{path.parent} cannot take the weights: {error}.", "Check its free space and rights."
        ) from error


def _check(tensors: Mapping[str, torch.Tensor], form: _Format) -> None:
    """Refuse what cannot be written, before anything is."""
    import torch

    bad = [key for key, tensor in tensors.items() if tensor.is_meta or tensor.layout is not torch.strided]
    if bad:
        raise InputError(f"Weights without dense values cannot be saved: {_some(bad)}.", "Load or densify them first.")
    owner: dict[tuple[torch.device, int], str] = {}
    for key, tensor in tensors.items() if form is SAFETENSORS else ():
        first = owner.setdefault((tensor.device, tensor.data_ptr()), key) if tensor.numel() else key
        if first != key:
            raise InputError(f"{first!r} and {key!r} share their memory.", "Save tied weights under one name only.")


def _compact(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor alone: torch.save would write all of the memory that a view looks into."""
    return tensor.contiguous() if tensor.untyped_storage().nbytes() == _nbytes(tensor) else tensor.clone()


def _split(tensors: Mapping[str, torch.Tensor], limit: int) -> list[list[str]]:
    """The keys of each shard, in the order of `tensors`, each shard as full as `limit` allows."""
    shards: list[list[str]] = [[]]
    size = 0
    for key, tensor in tensors.items():
        if shards[-1] and size + _nbytes(tensor) > limit:
            shards.append([])
            size = 0
        shards[-1].append(key)
        size += _nbytes(tensor)
    return shards


def _nbytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def size_in_bytes(name: str, size: int | str) -> int:
    """A number of bytes, from a number or a text such as "5GB" or "5GiB"; else an InputError naming the argument."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:([KMGT])(i?))?B?\s*", str(size), re.IGNORECASE)
    number = float(match[1]) * (1024 if match[3] else 1000) ** " KMGT".index((match[2] or " ").upper()) if match else 0
    if number < 1:
        raise InputError(f"{name}={size!r} is not a size.", "Pass a number of bytes, or text such as '5GB'.")
    return int(number)


def _damaged(path: Path, error: Exception) -> CheckpointError:
    if _is_lfs_pointer(path):
        return CheckpointError(f"{path} is a Git LFS pointer, not the weights.", "Fetch the file with: git lfs pull")
    detail = (str(error) or type(error).__name__).splitlines()[0]
    return CheckpointError(
        f"{path} is damaged: {detail}.", "Save it again, or fetch it again with force_download=True."
    )


def _is_lfs_pointer(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(23) == b"version https://git-lfs"


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
