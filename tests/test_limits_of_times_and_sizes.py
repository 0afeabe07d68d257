"""Limits of times and sizes, over HTTP: to each and past it, and how often it was hit."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.abc
import pytest

from gymhost import Environment, Session, ToolError, Trajectory, hookimpl, tool
from gymhost.config import EnvironmentConfig
from gymhost.errors import CallTimeout
from gymhost.http.mcp import TOKEN_HEADER
from gymhost.limits import Limits
from gymhost.models import ToolOutcome
from tests.environments import Broken, BrokenInThreads, Diary
from tests.greedy import greedy, page
from tests.served import HandClock, Served, serve, tool_call


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
