"""`gymhost mcp-config`: a session for an agent that somebody runs by hand, and its score."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from gymhost.cli.options import Metadata, Name, TaskFile, Url
from gymhost.cli.settings import ConfigFile
from gymhost.logs import configure_logging

__all__ = ["mcp_config"]


def mcp_config(
    name: Name,
    task: TaskFile = None,
    metadata: Metadata = None,
    client: Annotated[
        Literal["claude", "cursor", "vscode"],
        typer.Option(
            help="Whose config to print. VS Code's has `servers`, the others `mcpServers`."
        ),
    ] = "claude",
    verify: Annotated[
        str | None,
        typer.Option(
            metavar="ANSWER",
            help="Instead of seeding, score a session by the agent's last message.",
        ),
    ] = None,
    session: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="The session to --verify.", show_default="the one seeded last"
        ),
    ] = None,
    url: Url = None,
    config: ConfigFile = None,
) -> None:
    """Seed a session, and print its MCP config for an agent.

    The config, and nothing else, goes to standard output. It holds the session's token: whoever
    has it can call this session's tools. What comes next is said on standard error. The session
    ends when it is scored, or is not used for a while.

    \b
    Examples:
      gymhost mcp-config weather > .mcp.json
      gymhost mcp-config weather --client vscode > .vscode/mcp.json
      gymhost mcp-config weather --metadata '{"expected_city": "Oslo"}'
      gymhost mcp-config weather --task tasks.jsonl:3
      gymhost mcp-config weather --verify "The weather in Paris is sunny and 72 F."
    """
    # here: a shell that completes a word imports this file, and has no time for an HTTP client
    from gymhost.cli import by_hand
    from gymhost.cli.interrupts import run

    if verify is None and session is not None:
        raise typer.BadParameter("is the session to --verify", param_hint="--session")
    if verify is not None and (task is not None or metadata is not None):
        raise typer.BadParameter("the session has its task already", param_hint="--verify")
    by_hand.check_environment(name)
    chosen = by_hand.chosen_task(task, metadata)
    remote = by_hand.chosen_remote(url, config)
    configure_logging(quiet=True)
    if verify is None:
        run(by_hand.seed, remote, name, chosen, client)
    else:
        run(by_hand.score, remote, name, verify, session)
