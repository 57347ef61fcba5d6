"""Files of CTranslate2 (`model.bin`): named arrays behind a short header, read with numpy alone.

Format, as CTranslate2's `ModelSpec.save` writes it, little-endian: version (u32), specification (text), its revision
(u32), then the number of variables (u32) and for each its name (text), rank (u8), sizes (u32 each), type (u8), size in
bytes (u32) and data; then the number of aliases (u32) and for each its name and that of a variable. A text is its
length with the closing zero (u16) and that many bytes. Versions 4 to 6 look like this.
"""

from __future__ import annotations

import struct
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from formers.errors import CheckpointError, UnsupportedError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MODEL_FILE = "model.bin"
_VERSIONS = (4, 5, 6)
_TYPES = ("<f4", "i1", "<i2", "<i4", "<f2", "bfloat16")
_BFLOAT16 = _TYPES.index("bfloat16")
_LONGEST_NAME = 1 << 10


class CTranslate2File:
    """One file, mapped. CheckpointError if anything in it points outside of it."""

    def __init__(self, path: Path) -> None:
        import numpy as np

        self.path = path
        if path.stat().st_size < 12:
            self._refuse("it ends in its header")
        self._data: NDArray[np.uint8] = np.memmap(path, np.uint8, mode="r")
        self._at = 0
        version = self._number("I")
        if version not in _VERSIONS:
            self._refuse(f"it begins with {version}, where {_VERSIONS[0]} to {_VERSIONS[-1]} stands")
        self.specification = self._text()
        self.revision = self._number("I")
        self._places: dict[str, tuple[tuple[int, ...], int, int]] = {}
        self._aliases: dict[str, str] = {}
        for _ in range(self._number("I")):
            self._read_place()
        for _ in range(self._number("I")):
            alias, name = self._text(), self._text()
            if name not in self._places:
                self._refuse(f"{alias!r} stands for {name!r}, which it lacks")
            self._places[alias], self._aliases[alias] = self._places[name], name
        if self._at != len(self._data):
            self._refuse(f"{len(self._data) - self._at} bytes follow its end")

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def keys(self) -> list[str]:
        """The names of all variables, and after them those of aliases."""
        return list(self._places)

    def array(self, name: str) -> NDArray[Any]:
        """A variable as it is stored; bfloat16 comes as float32."""
        import numpy as np

        if name not in self._places:
            self._refuse(f"it has no variable {name!r}")
        shape, kind, start = self._places[name]
        raw = self._data[start : start + prod(shape) * _width(kind)]
        if kind == _BFLOAT16:
            return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32).reshape(shape)
        return raw.view(_TYPES[kind]).reshape(shape)

    def weight(self, name: str) -> NDArray[Any]:
        """A variable as floating-point numbers: int8 rows and int16 matrices are divided by their `<name>_scale`."""
        import numpy as np

        stored = self.array(name)
        if stored.dtype.kind == "f":
            return stored
        scale = self.array(f"{self._aliases.get(name, name)}_scale").astype(np.float32)
        if scale.size not in (1, stored.shape[0]):
            self._refuse(f"{name!r} of shape {stored.shape} has {scale.size} scales")
        return np.asarray(stored.astype(np.float32) / scale.reshape(-1, *[1] * (stored.ndim - 1)))

    def number(self, name: str) -> int:
        """A variable that is one number."""
        return int(self.array(name).reshape(-1)[0])

    def _read_place(self) -> None:
        name = self._text()
        shape = tuple(self._number("I") for _ in range(self._number("B")))
        kind, size = self._number("B"), self._number("I")
        if kind >= len(_TYPES):
            raise UnsupportedError(
                f"{name!r} in {self.path} is of the type {kind}.",
                "Convert the model with a CTranslate2 type of float32, float16, bfloat16, int8 or int16.",
            )
        if size != prod(shape) * _width(kind):
            self._refuse(f"{name!r} of shape {shape} has {size} bytes")
        self._expect(size, repr(name))
        self._places[name] = (shape, kind, self._at)
        self._at += size

    def _text(self) -> str:
        length = self._number("H")
        if not 0 < length <= _LONGEST_NAME:
            self._refuse(f"a name of {length} bytes stands at byte {self._at}")
        self._expect(length, "a name")
        raw = self._data[self._at : self._at + length].tobytes()
        self._at += length
        try:
            return raw.removesuffix(b"\0").decode("utf-8")
        except UnicodeDecodeError:
            self._refuse(f"a name at byte {self._at - length} is no text")

    def _number(self, kind: str) -> int:
        size = struct.calcsize(kind)
        self._expect(size, "a number")
        (value,) = struct.unpack("<" + kind, self._data[self._at : self._at + size].tobytes())
        self._at += size
        return int(value)

    def _expect(self, size: int, what: str) -> None:
        if size > len(self._data) - self._at:
            self._refuse(f"it ends within {what}")

    def _refuse(self, why: str) -> NoReturn:
        raise CheckpointError(
            f"{self.path} is no file of CTranslate2 that can be read: {why}.", "Fetch or convert the model again."
        )


def _width(kind: int) -> int:
    """Bytes of one value of a type."""
    return 2 if kind == _BFLOAT16 else int(_TYPES[kind][-1])
