"""Any verbs in any order: each store beside a plain dict that says what is right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Coroutine
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar, get_args

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from gymhost.errors import LeaseLost, StoreError
from gymhost.stores import (
    Lease,
    MemoryStore,
    SessionRow,
    SessionStore,
    SessionSummary,
    Status,
    Verdict,
)
from gymhost.stores.base import ENDED
from gymhost.stores.sqlite import SqliteStore, SqliteUrl
from gymhost.stores.sqlite.commits import Commits, Job, read_each, write_together
from gymhost.stores.sqlite.database import Database, open_database
from tests.stores.sessions import LIVING, T0, found_of, new

T = TypeVar("T")

ENVIRONMENTS = ("env", "other")
KEYS = st.sampled_from([None, "key"])
STATUSES = st.sampled_from(get_args(Status))
ALLOWED = st.sampled_from([LIVING, tuple(ENDED), get_args(Status)]) | st.sets(STATUSES)
UNUSED, IDLE, TOTAL, LEASED = 10.0, 20.0, 60.0, 15.0


def run(verb: Coroutine[Any, Any, T]) -> T:
    """Run a verb that never waits: that is what makes it atomic."""
    with pytest.raises(StopIteration) as stopped:
        verb.send(None)
    return stopped.value.value


class Model:
    """One session, as it should be."""

    def __init__(self, row: SessionRow) -> None:
        self.row = row
        self.calls: list[bytes] = []
        self.trajectory: bytes | None = None
        self.lease_until = 0.0

    def set_status(self, status: Status, now: float, closing: bool) -> None:
        ended = status in ENDED
        closing = ended and (closing or self.row.closing)
        ended_at = now if ended else None
        self.row = replace(self.row, status=status, ended_at=ended_at, closing=closing)


class StoreMachine(RuleBasedStateMachine):
    """Clients that know some ids and some leases, good ones and bad."""

    sessions = Bundle("sessions")
    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.store: SessionStore = self.open_store()
        self.now = T0
        self.models: dict[str, Model] = {}
        self.tokens: dict[bytes, str] = {}
        self.keys: dict[tuple[str, str], str] = {}
        self.made = 0

    def open_store(self) -> SessionStore:
        return MemoryStore()

    def living_key(self, environment: str, key: str | None) -> str | None:
        return self.keys.get((environment, key)) if key is not None else None

    def held(self, lease: Lease) -> Model | None:
        model = self.models.get(lease.session_id)
        return model if model is not None and model.row.epoch == lease.epoch else None

    def set_status(self, model: Model, status: Status, closing: bool = False) -> None:
        model.set_status(status, self.now, closing)
        key = (model.row.environment, model.row.key or "")
        if status in ENDED and self.keys.get(key) == model.row.session_id:
            del self.keys[key]

    @rule(seconds=st.floats(0, 30))
    def time_goes_by(self, seconds: float) -> None:
        self.now += seconds

    @rule(
        target=sessions,
        environment=st.sampled_from(ENVIRONMENTS),
        key=KEYS,
        pinned=st.booleans(),
    )
    def create(self, environment: str, key: str | None, pinned: bool) -> str:
        self.made += 1
        made = new(
            f"s-{self.made}",
            environment=environment,
            key=key,
            created_at=self.now,
            pinned=pinned,
            leased_until=self.now + LEASED if pinned else 0.0,
        )
        created = run(self.store.create(made))
        known = self.living_key(environment, key)
        if known is not None:
            assert created == self.models[known].row
            return known
        assert created is None
        row = run(self.store.get(made.session_id))
        assert row == made.row()
        assert (row.session_id, row.status, row.epoch) == (made.session_id, "open", 0)
        self.models[row.session_id] = model = Model(row)
        model.lease_until = made.leased_until
        self.tokens[made.token_hash] = row.session_id
        if key is not None:
            self.keys[environment, key] = row.session_id
        return row.session_id

    @rule(session_id=sessions, number=st.integers(0, 9))
    def add_token(self, session_id: str, number: int) -> None:
        token_hash = f"token {number} of {session_id}".encode()
        if session_id in self.models:
            run(self.store.add_token(session_id, token_hash))
            self.tokens[token_hash] = session_id
        else:
            with pytest.raises(StoreError):
                run(self.store.add_token(session_id, token_hash))

    @rule(target=leases, session_id=sessions)
    def acquire(self, session_id: str) -> Any:
        held = run(self.store.acquire(session_id, self.now, LEASED))
        model = self.models.get(session_id)
        if model is None or model.lease_until > self.now:
            assert held is None
            return multiple()
        assert held is not None
        lease = held.lease
        assert lease.epoch > model.row.epoch
        model.row = replace(model.row, epoch=lease.epoch)
        assert (held.row, held.calls) == (model.row, model.calls)
        model.lease_until = lease.expires_at
        assert lease.expires_at == self.now + LEASED
        return lease

    @rule(lease=leases)
    def renew(self, lease: Lease) -> None:
        model = self.held(lease)
        if model is None:
            with pytest.raises(LeaseLost):
                run(self.store.renew(lease, self.now, LEASED))
            return
        renewed = run(self.store.renew(lease, self.now, LEASED))
        assert renewed == replace(lease, expires_at=self.now + LEASED)
        model.lease_until = renewed.expires_at

    @rule(lease=leases, closed=st.booleans())
    def release(self, lease: Lease, closed: bool) -> None:
        model = self.held(lease)
        assert run(self.store.release(lease, closed=closed)) == (model is not None)
        if model is not None:
            model.lease_until = 0.0
            model.row = replace(model.row, closing=model.row.closing and not closed)

    @rule(
        lease=leases,
        call=st.none() | st.binary(max_size=3),
        state=st.none() | st.binary(max_size=3),
        counted=st.none() | st.sampled_from(["timeout", "tool_error"]),
        used=st.booleans(),
    )
    def commit(
        self, lease: Lease, call: bytes | None, state: bytes | None, counted: Any, used: bool
    ) -> None:
        used_at = self.now if used else None
        written = {"call": call, "state": state, "counted": counted, "used_at": used_at}
        model = self.held(lease)
        if model is None:
            with pytest.raises(LeaseLost):
                run(self.store.commit(lease, **written))
            return
        run(self.store.commit(lease, **written))
        row = model.row
        counts = Counter(row.counts)
        counts.update([] if counted is None else [counted])
        model.row = replace(
            row,
            state=row.state if state is None else state,
            used_at=row.used_at if used_at is None else used_at,
            counts=dict(counts),
        )
        model.calls += [] if call is None else [call]

    @rule(lease=leases, allowed=ALLOWED, status=STATUSES, closing=st.booleans())
    def transition(
        self, lease: Lease, allowed: Collection[Status], status: Status, closing: bool
    ) -> None:
        model = self.held(lease)
        verb = self.store.transition(lease, allowed, status, self.now, closing=closing)
        if model is None:
            with pytest.raises(LeaseLost):
                run(verb)
            return
        changes = model.row.status in allowed
        assert run(verb) == changes
        if changes:
            self.set_status(model, status, closing)

    @rule(lease=leases, body=st.binary(max_size=2), closing=st.booleans(), release=st.booleans())
    def record_verdict(self, lease: Lease, body: bytes, closing: bool, release: bool) -> None:
        verdict = Verdict(body, b"{}", None, self.now)
        model = self.held(lease)
        if model is None:
            with pytest.raises(LeaseLost):
                run(self.store.record_verdict(lease, verdict))
            return
        first = model.row.verdict or verdict
        verb = self.store.record_verdict(
            lease, verdict, trajectory=body, closing=closing, release=release
        )
        assert run(verb) == first
        if release:
            model.lease_until = 0.0
        if model.row.verdict is None:
            model.row = replace(model.row, verdict=verdict)
            model.trajectory = body
            self.set_status(model, "verified", closing)

    @rule(session_id=sessions)
    def forget(self, session_id: str) -> None:
        model = self.models.get(session_id)
        ended = model is not None and model.row.status in ENDED
        assert run(self.store.forget(session_id)) == ended
        if ended:
            self.remove({session_id})

    def remove(self, gone: set[str]) -> None:
        self.models = {key: each for key, each in self.models.items() if key not in gone}
        self.tokens = {key: each for key, each in self.tokens.items() if each not in gone}
        self.keys = {key: each for key, each in self.keys.items() if each not in gone}

    @rule(target=leases, environment=st.sampled_from(ENVIRONMENTS), limit=st.integers(1, 3))
    def claim_closing(self, environment: str, limit: int) -> Any:
        due = {
            session_id
            for session_id, model in self.models.items()
            if model.row.environment == environment
            and model.row.closing
            and model.lease_until <= self.now
        }
        verb = self.store.claim_closing(self.now, LEASED, environment=environment, limit=limit)
        claimed = run(verb)
        assert len(claimed) == min(limit, len(due))
        assert {lease.session_id for lease in claimed} <= due
        for lease in claimed:
            model = self.models[lease.session_id]
            assert lease.epoch > model.row.epoch
            model.row = replace(model.row, epoch=lease.epoch)
            model.lease_until = lease.expires_at
        return multiple(*claimed)

    @rule(environment=st.sampled_from(ENVIRONMENTS), closing=st.booleans())
    def claim_expired(self, environment: str, closing: bool) -> None:
        claimed = run(
            self.store.claim_expired(
                self.now,
                unused=UNUSED,
                idle=IDLE,
                total=TOTAL,
                environment=environment,
                closing=closing,
            )
        )
        for model in self.models.values():
            row = model.row
            ends = row.created_at + UNUSED if row.used_at is None else row.used_at + IDLE
            over = min(ends, row.created_at + TOTAL) <= self.now
            mine = row.environment == environment and row.status not in ENDED
            got = next((each for each in claimed if each.session_id == row.session_id), None)
            due = mine and (over or row.pinned) and model.lease_until <= self.now
            assert (got is not None) == due
            if got is not None:
                stored = run(self.store.get(row.session_id))
                assert stored is not None
                assert stored.epoch > row.epoch
                model.row = replace(row, epoch=stored.epoch)
                self.set_status(model, "lost" if row.pinned else "expired", closing)
                assert got == model.row.summary()

    @rule(ago=st.floats(0, 20), environment=st.none() | st.sampled_from(ENVIRONMENTS))
    def prune(self, ago: float, environment: str | None) -> None:
        before = self.now - ago
        old = {
            session_id
            for session_id, model in self.models.items()
            if environment in (None, model.row.environment)
            and model.row.ended_at is not None
            and model.row.ended_at < before
            and not model.row.closing
        }
        assert run(self.store.prune(before, environment=environment)) == len(old)
        self.remove(old)

    @rule(ago=st.floats(0, 20), environment=st.sampled_from(ENVIRONMENTS))
    def prune_abandoned(self, ago: float, environment: str) -> None:
        before = self.now - ago
        old = {
            session_id
            for session_id, model in self.models.items()
            if environment == model.row.environment
            and model.row.touched_at < before
            and model.lease_until <= self.now
        }
        verb = self.store.prune_abandoned(before, self.now, environment=environment)
        assert run(verb) == len(old)
        self.remove(old)

    @invariant()
    def everything_is_as_it_should_be(self) -> None:
        rows = [model.row for model in self.models.values()]
        assert list(run(self.store.list()).rows) == [row.summary() for row in rows[::-1]]
        assert run(self.store.counts()) == Counter((row.environment, row.status) for row in rows)
        for session_id, model in self.models.items():
            assert run(self.store.get(session_id)) == model.row
            assert run(self.store.calls(session_id)) == model.calls
            assert run(self.store.trajectory(session_id)) == model.trajectory
        for token_hash, session_id in self.tokens.items():
            assert run(self.store.find(token_hash)) == found_of(self.models[session_id].row)
        for environment in ENVIRONMENTS:
            found = run(self.store.find_key(environment, "key"))
            known = self.living_key(environment, "key")
            assert found == (None if known is None else self.models[known].row)

    @rule(limit=st.integers(1, 3))
    def pages_together_are_the_whole(self, limit: int) -> None:
        rows: list[SessionSummary] = []
        cursor: str | None = None
        while True:
            page = run(self.store.list(cursor=cursor, limit=limit))
            rows += page.rows
            cursor = page.cursor
            if cursor is None:
                break
        assert rows == list(run(self.store.list()).rows)


class OnThisThread(Commits):
    """Runs each verb where it is called, in the transaction that the thread would give it."""

    def __init__(self, database: Database) -> None:
        super().__init__(database.path, lambda: database)
        self.database = database

    async def read(self, verb: Callable[[Database], T]) -> T:
        return self.run(read_each, verb)

    async def write(self, verb: Callable[[Database], T]) -> T:
        return self.run(write_together, verb)

    def run(self, run: Callable[[Database, list[Job]], None], verb: Callable[[Database], T]) -> T:
        job = Job(verb, writes=True)
        run(self.database, [job])
        if job.error is not None:
            raise job.error
        result: T = job.result
        return result


class SqliteMachine(StoreMachine):
    """The same over a file."""

    def open_store(self) -> SessionStore:
        self.folder = TemporaryDirectory()
        url = SqliteUrl(Path(self.folder.name, "sessions.db"))
        store = SqliteStore(url)
        self.database = open_database(url.path, "normal")
        # the file is gone after each example: nothing of it needs to reach the disk
        self.database.execute("PRAGMA synchronous = off")
        store._commits = OnThisThread(self.database)
        return store

    def teardown(self) -> None:
        self.database.close()
        self.folder.cleanup()


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestSqliteMachine = SqliteMachine.TestCase
TestSqliteMachine.settings = settings(max_examples=30, stateful_step_count=50, deadline=None)
