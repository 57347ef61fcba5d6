"""The commands and what they share. Nothing here imports torch: `formers --help` answers at once."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated

import typer

from formers import __version__
from formers.cli.convert import convert
from formers.cli.info import info
from formers.cli.pull import pull
from formers.cli.run import run

_SETTINGS = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    name="formers",
    help="Transformer models from the command line.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings=_SETTINGS,
)
app.command()(run)
app.command()(info)
app.command()(pull)
app.command()(convert)


def _later(name: str, function: str, help: str) -> None:
    """Add a command whose many options are built only when it is called: the others start without them."""

    def call(context: typer.Context) -> None:
        own = typer.Typer(add_completion=False, pretty_exceptions_enable=False, context_settings=_SETTINGS)
        own.command()(getattr(import_module(f"formers.cli.{name}"), function))
        own(context.args, prog_name=f"{context.find_root().info_name} {name}")

    # What it does not know, --help included, is left to the command itself.
    passed_on = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command(name, help=help, add_help_option=False, context_settings=passed_on)(call)


_later("chat", "chat", "Chat with a model.")
_later("train", "train", "Train a model on a file, a folder of splits, or a dataset of the hub.")
_later("eval", "evaluate", "Evaluate a model on labelled data.")


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
