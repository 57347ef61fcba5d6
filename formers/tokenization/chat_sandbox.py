"""Chat templates, run as what they are: programs by strangers.

jinja2's immutable sandbox keeps templates from attributes and changes; this adds bounds on steps, time and sizes. What
could take long or much memory in one go (repetition, joining, padding, formatting) is checked before it is done.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import lru_cache, wraps
from types import BuiltinMethodType, CodeType
from typing import Any, NoReturn

from jinja2 import Environment, TemplateError, TemplateSyntaxError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from formers.errors import ConfigError, InputError

MAX_STEPS = 1_000_000
MAX_SECONDS = 20.0
MAX_SIZE = 1 << 24  # characters of a text, items of a list
_ITEM = 32  # what an item of a list counts, in characters
_MAX_WIDTH = 100_000  # of padding and indentation
_MAX_BITS = 4096  # of a whole number

_WIDE_FORMAT = re.compile(r"\d{5,}|\*|\{[^{}]*\{")
_PADDING = {"center", "expandtabs", "indent", "ljust", "rjust", "tojson", "wordwrap", "zfill"}
_HEAVY = _PADDING | {"e", "escape", "format", "format_map", "forceescape", "join", "pprint", "replace", "string"}
_HEAVY |= {"sum", "title", "translate", "upper", "urlize", "xmlattr"}


class _TooMuch(Exception):
    """A template went over a bound."""


class _Refusal(Exception):
    """A template called raise_exception."""


class Budget:
    """What one rendering may still do."""

    def __init__(self) -> None:
        self.steps = 0
        self.until = time.monotonic() + MAX_SECONDS

    def step(self) -> None:
        """Count a turn of a loop, a call or a piece of text."""
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise _TooMuch(f"takes more than {MAX_STEPS} steps")
        if not self.steps & 255 and time.monotonic() > self.until:
            raise _TooMuch(f"takes longer than {MAX_SECONDS:g} seconds")

    def measure(self, value: Any) -> int:
        """The size of a value written out, roughly; nested lists count as often as they are written."""
        total, waiting = 0, [value]
        while waiting:
            item = waiting.pop()
            total += len(item) if isinstance(item, str) else _ITEM
            if isinstance(item, Mapping):
                waiting += [*item.keys(), *item.values()]
            elif isinstance(item, (list, tuple)):
                waiting += item
            self.fit(total + _ITEM * len(waiting))
        return total

    def fit(self, size: int) -> None:
        """Refuse a text or list of this size."""
        if size > MAX_SIZE:
            raise _TooMuch(f"makes a value of more than {MAX_SIZE} characters")

    def allow(self, name: str, values: tuple[Any, ...]) -> None:
        """Check a filter or method before it runs, the value that it works on first."""
        self.step()
        if name not in _HEAVY:
            return
        size = self.measure([value for value in values if isinstance(value, (str, list, tuple, Mapping))])
        subject, arguments = values[0] if values else "", values[1:]
        widths = [value for value in arguments if isinstance(value, int)]
        if name in _PADDING and any(abs(width) > _MAX_WIDTH for width in widths):
            raise _TooMuch(f"asks {name} for a width of more than {_MAX_WIDTH}")
        if name in ("indent", "tojson") and isinstance(subject, str):
            self.fit((subject.count("\n") + 1) * max(map(abs, widths), default=4))
        if name in ("format", "format_map") and isinstance(subject, str):
            self.check_format(subject)
        if name == "replace" and len(arguments) > 1 and isinstance(subject, str):
            old, new = str(arguments[0]), str(arguments[1])
            self.fit(size + subject.count(old) * len(new))
        if name == "join":
            items, separator = (arguments[:1], subject) if isinstance(subject, str) else ((subject,), arguments[:1])
            count = len(items[0]) if items and hasattr(items[0], "__len__") else MAX_STEPS
            length = len(separator) if isinstance(separator, str) else sum(len(str(part)) for part in separator)
            self.fit(size + count * length if length else size)

    def check_format(self, text: str) -> None:
        """Refuse formats that ask for great or computed widths."""
        if "%" in text or "{" in text:
            for field in re.findall(r"%[^a-zA-Z%]*|\{.*?\}", text):
                if _WIDE_FORMAT.search(field):
                    raise _TooMuch("formats with a great or computed width")

    def operate(self, operator: str, left: Any, right: Any) -> None:
        """Check an operator before it runs."""
        self.step()
        if operator == "%" and isinstance(left, str):
            self.check_format(left)
            self.measure(right)
        elif isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length() * max(right, 1) if operator == "**" else left.bit_length() + right.bit_length()
            if bits > _MAX_BITS:
                raise _TooMuch("computes a huge number")
        elif operator == "*":
            for sequence, times in ((left, right), (right, left)):
                if isinstance(times, int) and hasattr(sequence, "__len__"):
                    self.fit(len(sequence) * times)
        elif operator == "+" and hasattr(left, "__len__") and hasattr(right, "__len__"):
            self.fit(len(left) + len(right))


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment of one rendering."""

    intercepted_binops = frozenset({"*", "**", "+", "%"})

    def __init__(self, marks: tuple[str, str] | None = None) -> None:
        """marks: what to put before and after what `{% generation %}` blocks give."""
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols], optimized=False)
        self.budget = Budget()
        self.marks = marks
        self.filters.update({"tojson": _to_json, "formers_turns": self._turns, "formers_concat": self._concat})
        self.filters = {name: self._guarded(name, function) for name, function in self.filters.items()}
        self.finalize = self._written
        self.concat = self._joined  # type: ignore[method-assign]
        self.globals.pop("lipsum", None)
        self.globals.update(
            raise_exception=_raise, strftime_now=_strftime_now, dict=lambda *a, **k: dict(*a, **k), namespace=_Namespace
        )

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Call what a template calls."""
        if isinstance(__obj, LoopContext) and args:
            args = (__self._turns(args[0]), *args[1:])
        owner = getattr(__obj, "__self__", None)
        if isinstance(__obj, BuiltinMethodType) and isinstance(owner, str):
            __self.budget.allow(__obj.__name__, (owner, *args, *kwargs.values()))
        else:
            __self.budget.step()
        return __self._checked(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Compute what a template computes."""
        self.budget.operate(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """`str.format`, which jinja2 runs itself."""
        run = super().wrap_str_format(value)
        if run is None:
            return None

        def bounded(*args: Any, **kwargs: Any) -> str:
            self.budget.allow("format", (value.__self__, *args, *kwargs.values()))
            return run(*args, **kwargs)

        return bounded

    def _guarded(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        skip = 1 if hasattr(function, "jinja_pass_arg") else 0

        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            self.budget.allow(name, (*args[skip:], *kwargs.values()))
            return self._checked(function(*args, **kwargs))

        return run

    def _checked(self, value: Any) -> Any:
        if isinstance(value, (str, list, tuple)):
            self.budget.fit(len(value))
        return value

    def _turns(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            self.budget.step()
            yield item

    def _concat(self, items: list[Any]) -> str:
        self.budget.measure(items)
        return "".join(map(str, items))

    def _written(self, value: Any) -> Any:
        self.budget.step()
        if isinstance(value, (list, tuple, Mapping)):
            self.budget.measure(value)
        return value

    def _joined(self, pieces: Iterable[str]) -> str:
        pieces = list(pieces)
        self.budget.fit(sum(map(len, pieces)))
        return "".join(pieces)


class Generation(Extension):
    """`{% generation %} … {% endgeneration %}` around what the assistant says."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 has it

    def parse(self, parser: Parser) -> nodes.Node:
        """Read the block."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("mark"), [], [], body).set_lineno(line)

    def mark(self, caller: Callable[[], str]) -> str:
        """What the block gives, marked if asked for."""
        marks = getattr(self.environment, "marks", None)
        text = caller()
        return text if marks is None else marks[0] + text + marks[1]


class Rendered:
    """A text, and the spans of it that `{% generation %}` blocks gave (empty unless tracked)."""

    def __init__(self, text: str, marks: tuple[str, str] | None) -> None:
        self.spans: list[tuple[int, int]] = []
        self.text = text
        if marks is None:
            return
        pieces, length, starts = [], 0, [0]
        for piece in re.split(f"({'|'.join(map(re.escape, marks))})", text):
            if piece == marks[0]:
                starts.append(length)
            elif piece == marks[1]:
                self.spans.append((starts.pop(), length))
            else:
                pieces.append(piece)
                length += len(piece)
        self.text = "".join(pieces)


def render(template: str, variables: Mapping[str, Any], track: bool = False) -> Rendered:
    """The text of a template. InputError if it refuses the conversation, ConfigError if it is no good itself."""
    nonce = secrets.token_hex(8)
    marks = (f"\0{nonce}<", f"\0{nonce}>") if track else None
    try:
        sandbox = Sandbox(marks)
        made = sandbox.template_class.from_code(sandbox, _compiled(template), sandbox.make_globals(None))
        pieces, size = [], 0
        for piece in made.generate(**variables):
            size += len(piece)
            sandbox.budget.fit(size)
            pieces.append(piece)
        return Rendered("".join(pieces), marks)
    except _Refusal as refusal:
        raise InputError(f"The chat template refuses the conversation: {refusal}", "Change the messages.") from None
    except Exception as error:  # a template can raise anything
        raise _explained(error) from error


@lru_cache(maxsize=32)
def _compiled(template: str) -> CodeType:
    sandbox = Sandbox()
    sandbox.budget.fit(len(template))
    tree = sandbox.parse(template)
    for node in list(tree.find_all(nodes.For)):
        node.iter = _filtered(node.iter, "formers_turns")
    _replace_concatenations(tree)
    code: CodeType = Environment.compile(sandbox, tree)
    return code


def _filtered(node: nodes.Node, name: str) -> Any:
    return nodes.Filter(node, name, [], [], None, None).set_lineno(node.lineno)


def _replace_concatenations(node: nodes.Node) -> None:
    for name, value in list(node.iter_fields()):
        children = value if isinstance(value, list) else [value]
        for index, child in enumerate(children):
            if not isinstance(child, nodes.Node):
                continue
            _replace_concatenations(child)
            if isinstance(child, nodes.Concat):
                joined = nodes.List(child.nodes).set_lineno(child.lineno)
                children[index] = _filtered(joined, "formers_concat")
        if not isinstance(value, list):
            setattr(node, name, children[0])


def _explained(error: Exception) -> ConfigError | InputError:
    remedy = "Pass another template as `chat_template`."
    if isinstance(error, _TooMuch):
        return ConfigError(f"The chat template {error}.", f"It is broken or hostile. {remedy}")
    if isinstance(error, SecurityError):
        return ConfigError(f"The chat template does what templates may not: {error}.", f"It is hostile. {remedy}")
    if isinstance(error, TemplateSyntaxError):
        return ConfigError(f"Line {error.lineno} of the chat template is wrong: {error.message}.", f"Fix it. {remedy}")
    if isinstance(error, (RecursionError, MemoryError, OverflowError)):
        return ConfigError(f"The chat template fails: {type(error).__name__}.", f"It nests too deep. {remedy}")
    kind = "" if isinstance(error, TemplateError) else f"{type(error).__name__}: "
    return InputError(
        f"The chat template fails on this conversation: {kind}{error}.",
        "Check that every message has the keys that the template reads, such as 'role' and 'content'.",
    )


def _raise(message: Any = "") -> NoReturn:
    raise _Refusal(str(message)[:2000])


def _strftime_now(format: str) -> str:
    if len(format) > 200 or re.search(r"\d{3}", format):
        raise _TooMuch("formats a date with a great width")
    return datetime.now().strftime(format)


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


class _Namespace(Namespace):
    """`namespace()` without names that begin with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        values = dict(*args[1:], **kwargs)
        for name in values:
            _check_name(name)
        Namespace.__init__(args[0], values)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        Namespace.__setitem__(self, name, value)


def _check_name(name: Any) -> None:
    if str(name).startswith("_"):
        raise SecurityError(f"the name {name!r} begins with an underscore")
