"""The verbs on many sessions: list, count, forget."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gymhost.stores.base import ENDED, Page, Status, read_cursor
from gymhost.stores.sqlite.database import Database
from gymhost.stores.sqlite.rows import SUMMARY, summary_of, text

__all__ = ["counts", "forget", "list_sessions", "prune_abandoned", "prune_some"]

TABLES = ("seed", "state", "verdict", "trajectory", "token", "call")


def list_sessions(
    db: Database,
    *,
    environment: str | None,
    status: Status | None,
    since: float | None,
    until: float | None,
    cursor: str | None,
    limit: int,
) -> Page:
    """Return sessions, newest first."""
    conditions: dict[str, Any] = {
        "session.environment = ?": None if environment is None else text(environment),
        "session.status = ?": status,
        "session.created_at >= ?": since,
        "session.created_at < ?": until,
        "session.serial < ?": None if cursor is None else read_cursor(cursor),
    }
    given = {key: value for key, value in conditions.items() if value is not None}
    where = f"WHERE {' AND '.join(given)}" if given else ""
    found = db.execute(
        f"{SUMMARY} {where} ORDER BY session.serial DESC LIMIT ?", (*given.values(), limit + 1)
    ).fetchall()
    rows = tuple(summary_of(each) for each in found[:limit])
    return Page(rows, str(found[limit - 1][-1]) if len(found) > limit else None)


def counts(db: Database) -> Mapping[tuple[str, Status], int]:
    """Count by environment and status: one walk over an index."""
    found = db.execute(
        "SELECT environment, status, count(*) FROM session GROUP BY environment, status"
    )
    return {(environment, status): number for environment, status, number in found}


def forget(db: Database, session_id: str) -> bool:
    """Forget a session that has ended; say whether there was one."""
    found = db.execute(
        "SELECT serial, status FROM session WHERE id = ?", (text(session_id),)
    ).fetchone()
    if found is None or found[1] not in ENDED:
        return False
    _delete(db, [found[0]])
    return True


def prune_some(db: Database, ended_before: float, environment: str | None, limit: int) -> int:
    """Forget up to `limit` of the sessions that ended before a time; return how many."""
    where = "" if environment is None else "environment = ? AND "
    named = () if environment is None else (text(environment),)
    found = db.execute(
        f"SELECT serial FROM session WHERE {where}ended_at < ? AND NOT closing LIMIT ?",
        (*named, ended_before, limit),
    ).fetchall()
    _delete(db, [serial for (serial,) in found])
    return len(found)


def prune_abandoned(db: Database, before: float, now: float, environment: str, limit: int) -> int:
    """Forget up to `limit` of the sessions of an environment that is gone; return how many."""
    db.bury_the_dead()
    found = db.execute(
        """SELECT serial FROM session WHERE environment = ? AND lease_until <= ?
            AND coalesce(ended_at, used_at, created_at) < ? LIMIT ?""",
        (text(environment), now, before, limit),
    ).fetchall()
    _delete(db, [serial for (serial,) in found])
    return len(found)


def _delete(db: Database, serials: Iterable[int]) -> None:
    rows = [(serial,) for serial in serials]
    for table in TABLES:
        db.executemany(f"DELETE FROM {table} WHERE session = ?", rows)
    db.executemany("DELETE FROM session WHERE serial = ?", rows)
