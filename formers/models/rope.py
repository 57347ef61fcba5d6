"""Rotary positions as configurations describe them, in the spellings of transformers 4 and 5."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from formers.configuration import PreTrainedConfig, config_dataclass
from formers.errors import ConfigError
from formers.layers.rotary import Dynamic, Linear, Llama3, LongRope, Rotary, Scaling, Yarn, yarn_amplitude

_PARTIAL = "partial_rotary_factor"


@config_dataclass
class RotaryConfig(PreTrainedConfig):
    """A configuration with `rope_parameters`.

    The older `rope_theta`, `rope_scaling` and `partial_rotary_factor` work too. Whichever are given, `rope_parameters`
    holds them all in the end.
    """

    default_theta: ClassVar[float] = 10_000.0
    # None: the family turns whole heads.
    default_partial: ClassVar[float | None] = None

    rope_parameters: dict[str, Any] | None = None
    use_cache: bool = True

    def __init__(self, **values: Any) -> None:
        older = {"rope_theta": values.pop("rope_theta", None), _PARTIAL: values.pop(_PARTIAL, None)}
        defaults = {"rope_theta": self.default_theta, _PARTIAL: self.default_partial}
        given = {**_renamed(values.pop("rope_scaling", None)), **_renamed(values.pop("rope_parameters", None))}
        merged = {name: older[name] if older[name] is not None else default for name, default in defaults.items()}
        merged = {name: value for name, value in merged.items() if value is not None}
        values["rope_parameters"] = {"rope_type": "default", **merged, **given}
        super().__init__(**values)

    @property
    def rope_theta(self) -> float:
        """The base frequency, kept in `rope_parameters`."""
        return float((self.rope_parameters or {}).get("rope_theta", self.default_theta))

    @rope_theta.setter
    def rope_theta(self, theta: float) -> None:
        self.rope_parameters = {**(self.rope_parameters or {}), "rope_theta": theta}

    @property
    def partial_rotary_factor(self) -> float:
        """The part of each head that is turned, kept in `rope_parameters`."""
        return float((self.rope_parameters or {}).get(_PARTIAL, 1.0))

    @partial_rotary_factor.setter
    def partial_rotary_factor(self, part: float) -> None:
        self.rope_parameters = {**(self.rope_parameters or {}), _PARTIAL: part}

    @property
    def rope_scaling(self) -> dict[str, Any] | None:
        """How frequencies are stretched, as transformers 4 spells it; None where they are not."""
        given = self.rope_parameters or {}
        if given.get("rope_type", "default") == "default":
            return None
        return {name: value for name, value in given.items() if name not in ("rope_theta", _PARTIAL)}

    @rope_scaling.setter
    def rope_scaling(self, scaling: Mapping[str, Any] | None) -> None:
        kept = {name: value for name, value in (self.rope_parameters or {}).items() if name in ("rope_theta", _PARTIAL)}
        self.rope_parameters = {"rope_type": "default", **kept, **_renamed(scaling)}


def _renamed(given: Mapping[str, Any] | None) -> dict[str, Any]:
    values = dict(given or {})
    if "type" in values:
        values.setdefault("rope_type", values.pop("type"))
    return values


def rotary(
    config: Any, head_dim: int, parameters: Mapping[str, Any] | None = None, interleaved: bool = False
) -> Rotary:
    """The rotation that `parameters` describe (config.rope_parameters unless given), for heads of `head_dim` values."""
    given = config.rope_parameters if parameters is None else parameters
    kind = given.get("rope_type", "default")
    dim = int(head_dim * (given.get(_PARTIAL) or 1.0))
    theta = float(given["rope_theta"])
    try:
        scaling, amplitude = _scaling(kind, given, config)
    except KeyError as error:
        raise ConfigError(
            f"rope_parameters of type {kind!r} lack {error.args[0]!r}: {dict(given)}.", "Complete config.json."
        ) from error
    if isinstance(scaling, LongRope):
        for name, values in (("short_factor", scaling.short), ("long_factor", scaling.long)):
            if len(values) != dim // 2:
                raise ConfigError(
                    f"rope_parameters have {len(values)} values in {name}; {dim // 2} are needed.",
                    "Correct config.json.",
                )
    return Rotary(dim, theta, interleaved, scaling, amplitude)


def _scaling(kind: str, given: Mapping[str, Any], config: Any) -> tuple[Scaling | None, float]:
    """The stretching of frequencies, and what multiplies the tables."""
    if kind == "default":
        return None, 1.0
    if kind == "linear":
        return Linear(float(given["factor"])), 1.0
    if kind == "dynamic":
        return Dynamic(float(given["factor"]), config.max_position_embeddings), 1.0
    if kind == "llama3":
        low, high = float(given["low_freq_factor"]), float(given["high_freq_factor"])
        return Llama3(float(given["factor"]), low, high, int(given["original_max_position_embeddings"])), 1.0
    if kind not in ("yarn", "longrope", "su"):
        raise ConfigError(
            f"rope_parameters ask for rope_type {kind!r}.",
            "Known types: default, linear, dynamic, yarn, llama3, longrope.",
        )
    most = config.max_position_embeddings
    outer = getattr(config, "original_max_position_embeddings", None)
    length = int(given.get("original_max_position_embeddings") or outer or most)
    factor = float(given.get("factor") or most / length)
    amplitude = given.get("attention_factor")
    if kind == "yarn":
        if amplitude is None:
            scale, whole = given.get("mscale"), given.get("mscale_all_dim")
            both = yarn_amplitude(factor, scale) / yarn_amplitude(factor, whole) if scale and whole else None
            amplitude = yarn_amplitude(factor) if both is None else both
        fast, slow = float(given.get("beta_fast") or 32), float(given.get("beta_slow") or 1)
        return Yarn(factor, length, fast, slow, bool(given.get("truncate", True))), float(amplitude)
    if amplitude is None:
        amplitude = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(length))
    short, long = given["short_factor"], given["long_factor"]
    return LongRope(tuple(map(float, short)), tuple(map(float, long)), length), float(amplitude)
