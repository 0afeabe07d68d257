"""How a session begins: seed it from a task, once for each Idempotency-Key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import anyio
import pydantic_core
from anyio.abc import TaskGroup

from gymhost.body_hash import hash_body
from gymhost.clock import Clock
from gymhost.ending import Ending, expires_at, expires_unused_at, hook_failure
from gymhost.errors import KeyConflict, OverCapacity
from gymhost.models import JSONObject, Task
from gymhost.mount import Mount
from gymhost.pins import Pin
from gymhost.registry import LEASE_SECONDS, Registry, hash_token, mint_session_id, mint_token
from gymhost.session import Session, dump_state
from gymhost.shields import shield
from gymhost.stores import NewSession, SessionRow, SessionStore

__all__ = ["Seeded", "Seeding"]


@dataclass(slots=True)
class Seeded:
    """A session, and a token that opens it. The token is told here and nowhere else."""

    session_id: str
    token: str
    expires_at: float


class Seeding:
    """Starts sessions."""

    def __init__(
        self, store: SessionStore, registry: Registry, clock: Clock, ending: Ending
    ) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._ending = ending
        self._running: dict[tuple[str, str], anyio.Event] = {}
        self._creating: set[anyio.Event] = set()
        self._stopped = False

    async def stop(self) -> None:
        """Let no session begin any more, also none that is being seeded: nobody would close it.

        What the store is about to create is then there, to be closed.
        """
        self._stopped = True
        for created in list(self._creating):
            await created.wait()

    async def seed(
        self,
        mount: Mount,
        body: JSONObject,
        raw: bytes,
        key: str | None,
        tasks: TaskGroup,
        stays: bool,
    ) -> Seeded:
        """Start a session from a task, or return the living one that `key` has started.

        `tasks` own what a pinned session enters. `stays`: nothing cancels the caller.

        Raises: InvalidField, OverCapacity, KeyConflict, EnvironmentFailed, EnvironmentTimeout,
        StoreError.
        """
        task = Task.from_row(body)
        body_hash = hash_body(raw)
        if key is None:
            return await self._seed_new(mount, task, None, body_hash, tasks, stays)
        while (running := self._running.get((mount.name, key))) is not None:
            await running.wait()
        done = self._running[mount.name, key] = anyio.Event()
        try:
            row = await self._store.find_key(mount.name, key)
            if row is not None and self._may_have_ended(mount, row):
                await self._ending.expire_one(mount, row.session_id)
                row = await self._store.find_key(mount.name, key)
            if row is not None:
                return await self._seed_again(mount, row, body_hash)
            return await self._seed_new(mount, task, key, body_hash, tasks, stays)
        finally:
            del self._running[mount.name, key]
            done.set()

    def _may_have_ended(self, mount: Mount, row: SessionRow) -> bool:
        """Whether a sweep may end a living session: it is past its time, or its process is gone."""
        is_over = expires_at(row, mount.limits) <= self._clock.time()
        return is_over or (row.pinned and not self._registry.is_here(row.session_id))

    async def _seed_again(self, mount: Mount, row: SessionRow, body_hash: bytes) -> Seeded:
        if row.body_hash != body_hash:
            raise KeyConflict("This Idempotency-Key was used with another body.")
        token = mint_token()
        token_hash = hash_token(token)
        await self._store.add_token(row.session_id, token_hash)
        self._registry.expect(mount.name, row.session_id, token_hash)
        return Seeded(row.session_id, token, expires_at(row, mount.limits))

    async def _seed_new(
        self,
        mount: Mount,
        task: Task,
        key: str | None,
        body_hash: bytes,
        tasks: TaskGroup,
        stays: bool,
    ) -> Seeded:
        if mount.open_sessions >= mount.limits.open_sessions:
            mount.counts["over_capacity"] += 1
            mount.hit("open_sessions")
            raise OverCapacity(
                f"{mount.name!r} has {mount.open_sessions} open sessions, its limit."
            )
        mount.open_sessions += 1
        mount.seeding += 1
        session_id, token = mint_session_id(), mint_token()
        pin = Pin(tasks, session_id) if mount.instance.pinned else None
        known, created = None, False
        try:
            task_bytes = pydantic_core.to_json(task.to_row())
            state, allowed = await self._run_seed(mount, session_id, task, pin)
            if self._stopped:
                raise OverCapacity("The server is stopping.")
            now = self._clock.time()
            new = NewSession(
                session_id=session_id,
                environment=mount.name,
                token_hash=hash_token(token),
                task=task_bytes,
                state=state,
                allowed_tools=allowed,
                created_at=now,
                key=key,
                body_hash=body_hash,
                pinned=pin is not None,
                leased_until=now + LEASE_SECONDS if pin is not None else 0.0,
            )
            waits = self._store.waits
            create = self._create if waits else self._create_now
            with shield(waits and not stays):  # what is created is also counted
                known = await create(new, pin)
                created = known is None
        finally:
            mount.seeding -= 1
            if not created:
                mount.open_sessions -= 1
                await self._ending.unwind(mount, session_id, pin)
        if known is not None:  # another process was first
            return await self._seed_again(mount, known, body_hash)
        self._registry.expect(mount.name, session_id, new.token_hash)
        mount.counts["seeded"] += 1
        return Seeded(session_id, token, expires_unused_at(new.created_at, mount.limits))

    async def _create(self, new: NewSession, pin: Pin | None) -> SessionRow | None:
        done = anyio.Event()
        self._creating.add(done)
        try:
            return await self._create_now(new, pin)
        finally:
            self._creating.remove(done)
            done.set()

    async def _create_now(self, new: NewSession, pin: Pin | None) -> SessionRow | None:
        known = await self._store.create(new)
        if known is None and pin is not None:
            self._registry.adopt(new.row(), new.leased_until, pin)
        return known

    async def _run_seed(
        self, mount: Mount, session_id: str, task: Task, pin: Pin | None
    ) -> tuple[bytes, tuple[str, ...] | None]:
        session: Session[Any] = Session(
            session_id, mount.name, task, model=mount.instance.state_type, pin=pin
        )
        try:
            state = dump_state(await mount.seed(session, task), mount.instance.state_type)
            return state, await mount.allowed_tools(session, task)
        except BaseException as exc:
            failure = hook_failure(mount, "seed", exc)
            if failure is exc:
                raise
            raise failure from exc
