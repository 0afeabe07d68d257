"""Sessions as they should be, over processes that stop and crash."""

from __future__ import annotations

from collections import Counter
from collections.abc import Coroutine
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pydantic_core
from anyio.from_thread import start_blocking_portal
from hypothesis.stateful import RuleBasedStateMachine

from gymhost.models import ToolCall
from gymhost.registry import LEASE_SECONDS
from gymhost.stores import ENDED, MemoryStore, SessionRow, Status
from tests.lives import MOVES, Answer, Process, at_once
from tests.served import HandClock

UNUSED, IDLE, TOTAL = 600.0, 3_600.0, 86_400.0


@dataclass(eq=False)
class Known:
    """One session, as it should be."""

    id: str
    environment: str
    tokens: list[str]
    created: float
    key: str | None
    body: dict[str, Any]
    status: Status = "open"
    used: float | None = None
    notes: list[str] = field(default_factory=list[str])
    calls: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    spoiled: bool = False
    """Something of the environment failed in it."""
    unwritten: set[int] = field(default_factory=set[int])
    """Processes in which the store failed it, and which have yet to write that down."""
    submitted: set[int] = field(default_factory=set[int])
    """Processes in which a verify began, and which have yet to write that down."""
    scored: bytes | None = None
    """The answer, as it was acknowledged."""
    forgotten: bool = False

    @property
    def pinned(self) -> bool:
        return self.environment == "pinned"

    @property
    def expires_at(self) -> float:
        since = self.created + UNUSED if self.used is None else self.used + IDLE
        return min(since, self.created + TOTAL)


class LifeModel(RuleBasedStateMachine):
    """What the processes should make of the sessions."""

    def __init__(self, backend: str) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.portal = self.stack.enter_context(start_blocking_portal(backend=backend))
        self.clock = HandClock()
        self.store = MemoryStore()
        self.store.durable = True
        self.known: dict[str, Known] = {}
        self.loose: set[str] = set()
        """Sessions of which a failing store leaves open how far they have come."""
        self.alive: list[Process] = []
        self.all: list[Process] = []
        self.busy: set[str] = set()
        """Sessions in which a call runs."""
        self.made = 0

    def ask(self, process: Process, request: Coroutine[Any, Any, Any]) -> Answer:
        answer: Answer = self.portal.call(process.answer, request)
        return answer

    def pick(self, number: int) -> Process:
        return self.alive[number % len(self.alive)]

    def row(self, session: Known) -> SessionRow | None:
        return at_once(self.store.get(session.id))

    def is_free(self, session: Known) -> bool:
        return self.store._entries[session.id].lease_until <= self.clock.now

    def is_over(self, session: Known) -> bool:
        return session.status not in ENDED and session.expires_at <= self.clock.now

    def told(self, session: Known) -> list[tuple[int, str]]:
        return [
            (process.number, reason)
            for process in self.all
            for session_id, reason in process.closed
            if session_id == session.id
        ]

    def living(self) -> list[Known]:
        return [
            each for each in self.known.values()
            if not each.forgotten and each.status not in ENDED
        ]  # fmt: skip

    def living_by_environment(self) -> dict[str, int]:
        living = Counter(each.environment for each in self.living())
        return {"loose": living["loose"], "pinned": living["pinned"]}

    def with_key(self, environment: str, key: str | None) -> Known | None:
        found = [
            each for each in self.living()
            if each.environment == environment and each.key == key and key is not None
        ]  # fmt: skip
        assert len(found) <= 1
        return found[0] if found else None

    # a sweep

    def sweepable(self, process: Process, *, lets_go: bool) -> tuple[set[str], set[str]]:
        """Return the sessions nobody has, once leases are kept up, and the own pinned ones."""
        free: set[str] = set()
        own: set[str] = set()
        for session in self.known.values():
            if session.forgotten:
                continue
            slot = process.slot(session.id)
            if slot is None or not process.has(session.id):
                if self.is_free(session):
                    free.add(session.id)
            elif session.id in self.busy:
                continue
            elif slot.pin is not None:
                own.add(session.id)
            elif lets_go and self.is_let_go(process, session):
                free.add(session.id)
        return free, own

    def is_let_go(self, process: Process, session: Known) -> bool:
        slot = process.slot(session.id)
        assert slot is not None
        idle = self.clock.now - slot.used_at >= LEASE_SECONDS
        return idle and process.number not in session.submitted

    def swept(self, environment: str, free: set[str], own: set[str]) -> None:
        """What a sweep has done, where nothing failed."""
        for session in self.known.values():
            if session.environment != environment or session.forgotten:
                continue
            if self.is_over(session) and session.id in own:
                session.status = "expired"
            elif session.status not in ENDED and session.id in free:
                if session.pinned:
                    session.status = "lost"
                elif self.is_over(session):
                    session.status = "expired"
            row = self.row(session)
            if row is not None and session.id in free | own:
                assert not row.closing

    def unmarked(self, process: Process) -> list[Known]:
        """Return the sessions of which a process has yet to write down that a verify began."""
        return [
            each for each in self.living()
            if process.number in each.submitted and process.has(each.id)
        ]  # fmt: skip

    def marked(self, process: Process, submitted: list[Known]) -> None:
        for session in submitted:
            session.status = "verify_failed"
        for session in self.known.values():
            session.submitted.discard(process.number)

    # what a failing store leaves open

    def loosen(self) -> None:
        self.loose.update(self.known)

    def adopt(self, session: Known) -> None:
        row = self.row(session)
        if row is None:
            return
        assert row.status == session.status or self.may_move(session.status, row.status)
        session.status = row.status

    def may_move(self, before: Status, after: Status) -> bool:
        reached = {before}
        for _ in range(4):
            reached |= {end for start, end in MOVES if start in reached}  # type: ignore[misc]
        return after in reached

    # what is always so

    def check(self, session: Known) -> None:
        row = self.row(session)
        if session.forgotten or row is None:
            assert row is None
            if not session.forgotten:
                assert session.status in ENDED or session.id in self.loose
            session.forgotten = True
            return
        if session.id in self.loose:
            self.adopt(session)
        assert row.status == session.status
        calls = [ToolCall.load(each) for each in at_once(self.store.calls(session.id))]
        assert [(call.name, call.outcome and call.outcome.kind) for call in calls] == session.calls
        assert pydantic_core.from_json(row.state)["notes"] == session.notes
        assert row.used_at == session.used
        for process in self.alive:
            if session.pinned and not process.is_stale(session.id):
                on = session.id in process.ledgers["pinned"].on
                assert on == (session.status not in ENDED and process.has(session.id))
        if row.status in ENDED and not row.closing:
            assert self.told(session)
