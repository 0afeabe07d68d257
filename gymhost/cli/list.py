"""`gymhost list`: which plugins are installed, and which of them fail; here, or where one runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from gymhost import __version__
from gymhost.agents.find import BUILT_IN
from gymhost.asgi import create_host
from gymhost.cli.output import line, table
from gymhost.cli.settings import ConfigFile
from gymhost.config import load_settings
from gymhost.host import Host
from gymhost.logs import configure_logging
from gymhost.plugin_records import PluginRecord

__all__ = ["list_plugins"]

Row = tuple[str, str, str, str, str]


def list_plugins(
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the traceback of each failure.")
    ] = False,
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="List what this running gymhost serves, instead: what is up, degraded or failed.",
        ),
    ] = None,
    timings: Annotated[
        bool,
        typer.Option(help="Show what importing and building each took, the slowest first."),
    ] = False,
    config: ConfigFile = None,
) -> None:
    """List plugins and agents, and why the failed ones fail. Starts none of them.

    Exit code 1 where one fails; with --url, also where one is degraded: too many of its threads
    were abandoned, and still run.

    Examples:

      gymhost list

      gymhost list --verbose

      gymhost list --timings

      gymhost list --url http://127.0.0.1:8000
    """
    if url is not None:
        _list_running(url, config)
        return
    settings = load_settings(config)
    configure_logging(quiet=True)
    host = create_host(settings)
    if not host.records:
        line("No plugins are installed. Try: pip install gym-env-weather")
        return
    records = sorted(host.records, key=lambda record: record.name)
    agents = list(_agent_rows(host))
    rows = [_plugin_row(record, host) for record in records]
    if timings:
        _show_timings(records)
    else:
        table(("NAME", "KIND", "STATUS", "FROM", "TOOLS, OR WHY IT FAILS"), [*rows, *agents])
    failed = [record for record in records if record.error is not None]
    for record in failed if verbose else ():
        line(f"\n{record.name}:")
        line(record.traceback.rstrip())
    if failed or any(row[2] == "failed" for row in agents):
        raise typer.Exit(1)


def _show_timings(records: list[PluginRecord]) -> None:
    """Heavy imports belong into `startup`: one that comes with the class holds up all others."""
    slowest = sorted(records, key=lambda record: record.seconds, reverse=True)
    rows = [
        (each.name, each.kind, each.status, f"{each.seconds * 1000:.1f}", _origin(each))
        for each in slowest
    ]
    table(("NAME", "KIND", "STATUS", "MS", "FROM"), rows)


def _plugin_row(record: PluginRecord, host: Host) -> Row:
    mount = host.mounts.get(record.name)
    tools = ", ".join(tool.name for tool in mount.tools) if mount is not None else ""
    return record.name, record.kind, record.status, _origin(record), record.reason or tools


def _agent_rows(host: Host) -> Iterator[Row]:
    for name in sorted(BUILT_IN):
        yield name, "agent", "up", f"gymhost {__version__}", ""
    for name, owner in sorted(host.agent_owners.items()):
        if name in BUILT_IN:
            taken = "the name is taken by an agent of gymhost's own"
            yield name, "agent", "failed", _origin(owner), taken
        else:
            yield name, "agent", "up", _origin(owner), ""


def _origin(record: PluginRecord) -> str:
    return f"{record.distribution or '-'} {record.version or ''}".strip()


def _list_running(url: str, config: Path | None) -> None:
    # here: listing what is installed has no use for an HTTP client
    from gymhost.cli.interrupts import run
    from gymhost.cli.remote import chosen_remote
    from gymhost.cli.running import list_running

    remote = chosen_remote(url, config)
    configure_logging(quiet=True)
    run(list_running, remote)
