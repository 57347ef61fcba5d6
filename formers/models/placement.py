"""Where a model's weights lie, and in what type it computes: `device_map`, `max_memory`, offloading, `dtype="auto"`.

A model computes on one device. Parts that do not fit there lie in the CPU's memory or on disk, and accelerate brings
each to the device for the moment that it computes.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from formers.errors import InputError, MissingDependencyError, UnsupportedError
from formers.hub.weights import size_in_bytes

if TYPE_CHECKING:
    from formers.models.base import PreTrainedModel

DeviceMap = str | int | torch.device | Mapping[str, Any]
# The reference's ways to fill several accelerators; with one they are the same.
AUTOMATIC = ("auto", "balanced", "balanced_low_0", "sequential")
DISK = "disk"
# What is left free of a device's memory: activations need some.
_SHARE = 0.9


def main_device(device_map: DeviceMap | None, max_memory: Mapping[Any, Any] | None = None) -> torch.device:
    """The device that computes. InputError for one that is not here."""
    if isinstance(device_map, Mapping):
        places = [_place(value) for value in device_map.values()]
        accelerators = list(dict.fromkeys(place for place in places if place not in (DISK, torch.device("cpu"))))
        if len(accelerators) > 1:
            raise UnsupportedError(
                f"device_map spreads the model over {len(accelerators)} accelerators: "
                f"{', '.join(map(str, accelerators))}.",
                'Use one of them, with "cpu" and "disk" for what does not fit.',
            )
        return torch.device(accelerators[0]) if accelerators else torch.device("cpu")
    if device_map is None:
        return torch.device("cpu")
    if device_map in AUTOMATIC:
        named = [place for place in map(_place, max_memory or ()) if place not in (DISK, torch.device("cpu"))]
        if len(named) > 1:
            raise UnsupportedError(
                f"max_memory names {len(named)} accelerators.", 'Name one of them, "cpu" and "disk" alone.'
            )
        if named:
            return torch.device(named[0])
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return torch.device("cpu" if found is None or max_memory else _place(found))
    place = _place(device_map)
    return torch.device("cpu" if place == DISK else place)


def automatic_dtype(stored: torch.dtype, device: torch.device) -> torch.dtype:
    """The type of the checkpoint, or float32 where the device computes faster in that than in 16 bits.

    On a CPU it does, unless that has units for products of bfloat16 matrices (AMX).
    """
    if device.type == "cpu" and (stored == torch.float16 or (stored == torch.bfloat16 and not _multiplies_bfloat16())):
        return torch.float32
    if device.type == "cuda" and stored == torch.bfloat16:
        return stored if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return stored


def spread(
    model: PreTrainedModel,
    device_map: DeviceMap | None,
    max_memory: Mapping[Any, int | str] | None,
    dtype: torch.dtype,
    main: torch.device,
) -> dict[str, str | torch.device] | None:
    """The place of every unit of a model (on the meta device) by name; None if all of it lies where it computes."""
    if max_memory is not None and device_map not in AUTOMATIC:
        raise InputError("max_memory was given without device_map='auto'.", "Add it, or leave max_memory out.")
    if isinstance(device_map, Mapping):
        places = _listed(model, device_map)
    elif device_map == DISK:
        places = {name: DISK for name, _ in units(model)}
    elif device_map in AUTOMATIC:
        places = _fitted(model, _budgets(max_memory, main), dtype, main)
    else:
        return None
    return None if set(places.values()) == {main} else places


def dispatch(
    model: PreTrainedModel,
    places: Mapping[str, str | torch.device],
    main: torch.device,
    folder: str | PathLike[str] | None,
    offload_buffers: bool = False,
) -> None:
    """Give every unit of a filled model its place, and let accelerate bring them to the device that computes."""
    from accelerate import dispatch_model
    from accelerate.utils import offload_state_dict

    from formers.models.base import PreTrainedModel

    away = {name for name, place in places.items() if place != main}
    on_disk = tuple(f"{name}." for name in away if places[name] == DISK)
    store = None
    if on_disk:
        assert folder is not None
        Path(folder).mkdir(parents=True, exist_ok=True)
        # One of its own for each model: what lies there is read back without a check.
        store = tempfile.mkdtemp(prefix="offloaded-", dir=folder)
        weakref.finalize(model, shutil.rmtree, store, ignore_errors=True)
        offload_state_dict(store, {n: t for n, t in model.state_dict().items() if n.startswith(on_disk)})
    whole = sorted({type(model.get_submodule(name)).__name__ for name in away})
    dispatch_model(
        model,
        {name: str(place) for name, place in places.items()},
        main_device=str(main),
        offload_dir=store,
        offload_buffers=offload_buffers,
        preload_module_classes=whole,
    )
    for part in model.modules():
        if isinstance(part, PreTrainedModel):
            part.home = main


def check_means(places: Mapping[str, Any], folder: str | PathLike[str] | None) -> None:
    """Raise for what spreading needs and does not have."""
    if find_spec("accelerate") is None:
        raise MissingDependencyError.for_extra("accelerate", "train")
    on_disk = [name for name, place in places.items() if place == DISK]
    if on_disk and folder is None:
        raise InputError(
            f"{len(on_disk)} of {len(places)} parts of the model go to disk: {', '.join(on_disk[:4])}, ….",
            "Pass offload_folder=, a folder with room for them, or allow more memory.",
        )


def units(model: PreTrainedModel) -> Iterator[tuple[str, nn.Module]]:
    """The parts that lie in one place each: embeddings, every block, norms, heads."""
    for name, child in model.named_children():
        yield from _units(name, child)


def _units(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    from formers.models.base import PreTrainedModel

    if isinstance(module, (nn.ModuleList, PreTrainedModel)):
        for inner, child in module.named_children():
            yield from _units(f"{name}.{inner}", child)
    elif any(True for _ in module.parameters()):
        yield name, module


def _listed(model: PreTrainedModel, device_map: Mapping[str, Any]) -> dict[str, str | torch.device]:
    """The places that a map by the names of modules, or of those in checkpoints, gives."""
    asked = {str(name): _place(value) for name, value in device_map.items()}
    places: dict[str, str | torch.device] = {}
    missing: list[str] = []
    for unit, module in units(model):
        found = {}
        for inner, _ in module.named_parameters():
            name = f"{unit}.{inner}"
            entry = _longest(asked, _spellings(model, name))
            if entry is None:
                missing.append(model.place(name).key)
            else:
                found[entry] = asked[entry]
        if len(set(found.values())) > 1:
            raise InputError(
                f"device_map splits {unit!r}: {', '.join(f'{name} is on {found[name]}' for name in sorted(found))}.",
                "Give it one place: a block is the smallest part that is moved.",
            )
        places.update(dict.fromkeys([unit], next(iter(found.values()))) if found else {})
    if missing:
        raise InputError(
            f"device_map has no place for {len(missing)} weights: {', '.join(missing[:4])}"
            f"{', …' if len(missing) > 4 else ''}.",
            'Name a module that holds them, or add "" for all others.',
        )
    return places


def _spellings(model: PreTrainedModel, name: str) -> tuple[str, ...]:
    key, prefix = model.place(name).key, model.base_model_prefix + "."
    return name, key, key.removeprefix(prefix), prefix + key


def _longest(asked: Iterable[str], spellings: Iterable[str]) -> str | None:
    """The entry that names the smallest module around a weight."""
    names = tuple(spellings)
    fitting = [e for e in asked if not e or any(name == e or name.startswith(e + ".") for name in names)]
    return max(fitting, key=len, default=None)


def _fitted(
    model: PreTrainedModel, budgets: Mapping[str | torch.device, float], dtype: torch.dtype, main: torch.device
) -> dict[str, str | torch.device]:
    """In the order in which they compute, units fill one place after the other."""
    seen: set[nn.Parameter] = set()
    sizes = {}
    for name, module in units(model):
        own = [parameter for parameter in module.parameters() if parameter not in seen]
        seen.update(own)
        sizes[name] = sum(parameter.numel() for parameter in own) * dtype.itemsize
    if sum(sizes.values()) <= budgets[main]:
        return dict.fromkeys(sizes, main)
    order = list(budgets)
    # What lies elsewhere comes to the main device, one unit at a time.
    left = [budgets[place] - (max(sizes.values()) if place == main else 0) for place in order]
    at = 0
    places: dict[str, str | torch.device] = {}
    for name, size in sizes.items():
        while at < len(order) - 1 and size > left[at]:
            at += 1
        left[at] -= size
        places[name] = order[at]
    return places


def _budgets(max_memory: Mapping[Any, int | str] | None, main: torch.device) -> dict[str | torch.device, float]:
    """Bytes that each place may hold, in the order of their use."""
    given = {
        _place(name): size_in_bytes("max_memory", value) if value else 0 for name, value in (max_memory or {}).items()
    }
    cpu = torch.device("cpu")
    budgets: dict[str | torch.device, float] = {main: given[main] if main in given else _SHARE * _free(main)}
    if main != cpu:
        budgets[cpu] = given.get(cpu, float("inf"))
    budgets[DISK] = float("inf")
    return budgets


def _free(device: torch.device) -> float:
    """Bytes; no limit where nobody can tell."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return float("inf")


def _place(value: Any) -> str | torch.device:
    """A device that is here, or "disk"."""
    if value == DISK:
        return DISK
    number = int(value) if isinstance(value, str) and value.isdigit() else value
    kind = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if isinstance(number, int) and not isinstance(number, bool):
        count = torch.accelerator.device_count() if kind is not None else 0
        if kind is None or not 0 <= number < count:
            raise InputError(
                f"Device {number} was asked for; there {'is' if count == 1 else 'are'} {count or 'no'} accelerator"
                f"{'' if count == 1 else 's'} here.",
                'Use "cpu", or "auto" for the best that there is.',
            )
        return torch.device(kind.type, number)
    try:
        device = torch.device(value)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"device_map={value!r} is no device.", 'Use "auto", "cpu", "cuda" or "cuda:0".') from error
    if device.type not in ("cpu", "meta") and (kind is None or kind.type != device.type):
        raise InputError(
            f"device_map={str(value)!r} is not available here.", 'Use "cpu", or "auto" for the best that there is.'
        )
    here = kind is not None and str(device) == kind.type
    return torch.device(device.type, torch.accelerator.current_device_index()) if here else device


def _multiplies_bfloat16() -> bool:
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16"))
