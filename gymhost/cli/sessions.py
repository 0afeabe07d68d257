"""`gymhost sessions list|show|prune`: the record of a running host, and what is forgotten of it."""

from __future__ import annotations

from typing import Annotated

import typer

from gymhost.cli.options import Url, environment_names
from gymhost.cli.settings import ConfigFile
from gymhost.logs import configure_logging
from gymhost.stores import Status

__all__ = ["sessions"]

sessions = typer.Typer(
    help="List, show and forget the sessions of a running host.", no_args_is_help=True
)

OfEnvironment = Annotated[
    str | None,
    typer.Option(
        "--environment",
        metavar="NAME",
        help="Those of one environment, be it mounted or not.",
        autocompletion=environment_names,
    ),
]


@sessions.command("list")
def list_sessions(
    environment: OfEnvironment = None,
    status: Annotated[Status | None, typer.Option(help="Those of one status.")] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Those created then or later: 2h ago, or a time."),
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Those created before then.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="The most to list.")] = 100,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a line, as the server has it.")
    ] = False,
    url: Url = None,
    config: ConfigFile = None,
) -> None:
    """List the sessions of a running host, newest first.

    A time is so long ago (90m, 2h, 7d), or as 2026-01-31T12:00:00Z; one without an offset is local,
    as the table's are. A score that was spoiled by a failure is `masked`: it is no reward.

    \b
    Examples:
      gymhost sessions list
      gymhost sessions list --environment weather --status verified --since 2h
      gymhost sessions list --limit 100000 --json > sessions.jsonl
    """
    # here: a shell that completes a word imports this file, and has no time for a client
    from gymhost.cli import record, spans
    from gymhost.cli.interrupts import run

    created = spans.moment(since, "--since"), spans.moment(until, "--until")
    remote = record.chosen_remote(url, config)
    configure_logging(quiet=True)
    run(record.list_sessions, remote, environment, status, created, limit, json)


@sessions.command("show")
def show(
    session: Annotated[str, typer.Argument(metavar="ID", help="The session.")],
    json: Annotated[
        bool, typer.Option("--json", help="Print the whole record, as the server has it.")
    ] = False,
    url: Url = None,
    config: ConfigFile = None,
) -> None:
    """Show a session's record: its task, state, calls and verdict.

    \b
    Examples:
      gymhost sessions show 0123456789abcdef0123456789abcdef
      gymhost sessions show 0123456789abcdef0123456789abcdef --json
    """
    from gymhost.cli import record
    from gymhost.cli.interrupts import run

    remote = record.chosen_remote(url, config)
    configure_logging(quiet=True)
    run(record.show_session, remote, session, json)


@sessions.command("prune")
def prune(
    environment: OfEnvironment = None,
    ended_before: Annotated[
        str, typer.Option(metavar="TIME", help="Those that ended before then.")
    ] = "24h",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say how many there are, and forget none.")
    ] = False,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Of a store on disk, as sqlite:///path, without a running host.",
            show_default=False,
        ),
    ] = None,
    url: Url = None,
    config: ConfigFile = None,
) -> None:
    """Forget old sessions that have ended, with their calls and verdicts. Living ones stay.

    A running host does so by itself after each environment's retention. What an environment that
    it does not serve any more has left, it forgets only here: living ones, too, a day after their
    last use.

    \b
    Examples:
      gymhost sessions prune --dry-run
      gymhost sessions prune --environment weather --ended-before 7d --yes
      gymhost sessions prune --store sqlite:///sessions.db
    """
    from gymhost.cli import pruning, spans
    from gymhost.cli.interrupts import run

    before = spans.moment(ended_before, "--ended-before")
    assert before is not None
    source = pruning.chosen_source(store, url, config)
    if not (yes or dry_run):
        pruning.check_that_it_can_be_asked()
    configure_logging(quiet=True)
    run(pruning.prune, source, before, environment, yes, dry_run)
