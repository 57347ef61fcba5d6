"""Adapters as files, in peft's format: tensors under the names of the reference implementation's modules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from formers.adapters.config import CONFIG
from formers.adapters.layer import LoraLinear
from formers.adapters.targets import Target, linears, locator
from formers.adapters.tuner import LoraModel
from formers.errors import CheckpointError, ModelNotFoundError
from formers.hub.atomic import write_json
from formers.hub.files import ModelFiles
from formers.hub.weights import read_file, save_file
from formers.models import keys
from formers.models.keys import Place

WEIGHTS = "adapter_model.safetensors"
OLD_WEIGHTS = "adapter_model.bin"
_PREFIX = "base_model.model."


def save(tuner: LoraModel, name: str, folder: str | PathLike[str], safe_serialization: bool = True) -> None:
    """Write one adapter into a folder, its configuration last."""
    folder = Path(folder)
    config = replace(tuner.adapters[name].config, inference_mode=True)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors_of(tuner, name), folder / (WEIGHTS if safe_serialization else OLD_WEIGHTS))
    write_json(folder / CONFIG, config.to_dict(), sort_keys=True)


def weights(files: ModelFiles) -> dict[str, Tensor]:
    """The tensors of an adapter's files."""
    path = files.find(WEIGHTS) or files.find(OLD_WEIGHTS)
    if path is None:
        raise ModelNotFoundError(f"{files.home.place} has no file {WEIGHTS!r}.", files.home.remedy)
    return {key.removeprefix(_PREFIX): tensor for key, tensor in read_file(path).items()}


def parameter_keys(tensors: Mapping[str, Tensor]) -> list[str]:
    """The checkpoint keys of those tensors that are whole parameters of the model."""
    return [key.replace(".base_layer.", ".") for key in tensors if ".lora_A." not in key and ".lora_B." not in key]


def tensors_of(tuner: LoraModel, name: str) -> dict[str, Tensor]:
    """An adapter's tensors under the names that files use."""
    adapter, place = tuner.adapters[name], locator(tuner.model)
    found: dict[str, Tensor] = {}
    joined = _joined(tuner)
    for reference in dict.fromkeys(target.reference for target in adapter.targets):
        a: Tensor | None = None
        parts: dict[str, Tensor | int] = {}
        for own, layer in joined[reference].items():
            if not isinstance(layer, LoraLinear) or name not in layer.lora_A:
                parts[own] = layer.out_features
                continue
            low, parts[own] = layer.lora_A[name].detach(), layer.lora_B[name].detach()
            if a is not None and not torch.equal(a, low):
                raise CheckpointError(
                    f"The layers that files keep in {reference} have different matrices A.",
                    "Files have one for all of them: give them the same, or merge the adapter.",
                )
            a = low
        assert a is not None
        # A layer that is not adapted is one whose change is zero.
        filled = {
            f"{own}.weight": a.new_zeros(part, a.shape[0]) if isinstance(part, int) else part
            for own, part in parts.items()
        }
        (b,) = keys.write(filled, lambda n: _straight(place(n)), copies=False).values()
        found |= {f"{reference}.lora_A.weight": a, f"{reference}.lora_B.weight": b}
    copies = {path: parameter.detach() for path, parameter in adapter.copies.items()}
    for key, tensor in keys.write(copies, place, copies=True).items():
        found[_filed(key, adapter.targets)] = tensor
    return {_PREFIX + key: tensor for key, tensor in found.items()}


def fill(tuner: LoraModel, name: str, tensors: Mapping[str, Tensor]) -> None:
    """Give an adapter the tensors of a file, which must be all of its own and no others."""
    adapter, place = tuner.adapters[name], locator(tuner.model)
    tensors = {key.removeprefix(_PREFIX): tensor for key, tensor in tensors.items()}
    used: set[str] = set()
    missing: list[str] = []
    values: list[tuple[str, Tensor, Tensor]] = []
    joined = _joined(tuner)
    adapted = {target.own for target in adapter.targets}

    def take(target: Tensor, where: Place, *names: str) -> None:
        held = [key for key in names if key in tensors]
        used.update(held)
        if not held:
            missing.append(names[-1])
        else:
            values.append((held[0], target, keys.read(where, tensors[held[0]])))

    for target in adapter.targets:
        layer = joined[target.reference][target.own]
        assert isinstance(layer, LoraLinear)
        low, high = (f"{target.reference}.lora_{letter}.weight" for letter in "AB")
        take(layer.lora_A[name], Place(low), low)
        take(layer.lora_B[name], _straight(place(f"{target.own}.weight")), high)
        for own in joined[target.reference].keys() - adapted:
            if high in tensors and bool(keys.read(_straight(place(f"{own}.weight")), tensors[high]).any()):
                raise CheckpointError(
                    f"The file changes {own}, which the adapter {name!r} does not.",
                    f"Name {target.reference.rpartition('.')[2]!r} in target_modules.",
                )
    for path, parameter in adapter.copies.items():
        where = place(path)
        take(parameter, where, *(_filed(key, adapter.targets) for key in (where.copy, where.key) if key))
    extra = [key for key in tensors if key not in used]
    shapes = [
        f"{key} is {tuple(value.shape)}, not {tuple(target.shape)}"
        for key, target, value in values
        if value.shape != target.shape
    ]
    if missing or extra or shapes:
        raise CheckpointError(
            f"The adapter's weights do not fit: missing {missing[:3]}, without use {extra[:3]}, shapes {shapes[:3]}.",
            "Load it on the model that it was made for, with its head, its number of labels and its vocabulary.",
        )
    with torch.no_grad():
        for _, own_tensor, value in values:
            own_tensor.copy_(value)


def _joined(tuner: LoraModel) -> dict[str, dict[str, nn.Linear | LoraLinear]]:
    """The layers that files keep in one tensor, by that tensor's module and by name."""
    found: dict[str, dict[str, nn.Linear | LoraLinear]] = {}
    for module in linears(tuner.model):
        layer: Any = tuner.model.get_submodule(module.own)
        found.setdefault(module.reference, {})[module.own] = layer
    return found


def _straight(where: Place) -> Place:
    """The place of a change in files, which are never transposed."""
    return replace(where, transpose=False, copy=None)


def _filed(key: str, targets: list[Target]) -> str:
    """The key of a whole parameter: peft's adapted layers keep theirs one level down."""
    module, _, leaf = key.rpartition(".")
    return f"{module}.base_layer.{leaf}" if any(t.reference == module for t in targets) else key
