"""Limits of what is used at once, over HTTP: to each and past it, its use and its count."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import fields
from typing import Any

import anyio
import anyio.abc

from gymhost.limits import Limits
from tests.environments import BrokenInThreads, Diary
from tests.greedy import greedy, page
from tests.served import Seeded, Served


class Started:
    """Calls that run, or wait, while a test looks."""

    def __init__(self, served: Served, tasks: anyio.abc.TaskGroup) -> None:
        self._served = served
        self._tasks = tasks
        self.outcomes: list[Any] = []

    async def start(self, session: Seeded, name: str, **arguments: Any) -> None:
        async def call() -> None:
            self.outcomes.append(await self._served.call(session, name, **arguments))

        self._tasks.start_soon(call)
        await anyio.wait_all_tasks_blocked()


@asynccontextmanager
async def started(served: Served, diary: Diary) -> AsyncGenerator[Started]:
    async with anyio.create_task_group() as tasks:
        yield Started(served, tasks)
        diary.call_gate.open()


async def test_every_limit_that_is_no_time_or_size_has_its_use_under_its_name() -> None:
    async with greedy(Diary()) as served:
        shown = await page(served)
        named = {field.name for field in fields(Limits)}
        assert set(shown["limits"]) == named
        counted = {name for name in named if not name.endswith(("_seconds", "_bytes"))}
        assert counted <= set(shown["use"])


async def test_open_sessions() -> None:
    async with greedy(Diary(), open_sessions=2) as served:
        for number in (1, 2):
            session = await served.seed("greedy")
            assert (await page(served))["use"]["open_sessions"] == number
        refused = await served.post("greedy", "seed_session", {})
        assert (refused.status_code, refused.json()["failure_kind"]) == (503, "over_capacity")
        assert refused.headers["retry-after"] == "1"
        shown = await page(served)
        assert shown["limits_hit"] == {"open_sessions": 1}
        assert shown["counts"]["over_capacity"] == 1
        await served.close(session)
        await served.seed("greedy")


async def test_calls_in_flight() -> None:
    diary = Diary()
    async with greedy(diary, calls_in_flight=2) as served:
        sessions = [await served.seed("greedy") for _ in range(3)]
        async with started(served, diary) as calls:
            for session in sessions[:2]:
                await calls.start(session, "wait")
            refused = await served.call(sessions[2], "write", note="a")
            assert (refused.is_error, refused.text) == (
                True,
                "The server is busy. Try again in a moment.",
            )
            shown = await page(served)
            assert (shown["use"]["calls_in_flight"], shown["use"]["calls_waiting"]) == (2, 0)
            await check_neighbour_now(served)
        assert shown["limits_hit"] == {"calls_in_flight": 1}
        assert shown["counts"]["over_capacity"] == 1
        assert (await served.verify(sessions[2])).json()["reward"] == 0.0  # not masked


async def check_neighbour_now(served: Served) -> None:
    """The one beside takes a call while this one is at its limit."""
    session = await served.seed("beside")
    assert not (await served.call(session, "write", note="meanwhile")).is_error
    await served.close(session)
    served.mount("beside").counts.clear()


async def test_the_queue_of_a_session() -> None:
    diary = Diary()
    async with greedy(diary, session_queue=2) as served:
        session, other = await served.seed("greedy"), await served.seed("greedy")
        async with started(served, diary) as calls:
            await calls.start(session, "wait")
            for note in "ab":
                await calls.start(session, "write", note=note)
            await calls.start(other, "wait")
            refused = await served.call(session, "write", note="c")
            assert (refused.is_error, refused.text) == (
                True,
                "This session has 2 calls waiting already.",
            )
            shown = await page(served)
            assert (shown["use"]["session_queue"], shown["use"]["calls_waiting"]) == (2, 2)
        assert shown["limits_hit"] == {"session_queue": 1}
        assert shown["counts"]["session_queue"] == 1
        assert (await served.verify(session)).json()["reward"] == 3.0


async def test_concurrent_calls_of_one_session_are_bounded_as_its_queue_is() -> None:
    """Else one agent could take every call that its environment has in flight."""
    diary = Diary()
    async with greedy(diary, session_queue=2) as served:
        session, other = await served.seed("greedy"), await served.seed("greedy")
        async with started(served, diary) as calls:
            for _ in range(2):
                await calls.start(session, "look")
            refused = await served.call(session, "look")
            assert (refused.is_error, refused.text) == (
                True,
                "This session has 2 calls running at once already.",
            )
            assert (await served.call(other, "write", note="a")).text == "a"
            shown = await page(served)
            assert (shown["use"]["session_queue"], shown["use"]["calls_in_flight"]) == (2, 2)
        assert shown["limits_hit"] == {"session_queue": 1}
        assert [outcome.is_error for outcome in calls.outcomes] == [False, False]
        assert (await served.verify(session)).status_code == 200


async def test_the_calls_of_a_session() -> None:
    async with greedy(Diary(), session_calls=2) as served:
        session = await served.seed("greedy")
        for number, note in ((1, "a"), (2, "b")):
            await served.call(session, "write", note=note)
            assert (await page(served))["use"]["session_calls"] == number
        refused = await served.call(session, "write", note="c")
        assert (refused.is_error, refused.text) == (
            True,
            "The session has made 2 calls, the most it may.",
        )
        shown = await page(served)
        assert shown["limits_hit"] == {"session_calls": 1}
        assert (shown["counts"]["session_calls"], shown["counts"]["calls"]) == (1, 2)
        assert (await served.verify(session)).json()["reward"] == 2.0


async def test_a_tool_waits_for_a_thread_within_its_timeout() -> None:
    environment = BrokenInThreads("tool", None)
    async with greedy(environment, threads=1, tool_seconds=0.2, stuck_threads=1) as served:
        session, other = await served.seed("greedy"), await served.seed("greedy")
        outcomes: list[Any] = []

        async def call(session: Seeded) -> None:
            outcomes.append(await served.call(session, "work"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, session)
            while not (await page(served))["use"]["threads"]:
                await anyio.lowlevel.checkpoint()
            tasks.start_soon(call, other)
            while not (shown := await page(served))["use"]["threads_waiting"]:
                await anyio.lowlevel.checkpoint()
            assert shown["limits_hit"]["threads"] == 1
        assert [outcome.text for outcome in outcomes] == [
            "The tool took longer than 0.2 s and was given up."
        ] * 2
        shown = await page(served)
        assert shown["limits_hit"] == {"threads": 1, "tool_seconds": 2}
        assert shown["counts"]["timeout"] == 2
        # the one that never began left no thread
        assert (shown["counts"]["abandoned_thread"], shown["use"]["stuck_threads"]) == (1, 1)
        environment.mend()


async def test_threads_that_an_agent_has_stuck_do_not_keep_its_attempt_from_its_score() -> None:
    """Else it could dodge a low reward: a verify that gets no thread masks the sample."""
    environment = BrokenInThreads("tool", None)
    # long enough for a busy machine to begin the tool
    limits = {"threads": 1, "tool_seconds": 0.5, "verify_seconds": 5.0, "seed_seconds": 5.0}
    async with greedy(environment, **limits) as served:
        session = await served.seed("greedy")
        await served.call(session, "work")
        assert (await page(served))["use"]["stuck_threads"] == 1
        assert (await served.verify(session)).json()["reward"] == 1.0
        await served.close(await served.seed("greedy"))
        environment.mend()


async def test_stuck_threads_degrade_the_environment_until_they_return() -> None:
    environment = BrokenInThreads("tool", None)
    async with greedy(environment, tool_seconds=0.5, stuck_threads=1) as served:
        session = await served.seed("greedy")
        for number, status in ((1, "up"), (2, "degraded"), (3, "degraded")):
            await served.call(session, "work")
            shown = await page(served)
            assert (shown["status"], shown["use"]["stuck_threads"]) == (status, number)
        assert shown["counts"]["abandoned_thread"] == 3
        assert shown["limits_hit"] == {"stuck_threads": 2, "tool_seconds": 3}
        listed = (await served.http.get("/envs")).json()["environments"]
        assert {each["name"]: each["status"] for each in listed} == {
            "greedy": "degraded",
            "beside": "up",
        }
        ready = await served.http.get("/readyz", headers={"authorization": ""})
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
        assert (ready.json()["degraded"], "greedy" in ready.text) == (1, False)
        environment.mend()
        while (shown := await page(served))["use"]["stuck_threads"]:
            await anyio.lowlevel.checkpoint()
        assert (shown["status"], shown["use"]["threads"]) == ("up", 0)
        assert shown["counts"]["abandoned_thread"] == 3
        assert (await served.http.get("/readyz")).json()["status"] == "ready"
