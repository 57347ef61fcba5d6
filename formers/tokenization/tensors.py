"""Rows of numbers as NumPy arrays or torch tensors. NumPy and torch are imported only where a tensor is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from formers.errors import InputError, MissingDependencyError, UnsupportedError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_RAGGED = "Use padding=True, and truncation=True for long texts, or leave out return_tensors to get lists."


def check_tensor_type(value: Any) -> str | None:
    """The kind, "pt", "np" or None; errors for everything else."""
    kind = getattr(value, "value", value)  # a member of an enumeration, as the reference has them
    if kind is None or kind in ("pt", "np"):
        return kind  # type: ignore[no-any-return]
    if kind in ("tf", "jax", "mlx"):
        raise UnsupportedError(
            f"formers makes no {kind!r} tensors.", "Use return_tensors='np' and convert the arrays, or 'pt'."
        )
    raise InputError(f"return_tensors={value!r} is unknown.", "Use 'pt' (torch), 'np' (NumPy) or None (lists).")


def pack(flat: NDArray[np.int64], lengths: NDArray[np.int64], width: int, fill: int, left: bool) -> NDArray[np.int64]:
    """Rows of `lengths`, one after the other in `flat`, as one (rows, width) array filled up with `fill`."""
    import numpy as np

    if len(flat) == len(lengths) * width:
        return flat.reshape(len(lengths), width)
    packed = np.full((len(lengths), width), fill, dtype=np.int64)
    packed[mask(lengths, width, left)] = flat
    return packed


def mask(lengths: NDArray[np.int64], width: int, left: bool) -> NDArray[np.bool_]:
    """(rows, width), True at the tokens: at the end of the rows if `left` (padded on the left), else at the start."""
    import numpy as np

    positions = np.arange(width)
    if left:
        positions = positions[::-1]
    return positions[None, :] < lengths[:, None]


def flatten(rows: Iterable[Sequence[int]], total: int) -> NDArray[np.int64]:
    """The `total` numbers of all rows in one array."""
    import numpy as np

    return np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=total)


def concatenate(arrays: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """The arrays end to end."""
    import numpy as np

    return np.concatenate(arrays) if arrays else np.empty(0, dtype=np.int64)


def wrap(array: NDArray[Any], kind: str) -> Any:
    """The array as a tensor of `kind`, without a copy."""
    return torch_module().from_numpy(array) if kind == "pt" else array


def single_row(row: list[int], kind: str) -> Any:
    """The numbers as a (1, n) tensor of `kind`."""
    import numpy as np

    return wrap(np.array([row], dtype=np.int64), kind)


def as_tensors(values: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Every value as a tensor of `kind`. InputError names the value whose rows differ in length."""
    return {name: as_tensor(name, value, kind) for name, value in values.items()}


def as_tensor(name: str, value: Any, kind: str) -> Any:
    """`value` (numbers, nested lists, arrays, tensors) as a tensor of `kind`; ints become int64."""
    import numpy as np

    if kind == "pt":
        torch = torch_module()
        if isinstance(value, torch.Tensor):
            return value
        if isinstance(value, (list, tuple)) and value and isinstance(value[0], torch.Tensor):
            return torch.stack([torch.as_tensor(row) for row in value])
    elif isinstance(value, np.ndarray):
        return value
    if isinstance(value, np.ndarray):
        return torch_module().from_numpy(value)
    value = to_python(value)
    try:
        array = np.asarray(value)
    except ValueError as error:
        rows = [np.asarray(row) for row in value] if _differ(value) else []
        if kind == "pt" or not rows:
            raise _not_rectangular(name, value) from error
        array = np.empty(len(rows), dtype=object)
        array[:] = rows
        return array
    if array.dtype == object:
        raise _not_rectangular(name, value)
    if array.size == 0 and array.dtype == np.float64:
        array = array.astype(np.int64)  # an empty list says nothing about its type; ids are ints
    if kind == "np":
        return array
    if array.dtype == np.float64:
        return torch_module().tensor(value)  # Python floats take torch's default type
    return torch_module().from_numpy(array)


def to_python(value: Any) -> Any:
    """Arrays and tensors, also inside lists and mappings, as plain Python numbers and lists."""
    if isinstance(value, (int, float, str)) or value is None:
        return value
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return {name: to_python(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        # Rows of plain numbers, by far the most common, stay as they are.
        return value if not value or type(value[0]) in (int, float, str) else [to_python(item) for item in value]
    return value


def torch_module() -> Any:
    """The module `torch`; MissingDependencyError if it is not installed."""
    try:
        import torch
    except ImportError as error:
        raise MissingDependencyError(
            "return_tensors='pt' needs torch, which is not installed.", "Install it with: pip install torch"
        ) from error
    return torch


def ragged(name: str, shortest: int, longest: int) -> InputError:
    """The error for rows that do not fit into one tensor."""
    return InputError(
        f"The rows of {name!r} have between {shortest} and {longest} tokens: no tensor holds them.", _RAGGED
    )


def _differ(value: Any) -> bool:
    """Whether these are rows of different lengths."""
    if not isinstance(value, (list, tuple)) or not all(isinstance(row, (list, tuple)) for row in value):
        return False
    return len({len(row) for row in value}) > 1


def _not_rectangular(name: str, value: Any) -> InputError:
    if _differ(value):
        lengths = [len(row) for row in value]
        return ragged(name, min(lengths), max(lengths))
    return InputError(
        f"The values of {name!r} do not form a tensor: nested too deep, of mixed types, or None.", _RAGGED
    )
