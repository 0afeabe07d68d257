"""The `gymhost` command, one file a subcommand."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import gymhost
from gymhost.cli.check import check
from gymhost.cli.key import key
from gymhost.cli.list import list_plugins
from gymhost.cli.output import error
from gymhost.cli.serve import serve
from gymhost.errors import GymhostError

__all__ = ["app", "main"]

app = typer.Typer(
    name="gymhost",
    help="Host environments for language-model agents: one process, one port.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gymhost {gymhost.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Host many environments in one process."""


app.command("serve")(serve)
app.command("list")(list_plugins)
app.command("check")(check)
app.command("key")(key)


def main() -> None:
    """Run the command line. Exit codes: 0, 1 for a wrong result, 2 for a wrong use."""
    try:
        app()
    except GymhostError as exc:
        error(str(exc))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
