"""An environment that lets a cancellation of its own out: on asyncio alone, and its own fault."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from gymhost import tool
from tests.environments import Diary
from tests.served import HandClock, serve

pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio"])


async def await_a_cancelled_task() -> None:
    """As a library does whose background task has been cancelled."""
    task = asyncio.ensure_future(asyncio.sleep(60))
    task.cancel()
    await task


class Stray(Diary):
    def __init__(self) -> None:
        super().__init__()
        self.where = ""

    @tool
    async def work(self) -> str:
        """Work, and be cancelled from inside."""
        await await_a_cancelled_task()
        return ""

    async def seed(self, session: Any, task: Any) -> Any:
        if self.where == "seed":
            await await_a_cancelled_task()
        return await super().seed(session, task)

    async def verify(self, session: Any, trajectory: Any) -> Any:
        if self.where == "verify":
            await await_a_cancelled_task()
        return await super().verify(session, trajectory)

    async def close(self, session: Any, reason: str) -> None:
        await super().close(session, reason)
        if self.where == "close":
            await await_a_cancelled_task()


async def test_a_verify_that_is_cancelled_from_inside_fails_alone() -> None:
    stray = Stray()
    async with serve({"stray": stray, "diary": Diary()}) as served:
        session, other = await served.seed("stray"), await served.seed("diary")
        stray.where = "verify"
        with anyio.fail_after(5):
            answer = await served.verify(session)
            assert (answer.status_code, answer.json()["failure_kind"]) == (502, "environment_error")
            stray.where = ""
            assert (await served.verify(session)).json()["reward"] == 0.0
            assert (await served.verify(other)).json()["reward"] == 0.0


async def test_a_seed_that_is_cancelled_from_inside_fails_alone() -> None:
    stray = Stray()
    async with serve({"stray": stray}) as served:
        stray.where = "seed"
        with anyio.fail_after(5):
            answer = await served.http.post("/envs/stray/seed_session", json={})
            assert (answer.status_code, answer.json()["failure_kind"]) == (502, "environment_error")
            stray.where = ""
            await served.seed("stray")


async def test_a_close_that_is_cancelled_from_inside_fails_alone() -> None:
    clock, stray = HandClock(), Stray()
    async with serve({"stray": stray, "diary": Diary()}, clock=clock) as served:
        expired = [await served.seed("stray") for _ in range(3)]
        stray.where = "close"
        clock.now += 601
        with anyio.fail_after(5):
            await served.host.maintain()
            assert len(stray.closed) == 3
            scored, closed, left = [await served.seed("stray") for _ in range(3)]
            assert (await served.verify(scored)).json()["reward"] == 0.0
            assert (await served.close(closed)).json()["status"] == "closed"
            assert (await served.verify(await served.seed("diary"))).status_code == 200
        assert served.mount("stray").counts["close_failed"] == 5
    assert sorted(stray.closed) == sorted(
        [
            *((session.id, "expired") for session in expired),
            (scored.id, "verified"),
            (closed.id, "closed"),
            (left.id, "shutdown"),
        ]
    )


async def test_a_call_that_is_cancelled_from_inside_spoils_the_sample() -> None:
    async with serve({"stray": Stray()}) as served:
        session = await served.seed("stray")
        with anyio.fail_after(5):
            outcome = await served.call(session, "work")
            assert (outcome.text, outcome.is_error) == ("The tool failed.", True)
            assert (await served.record(session))["failures"] == {"environment_error": 1}
            assert (await served.verify(session)).status_code == 502
