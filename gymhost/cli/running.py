"""`gymhost list --url`: how the environments of a running gymhost are."""

from __future__ import annotations

import typer
from pydantic import BaseModel

from gymhost.cli.output import line, table
from gymhost.cli.remote import Remote, connected

__all__ = ["list_running"]

COLUMNS = ("NAME", "STATUS", "SESSIONS", "CALLS", "STUCK THREADS", "LIMITS HIT, OR WHY IT FAILS")


class _Use(BaseModel):
    open_sessions: int
    calls_in_flight: int
    stuck_threads: int


class _Environment(BaseModel):
    name: str
    status: str
    use: _Use
    limits_hit: dict[str, int]

    def row(self) -> tuple[str, ...]:
        hit = ", ".join(f"{limit} {number}" for limit, number in self.limits_hit.items())
        used = (self.use.open_sessions, self.use.calls_in_flight, self.use.stuck_threads)
        return (self.name, self.status, *map(str, used), hit)


class _Failed(BaseModel):
    name: str
    status: str
    reason: str | None

    def row(self) -> tuple[str, ...]:
        return (self.name, self.status, "", "", "", self.reason or "")


class _Environments(BaseModel):
    environments: list[_Environment]
    failed: list[_Failed]


async def list_running(remote: Remote) -> None:
    """Print what a running gymhost serves, and what it does not.

    Raises: RemoteError; typer.Exit: one is degraded or failed.
    """
    async with connected(remote) as http:
        found = _Environments.model_validate(await http.environments())
    each: list[_Environment | _Failed] = [*found.environments, *found.failed]
    if not each:
        line(f"{remote.url} has no environments.")
        return
    table(COLUMNS, [one.row() for one in sorted(each, key=lambda one: one.name)])
    if any(one.status in ("degraded", "failed") for one in each):
        raise typer.Exit(1)
