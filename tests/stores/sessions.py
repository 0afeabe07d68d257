"""Sessions as the store's tests make and read them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, get_args

from gymhost.stores import Found, Lease, NewSession, SessionRow, SessionStore, Status, Verdict
from gymhost.stores.base import ENDED

LIVING = tuple(status for status in get_args(Status) if status not in ENDED)
T0 = 1_000.0


def new(session_id: str = "s-1", **changes: Any) -> NewSession:
    """A session to be created, with a token named after it."""
    made = NewSession(
        session_id=session_id,
        environment="env",
        token_hash=f"token of {session_id}".encode(),
        task='{"city":"Zürich"}'.encode(),
        state=b"{}",
        allowed_tools=None,
        created_at=T0,
    )
    return replace(made, **changes)


async def leased(store: SessionStore, session_id: str = "s-1", **changes: Any) -> Lease:
    """A new session, and the lease of it."""
    await store.create(new(session_id, **changes))
    lease = await acquire(store, session_id, T0)
    assert lease is not None
    return lease


async def acquire(
    store: SessionStore, session_id: str, now: float, seconds: float = 30.0
) -> Lease | None:
    """The lease of a session; None while somebody has it."""
    held = await store.acquire(session_id, now, seconds)
    return None if held is None else held.lease


def found_of(row: SessionRow) -> Found:
    """What its tokens find."""
    return Found(row.session_id, row.environment, row.status)


async def row_of(store: SessionStore, session_id: str = "s-1") -> SessionRow:
    row = await store.get(session_id)
    assert row is not None
    return row


def verdict(body: bytes = b"body", **changes: Any) -> Verdict:
    return replace(Verdict(body, b'{"reward":1.0}', None, T0 + 50), **changes)


WRITES: dict[str, Callable[[SessionStore, Lease], Awaitable[Any]]] = {
    "renew": lambda store, lease: store.renew(lease, T0 + 31, 60.0),
    "commit": lambda store, lease: store.commit(
        lease, call=b"call", state=b'{"n":1}', counted="timeout", used_at=T0 + 31
    ),
    "transition": lambda store, lease: store.transition(
        lease, LIVING, "closed", T0 + 31, closing=True
    ),
    "record_verdict": lambda store, lease: store.record_verdict(lease, verdict(), trajectory=b"[]"),
}
"""Every verb that writes under a lease, with something to write."""
