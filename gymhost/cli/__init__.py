"""The `gymhost` command, one file a subcommand; each is imported when it is used."""

from __future__ import annotations

import os
import sys
import threading
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

import gymhost
from gymhost.cli.output import error, survive_odd_terminals
from gymhost.collecting import collect_seldom
from gymhost.config import ConfigError
from gymhost.errors import GymhostError

__all__ = ["COMMANDS", "app", "load", "main"]

# Where each command is, and the sentence that the help has of it. Here, so that neither the help
# nor a shell that completes a word imports a server: that takes a second.
COMMANDS = {
    "serve": (
        "gymhost.cli.serve:serve",
        "Mount every installed environment on one port, until Ctrl-C.",
    ),
    "list": (
        "gymhost.cli.list:list_plugins",
        "List plugins and agents, and why the failed ones fail.",
    ),
    "check": (
        "gymhost.cli.check:check",
        "Play each example task's reference, and no action.",
    ),
    "rollout": (
        "gymhost.cli.rollout:rollout",
        "Let an agent attempt tasks, and write the scores to a file.",
    ),
    "config": (
        "gymhost.cli.config:config",
        "Show the configuration.",
    ),
    "call": (
        "gymhost.cli.call:call",
        "Call a tool of a running environment, as an agent does.",
    ),
    "mcp-config": (
        "gymhost.cli.mcp_config:mcp_config",
        "Seed a session, and print its MCP config for an agent.",
    ),
    "sessions": (
        "gymhost.cli.sessions:sessions",
        "List, show and forget the sessions of a running host.",
    ),
    "key": (
        "gymhost.cli.key:key",
        "Show the control key, as clients send it.",
    ),
}

EXIT_CODES = """\b
Exit codes:
  0    good
  1    a wrong result, or a failure at run time
  2    wrong use, or a wrong configuration
  130  interrupted by Ctrl-C
"""


class LazyCommand(TyperCommand):
    """A command's name and sentence; the rest is imported when it is used."""

    def make_context(self, info_name: str | None, args: list[str], *more: Any, **extra: Any) -> Any:
        assert self.name is not None
        return load(self.name).make_context(info_name, args, *more, **extra)


class LazyGroup(TyperGroup):
    """The commands of `COMMANDS`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name, (_, sentence) in COMMANDS.items():
            self.add_command(LazyCommand(name, help=sentence, rich_markup_mode=None))


def load(name: str) -> Any:
    """Import a command, or a group of commands."""
    module, _, attribute = COMMANDS[name][0].partition(":")
    found = getattr(import_module(module), attribute)
    loaded = typer.Typer(rich_markup_mode=None)
    if isinstance(found, typer.Typer):
        loaded.add_typer(found, name=name)
    else:
        loaded.command(name)(found)
    loaded.callback()(lambda: None)  # a group, even of one command
    return typer.main.get_group(loaded).commands[name]


app = typer.Typer(
    name="gymhost",
    cls=LazyGroup,
    help="Host environments for language-model agents: one process, one port.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain text: rich draws boxes around help, in a pipe too
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


def main() -> None:
    """Run the command line. Exit codes: see `EXIT_CODES`."""
    survive_odd_terminals()
    collect_seldom()  # before the imports, which are most of what a command does
    status: Any = 0
    try:
        _check_arguments()
        app(prog_name="gymhost")
    except ConfigError as exc:
        for problem in exc.problems:
            error(problem)
        status = 2
    except GymhostError as exc:
        error(str(exc))
        status = 1
    except SystemExit as exc:  # how each command ends
        status = exc.code
    _leave_stuck_threads(status)
    sys.exit(status)


def _check_arguments() -> None:
    """Stop here at what no request can carry, and no other part looks for."""
    for word in sys.argv[1:]:
        try:
            word.encode()
        except UnicodeEncodeError:  # bytes that the locale has no letters for
            error(f"{word!r} can't be read as UTF-8. Try: LC_ALL=C.UTF-8 gymhost ...")
            sys.exit(2)


def _leave_stuck_threads(status: Any) -> None:
    """End the process over threads that do not end; what could be closed has been closed.

    Python waits for them otherwise, and an author's `def` tool may never return.
    """
    stuck = [t for t in threading.enumerate() if t is not threading.main_thread() and not t.daemon]
    for thread in stuck:
        thread.join(0.2)
    if any(thread.is_alive() for thread in stuck):
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
        os._exit(status)
