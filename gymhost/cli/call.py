"""`gymhost call`: call a tool as an agent does."""

from __future__ import annotations

from typing import Annotated

import typer

from gymhost.cli.options import Metadata, Name, TaskFile, Url
from gymhost.cli.settings import ConfigFile
from gymhost.logs import configure_logging

__all__ = ["call"]


def call(
    name: Name,
    tool: Annotated[str, typer.Argument(metavar="TOOL", help="The tool.")],
    arg: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="An argument; may be given often. Text where the tool takes text, else JSON.",
        ),
    ] = None,
    args_json: Annotated[
        str | None,
        typer.Option(
            metavar="JSON",
            help="All arguments, as an object that is sent as it is; - reads standard input.",
        ),
    ] = None,
    json: Annotated[
        bool,
        typer.Option("--json", help="Print MCP's whole result, structured content included."),
    ] = False,
    task: TaskFile = None,
    metadata: Metadata = None,
    session: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Go on with a session that `gymhost mcp-config` seeded: its id, or `last`.",
            show_default="a new one, closed after the call",
        ),
    ] = None,
    url: Url = None,
    config: ConfigFile = None,
) -> None:
    """Call a tool of a running environment, as an agent does, and print its answer.

    The call goes over MCP, in a session of its own or of `gymhost mcp-config`. A tool's error goes
    to standard error, and is exit code 1.

    \b
    Examples:
      gymhost call weather get_weather --arg city=Paris
      gymhost call weather get_weather --args-json '{"city": "Paris"}' --json

    \b
    Several calls in one session, and its score:
      gymhost mcp-config weather > .mcp.json
      gymhost call weather get_weather --arg city=Paris --session last
      gymhost mcp-config weather --verify "The weather in Paris is sunny and 72 F."
    """
    # here: a shell that completes a word imports this file, and has no time for an MCP client
    from gymhost.cli import by_hand
    from gymhost.cli.interrupts import run

    if arg and args_json is not None:
        raise typer.BadParameter("give --arg or --args-json, not both", param_hint="--arg")
    if session is not None and (task is not None or metadata is not None):
        raise typer.BadParameter("the session has its task already", param_hint="--session")
    by_hand.check_environment(name)
    chosen = by_hand.chosen_task(task, metadata)
    arguments = by_hand.whole_arguments(args_json) if args_json is not None else arg or []
    remote = by_hand.chosen_remote(url, config)
    configure_logging(quiet=True)
    run(by_hand.call, remote, name, tool, arguments, chosen, session, json)
