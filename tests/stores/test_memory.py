"""The store in this process's memory: what is its own."""

import pytest

from gymhost.stores import MemoryStore, NewSession, open_store
from gymhost.stores.base import ENDED
from tests.stores.sessions import acquire


def new(session_id: str, environment: str = "env") -> NewSession:
    token_hash = f"token of {session_id}".encode()
    return NewSession(session_id, environment, token_hash, b"{}", b"{}", None, 100.0)


async def end(store: MemoryStore, session_id: str, now: float = 200.0) -> None:
    lease = await acquire(store, session_id, now, 30.0)
    assert lease is not None
    await store.transition(lease, ("open", "expired"), "closed", now)


def test_the_memory_does_not_outlive_the_process() -> None:
    store = open_store("memory://")
    assert isinstance(store, MemoryStore)
    assert store.durable is False
    assert open_store("memory://") is not store


@pytest.mark.parametrize(
    "url", ["", "memory", "memory:", "memory:/", "memory://x", "sqlite", "redis://localhost", "://"]
)
def test_a_url_of_no_store_is_refused_with_those_that_are_known(url: str) -> None:
    with pytest.raises(ValueError, match="is not a session store"):
        open_store(url)


async def test_the_last_that_ended_are_kept_and_all_that_live() -> None:
    store = MemoryStore(keep_ended=3)
    for number in range(6):
        await store.create(new(f"s-{number}"))
    for number in (4, 0, 1, 5, 2):
        await end(store, f"s-{number}")
    kept = [row.session_id for row in (await store.list()).rows]
    assert kept == ["s-5", "s-3", "s-2", "s-1"]  # 4 and 0 ended first; 3 lives
    assert await store.find(b"token of s-4") is None
    assert dict(await store.counts()) == {("env", "open"): 1, ("env", "closed"): 3}


async def test_a_session_that_ends_twice_counts_once() -> None:
    store = MemoryStore(keep_ended=2)
    for number in range(2):
        await store.create(new(f"s-{number}"))
        await end(store, f"s-{number}")
    lease = await acquire(store, "s-0", 300.0, 30.0)
    assert lease is not None
    await store.transition(lease, ENDED, "expired", 300.0)
    assert dict(await store.counts()) == {("env", "closed"): 1, ("env", "expired"): 1}


async def test_ten_thousand_are_kept_by_default() -> None:
    store = MemoryStore()
    for number in range(10_001):
        await store.create(new(f"s-{number}"))
        await end(store, f"s-{number}")
    assert dict(await store.counts()) == {("env", "closed"): 10_000}
    assert await store.get("s-0") is None
