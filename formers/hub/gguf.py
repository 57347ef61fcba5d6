"""GGUF files: metadata and tensors in one file, as llama.cpp writes them.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian. The header is read
here rather than by the package `gguf`, whose reader takes seconds for a large vocabulary and trusts every number in
the file. Strings of arrays are decoded when they are asked for.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from struct import Struct
from typing import TYPE_CHECKING, Any, NoReturn

from formers.errors import CheckpointError, UnsupportedError

if TYPE_CHECKING:
    import torch

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_MAX_DIMENSIONS = 4
_ALIGNMENT = 32

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_U32, _U64 = Struct("<I"), Struct("<Q")

# A part of a model that is cut into several files; the first one holds the metadata.
_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a file: its shape in torch's order, its ggml type, and its bytes."""

    shape: tuple[int, ...]
    kind: int
    offset: int
    size: int


@dataclass(frozen=True)
class _Strings:
    """An array of strings, still in the file."""

    offset: int
    count: int


class GGUFFile:
    """One GGUF file, mapped. CheckpointError if anything in it points outside of it."""

    def __init__(self, path: Path) -> None:
        from formers.hub.gguf_types import TYPES

        self.path = path
        with open(path, "rb") as file:
            start = file.read(24)
            if start[:4] != _MAGIC or len(start) < 24:
                self._refuse("it does not begin as one" if start[:4] != _MAGIC else "it ends in its header")
            # A private copy: tensors may be written to, which never reaches the file.
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        (version,) = _U32.unpack_from(start, 4)
        if version not in _VERSIONS:
            swapped = int.from_bytes(start[4:8], "big") in _VERSIONS
            raise UnsupportedError(
                f"{path} is a big-endian GGUF file." if swapped else f"{path} is a GGUF file of version {version}.",
                "Convert it with llama.cpp's tools; formers reads versions 2 and 3, little-endian.",
            )
        count, entries = _U64.unpack_from(start, 8)[0], _U64.unpack_from(start, 16)[0]
        self._at = 24
        self._values = self._read_metadata(entries)
        self.tensors: dict[str, TensorInfo] = {}
        self._read_table(count, TYPES)

    # -- metadata ------------------------------------------------------------------------------------------------

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def metadata_keys(self) -> list[str]:
        """The names of all metadata."""
        return list(self._values)

    def get(self, key: str, default: Any = None) -> Any:
        """A metadata value: a number, bool, string or list."""
        value = self._values.get(key, default)
        if isinstance(value, _Strings):
            return [self._text(start, end, key) for start, end in self._spans(value)]
        return value

    def _read_metadata(self, entries: int) -> dict[str, Any]:
        self._expect(entries * 13, f"{entries} metadata entries")
        values: dict[str, Any] = {}
        for _ in range(entries):
            key = self._string("a metadata name")
            if key in values:
                self._refuse(f"{key!r} appears twice")
            values[key] = self._value(self._number("I"), key)
        return values

    def _value(self, kind: int, key: str) -> Any:
        if kind in _SCALARS:
            return self._number(_SCALARS[kind])
        if kind == _STRING:
            return self._string(key)
        if kind != _ARRAY:
            self._refuse(f"{key!r} is of the unknown type {kind}")
        kind, count = self._number("I"), self._number("Q")
        if kind in _SCALARS:
            items = Struct(f"<{count}{_SCALARS[kind]}") if count < len(self._data) else None
            self._expect(items.size if items else count, f"{count} values of {key!r}")
            assert items is not None
            values = list(items.unpack_from(self._data, self._at))
            self._at += items.size
            return values
        if kind != _STRING:
            self._refuse(f"{key!r} is an array of the unknown type {kind}")
        self._expect(count * 8, f"{count} strings of {key!r}")
        strings = _Strings(self._at, count)
        for span in self._spans(strings):
            self._at = span[1]
        return strings

    def _spans(self, strings: _Strings) -> Iterator[tuple[int, int]]:
        """Where each string of an array starts and ends."""
        data, end, unpack = self._data, strings.offset, _U64.unpack_from
        limit = len(data)
        for _ in range(strings.count):
            if end + 8 > limit:
                self._refuse("it ends in a list of strings")
            start = end + 8
            end = start + unpack(data, end)[0]
            if end > limit:
                self._refuse(f"a string of {end - start} bytes does not fit in it")
            yield start, end

    # -- tensors -------------------------------------------------------------------------------------------------

    def tensor(self, name: str, part: int | None = None) -> torch.Tensor:
        """A tensor, quantized ones as float32; with `part` that item of its first dimension alone."""
        import torch

        from formers.hub.gguf_types import dequantize

        info = self.tensors[name]
        shape = info.shape if part is None else info.shape[1:]
        if not info.size:
            return torch.zeros(shape)
        return dequantize(self.data(name, part).flatten(), info.kind, shape, f"{name!r} of {self.path}")

    def data(self, name: str, part: int | None = None) -> torch.Tensor:
        """The bytes of a tensor that is not empty, uint8 (…, bytes of a row), not copied; with `part` as `tensor`."""
        import torch

        info = self.tensors[name]
        shape, size, offset = info.shape, info.size, info.offset
        if part is not None:
            size //= shape[0]
            shape, offset = shape[1:], offset + part * size
        return torch.frombuffer(self._data, dtype=torch.uint8, count=size, offset=offset).view(*shape[:-1], -1)

    def _read_table(self, count: int, types: Mapping[int, tuple[str, int, int]]) -> None:
        self._expect(count * 24, f"{count} tensors")
        found: list[tuple[str, tuple[int, ...], int, int]] = []
        for _ in range(count):
            name = self._string("a tensor's name")
            dimensions = self._number("I")
            if dimensions > _MAX_DIMENSIONS:
                self._refuse(f"the tensor {name!r} has {dimensions} dimensions")
            sizes = [self._number("Q") for _ in range(dimensions)]
            found.append((name, tuple(reversed(sizes)), self._number("I"), self._number("Q")))
        alignment = self._values.get("general.alignment", _ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 8 or alignment & (alignment - 1):
            self._refuse(f"its alignment is {alignment!r}, which is no power of two from 8 on")
        start = -(-self._at // alignment) * alignment
        for name, shape, kind, offset in found:
            if name in self.tensors:
                self._refuse(f"the tensor {name!r} appears twice")
            if kind not in types:
                raise UnsupportedError(
                    f"The tensor {name!r} of {self.path} is of the ggml type {kind}, which formers does not know.",
                    "Use another quantization of the model, or a newer version of formers.",
                )
            label, elements, width = types[kind]
            if not shape or shape[-1] % elements:
                self._refuse(f"rows of shape {shape} of {name!r} are not made of {label} blocks of {elements}")
            size = prod(shape) // elements * width
            if offset % alignment or start + offset + size > len(self._data):
                self._refuse(f"the tensor {name!r} ({size} bytes at {start + offset}) does not lie in it")
            self.tensors[name] = TensorInfo(shape, kind, start + offset, size)

    # -- bytes ---------------------------------------------------------------------------------------------------

    def _number(self, code: str) -> Any:
        item = Struct("<" + code)
        self._expect(item.size, "a number")
        (value,) = item.unpack_from(self._data, self._at)
        self._at += item.size
        return value

    def _string(self, what: str) -> str:
        length = self._number("Q")
        self._expect(length, f"{what}, a string of {length} bytes,")
        self._at += length
        return self._text(self._at - length, self._at, what)

    def _text(self, start: int, end: int, what: str) -> str:
        try:
            return self._data[start:end].decode("utf-8")
        except UnicodeDecodeError:
            self._refuse(f"{what} is not UTF-8")

    def _expect(self, size: int, what: str) -> None:
        if self._at + size > len(self._data):
            self._refuse(f"{what} cannot fit in its {len(self._data)} bytes")

    def _refuse(self, reason: str) -> NoReturn:
        raise CheckpointError(
            f"{self.path} is not a whole GGUF file: {reason}.", "Fetch it again; it is damaged, or not what it claims."
        )


def open_parts(path: Path) -> list[GGUFFile]:
    """A GGUF file, with its further parts if it is the first of several (`-00001-of-00003.gguf`)."""
    match = _PART.fullmatch(path.name)
    if match is None:
        return [GGUFFile(path)]
    stem, count = match[1], int(match[3])
    if int(match[2]) != 1:
        raise CheckpointError(f"{path} is not the first part of its model.", f"Pass {stem}-00001-of-{match[3]}.gguf.")
    files = []
    for number in range(1, count + 1):
        part = path.with_name(f"{stem}-{number:05d}-of-{match[3]}.gguf")
        if not part.is_file():
            raise CheckpointError(f"The part {part} is missing.", "Put all parts of the model into one folder.")
        files.append(GGUFFile(part))
    return files
