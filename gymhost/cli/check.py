"""`gymhost check`: play every example task on a real server."""

from __future__ import annotations

from typing import Annotated

import anyio
import typer

from gymhost.asgi import create_host
from gymhost.checking import Played, play_tasks
from gymhost.cli.embedded import embedded
from gymhost.cli.options import environment_names
from gymhost.cli.output import error, line, table
from gymhost.cli.settings import ConfigFile
from gymhost.client import Client
from gymhost.config import Settings, load_settings
from gymhost.errors import ServeError
from gymhost.host import Host
from gymhost.logs import configure_logging
from gymhost.models import Task

__all__ = ["check"]


def check(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME",
            help="Environments; all by default.",
            autocompletion=environment_names,
        ),
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Play each example task's reference, and no action, on a server with a real MCP client.

    The reference must score its stated reward, and doing nothing must not. Exit code 1 where
    one does not, where an environment fails to start, or where it has nothing to play. A task
    without a reference is named and left alone.

    Example:

      gymhost check weather
    """
    settings = load_settings(config)
    configure_logging(quiet=True)
    _report(*anyio.run(_check, settings, names or []))


def _report(played: list[Played], problems: list[str]) -> None:
    if played:
        table(
            ("ENVIRONMENT", "TASK", "EXPECTED", "REFERENCE", "NO ACTION", "RESULT"),
            [_row(each) for each in played],
        )
    for problem in problems:
        error(problem)
    wrong = sum(each.problem is not None for each in played)
    without = sum(each.skipped for each in played)
    summary = f"{len(played) - wrong - without} right, {wrong} wrong"
    line(f"{summary}, {without} without a reference" if without else summary)
    if wrong or problems:
        raise typer.Exit(1)


async def _check(settings: Settings, names: list[str]) -> tuple[list[Played], list[str]]:
    # The sessions are nobody's: they stay in memory, and in no log of rewards. And it is the
    # environments that are checked, without faults that an extension injects.
    host = create_host(settings, extensions_wrap=False)
    known = {record.name for record in host.records if record.kind != "extension"}
    unknown = sorted(set(names) - known)
    if unknown:
        raise ServeError(f"no environment is named {', '.join(unknown)}: try `gymhost list`")
    async with embedded(host) as remote, Client(remote.url, remote.key) as client:
        return await _play(host, client, names)


async def _play(host: Host, client: Client, names: list[str]) -> tuple[list[Played], list[str]]:
    played: list[Played] = []
    problems = [
        f"{record.name} is not served: {record.reason}"
        for record in host.records
        if record.status == "failed" and (not names or record.name in names)
    ]
    for name in sorted(set(names or host.mounts) & set(host.mounts)):
        examples, problem = _examples(host, name)
        rows = [each async for each in play_tasks(client, name, examples)]
        if rows and all(row.skipped for row in rows):
            problem = f"{name}: no example task has a reference"
        problems += [problem] if problem else []
        played += rows
    if not played and not problems:
        problems.append("there is nothing to play: no environment is installed")
    return played, problems


def _examples(host: Host, name: str) -> tuple[list[Task], str | None]:
    """Return an environment's example tasks, or what is wrong with them."""
    try:
        tasks = list(host.mounts[name].instance.tasks())
    except (Exception, SystemExit) as exc:  # noqa: BLE001 - the author's code
        return [], f"{name}: its tasks can't be read: {type(exc).__name__}: {exc}"
    return tasks, None if tasks else f"{name} has no example tasks"


def _row(played: Played) -> tuple[str, ...]:
    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:g}"

    return (
        played.environment,
        str(played.task),
        number(played.expected),
        number(played.reference),
        number(played.nothing),
        played.problem or ("no reference" if played.skipped else "ok"),
    )
