"""`gymhost list`: which plugins are installed, and which of them fail."""

from __future__ import annotations

import traceback
from typing import Annotated

import typer

from gymhost.asgi import create_host
from gymhost.cli.output import line, table
from gymhost.cli.settings import ConfigFile
from gymhost.config import load_settings
from gymhost.logs import configure_logging

__all__ = ["list_plugins"]


def list_plugins(
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the traceback of each failure.")
    ] = False,
    config: ConfigFile = None,
) -> None:
    """List the installed plugins, and why the failed ones fail. Starts none of them.

    Exit code 1 where one fails.

    Examples:

      gymhost list

      gymhost list --verbose
    """
    settings = load_settings(config)
    configure_logging(quiet=True)
    host = create_host(settings)
    rows = []
    for record in sorted(host.records, key=lambda record: record.name):
        mount = host.mounts.get(record.name)
        tools = ", ".join(tool.name for tool in mount.tools) if mount is not None else ""
        origin = f"{record.distribution or '-'} {record.version or ''}".strip()
        rows.append((record.name, record.kind, record.status, origin, record.reason or tools))
    if not rows:
        line("No plugins are installed. Try: pip install gym-env-weather")
        return
    table(("NAME", "KIND", "STATUS", "FROM", "TOOLS, OR WHY IT FAILS"), rows)
    failed = [(record.name, record.error) for record in host.records if record.error is not None]
    for name, error in failed if verbose else ():
        line(f"\n{name}:")
        line("".join(traceback.format_exception(error)).rstrip())
    if failed:
        raise typer.Exit(1)
