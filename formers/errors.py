"""The exceptions of formers. Each says what is wrong and what to do about it.

Every class also derives from the built-in exception that callers of the field's libraries already catch.
"""

from __future__ import annotations


class FormersError(Exception):
    """Base class. `problem` says what was got and what was expected; `remedy` says what to do."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem} {remedy}")
        self.problem = problem
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[FormersError], tuple[str, str]]:
        return type(self), (self.problem, self.remedy)


class InputError(FormersError, ValueError):
    """An argument or an input that cannot be used as it is."""


class ConfigError(FormersError, ValueError):
    """A configuration file or value that does not describe a model."""


class CheckpointError(FormersError, ValueError):
    """Weights that are damaged, unsafe, incomplete or do not fit the model."""


class ModelNotFoundError(FormersError, OSError):
    """A model, or one of its files, that could not be found or fetched."""


class UnsupportedError(FormersError, NotImplementedError):
    """Something the reference implementation has and formers does not."""


class MissingDependencyError(FormersError, ImportError):
    """An optional package that is not installed."""

    @classmethod
    def for_extra(cls, package: str, extra: str) -> MissingDependencyError:
        """The error for a package that belongs to one of formers' extras."""
        return cls(
            f"This needs the package {package!r}, which is not installed.",
            f"Install it with: pip install 'formers[{extra}]'",
        )
