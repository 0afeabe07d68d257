"""How a session begins: from a task, once for each Idempotency-Key, within the limit."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import anyio
import pytest

from gymhost import Environment, Session, Task, Trajectory
from gymhost.config import EnvironmentConfig
from gymhost.limits import Limits
from gymhost.stores import NewSession
from tests.environments import Diary, Gate
from tests.faulty_store import FaultyStore
from tests.served import HandClock, Served, serve


async def test_each_seed_is_a_session_of_its_own() -> None:
    async with serve({"diary": Diary()}) as served:
        sessions = [await served.seed("diary") for _ in range(3)]
        assert len({session.id for session in sessions}) == 3
        assert len({session.token for session in sessions}) == 3
        for number, session in enumerate(sessions):
            assert (await served.call(session, "write", note=str(number))).text == str(number)


async def test_the_task_is_kept_whole() -> None:
    task = {
        "responses_create_params": {"input": "Grüße 👋"},
        "verifier_metadata": {"answer": 10**30, "nested": [{"a": None}]},
        "agent_ref": {"name": "x"},
        "id": 7,
    }
    seen: list[Task] = []

    class Looking(Diary):
        async def seed(self, session: Any, task: Task) -> Any:
            seen.append(task)
            task.verifier_metadata.clear()  # its own copy: the record keeps what was sent
            return await super().seed(session, task)

    async with serve({"diary": Looking()}) as served:
        session = await served.seed("diary", task)
        assert (await served.record(session))["task"] == task
        assert seen[0].extra == {"agent_ref": {"name": "x"}, "id": 7}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 200),
        (b"{}", 200),
        (b'{"verifier_metadata": null}', 200),
        (b'{"verifier_metadata": []}', 422),
        (b'{"verifier_metadata": "x"}', 422),
        (b'{"responses_create_params": 1}', 422),
        (b"null", 400),
        (b"[]", 400),
        (b"{", 400),
        (b'{"a": NaN}', 400),
        (b'{"a": 1e999}', 400),
        (b'{"a": "\xff"}', 400),
        (b" ", 400),
        (b'{"a":' + b"[" * 500 + b"]" * 500 + b"}", 400),
    ],
)
async def test_a_body_that_is_no_task_is_refused(body: bytes, status: int) -> None:
    diary = Diary()
    async with serve({"diary": diary}) as served:
        answer = await served.post("diary", "seed_session", body)
        assert answer.status_code == status
        if status != 200:
            assert answer.json()["failure_kind"] == "invalid_request"
            assert diary.seeds == 0
            await served.seed("diary")


async def test_a_seed_is_refused_while_as_many_sessions_are_open_as_may_be() -> None:
    config = EnvironmentConfig(plugin=Diary(), limits=Limits(open_sessions=2))
    async with serve({"diary": config, "other": Diary()}) as served:
        first, second = await served.seed("diary"), await served.seed("diary")
        full = await served.post("diary", "seed_session", {})
        assert (full.status_code, full.json()["failure_kind"]) == (503, "over_capacity")
        assert full.headers["retry-after"] == "1"
        assert served.mount("diary").counts["over_capacity"] == 1
        await served.seed("other")
        await served.verify(first)
        await served.seed("diary")
        assert (await served.post("diary", "seed_session", {})).status_code == 503
        await served.close(second)
        await served.seed("diary")


async def test_seeds_in_flight_count_as_open_sessions() -> None:
    diary = Diary()
    diary.seed_gate = gate = Gate()
    config = EnvironmentConfig(plugin=diary, limits=Limits(open_sessions=1))
    async with serve({"diary": config}) as served:
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(served.seed, "diary")
                await gate.reached.wait()
                assert (await served.post("diary", "seed_session", {})).status_code == 503
                gate.open()
        assert diary.seeds == 1


async def test_a_seed_whose_client_goes_away_leaves_no_session() -> None:
    diary = Diary()
    diary.seed_gate = gate = Gate()
    async with serve({"diary": diary}) as served:
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(served.seed, "diary")
                await gate.reached.wait()
                tasks.cancel_scope.cancel()
        assert served.mount("diary").open_sessions == 0


async def test_a_seed_that_is_cancelled_while_it_is_stored_is_counted() -> None:
    store = FaultyStore()
    store.gates_after["create"] = gate = Gate()
    diary = Diary()
    async with serve({"diary": diary}, store=store) as served:
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(served.seed, "diary")
                await gate.reached.wait()
                tasks.cancel_scope.cancel()
                gate.open()
        assert served.mount("diary").open_sessions == 1
    assert [reason for _, reason in diary.closed] == ["shutdown"]


async def test_a_store_that_can_not_create_is_a_store_error() -> None:
    store = FaultyStore()
    async with serve({"diary": Diary()}, store=store) as served:
        store.fail("create")
        answer = await served.post("diary", "seed_session", {})
        assert (answer.status_code, answer.json()["failure_kind"]) == (503, "store_error")
        assert served.mount("diary").open_sessions == 0
        store.broken.clear()
        await served.seed("diary")


BODY = {"verifier_metadata": {"notes": ["a"]}}


async def test_a_repeated_seed_gets_the_same_session_and_one_more_token() -> None:
    diary = Diary()
    async with serve({"diary": diary}) as served:
        first = await served.seed("diary", BODY, idempotency_key="k")
        again = await served.seed("diary", BODY, idempotency_key="k")
        assert (first.id, diary.seeds) == (again.id, 1)
        assert first.token != again.token
        assert (await served.call(first, "write", note="b")).text == "a,b"
        assert (await served.call(again, "write", note="c")).text == "a,b,c"
        assert served.mount("diary").open_sessions == 1
        await served.verify(first)
        for session in (first, again):
            assert (await served.call(session, "write", note="d")).is_error


async def test_an_idempotency_key_with_another_body_is_a_conflict() -> None:
    async with serve({"diary": Diary()}) as served:
        await served.seed("diary", BODY, idempotency_key="k")
        answer = await served.post("diary", "seed_session", {}, idempotency_key="k")
        assert (answer.status_code, answer.json()["failure_kind"]) == (409, "idempotency_conflict")


async def test_idempotency_keys_are_an_environments_own_and_an_empty_one_is_none() -> None:
    async with serve({"diary": Diary(), "other": Diary()}) as served:
        sessions = [
            await served.seed("diary", BODY, idempotency_key="k"),
            await served.seed("other", {}, idempotency_key="k"),
            await served.seed("diary", BODY, idempotency_key="l"),
            await served.seed("diary", BODY, idempotency_key=""),
            await served.seed("diary", {}, idempotency_key=""),
        ]
        assert len({session.id for session in sessions}) == 5


@pytest.mark.parametrize("end", ["verify", "close", "expire"])
async def test_an_idempotency_key_is_free_again_when_its_session_has_ended(end: str) -> None:
    clock = HandClock()
    async with serve({"diary": Diary()}, clock=clock) as served:
        first = await served.seed("diary", BODY, idempotency_key="k")
        if end == "expire":
            clock.now += 601  # and nobody has noticed yet
        else:
            await (served.verify(first) if end == "verify" else served.close(first))
        second = await served.seed("diary", {}, idempotency_key="k")
        assert second.id != first.id
        assert not (await served.call(second, "write", note="a")).is_error


async def test_two_seeds_at_once_with_one_key_run_the_hook_once() -> None:
    diary = Diary()
    diary.seed_gate = gate = Gate()
    ids: list[str] = []
    async with serve({"diary": diary}) as served:

        async def seed() -> None:
            ids.append((await served.seed("diary", BODY, idempotency_key="k")).id)

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                for _ in range(4):
                    tasks.start_soon(seed)
                await gate.reached.wait()
                await anyio.wait_all_tasks_blocked()
                gate.open()
        assert diary.seeds == 1
        assert len(ids) == 4
        assert len(set(ids)) == 1


@pytest.mark.parametrize("how", ["raises", "is cancelled"])
async def test_a_first_seed_that_fails_lets_one_of_the_others_try(how: str) -> None:
    class Once(Diary):
        async def seed(self, session: Any, task: Any) -> Any:
            state = await super().seed(session, task)
            if self.seeds == 1:
                raise ValueError("the first one fails")
            return state

    diary = Once()
    diary.seed_gate = gate = Gate()
    statuses: list[int] = []
    async with serve({"diary": diary}) as served:

        async def seed() -> None:
            answer = await served.post("diary", "seed_session", BODY, idempotency_key="k")
            statuses.append(answer.status_code)

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks, anyio.create_task_group() as first:
                first.start_soon(seed)
                await gate.reached.wait()
                for _ in range(3):
                    tasks.start_soon(seed)
                await anyio.wait_all_tasks_blocked()
                if how == "is cancelled":
                    first.cancel_scope.cancel()
                gate.open()
        assert statuses == [*([502] if how == "raises" else []), 200, 200, 200]
        assert (diary.seeds, served.mount("diary").open_sessions) == (2, 1)


async def test_a_session_that_another_process_has_created_first_is_shared() -> None:
    """Between the look for the key and the creation, which only the store can decide."""
    store = FaultyStore()
    diary = Diary()
    diary.seed_gate = gate = Gate()
    raw = json.dumps(BODY).encode()
    async with serve({"diary": diary}, store=store) as served:
        seeded: list[str] = []

        async def seed() -> None:
            seeded.append((await served.seed("diary", raw, idempotency_key="k")).id)

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(seed)
                await gate.reached.wait()
                other = await store_session(served, raw)
                gate.open()
        assert seeded == [other]
        served.mount("diary").open_sessions += 1  # the other process's


async def store_session(served: Served, raw: bytes) -> str:
    """Create a session as another process would."""
    known = await served.host.store.create(
        NewSession(
            session_id="0" * 32,
            environment="diary",
            token_hash=b"other",
            task=raw,
            state=b'{"notes":[]}',
            allowed_tools=None,
            created_at=served.host.clock.time(),
            key="k",
            body_hash=sha256(raw).digest(),
        )
    )
    assert known is None
    return "0" * 32


@pytest.mark.parametrize(
    ("allowed", "shown"),
    [(["write", "look"], ["write", "look"]), ([], []), (None, None)],
)
async def test_allowed_tools_bind_the_session(
    allowed: list[str] | None, shown: list[str] | None
) -> None:
    async with serve({"diary": Diary()}) as served:
        session = await served.seed("diary", {"verifier_metadata": {"tools": allowed}})
        record = await served.record(session)
        assert record["allowed_tools"] == (None if shown is None else sorted(shown))
        outcome = await served.call(session, "write", note="a")
        assert outcome.is_error == (shown == [])


@pytest.mark.parametrize("allowed", [["no_such_tool"], "write", 5])
async def test_allowed_tools_that_are_none_are_an_environment_error(allowed: Any) -> None:
    async with serve({"diary": Diary()}) as served:
        answer = await served.post(
            "diary", "seed_session", {"verifier_metadata": {"tools": allowed}}
        )
        assert (answer.status_code, answer.json()["failure_kind"]) == (502, "environment_error")
        await served.seed("diary")


async def test_a_state_of_another_type_is_an_environment_error() -> None:
    class Wrong(Environment):
        async def seed(self, session: Session, task: Task) -> Any:
            return {"a": 1}

        async def verify(self, session: Session, trajectory: Trajectory) -> float:
            return 0.0

    async with serve({"wrong": Wrong()}) as served:
        answer = await served.post("wrong", "seed_session", {})
        assert (answer.status_code, answer.json()["failure_kind"]) == (502, "environment_error")
