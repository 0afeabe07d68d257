"""What a call leaves of the state, and in the record, however it ends."""

from __future__ import annotations

import json
import logging
import math
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from anyio import to_thread
from pydantic import BaseModel

from gymhost import Environment, Session, Task, ToolError, tool
from tests.environments import Gate
from tests.served import HandClock, Outcome, Seeded, Served, serve


class Count(BaseModel):
    n: int = 0
    x: float | None = None


class Other(BaseModel):
    n: int = 0


class Counter(Environment[Count]):
    """Each tool counts up, and then ends in its own way."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.may_go_on = threading.Event()
        self.thread_ended = threading.Event()
        self.clock = HandClock()
        self.calls_during_seed: Any = None

    async def seed(self, session: Session[Count], task: Task) -> Any:
        self.calls_during_seed = session.calls
        return Other() if task.verifier_metadata.get("seed") == "other" else Count()

    @tool
    async def look(self, session: Session[Count]) -> int:
        return session.state.n

    @tool
    async def add(self, session: Session[Count], by: int = 1) -> str:
        self.clock.now += 2.5
        session.state.n += by
        return f"ü {session.state.n}"

    @tool
    async def replace(self, session: Session[Count]) -> None:
        session.state = Count(n=session.state.n + 1)

    @tool
    def add_in_thread(self, session: Session[Count]) -> None:
        session.state.n += 1

    @tool
    async def add_and_refuse(self, session: Session[Count]) -> None:
        self.clock.now += 0.5
        session.state.n += 1
        raise ToolError("no")

    @tool
    async def add_and_crash(self, session: Session[Count]) -> None:
        session.state.n += 1
        raise RuntimeError("bug")

    @tool
    async def add_and_exit(self, session: Session[Count]) -> None:
        session.state.n += 1
        raise SystemExit(3)

    @tool(timeout=0.01)
    async def add_and_hang(self, session: Session[Count]) -> None:
        session.state.n += 1
        await anyio.sleep_forever()

    @tool
    async def add_and_wait(self, session: Session[Count]) -> None:
        session.state.n += 1
        await self.gate.pass_through()

    @tool(timeout=0.5)  # time to start: a thread given up before it does has nothing to abandon
    def add_and_go_on(self, session: Session[Count]) -> None:
        session.state.n += 1
        self.may_go_on.wait(10)
        session.state.n += 10
        session.state = Count(n=100)
        session.calls[0].arguments["by"] = 100
        self.thread_ended.set()

    @tool
    async def assign_other(self, session: Session[Count]) -> None:
        session.state = Other()  # type: ignore[assignment]

    @tool
    async def assign_nan(self, session: Session[Count]) -> None:
        session.state = Count(n=1, x=math.nan)

    @tool(concurrent=True)
    async def look_beside(self, session: Session[Count]) -> int:
        return session.state.n

    @tool(concurrent=True)
    async def assign_beside(self, session: Session[Count]) -> None:
        session.state = Count(n=5)

    @tool(concurrent=True)
    async def change_beside(self, session: Session[Count]) -> None:
        session.state.n += 1

    @tool(concurrent=True)
    async def change_beside_and_refuse(self, session: Session[Count]) -> None:
        session.state.n += 1
        raise ToolError("no")

    @tool
    async def spoil(self, session: Session[Count]) -> None:
        """Change what is nobody's to change."""
        session.task.verifier_metadata["city"] = "Rome"
        for call in session.calls:
            call.arguments.clear()
            assert call.outcome is not None
            call.outcome.content.clear()

    @tool
    async def recall(self, session: Session[Count]) -> str:
        rows = [
            (call.name, call.arguments, call.result, call.error, call.duration)
            for call in session.calls
        ]
        return json.dumps([rows, session.task.verifier_metadata], ensure_ascii=False)

    async def verify(self, session: Session[Count], trajectory: Any) -> float:
        session.state.n += 1000  # verify's copy is its own, too
        return float(session.state.n)


@dataclass
class Played:
    """One session of a counter."""

    counter: Counter
    served: Served
    session: Seeded

    async def call(self, name: str, **arguments: Any) -> Outcome:
        return await self.served.call(self.session, name, **arguments)

    async def count(self) -> str:
        return (await self.call("look")).text

    async def kinds(self) -> list[str]:
        return [call["kind"] for call in (await self.served.record(self.session))["calls"]]


@asynccontextmanager
async def playing() -> AsyncGenerator[Played]:
    counter = Counter()
    with anyio.fail_after(10):
        async with serve({"counter": counter}, clock=counter.clock) as served:
            task = {"verifier_metadata": {"city": "Zürich"}}
            yield Played(counter, served, await served.seed("counter", task))


@pytest.mark.parametrize("name", ["add", "replace", "add_in_thread", "add_and_refuse"])
async def test_success_and_tool_error_keep_the_state(name: str) -> None:
    async with playing() as played:
        outcome = await played.call(name)
        assert outcome.is_error == (name == "add_and_refuse")
        assert await played.count() == "1"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("add_and_crash", "environment_error"),
        ("add_and_exit", "environment_error"),
        ("add_and_hang", "timeout"),
    ],
)
async def test_any_other_end_keeps_the_record_alone(name: str, kind: str) -> None:
    async with playing() as played:
        assert (await played.call(name)).is_error
        assert await played.count() == "0"
        assert await played.kinds() == [kind, "ok"]


async def test_a_cancelled_call_keeps_the_record_alone() -> None:
    async with playing() as played:
        async with anyio.create_task_group() as calling:
            calling.start_soon(
                played.served.host.call_tool, "counter", played.session.token, "add_and_wait", {}
            )
            await played.counter.gate.reached.wait()
            calling.cancel_scope.cancel()
        assert await played.count() == "0"
        assert await played.kinds() == ["cancelled", "ok"]


async def test_an_abandoned_thread_changes_nothing_any_more() -> None:
    async with playing() as played:
        assert (await played.call("add", by=7)).text == "ü 7"
        assert "took longer than" in (await played.call("add_and_go_on")).text
        assert await played.count() == "7"
        played.counter.may_go_on.set()
        assert await to_thread.run_sync(played.counter.thread_ended.wait, 5)
        assert await played.count() == "7"
        record = await played.served.record(played.session)
        assert record["calls"][0]["arguments"] == {"by": 7}
        assert record["state"] == {"n": 7, "x": None}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("assign_other", "the state is a Count, not Other"),
        ("assign_nan", "come back different: x"),
        ("assign_beside", "a concurrent=True tool can't change the state"),
        ("change_beside", "a concurrent=True tool changed the state"),
        ("change_beside_and_refuse", "a concurrent=True tool changed the state"),
    ],
)
async def test_a_state_that_can_not_be_kept_is_a_crash_that_tells_the_author(
    name: str, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with playing() as played:
        await played.call("add")
        assert await played.call(name) == Outcome("The tool failed.", is_error=True)
        assert await played.count() == "1"
        assert await played.kinds() == ["ok", "environment_error", "ok"]
    (logged,) = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert logged.exc_info is not None
    assert says in str(logged.exc_info[1])


async def test_a_concurrent_tool_reads_the_state() -> None:
    async with playing() as played:
        await played.call("add")
        assert await played.call("look_beside") == Outcome("1", is_error=False)


async def test_a_state_of_another_type_fails_the_seed(caplog: pytest.LogCaptureFixture) -> None:
    async with playing() as played:
        response = await played.served.post(
            "counter", "seed_session", {"verifier_metadata": {"seed": "other"}}
        )
        assert response.status_code == 502
        assert response.json()["failure_kind"] == "environment_error"
    assert "the state must be a Count, not Other" in caplog.text


async def test_a_call_sees_every_call_before_it_as_it_was() -> None:
    async with playing() as played:
        assert played.counter.calls_during_seed == ()
        await played.call("add", by=3)
        await played.call("add_and_refuse")
        await played.call("add", by="three", town="ü")
        await played.call("add_and_crash")
        await played.call("fly", to="Zürich")
        await played.call("spoil")
        rows, metadata = json.loads((await played.call("recall")).text)
        assert metadata == {"city": "Zürich"}
        assert rows[2][:2] == ["add", {"by": "three", "town": "ü"}]  # raw, as it was sent
        assert rows[2][3].startswith("Invalid arguments for 'add': ")
        del rows[2]
        assert rows == [
            ["add", {"by": 3}, "ü 3", None, 2.5],
            ["add_and_refuse", {}, None, "no", 0.5],
            ["add_and_crash", {}, None, "The tool failed.", 0.0],
            ["fly", {"to": "Zürich"}, None, "There is no tool named 'fly'.", 0.0],
            ["spoil", {}, "null", None, 0.0],
        ]


async def test_what_verify_does_to_its_state_is_not_kept() -> None:
    async with playing() as played:
        await played.call("add")
        response = await played.served.verify(played.session)
        assert response.json()["reward"] == 1001
        assert (await played.served.record(played.session))["state"] == {"n": 1, "x": None}


async def test_two_sessions_have_a_state_each() -> None:
    async with playing() as played:
        other = await played.served.seed("counter")
        await played.call("add")
        assert (await played.served.call(other, "look")).text == "0"
