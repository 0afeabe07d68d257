"""Verbs that wait together are one commit, and a cancelled one is there whole or not at all."""

from __future__ import annotations

import threading
from collections.abc import Awaitable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from gymhost.errors import LeaseLost, StoreError
from gymhost.stores.sqlite import claims, commits
from gymhost.stores.sqlite.database import Database
from gymhost.threads import EventLoop
from tests.stores.files import OpenStore, opened
from tests.stores.sessions import T0, found_of, leased, new, row_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


async def test_verbs_that_wait_together_are_committed_together(path: Path) -> None:
    async with opened(path) as store:
        leases = [await leased(store, f"s-{number}") for number in range(64)]
        statements: list[str] = []
        store.database.connection.set_trace_callback(statements.append)
        async with anyio.create_task_group() as tasks:
            release = await store.hold_up(tasks)
            for lease in leases:
                tasks.start_soon(partial(store.commit, lease, call=b"one"))
            await anyio.wait_all_tasks_blocked()
            release.set()
        store.database.connection.set_trace_callback(None)
        assert statements.count("COMMIT") == 2  # that which held them up, and theirs
        assert sum("INSERT INTO call" in each for each in statements) == 64
        for lease in leases:
            assert await store.calls(lease.session_id) == [b"one"]


async def test_one_that_is_refused_takes_none_of_its_group_along(path: Path) -> None:
    async with opened(path) as store:
        good = await leased(store)
        lost = await leased(store, "s-2")
        assert await store.acquire("s-2", T0 + 30, 30.0)
        errors: list[BaseException] = []

        async def write(verb: Awaitable[Any]) -> None:
            try:
                await verb
            except (LeaseLost, StoreError) as exc:
                errors.append(exc)

        async with anyio.create_task_group() as tasks:
            release = await store.hold_up(tasks)
            tasks.start_soon(write, store.commit(good, call=b"one"))
            tasks.start_soon(write, store.commit(lost, call=b"late"))
            tasks.start_soon(write, store.create(new("s-1")))  # there is one
            tasks.start_soon(write, store.commit(good, call=b"two"))
            await anyio.wait_all_tasks_blocked()
            release.set()
        assert sorted(type(each).__name__ for each in errors) == ["LeaseLost", "StoreError"]
        assert sorted(await store.calls("s-1")) == [b"one", b"two"]
        assert await store.calls("s-2") == []
        assert await store.find(b"token of s-1") == found_of(await row_of(store))


async def test_a_verb_is_given_up_with_its_caller_before_it_began(path: Path) -> None:
    async with opened(path) as store:
        lease = await leased(store)
        async with anyio.create_task_group() as tasks:
            release = await store.hold_up(tasks)
            with anyio.CancelScope() as scope:
                tasks.start_soon(_cancel_when_blocked, scope)
                await store.commit(lease, call=b"never")
            assert scope.cancelled_caught
            release.set()
        assert await store.calls("s-1") == []


async def test_a_verb_that_has_begun_ends_and_its_caller_learns_how(path: Path) -> None:
    async with opened(path) as store:
        lease = await leased(store)
        learned: list[bool] = []
        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as scope:
                release = await store.hold_up(tasks)

                def begin(db: Database) -> bool:
                    loop.call_soon(scope.cancel)
                    cancelled.wait(10)
                    return claims.release(db, lease, closed=False)

                loop, cancelled = EventLoop(), threading.Event()
                tasks.start_soon(_set_when_cancelled, scope, cancelled)
                release.set()
                learned.append(await store._commits.write(begin))
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        assert learned == [True]
        assert await store.acquire("s-1", T0, 30.0) is not None


async def _set_when_cancelled(scope: anyio.CancelScope, event: threading.Event) -> None:
    while not scope.cancel_called:
        await anyio.lowlevel.checkpoint()
    await anyio.wait_all_tasks_blocked()
    event.set()


async def test_a_verb_is_not_left_waiting_behind_one_that_hangs(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commits, "STALLED_SECONDS", 0.01)
    monkeypatch.setattr(commits, "LOOK_SECONDS", 0.01)
    async with opened(path) as store:
        lease = await leased(store)
        async with anyio.create_task_group() as tasks:
            release = await store.hold_up(tasks)
            with pytest.raises(StoreError, match="has not answered") as failed:
                await store.commit(lease, call=b"never")
            assert failed.value.reason == "stalled"
            release.set()
        assert await store.calls("s-1") == []


async def test_a_store_whose_watch_can_not_start_is_not_opened(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def start_but_the_watch(thread: threading.Thread) -> None:
        if "watch" in thread.name:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_but_the_watch)
    store = OpenStore(path)
    with anyio.fail_after(5):
        with pytest.raises(StoreError, match="can't start new thread"):
            await store.open()
        with pytest.raises(StoreError, match="is closed"):
            await store.counts()
        await store.aclose()
    monkeypatch.undo()
    async with opened(path) as store:
        await store.create(new())


async def test_closing_does_not_wait_for_a_disk_that_hangs(path: Path) -> None:
    store = OpenStore(path)
    await store.open()
    async with anyio.create_task_group() as tasks:
        release = await store.hold_up(tasks)
        with anyio.move_on_after(0.01) as scope:
            await store.aclose()
        assert scope.cancelled_caught
        release.set()
    await store.aclose()


async def _cancel_when_blocked(scope: anyio.CancelScope) -> None:
    await anyio.wait_all_tasks_blocked()
    scope.cancel()
