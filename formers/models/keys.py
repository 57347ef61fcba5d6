"""Checkpoint keys: one invertible table a family, one function for loading and saving.

A rule maps a module of the model to where checkpoints keep it. "{}" stands for a layer's number; whatever follows the
pattern (".weight", ".bias") is carried over. Rules are tried in order; a name that no rule matches keeps itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from formers.errors import CheckpointError


@dataclass(frozen=True)
class Rename:
    """The module `model` is called `file` in checkpoints; `transpose` where they keep (in, out) matrices.

    `copy` is the name of a second one in checkpoints with untied embeddings; where it is there, it is the one in use.
    """

    file: str
    model: str
    transpose: bool = False
    copy: str | None = None


@dataclass(frozen=True)
class Fuse:
    """The modules `models` stand in one tensor `file`, one after another along the first dimension.

    Their parts are as large as `sizes` say, or equal. With `groups` each part comes in so many pieces, one group of
    pieces after another, as when every head has its query, key and value together. `transpose` as in `Rename`.
    """

    file: str
    models: tuple[str, ...]
    sizes: tuple[int, ...] | None = None
    groups: int = 1
    transpose: bool = False


Rule = Rename | Fuse


@dataclass(frozen=True)
class Place:
    """Where one tensor of the model lies in a checkpoint: part `part` of `parts` of the tensor `key`.

    `sizes` and `groups` as in `Fuse`.
    """

    key: str
    part: int = 0
    parts: int = 1
    transpose: bool = False
    copy: str | None = None
    sizes: tuple[int, ...] = (1,)
    groups: int = 1


@lru_cache(maxsize=4096)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(re.escape(text).replace(r"\{\}", r"(\d+)") + r"(?=\.|$)")


def _substitute(name: str, pattern: str, replacement: str) -> str | None:
    match = _pattern(pattern).match(name)
    if match is None:
        return None
    for number in match.groups():
        replacement = replacement.replace("{}", number, 1)
    return replacement + name[match.end() :]


def place(name: str, rules: Iterable[Rule]) -> Place:
    """Where the model's tensor `name` lies in a checkpoint."""
    for rule in rules:
        models = (rule.model,) if isinstance(rule, Rename) else rule.models
        for part, model in enumerate(models):
            key = _substitute(name, model, rule.file)
            if key is None:
                continue
            if isinstance(rule, Fuse):
                sizes = rule.sizes or (1,) * len(models)
                transpose = rule.transpose and key.endswith("weight")
                return Place(key, part, len(models), transpose, sizes=sizes, groups=rule.groups)
            copy = None if rule.copy is None else _substitute(name, model, rule.copy)
            return Place(key, transpose=rule.transpose and key.endswith("weight"), copy=copy)
    return Place(name)


def prefixed(rules: Sequence[Rule], file: str, model: str) -> list[Rule]:
    """The same rules for modules that lie below `file` in checkpoints and below `model` in the model."""

    def below(rule: Rule) -> Rule:
        if isinstance(rule, Rename):
            copy = None if rule.copy is None else file + rule.copy
            return replace(rule, file=file + rule.file, model=model + rule.model, copy=copy)
        return replace(rule, file=file + rule.file, models=tuple(model + name for name in rule.models))

    rest = [Rename(file.rstrip("."), model.rstrip("."))] if model and file else []
    return [*map(below, rules), *rest]


def read(where: Place, tensor: Tensor) -> Tensor:
    """The model's tensor from the checkpoint's."""
    tensor = tensor.t() if where.transpose else tensor
    if where.parts > 1:
        units = where.groups * sum(where.sizes)
        if tensor.shape[0] % units:
            raise CheckpointError(
                f"The tensor {where.key!r} has {tensor.shape[0]} rows, not a multiple of {units}.",
                "The file does not fit this architecture; check config.json.",
            )
        unit = tensor.shape[0] // units
        grouped = tensor.unflatten(0, (where.groups, sum(where.sizes) * unit))
        tensor = grouped.split([size * unit for size in where.sizes], dim=1)[where.part].flatten(0, 1)
    return tensor


def write(tensors: Mapping[str, Tensor], locate: Callable[[str], Place], copies: bool) -> dict[str, Tensor]:
    """The checkpoint's tensors from the model's, with the copies that untied embeddings ask for."""
    parts: dict[str, list[Tensor | None]] = {}
    places: dict[str, Place] = {}
    for name, tensor in tensors.items():
        where = locate(name)
        if copies and where.copy is not None:
            parts[where.copy] = [tensor.clone()]
            places[where.copy] = Place(where.copy)
        whole = parts.setdefault(where.key, [None] * where.parts)
        whole[where.part] = tensor
        places[where.key] = where
    joined: dict[str, Tensor] = {}
    for key, pieces in parts.items():
        present = [piece for piece in pieces if piece is not None]
        if len(present) < len(pieces):
            raise CheckpointError(
                f"Only {len(present)} of {len(pieces)} parts of {key!r} are given.", "Give all parts."
            )
        where = places[key]
        if len(present) == 1:
            whole_tensor = present[0]
        else:
            whole_tensor = torch.cat([p.unflatten(0, (where.groups, -1)) for p in present], dim=1).flatten(0, 1)
        joined[key] = whole_tensor.t() if where.transpose else whole_tensor
    return joined


def modern(key: str) -> str:
    """The current spelling of a key that an old checkpoint may hold."""
    if key.endswith(".gamma"):
        return key[: -len("gamma")] + "weight"
    if key.endswith(".beta"):
        return key[: -len("beta")] + "bias"
    return key
