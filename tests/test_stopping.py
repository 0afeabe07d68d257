"""How a host stops: sessions first, then environments; whatever is under way, hangs or fails."""

from __future__ import annotations

from typing import Any

import anyio
import httpx2
import pytest

from gymhost import Session, ToolCall, hookimpl, testing
from gymhost.errors import StoreError
from gymhost.host import Host
from gymhost.http.mcp import TOKEN_HEADER
from tests.environments import Diary, Gate
from tests.faulty_store import FaultyStore
from tests.served import HandClock, Seeded, Served, serve, tool_call


async def note(answers: list[tuple[int, str]], send: Any, *arguments: Any) -> None:
    """Note how a request is refused."""
    answer = await send(*arguments)
    answers.append((answer.status_code, answer.json()["failure_kind"]))


async def send_call(served: Served, session: Seeded, **params: Any) -> httpx2.Response:
    """Call the tool that waits, over MCP."""
    message = tool_call("wait", {})
    message["params"].update(params)
    headers = {"accept": "application/json", TOKEN_HEADER: session.token}
    return await served.http.post("/envs/diary/mcp", json=message, headers=headers)


async def test_a_stop_closes_sessions_in_memory_before_the_environment_shuts_down() -> None:
    order: list[str] = []

    class Ordered(Diary):
        async def close(self, session: Any, reason: str) -> None:
            order.append(reason)

        async def shutdown(self) -> None:
            order.append("environment")

    async with serve({"ordered": Ordered()}) as served:
        for _ in range(3):
            await served.seed("ordered")
    assert order == ["shutdown"] * 3 + ["environment"]


async def test_a_stop_leaves_the_sessions_of_a_durable_store_open() -> None:
    store, diary = FaultyStore(), Diary()
    store.durable = True
    async with serve({"diary": diary}, store=store) as served:
        session = await served.seed("diary")
        await served.call(session, "write", note="a")
        ended = await served.seed("diary")
        await served.verify(ended)
    assert diary.closed == [(ended.id, "verified")]
    # another process goes on: the session is counted there, and the lease is free
    async with serve({"diary": diary}, store=store) as served:
        assert served.mount("diary").open_sessions == 1
        assert (await served.call(session, "write", note="b")).text == "a,b"
        assert (await served.verify(session)).json()["reward"] == 2.0
        assert served.mount("diary").open_sessions == 0
    assert diary.closed == [(ended.id, "verified"), (session.id, "verified")]


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("stays", [False], indirect=True)  # in ours, the drain has cancelled them
async def test_a_stop_cancels_the_verifies_in_flight_and_says_so(
    durable: bool, stays: bool
) -> None:
    """The close hook does not run beside the verify, and the run does not hold up the stop."""
    store, diary = FaultyStore(), Diary()
    store.durable = durable
    diary.verify_gate = Gate()
    answers: list[tuple[int, str]] = []
    async with serve({"diary": diary}, store=store) as served:
        session = await served.seed("diary")

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(note, answers, served.verify, session)
                await diary.verify_gate.reached.wait()
                tasks.start_soon(note, answers, served.verify, session, {"another": 1})
                await anyio.wait_all_tasks_blocked()
                await served.host.stop()
        expected = (503, "over_capacity")
        # what waited for the run finds no session, where sessions go with the process
        assert sorted(answers, reverse=True) in (
            [expected] * 2,
            [expected, (410, "session_closed")],
        )
        row = await store.get(session.id)
        assert row is not None
        assert row.status == ("verify_failed" if durable else "closed")
    assert diary.closed == ([] if durable else [(session.id, "shutdown")])


async def test_a_verify_that_outlives_the_grace_is_cancelled_and_may_be_sent_again(
    stays: bool,
) -> None:
    store, diary = FaultyStore(), Diary()
    store.durable = True
    diary.verify_gate = Gate()
    answers: list[tuple[int, str]] = []
    async with serve({"diary": diary}, store=store) as served:
        session = await served.seed("diary")

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(note, answers, served.verify, session)
                await diary.verify_gate.reached.wait()
                tasks.start_soon(note, answers, served.verify, session)  # joins it
                await anyio.wait_all_tasks_blocked()
                assert await served.client.app.drain(0) == 2
                await served.host.stop()
    assert answers == [(503, "over_capacity")] * 2
    assert diary.closed == []
    diary.verify_gate.open()
    async with serve({"diary": diary}, store=store) as served:
        assert (await served.verify(session)).json()["reward"] == 0.0


@pytest.mark.usefixtures("stays")
async def test_a_call_that_outlives_the_grace_is_cancelled_and_the_next_never_starts() -> None:
    store, diary = FaultyStore(), Diary()
    store.durable = True
    answers: list[tuple[int, str]] = []
    async with serve({"diary": diary}, store=store) as served:
        session = await served.seed("diary")

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(note, answers, send_call, served, session)
                await diary.call_gate.reached.wait()
                tasks.start_soon(note, answers, send_call, served, session)
                await anyio.wait_all_tasks_blocked()
                assert await served.client.app.drain(0) == 2
    assert answers == [(503, "over_capacity")] * 2
    row = await store.get(session.id)
    assert row is not None
    assert (row.status, row.counts) == ("open", {"cancelled": 1})


class Hangs:
    """Wraps calls, and lets none begin."""

    def __init__(self) -> None:
        self.reached = anyio.Event()

    @hookimpl(wrapper=True)
    def call_tool(self, session: Session[Any], call: ToolCall) -> Any:
        self.reached.set()
        yield anyio.sleep_forever()
        return (yield)


@pytest.mark.usefixtures("stays")
async def test_a_wrapper_that_outlives_the_grace_is_cancelled_with_its_call() -> None:
    store, wrapper, answers = FaultyStore(), Hangs(), list[tuple[int, str]]()
    store.durable = True
    async with serve({"diary": Diary()}, extensions=[wrapper], store=store) as served:
        session = await served.seed("diary")
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(note, answers, send_call, served, session)
                await wrapper.reached.wait()
                assert await served.client.app.drain(0) == 1
    assert answers == [(503, "over_capacity")]
    row = await store.get(session.id)
    assert row is not None
    assert row.counts == {"cancelled": 1}


@pytest.mark.usefixtures("stays")
async def test_a_seed_that_outlives_the_grace_is_cancelled_and_leaves_nothing() -> None:
    diary = Diary()
    diary.seed_gate = gate = Gate()
    answers: list[tuple[int, str]] = []
    async with serve({"diary": diary}) as served:
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(note, answers, served.post, "diary", "seed_session", {})
                await gate.reached.wait()
                assert await served.client.app.drain(0) == 1
        assert served.mount("diary").open_sessions == 0
        assert not served.mount("diary").counts["environment_error"]
    assert answers == [(503, "over_capacity")]


async def test_a_call_that_only_the_sdk_understands_is_interrupted_as_a_failed_one() -> None:
    """Nothing of it may be let through the SDK as it is."""
    diary, answers = Diary(), list[Any]()
    async with serve({"diary": diary}) as served:
        session = await served.seed("diary")
        served.client.app.requests_stay = True

        async def send() -> None:
            answer = await send_call(served, session, _meta={"of another": "client"})
            answers.append(answer.json()["result"])

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(send)
                await diary.call_gate.reached.wait()
                assert await served.client.app.drain(0) == 1
        assert (await served.record(session))["calls"][0]["kind"] == "cancelled"
    (result,) = answers
    assert result["isError"]
    assert result["content"][0]["text"] == "The server is stopping."


async def test_a_verify_in_a_task_of_its_own_is_interrupted_with_the_requests_that_stay() -> None:
    """As where a proxy's prefix is left on the path."""
    diary = Diary()
    diary.verify_gate = Gate()
    async with serve({"diary": diary}) as served:
        session = await served.seed("diary")
        answers: list[int] = []

        async def verify() -> None:
            answers.append((await served.verify(session)).status_code)

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(verify)
                await diary.verify_gate.reached.wait()
                served.host.interrupt()
        assert answers == [503]
        assert (await served.http.get("/healthz")).status_code == 200


async def test_a_stop_waits_for_the_call_that_runs_in_a_session_before_it_closes_it() -> None:
    diary = Diary()
    async with serve({"diary": diary}) as served:
        session = await served.seed("diary")
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(served.call, session, "wait")
                await diary.call_gate.reached.wait()
                tasks.start_soon(served.host.stop)
                await anyio.wait_all_tasks_blocked()
                assert diary.closed == []
                diary.call_gate.open()
        assert (await served.record(session))["calls"][0]["kind"] == "ok"
    assert diary.closed == [(session.id, "shutdown")]


async def test_a_seed_that_ends_after_the_stop_begins_no_session() -> None:
    diary = Diary()
    diary.seed_gate = gate = Gate()
    answers: list[int] = []
    async with serve({"diary": diary}) as served:

        async def seed() -> None:
            answers.append((await served.post("diary", "seed_session", {})).status_code)

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(seed)
                await gate.reached.wait()
                await served.host.stop()
                gate.open()
        assert answers == [503]


async def test_a_verify_that_is_still_on_its_way_when_the_host_stops_does_not_begin() -> None:
    store, diary = FaultyStore(), Diary()
    store.durable = True
    answers: list[int] = []
    async with serve({"diary": diary}, store=store) as served:
        session = await served.seed("diary")
        store.gates["acquire"] = gate = Gate()

        async def verify() -> None:
            answers.append((await served.verify(session)).status_code)

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(verify)
                await gate.reached.wait()
                await served.host.stop()
                gate.open()
        assert (answers, diary.verifies) == ([503], 0)


async def test_a_stop_finishes_the_expiry_that_is_under_way() -> None:
    """What is marked as expired is closed before the environment shuts down, and once."""

    class Ordered(Diary):
        async def shutdown(self) -> None:
            self.closed.append(("environment", "shutdown"))

    clock, diary = HandClock(), Ordered()
    diary.close_gate = gate = Gate()
    async with serve({"diary": diary}, clock=clock) as served:
        sessions = [await served.seed("diary") for _ in range(100)]
        clock.now += 601
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(served.host.maintain)
                await gate.reached.wait()
                tasks.start_soon(served.host.stop)
                await anyio.wait_all_tasks_blocked()
                gate.open()
    assert diary.closed.pop() == ("environment", "shutdown")
    assert sorted(diary.closed) == sorted((session.id, "expired") for session in sessions)


@pytest.mark.parametrize("verb", ["list", "transition", "get", "acquire", "aclose"])
async def test_a_store_that_fails_during_the_stop_does_not_keep_environments_from_it(
    verb: str,
) -> None:
    stopped: list[bool] = []

    class Stopping(Diary):
        async def shutdown(self) -> None:
            stopped.append(True)

    store = FaultyStore()
    async with testing.client({"stopping": Stopping()}, store=store) as client:
        await client.seed("stopping")
        store.fail(verb)
    assert stopped == [True]


async def test_a_stop_gives_up_what_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gymhost.host.SESSIONS_SECONDS", 0.05)
    monkeypatch.setattr("gymhost.host.ENVIRONMENTS_SECONDS", 0.05)
    monkeypatch.setattr("gymhost.host.STORE_SECONDS", 0.05)
    stopped: list[str] = []

    class Hanging(Diary):
        async def shutdown(self) -> None:
            stopped.append("hanging")
            await anyio.sleep_forever()

    class Fine(Diary):
        async def shutdown(self) -> None:
            stopped.append("fine")

    store = FaultyStore()
    with anyio.fail_after(5):
        async with testing.client({"hanging": Hanging(), "fine": Fine()}, store=store) as client:
            await client.seed("fine")
            store.gates["list"] = store.gates["aclose"] = Gate()
    assert sorted(stopped) == ["fine", "hanging"]


async def test_a_host_that_can_not_start_stops_what_it_has_started() -> None:
    stopped: list[bool] = []

    class Stopping(Diary):
        async def shutdown(self) -> None:
            stopped.append(True)

    store = FaultyStore()
    store.fail("counts")
    with anyio.fail_after(5):
        with pytest.raises(StoreError):
            async with Host({"stopping": Stopping()}, discover=False, store=store):
                pytest.fail("it started")
    assert stopped == [True]


async def test_a_host_that_is_cancelled_while_it_starts_leaves_nothing_behind() -> None:
    gate = Gate()
    stopped: list[bool] = []

    class Slow(Diary):
        async def startup(self) -> None:
            await gate.pass_through()

    class Quick(Diary):
        async def shutdown(self) -> None:
            stopped.append(True)

    async def start() -> None:
        async with Host({"slow": Slow(), "quick": Quick()}, discover=False):
            pytest.fail("it started")

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(start)
            await gate.reached.wait()
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
    assert stopped == [True]


async def test_a_host_that_is_cancelled_while_it_serves_closes_and_shuts_down() -> None:
    order: list[str] = []

    class Ordered(Diary):
        async def close(self, session: Any, reason: str) -> None:
            await anyio.lowlevel.checkpoint()
            order.append(reason)

        async def shutdown(self) -> None:
            await anyio.lowlevel.checkpoint()
            order.append("environment")

    with anyio.fail_after(5):
        with anyio.CancelScope() as scope:
            async with Host({"ordered": Ordered()}, discover=False) as host:
                await host.seed("ordered", {}, b"")
                scope.cancel()
                await anyio.sleep_forever()
    assert order == ["shutdown", "environment"]


async def test_a_stop_leaves_uncounted_what_another_host_serves() -> None:
    store = FaultyStore()
    store.durable = True
    async with serve({"diary": Diary(), "other": Diary()}, store=store) as served:
        await served.seed("diary")
        await served.seed("other")
    async with testing.client({"diary": Diary()}, store=store) as client:
        assert {name: mount.open_sessions for name, mount in client.host.mounts.items()} == {
            "diary": 1
        }


async def test_a_stop_closes_more_sessions_than_the_store_lists_at_once() -> None:
    diary = Diary()
    async with serve({"diary": diary}) as served:
        for _ in range(1001):
            await served.host.seed("diary", {}, b"")
    assert [reason for _, reason in diary.closed] == ["shutdown"] * 1001
