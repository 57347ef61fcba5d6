"""A model with adapters in it: which there are, which are at work, and the way back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from formers.adapters import targets
from formers.adapters.config import LoraConfig
from formers.adapters.layer import LoraLinear
from formers.adapters.targets import Target, own_name
from formers.errors import InputError
from formers.models.keys import Place


@dataclass
class Adapter:
    """One adapter: the layers that it changes, and its own versions of other parameters, by their names."""

    config: LoraConfig
    targets: list[Target]
    copies: dict[str, nn.Parameter]


class LoraModel(nn.Module):
    """A frozen model whose chosen layers are `LoraLinear`. What this class does not have, it takes from the model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        self.model = model.requires_grad_(False)
        self.adapters: dict[str, Adapter] = {}
        self.active: tuple[str, ...] = ()
        # The model's own parameters, where adapters have versions of theirs.
        self._own: dict[str, nn.Parameter] = {}
        self._packed: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "model":
                raise
            return getattr(self.model, name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model's own forward."""
        return self.model(*args, **kwargs)

    def layers(self) -> dict[str, LoraLinear]:
        """The adapted layers by name."""
        return {name: module for name, module in self.model.named_modules() if isinstance(module, LoraLinear)}

    def parameters_of(self, name: str) -> list[nn.Parameter]:
        """Everything that training the adapter `name` changes."""
        pairs = [(layer.lora_A[name], layer.lora_B[name]) for layer in self.layers().values() if name in layer.lora_A]
        return [*(parameter for pair in pairs for parameter in pair), *self.adapters[name].copies.values()]

    def place_of(self, parameter: str) -> Place:
        """Where files keep a parameter of the adapted model; a matrix of an adapter lies beside its layer's weight."""
        place = targets.locator(self.model)
        layer, low, _ = parameter.rpartition(".lora_")
        return Place(f"{place(f'{layer}.weight').key}{parameter[len(layer) :]}") if low else place(own_name(parameter))

    # -- adapters ------------------------------------------------------------------------------------------------

    def add(self, name: str, config: LoraConfig, *, full_precision: bool = True, also: Iterable[str] = ()) -> None:
        """Make a new adapter, which is not yet at work; it brings the parameters along that files name in `also`.

        `full_precision`: its matrices are float32 where the model is in half precision.
        """
        if not isinstance(config, LoraConfig):
            raise InputError(f"The adapter's config is a {type(config).__name__}.", "Pass formers.LoraConfig(…).")
        if name in self.adapters:
            raise InputError(f"There is an adapter {name!r} already.", "Give another name, or delete_adapter() first.")
        if not name or any(sign in name for sign in "./\\") or hasattr(nn.ParameterDict, name):
            raise InputError(f"adapter_name={name!r} cannot be used.", "Use a word without dots and slashes.")
        self.unmerge_adapter()
        config, found = targets.settle(config, self.model)
        shared: dict[str, nn.Parameter] = {}
        for target in found:
            layer = self._adapted(target.own)
            dtype = layer.base_layer.weight.dtype
            dtype = torch.promote_types(dtype, torch.float32) if full_precision else dtype
            scaling = config.scaling(target.rank, target.alpha)
            init, given = config.init_lora_weights, shared.get(target.reference)
            # Layers that are one in files have one A there.
            made = layer.add(name, target.rank, scaling, config.lora_dropout, init, dtype, given)
            shared[target.reference] = made
        copies = {}
        for path in targets.parameters_along(config, self.model, found, also):
            own = self._own.setdefault(path, getattr(*self._slot(path)))
            copies[path] = nn.Parameter(own.detach().clone(), requires_grad=False)
        self.adapters[name] = Adapter(config, found, copies)
        self._let_train(())

    def set_adapter(self, adapter_name: str | Sequence[str], inference_mode: bool = False) -> None:
        """Put one adapter to work, or several: their changes add up. They train unless `inference_mode`."""
        names = (adapter_name,) if isinstance(adapter_name, str) else tuple(adapter_name)
        self._activate(names)
        self._let_train(() if inference_mode else names)

    def delete_adapter(self, adapter_name: str) -> None:
        """Forget an adapter. Where it was at work alone, the first of the others takes its place, frozen."""
        self.check([adapter_name])
        if adapter_name in self.active:
            others = [name for name in self.active if name != adapter_name]
            others = others or [name for name in self.adapters if name != adapter_name][:1]
            self.set_adapter(others, inference_mode=len(self.active) == 1)
        for layer in self.layers().values():
            layer.remove(adapter_name)
        del self.adapters[adapter_name]

    @contextmanager
    def disable_adapter(self) -> Iterator[None]:
        """Inside, the model is what it was without adapters."""
        active, merged = self.active, self.merged_adapters
        self._activate(())
        try:
            yield
        finally:
            self._activate(active)
            if merged:
                self.merge_adapter(merged)

    # -- merging -------------------------------------------------------------------------------------------------

    @property
    def merged_adapters(self) -> list[str]:
        """The adapters that are part of the weights now."""
        return list(dict.fromkeys(name for layer in self.layers().values() for name in layer.merged))

    def merge_adapter(self, adapter_names: Sequence[str] | None = None, safe_merge: bool = False) -> None:
        """Add the changes of the active, or the named, adapters to the weights, which saves their products.

        `unmerge_adapter` gives the weights back bit by bit: they are kept. `safe_merge` refuses values not finite.
        """
        names = self.active if adapter_names is None else self.check(adapter_names)
        for layer in self.layers().values():
            layer.merge([name for name in names if name not in layer.merged], safe_merge)

    def unmerge_adapter(self) -> None:
        """Take merged changes out of the weights."""
        for layer in self.layers().values():
            layer.unmerge()

    def merge_and_unload(
        self, progressbar: bool = False, safe_merge: bool = False, adapter_names: Sequence[str] | None = None
    ) -> Any:
        """The model itself, with the active, or the named, adapters in its weights. `progressbar` changes nothing."""
        self._activate(self.active if adapter_names is None else self.check(adapter_names))
        self.merge_adapter(safe_merge=safe_merge)
        return self._taken_out()

    def unload(self) -> Any:
        """The model itself, as it was without adapters."""
        self._activate(())
        return self._taken_out()

    def _taken_out(self) -> Any:
        model: Any = self.model
        for name, layer in self.layers().items():
            self._replace(name, layer.base_layer)
        self.adapters, self.active, self._own = {}, (), {}
        tied = getattr(model, "tied", {}) if getattr(model, "config", None) is not None else {}
        if any(model.get_parameter(name) is not model.get_parameter(source) for name, source in tied.items()):
            model.config.tie_word_embeddings = False
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in self._trained)
        for holder in self._packed:
            holder.pack()
        return model

    # -- inside --------------------------------------------------------------------------------------------------

    def _activate(self, names: tuple[str, ...] | Sequence[str]) -> None:
        self.check(names)
        copies: dict[str, nn.Parameter] = {}
        for name in names:
            both = copies.keys() & self.adapters[name].copies.keys()
            if both:
                raise InputError(
                    f"The adapters {', '.join(names)} each have a version of {min(both)}.", "Put one to work at a time."
                )
            copies |= self.adapters[name].copies
        self.unmerge_adapter()
        for path, own in self._own.items():
            module, leaf = self._slot(path)
            parameter = copies.get(path, own)
            # What was not part of the model did not move with it.
            parameter.data = parameter.data.to(getattr(module, leaf))
            setattr(module, leaf, parameter)
        for layer in self.layers().values():
            layer.active = tuple(names)
        self.active = tuple(names)

    def _let_train(self, names: Sequence[str]) -> None:
        for name in self.adapters:
            for parameter in self.parameters_of(name):
                parameter.requires_grad_(name in names)

    def check(self, names: Sequence[str]) -> tuple[str, ...]:
        """The names, if there are adapters of all of them."""
        for name in names:
            if name not in self.adapters:
                raise InputError(
                    f"There is no adapter {name!r}.", f"Use one of {', '.join(map(repr, self.adapters)) or 'none yet'}."
                )
        return tuple(names)

    def _slot(self, path: str) -> tuple[nn.Module, str]:
        """The module that holds a parameter, and its name there."""
        path, _, leaf = own_name(path).rpartition(".")
        module = self.model.get_submodule(path)
        return (module.base_layer if isinstance(module, LoraLinear) else module), leaf

    def _adapted(self, name: str) -> LoraLinear:
        module: Any = self.model.get_submodule(name)
        if isinstance(module, LoraLinear):
            return module
        layer = LoraLinear(module).train(module.training)
        self._replace(name, layer)
        return layer

    def _replace(self, name: str, module: nn.Module) -> None:
        parent, _, leaf = name.rpartition(".")
        holder: Any = self.model.get_submodule(parent)
        setattr(holder, leaf, module)
        if getattr(holder, "joint", None) is not None:
            # The joint product of several layers would pass adapters by.
            holder.joint = None
            self._packed.append(holder)
