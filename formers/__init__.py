"""formers: transformer models under the names people know, on one small, fast core.

Public names are loaded when first used: `import formers` imports neither torch nor any model.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from formers.registry import public_names as _public_names

__version__ = "0.1.0"

_NAMES = _public_names()
__all__ = ["__version__", *sorted(_NAMES)]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'formers' has no attribute {name!r}")
    value = getattr(import_module(_NAMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
