"""What spoils a sample, and what an agent can do at will, which never does."""

from __future__ import annotations

from typing import Any, Literal

import anyio
import pytest

from gymhost import Environment, Session, Trajectory, tool
from gymhost.config import EnvironmentConfig
from gymhost.limits import Limits
from gymhost.models import ToolOutcome
from tests.environments import Diary, Gate
from tests.faulty_store import CANARY, FaultyStore
from tests.served import NO_ANSWER, HandClock, Served, serve
from tests.stores.sessions import acquire


class Slow(Environment):
    """Tools that never end."""

    @tool(timeout=0.05)
    async def plain(self) -> str:
        await anyio.sleep_forever()
        return ""

    @tool(timeout=0.05, timeout_masks=True)
    async def masking(self) -> str:
        await anyio.sleep_forever()
        return ""

    async def verify(self, session: Session, trajectory: Trajectory) -> float:
        return 1.0


async def test_a_session_in_which_a_tool_crashed_is_masked() -> None:
    async with serve({"diary": Diary()}) as served:
        session = await served.seed("diary")
        crashed = await served.call(session, "crash")
        assert (crashed.is_error, crashed.text) == (True, "The tool failed.")
        await served.call(session, "write", note="and on")
        answer = await served.verify(session)
        assert answer.status_code == 502
        problem = answer.json()
        assert problem["failure_kind"] == "environment_error"
        assert problem["mask_sample"] is True
        assert problem["unmasked_reward"] == 1.0
        assert problem["session_id"] == session.id
        assert "reward" not in problem
        assert (await served.verify(session)).content == answer.content
        record = await served.record(session)
        assert record["failures"] == {"environment_error": 1}
        assert record["verdict"]["failure_kind"] == "environment_error"
        assert record["verdict"]["mask_sample"] is True
        assert "reward" not in record["verdict"]
        assert "unmasked_reward" in record["verdict"]
        assert record["status"] == "verified"
        assert served.mount("diary").counts["masked"] == 1


async def test_a_masked_score_is_an_answer_where_the_operator_wants_a_report() -> None:
    config = EnvironmentConfig(plugin=Diary(), on_failure="report")
    async with serve({"diary": config}) as served:
        session = await served.seed("diary")
        await served.call(session, "crash")
        answer = await served.verify(session)
        assert answer.status_code == 200
        assert answer.json() == {
            **NO_ANSWER,
            "reward": 0.0,
            "mask_sample": True,
            "failure_kind": "environment_error",
        }
        clean = await served.seed("diary")
        assert (await served.verify(clean)).json() == {**NO_ANSWER, "reward": 0.0}


@pytest.mark.parametrize("on_failure", ["error", "report"])
async def test_a_timeout_masks_only_where_its_tool_says_so(
    on_failure: Literal["error", "report"],
) -> None:
    config = EnvironmentConfig(plugin=Slow(), on_failure=on_failure)
    async with serve({"slow": config}) as served:
        plain, masking = await served.seed("slow"), await served.seed("slow")
        with anyio.fail_after(5):
            for session, name in ((plain, "plain"), (masking, "masking")):
                outcome = await served.call(session, name)
                text = "The tool took longer than 0.05 s and was given up."
                assert (outcome.is_error, outcome.text) == (True, text)
        assert (await served.verify(plain)).json() == {**NO_ANSWER, "reward": 1.0}
        assert (await served.record(plain))["failures"] == {"timeout": 1}
        masked = await served.verify(masking)
        assert masked.status_code == (502 if on_failure == "error" else 200)
        assert masked.json()["failure_kind"] == "environment_timeout"
        assert masked.json()["mask_sample"] is True


async def test_what_an_agent_can_cause_at_will_is_counted_and_never_masks() -> None:
    class Talker(Diary):
        @tool
        async def talk(self, size: int) -> str:
            return "x" * size

    limits = Limits(session_calls=8, result_bytes=100)
    config = EnvironmentConfig(plugin=Talker(), limits=limits)
    async with serve({"diary": config}) as served:
        task = {"verifier_metadata": {"tools": ["write", "refuse", "talk"]}}
        session = await served.seed("diary", task)
        for name, arguments in (
            ("write", {"wrong": 1}),  # invalid
            ("write", {}),  # missing
            ("nothing", {}),  # unknown
            ("crash", {}),  # not allowed, which is unknown
            ("refuse", {"why": "because"}),
            ("refuse", {"why": "x" * 101}),  # past the size of a result
            ("talk", {"size": 101}),
            ("write", {"note": "good"}),
            ("write", {"note": "one call too many"}),
        ):
            outcome = await served.call(session, name, **arguments)
            assert outcome.is_error == (arguments != {"note": "good"})
        record = await served.record(session)
        assert record["failures"] == {
            "invalid_arguments": 2,
            "unknown_tool": 2,
            "tool_error": 1,
            "limit": 2,
        }
        assert [call["kind"] for call in record["calls"]][-1] == "ok"
        assert (await served.verify(session)).json() == {**NO_ANSWER, "reward": 1.0}
        counts = (await served.http.get("/envs/diary")).json()["counts"]
        assert counts == {
            "calls": 8,
            "invalid_arguments": 2,
            "limit": 2,
            "seeded": 1,
            "session_calls": 1,
            "tool_error": 1,
            "unknown_tool": 2,
            "verified": 1,
        }


async def failed_call(served: Served, store: FaultyStore, *verbs: str) -> tuple[Any, Any]:
    """A session, and how a call ended in it during which the store failed."""
    session = await served.seed("diary")
    served.host.registry._minted.clear()  # as where another process has minted the token
    store.fail(*verbs)
    outcome = await served.call(session, "write", note="lost")
    store.broken.clear()
    return session, outcome


@pytest.mark.parametrize("verb", ["commit", "find", "acquire"])
async def test_a_session_that_the_store_failed_is_masked(verb: str) -> None:
    store = FaultyStore()
    async with serve({"diary": Diary()}, store=store) as served:
        session, outcome = await failed_call(served, store, verb)
        assert outcome.is_error
        assert "could not" in outcome.text
        assert CANARY not in outcome.text
        assert (await served.call(session, "write", note="kept")).text == "kept"
        answer = await served.verify(session)
        assert (answer.status_code, answer.json()["failure_kind"]) == (502, "store_error")
        assert answer.json()["unmasked_reward"] == 1.0
        assert (await served.record(session))["failures"] == {"store_error": 1}
        assert served.mount("diary").counts["store_error"] == 1


@pytest.mark.parametrize("verb", ["commit", "find"])
async def test_a_store_failure_is_remembered_though_the_session_rests(verb: str) -> None:
    """The lease is given back, and the session opened anew, before verify comes."""
    clock, store = HandClock(), FaultyStore()
    async with serve({"diary": Diary()}, store=store, clock=clock) as served:
        session, _ = await failed_call(served, store, verb)
        clock.now += 60
        await served.host.maintain()
        clock.now += 60
        await served.host.maintain()
        assert (await served.record(session))["failures"] == {"store_error": 1}
        answer = await served.verify(session)
        assert (answer.status_code, answer.json()["failure_kind"]) == (502, "store_error")


async def test_verify_waits_with_a_score_until_the_store_can_take_the_failure_down() -> None:
    store = FaultyStore()
    diary = Diary()
    async with serve({"diary": diary}, store=store) as served:
        session = await served.seed("diary")
        served.host.registry._minted.clear()
        store.fail("find")
        await served.call(session, "write", note="lost")
        answer = await served.verify(session)
        assert (answer.status_code, answer.json()["failure_kind"]) == (503, "store_error")
        assert diary.verifies == 0
        store.broken.clear()
        assert (await served.verify(session)).status_code == 502


async def test_a_forged_token_during_a_store_failure_spoils_nobodys_sample() -> None:
    store = FaultyStore()
    async with serve({"diary": Diary()}, store=store) as served:
        session = await served.seed("diary")
        store.fail("find")
        for token in ("forged", "", None):
            outcome = await served.host.call_tool("diary", token, "write", {"note": "a"})
            assert outcome.is_error
        store.broken.clear()
        assert (await served.verify(session)).json()["reward"] == 0.0


async def test_a_store_that_fails_again_while_a_failure_is_noted_loses_nothing() -> None:
    store = FaultyStore()
    async with serve({"diary": Diary()}, store=store) as served:
        session, _ = await failed_call(served, store, "commit")
        store.fail("commit")
        assert (await served.verify(session)).status_code == 503
        store.broken.clear()
        assert (await served.verify(session)).status_code == 502


async def test_a_session_that_can_not_be_masked_yet_is_no_trouble_of_the_others() -> None:
    """Another process has it, for the time being."""
    store = FaultyStore()
    async with serve({"diary": Diary()}, store=store) as served:
        other = await served.seed("diary")
        session, _ = await failed_call(served, store, "find")
        lease = await acquire(store, session.id, served.host.clock.time(), 30)
        assert lease is not None
        assert (await served.verify(other)).status_code == 200
        await served.host.maintain()
        busy = await served.verify(session)
        assert (busy.status_code, busy.json()["failure_kind"]) == (503, "over_capacity")
        await store.release(lease)
        masked = await served.verify(session)
        assert (masked.status_code, masked.json()["failure_kind"]) == (502, "store_error")


async def test_a_failure_noted_by_two_at_once_is_counted_once() -> None:
    store = FaultyStore()
    async with serve({"diary": Diary()}, store=store) as served:
        session, _ = await failed_call(served, store, "find")
        store.gates["commit"] = gate = Gate()
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(served.verify, session)
                tasks.start_soon(served.host.maintain)
                tasks.start_soon(served.verify, session)
                await anyio.wait_all_tasks_blocked()
                gate.open()
        assert (await served.record(session))["failures"] == {"store_error": 1}


async def test_a_store_failure_after_the_score_changes_nothing() -> None:
    """The answer could not be sent, and is there when it is asked for again."""
    store = FaultyStore()
    async with serve({"diary": Diary()}, store=store) as served:
        session = await served.seed("diary")
        scored = await served.verify(session)
        store.fail("find")
        await served.host.call_tool("diary", session.token, "write", {"note": "late"})
        store.broken.clear()
        assert (await served.verify(session)).content == scored.content
        assert (await served.record(session))["failures"] == {}


async def test_a_store_failure_is_remembered_though_the_session_has_expired() -> None:
    clock, store = HandClock(), FaultyStore()
    async with serve({"diary": Diary()}, store=store, clock=clock) as served:
        session, _ = await failed_call(served, store, "commit")
        clock.now += 601
        assert (await served.call(session, "write", note="late")).text == "The session has ended."
        answer = await served.verify(session)
        assert (answer.status_code, answer.json()["failure_kind"]) == (502, "store_error")


async def test_a_store_failure_that_comes_while_verify_waits_masks_the_score() -> None:
    store, diary = FaultyStore(), Diary()
    answers: list[Any] = []
    async with serve({"diary": diary}, store=store) as served:
        session = await served.seed("diary")

        async def verify() -> None:
            answers.append((await served.verify(session)).json())

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(served.call, session, "wait")
                await diary.call_gate.reached.wait()
                tasks.start_soon(verify)
                await anyio.wait_all_tasks_blocked()
                store.fail("commit")
                diary.call_gate.open()
        store.broken.clear()
        (answer,) = answers
        assert (answer["status"], answer["failure_kind"]) == (502, "store_error")


@pytest.mark.parametrize(
    "outcome",
    [
        ToolOutcome([{"type": "text", "text": "x"}], structured_content={"a": float("nan")}),
        ToolOutcome([{"type": "text", "text": object()}]),
        ToolOutcome([{"type": "text", "text": "\ud83d"}]),
        "no outcome at all",
    ],
)
async def test_an_outcome_that_can_not_be_recorded_is_a_crash(outcome: Any) -> None:
    class Own(Diary):
        async def call_tool(self, session: Any, call: Any) -> Any:
            return outcome

    async with serve({"own": Own()}) as served:
        session = await served.seed("own")
        assert (await served.call(session, "write", note="a")).text == "The tool failed."
        assert (await served.verify(session)).status_code == 502


async def test_the_words_nan_and_infinity_in_a_text_are_no_crash() -> None:
    async with serve({"diary": Diary()}) as served:
        session = await served.seed("diary")
        assert (await served.call(session, "write", note="NaN, Infinity")).text == "NaN, Infinity"
        refused = await served.call(session, "refuse", why="-Infinity is not a number")
        assert refused.text == "-Infinity is not a number"
        assert (await served.verify(session)).json()["reward"] == 1.0
