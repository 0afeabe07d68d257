"""One session that this process works on: its row, its lease, and whose turn it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from gymhost.errors import RequestError, ToolRefused
from gymhost.models import MASKING_KINDS, Task
from gymhost.pins import Pin
from gymhost.session import Session
from gymhost.stores import Lease, SessionRow, SessionStore

__all__ = ["Slot", "Turns", "VerifyRun"]


class Turns:
    """Whose turn it is: calls one at a time in arrival order, concurrent ones beside them.

    Not a lock of anyio's: nearly always nobody else is there, and then nothing is to be awaited,
    made or looked up.
    """

    __slots__ = ("_concurrent", "_no_concurrent", "_queue", "_taken")

    def __init__(self) -> None:
        self._taken = False
        self._queue: list[anyio.Event] = []
        """Of those who wait: each is handed the turn by whoever gives it back."""
        self._concurrent = 0
        self._no_concurrent: anyio.Event | None = None

    @property
    def waiting(self) -> int:
        """Calls that wait for their turn."""
        return len(self._queue)

    @property
    def concurrent(self) -> int:
        """Calls that run without a turn."""
        return self._concurrent

    def take_free(self) -> bool:
        """Take the turn if it is free; say whether it was."""
        if self._taken:
            return False
        self._taken = True
        return True

    async def take(self, queue: int, gone: Callable[[], Awaitable[Any]] | None) -> bool:
        """Wait for a turn; return False, without one, where the caller goes away meanwhile.

        Raises: ToolRefused: `queue` calls wait already.
        """
        if self.take_free():
            return True
        if self.waiting >= queue:
            raise ToolRefused(
                f"This session has {queue} calls waiting already.",
                "session_queue",
                limit="session_queue",
            )
        if gone is None:
            await self._wait()
            return True
        return await self._take_unless(gone)

    async def _wait(self) -> None:
        turn = anyio.Event()
        self._queue.append(turn)
        try:
            await turn.wait()
        except BaseException:
            if turn.is_set():  # cancelled in the instant in which the turn came
                self.give_back()
            else:
                self._queue.remove(turn)
            raise

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
                await self._wait()
                taken = True
                tasks.cancel_scope.cancel()
        except BaseException:
            if taken:  # cancelled in the instant in which the turn came
                self.give_back()
            raise
        if taken and left:
            self.give_back()
        return taken and not left

    def give_back(self) -> None:
        """End a turn."""
        if self._queue:
            self._queue.pop(0).set()
        else:
            self._taken = False

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
        if not self.take_free():
            await self._wait()
        try:
            while self._concurrent:
                self._no_concurrent = anyio.Event()
                await self._no_concurrent.wait()
        except BaseException:
            self.give_back()
            raise


class VerifyRun:
    """A verify in flight. It goes on though the client that began it goes away."""

    __slots__ = ("_ended", "_joined", "body_hash", "error", "let_go", "scope")

    def __init__(self, body_hash: bytes) -> None:
        self.body_hash = body_hash
        self.scope: anyio.CancelScope | None = None
        """Of its own task, where it has one."""
        self.error: RequestError | None = None
        self.let_go = False
        """The session was let go of before its turn came: nothing was begun."""
        self._ended = False
        self._joined: anyio.Event | None = None

    async def wait(self) -> None:
        """Wait until it has ended."""
        if not self._ended:
            self._joined = self._joined or anyio.Event()
            await self._joined.wait()

    def end(self) -> None:
        """Let those go on who have joined it."""
        self._ended = True
        if self._joined is not None:
            self._joined.set()


class Slot:
    """A session's row and calls, as this process has written them under its lease."""

    __slots__ = (
        "calls",
        "ending",
        "giving_back",
        "id",
        "lease",
        "pin",
        "row",
        "running",
        "store_failed",
        "submitted",
        "token_hashes",
        "turns",
        "used_at",
        "users",
        "verify_run",
    )

    def __init__(
        self,
        row: SessionRow,
        calls: list[bytes],
        lease: Lease,
        now: float,
        pin: Pin | None = None,
    ) -> None:
        self.id = row.session_id
        self.row = row
        self.calls = calls
        self.running = 0
        """Calls that are not yet in the record."""
        self.lease = lease
        self.pin = pin
        self.turns = Turns()
        self.users = 0
        self.used_at = now
        self.ending = 0
        """Closes that wait for their turn, or have it."""
        self.giving_back = False
        """What is being written gives the lease back: it must not be renewed behind that."""
        self.submitted = False
        """A verify has begun: no new call, whatever comes of it."""
        self.verify_run: VerifyRun | None = None
        self.token_hashes: list[bytes] = []
        self.store_failed = False

    @property
    def shut(self) -> bool:
        """Whether no new call may begin, though the session is open."""
        return self.submitted or self.ending > 0

    @property
    def failure_kind(self) -> str | None:
        """What has spoiled this session's sample so far."""
        if self.row.counts:
            for kind in MASKING_KINDS:
                if kind in self.row.counts:
                    return kind
        return "store_error" if self.store_failed else None

    def session(
        self, model: type[Any], *, read_only: bool = False, task: Task | None = None
    ) -> Session[Any]:
        """Return what a hook or tool receives, with a private copy of the state.

        `task` is the session's, read already by whoever does not keep it.
        """
        return Session(
            self.id,
            self.row.environment,
            task or self.row.task,
            model=model,
            state=self.row.state,
            calls=list(self.calls),
            read_only=read_only,
            pin=self.pin,
        )

    async def commit(
        self, store: SessionStore, kind: str, call: bytes, state: bytes | None, now: float
    ) -> None:
        """Write a call, how it ended, and the state that it left, in one transaction.

        Raises: StoreError: neither was written.
        """
        counted = None if kind == "ok" else kind
        await store.commit(self.lease, call=call, state=state, counted=counted, used_at=now)
        self.calls.append(call)
        self.row.used_at = now
        if state is not None:
            self.row.state = state
        if counted is not None:
            self.count(counted)

    def count(self, kind: str) -> None:
        """Note what the store has counted."""
        self.row.counts = {**self.row.counts, kind: self.row.counts.get(kind, 0) + 1}
