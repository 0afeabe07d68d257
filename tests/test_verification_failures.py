"""A verify that meets a close, another process, a store that fails, or a bug."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import anyio
import pytest

from gymhost.stores import Verdict
from tests.environments import Diary, Gate, Judge
from tests.faulty_store import FaultyStore
from tests.served import NO_ANSWER, serve

pytestmark = pytest.mark.usefixtures("stays")


async def test_a_bug_in_one_verify_does_not_end_the_host() -> None:
    """An error that nobody foresaw, in a task of the host's own."""
    store = FaultyStore()
    async with serve({"diary": Diary()}, store=store) as served:
        session = await served.seed("diary")
        store.broken["record_verdict"] = RuntimeError("canary")
        answer = await served.verify(session)
        assert (answer.status_code, answer.json()["failure_kind"]) == (503, "internal_error")
        assert "canary" not in answer.text
        store.broken.clear()
        assert (await served.verify(session)).status_code == 200


@pytest.mark.parametrize("verb", ["get", "acquire", "transition", "record_verdict"])
async def test_a_verify_that_the_store_does_not_take_may_be_tried_again(verb: str) -> None:
    store, diary = FaultyStore(), Diary()
    async with serve({"diary": diary}, store=store) as served:
        session = await served.seed("diary")
        store.fail(verb)
        answer = await served.verify(session)
        assert (answer.status_code, answer.json()["failure_kind"]) == (503, "store_error")
        assert diary.closed == []
        store.broken.clear()
        assert (await served.verify(session)).json()["reward"] == 0.0
    assert diary.closed == [(session.id, "verified")]


async def test_a_failed_verify_is_told_though_the_store_can_not_note_it() -> None:
    store, diary = FaultyStore(), Diary()
    diary.verify_gate, diary.reward = Gate(), ValueError("canary")
    answers: list[tuple[int, str]] = []
    async with serve({"diary": diary}, store=store) as served:
        session = await served.seed("diary")

        async def verify() -> None:
            answer = await served.verify(session)
            answers.append((answer.status_code, answer.json()["failure_kind"]))

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(verify)
                await diary.verify_gate.reached.wait()
                store.fail("transition")
                diary.verify_gate.open()
        store.broken.clear()
        assert answers == [(502, "environment_error")]
        assert (await served.call(session, "write", note="late")).is_error
        diary.reward = 1
        assert (await served.verify(session)).status_code == 200


async def test_a_verify_whose_client_goes_away_without_a_session_is_given_up() -> None:
    """There is nobody whom its score could reach, and nothing to record it in."""

    class Slow(Judge):
        def __init__(self) -> None:
            self.gate = Gate()

        async def verify(self, session: Any, trajectory: Any) -> Any:
            await self.gate.pass_through()

    judge = Slow()
    async with serve({"judge": judge}) as served:
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(served.post, "judge", "verify", {})
                await judge.gate.reached.wait()
                tasks.cancel_scope.cancel()
        assert served.mount("judge").counts == {}


async def test_the_score_of_another_process_is_the_score() -> None:
    """It was recorded after this process had read the session."""
    store, diary = FaultyStore(), Diary()
    async with serve({"diary": diary}, store=store) as served:
        session = await served.seed("diary")
        await served.call(session, "write", note="a")
        slot = await served.host.registry.by_id("diary", session.id)
        raw = json.dumps(NO_ANSWER).encode()
        verdict = Verdict(sha256(raw).digest(), b'{"reward":0.75}', None, 0.0)
        await store.record_verdict(slot.lease, verdict)
        served.mount("diary").open_sessions -= 1  # as that process would have counted
        assert (await served.verify(session)).json() == {**NO_ANSWER, "reward": 0.75}
        assert (await served.verify(session, {"another": 1})).status_code == 409
        assert diary.verifies == 0
    assert diary.closed == []


async def test_a_session_that_was_lost_in_a_crash_says_so() -> None:
    store = FaultyStore()
    async with serve({"diary": Diary()}, store=store) as served:
        session = await served.seed("diary")
        slot = await served.host.registry.by_id("diary", session.id)
        await store.transition(slot.lease, ["open"], "lost", 0.0)
        served.mount("diary").open_sessions -= 1
        answer = await served.verify(session)
        assert (answer.status_code, answer.json()["failure_kind"]) == (410, "session_lost")


async def test_a_close_that_comes_first_is_not_overtaken_by_a_verify() -> None:
    """Both wait for a running call; whoever came first decides, and close runs once."""
    diary = Diary()
    answers: dict[str, int] = {}
    async with serve({"diary": diary}) as served:
        session = await served.seed("diary")

        async def close() -> None:
            answers["close"] = (await served.close(session)).status_code

        async def verify() -> None:
            answers["verify"] = (await served.verify(session)).status_code

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(served.call, session, "wait")
                await diary.call_gate.reached.wait()
                tasks.start_soon(close)
                await anyio.wait_all_tasks_blocked()
                tasks.start_soon(verify)
                await anyio.wait_all_tasks_blocked()
                diary.call_gate.open()
        assert answers == {"close": 200, "verify": 410}
        assert diary.verifies == 0
        assert (await served.record(session))["status"] == "closed"
    assert diary.closed == [(session.id, "closed")]


async def test_a_verify_that_comes_first_is_not_undone_by_a_close() -> None:
    diary = Diary()
    diary.verify_gate = gate = Gate()
    statuses: list[str] = []
    async with serve({"diary": diary}) as served:
        session = await served.seed("diary")

        async def close() -> None:
            statuses.append((await served.close(session)).json()["status"])

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(served.verify, session)
                await gate.reached.wait()
                tasks.start_soon(close)
                await anyio.wait_all_tasks_blocked()
                assert statuses == []
                gate.open()
        assert statuses == ["verified"]
    assert diary.closed == [(session.id, "verified")]


async def test_a_verify_is_not_run_where_another_process_has_ended_the_session() -> None:
    """What this process remembers of a session is not asked, but the store."""
    diary = Diary()
    store = FaultyStore()
    async with serve({"diary": diary}, store=store) as served:
        session = await served.seed("diary")
        await served.call(session, "write", note="a")
        slot = await served.host.registry.by_id("diary", session.id)
        await store.transition(slot.lease, ["open"], "closed", 0.0)
        served.mount("diary").open_sessions -= 1  # as that process would have counted
        assert (await served.verify(session)).status_code == 410
        assert diary.verifies == 0
        assert (await served.close(session)).json()["status"] == "closed"
    assert diary.closed == []
