"""The verbs on leases: who may write a session, and who ends it."""

from __future__ import annotations

from dataclasses import replace

from gymhost.errors import LeaseLost
from gymhost.stores.base import Holding, Lease, SessionSummary, Status
from gymhost.stores.sqlite.database import Database
from gymhost.stores.sqlite.rows import LEASED_ROW, SUMMARY, row_of, summary_of, text

__all__ = ["acquire", "claim_closing", "claim_expired", "release", "renew"]


def acquire(db: Database, session_id: str, now: float, seconds: float) -> Holding | None:
    """Take a lease that nobody holds, or that a process held which is gone."""
    query = f"{LEASED_ROW} WHERE session.id = ?"
    found = db.execute(query, (text(session_id),)).fetchone()
    if found is None:
        return None
    serial, lease_until, owner = found[:3]
    if lease_until > now:
        if owner in (None, db.owner_serial):
            return None
        db.bury_the_dead()
        (lease_until,) = db.execute(
            "SELECT lease_until FROM session WHERE serial = ?", (serial,)
        ).fetchone()
        if lease_until > now:
            return None
    row = row_of(found[3:])
    row.epoch += 1
    lease = _take(db, serial, Lease(session_id, row.epoch, now + seconds))
    made = db.execute("SELECT data FROM call WHERE session = ? ORDER BY serial", (serial,))
    return Holding(lease, row, [data for (data,) in made])


def renew(db: Database, lease: Lease, now: float, seconds: float) -> Lease:
    """Prolong a lease."""
    renewed = replace(lease, expires_at=now + seconds)
    changed = db.execute(
        "UPDATE session SET lease_until = ?, owner = ? WHERE id = ? AND epoch = ?",
        (renewed.expires_at, db.owner_serial, lease.session_id, lease.epoch),
    )
    if not changed.rowcount:
        raise LeaseLost(f"session {lease.session_id!r} was taken over")
    return renewed


def release(db: Database, lease: Lease, *, closed: bool) -> bool:
    """Give a lease back; say whether it was held."""
    changed = db.execute(
        """UPDATE session SET lease_until = 0, owner = NULL, closing = closing AND NOT ?
            WHERE id = ? AND epoch = ?""",
        (closed, lease.session_id, lease.epoch),
    )
    return bool(changed.rowcount)


def claim_expired(
    db: Database,
    now: float,
    *,
    unused: float,
    idle: float,
    total: float,
    environment: str,
    closing: bool,
    limit: int,
) -> list[SessionSummary]:
    """End up to `limit` sessions past their time that nobody holds."""
    db.bury_the_dead()
    due = db.execute(
        f"""{SUMMARY} WHERE session.environment = ? AND session.ended_at IS NULL
            AND session.lease_until <= ? AND (session.pinned
                OR coalesce(session.used_at + ?, session.created_at + ?) <= ?
                OR session.created_at + ? <= ?) LIMIT ?""",
        (environment, now, idle, unused, now, total, now, limit),
    ).fetchall()
    claimed: list[SessionSummary] = []
    for found in due:
        row = summary_of(found)
        status: Status = "lost" if row.pinned else "expired"
        db.execute(
            """UPDATE session SET status = ?, ended_at = ?, closing = ?, living_key = NULL,
                epoch = epoch + 1 WHERE serial = ?""",
            (status, now, closing, found[-1]),
        )
        claimed.append(replace(row, status=status, ended_at=now))
    return claimed


def claim_closing(
    db: Database, now: float, seconds: float, *, environment: str, limit: int
) -> list[Lease]:
    """Take the leases of ended sessions that nobody has been told of."""
    db.bury_the_dead()
    due = db.execute(
        """SELECT serial, id, epoch FROM session
            WHERE environment = ? AND closing AND lease_until <= ?
            ORDER BY ended_at, serial LIMIT ?""",
        (environment, now, limit),
    ).fetchall()
    return [
        _take(db, serial, Lease(session_id, epoch + 1, now + seconds))
        for serial, session_id, epoch in due
    ]


def _take(db: Database, serial: int, lease: Lease) -> Lease:
    db.execute(
        "UPDATE session SET epoch = ?, lease_until = ?, owner = ? WHERE serial = ?",
        (lease.epoch, lease.expires_at, db.owner_serial, serial),
    )
    return lease
