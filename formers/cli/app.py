"""The commands and what they share. Nothing here imports torch: `formers --help` answers at once."""

from __future__ import annotations

from typing import Annotated

import typer

from formers import __version__
from formers.cli.eval import evaluate
from formers.cli.info import info
from formers.cli.pull import pull
from formers.cli.run import run
from formers.cli.train import train

app = typer.Typer(
    name="formers",
    help="Transformer models from the command line.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(run)
app.command()(train)
app.command("eval")(evaluate)
app.command()(info)
app.command()(pull)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"formers {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Transformer models from the command line."""
