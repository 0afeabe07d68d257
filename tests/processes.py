"""Registries as processes have them, over a store that they may share."""

from __future__ import annotations

from gymhost.registry import LEASE_SECONDS, Registry, hash_token
from gymhost.slots import Slot
from gymhost.stores import NewSession, SessionStore
from tests.faulty_store import FaultyStore
from tests.served import HandClock

TOKEN = "token-of-s-1"


async def create(store: SessionStore, session_id: str = "s-1", environment: str = "env") -> str:
    """Create a session; return its token."""
    token = f"token-of-{session_id}"
    await store.create(
        NewSession(session_id, environment, hash_token(token), b"{}", b"{}", None, 100.0)
    )
    return token


class Process:
    """One process's registry, over a store that others may share."""

    def __init__(self, store: SessionStore | None = None, clock: HandClock | None = None) -> None:
        self.store = store or FaultyStore()
        self.clock = clock or HandClock()
        self.registry = Registry(self.store, self.clock)

    @property
    def faulty(self) -> FaultyStore:
        assert isinstance(self.store, FaultyStore)
        return self.store

    def another(self) -> Process:
        """Another process on the same store."""
        return Process(self.store, self.clock)

    async def use(self, session_id: str = "s-1") -> Slot:
        return await self.registry.by_token("env", f"token-of-{session_id}")

    async def is_free(self, session_id: str = "s-1") -> bool:
        """Whether another process could take the session."""
        held = await self.store.acquire(session_id, self.clock.time(), LEASE_SECONDS)
        if held is not None:
            await self.store.release(held.lease)
        return held is not None
