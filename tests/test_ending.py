"""How a session ends: closed, expired or with the process; counted once and told once."""

from __future__ import annotations

import logging
from collections.abc import Generator
from datetime import datetime
from typing import Any

import anyio
import pytest

from gymhost import hookimpl
from gymhost.config import EnvironmentConfig
from gymhost.limits import Limits
from tests.environments import Diary, Gate, Judge
from tests.faulty_store import FaultyStore
from tests.served import HandClock, Seeded, serve


async def test_close_ends_a_session_unscored_and_is_idempotent() -> None:
    diary = Diary()
    async with serve({"diary": diary}) as served:
        session = await served.seed("diary")
        for _ in range(2):
            answer = await served.close(session)
            assert answer.status_code == 200
            assert answer.json() == {"session_id": session.id, "status": "closed"}
        assert served.mount("diary").open_sessions == 0
    assert diary.closed == [(session.id, "closed")]


async def test_close_of_a_session_that_never_was_finds_none() -> None:
    async with serve({"diary": Diary()}) as served:
        answer = await served.post("diary", "close_session", {"session_id": "0" * 32})
        assert (answer.status_code, answer.json()["failure_kind"]) == (404, "session_lost")


async def test_close_of_a_verified_session_leaves_it_verified() -> None:
    diary = Diary()
    async with serve({"diary": diary}) as served:
        session = await served.seed("diary")
        await served.verify(session)
        assert (await served.close(session)).json()["status"] == "verified"
    assert diary.closed == [(session.id, "verified")]


async def test_close_of_a_session_whose_verify_failed_closes_it() -> None:
    diary = Diary()
    diary.reward = ValueError("no")
    async with serve({"diary": diary}) as served:
        session = await served.seed("diary")
        await served.verify(session)
        assert (await served.close(session)).json()["status"] == "closed"
        assert (await served.verify(session)).status_code == 410
    assert diary.closed == [(session.id, "closed")]


async def test_close_waits_for_running_calls_and_two_at_once_close_once() -> None:
    diary = Diary()
    statuses: list[str] = []
    async with serve({"diary": diary}) as served:
        session = await served.seed("diary")

        async def close() -> None:
            statuses.append((await served.close(session)).json()["status"])

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(served.call, session, "wait")
                await diary.call_gate.reached.wait()
                tasks.start_soon(served.call, session, "look")
                tasks.start_soon(close)
                tasks.start_soon(close)
                await anyio.wait_all_tasks_blocked()
                assert (diary.closed, statuses) == ([], [])
                late = await served.call(session, "write", note="late")
                assert late.text == "The session has ended."
                diary.call_gate.open()
        assert statuses == ["closed", "closed"]
        assert (await served.record(session))["state"] == {"notes": ["waited"]}
    assert diary.closed == [(session.id, "closed")]


@pytest.mark.parametrize("end", ["verify", "close"])
async def test_a_session_that_has_ended_is_any_processes_to_take_up(end: str) -> None:
    store = FaultyStore()
    async with serve({"diary": Diary()}, store=store) as served:
        session = await served.seed("diary")
        await served.call(session, "write", note="a")
        assert await store.acquire(session.id, served.host.clock.time(), 30) is None
        await getattr(served, end)(session)
        assert await store.acquire(session.id, served.host.clock.time(), 30) is not None


async def test_close_waits_for_a_concurrent_call() -> None:
    diary = Diary()
    async with serve({"diary": diary}) as served:
        session = await served.seed("diary")
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(served.call, session, "look")
                await diary.call_gate.reached.wait()
                tasks.start_soon(served.close, session)
                await anyio.wait_all_tasks_blocked()
                assert diary.closed == []
                diary.call_gate.open()
        assert (await served.record(session))["calls"][0]["kind"] == "ok"
    assert diary.closed == [(session.id, "closed")]


async def test_a_second_close_asks_nothing_of_the_store() -> None:
    """The session is out of this process's hands by then."""
    store, diary = FaultyStore(), Diary()
    diary.close_gate = gate = Gate()
    answers: list[int] = []
    async with serve({"diary": diary}, store=store) as served:
        session = await served.seed("diary")

        async def close() -> None:
            answers.append((await served.close(session)).status_code)

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(close)
                await gate.reached.wait()
                tasks.start_soon(close)
                await anyio.wait_all_tasks_blocked()
                store.fail("transition")
                gate.open()
        assert answers == [200, 200]


async def test_close_tells_how_another_process_has_ended_the_session() -> None:
    store, diary = FaultyStore(), Diary()
    async with serve({"diary": diary}, store=store) as served:
        session = await served.seed("diary")
        await served.call(session, "write", note="a")
        slot = await served.host.registry.by_id("diary", session.id)
        await store.transition(slot.lease, ["open"], "expired", 0.0)
        served.mount("diary").open_sessions -= 1  # as that process would have counted
        assert (await served.close(session)).json()["status"] == "expired"
    assert diary.closed == []


async def test_a_close_whose_client_goes_away_while_it_closes_is_whole() -> None:
    diary = Diary()
    diary.close_gate = gate = Gate()
    async with serve({"diary": diary}) as served:
        session = await served.seed("diary")
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(served.close, session)
                await gate.reached.wait()
                tasks.cancel_scope.cancel()
                gate.open()
        assert (await served.record(session))["status"] == "closed"
    assert diary.closed == [(session.id, "closed")]


async def test_a_close_whose_client_goes_away_while_it_is_stored_is_counted() -> None:
    store = FaultyStore()
    diary = Diary()
    async with serve({"diary": diary}, store=store) as served:
        session = await served.seed("diary")
        store.gates_after["transition"] = gate = Gate()
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(served.close, session)
                await gate.reached.wait()
                tasks.cancel_scope.cancel()
                gate.open()
    assert diary.closed == [(session.id, "closed")]


async def test_a_close_that_the_store_does_not_take_may_be_tried_again() -> None:
    store = FaultyStore()
    diary = Diary()
    async with serve({"diary": diary}, store=store) as served:
        session = await served.seed("diary")
        store.fail("transition")
        answer = await served.close(session)
        assert (answer.status_code, answer.json()["failure_kind"]) == (503, "store_error")
        assert diary.closed == []
        store.broken.clear()
        assert (await served.close(session)).json()["status"] == "closed"
    assert diary.closed == [(session.id, "closed")]


@pytest.mark.parametrize("how", ["raises", "hangs", "a wrapper hangs"])
async def test_a_close_hook_that_fails_changes_no_verdict(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gymhost.ending.WRAPPERS_SECONDS", 0.05)

    class Stubborn(Diary):
        async def close(self, session: Any, reason: str) -> None:
            await super().close(session, reason)
            if how == "raises":
                raise ValueError("canary")
            if how == "hangs":
                await anyio.sleep_forever()

    class Hanging:
        @hookimpl(wrapper=True)
        def close(self) -> Generator[Any, Any, None]:
            yield
            if how == "a wrapper hangs":
                yield anyio.sleep_forever()

    diary = Stubborn()
    config = EnvironmentConfig(plugin=diary, limits=Limits(close_seconds=0.05))
    async with serve({"diary": config}, extensions=[Hanging]) as served:
        scored, closed, left = [await served.seed("diary") for _ in range(3)]
        with anyio.fail_after(5):
            assert (await served.verify(scored)).json()["reward"] == 0.0
            assert (await served.close(closed)).json()["status"] == "closed"
        assert served.mount("diary").counts["close_failed"] == 2
        assert (await served.verify(scored)).status_code == 200
    assert diary.closed == [(scored.id, "verified"), (closed.id, "closed"), (left.id, "shutdown")]


@pytest.mark.parametrize(
    ("used", "seconds", "expired"),
    [
        (False, 599, False),
        (False, 600, True),
        (True, 3_599, False),
        (True, 3_600, True),
    ],
)
@pytest.mark.parametrize("noticed", ["by maintenance", "by a call"])
async def test_sessions_that_nobody_uses_expire(
    used: bool, seconds: float, expired: bool, noticed: str
) -> None:
    clock, diary = HandClock(), Diary()
    async with serve({"diary": diary}, clock=clock) as served:
        session = await served.seed("diary")
        if used:
            await served.call(session, "write", note="a")
        clock.now += seconds
        if noticed == "by maintenance":
            await served.host.maintain()
        outcome = await served.call(session, "write", note="b")
        assert outcome.is_error == expired
        assert (await served.record(session))["status"] == ("expired" if expired else "open")
        counts = (await served.http.get("/envs/diary")).json()["counts"]
        assert counts.get("session_expired") == (1 if expired else None)
        assert served.mount("diary").open_sessions == int(not expired)
        await served.host.maintain()
        assert diary.closed == ([(session.id, "expired")] if expired else [])
    assert len(diary.closed) == 1


async def test_a_session_expires_after_its_total_time_though_it_is_used() -> None:
    clock, diary = HandClock(), Diary()
    async with serve({"diary": diary}, clock=clock) as served:
        session = await served.seed("diary")
        for _ in range(28):
            assert not (await served.call(session, "write", note="a")).is_error
            clock.now += 3_100
        assert (await served.call(session, "write", note="a")).text == "The session has ended."
    assert diary.closed == [(session.id, "expired")]


async def test_seed_says_when_an_unused_session_expires() -> None:
    clock = HandClock()
    async with serve({"diary": Diary()}, clock=clock) as served:
        answer = await served.post("diary", "seed_session", {})
        assert datetime.fromisoformat(answer.json()["expires_at"]).timestamp() == clock.now + 600


@pytest.mark.parametrize("busy", ["call", "verify"])
async def test_what_runs_holds_off_the_expiry(busy: str) -> None:
    clock, diary = HandClock(), Diary()
    diary.verify_gate = diary.call_gate
    answers: list[Any] = []
    async with serve({"diary": diary}, clock=clock) as served:
        session = await served.seed("diary")

        async def run() -> None:
            if busy == "call":
                answers.append((await served.call(session, "wait")).is_error)
            else:
                answers.append((await served.verify(session)).status_code != 200)

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(run)
                await diary.call_gate.reached.wait()
                clock.now += 4_000
                await served.host.maintain()
                assert diary.closed == []
                diary.call_gate.open()
        assert answers == [False]


async def test_a_call_beside_one_that_runs_does_not_expire_the_session() -> None:
    clock, diary = HandClock(), Diary()
    async with serve({"diary": diary}, clock=clock) as served:
        session = await served.seed("diary")
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(served.call, session, "wait")
                await diary.call_gate.reached.wait()
                clock.now += 601
                tasks.start_soon(served.call, session, "look")
                await anyio.wait_all_tasks_blocked()
                diary.call_gate.open()
        kinds = [call["kind"] for call in (await served.record(session))["calls"]]
        assert kinds == ["ok", "ok"]


@pytest.mark.parametrize("second", ["verify", "close", "call"])
async def test_what_comes_while_a_call_expires_its_session_ends_it_no_second_time(
    second: str,
) -> None:
    """The store has been asked, and has not answered yet."""
    clock, store, diary = HandClock(), FaultyStore(), Diary()
    answers: list[Any] = []
    async with serve({"diary": diary}, clock=clock, store=store) as served:
        session = await served.seed("diary")
        await served.call(session, "write", note="a")
        clock.now += 3_601
        store.gates["transition"] = gate = Gate()

        async def come() -> None:
            if second == "call":
                answers.append((await served.call(session, "write", note="b")).text)
            else:
                answer = await getattr(served, second)(session)
                answers.append(answer.json().get("reward") or answer.json()["status"])

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(served.call, session, "write")
                await gate.reached.wait()
                tasks.start_soon(come)
                await anyio.wait_all_tasks_blocked()
                gate.open()
        expected = {"verify": 1.0, "close": "expired", "call": "The session has ended."}
        assert answers == [expected[second]]
        assert served.mount("diary").open_sessions == 0
    assert diary.closed == [(session.id, "expired")]


async def test_expired_sessions_are_closed_side_by_side_though_some_hang() -> None:
    class Choosy(Diary):
        async def close(self, session: Any, reason: str) -> None:
            await super().close(session, reason)
            if session.task.extra.get("hangs"):
                await anyio.sleep_forever()

    clock, diary = HandClock(), Choosy()
    config = EnvironmentConfig(plugin=diary, limits=Limits(close_seconds=1))
    async with serve({"diary": config, "other": Diary()}, clock=clock) as served:
        for number in range(20):
            await served.seed("diary", {"hangs": number % 2 == 0})
        await served.seed("other")
        clock.now += 601
        with anyio.fail_after(5):  # one after the other, they would take ten seconds
            await served.host.maintain()
        assert len(diary.closed) == 20
        assert served.mount("diary").counts["close_failed"] == 10


async def test_sessions_of_an_environment_that_keeps_nothing_expire_and_close_too() -> None:
    clock = HandClock()
    async with serve({"judge": Judge()}, clock=clock) as served:
        session, closed = await served.seed("judge"), await served.seed("judge")
        assert (await served.close(closed)).json()["status"] == "closed"
        clock.now += 601
        await served.host.maintain()
        assert (await served.record(session))["status"] == "expired"
        assert served.mount("judge").open_sessions == 0


async def test_a_close_is_not_lost_when_the_calls_can_not_be_read() -> None:
    clock, store, diary = HandClock(), FaultyStore(), Diary()
    async with serve({"diary": diary}, clock=clock, store=store) as served:
        sessions = [await served.seed("diary") for _ in range(3)]
        clock.now += 601
        store.fail("calls")
        await served.host.maintain()
        store.broken.clear()
        assert served.mount("diary").open_sessions == 0
    assert sorted(diary.closed) == sorted((session.id, "expired") for session in sessions)


async def test_a_close_that_is_cancelled_with_the_maintenance_has_not_failed() -> None:
    clock, diary = HandClock(), Diary()
    diary.close_gate = gate = Gate()
    async with serve({"diary": diary}, clock=clock) as served:
        await served.seed("diary")
        clock.now += 601
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(served.host.maintain)
                await gate.reached.wait()
                tasks.cancel_scope.cancel()
        assert "close_failed" not in served.mount("diary").counts


async def test_ended_sessions_are_kept_until_their_retention() -> None:
    clock = HandClock()
    async with serve({"diary": Diary()}, clock=clock) as served:
        session = await served.seed("diary")
        await served.close(session)
        clock.now += 86_400
        await served.host.maintain()
        assert (await served.record(session))["status"] == "closed"
        clock.now += 1
        await served.host.maintain()
        response = await served.http.get(f"/sessions/{session.id}")
        assert (response.status_code, response.json()["failure_kind"]) == (404, "session_lost")


async def test_each_end_tells_its_own_reason_once() -> None:
    clock, diary = HandClock(), Diary()
    async with serve({"diary": diary}, clock=clock) as served:
        expired = await served.seed("diary")
        clock.now += 601
        await served.host.maintain()
        verified, closed, left, failed = [await served.seed("diary") for _ in range(4)]
        await served.verify(verified)
        await served.close(closed)
        diary.reward = ValueError("no")
        await served.verify(failed)
    reasons = dict(diary.closed)
    assert len(diary.closed) == len(reasons) == 5
    assert reasons == {
        expired.id: "expired",
        verified.id: "verified",
        closed.id: "closed",
        left.id: "shutdown",
        failed.id: "shutdown",
    }


async def test_close_sees_the_state_and_the_calls(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Any] = []

    class Seeing(Diary):
        async def close(self, session: Any, reason: str) -> None:
            names = [call.name for call in session.calls]
            seen.append((reason, session.state.notes, names, session.task.extra))

    clock = HandClock()
    caplog.set_level(logging.INFO)
    async with serve({"diary": Seeing()}, clock=clock) as served:

        async def session() -> Seeded:
            seeded = await served.seed("diary", {"id": 7})
            await served.call(seeded, "write", note="a")
            return seeded

        await session()
        clock.now += 3_601
        await served.host.maintain()
        await served.close(await session())
        await served.verify(await session())
        await session()
    expected = (["a"], ["write"], {"id": 7})
    assert seen == [(why, *expected) for why in ("expired", "closed", "verified", "shutdown")]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
