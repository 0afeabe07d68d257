"""How a session ends: closed, expired, or with the process; and what its environment is told."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Generator, Iterable, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import anyio

from gymhost.clock import Clock
from gymhost.errors import RequestError, SessionEnded, StoreError, is_crash
from gymhost.limits import Limits
from gymhost.models import CloseReason
from gymhost.mount import Mount
from gymhost.pins import Pin
from gymhost.registry import LEASE_SECONDS, Registry
from gymhost.session import Session
from gymhost.slots import Slot
from gymhost.stores import ENDED, Lease, SessionRow, SessionStore, SessionSummary, Status

__all__ = [
    "LIVING",
    "Ending",
    "expires_at",
    "expires_unused_at",
    "hook_failure",
    "hook_failures_answered",
    "is_stray",
]

logger = logging.getLogger("gymhost.sessions")

LIVING: tuple[Status, ...] = ("open", "verifying", "verify_failed")
REASONS: dict[Status, CloseReason] = {
    "verified": "verified",
    "closed": "closed",
    "expired": "expired",
    "lost": "lost",
}
"""What close is told where it was left to the sweeper, or to the next process."""
CLOSING_AT_ONCE = 64
# For the wrappers around close, which the hook's own limit does not bind.
WRAPPERS_SECONDS = 2.0


def expires_at(row: SessionSummary, limits: Limits) -> float:
    """Return when a session expires if it is not used again, in seconds since the epoch."""
    if row.used_at is None:
        return expires_unused_at(row.created_at, limits)
    return min(row.used_at + limits.idle_seconds, row.created_at + limits.total_seconds)


def expires_unused_at(created_at: float, limits: Limits) -> float:
    """Return when a session expires that is never used, in seconds since the epoch."""
    return created_at + min(limits.unused_seconds, limits.total_seconds)


def expired_by(row: SessionSummary, limits: Limits) -> str:
    """Return the name of the limit past which a session has expired."""
    if expires_at(row, limits) == row.created_at + limits.total_seconds:
        return "total_seconds"
    return "unused_seconds" if row.used_at is None else "idle_seconds"


def is_stray(error: BaseException) -> bool:
    """Whether a cancellation is none of ours: it came out of an author's code by itself.

    On asyncio, whoever awaits a task that was cancelled is raised a CancelledError. Let through,
    it would end the task group that it comes to, and with the host's own, the host.
    """
    cancelled = isinstance(error, anyio.get_cancelled_exc_class())
    return cancelled and anyio.current_effective_deadline() > -math.inf


def hook_failure(mount: Mount, what: str, error: BaseException) -> BaseException:
    """Return what a request is answered where a hook failed; a cancellation of ours as it is."""
    if not is_stray(error):
        return mount.failure(what, error)
    inside = RuntimeError(f"{what} was cancelled from inside")
    inside.__cause__ = error
    return mount.failure(what, inside)


@contextmanager
def hook_failures_answered(mount: Mount, what: str) -> Generator[None]:
    """Raise a hook's failure as what a request is answered, with its cause."""
    try:
        yield
    except BaseException as exc:
        failure = hook_failure(mount, what, exc)
        if failure is exc:
            raise
        raise failure from exc


class Ending:
    """Ends sessions. Each one's `close` hook runs once in a process's life.

    An end is marked in the store as one that the environment has yet to be told of, so that a
    process that crashes before it is told leaves that to the next one.
    """

    def __init__(self, store: SessionStore, registry: Registry, clock: Clock) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._told: defaultdict[str, set[str]] = defaultdict(set)
        """Sessions, by environment, that it was told of, where the store may not know it."""

    async def close(self, mount: Mount, session_id: str) -> Status:
        """End a session unscored, after its running calls; one that has ended stays as it is.

        Raises: SessionLost, StoreError.
        """
        try:
            slot = await self._registry.by_id(mount.name, session_id)
        except SessionEnded:  # pinned to a process that is gone: the sweeper will mark it so
            return "lost"
        await self.end(mount, slot, "closed", "closed")
        return slot.row.status

    async def end(self, mount: Mount, slot: Slot, status: Status, reason: CloseReason) -> None:
        """End a session after its running calls and verify, unless it has ended by then."""
        slot.users += 1
        slot.ending += 1
        try:
            await slot.turns.take_all()
            try:
                # shielded: what is marked as ended is also counted and closed
                with anyio.CancelScope(shield=True):
                    living = slot.row.status not in ENDED
                    if living and await self.transition(mount, slot, status):
                        await self.let_go(mount, slot, reason)
            finally:
                slot.turns.give_back()
        finally:
            slot.ending -= 1
            slot.users -= 1

    async def transition(
        self, mount: Mount, slot: Slot, status: Status, allowed: Collection[Status] = LIVING
    ) -> bool:
        """Change a session's status, if it is one of the allowed ones; say whether it was.

        Whoever changes a living session's to one that has ended lets go of it, nobody else does.
        """
        closing = status in ENDED and not mount.keeps_nothing
        changed = await self._store.transition(
            slot.lease, allowed, status, self._clock.time(), closing=closing
        )
        if changed:
            slot.row.status = status
        else:  # it may have ended elsewhere
            slot.row = await self._store.get(slot.id) or slot.row
        return changed

    def forget_scored(self, mount: Mount, slot: Slot) -> None:
        """Leave a session that was recorded as scored and given back, of which nothing is kept."""
        _count_ended(mount, [slot.row], "verified")
        self._registry.leave(slot)

    async def let_go(self, mount: Mount, slot: Slot, reason: CloseReason) -> None:
        """Let the environment release a session that has just ended, and give up its lease."""
        _count_ended(mount, [slot.row], reason)
        if not mount.keeps_nothing:
            await self._tell(mount, slot.row, slot.calls, reason)
            await self.unwind(mount, slot.id, slot.pin)
        if await self._registry.drop(slot, closed=True):
            self._told[mount.name].discard(slot.id)

    async def unwind(self, mount: Mount, session_id: str, pin: Pin | None) -> None:
        """Leave what a pinned session has entered."""
        if pin is None:
            return
        with anyio.CancelScope(shield=True):
            if not await pin.aclose(mount.limits.close_seconds):
                mount.counts["close_failed"] += 1

    async def expire(self, mount: Mount) -> None:
        """End the sessions past their time that nobody uses, and forget the old ones.

        Raises: StoreError.
        """
        await self._claim_expired(mount)
        pinned = self._registry.pinned(mount.name)
        await _a_few_at_once(partial(self._expire_pinned, mount, slot) for slot in pinned)
        await self._tell_of_all(mount)
        before = self._clock.time() - mount.limits.retention_seconds
        await self._store.prune(before, environment=mount.name)

    async def expire_one(self, mount: Mount, session_id: str) -> None:
        """End a session if it is past its time, without waiting for others' ends.

        Raises: StoreError.
        """
        await self._claim_expired(mount)
        for slot in self._registry.pinned(mount.name):
            if slot.id == session_id:
                await self._expire_pinned(mount, slot)

    async def _claim_expired(self, mount: Mount) -> None:
        """End the sessions past their time that nobody holds. Their environment is told later.

        Raises: StoreError.
        """
        await self._registry.renew_lapsed(mount.name)
        limits = mount.limits
        mount.claiming += 1
        try:
            claimed = await self._store.claim_expired(
                self._clock.time(),
                unused=limits.unused_seconds,
                idle=limits.idle_seconds,
                total=limits.total_seconds,
                environment=mount.name,
                closing=not mount.keeps_nothing,
            )
            for status in ("expired", "lost"):
                _count_ended(mount, [row for row in claimed if row.status == status], status)
        finally:
            mount.claiming -= 1

    async def _expire_pinned(self, mount: Mount, slot: Slot) -> None:
        """End a pinned session if it is past its time: held all the time, it can't be claimed."""
        if not slot.users and expires_at(slot.row, mount.limits) <= self._clock.time():
            try:
                await self.end(mount, slot, "expired", "expired")
            except StoreError:  # the others' ends are their own
                logger.exception("session %s is yet to expire", slot.id)

    async def _tell_of_all(self, mount: Mount) -> None:
        """Tell the environment of the ends that it was not told of yet."""
        seconds = mount.limits.close_seconds + WRAPPERS_SECONDS + LEASE_SECONDS
        while leases := await self._store.claim_closing(
            self._clock.time(), seconds, environment=mount.name, limit=CLOSING_AT_ONCE
        ):
            async with anyio.create_task_group() as telling:
                for lease in leases:
                    telling.start_soon(self._tell_claimed, mount, lease)
        told = self._told[mount.name]
        for session_id in list(told):  # another process has told it meanwhile, or forgot it
            row = await self._store.get(session_id)
            if row is None or not row.closing:
                told.discard(session_id)

    async def _tell_claimed(self, mount: Mount, lease: Lease) -> None:
        session_id, closed = lease.session_id, False
        try:
            row = await self._store.get(session_id)
            if row is not None:
                await self._tell(mount, row, await self._calls(session_id), REASONS[row.status])
            closed = True
        except StoreError:
            logger.exception("close of session %s is tried again", session_id)
        finally:
            # shielded: where a stop has cut this short, the next process need not wait
            with anyio.CancelScope(shield=True):
                await self._release_claimed(mount, lease, closed)

    async def _release_claimed(self, mount: Mount, lease: Lease, closed: bool) -> None:
        try:
            if await self._store.release(lease, closed=closed) and closed:
                self._told[mount.name].discard(lease.session_id)
        except StoreError:
            logger.exception("session %s is given back when its lease runs out", lease.session_id)

    async def _calls(self, session_id: str) -> list[bytes]:
        try:
            return await self._store.calls(session_id)
        except StoreError:
            logger.exception("close of session %s is told of no calls", session_id)
            return []

    async def close_all(self, mounts: Iterable[Mount]) -> None:
        """End every open session that does not outlive the process, because that ends.

        Raises: StoreError: they could not be listed.
        """
        ids = [
            (mount, session_id)
            for mount in mounts
            if not mount.keeps_nothing
            for session_id in await self._mortal(mount)
        ]
        await _a_few_at_once(partial(self._close_for_shutdown, *each) for each in ids)

    async def _mortal(self, mount: Mount) -> list[str]:
        if self._store.durable:
            return [slot.id for slot in self._registry.pinned(mount.name)]
        return [row.session_id for row in await self._living(mount)]

    async def _living(self, mount: Mount) -> list[SessionSummary]:
        rows: list[SessionSummary] = []
        cursor: str | None = None
        while True:
            page = await self._store.list(environment=mount.name, cursor=cursor, limit=1000)
            rows.extend(row for row in page.rows if row.status not in ENDED)
            if page.cursor is None:
                return rows
            cursor = page.cursor

    async def _close_for_shutdown(self, mount: Mount, session_id: str) -> None:
        try:
            slot = await self._registry.by_id(mount.name, session_id)
            await self.end(mount, slot, "closed", "shutdown")
        except RequestError:
            logger.exception("session %s could not be closed", session_id)

    async def _tell(
        self, mount: Mount, row: SessionRow, calls: list[bytes], reason: CloseReason
    ) -> None:
        told = self._told[mount.name]
        if mount.keeps_nothing or row.session_id in told:
            return
        told.add(row.session_id)
        session: Session[Any] = Session(
            row.session_id,
            row.environment,
            row.task,
            model=mount.instance.state_type,
            state=row.state,
            calls=list(calls),
        )
        # bounded here too: it is shielded, so a wrapper that hangs would hold up the shutdown
        with anyio.move_on_after(mount.limits.close_seconds + WRAPPERS_SECONDS) as scope:
            try:
                await mount.close(session, reason)
            except BaseException as exc:
                if not is_crash(exc) and not is_stray(exc):
                    raise
                # the score, if there is one, stands: close comes after it
                mount.counts["close_failed"] += 1
                logger.exception("close of %s failed in session %s", mount.name, row.session_id)
        if scope.cancelled_caught:
            mount.counts["close_failed"] += 1
            logger.error("a wrapper of close hangs in session %s", row.session_id)


async def _a_few_at_once(functions: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """Await functions side by side: one that hangs does not keep the others."""
    at_once = anyio.CapacityLimiter(CLOSING_AT_ONCE)

    async def run(function: Callable[[], Awaitable[None]]) -> None:
        async with at_once:
            await function()

    async with anyio.create_task_group() as running:
        for function in functions:
            running.start_soon(run, function)


def _count_ended(mount: Mount, rows: Sequence[SessionSummary], reason: CloseReason) -> None:
    mount.open_sessions -= len(rows)
    if rows and reason in ("expired", "lost"):
        mount.counts[f"session_{reason}"] += len(rows)
    for row in rows if reason == "expired" else ():
        mount.hit(expired_by(row, mount.limits))
