"""The record on the wire: sessions listed, filtered and forgotten."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from gymhost.errors import StoreError
from gymhost.stores import MemoryStore
from tests.environments import Diary, Gate
from tests.faulty_store import FaultyStore
from tests.served import HandClock, Seeded, Served, serve
from tests.stores.sessions import leased, new, verdict


async def listed(served: Served, **query: Any) -> list[str]:
    """The ids on one page."""
    return [each["session_id"] for each in (await page(served, **query))["sessions"]]


async def page(served: Served, **query: Any) -> Any:
    answer = await served.http.get("/sessions", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def when(clock: HandClock) -> str:
    """The clock's time as the wire has it, which a query may not have escaped."""
    return f"2023-11-14T22:{13 + int(clock.now - 1_700_000_000) // 60}:20+00:00"


# -- the list ----------------------------------------------------------------------------------


async def test_the_list_says_of_each_session_what_its_record_says_but_for_what_is_large() -> None:
    async with serve({"diary": Diary()}, clock=HandClock()) as served:
        scored, spoiled, living = [await served.seed("diary") for _ in range(3)]
        await served.call(scored, "refuse")
        await served.verify(scored)
        await served.call(spoiled, "crash")
        await served.verify(spoiled)
        answer = await page(served)
        assert answer["cursor"] is None
        assert [each["session_id"] for each in answer["sessions"]] == [
            *(living.id, spoiled.id, scored.id)  # newest first
        ]
        for each in answer["sessions"]:
            record = await served.record(Seeded("diary", each["session_id"], ""))
            if record["verdict"] is not None:
                del record["verdict"]["recorded_at"]
            for large in ("task", "state", "calls", "allowed_tools"):
                del record[large]
            assert each == record
        alive, masked, clean = (each["verdict"] for each in answer["sessions"])
        assert alive is None
        assert clean == {"reward": 0.0, "mask_sample": False, "failure_kind": None}
        assert masked == {
            "unmasked_reward": 0.0,
            "mask_sample": True,
            "failure_kind": "environment_error",
        }
        assert answer["sessions"][1]["failures"] == {"environment_error": 1}


async def test_a_pinned_session_is_shown_as_one() -> None:
    async with serve({"diary": Diary()}) as served:
        await served.host.store.create(new("pinned", environment="gone", pinned=True))
        (found,) = (await page(served))["sessions"]
        assert found["pinned"] is True
        assert (await served.record(Seeded("gone", "pinned", "")))["pinned"] is True


async def test_the_list_is_of_an_environment_a_status_and_a_time() -> None:
    clock = HandClock()
    async with serve({"diary": Diary(), "other": Diary()}, clock=clock) as served:
        first = await served.seed("diary")
        start = when(clock)
        clock.now += 60
        second = await served.seed("other")
        middle = when(clock)
        await served.close(second)
        clock.now += 60
        third = await served.seed("diary")
        assert await listed(served) == [third.id, second.id, first.id]
        assert await listed(served, environment="diary") == [third.id, first.id]
        assert await listed(served, status="closed") == [second.id]
        assert await listed(served, status="open", environment="other") == []
        assert await listed(served, since=middle) == [third.id, second.id]
        assert await listed(served, until=middle) == [first.id]
        assert await listed(served, since=start, until=middle) == [first.id]
        assert await listed(served, environment="no such") == []


async def test_a_time_is_taken_with_any_offset_and_with_the_plus_not_escaped() -> None:
    clock = HandClock()
    async with serve({"diary": Diary()}, clock=clock) as served:
        session = await served.seed("diary")
        for since in (
            *("2023-11-14T22:13:20Z", "2023-11-14t22:13:20.000z", "2023-11-14%2022:13:20Z"),
            *("2023-11-15T00:13:20%2B02:00", "2023-11-15T00:13:20+02:00"),
            "2023-11-14T21:13:20.000000000-01:00",
        ):
            found = await served.http.get(f"/sessions?since={since}")
            assert [each["session_id"] for each in found.json()["sessions"]] == [session.id], since
        later = await served.http.get("/sessions?since=2023-11-15T00:13:21+02:00")
        assert later.json() == {"sessions": [], "cursor": None}


async def test_a_cursor_goes_on_where_the_page_ended() -> None:
    async with serve({"diary": Diary()}) as served:
        ids = [(await served.seed("diary")).id for _ in range(5)]
        found: list[str] = []
        cursors: dict[str, str] = {}
        for expected in (2, 2, 1):
            answer = await page(served, limit=2, environment="diary", **cursors)
            assert len(answer["sessions"]) == expected
            found += [each["session_id"] for each in answer["sessions"]]
            cursors = {"cursor": answer["cursor"]}
            await served.seed("diary")  # what begins meanwhile moves nothing
        assert found == ids[::-1]
        assert cursors == {"cursor": None}


async def test_a_page_has_a_hundred_sessions_unless_it_is_told() -> None:
    store = MemoryStore()
    for number in range(1001):
        await store.create(new(f"s-{number}", environment="gone", token_hash=b"%d" % number))
    async with serve({}, store=store) as served:
        assert len(await listed(served)) == 100
        assert len(await listed(served, limit=1)) == 1
        assert len(await listed(served, limit=1000)) == 1000


@pytest.mark.parametrize(
    ("query", "named"),
    [
        *(
            (f"limit={value}", "limit")
            for value in ("", "0", "1001", "-1", "1.0", "ten", "²", "1e2")
        ),
        ("limit=" + "9" * 5000, "limit"),
        *((f"status={value}", "status") for value in ("", "OPEN", "dead")),
        *(
            (f"{name}={value}", name)
            for name in ("since", "until")
            for value in (
                *("", "yesterday", "1700000000", "2026-01-31", "2026-01-31T12:00:00"),
                *("2026-02-30T12:00:00Z", "2026-01-31T25:00:00Z", "2026-01-31T12:00:00+99:00"),
                *("2026-W05-6T12:00:00Z", "20260131T120000Z", "٢٠٢٦-01-31T12:00:00Z"),
            )
        ),
        *((f"cursor={value}", "cursor") for value in ("", "x", "-1", "²", "9" * 30)),
        ("enviroment=diary", "enviroment"),
        ("status=open&status=closed", "status"),
    ],
)
async def test_a_wrong_value_names_its_parameter(query: str, named: str) -> None:
    async with serve({}) as served:
        answer = await served.http.get(f"/sessions?{query}")
        assert (answer.status_code, answer.json()["failure_kind"]) == (422, "invalid_request")
        assert answer.json()["detail"].startswith(f"'{named}' ")


# -- what was scored -----------------------------------------------------------------------------


async def test_the_trajectory_is_in_the_record_where_it_is_kept() -> None:
    said = {"output": [{"role": "assistant", "content": "東京", "deep": [[[]]]}], "id": None}
    async with serve({"diary": Diary()}, keep_trajectories=True) as served:
        session = await served.seed("diary")
        assert (await served.record(session))["trajectory"] is None
        await served.verify(session, {"response": said, "other": 1})
        assert (await served.record(session))["trajectory"] == said
        (found,) = (await page(served))["sessions"]
        assert "trajectory" not in found


async def test_the_trajectory_is_not_in_the_record_otherwise() -> None:
    store = MemoryStore()
    lease = await leased(store, "kept-before", environment="gone")
    await store.record_verdict(lease, verdict(), trajectory=b"[]")
    async with serve({"diary": Diary()}, store=store) as served:
        session = await served.seed("diary")
        await served.verify(session)
        assert "trajectory" not in await served.record(session)
        assert await store.trajectory(session.id) is None
        assert "trajectory" not in await served.record(Seeded("gone", "kept-before", ""))


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (b"{}", None),
        (b'{"response": null}', None),
        (b'{"response": "said"}', "said"),
        (b'{"response": [1e400, -1e400, {"a": 1e400}]}', [None, None, {"a": None}]),
        (b'{"response": {"output": "\\ud83d"}}', {"output": "\ufffd"}),
        (b'{"response": 123456789012345678901234567890}', 123456789012345678901234567890),
        (b'{"response": ' + b"[" * 190 + b"]" * 190 + b"}", ...),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_any_body_that_is_scored_can_be_kept(body: bytes, kept: Any) -> None:
    async with serve({"diary": Diary()}, keep_trajectories=True) as served:
        session = await served.seed("diary")
        assert (await served.verify(session, body)).status_code == 200
        found = (await served.record(session))["trajectory"]
        assert found == kept or (kept is ... and str(found) == "[" * 190 + "]" * 190)


async def test_what_verify_does_to_the_trajectory_is_not_kept() -> None:
    class Editor(Diary):
        async def verify(self, session: Any, trajectory: Any) -> float:
            trajectory.response.clear()
            return 1.0

    async with serve({"editor": Editor()}, keep_trajectories=True) as served:
        session = await served.seed("editor")
        await served.verify(session, {"response": {"output": []}})
        assert (await served.record(session))["trajectory"] == {"output": []}


# -- forgetting ----------------------------------------------------------------------------------


async def delete(served: Served, session: Seeded) -> httpx2.Response:
    return await served.http.delete(f"/sessions/{session.id}")


async def assert_forgotten(served: Served, session: Seeded) -> None:
    """Nothing opens it, by token or id, and nothing shows it."""
    call = await served.call(session, "write", note="late")
    assert call.is_error
    assert call.text == "The session token is not valid here."
    for answer in (
        await served.http.get(f"/sessions/{session.id}"),
        await served.verify(session),
        await served.close(session),
        await delete(served, session),
    ):
        assert (answer.status_code, answer.json()["failure_kind"]) == (404, "session_lost")
    assert session.id not in await listed(served)


async def test_a_living_session_is_closed_and_forgotten() -> None:
    diary = Diary()
    async with serve({"diary": diary}) as served:
        session, other = await served.seed("diary"), await served.seed("diary")
        await served.call(session, "write", note="a")  # its token is known in this process now
        answer = await delete(served, session)
        assert (answer.status_code, answer.content) == (204, b"")
        assert diary.closed == [(session.id, "closed")]
        assert served.mount("diary").open_sessions == 1
        await assert_forgotten(served, session)
        assert (await served.call(other, "write", note="b")).text == "b"
    assert diary.closed == [(session.id, "closed"), (other.id, "shutdown")]


async def test_a_scored_session_is_forgotten_and_closed_no_second_time() -> None:
    diary = Diary()
    async with serve({"diary": diary}, keep_trajectories=True) as served:
        session = await served.seed("diary")
        await served.verify(session)
        assert (await delete(served, session)).status_code == 204
        await assert_forgotten(served, session)
        assert await served.host.store.trajectory(session.id) is None
    assert diary.closed == [(session.id, "verified")]


async def test_every_token_of_a_forgotten_session_is_refused() -> None:
    async with serve({"diary": Diary()}) as served:
        first = await served.seed("diary", idempotency_key="k")
        second = await served.seed("diary", idempotency_key="k")
        await served.call(first, "write", note="a")
        await delete(served, first)
        await assert_forgotten(served, first)
        await assert_forgotten(served, second)
        assert (await served.seed("diary", idempotency_key="k")).id != first.id


async def test_a_session_is_forgotten_after_the_calls_that_run() -> None:
    diary = Diary()
    async with serve({"diary": diary}) as served:
        session = await served.seed("diary")
        texts: list[str] = []
        answers: list[int] = []

        async def call() -> None:
            texts.append((await served.call(session, "wait")).text)

        async def forget() -> None:
            answers.append((await delete(served, session)).status_code)

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(call)
                await diary.call_gate.reached.wait()
                tasks.start_soon(forget)
                await anyio.wait_all_tasks_blocked()
                assert answers == []
                diary.call_gate.open()
        assert (texts, answers) == (["waited"], [204])
        await assert_forgotten(served, session)


async def test_an_expired_session_is_forgotten_after_the_verify_that_runs() -> None:
    diary, clock = Diary(), HandClock()
    diary.verify_gate = Gate()
    async with serve({"diary": diary}, clock=clock) as served:
        session = await served.seed("diary")
        clock.now += 601
        await served.host.maintain()
        answers: dict[str, int] = {}

        async def verify() -> None:
            answers["verify"] = (await served.verify(session)).status_code

        async def forget() -> None:
            answers["delete"] = (await delete(served, session)).status_code

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(verify)
                await diary.verify_gate.reached.wait()
                tasks.start_soon(forget)
                await anyio.wait_all_tasks_blocked()
                assert answers == {}
                diary.verify_gate.open()
        assert answers == {"verify": 200, "delete": 204}
        await assert_forgotten(served, session)
    assert diary.closed == [(session.id, "expired")]


async def test_a_session_that_is_opened_while_it_is_forgotten_is_gone_all_the_same() -> None:
    store = FaultyStore()
    async with serve({"diary": Diary()}, store=store) as served:
        session = await served.seed("diary")
        await served.close(session)
        gate = store.gates["forget"] = Gate()
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(delete, served, session)
                await gate.reached.wait()
                tasks.start_soon(served.call, session, "write")
                tasks.start_soon(served.verify, session)
                await anyio.wait_all_tasks_blocked()
                gate.open()
        del store.gates["forget"]
        await assert_forgotten(served, session)


async def test_a_session_on_disk_is_forgotten_with_its_tokens(tmp_path: Path) -> None:
    diary = Diary()
    async with serve({"diary": diary}, store=f"sqlite:///{tmp_path}/sessions.db") as served:
        living, scored = await served.seed("diary"), await served.seed("diary")
        await served.call(living, "write", note="a")
        await served.verify(scored)
        for session in (living, scored):
            assert (await delete(served, session)).status_code == 204
            await assert_forgotten(served, session)
        assert served.mount("diary").open_sessions == 0
    assert diary.closed == [(scored.id, "verified"), (living.id, "closed")]


async def test_two_that_forget_the_same_session_at_once_do_it_once() -> None:
    async with serve({"diary": Diary()}) as served:
        session = await served.seed("diary")
        statuses: list[int] = []

        async def forget() -> None:
            statuses.append((await delete(served, session)).status_code)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(forget)
            tasks.start_soon(forget)
        assert sorted(statuses) == [204, 404]


async def test_a_session_whose_store_fails_is_not_forgotten_and_may_be_tried_again() -> None:
    store = FaultyStore()
    async with serve({"diary": Diary()}, store=store) as served:
        session = await served.seed("diary")
        store.fail("forget")
        answer = await delete(served, session)
        assert (answer.status_code, answer.json()["failure_kind"]) == (503, "store_error")
        assert (await served.record(session))["status"] == "closed"
        store.broken.clear()
        assert (await delete(served, session)).status_code == 204
        await assert_forgotten(served, session)


async def test_what_has_ended_of_an_environment_that_is_gone_is_read_and_forgotten() -> None:
    store = MemoryStore()
    lease = await leased(store, "old", environment="gone")
    await store.transition(lease, ("open",), "closed", 1_000.0)
    await store.release(lease)
    async with serve({"diary": Diary()}, store=store) as served:
        session = Seeded("gone", "old", "")
        assert await listed(served, environment="gone") == ["old"]
        assert (await served.record(session))["status"] == "closed"
        assert (await delete(served, session)).status_code == 204
        assert await listed(served) == []


@pytest.mark.parametrize("status", ["open", "closed"])
async def test_what_its_environment_is_yet_to_be_told_of_is_kept(status: Any) -> None:
    store = MemoryStore()
    lease = await leased(store, "old", environment="gone")
    if status == "closed":
        await store.transition(lease, ("open",), "closed", 1_000.0, closing=True)
    await store.release(lease)
    async with serve({"diary": Diary()}, store=store) as served:
        answer = await delete(served, Seeded("gone", "old", ""))
        assert (answer.status_code, answer.json()["failure_kind"]) == (409, "environment_missing")
        assert "'gone' is not served" in answer.json()["detail"]
        assert await listed(served) == ["old"]


async def test_a_session_whose_environment_is_being_told_of_its_end_is_kept_till_then() -> None:
    store = MemoryStore()
    lease = await leased(store, "old", environment="diary")
    await store.transition(lease, ("open",), "closed", 1_000.0, closing=True)
    await store.release(lease)
    diary, clock = Diary(), HandClock()
    clock.now = 1_001.0
    async with serve({"diary": diary}, store=store, clock=clock) as served:
        answer = await delete(served, Seeded("diary", "old", ""))
        assert (answer.status_code, answer.json()["failure_kind"]) == (503, "over_capacity")
        assert answer.headers["retry-after"] == "1"
        assert await listed(served) == ["old"]
        await served.host.maintain()  # which is not kept from it
        assert diary.closed == [("old", "closed")]
        assert (await delete(served, Seeded("diary", "old", ""))).status_code == 204


async def test_a_session_that_a_crash_has_lost_is_forgotten_when_its_environment_was_told() -> None:
    store, diary = MemoryStore(), Diary()
    await store.create(new("old", environment="diary", pinned=True))
    async with serve({"diary": diary}, store=store) as served:
        session = Seeded("diary", "old", "")
        assert (await delete(served, session)).status_code == 503
        await served.host.maintain()
        assert diary.closed == [("old", "lost")]
        assert (await delete(served, session)).status_code == 204
        assert await listed(served) == []


async def test_living_sessions_of_an_environment_that_is_gone_are_pruned_after_a_day() -> None:
    clock, store = HandClock(), MemoryStore()
    store.durable = True
    async with serve({"diary": Diary(), "gone": Diary()}, store=store, clock=clock) as served:
        old, again = await served.seed("gone"), await served.seed("gone")
        clock.now += 500
        await served.call(again, "write", note="later")
    async with serve({"diary": Diary()}, store=store, clock=clock) as served:
        living = await served.seed("diary")

        async def prune() -> int:
            clock.now += 1
            now = datetime.fromtimestamp(clock.now, UTC).isoformat()
            answer = await served.http.delete("/sessions", params={"ended_before": now})
            assert answer.status_code == 200, answer.text
            pruned: int = answer.json()["pruned"]
            return pruned

        assert await prune() == 0  # it may come back with the next start
        clock.now += 86_400 - 400
        assert await prune() == 1
        assert await listed(served) == [living.id, again.id]
        clock.now += 500
        assert await prune() == 1
        assert (await served.http.get(f"/sessions/{old.id}")).status_code == 404
        assert await listed(served) == [living.id]


async def test_old_sessions_are_pruned_and_living_ones_stay() -> None:
    clock = HandClock()
    async with serve({"diary": Diary(), "other": Diary()}, clock=clock) as served:

        async def prune(**query: str) -> int:
            answer = await served.http.delete("/sessions", params=query)
            assert answer.status_code == 200, answer.text
            pruned: int = answer.json()["pruned"]
            return pruned

        living = await served.seed("diary")
        first, second = await served.seed("diary"), await served.seed("other")
        await served.close(first)
        await served.close(second)
        assert await prune(ended_before=when(clock)) == 0
        clock.now += 60
        assert await prune(ended_before=when(clock), environment="no such") == 0
        assert await prune(ended_before=when(clock), environment="diary") == 1
        await assert_forgotten(served, first)
        assert await prune(ended_before=when(clock)) == 1
        assert await listed(served) == [living.id]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("", "ended_before"),
        ("ended_before=", "ended_before"),
        ("ended_before=24h", "ended_before"),
        ("ended_before=2026-01-31T12:00:00Z&enviroment=diary", "enviroment"),
        ("ended_before=2026-01-31T12:00:00Z&status=closed", "status"),
    ],
)
async def test_pruning_takes_nothing_that_it_might_misread(query: str, named: str) -> None:
    clock = HandClock()
    async with serve({"diary": Diary()}, clock=clock) as served:
        await served.close(await served.seed("diary"))
        answer = await served.http.delete(f"/sessions?{query}")
        assert (answer.status_code, answer.json()["failure_kind"]) == (422, "invalid_request")
        assert answer.json()["detail"].startswith(f"'{named}' ")
        assert len(await listed(served)) == 1


async def test_a_list_that_the_store_fails_is_its_failure() -> None:
    store = FaultyStore()
    async with serve({}, store=store) as served:
        store.broken["list"] = StoreError("no disk")
        answer = await served.http.get("/sessions")
        assert (answer.status_code, answer.json()["failure_kind"]) == (503, "store_error")
