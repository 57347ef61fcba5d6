"""Whether modules are what they were: asked at every step of generation, so with few loops in Python."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat
from operator import attrgetter, contains, is_, itemgetter
from typing import Any

from torch import Tensor, nn
from torch.autograd.graph import increment_version
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

_VERSION, _TRAINING = attrgetter("_version"), itemgetter("training")


def _count(optimizer: Optimizer, _args: Any, _named: Any) -> None:
    """Count the changes of parameters that torch's fused optimizers leave uncounted."""
    changed = [p for group in optimizer.param_groups if group.get("fused") for p in group["params"]]
    increment_version(p for p in changed if p.grad is not None)


register_optimizer_step_post_hook(_count)


class Watch:
    """Modules as they were when this was made, with all that are in them. A copy of it is None: it would see others."""

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        every = [inner for module in modules for inner in module.modules()]
        self._spaces = [vars(module) for module in every]
        self._hooks = [hooks for m in every for hooks in (m._forward_hooks, m._forward_pre_hooks)]
        self._families = [module._modules for module in every if module._modules]
        self._members = self._children()
        self._dictionaries = [module._parameters for module in every if module._parameters]
        self._parameters = self._found()
        self._tensors = [each for each in self._parameters if each is not None]
        # Changes of inference tensors are not counted; nothing is prepared from them.
        self._counted = [each for each in self._tensors if not each.is_inference()]
        self._state = self._now()

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()

    def same(self) -> bool:
        """Whether no parameter and no module has been replaced, changed, moved or put in another mode."""
        return (
            _same(self._children(), self._members)
            and _same(self._found(), self._parameters)
            and self._now() == self._state
        )

    def unseen(self) -> bool:
        """Whether nobody looks at what happens inside: no module has a hook or another `forward` than its class."""
        return not any(self._hooks) and not any(map(contains, self._spaces, repeat("forward")))

    def _children(self) -> list[nn.Module | None]:
        return [child for family in self._families for child in family.values()]

    def _found(self) -> list[Tensor | None]:
        return [parameter for dictionary in self._dictionaries for parameter in dictionary.values()]

    def _now(self) -> tuple[list[int], int, int]:
        # Versions only go up.
        places, versions = list(map(Tensor.data_ptr, self._tensors)), sum(map(_VERSION, self._counted))
        return places, versions, sum(map(_TRAINING, self._spaces))


def _same(left: list[Any], right: list[Any]) -> bool:
    return len(left) == len(right) and all(map(is_, left, right))
