"""Pictures of results."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from formers.errors import InputError, MissingDependencyError
from formers.hub.atomic import staged

ENDINGS = ("png", "svg", "pdf")
# Numbers in the cells of larger matrices cannot be read.
_MOST_NUMBERS = 20


def check(name: str) -> None:
    """Raise before work starts if no picture can be drawn to a file of that name."""
    if _ending(name) not in ENDINGS:
        raise InputError(f"{name!r} is no name of a picture.", f"End it with one of: .{', .'.join(ENDINGS)}.")
    if not Path(name).resolve().parent.is_dir():
        raise InputError(f"The folder of {name!r} does not exist.", "Name a file in a folder that exists.")
    if find_spec("matplotlib") is None:
        raise MissingDependencyError.for_extra("matplotlib", "train")


def confusion(matrix: Sequence[Sequence[int]], labels: Sequence[str], name: str) -> Path:
    """Draw how many examples of each class were predicted as which; returns the picture's path."""
    from matplotlib.figure import Figure

    size = len(labels)
    figure = Figure(figsize=(2.5 + 0.5 * min(size, 30), 2 + 0.5 * min(size, 30)), layout="constrained")
    axes = figure.subplots()
    shares = [[cell / max(1, sum(row)) for cell in row] for row in matrix]
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the class")
    axes.set_xticks(range(size), labels, rotation=45, ha="right")
    axes.set_yticks(range(size), labels)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if size <= _MOST_NUMBERS:
        for i, row in enumerate(matrix):
            for j, cell in enumerate(row):
                color = "white" if shares[i][j] > 0.5 else "black"
                axes.text(j, i, f"{cell:,}", ha="center", va="center", color=color, fontsize="small")
    path = Path(name)
    with staged(path) as draft:
        figure.savefig(draft, format=_ending(name), dpi=120)
    return path


def _ending(name: str) -> str:
    return Path(name).suffix.lower().lstrip(".")
