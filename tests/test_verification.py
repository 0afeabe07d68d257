"""How an attempt is scored: the life of a verify, whoever sends it and whatever comes between."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from gymhost.config import EnvironmentConfig
from gymhost.limits import Limits
from tests.environments import Diary, Gate, Judge
from tests.served import NO_ANSWER, HandClock, serve

pytestmark = pytest.mark.usefixtures("stays")

OTHER_BODY = {"response": {"output": []}, "second": True}


async def test_a_session_is_scored_once_and_closed_as_verified() -> None:
    diary = Diary()
    async with serve({"diary": diary}) as served:
        session = await served.seed("diary")
        await served.call(session, "write", note="a")
        answer = await served.verify(session)
        assert answer.status_code == 200
        assert answer.json() == {**NO_ANSWER, "reward": 1.0}
        assert diary.closed == [(session.id, "verified")]
        assert (await served.record(session))["status"] == "verified"
        assert served.mount("diary").open_sessions == 0
    assert diary.closed == [(session.id, "verified")]


async def test_the_same_body_gets_the_recorded_score_without_another_run() -> None:
    diary = Diary()
    async with serve({"diary": diary}) as served:
        session = await served.seed("diary")
        first = await served.verify(session)
        diary.reward = 7
        again = await served.verify(session)
        assert (again.status_code, again.content) == (200, first.content)
        assert diary.verifies == 1


async def test_a_different_body_after_a_score_is_a_conflict_that_names_the_session() -> None:
    async with serve({"diary": Diary()}) as served:
        session = await served.seed("diary")
        await served.verify(session)
        answer = await served.verify(session, OTHER_BODY)
        assert answer.status_code == 409
        assert answer.json()["failure_kind"] == "already_verified"
        assert answer.json()["session_id"] == session.id


async def test_the_body_is_known_by_its_bytes() -> None:
    """The same JSON in other bytes is another body."""
    async with serve({"diary": Diary()}) as served:
        session = await served.seed("diary")
        await served.verify(session, b'{"a":1}')
        assert (await served.verify(session, b'{"a": 1}')).status_code == 409


async def test_the_same_body_joins_the_run_in_flight() -> None:
    diary = Diary()
    diary.verify_gate = Gate()
    answers: list[bytes] = []
    async with serve({"diary": diary}) as served:
        session = await served.seed("diary")

        async def verify() -> None:
            answers.append((await served.verify(session)).content)

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                for _ in range(5):
                    tasks.start_soon(verify)
                await diary.verify_gate.reached.wait()
                await anyio.wait_all_tasks_blocked()
                diary.verify_gate.open()
        assert diary.verifies == 1
        assert answers == [json.dumps(NO_ANSWER).encode()[:-1] + b',"reward":0.0}'] * 5


async def test_all_who_joined_a_run_that_fails_get_its_error() -> None:
    diary = Diary()
    diary.verify_gate, diary.reward = Gate(), ValueError("canary")
    answers: list[tuple[int, str]] = []
    async with serve({"diary": diary}) as served:
        session = await served.seed("diary")

        async def verify() -> None:
            answer = await served.verify(session)
            answers.append((answer.status_code, answer.json()["failure_kind"]))

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(verify)
                await diary.verify_gate.reached.wait()
                await anyio.wait_all_tasks_blocked()
                diary.verify_gate.open()
        assert diary.verifies == 1
        assert answers == [(502, "environment_error")] * 3


@pytest.mark.parametrize("first_scores", [True, False])
async def test_a_different_body_waits_for_the_run_in_flight(first_scores: bool) -> None:
    """It is then refused, where the first scored, and runs, where it failed."""
    diary = Diary()
    diary.verify_gate = gate = Gate()
    diary.reward = 1 if first_scores else ValueError("no")
    statuses: dict[str, int] = {}
    async with serve({"diary": diary}) as served:
        session = await served.seed("diary")

        async def verify(name: str, body: Any) -> None:
            statuses[name] = (await served.verify(session, body)).status_code

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(verify, "first", NO_ANSWER)
                await gate.reached.wait()
                tasks.start_soon(verify, "second", OTHER_BODY)
                await anyio.wait_all_tasks_blocked()
                assert diary.verifies == 1
                gate.open()
        if first_scores:
            assert statuses == {"first": 200, "second": 409}
            assert diary.verifies == 1
        else:
            assert statuses == {"first": 502, "second": 502}
            assert diary.verifies == 2


async def test_a_failed_verify_leaves_the_tools_shut_and_any_later_one_may_score() -> None:
    diary = Diary()
    async with serve({"diary": diary}) as served:
        session = await served.seed("diary")
        diary.reward = ValueError("canary")
        failed = await served.verify(session)
        assert (failed.status_code, failed.json()["mask_sample"]) == (502, True)
        assert (await served.record(session))["status"] == "verify_failed"
        shut = await served.call(session, "write", note="late")
        assert shut.is_error
        assert shut.text == "The attempt was submitted: its tools are shut."
        assert (await served.verify(session, OTHER_BODY)).status_code == 502
        diary.reward = 3
        scored = await served.verify(session, {"third": True})
        assert (scored.status_code, scored.json()["reward"]) == (200, 3.0)
        assert (await served.verify(session)).status_code == 409
        assert diary.closed == [(session.id, "verified")]
        assert (await served.record(session))["calls"] == []


async def test_a_failed_session_keeps_its_tools_shut_when_it_is_taken_up_again() -> None:
    clock = HandClock()
    diary = Diary()
    async with serve({"diary": diary}, clock=clock) as served:
        session = await served.seed("diary")
        diary.reward = ValueError("no")
        await served.verify(session)
        clock.now += 31
        await served.host.maintain()  # gives the lease back
        assert (await served.call(session, "write", note="late")).is_error
        diary.reward = 1
        assert (await served.verify(session)).status_code == 200


async def test_verify_waits_for_running_calls_and_refuses_those_that_wait() -> None:
    diary = Diary()
    outcomes: dict[str, Any] = {}
    async with serve({"diary": diary}) as served:
        session = await served.seed("diary")

        async def call(key: str, tool: str, **arguments: Any) -> None:
            outcomes[key] = await served.call(session, tool, **arguments)

        async def verify() -> None:
            outcomes["reward"] = (await served.verify(session)).json()["reward"]

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(call, "running", "wait")
                await diary.call_gate.reached.wait()
                tasks.start_soon(call, "beside", "look")
                tasks.start_soon(call, "queued", "write")
                await anyio.wait_all_tasks_blocked()
                tasks.start_soon(verify)
                await anyio.wait_all_tasks_blocked()
                assert diary.verifies == 0
                await call("late", "write", note="late")
                diary.call_gate.open()
        assert outcomes["running"].text == "waited"
        assert not outcomes["beside"].is_error
        assert outcomes["queued"].text == outcomes["late"].text == "The session has ended."
        assert outcomes["reward"] == 1.0  # the running call's note was there to see


@pytest.mark.parametrize("stays", [False], indirect=True)
async def test_a_verify_goes_on_when_its_client_goes_away() -> None:
    diary = Diary()
    diary.verify_gate = gate = Gate()
    async with serve({"diary": diary}) as served:
        session = await served.seed("diary")
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(served.verify, session)
                await gate.reached.wait()
                tasks.cancel_scope.cancel()
            gate.open()
            answer = await served.verify(session)
        assert (answer.status_code, answer.json()["reward"]) == (200, 0.0)
        assert diary.verifies == 1


@pytest.mark.parametrize("stays", [False], indirect=True)
async def test_a_verify_whose_client_goes_away_while_it_waits_for_a_call_still_runs() -> None:
    diary = Diary()
    async with serve({"diary": diary}) as served:
        session = await served.seed("diary")
        with anyio.fail_after(5):
            async with anyio.create_task_group() as calls:
                calls.start_soon(served.call, session, "wait")
                await diary.call_gate.reached.wait()
                async with anyio.create_task_group() as verifying:
                    verifying.start_soon(served.verify, session)
                    await anyio.wait_all_tasks_blocked()
                    verifying.cancel_scope.cancel()
                diary.call_gate.open()
            answer = await served.verify(session)
        assert (answer.json()["reward"], diary.verifies) == (1.0, 1)


async def test_verify_without_a_seed_finds_no_session() -> None:
    async with serve({"diary": Diary()}) as served:
        answer = await served.post("diary", "verify", {"session_id": "0" * 32})
        assert (answer.status_code, answer.json()["failure_kind"]) == (404, "session_lost")
        unnamed = await served.post("diary", "verify", {})
        assert (unnamed.status_code, unnamed.json()["failure_kind"]) == (422, "invalid_request")


async def test_another_environments_session_can_not_be_verified() -> None:
    async with serve({"diary": Diary(), "other": Diary()}) as served:
        session = await served.seed("diary")
        for _ in range(2):  # unknown to the process, and known to it
            answer = await served.post("other", "verify", {"session_id": session.id})
            assert (answer.status_code, answer.json()["failure_kind"]) == (404, "session_lost")
            await served.call(session, "write", note="a")


async def test_verify_after_close_says_that_the_session_was_closed() -> None:
    diary = Diary()
    async with serve({"diary": diary}) as served:
        session = await served.seed("diary")
        await served.close(session)
        answer = await served.verify(session)
        assert (answer.status_code, answer.json()["failure_kind"]) == (410, "session_closed")
        assert diary.verifies == 0


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({}, 200),
        ({"verifier_metadata": None}, 200),
        ({"verifier_metadata": {"notes": ["Zürich"]}}, 200),
        ({"verifier_metadata": {"notes": ["Zurich"]}}, 409),
        ({"verifier_metadata": {}}, 409),
        ({"verifier_metadata": []}, 409),
        ({"verifier_metadata": "notes"}, 409),
    ],
)
async def test_the_seeded_task_rules(sent: dict[str, Any], status: int) -> None:
    diary = Diary()
    async with serve({"diary": diary}) as served:
        session = await served.seed("diary", {"verifier_metadata": {"notes": ["Zürich"]}})
        answer = await served.verify(session, sent)
        assert answer.status_code == status
        if status == 409:
            assert answer.json()["failure_kind"] == "task_mismatch"
            assert not (await served.call(session, "write", note="still open")).is_error
            assert (await served.verify(session)).json()["reward"] == 2.0


async def test_an_expired_session_is_verified_without_being_closed_twice() -> None:
    clock = HandClock()
    diary = Diary()
    async with serve({"diary": diary}, clock=clock) as served:
        session = await served.seed("diary")
        clock.now += 601
        await served.host.maintain()
        assert diary.closed == [(session.id, "expired")]
        answer = await served.verify(session)
        assert answer.status_code == 200
        assert (await served.record(session))["status"] == "verified"
        assert (await served.verify(session)).content == answer.content
    assert diary.closed == [(session.id, "expired")]


async def test_an_expired_session_whose_verify_fails_stays_expired() -> None:
    """It was counted and closed when it expired: neither may happen again."""
    clock = HandClock()
    diary = Diary()
    async with serve({"diary": diary}, clock=clock) as served:
        session = await served.seed("diary")
        clock.now += 601
        await served.host.maintain()
        diary.reward = ValueError("no")
        assert (await served.verify(session)).status_code == 502
        assert (await served.record(session))["status"] == "expired"
        assert (await served.call(session, "write", note="late")).is_error
        clock.now += 31
        await served.host.maintain()
        diary.reward = 1
        assert (await served.verify(session)).status_code == 200
        assert (await served.close(session)).json()["status"] == "verified"
    assert diary.closed == [(session.id, "expired")]


async def test_a_session_that_is_past_its_retention_is_lost() -> None:
    clock = HandClock()
    async with serve({"diary": Diary()}, clock=clock) as served:
        session = await served.seed("diary")
        await served.verify(session)
        clock.now += 86_401
        await served.host.maintain()
        answer = await served.verify(session)
        assert (answer.status_code, answer.json()["failure_kind"]) == (404, "session_lost")


async def test_a_verify_that_takes_too_long_is_a_timeout_and_may_be_tried_again() -> None:
    diary = Diary()
    diary.verify_gate = Gate()
    config = EnvironmentConfig(plugin=diary, limits=Limits(verify_seconds=0.05))
    async with serve({"diary": config}) as served:
        session = await served.seed("diary")
        with anyio.fail_after(5):
            answer = await served.verify(session)
        assert (answer.status_code, answer.json()["failure_kind"]) == (504, "environment_timeout")
        assert served.mount("diary").counts["environment_timeout"] == 1
        diary.verify_gate = None
        assert (await served.verify(session)).status_code == 200


async def test_a_stateless_environment_scores_a_stored_rollout_without_a_session() -> None:
    body = {
        "verifier_metadata": {"answer": "Grüße"},
        "response": {"output": [{"role": "assistant", "content": "Grüße"}]},
    }
    async with serve({"judge": Judge()}) as served:
        answer = await served.post("judge", "verify", body)
        assert answer.status_code == 200
        assert answer.json() == {**body, "reward": 1.0, "calls": 0, "session": ""}
        assert "set-cookie" not in answer.headers
        other = await served.post("judge", "verify", {"verifier_metadata": {"answer": "?"}})
        assert other.json()["reward"] == 0.0
        wrong = await served.post("judge", "verify", {"verifier_metadata": "?"})
        assert (wrong.status_code, wrong.json()["failure_kind"]) == (422, "invalid_request")


async def test_a_stateless_environment_still_takes_the_task_of_a_session_it_is_given() -> None:
    async with serve({"judge": Judge()}) as served:
        session = await served.seed("judge", {"verifier_metadata": {"answer": ""}})
        answer = await served.verify(session)
        assert (answer.json()["reward"], answer.json()["session"]) == (1.0, session.id)
        lost = await served.post("judge", "verify", {"session_id": "f" * 32})
        assert lost.status_code == 404


async def test_a_stateless_verify_that_fails_is_an_error_and_no_score() -> None:
    class Failing(Judge):
        async def verify(self, session: Any, trajectory: Any) -> Any:
            raise ValueError("canary")

    async with serve({"judge": Failing()}) as served:
        answer = await served.post("judge", "verify", {})
        assert (answer.status_code, answer.json()["failure_kind"]) == (502, "environment_error")
