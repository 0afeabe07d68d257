"""What a running host has recorded of its sessions, printed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import AwareDatetime, BaseModel

from gymhost.cli.output import line, note, table
from gymhost.cli.remote import Remote, chosen_remote, connected
from gymhost.cli.spans import local
from gymhost.models import JSONObject

__all__ = ["Recorded", "chosen_remote", "list_sessions", "show_session"]


class Recorded(BaseModel):
    """A session, as far as the commands use what a list says of it."""

    session_id: str
    environment: str
    status: str
    failures: dict[str, int]
    verdict: JSONObject | None
    pinned: bool
    created_at: AwareDatetime
    used_at: AwareDatetime | None
    ended_at: AwareDatetime | None

    @property
    def reward(self) -> str:
        """The score; `masked` for one that is no reward."""
        if self.verdict is None:
            return "-"
        return "masked" if self.verdict.get("mask_sample") else str(self.verdict.get("reward"))

    @property
    def failed(self) -> str:
        """What failed, and how often."""
        return ", ".join(f"{kind} {number}" for kind, number in sorted(self.failures.items()))


class RecordedCall(BaseModel):
    """A tool call, as far as the commands use what a record says of it."""

    name: str
    arguments: JSONObject
    kind: str
    result: str | None
    error: str | None
    started_at: AwareDatetime
    duration: float


class Record(Recorded):
    """The whole record."""

    task: JSONObject
    state: Any
    allowed_tools: list[str] | None
    calls: list[RecordedCall]
    trajectory: Any = None


async def list_sessions(
    remote: Remote,
    environment: str | None,
    status: str | None,
    created: tuple[datetime | None, datetime | None],
    limit: int,
    as_json: bool,
) -> None:
    """Print a list, up to `limit`, and say where there are more.

    Raises: RemoteError.
    """
    since, until = created
    rows: list[tuple[str, ...]] = []
    number = 0
    async with connected(remote) as client:
        async for each in client.sessions(
            environment=environment, status=status, since=since, until=until, limit=limit + 1
        ):
            number += 1
            if number > limit:
                break
            if as_json:
                line(json.dumps(each))
            else:
                rows.append(_row(Recorded.model_validate(each)))
    if not as_json:
        table(("SESSION", "ENVIRONMENT", "STATUS", "CREATED", "ENDED", "REWARD", "FAILURES"), rows)
    if number > limit:
        note(f"and more: these are the newest {limit}. See others with --limit or --until")


def _row(session: Recorded) -> tuple[str, ...]:
    return (
        session.session_id,
        session.environment,
        session.status,
        local(session.created_at),
        local(session.ended_at),
        session.reward,
        session.failed or "-",
    )


async def show_session(remote: Remote, session_id: str, as_json: bool) -> None:
    """Print a record.

    Raises: RemoteError.
    """
    async with connected(remote) as client:
        found = await client.session(session_id)
        record = Record.model_validate(found)
    if as_json:
        line(json.dumps(found, indent=2))
        return
    table(("FIELD", "VALUE"), _fields(record))
    if record.calls:
        line()
        table(("STARTED", "SECONDS", "TOOL", "ARGUMENTS", "HOW", "ANSWER"), _calls(record))


def _fields(record: Record) -> list[tuple[str, str]]:
    tools = "all" if record.allowed_tools is None else ", ".join(record.allowed_tools) or "none"
    rows = [
        ("session", record.session_id),
        ("environment", record.environment),
        ("status", f"{record.status}, pinned" if record.pinned else record.status),
        ("created", local(record.created_at)),
        ("used", local(record.used_at)),
        ("ended", local(record.ended_at)),
        ("reward", record.reward),
        *_verdict(record.verdict or {}),
        ("failures", record.failed or "-"),
        ("tools", tools),
        ("task", _written(record.task)),
        ("state", _written(record.state)),
    ]
    if record.trajectory is not None:
        rows.append(("trajectory", _written(record.trajectory)))
    return rows


def _verdict(verdict: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what is beside the reward."""
    shown = {"reward", "mask_sample", "recorded_at"}
    return [
        (name, value if isinstance(value, str) else _written(value))
        for name, value in verdict.items()
        if name not in shown and value is not None
    ]


def _calls(record: Record) -> list[tuple[str, ...]]:
    return [
        (
            local(call.started_at),
            f"{call.duration:.3f}",
            call.name,
            _written(call.arguments),
            call.kind,
            (call.result if call.error is None else call.error) or "",
        )
        for call in record.calls
    ]


def _written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
