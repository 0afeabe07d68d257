"""Rows of the tables, as the sessions that the store answers."""

from __future__ import annotations

import json
from typing import Any

from gymhost.stores.base import SessionRow, SessionSummary, Verdict

__all__ = ["LEASED_ROW", "ROW", "SUMMARY", "row_of", "row_or_none", "summary_of", "text"]

_SUMMARY = """session.id, session.environment, session.status, session.created_at, session.used_at,
    session.ended_at, session.pinned, session.counts,
    verdict.body_hash, verdict.result, verdict.failure_kind, verdict.recorded_at"""
_VERDICT = "LEFT JOIN verdict ON verdict.session = session.serial"

SUMMARY = f"SELECT {_SUMMARY}, session.serial FROM session {_VERDICT}"
"""What `summary_of` reads, and the serial."""
_ROW = f"""{_SUMMARY}, seed.task, state.data, seed.allowed_tools, session.key,
    seed.body_hash, session.epoch, session.closing"""
_TABLES = f"""session JOIN seed ON seed.session = session.serial
    JOIN state ON state.session = session.serial {_VERDICT}"""
ROW = f"SELECT {_ROW} FROM {_TABLES}"
"""What `row_of` reads."""
LEASED_ROW = f"SELECT session.serial, session.lease_until, session.owner, {_ROW} FROM {_TABLES}"
"""Whose lease it is, and then what `row_of` reads."""


def summary_of(found: tuple[Any, ...]) -> SessionSummary:
    """Return what a list says of a session."""
    return SessionSummary(**_common(found))


def row_or_none(found: tuple[Any, ...] | None) -> SessionRow | None:
    """Return a session as the store has it, if there is one."""
    return None if found is None else row_of(found)


def row_of(found: tuple[Any, ...]) -> SessionRow:
    """Return a session as the store has it."""
    task, state, allowed, key, body_hash, epoch, closing = found[12:]
    return SessionRow(
        **_common(found),
        task=task,
        state=state,
        allowed_tools=None if allowed is None else tuple(json.loads(allowed)),
        key=key,
        body_hash=body_hash,
        epoch=epoch,
        closing=bool(closing),
    )


def _common(found: tuple[Any, ...]) -> dict[str, Any]:
    session_id, environment, status, created_at, used_at, ended_at, pinned, counts = found[:8]
    return {
        "session_id": session_id,
        "environment": environment,
        "status": status,
        "created_at": created_at,
        "used_at": used_at,
        "ended_at": ended_at,
        "pinned": bool(pinned),
        "counts": json.loads(counts),
        "verdict": None if found[8] is None else Verdict(*found[8:12]),
    }


def text(value: str) -> str:
    """Return a text that SQLite takes: an id from a URL or a body may hold half a character."""
    return value.encode("utf-8", "backslashreplace").decode()
