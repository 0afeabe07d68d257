"""Ends across crashes: each is told at least once, and once in a process's life."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from gymhost.registry import LEASE_SECONDS
from gymhost.stores import MemoryStore
from tests.environments import Diary, Gate, Judge
from tests.faulty_store import FaultyStore
from tests.served import HandClock, serve

LONG = 3 * LEASE_SECONDS


async def test_an_end_that_a_crash_kept_from_the_environment_is_told_by_the_next_process() -> None:
    store, clock, hung, diary = MemoryStore(), HandClock(), Diary(), Diary()
    store.durable = True
    hung.close_gate = gate = Gate()
    async with serve({"diary": hung}, store=store, clock=clock) as crashing:
        session = await crashing.seed("diary")
        await crashing.call(session, "write", note="a")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(crashing.verify, session)
            with anyio.fail_after(5):
                await gate.reached.wait()  # the score is recorded, and then nothing more is heard
            async with serve({"diary": diary}, store=store, clock=clock) as served:
                await served.host.maintain()
                assert diary.closed == []  # the first still has it
                clock.now += LEASE_SECONDS + 1
                await served.host.maintain()
                assert diary.closed == [(session.id, "verified")]
                clock.now += LONG
                await served.host.maintain()
                assert len(diary.closed) == 1
                assert (await served.record(session))["status"] == "verified"
            gate.open()


@pytest.mark.parametrize("ended", ["verified", "closed", "expired"])
async def test_an_end_that_the_store_can_not_take_back_is_told_once_in_a_process(
    ended: str,
) -> None:
    store, clock, diary = FaultyStore(), HandClock(), Diary()
    async with serve({"diary": diary}, store=store, clock=clock) as served:
        session = await served.seed("diary")
        store.fail("release")
        if ended == "verified":
            await served.verify(session)
        elif ended == "closed":
            await served.close(session)
        else:
            clock.now += 700
            await served.host.maintain()
        for _ in range(3):
            clock.now += LONG
            await served.host.maintain()
        row = await store.get(session.id)
        assert row is not None
        assert row.closing
        store.broken.clear()
        clock.now += LONG
        await served.host.maintain()
        row = await store.get(session.id)
        assert row is not None
        assert not row.closing
        assert not any(served.host._ending._told.values())
    assert diary.closed == [(session.id, ended)]


async def test_what_ended_is_not_told_where_the_environment_keeps_nothing() -> None:
    store, clock = MemoryStore(), HandClock()
    async with serve({"judge": Judge()}, store=store, clock=clock) as served:
        session = await served.seed("judge")
        await served.verify(session)
        row = await store.get(session.id)
        assert row is not None
        assert not row.closing


async def test_more_ends_than_are_told_at_once_are_all_told() -> None:
    store, clock, diary = MemoryStore(), HandClock(), Diary()
    async with serve({"diary": diary}, store=store, clock=clock) as served:
        ids = [(await served.seed("diary")).id for _ in range(150)]
        clock.now += 700
        await served.host.maintain()
        assert sorted(diary.closed) == sorted((each, "expired") for each in ids)


async def test_a_session_that_ends_as_the_sweeper_comes_is_told_once() -> None:
    store, clock, diary = MemoryStore(), HandClock(), Diary()
    diary.close_gate = gate = Gate()
    answers: list[Any] = []
    async with serve({"diary": diary}, store=store, clock=clock) as served:
        session = await served.seed("diary")

        async def verify() -> None:
            answers.append((await served.verify(session)).json()["reward"])

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(verify)
                await gate.reached.wait()
                clock.now += LONG  # the process stalled, and its own sweeper comes first
                await served.host._expire(served.mount("diary"))
                gate.open()
        assert answers == [0.0]
    assert diary.closed == [(session.id, "verified")]
