"""What is made of modules beside their first calls: a process that answers once does without."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import Any, Generic, TypeVar

from torch import nn

from formers.layers.watch import Watch

# It is made for what is asked for so often.
CALLS = 3

_Made = TypeVar("_Made")


class Beside(Generic[_Made]):
    """Something made of modules in a thread of its own, and made anew once they are not what they were.

    `packages` are imported first, one by one: a process that ends meanwhile waits for one step only. A copy of it is
    None: it would see others.
    """

    def __init__(self, modules: Iterable[nn.Module], make: Callable[[], _Made], packages: Sequence[str]) -> None:
        self._modules, self._make, self._packages = list(modules), make, packages
        self._others: list[Beside[Any]] = []
        self._made: _Made | None = None
        self._watch: Watch | None = None
        self._calls = 0
        self._work: threading.Thread | None = None

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()

    def prepare(self) -> None:
        """Be ready when this returns; it compiles, or reads what an earlier process has compiled."""
        watch = Watch(self._modules)
        if self._made is None or self._watch is None or not self._watch.same():
            self._made, self._watch = self._make(), watch

    def bring(self, other: Beside[Any]) -> None:
        """Make something else too, once this has been made."""
        self._others.append(other)

    def ready(self) -> _Made | None:
        """What was made, None where it is not there yet, or somebody looks at what happens inside the modules.

        To be asked once a call.
        """
        if self._made is not None and self._watch is not None:
            if self._watch.same():
                return self._made if self._watch.unseen() else None
            # Other weights: preparing begins anew.
            self._made, self._watch, self._calls = None, None, 0
        if self._work is None:
            self._calls += 1
            if self._calls == CALLS and not any(module.training for module in self._modules):
                self._work = threading.Thread(target=self._begin, name="formers-prepare")
                self._work.start()
        return None

    def wait(self) -> None:
        """Until what has begun is done."""
        if (work := self._work) is not None:
            work.join()

    def _begin(self) -> None:
        try:
            for package in self._packages:
                if not threading.main_thread().is_alive():
                    return
                import_module(package)
            for each in (self, *self._others):
                if threading.main_thread().is_alive():
                    each.prepare()
        except (ImportError, RuntimeError, OSError):
            # numba is not for this machine, or finds no folder for its cache: modules remain as they are.
            return
        finally:
            if self._made is not None:
                self._work = None
