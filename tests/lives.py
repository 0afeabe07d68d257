"""Processes on one durable store: each a host, with an environment that writes its hooks down."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Coroutine, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import anyio
from anyio.lowlevel import checkpoint

from gymhost import Environment, Session, Task, ToolError, Trajectory, tool
from gymhost.errors import RequestError, StoreError
from gymhost.host import Host
from gymhost.models import ToolOutcome
from gymhost.slots import Slot
from gymhost.stores import MemoryStore, SessionStore
from tests.environments import Gate, Notes
from tests.faulty_store import VERBS
from tests.served import HandClock

T = TypeVar("T")

MOVES = {
    ("open", "verifying"),
    ("open", "verify_failed"),  # a verify whose begin could not be written
    ("verifying", "verifying"),  # begun again after a crash
    ("verifying", "verify_failed"),
    ("verify_failed", "verifying"),
    ("verify_failed", "verify_failed"),
    ("verifying", "verified"),
    ("expired", "verified"),
    *((living, ended) for living in ("open", "verifying", "verify_failed")
      for ended in ("closed", "expired", "lost")),
}  # fmt: skip


def at_once(verb: Coroutine[Any, Any, T]) -> T:
    """Run a verb of the store in memory, which never waits."""
    try:
        verb.send(None)
    except StopIteration as stopped:
        return cast(T, stopped.value)
    raise AssertionError("it waits")


class Ledger(Environment[Notes]):
    """A session writes notes; its reward is their number. Every hook is written down."""

    def __init__(self) -> None:
        self.closed: list[tuple[str, str]] = []
        self.verifies: Counter[str] = Counter()
        self.gate: Gate | None = None
        self.fails = False
        self.on: set[str] = set()
        """Sessions with something entered."""

    async def seed(self, session: Session[Notes], task: Task) -> Notes:
        if self.pinned:
            await session.enter(self._engine(session.id))
        if task.extra.get("fails"):
            raise ValueError("no such world")
        return Notes()

    @asynccontextmanager
    async def _engine(self, session_id: str) -> AsyncGenerator[None]:
        self.on.add(session_id)
        try:
            yield
        finally:
            self.on.remove(session_id)

    @tool
    async def write(self, session: Session[Notes], note: str) -> str:
        """Write a note down."""
        session.state.notes.append(note)
        return note

    @tool
    async def wait(self, session: Session[Notes], note: str) -> str:
        """Write a note down when the gate opens."""
        assert self.gate is not None
        await self.gate.pass_through()
        return await self.write(session, note)

    @tool
    async def refuse(self, session: Session[Notes], note: str) -> str:
        """Write a note down, and fail in words for the agent."""
        session.state.notes.append(note)
        raise ToolError("no")

    @tool
    async def crash(self, session: Session[Notes], note: str) -> str:
        """Fail with a note that is not kept."""
        session.state.notes.append(note)
        raise RuntimeError("the cause")

    @tool(timeout=0.005)
    async def hang(self, session: Session[Notes], note: str) -> str:
        """Hang with a note that is not kept."""
        session.state.notes.append(note)
        await anyio.sleep_forever()
        return "never"

    @tool(concurrent=True)
    async def look(self, session: Session[Notes], note: str) -> str:
        """Read the notes, beside other calls."""
        return ",".join(session.state.notes)

    async def verify(self, session: Session[Notes], trajectory: Trajectory) -> float:
        self.verifies[session.id] += 1
        if self.fails:
            raise RuntimeError("the cause")
        return float(len(session.state.notes))

    async def close(self, session: Session[Notes], reason: str) -> None:
        self.closed.append((session.id, reason))


class PinnedLedger(Ledger):
    """The same, with something entered in each session."""

    pinned = True


class Line:
    """One process's line to the store that all share: one verb may fail, or all."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.durable, self.waits = store.durable, True
        self.cut = False
        self.broken: str | None = None
        self.fired = False
        self.wrong: list[tuple[str, str]] = []
        """Moves between two statuses that may not be."""

    @contextmanager
    def failing_once(self, verb: str | None) -> Generator[None]:
        """Let a verb fail the next time; `fired` says whether it did."""
        self.broken, self.fired = verb, False
        yield
        self.broken = None

    def __getattr__(self, name: str) -> Any:
        if name not in VERBS:
            raise AttributeError(name)
        found = getattr(self._store, name)

        async def verb(*args: Any, **options: Any) -> Any:
            await checkpoint()
            if self.cut:
                raise StoreError("the process is gone")
            if self.broken == name:
                self.broken, self.fired = None, True
                raise StoreError("once")
            before = {row.session_id: row.status for row in at_once(self._store.list()).rows}
            result = await found(*args, **options)
            for row in at_once(self._store.list()).rows:
                move = (before.get(row.session_id, row.status), row.status)
                if name in ("transition", "record_verdict", "claim_expired") and (
                    move not in MOVES and move[0] != move[1]
                ):
                    self.wrong.append(move)
            await checkpoint()
            return result

        return verb


@dataclass
class Answer:
    """What came of a request: a failure's kind and status, or `ok` and the value."""

    kind: str
    value: Any = None
    status: int = 200


class Process:
    """One life of a host."""

    def __init__(self, store: MemoryStore, clock: HandClock, number: int) -> None:
        self.store = store
        self.number = number
        self.line = Line(store)
        self.ledgers = {"loose": Ledger(), "pinned": PinnedLedger()}
        self.host = Host(
            self.ledgers, discover=False, store=cast(SessionStore, self.line), clock=clock
        )

    @property
    def closed(self) -> list[tuple[str, str]]:
        """What close was told, by session and reason."""
        return [each for ledger in self.ledgers.values() for each in ledger.closed]

    def slot(self, session_id: str) -> Slot | None:
        """Return what the process has of a session."""
        return self.host.registry._slots.get(session_id)

    def is_stale(self, session_id: str) -> bool:
        """Whether the process has a session that was taken over."""
        slot, row = self.slot(session_id), at_once(self.store.get(session_id))
        return slot is not None and (row is None or slot.lease.epoch != row.epoch)

    def has(self, session_id: str) -> bool:
        """Whether the process works on a session, rightly."""
        return self.slot(session_id) is not None and not self.is_stale(session_id)

    def open_sessions(self) -> dict[str, int]:
        """Return the counters."""
        return {name: mount.open_sessions for name, mount in self.host.mounts.items()}

    async def answer(self, request: Coroutine[Any, Any, Any]) -> Answer:
        """Wait for a request, not for long."""
        with anyio.fail_after(10):
            try:
                value = await request
            except RequestError as exc:
                return Answer(exc.failure_kind, exc.extra, exc.status)
        if isinstance(value, ToolOutcome):
            return Answer(value.kind, value.text)
        return Answer("ok", value)

    def hold_calls(self) -> Gate:
        """Let calls of `wait` come to a gate."""
        gate = Gate()
        for ledger in self.ledgers.values():
            ledger.gate = gate
        return gate
