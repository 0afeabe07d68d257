"""One session that this process works on: its row, its lease, and whose turn it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from gymhost.errors import RequestError, ToolRefused
from gymhost.models import MASKING_KINDS, ToolCall
from gymhost.pins import Pin
from gymhost.session import Session
from gymhost.stores import Lease, SessionRow, SessionStore

__all__ = ["Slot", "Turns", "VerifyRun"]


class Turns:
    """Whose turn it is: calls one at a time in arrival order, concurrent ones beside them."""

    def __init__(self) -> None:
        self._lock = anyio.Lock(fast_acquire=True)
        self._concurrent = 0
        self._no_concurrent: anyio.Event | None = None

    @property
    def waiting(self) -> int:
        """Calls that wait for their turn."""
        return self._lock.statistics().tasks_waiting

    @property
    def concurrent(self) -> int:
        """Calls that run without a turn."""
        return self._concurrent

    async def take(self, queue: int, gone: Callable[[], Awaitable[Any]] | None) -> bool:
        """Wait for a turn; return False, without one, where the caller goes away meanwhile.

        Raises: ToolRefused: `queue` calls wait already.
        """
        try:
            self._lock.acquire_nowait()
        except anyio.WouldBlock:
            pass
        else:
            return True
        if self.waiting >= queue:
            raise ToolRefused(
                f"This session has {queue} calls waiting already.",
                "session_queue",
                limit="session_queue",
            )
        if gone is None:
            await self._lock.acquire()
            return True
        return await self._take_unless(gone)

    async def _take_unless(self, gone: Callable[[], Awaitable[Any]]) -> bool:
        left = False

        async def watch() -> None:
            nonlocal left
            await gone()
            left = True
            tasks.cancel_scope.cancel()

        taken = False
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(watch)
                await self._lock.acquire()
                taken = True
                tasks.cancel_scope.cancel()
        except BaseException:
            if taken:  # cancelled in the instant in which the turn came
                self._lock.release()
            raise
        if taken and left:
            self._lock.release()
        return taken and not left

    def give_back(self) -> None:
        """End a turn."""
        self._lock.release()

    def begin_concurrent(self, most: int) -> None:
        """Begin a call that needs no turn.

        Raises: ToolRefused: `most` of them run already. Nobody has to wait for a turn here, so
        one session could else take every call that its environment has in flight.
        """
        if self._concurrent >= most:
            raise ToolRefused(
                f"This session has {most} calls running at once already.",
                "session_queue",
                limit="session_queue",
            )
        self._concurrent += 1

    def end_concurrent(self) -> None:
        """End a call that needed no turn."""
        self._concurrent -= 1
        if self._concurrent == 0 and self._no_concurrent is not None:
            self._no_concurrent.set()

    async def take_all(self) -> None:
        """Wait for every call that runs or waits to end, then hold the turn. Once in a life."""
        await self._lock.acquire()
        try:
            while self._concurrent:
                self._no_concurrent = anyio.Event()
                await self._no_concurrent.wait()
        except BaseException:
            self._lock.release()
            raise


class VerifyRun:
    """A verify in flight. It goes on though the client that began it goes away."""

    def __init__(self, body_hash: bytes) -> None:
        self.body_hash = body_hash
        self.done = anyio.Event()
        self.error: RequestError | None = None
        self.let_go = False
        """The session was let go of before its turn came: nothing was begun."""


class Slot:
    """A session's row and calls, as this process has written them under its lease."""

    def __init__(
        self,
        row: SessionRow,
        calls: list[bytes],
        lease: Lease,
        now: float,
        pin: Pin | None = None,
    ) -> None:
        self.row = row
        self.calls = calls
        self.lease = lease
        self.pin = pin
        self.turns = Turns()
        self.users = 0
        self.used_at = now
        self.ending = 0
        """Closes that wait for their turn, or have it."""
        self.submitted = False
        """A verify has begun: no new call, whatever comes of it."""
        self.verify_run: VerifyRun | None = None
        self.token_hashes: list[bytes] = []
        self.store_failed = False

    @property
    def id(self) -> str:
        """The session's id."""
        return self.row.session_id

    @property
    def shut(self) -> bool:
        """Whether no new call may begin, though the session is open."""
        return self.submitted or self.ending > 0

    @property
    def failure_kind(self) -> str | None:
        """What has spoiled this session's sample so far."""
        for kind in MASKING_KINDS:
            if kind in self.row.counts:
                return kind
        return "store_error" if self.store_failed else None

    def session(self, model: type[Any], *, read_only: bool = False) -> Session[Any]:
        """Return what a hook or tool receives, with a private copy of the state."""
        return Session(
            self.row.session_id,
            self.row.environment,
            self.row.task,
            model=model,
            state=self.row.state,
            calls=list(self.calls),
            read_only=read_only,
            pin=self.pin,
        )

    async def commit(
        self, store: SessionStore, call: ToolCall, state: bytes | None, now: float
    ) -> None:
        """Write a call, and the state that it left, in one transaction.

        Raises: StoreError: neither was written.
        """
        kind = call.outcome.kind if call.outcome is not None else "ok"
        counted = None if kind == "ok" else kind
        dumped = call.dump()
        await store.commit(self.lease, call=dumped, state=state, counted=counted, used_at=now)
        self.calls.append(dumped)
        self.row.used_at = now
        if state is not None:
            self.row.state = state
        if counted is not None:
            self.count(counted)

    def count(self, kind: str) -> None:
        """Note what the store has counted."""
        self.row.counts = {**self.row.counts, kind: self.row.counts.get(kind, 0) + 1}
