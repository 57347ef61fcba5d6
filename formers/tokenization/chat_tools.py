"""Tools for chat templates: JSON schemas from Python functions, their type hints and docstrings."""

from __future__ import annotations

import inspect
import json
import re
import types
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from formers.errors import InputError

_SCALARS: dict[Any, str] = {int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null"}
_CONTAINERS: dict[Any, str] = {list: "array", tuple: "array", dict: "object"}
_SECTION = re.compile(r"^[ \t]*(Args|Returns|Raises):[ \t]*$", re.MULTILINE)
_CHOICES = re.compile(r"\(choices:\s*(.*?)\)\s*$", re.IGNORECASE | re.DOTALL)


def schema_of(tool: Any) -> dict[str, Any]:
    """The schema of a tool: itself if it is a dictionary, else made from a function or method.

    Functions need a docstring in Google's style that describes every argument, and type hints.
    """
    if isinstance(tool, Mapping):
        return dict(tool)
    if not (inspect.isfunction(tool) or inspect.ismethod(tool)):
        raise InputError(
            f"A tool is a JSON schema (a dictionary) or a function, not a {type(tool).__name__}.",
            "Pass the function itself, or describe it by hand.",
        )
    name = tool.__name__
    text = (inspect.getdoc(tool) or "").strip()
    if not text:
        raise InputError(f"The tool {name} has no docstring.", "Describe it and its arguments: models read that.")
    sections = _sections(text)
    described = _arguments(sections.get("Args", ""))
    properties, required = _parameters(tool, described)
    parameters: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        parameters["required"] = required
    function: dict[str, Any] = {"name": name, "description": sections[""], "parameters": parameters}
    returned = _returned(tool)
    if returned is not None:
        if "Returns" in sections:
            returned["description"] = sections["Returns"]
        function["return"] = returned
    return {"type": "function", "function": function}


def _parameters(tool: Callable[..., Any], described: Mapping[str, str]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    hints = _hints(tool)
    properties, required = {}, []
    for position, (name, parameter) in enumerate(inspect.signature(tool).parameters.items()):
        if name not in hints:
            if position == 0 and name in ("self", "cls"):
                continue
            raise InputError(f"The argument {name} of the tool {tool.__name__} has no type hint.", "Add one.")
        if name not in described:
            raise InputError(
                f"The docstring of the tool {tool.__name__} does not describe its argument {name}.",
                f"Add a line `{name}: …` under `Args:`.",
            )
        schema = _of_hint(hints[name])
        text = described[name]
        choices = _CHOICES.search(text)
        if choices is not None:
            schema["enum"] = _choices(choices[1], tool.__name__, name)
            text = text[: choices.start()].strip()
        properties[name] = {**schema, "description": text}
        if parameter.default is inspect.Parameter.empty:
            required.append(name)
    return properties, required


def _hints(tool: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(tool)
    except NameError as error:
        raise InputError(
            f"A type hint of the tool {tool.__name__} cannot be resolved: {error}.", "Import what it names."
        ) from error


def _choices(text: str, tool: str, name: str) -> list[Any]:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise InputError(
            f"The choices of {name} in the docstring of the tool {tool} are no JSON: {error}.",
            'Write them as (choices: ["a", "b"]).',
        ) from error
    return [value.strip() if isinstance(value, str) else value for value in values]


def _returned(tool: Callable[..., Any]) -> dict[str, Any] | None:
    hints = _hints(tool)
    if "return" not in hints:
        return None
    try:
        return _of_hint(hints["return"])
    except InputError:
        return None  # models never write it


def _sections(text: str) -> dict[str, str]:
    """The parts of a docstring by their headings, "" for the description."""
    parts = _SECTION.split(text)
    found = {"": parts[0].strip()}
    for heading, body in zip(parts[1::2], parts[2::2], strict=True):
        found.setdefault(heading, body.strip("\n") if heading == "Args" else body.strip())
    return found


def _arguments(text: str) -> dict[str, str]:
    """The descriptions of arguments; lines that are indented deeper continue the one above."""
    found: dict[str, list[str]] = {}
    current, depth = None, None
    for line in filter(str.strip, text.split("\n")):
        indent = len(line) - len(line.lstrip())
        match = re.match(r"\s*(\w+):\s*(.*)", line)
        if match and (depth is None or indent <= depth):
            current, depth = match[1], indent
            found[current] = [match[2].strip()]
        elif current is not None:
            found[current].append(line.strip())
    return {name: " ".join(filter(None, lines)) for name, lines in found.items()}


def _of_hint(hint: Any) -> dict[str, Any]:
    """The JSON schema of a type hint."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return {}
    if hint in _SCALARS or hint in _CONTAINERS:
        return {"type": (_SCALARS | _CONTAINERS)[hint]}
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _of_values([member.value for member in hint], hint)
    if origin is Literal:
        return _of_values(list(arguments), hint)
    if origin in (Union, types.UnionType):
        return _of_union(arguments)
    if origin is list:
        return {"type": "array", "items": _of_hint(arguments[0])}
    if origin is tuple and len(arguments) > 1 and Ellipsis not in arguments:
        return {"type": "array", "prefixItems": [_of_hint(item) for item in arguments]}
    if origin is dict:
        return {"type": "object", "additionalProperties": _of_hint(arguments[1])}
    raise InputError(
        f"The type hint {hint!r} has no JSON schema.",
        "Use int, float, str, bool, an Enum, Literal, list, dict, tuples of fixed length or unions of these; or write "
        "the tool's schema by hand.",
    )


def _of_union(hints: tuple[Any, ...]) -> dict[str, Any]:
    kinds = [_of_hint(hint) for hint in hints if hint is not type(None)]
    schema: dict[str, Any]
    if len(kinds) == 1:
        schema = kinds[0]
    elif all(kind.keys() == {"type"} and isinstance(kind["type"], str) for kind in kinds):
        names = sorted({kind["type"] for kind in kinds})
        schema = {"type": names[0] if len(names) == 1 else names}
    else:
        schema = {"anyOf": kinds}
    return {**schema, "nullable": True} if type(None) in hints else schema


def _of_values(values: list[Any], hint: Any) -> dict[str, Any]:
    if not values or any(type(value) not in _SCALARS for value in values):
        raise InputError(f"The values of {hint!r} are none that JSON has.", "Use strings, numbers, bools or None.")
    names = list(dict.fromkeys(_SCALARS[type(value)] for value in values))
    return {"type": names[0] if len(names) == 1 else names, "enum": values}
