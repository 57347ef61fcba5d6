"""What the commands that generate text have in common: flags to settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from formers.errors import InputError

# Flags that choose among tokens to draw from.
_DRAWING = ("temperature", "top_k", "top_p", "min_p")


def settings_of(
    given: Mapping[str, Any], temperature: float | None = None, do_sample: bool | None = None
) -> dict[str, Any]:
    """Settings of generation from the flags that were given; a temperature of 0 takes the likeliest token."""
    settings = {name: value for name, value in given.items() if value is not None}
    if temperature == 0:
        if do_sample:
            raise InputError("--do-sample was given with --temperature 0.", "Leave one of them out.")
        do_sample = False
    elif temperature is not None:
        settings["temperature"] = temperature
    if do_sample is None and any(name in settings for name in _DRAWING):
        do_sample = True
    if do_sample is not None:
        settings["do_sample"] = do_sample
    return settings


def device_of(name: str) -> str | int:
    """A device as its name or its number."""
    return int(name) if name.lstrip("-").isdigit() else name


def quantize_of(int8: bool, int4: bool) -> str | None:
    """What the flags --int8 and --int4 ask for."""
    if int8 and int4:
        raise typer.BadParameter("It was given with --int8: give one of them.", param_hint="--int4")
    return "int8" if int8 else "int4" if int4 else None
