"""The verbs on one session: create, find, commit, end. Each looks before it writes."""

from __future__ import annotations

import json
from collections.abc import Collection

from gymhost.errors import LeaseLost, StoreError
from gymhost.stores.base import ENDED, Found, Lease, NewSession, SessionRow, Status, Verdict
from gymhost.stores.sqlite.database import Database
from gymhost.stores.sqlite.rows import ROW, row_or_none, text

__all__ = [
    "add_token",
    "calls",
    "check",
    "commit",
    "create",
    "find",
    "find_key",
    "get",
    "record_verdict",
    "trajectory",
    "transition",
]


def check(db: Database) -> None:
    """Write, and leave nothing."""
    # a page and more, so that a store without room for a session says so
    db.execute("INSERT INTO probe VALUES (zeroblob(8000))")
    db.execute("DELETE FROM probe")


def create(db: Database, new: NewSession) -> SessionRow | None:
    """Create a session; or return the living one of that key."""
    if new.key is not None:
        known = find_key(db, new.environment, new.key)
        if known is not None:
            return known
    key = None if new.key is None else text(new.key)
    serial = db.execute(
        """INSERT INTO session
            (id, environment, status, created_at, pinned, lease_until, owner, key, living_key)
            VALUES (?, ?, 'open', ?, ?, ?, ?, ?, ?)""",
        (
            new.session_id,
            new.environment,
            new.created_at,
            new.pinned,
            new.leased_until,
            db.owner_serial if new.leased_until else None,
            key,
            key,
        ),
    ).lastrowid
    allowed = None if new.allowed_tools is None else json.dumps(new.allowed_tools)
    db.execute("INSERT INTO seed VALUES (?, ?, ?, ?)", (serial, new.body_hash, allowed, new.task))
    db.execute("INSERT INTO state VALUES (?, ?)", (serial, new.state))
    db.execute("INSERT INTO token VALUES (?, ?)", (new.token_hash, serial))
    return None


def add_token(db: Database, session_id: str, token_hash: bytes) -> None:
    """Let one more token open a session."""
    found = db.execute("SELECT serial FROM session WHERE id = ?", (text(session_id),)).fetchone()
    if found is None:
        raise StoreError(f"session {session_id!r} is gone")
    db.execute("INSERT OR REPLACE INTO token VALUES (?, ?)", (token_hash, found[0]))


def find(db: Database, token_hash: bytes) -> Found | None:
    """Return which session a token opens."""
    found = db.execute(
        """SELECT session.id, session.environment, session.status
            FROM token JOIN session ON session.serial = token.session WHERE token.hash = ?""",
        (token_hash,),
    ).fetchone()
    return None if found is None else Found(*found)


def find_key(db: Database, environment: str, key: str) -> SessionRow | None:
    """Return the living session of that key."""
    return row_or_none(
        db.execute(
            f"{ROW} WHERE session.environment = ? AND session.living_key = ?",
            (text(environment), text(key)),
        ).fetchone()
    )


def get(db: Database, session_id: str) -> SessionRow | None:
    """Return a session."""
    return row_or_none(db.execute(f"{ROW} WHERE session.id = ?", (text(session_id),)).fetchone())


def calls(db: Database, session_id: str) -> list[bytes]:
    """Return a session's calls, in the order of their commits."""
    found = db.execute(
        """SELECT call.data FROM session JOIN call ON call.session = session.serial
            WHERE session.id = ? ORDER BY call.serial""",
        (text(session_id),),
    )
    return [data for (data,) in found]


def commit(
    db: Database,
    lease: Lease,
    *,
    call: bytes | None,
    state: bytes | None,
    counted: str | None,
    used_at: float | None,
) -> None:
    """Append a call, replace the state, count an outcome, note the use."""
    serial, _, counts = _held(db, lease)
    if counted is not None:
        numbers = json.loads(counts)
        numbers[counted] = numbers.get(counted, 0) + 1
        counts = json.dumps(numbers)
    if counted is not None or used_at is not None:
        db.execute(
            "UPDATE session SET used_at = coalesce(?, used_at), counts = ? WHERE serial = ?",
            (used_at, counts, serial),
        )
    if state is not None:
        db.execute("UPDATE state SET data = ? WHERE session = ?", (state, serial))
    if call is not None:
        db.execute("INSERT INTO call (session, data) VALUES (?, ?)", (serial, call))


def transition(
    db: Database,
    lease: Lease,
    allowed: Collection[Status],
    status: Status,
    now: float,
    *,
    closing: bool,
) -> bool:
    """Change the status if it is an allowed one; say whether it was."""
    serial, current, _ = _held(db, lease)
    if current not in allowed:
        return False
    _set_status(db, serial, status, now, closing=closing)
    return True


def record_verdict(
    db: Database,
    lease: Lease,
    verdict: Verdict,
    *,
    trajectory: bytes | None,
    closing: bool,
    release: bool,
) -> Verdict:
    """Record a verdict and end the session; return the one that was first."""
    serial, _, _ = _held(db, lease)
    recorded = db.execute(
        """INSERT OR IGNORE INTO verdict (session, body_hash, result, failure_kind, recorded_at)
            VALUES (?, ?, ?, ?, ?)""",
        (serial, verdict.body_hash, verdict.result, verdict.failure_kind, verdict.recorded_at),
    )
    if not recorded.rowcount:
        if release:
            db.execute(
                "UPDATE session SET lease_until = 0, owner = NULL WHERE serial = ?", (serial,)
            )
        query = "SELECT body_hash, result, failure_kind, recorded_at FROM verdict WHERE session = ?"
        return Verdict(*db.execute(query, (serial,)).fetchone())
    if trajectory is not None:
        db.execute("INSERT INTO trajectory VALUES (?, ?)", (serial, trajectory))
    _set_status(db, serial, "verified", verdict.recorded_at, closing=closing, release=release)
    return verdict


def trajectory(db: Database, session_id: str) -> bytes | None:
    """Return what was kept with the verdict."""
    found = db.execute(
        """SELECT trajectory.data FROM session
            JOIN trajectory ON trajectory.session = session.serial WHERE session.id = ?""",
        (text(session_id),),
    ).fetchone()
    return None if found is None else found[0]


def _held(db: Database, lease: Lease) -> tuple[int, Status, str]:
    """Return the serial, the status and the counts (JSON) of the session that a lease is of."""
    found: tuple[int, Status, str] | None = db.execute(
        "SELECT serial, status, counts FROM session WHERE id = ? AND epoch = ?",
        (lease.session_id, lease.epoch),
    ).fetchone()
    if found is None:
        raise LeaseLost(f"session {lease.session_id!r} was taken over")
    return found


def _set_status(
    db: Database,
    serial: int,
    status: Status,
    now: float,
    *,
    closing: bool,
    release: bool = False,
) -> None:
    if status in ENDED:  # its key is free: a later session may have it, and keeps it
        db.execute(
            """UPDATE session SET status = ?, ended_at = ?, closing = closing OR ?,
                living_key = NULL, lease_until = CASE WHEN ? THEN 0 ELSE lease_until END,
                owner = CASE WHEN ? THEN NULL ELSE owner END WHERE serial = ?""",
            (status, now, closing, release, release, serial),
        )
    else:
        db.execute(
            "UPDATE session SET status = ?, ended_at = NULL, closing = 0 WHERE serial = ?",
            (status, serial),
        )
