"""How a tool call runs: in its turn, on a private state, within limits, and into the record."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import pytest
from pydantic import BaseModel

from gymhost import Environment, Session, ToolError, Trajectory, tool
from gymhost.config import EnvironmentConfig
from gymhost.http.mcp import TOKEN_HEADER
from gymhost.limits import Limits
from gymhost.models import ToolOutcome
from tests.environments import Diary, Gate
from tests.faulty_store import FaultyStore
from tests.served import Seeded, Served, serve, tool_call
from tests.stores.sessions import acquire


class Book(BaseModel):
    pages: list[str] = []


class Library(Environment[Book]):
    """Each tool leaves its mark in the state before it ends in its own way."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.left = threading.Event()

    @tool
    async def keep(self, session: Session[Book], page: str) -> str:
        session.state.pages.append(page)
        return page

    @tool
    async def raise_(self, session: Session[Book]) -> str:
        session.state.pages.append("crashed")
        raise ValueError("canary")

    @tool
    async def exit_(self, session: Session[Book]) -> str:
        session.state.pages.append("exited")
        raise SystemExit(3)

    @tool(timeout=0.05)
    async def hang(self, session: Session[Book]) -> str:
        session.state.pages.append("hung")
        await anyio.sleep_forever()
        return ""

    @tool(timeout=0.05)
    def hang_in_a_thread(self, session: Session[Book]) -> str:
        session.state.pages.append("before")
        self.release.wait(10)
        session.state.pages.append("after")
        self.left.set()
        return ""

    @tool
    async def spoil(self, session: Session[Book]) -> str:
        session.state.pages.append("\ud83d")  # no store takes it
        return "spoilt"

    @tool(concurrent=True)
    async def change_beside(self, session: Session[Book]) -> str:
        session.state.pages.append("changed beside")
        return "changed"

    @tool
    async def refuse(self, session: Session[Book]) -> str:
        session.state.pages.append("refused")
        raise ToolError("refused")

    @tool
    async def pages(self, session: Session[Book]) -> str:
        return ",".join(session.state.pages)

    async def verify(self, session: Session[Book], trajectory: Trajectory) -> float:
        return float(len(session.state.pages))


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("raise_", "The tool failed.", "environment_error"),
        ("exit_", "The tool failed.", "environment_error"),
        ("spoil", "The tool failed.", "environment_error"),
        ("change_beside", "The tool failed.", "environment_error"),
        ("hang", "The tool took longer than 0.05 s and was given up.", "timeout"),
    ],
)
async def test_a_call_that_fails_leaves_a_record_and_no_trace_in_the_state(
    name: str, text: str, kind: str
) -> None:
    async with serve({"library": Library()}) as served:
        session = await served.seed("library")
        await served.call(session, "keep", page="one")
        with anyio.fail_after(5):
            failed = await served.call(session, name)
        assert (failed.is_error, failed.text) == (True, text)
        assert (await served.call(session, "pages")).text == "one"
        record = await served.record(session)
        assert [call["name"] for call in record["calls"]] == ["keep", name, "pages"]
        call = record["calls"][1]
        assert (call["kind"], call["error"], call["result"]) == (kind, text, None)
        assert record["state"] == {"pages": ["one"]}
        assert served.mount("library").counts[kind] == 1


async def test_an_abandoned_thread_can_not_change_the_state() -> None:
    library = Library()
    async with serve({"library": library}) as served:
        session = await served.seed("library")
        with anyio.fail_after(5):
            assert (await served.call(session, "hang_in_a_thread")).is_error
            library.release.set()
            await anyio.to_thread.run_sync(library.left.wait)
        assert (await served.call(session, "pages")).text == ""
        assert (await served.verify(session)).json()["reward"] == 0.0


async def test_a_tool_error_keeps_what_was_changed_before_it() -> None:
    async with serve({"library": Library()}) as served:
        session = await served.seed("library")
        assert (await served.call(session, "refuse")).text == "refused"
        assert (await served.call(session, "pages")).text == "refused"


async def test_a_call_that_the_store_does_not_take_never_happened() -> None:
    store = FaultyStore()
    async with serve({"library": Library()}, store=store) as served:
        session = await served.seed("library")
        store.fail("commit")
        outcome = await served.call(session, "keep", page="lost")
        assert (outcome.is_error, outcome.text) == (True, "The call could not be recorded.")
        store.broken.clear()
        record = await served.record(session)
        assert (record["calls"], record["state"]) == ([], {"pages": []})


async def test_a_session_that_another_process_works_on_is_busy_and_not_spoilt(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = FaultyStore()
    async with serve({"library": Library()}, store=store) as served:
        session = await served.seed("library")
        lease = await acquire(store, session.id, served.host.clock.time(), 30)
        assert lease is not None
        outcome = await served.call(session, "keep", page="one")
        assert (outcome.is_error, outcome.text) == (
            True,
            "The session can't be used at this moment. Try again in half a minute.",
        )
        assert served.mount("library").counts["over_capacity"] == 1
        assert caplog.records == []  # an agent can repeat it as often as it likes
        await store.release(lease)
        assert (await served.verify(session)).json()["reward"] == 0.0


@asynccontextmanager
async def waiting(diary: Diary, **limits: Any) -> AsyncGenerator[tuple[Served, Seeded, Callable]]:
    """A session in which one call waits at the gate, and a function that starts others."""
    config = EnvironmentConfig(plugin=diary, limits=Limits(**limits))
    async with serve({"diary": config}) as served:
        session = await served.seed("diary")
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:

                async def start(name: str, **arguments: Any) -> list[Any]:
                    outcome: list[Any] = []

                    async def call() -> None:
                        outcome.append(await served.call(session, name, **arguments))

                    tasks.start_soon(call)
                    await anyio.wait_all_tasks_blocked()
                    return outcome

                await start("wait")
                await diary.call_gate.reached.wait()
                yield served, session, start
                diary.call_gate.open()


async def test_calls_of_a_session_run_one_at_a_time_in_the_order_of_their_arrival() -> None:
    async with waiting(Diary()) as (_served, _session, start):
        outcomes = [await start("write", note=note) for note in "abc"]
        assert outcomes == [[], [], []]
    assert [each[0].text for each in outcomes] == ["waited,a", "waited,a,b", "waited,a,b,c"]


async def test_a_concurrent_tool_runs_beside_the_others() -> None:
    diary = Diary()
    async with waiting(diary) as (_served, _session, start):
        first, second = diary.call_gate, Gate()
        diary.call_gate = second
        looked = await start("look")
        second.open()
        await anyio.wait_all_tasks_blocked()
        assert [outcome.text for outcome in looked] == [""]
        diary.call_gate = first


async def test_sessions_do_not_wait_for_each_other() -> None:
    async with waiting(Diary()) as (served, _session, _start):
        other = await served.seed("diary")
        assert (await served.call(other, "write", note="meanwhile")).text == "meanwhile"


async def test_the_queue_of_a_session_is_bounded() -> None:
    async with waiting(Diary(), session_queue=2) as (served, session, start):
        queued = [await start("write", note=note) for note in "ab"]
        refused = await served.call(session, "write", note="c")
        assert (refused.is_error, "waiting" in refused.text) == (True, True)
        assert served.mount("diary").counts["session_queue"] == 1
    assert [each[0].is_error for each in queued] == [False, False]


async def test_the_calls_in_flight_of_an_environment_are_bounded() -> None:
    async with waiting(Diary(), calls_in_flight=2) as (served, _session, start):
        await start("write", note="queued")
        other = await served.seed("diary")
        refused = await served.call(other, "write", note="a")
        assert (refused.is_error, refused.text) == (
            True,
            "The server is busy. Try again in a moment.",
        )
        assert served.mount("diary").counts["over_capacity"] == 1
        use = (await served.http.get("/envs/diary")).json()["use"]
        assert use["calls_in_flight"] == 2


async def test_calls_that_run_at_once_do_not_pass_the_limit_of_a_session() -> None:
    async with waiting(Diary(), session_calls=2) as (served, session, start):
        beside = await start("look")
        refused = await served.call(session, "look")
        assert (refused.is_error, refused.text) == (
            True,
            "The session has made 2 calls, the most it may.",
        )
    assert not beside[0].is_error


async def test_a_call_does_not_start_when_its_client_has_gone_while_it_waited() -> None:
    """Seen from the socket: the server is told of the disconnect, and nothing is cancelled."""
    diary = Diary()
    async with waiting(diary) as (served, session, start):
        gone = anyio.Event()
        body = tool_call("write", {"note": "ghost"})
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            if not sent:
                sent.append(True)
                return {"type": "http.request", "body": json.dumps(body).encode()}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            pass

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/envs/diary/mcp",
            "raw_path": b"/envs/diary/mcp",
            "root_path": "",
            "query_string": b"",
            "server": ("gymhost.test", 80),
            "client": ("127.0.0.1", 1),
            "headers": [
                (b"host", b"gymhost.test"),
                (b"accept", b"application/json"),
                (b"content-type", b"application/json"),
                (TOKEN_HEADER.lower().encode(), session.token.encode()),
            ],
        }
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(served.client.app, scope, receive, send)
            await anyio.wait_all_tasks_blocked()
            behind = await start("write", note="behind")
            gone.set()
        assert served.mount("diary").counts["abandoned"] == 1
        diary.call_gate.open()
        await anyio.wait_all_tasks_blocked()
        assert behind[0].text == "waited,behind"
        assert [call["name"] for call in (await served.record(session))["calls"]] == [
            "wait",
            "write",
        ]


async def test_a_call_that_runs_goes_on_when_its_client_goes_away() -> None:
    diary = Diary()
    async with serve({"diary": diary}) as served:
        session = await served.seed("diary")
        gone = anyio.Event()
        outcomes: list[ToolOutcome] = []

        async def call() -> None:
            outcomes.append(
                await served.host.call_tool("diary", session.token, "wait", {}, gone=gone.wait)
            )

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(call)
                await diary.call_gate.reached.wait()
                gone.set()
                await anyio.wait_all_tasks_blocked()
                diary.call_gate.open()
        assert [outcome.kind for outcome in outcomes] == ["ok"]
        assert (await served.record(session))["state"] == {"notes": ["waited"]}


async def test_a_call_that_is_cancelled_is_recorded_and_keeps_nothing() -> None:
    """As a shutdown does with what does not end within its grace."""
    diary = Diary()
    async with serve({"diary": diary}) as served:
        session = await served.seed("diary")
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(served.call, session, "wait")
                await diary.call_gate.reached.wait()
                tasks.start_soon(served.call, session, "write")
                await anyio.wait_all_tasks_blocked()
                tasks.cancel_scope.cancel()
        (call,) = (await served.record(session))["calls"]
        assert (call["name"], call["kind"]) == ("wait", "cancelled")
        assert call["error"] == "The call was cancelled."
        assert (await served.record(session))["failures"] == {"cancelled": 1}
        assert (await served.call(session, "write", note="next")).text == "next"


@pytest.mark.parametrize("stays", [False, True])
async def test_the_record_of_a_cancelled_call_is_written_though_the_store_takes_its_time(
    stays: bool,
) -> None:
    store, diary = FaultyStore(), Diary()
    async with serve({"diary": diary}, store=store) as served:
        session = await served.seed("diary")
        store.gates["commit"] = gate = Gate()
        call = partial(served.host.call_tool, "diary", session.token, "wait", {}, stays=stays)
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(call)
                await diary.call_gate.reached.wait()
                tasks.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    await gate.reached.wait()
                gate.open()
        assert (await served.record(session))["failures"] == {"cancelled": 1}


async def test_the_drain_of_a_shutdown_cancels_and_records_what_does_not_end() -> None:
    diary = Diary()
    async with serve({"diary": diary}) as served:
        session = await served.seed("diary")
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:

                async def call() -> None:
                    response = await served.http.post(
                        "/envs/diary/mcp",
                        json=tool_call("wait", {}),
                        headers={"accept": "application/json", TOKEN_HEADER: session.token},
                    )
                    assert response.status_code == 503
                    assert response.json()["failure_kind"] == "over_capacity"

                tasks.start_soon(call)
                await diary.call_gate.reached.wait()
                assert await served.client.app.drain(0) == 1
        (recorded,) = (await served.record(session))["calls"]
        assert recorded["kind"] == "cancelled"
        stopping = await served.host.call_tool("diary", session.token, "write", {"note": "a"})
        assert (stopping.is_error, stopping.text) == (True, "The server is stopping.")


@pytest.mark.parametrize("end", ["verify", "close"])
async def test_calls_after_the_end_are_refused_and_not_recorded(end: str) -> None:
    async with serve({"diary": Diary()}) as served:
        session = await served.seed("diary")
        await (served.verify(session) if end == "verify" else served.close(session))
        outcome = await served.call(session, "write", note="late")
        assert (outcome.is_error, outcome.text) == (True, "The session has ended.")
        assert served.mount("diary").counts["session_ended"] == 1
        assert (await served.record(session))["calls"] == []


async def test_a_tool_that_is_not_allowed_looks_like_one_that_does_not_exist() -> None:
    async with serve({"diary": Diary()}) as served:
        session = await served.seed("diary", {"verifier_metadata": {"tools": ["write"]}})
        for name in ("crash", "look", "no_such_tool"):
            outcome = await served.call(session, name)
            assert (outcome.is_error, outcome.text) == (True, f"There is no tool named {name!r}.")
            wrong = await served.call(session, name, what=1)
            assert wrong == outcome
        record = await served.record(session)
        assert {call["kind"] for call in record["calls"]} == {"unknown_tool"}
        assert (await served.call(session, "write", note="a")).text == "a"


async def test_every_call_is_recorded_with_what_was_sent_and_answered() -> None:
    async with serve({"diary": Diary()}) as served:
        session = await served.seed("diary")
        await served.call(session, "write", note="Grüße 👋")
        (call,) = (await served.record(session))["calls"]
        assert len(call["id"]) == 32
        assert call["duration"] >= 0
        assert call["started_at"].endswith("+00:00")
        assert (call["name"], call["arguments"]) == ("write", {"note": "Grüße 👋"})
        assert (call["kind"], call["result"], call["error"]) == ("ok", "Grüße 👋", None)
        assert call["content"] == [{"type": "text", "text": "Grüße 👋"}]


async def test_a_call_of_an_environment_that_is_not_served_is_an_outcome() -> None:
    async with serve({"diary": Diary()}) as served:
        outcome = await served.host.call_tool("nowhere", "token", "write", {})
        assert (outcome.is_error, outcome.text) == (True, "'nowhere' is not served.")


@pytest.mark.parametrize("name", ["", "x" * 100_000])
async def test_what_an_agent_is_told_is_within_the_size_of_a_result(name: str) -> None:
    config = EnvironmentConfig(plugin=Diary(), limits=Limits(result_bytes=1000))
    async with serve({"diary": config}) as served:
        session = await served.seed("diary")
        for tool_name, arguments in ((name, {}), ("write", {name: 1}), ("refuse", {"why": name})):
            outcome = await served.call(session, tool_name, **arguments)
            assert outcome.is_error
            assert len(outcome.text) <= 1000


@pytest.mark.parametrize(("depth", "refused"), [(100, False), (190, False), (197, True)])
async def test_a_result_that_repeats_deep_arguments_leaves_a_readable_record(
    depth: int, refused: bool
) -> None:
    class Mirror(Library):
        @tool
        async def mirror(self, value: Any) -> dict[str, Any]:
            return {"value": {"deeper": [value]}}

    value: Any = 0
    for _ in range(depth):
        value = [value]
    async with serve({"library": Mirror()}) as served:
        session = await served.seed("library")
        outcome = await served.call(session, "mirror", value=value)
        assert outcome.is_error == refused
        if refused:
            assert outcome.text == "The result is nested too deep."
        (call,) = (await served.record(session))["calls"]
        assert call["kind"] == ("limit" if refused else "ok")
        assert (await served.verify(session)).status_code == 200  # an agent can cause it at will
