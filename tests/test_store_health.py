"""Whether the store works, asked as often as anybody likes and checked once a second."""

from __future__ import annotations

import logging

import anyio
import pytest

from gymhost import store_health
from gymhost.errors import StoreError
from gymhost.store_health import StoreHealth
from gymhost.stores import MemoryStore
from tests.environments import Gate
from tests.faulty_store import FaultyStore
from tests.served import HandClock


class CountedStore(MemoryStore):
    checks = 0

    async def check(self) -> None:
        self.checks += 1


async def test_a_store_is_checked_at_most_once_a_second() -> None:
    store, clock = CountedStore(), HandClock()
    health = StoreHealth(store, clock)
    for _ in range(3):
        assert await health.failure() is None
    assert store.checks == 1
    clock.now += 0.9
    await health.failure()
    assert store.checks == 1
    clock.now += 0.1
    await health.failure()
    assert store.checks == 2


async def test_what_is_wrong_is_remembered_logged_once_and_forgotten_when_it_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store, clock = FaultyStore(), HandClock()
    health = StoreHealth(store, clock)
    store.broken["check"] = StoreError("disk full")
    with caplog.at_level(logging.INFO, "gymhost.store"):
        for _ in range(3):
            assert await health.failure() == "failed"
            clock.now += 1
        store.broken.clear()
        assert await health.failure() is None
    messages = [record.getMessage() for record in caplog.records]
    assert messages == ["the session store fails: disk full", "the session store works again"]


async def test_those_who_ask_at_once_share_one_check() -> None:
    store, clock = FaultyStore(), HandClock()
    health = StoreHealth(store, clock)
    store.gates["check"] = gate = Gate()
    store.broken["check"] = StoreError("once")
    answers: list[str | None] = []

    async def ask() -> None:
        answers.append(await health.failure())

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(ask)
            await gate.reached.wait()
            await anyio.wait_all_tasks_blocked()
            assert answers == []
            gate.open()
    assert answers == ["failed"] * 5


async def test_a_store_that_does_not_answer_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store_health, "CHECK_SECONDS", 0.01)
    store = FaultyStore()
    store.gates["check"] = Gate()
    with anyio.fail_after(5):
        assert await StoreHealth(store, HandClock()).failure() == "stalled"
