"""Whether a model is still what it was when it was prepared: asked before every generation, so in little time."""

from __future__ import annotations

from typing import Any

from torch import nn


class Prepared:
    """The modules of a model and the state of their parameters, as they were when this was made."""

    def __init__(self, model: nn.Module) -> None:
        self._modules = list(model.modules())
        self._state = self._now()

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        # A copy of a model is prepared itself.
        return type(None), ()

    def current(self) -> bool:
        """Whether no module and no parameter has been replaced, changed or moved, or put in training mode."""
        return self._now() == self._state

    def _now(self) -> list[Any]:
        state: list[Any] = []
        for module in self._modules:
            state.append((module.training, *module._modules.values()))
            for parameter in module._parameters.values():
                if parameter is not None:
                    # Changes of inference tensors are not counted; nothing is prepared from them.
                    version = -1 if parameter.is_inference() else parameter._version
                    state.append((parameter.data_ptr(), version))
        return state
