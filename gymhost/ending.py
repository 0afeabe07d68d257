"""How a session ends: closed, expired, or with the process; and what its environment is told."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any

import anyio

from gymhost.clock import Clock
from gymhost.errors import is_crash
from gymhost.limits import Limits
from gymhost.models import CloseReason
from gymhost.mount import Mount
from gymhost.registry import Registry
from gymhost.session import Session
from gymhost.slots import Slot
from gymhost.stores import SessionRow, SessionStore, Status
from gymhost.stores.base import ENDED

__all__ = ["Ending", "expires_at"]

logger = logging.getLogger("gymhost.sessions")

CLOSING_AT_ONCE = 64


def expires_at(row: SessionRow, limits: Limits) -> float:
    """Return when a session expires if it is not used again, in seconds since the epoch."""
    if row.used_at is None:
        since = row.created_at + limits.unused_seconds
    else:
        since = row.used_at + limits.idle_seconds
    return min(since, row.created_at + limits.total_seconds)


class Ending:
    """Ends sessions. Each one's `close` hook runs once in a process's life."""

    def __init__(self, store: SessionStore, registry: Registry, clock: Clock) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock

    async def close(self, mount: Mount, session_id: str) -> Status:
        """End a session unscored, after its running calls; one that has ended stays as it is.

        Raises: SessionLost, StoreError.
        """
        slot = await self._registry.by_id(mount.name, session_id)
        slot.users += 1
        try:
            if slot.row.status not in ENDED:
                await self._close_open(mount, slot)
            return slot.row.status
        finally:
            slot.users -= 1

    async def _close_open(self, mount: Mount, slot: Slot) -> None:
        slot.shut = True
        await slot.turns.take_all()
        try:
            if slot.row.status not in ENDED:  # a verify that came first may have scored it
                await self.end(mount, slot, "closed", "closed")
        finally:
            slot.turns.give_back()

    async def end(self, mount: Mount, slot: Slot, status: Status, reason: CloseReason) -> None:
        """Mark a session as ended, let its environment release it, and let go of it."""
        await self.transition(slot, ("open", "verify_failed", "verifying"), status)
        slot.row = replace(slot.row, status=status)
        mount.open_sessions -= 1
        with anyio.CancelScope(shield=True):
            await self._run_close(mount, slot.row, slot.calls, reason)
            await self._registry.drop(slot)

    async def transition(self, slot: Slot, allowed: Collection[Status], status: Status) -> None:
        """Change a session's status, if it is one of the allowed ones."""
        if await self._store.transition(slot.lease, allowed, status, self._clock.time()):
            slot.row = replace(slot.row, status=status)

    async def expire(self, mount: Mount) -> None:
        """End the sessions past their time that nobody uses, and forget the old ones."""
        limits = mount.limits
        now = self._clock.time()
        expired = await self._store.claim_expired(
            now,
            unused=limits.unused_seconds,
            idle=limits.idle_seconds,
            total=limits.total_seconds,
            environment=mount.name,
        )
        for row in expired:
            mount.open_sessions -= 1
            mount.counts["session_expired"] += 1
            calls = await self._store.calls(row.session_id)
            await self._run_close(mount, row, calls, "expired")
        await self._store.prune(now - limits.retention_seconds, environment=mount.name)

    async def close_all(self, mounts: Iterable[Mount]) -> None:
        """End every open session, because the process ends."""
        at_once = anyio.CapacityLimiter(CLOSING_AT_ONCE)
        async with anyio.create_task_group() as closing:
            for mount in mounts:
                if mount.keeps_nothing:
                    continue
                for row in await self._open_sessions(mount):
                    closing.start_soon(self._close_for_shutdown, at_once, mount, row)

    async def _open_sessions(self, mount: Mount) -> list[SessionRow]:
        rows: list[SessionRow] = []
        cursor: str | None = None
        while True:
            page = await self._store.list(environment=mount.name, cursor=cursor, limit=1000)
            rows.extend(row for row in page.rows if row.status not in ENDED)
            if page.cursor is None:
                return rows
            cursor = page.cursor

    async def _close_for_shutdown(
        self, at_once: anyio.CapacityLimiter, mount: Mount, row: SessionRow
    ) -> None:
        async with at_once:
            slot = await self._registry.by_id(mount.name, row.session_id)
            if slot.row.status not in ENDED:
                await self.end(mount, slot, "closed", "shutdown")

    async def _run_close(
        self, mount: Mount, row: SessionRow, calls: list[bytes], reason: CloseReason
    ) -> None:
        if mount.keeps_nothing:
            return
        session: Session[Any] = Session(
            row.session_id,
            row.environment,
            row.task,
            model=mount.instance.state_type,
            state=row.state,
            calls=list(calls),
        )
        try:
            await mount.close(session, reason)
        except BaseException as exc:
            if not is_crash(exc):
                raise
            # the score, if there is one, stands: close comes after it
            mount.counts["close_failed"] += 1
            logger.exception("close of %s failed in session %s", mount.name, row.session_id)
