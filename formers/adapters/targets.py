"""Which layers an adapter changes, and which parameters it brings along.

Modules have two names: their own, and that of the reference implementation's module whose tensor in files holds theirs.
A name or an expression that a user gives means the reference's; where it fits none of those, it means our own.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from typing import Any

from torch import nn

from formers.adapters.config import LoraConfig
from formers.adapters.layer import LoraLinear
from formers.errors import InputError
from formers.models.keys import Place

logger = logging.getLogger("formers")
_ATTENTION = ("q_proj", "v_proj")


@dataclass(frozen=True)
class Named:
    """A module by its own name and the reference's, which several modules share where a file has them as one."""

    own: str
    reference: str


@dataclass(frozen=True)
class Target(Named):
    """A layer to adapt, with its rank and alpha."""

    rank: int
    alpha: float


def locator(model: nn.Module) -> Callable[[str], Place]:
    """Where files keep the tensors of a model: under their own names if it does not say."""
    place: Callable[[str], Place] = getattr(model, "place", Place)
    return place


def linears(model: nn.Module) -> list[Named]:
    """All dense layers of a model, adapted ones too."""
    place = locator(model)
    found = []
    for own, module in model.named_modules():
        if isinstance(module, nn.Linear | LoraLinear) and not own.endswith(".base_layer"):
            found.append(Named(own, place(f"{own}.weight").key.removesuffix(".weight")))
    return found


def own_name(parameter: str) -> str:
    """The name that a parameter had before its layer was adapted."""
    return parameter.replace(".base_layer.", ".")


def settle(config: LoraConfig, model: nn.Module) -> tuple[LoraConfig, list[Target]]:
    """The layers that a configuration means in this model, and the configuration in the reference's names."""
    modules = linears(model)
    skipped = set(parameters_to_save(config, model))
    excluded = _matching(config.exclude_modules or [], modules)
    usable = {m for m in modules if f"{m.own}.weight" not in skipped and m not in excluded}
    wanted = _default(modules, model) if config.target_modules is None else config.target_modules
    if isinstance(wanted, str) and wanted.lower() == "all-linear":
        output = getattr(model, "get_output_embeddings", lambda: None)()
        names = {m.own: m.reference for m in usable if model.get_submodule(m.own) is not output}
        wanted = []
    else:
        names = {m.own: name for m, name in _matching(wanted, modules).items() if m in usable}
        _warn_of_typos(wanted, modules, model)
    if config.layers_to_transform is not None:
        names = {own: name for own, name in names.items() if _in_layers(name, config)}
    if not names:
        known = sorted({m.reference.rpartition(".")[2] for m in modules})
        raise InputError(
            f"target_modules={config.target_modules!r} fits no dense layer that may be adapted.",
            f"Use names such as {', '.join(known)}, or 'all-linear'.",
        )
    targets = [_target(m, config) for m in modules if m.own in names]
    return _in_reference_names(config, model, wanted, targets, names, modules), targets


def parameters_to_save(config: LoraConfig, model: nn.Module) -> list[str]:
    """The parameters that an adapter brings along for `modules_to_save`."""
    place = locator(model)
    keys = {name: place(name).key for name in map(own_name, _parameters(model))}
    chosen: dict[str, None] = {}
    for wanted in config.modules_to_save or ():
        # As peft does, the end of a name counts, not only whole parts of it.
        hits = [name for name, key in keys.items() if any(part.endswith(wanted) for part in _above(key))]
        hits = hits or [name for name in keys if any(_is_end(wanted, part) for part in _above(name))]
        chosen.update(dict.fromkeys(hits))
    return list(chosen)


def parameters_along(config: LoraConfig, model: nn.Module, targets: Iterable[Named], also: Iterable[str]) -> list[str]:
    """All parameters that an adapter brings along: modules to save, biases, and those whose keys are in `also`."""
    place = locator(model)
    keys = {name: place(name) for name in map(own_name, _parameters(model))}
    chosen = {keys[name].key for name in parameters_to_save(config, model)}
    if config.bias == "all":
        chosen |= {where.key for where in keys.values() if where.key.endswith(".bias")}
    elif config.bias == "lora_only":
        chosen |= {f"{target.reference}.bias" for target in targets}
    also = set(also)
    return [name for name, where in keys.items() if where.key in chosen or {where.key, where.copy} & also]


def _parameters(model: nn.Module) -> list[str]:
    every = model.named_parameters(remove_duplicate=False)
    return [name for name, _ in every if ".lora_A." not in name and ".lora_B." not in name]


def _above(name: str) -> list[str]:
    """The modules that hold a parameter, from the innermost."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(len(parts) - 1, 0, -1)]


def _default(modules: Sequence[Named], model: nn.Module) -> list[str]:
    ends = [m.reference.rpartition(".")[2] for m in modules if any(_is_end(name, m.own) for name in _ATTENTION)]
    if not ends:
        raise InputError(f"There is no default for {type(model).__name__}.", "Give target_modules=.")
    return sorted(set(ends))


def _is_end(end: str, name: str) -> bool:
    return name == end or name.endswith("." + end)


def _matching(wanted: list[str] | str, modules: Sequence[Named]) -> dict[Named, str]:
    """The modules that names or an expression mean, each with the name by which it was found."""
    tests: list[Callable[[str], Any]] = [re.compile(wanted).fullmatch] if isinstance(wanted, str) else []
    if not isinstance(wanted, str):
        tests = [partial(_is_end, end) for end in wanted]
    found: dict[Named, str] = {}
    for fits in tests:
        hits = {m: m.reference for m in modules if fits(m.reference)}
        found |= hits or {m: m.own for m in modules if fits(m.own)}
    return found


def _warn_of_typos(wanted: list[str] | str, modules: Sequence[Named], model: nn.Module) -> None:
    for name in () if isinstance(wanted, str) else wanted:
        if not _matching([name], modules):
            near = get_close_matches(name, {m.reference.rpartition(".")[2] for m in modules})
            hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
            logger.warning("%r in target_modules is no dense layer of %s%s", name, type(model).__name__, hint)


def _in_layers(name: str, config: LoraConfig) -> bool:
    patterns = [config.layers_pattern] if isinstance(config.layers_pattern, str) else config.layers_pattern
    numbers = (
        [config.layers_to_transform] if isinstance(config.layers_to_transform, int) else config.layers_to_transform
    )
    for pattern in patterns or [r"[^.]*"]:
        match = re.match(rf"(?:^|.*?\.){pattern}\.(\d+)\.", name)
        if match is not None:
            return int(match[1]) in (numbers or ())
    return False


def _pattern(patterns: Iterable[str], module: Named) -> str | None:
    """The first pattern that fits a module."""
    for name in (module.reference, module.own):
        for pattern in patterns:
            if re.match(rf"(.*\.)?({pattern})$", name):
                return pattern
    return None


def _target(module: Named, config: LoraConfig) -> Target:
    rank, alpha = (_pattern(patterns, module) for patterns in (config.rank_pattern, config.alpha_pattern))
    return Target(
        module.own,
        module.reference,
        config.r if rank is None else config.rank_pattern[rank],
        config.lora_alpha if alpha is None else config.alpha_pattern[alpha],
    )


def _in_reference_names(
    config: LoraConfig,
    model: nn.Module,
    wanted: list[str] | str,
    targets: Sequence[Target],
    found: dict[str, str],
    modules: Sequence[Named],
) -> LoraConfig:
    """The configuration as files have it: readers know the reference's names only."""
    place = locator(model)
    for target in targets:
        twin = next(t for t in targets if t.reference == target.reference)
        if (twin.rank, twin.alpha) != (target.rank, target.alpha):
            raise InputError(
                f"{twin.own} and {target.own} differ in rank or alpha, and files keep both in {target.reference}.",
                "Give them the same.",
            )
    references = {t.reference for t in targets}
    kept: list[str] = []
    for wished in config.modules_to_save or ():
        one = parameters_to_save(replace(config, task_type=None, modules_to_save=[wished]), model)
        modules_of = sorted({place(name).key.rpartition(".")[0] for name in one})
        named = not one or any(part.endswith(wished) for name in one for part in _above(place(name).key))
        kept += [wished] if named else modules_of
    settled = replace(
        config,
        task_type=None,
        modules_to_save=kept or None,
        rank_pattern={t.reference: t.rank for t in targets if t.rank != config.r},
        alpha_pattern={t.reference: t.alpha for t in targets if t.alpha != config.lora_alpha},
    )
    settled.task_type = config.task_type
    plain = config.exclude_modules is None and config.layers_to_transform is None
    if plain and wanted and all(found[t.own] == t.reference for t in targets):
        return replace(settled, target_modules=wanted)
    ends = {name.rpartition(".")[2] for name in references}
    short = {m.reference for m in modules if any(_is_end(end, m.reference) for end in ends)} == references
    chosen = sorted(ends if short else references)
    return replace(settled, target_modules=chosen, exclude_modules=None, layers_to_transform=None, layers_pattern=None)
