"""Each limit over HTTP: to it and past it, seen in its use and its count, and by nobody beside."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import fields
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
import pytest

from gymhost import Environment, Session, ToolError, Trajectory, hookimpl, tool
from gymhost.config import EnvironmentConfig
from gymhost.errors import CallTimeout
from gymhost.http.mcp import TOKEN_HEADER
from gymhost.limits import Limits
from gymhost.models import ToolOutcome
from tests.environments import Broken, BrokenInThreads, Diary
from tests.served import HandClock, Seeded, Served, serve, tool_call


async def page(served: Served, name: str = "greedy") -> dict[str, Any]:
    """What GET /envs/<name> answers."""
    found: dict[str, Any] = (await served.http.get(f"/envs/{name}")).json()
    return found


async def check_neighbour(served: Served) -> None:
    """The environment beside it works, and has reached no limit."""
    session = await served.seed("beside")
    assert (await served.call(session, "write", note="a")).text == "a"
    assert (await served.verify(session)).json()["reward"] == 1.0
    beside = await page(served, "beside")
    assert (beside["status"], beside["limits_hit"]) == ("up", {})
    assert beside["counts"] == {"calls": 1, "seeded": 1, "verified": 1}


@asynccontextmanager
async def greedy(
    environment: Environment[Any], *, clock: HandClock | None = None, **limits: Any
) -> AsyncGenerator[Served]:
    """An environment with limits, and one beside it that must not notice."""
    config = EnvironmentConfig(plugin=environment, limits=Limits(**limits))
    with anyio.fail_after(20):
        async with serve({"greedy": config, "beside": Diary()}, clock=clock) as served:
            yield served
            await check_neighbour(served)


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


# -- what has a use --------------------------------------------------------------------------------


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
    limits = {"threads": 1, "tool_seconds": 0.05, "verify_seconds": 5.0, "seed_seconds": 5.0}
    async with greedy(environment, **limits) as served:
        session = await served.seed("greedy")
        await served.call(session, "work")
        assert (await page(served))["use"]["stuck_threads"] == 1
        assert (await served.verify(session)).json()["reward"] == 1.0
        await served.close(await served.seed("greedy"))
        environment.mend()


async def test_stuck_threads_degrade_the_environment_until_they_return() -> None:
    environment = BrokenInThreads("tool", None)
    async with greedy(environment, tool_seconds=0.05, stuck_threads=1) as served:
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


# -- times and sizes -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Broken, BrokenInThreads])
@pytest.mark.parametrize("where", ["seed", "tool", "verify", "close"])
async def test_the_time_of_a_hook(where: str, kind: type[Broken]) -> None:
    environment = kind(where, None)
    limit = f"{where}_seconds"
    async with greedy(environment, **{limit: 0.05}) as served:
        if where == "seed":
            refused = await served.post("greedy", "seed_session", {})
        else:
            session = await served.seed("greedy")
            if where == "tool":
                assert (await served.call(session, "work")).is_error
            refused = await served.verify(session)
        timed_out = where in ("seed", "verify")
        assert refused.status_code == (504 if timed_out else 200)
        if timed_out:
            assert refused.json()["failure_kind"] == "environment_timeout"
        shown = await page(served)
        assert shown["limits_hit"] == {limit: 1}
        kind_counted = {"tool": "timeout", "close": "close_failed"}.get(where)
        assert shown["counts"][kind_counted or "environment_timeout"] == 1
        if timed_out:
            assert shown["counts"][f"{where}_failed"] == 1
        environment.mend()
        served.mount("greedy").limits = Limits()


async def test_a_wrapper_that_hides_a_timeout_does_not_hide_that_the_limit_was_hit() -> None:
    class Hiding:
        @hookimpl(wrapper=True)
        def call_tool(self, environment: str) -> Any:
            try:
                return (yield)
            except CallTimeout:
                return ToolOutcome.ok("all is well")

    environment = Broken("tool", None)
    config = EnvironmentConfig(plugin=environment, limits=Limits(tool_seconds=0.05))
    async with serve({"greedy": config}, extensions=[Hiding]) as served:
        session = await served.seed("greedy")
        with anyio.fail_after(5):
            assert (await served.call(session, "work")).text == "all is well"
        assert (await page(served))["limits_hit"] == {"tool_seconds": 1}


class Talker(Environment):
    """Answers with as many bytes as it is asked for, in each way that there is."""

    async def call_tool(self, session: Session, call: Any) -> ToolOutcome:
        if call.name == "own":
            return ToolOutcome.ok("x" * call.arguments["size"])
        return await super().call_tool(session, call)

    @tool
    async def text(self, size: int) -> str:
        return "x" * size

    @tool
    async def structured(self, size: int) -> dict[str, str]:
        return {"a": "x" * (size - 9)}

    @tool
    async def own(self, size: int) -> str:
        return ""

    @tool
    async def refuse(self, size: int) -> str:
        raise ToolError("x" * size)

    async def verify(self, session: Session, trajectory: Trajectory) -> float:
        return 1.0


@pytest.mark.parametrize("name", ["text", "structured", "own", "refuse"])
async def test_the_size_of_a_result(name: str) -> None:
    async with greedy(Talker(), result_bytes=1000) as served:
        session = await served.seed("greedy")
        fits = await served.call(session, name, size=1000)
        assert (len(fits.text), fits.is_error) == (1000, name == "refuse")
        refused = await served.call(session, name, size=1001)
        assert refused.is_error
        assert "1001 bytes, more than the 1000 allowed" in refused.text
        shown = await page(served)
        assert (shown["limits_hit"], shown["counts"]["limit"]) == ({"result_bytes": 1}, 1)
        assert (await served.record(session))["failures"]["limit"] == 1
        assert (await served.verify(session)).json()["reward"] == 1.0


async def test_a_crash_with_much_to_say_is_still_a_crash() -> None:
    class Crashing(Talker):
        async def call_tool(self, session: Session, call: Any) -> ToolOutcome:
            return ToolOutcome.error("x" * 2000, "environment_error")

    async with greedy(Crashing(), result_bytes=1000) as served:
        session = await served.seed("greedy")
        assert (await served.call(session, "text", size=1)).is_error
        assert (await served.record(session))["failures"] == {"environment_error": 1}
        assert (await served.verify(session)).status_code == 502


@pytest.mark.parametrize("limit", ["body_bytes", "mcp_body_bytes"])
async def test_the_size_of_a_body(limit: str) -> None:
    async with greedy(Diary(), **{limit: 1000}) as served:
        session = await served.seed("greedy")
        head, tail = json.dumps(tool_call("write", {"note": "#"})).encode().split(b"#")
        padding = 1000 - len(head) - len(tail)
        for more, status in ((0, 200), (1, 413)):
            body = head + b"x" * (padding + more) + tail
            if limit == "body_bytes":
                answer = await served.post("greedy", "seed_session", body)
            else:
                answer = await served.http.post(
                    "/envs/greedy/mcp",
                    content=body,
                    headers={
                        "accept": "application/json",
                        "content-type": "application/json",
                        TOKEN_HEADER: session.token,
                    },
                )
            assert answer.status_code == status
        shown = await page(served)
        assert (shown["limits_hit"], shown["counts"]["body_too_large"]) == ({limit: 1}, 1)
        assert (await served.verify(session)).status_code == 200


async def use_and_leave(served: Served, clock: HandClock) -> None:
    session = await served.seed("greedy")
    await served.call(session, "write", note="a")
    clock.now += 11


async def leave_unused(served: Served, clock: HandClock) -> None:
    await served.seed("greedy")
    clock.now += 6


async def keep_using(served: Served, clock: HandClock) -> None:
    session = await served.seed("greedy")
    for _ in range(3):
        await served.call(session, "write", note="a")
        clock.now += 9


@pytest.mark.parametrize(
    ("limit", "live"),
    [
        ("idle_seconds", use_and_leave),
        ("unused_seconds", leave_unused),
        ("total_seconds", keep_using),
    ],
)
@pytest.mark.parametrize("pinned", [False, True])
async def test_the_life_of_a_session(
    limit: str, live: Callable[[Served, HandClock], Awaitable[None]], pinned: bool
) -> None:
    class Pinned(Diary):
        pass

    Pinned.pinned = pinned
    clock = HandClock()
    limits = {"idle_seconds": 10, "unused_seconds": 5, "total_seconds": 25}
    async with greedy(Pinned(), clock=clock, **limits) as served:
        await live(served, clock)
        await served.host.maintain()
        clock.now += 31  # nobody has its lease any more
        await served.host.maintain()
        await served.host.maintain()
        shown = await page(served)
        assert shown["counts"]["session_expired"] == 1
        assert shown["limits_hit"] == {limit: 1}
