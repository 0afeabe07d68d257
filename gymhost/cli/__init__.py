"""The `gymhost` command, one file a subcommand."""

from __future__ import annotations

import os
import sys
import threading
from typing import Annotated, Any

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
    status: Any = 0
    try:
        app(prog_name="gymhost")
    except GymhostError as exc:
        error(str(exc))
        status = 1
    except SystemExit as exc:  # how each command ends
        status = exc.code
    _leave_stuck_threads(status)
    sys.exit(status)


def _leave_stuck_threads(status: Any) -> None:
    """End the process over threads that do not end; what could be closed has been closed.

    Python waits for them otherwise, and an author's `def` tool may never return.
    """
    stuck = [t for t in threading.enumerate() if t is not threading.main_thread() and not t.daemon]
    for thread in stuck:
        thread.join(0.2)
    if any(thread.is_alive() for thread in stuck):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
