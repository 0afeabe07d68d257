"""What comes in between as sessions end: a stop, a stall, a failing store, another process."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup

from gymhost.errors import OverCapacity
from gymhost.registry import LEASE_SECONDS
from gymhost.stores import MemoryStore, Status
from tests.environments import Diary, Gate, Judge
from tests.faulty_store import FaultyStore
from tests.served import NO_ANSWER, HandClock, Seeded, Served, serve
from tests.stores.sessions import acquire
from tests.test_pins import Cockpit


@pytest.fixture
def durable() -> FaultyStore:
    store = FaultyStore()
    store.durable = True
    return store


async def status(store: MemoryStore, session: Seeded) -> Status:
    row = await store.get(session.id)
    assert row is not None
    return row.status


async def begin(tasks: TaskGroup, answers: list[Any], request: Any, *args: Any) -> None:
    """Send a request in a task of its own, and wait until nothing goes on."""

    async def send() -> None:
        answers.append(await request(*args))

    tasks.start_soon(send)
    await anyio.wait_all_tasks_blocked()


async def test_a_stop_that_cuts_the_sweeper_short_leaves_the_telling_to_the_next_process(
    durable: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gymhost.sweeper.SWEEP_SECONDS", 0.02)
    clock, hanging, diary = HandClock(), Diary(), Diary()
    hanging.close_gate = Gate()
    with anyio.fail_after(5):
        async with serve({"diary": hanging}, store=durable, clock=clock) as stopping:
            sessions = [await stopping.seed("diary") for _ in range(3)]
            clock.now += 601
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(stopping.host.maintain)
                await hanging.close_gate.reached.wait()
                await stopping.host.stop()
        assert len(hanging.closed) == 3  # begun, and not finished
        async with serve({"diary": diary}, store=durable, clock=clock) as served:
            await served.host.maintain()  # at once: no lease is in the way
            assert sorted(diary.closed) == sorted((each.id, "expired") for each in sessions)


async def test_a_stop_closes_sessions_though_the_sweeper_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gymhost.sweeper.SWEEP_SECONDS", 0.02)

    class Hanging(Diary):
        async def close(self, session: Any, reason: str) -> None:
            await super().close(session, reason)
            if reason == "expired":
                await anyio.sleep_forever()

    clock, diary = HandClock(), Hanging()
    with anyio.fail_after(5):
        async with serve({"diary": diary}, clock=clock) as served:
            old = await served.seed("diary")
            clock.now += 601
            young = await served.seed("diary")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(served.host.maintain)
                await anyio.wait_all_tasks_blocked()
                await served.host.stop()
    assert diary.closed == [(old.id, "expired"), (young.id, "shutdown")]


async def test_nothing_expires_while_the_environments_shut_down(durable: FaultyStore) -> None:
    clock, diary = HandClock(), Diary()
    async with serve({"diary": diary}, store=durable, clock=clock) as served:
        session = await served.seed("diary")
        clock.now += 601
        await served.host.stop()
        await served.host.maintain()
        assert await status(durable, session) == "open"
    assert diary.closed == []


async def test_what_is_on_its_way_when_the_host_stops_takes_no_lease_any_more(
    durable: FaultyStore,
) -> None:
    clock = HandClock()
    answers: list[Any] = []
    async with serve({"diary": Diary()}, store=durable, clock=clock) as served:
        session = await served.seed("diary")
        durable.gates["acquire"] = gate = Gate()
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                await begin(tasks, answers, served.close, session)
                tasks.start_soon(served.host.stop)
                await anyio.wait_all_tasks_blocked()
                gate.open()
        assert answers[0].status_code == 503
        with pytest.raises(OverCapacity):
            await served.host.registry.by_id("diary", session.id)
        assert await durable.acquire(session.id, clock.now, 30) is not None


async def test_a_session_that_is_created_as_the_host_stops_is_closed_with_it() -> None:
    store, diary = FaultyStore(), Diary()
    answers: list[Any] = []
    async with serve({"diary": diary}, store=store) as served:
        store.gates["create"] = gate = Gate()
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                await begin(tasks, answers, served.seed, "diary")
                tasks.start_soon(served.host.stop)
                await anyio.wait_all_tasks_blocked()
                assert diary.closed == []
                gate.open()
    assert diary.closed == [(answers[0].id, "shutdown")]


@pytest.mark.parametrize("at", ["hook", "create"])
async def test_a_pinned_seed_whose_client_goes_away_keeps_nothing_or_all(at: str) -> None:
    store, cockpit = FaultyStore(), Cockpit()
    gate = Gate()
    if at == "hook":
        cockpit.entering = gate
    else:
        store.gates["create"] = gate
    body = {"verifier_metadata": {"engine": True}}
    async with serve({"cockpit": cockpit}, store=store) as served:
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(served.post, "cockpit", "seed_session", body)
                await gate.reached.wait()
                tasks.cancel_scope.cancel()
                gate.open()
            await served.check_counts()
        living = served.mount("cockpit").open_sessions
        assert living == (0 if at == "hook" else 1)
        assert cockpit.log == ["first on", "first off"][: 2 - living] or not cockpit.log
    assert cockpit.log.count("first on") == cockpit.log.count("first off")


async def test_a_verify_that_could_not_begin_keeps_the_tools_shut(durable: FaultyStore) -> None:
    """The attempt was submitted: what the agent does after that is not to be scored."""
    clock = HandClock()
    async with serve({"diary": Diary()}, store=durable, clock=clock) as served:
        session = await served.seed("diary")
        await served.call(session, "write", note="a")
        durable.fail("transition")
        assert (await served.verify(session)).status_code == 503
        for _ in range(3):  # the store fails on: the session is kept
            clock.now += LEASE_SECONDS + 1
            await served.host.maintain()
            assert (await served.call(session, "write", note="late")).is_error
        durable.broken.clear()
        await served.host.maintain()
        assert await status(durable, session) == "verify_failed"
        clock.now += LEASE_SECONDS + 1
        await served.host.maintain()
        assert (await served.call(session, "write", note="late")).is_error
        assert (await served.verify(session)).json()["reward"] == 1.0


async def test_a_verify_that_a_stop_keeps_from_its_turn_keeps_the_tools_shut(
    durable: FaultyStore,
) -> None:
    diary = Diary()
    answers: list[Any] = []
    async with serve({"diary": diary}, store=durable) as served:
        session = await served.seed("diary")
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(served.call, session, "wait")
                await diary.call_gate.reached.wait()
                await begin(tasks, answers, served.verify, session)
                await served.host.stop()
                diary.call_gate.open()
        assert answers[0].status_code == 503
        assert await status(durable, session) == "verify_failed"


async def test_a_close_that_did_not_come_to_its_turn_leaves_the_session_as_it_was() -> None:
    diary, store = Diary(), FaultyStore()
    async with serve({"diary": diary}, store=store) as served:
        session = await served.seed("diary")
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(served.call, session, "wait")
                await diary.call_gate.reached.wait()
                with anyio.move_on_after(0.02):  # its client gives up
                    await served.close(session)
                diary.call_gate.open()
        assert not (await served.call(session, "write", note="b")).is_error
        store.fail("transition")
        assert (await served.close(session)).status_code == 503
        store.broken.clear()
        assert (await served.call(session, "write", note="c")).text == "waited,b,c"


async def test_an_agent_that_goes_on_calling_does_not_keep_an_end_from_being_told(
    durable: FaultyStore,
) -> None:
    clock, diary = HandClock(), Diary()
    async with serve({"diary": Diary()}, store=durable, clock=clock) as crashed:
        session = await crashed.seed("diary")
        durable.fail("release")  # and then nothing more is heard of it
        await crashed.close(session)
        durable.broken.clear()
        async with serve({"diary": diary}, store=durable, clock=clock) as served:
            for _ in range(3):
                clock.now += LEASE_SECONDS - 1
                assert (await served.call(session, "write", note="a")).is_error
                await served.close(session)
                assert (await served.verify(session)).status_code == 410
                await served.host.maintain()
        assert diary.closed == [(session.id, "closed")]
        await crashed.host.maintain()
        assert not any(crashed.host._ending._told.values())  # though another has told it


async def test_a_recorded_answer_is_repeated_while_another_process_has_the_session(
    durable: FaultyStore,
) -> None:
    clock = HandClock()
    async with serve({"diary": Diary()}, store=durable, clock=clock) as served:
        session = await served.seed("diary")
        scored = await served.verify(session)
        assert await durable.acquire(session.id, clock.now, LEASE_SECONDS) is not None
        assert (await served.verify(session)).content == scored.content


async def test_a_lease_that_a_score_has_given_back_is_not_taken_again(
    durable: FaultyStore,
) -> None:
    clock, answers = HandClock(), list[Any]()
    async with serve({"judge": Judge()}, store=durable, clock=clock) as served:
        session = await served.seed("judge")
        durable.gates_after["record_verdict"] = gate = Gate()
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                await begin(tasks, answers, served.verify, session)
                await gate.reached.wait()
                await served.host.registry.maintain()
                gate.open()
        assert answers[0].status_code == 200
        assert await durable.acquire(session.id, clock.now, LEASE_SECONDS) is not None


async def test_a_lease_whose_score_could_not_be_recorded_is_kept(durable: FaultyStore) -> None:
    clock = HandClock()
    async with serve({"judge": Judge()}, store=durable, clock=clock) as served:
        session = await served.seed("judge")
        durable.fail("record_verdict")
        assert (await served.verify(session)).status_code == 503
        durable.broken.clear()
        clock.now += LEASE_SECONDS - 1
        await served.host.maintain()
        clock.now += LEASE_SECONDS - 1
        assert await durable.acquire(session.id, clock.now, LEASE_SECONDS) is None
        assert (await served.verify(session)).status_code == 200


async def test_processes_that_share_a_store_count_each_others_sessions(
    durable: FaultyStore,
) -> None:
    clock = HandClock()

    async def check(*processes: Served) -> None:
        for process in processes:
            await process.host.maintain()
            await process.check_counts()

    async with (
        serve({"diary": Diary()}, store=durable, clock=clock) as one,
        serve({"diary": Diary()}, store=durable, clock=clock) as other,
    ):
        for _ in range(3):
            await one.seed("diary")
        await check(other, one)
        assert other.mount("diary").open_sessions == 3
        clock.now += 601
        await check(other, one)
        assert one.mount("diary").open_sessions == 0


@pytest.mark.parametrize("noticed", ["by maintenance", "by a seed"])
async def test_a_process_that_stalled_does_not_lose_its_own_pinned_sessions(
    noticed: str, durable: FaultyStore
) -> None:
    clock, cockpit = HandClock(), Cockpit()
    async with serve({"cockpit": cockpit}, store=durable, clock=clock) as served:
        old = await served.seed("cockpit", {}, idempotency_key="key")
        clock.now += 590
        session = await served.seed("cockpit")
        clock.now += LEASE_SECONDS + 1
        if noticed == "by maintenance":
            # before the leases' own task has come to them
            await served.host._expire(served.mount("cockpit"))
        else:
            await served.seed("cockpit", {}, idempotency_key="key")
        assert await status(durable, old) == "expired"
        assert not (await served.call(session, "light")).is_error


async def test_a_key_of_an_expired_session_begins_another_though_others_closes_hang(
    durable: FaultyStore,
) -> None:
    clock, diary = HandClock(), Diary()
    async with serve({"diary": diary}, store=durable, clock=clock) as served:
        old = [await served.seed("diary", idempotency_key=key) for key in ("key", "other")]
        clock.now += 601
        diary.close_gate = Gate()
        with anyio.fail_after(5):
            assert (await served.seed("diary", idempotency_key="key")).id != old[0].id
            diary.close_gate.open()
            await served.host.maintain()  # which tells of both
        assert sorted(diary.closed) == sorted((each.id, "expired") for each in old)


async def test_a_key_of_a_session_that_a_crash_has_lost_begins_another(
    durable: FaultyStore,
) -> None:
    clock = HandClock()
    async with serve({"cockpit": Cockpit()}, store=durable, clock=clock) as crashed:
        lost = await crashed.seed("cockpit", {}, idempotency_key="key")
        clock.now += LEASE_SECONDS + 1
        async with serve({"cockpit": Cockpit()}, store=durable, clock=clock) as served:
            session = await served.seed("cockpit", {}, idempotency_key="key")
            assert session.id != lost.id
            assert not (await served.call(session, "light")).is_error
        await crashed.host.maintain()


async def test_a_verify_whose_session_is_let_go_of_before_its_turn_takes_it_anew() -> None:
    clock, store, diary = HandClock(), FaultyStore(), Diary()
    diary.verify_gate = Gate()
    answers: list[Any] = []
    async with serve({"diary": diary}, clock=clock, store=store) as served:
        session = await served.seed("diary")
        await served.call(session, "write", note="a")
        clock.now += 3_601
        store.gates["transition"] = gate = Gate()
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(served.call, session, "write")  # it finds the session over
                await gate.reached.wait()
                await begin(tasks, answers, served.verify, session)
                gate.open()
                await diary.verify_gate.reached.wait()
                await begin(tasks, answers, served.verify, session, NO_ANSWER)
                diary.verify_gate.open()
        assert [answer.json().get("reward") for answer in answers] == [1.0, 1.0]
        assert diary.verifies == 1


async def test_a_call_whose_session_is_taken_over_says_so_and_masks_the_sample(
    durable: FaultyStore,
) -> None:
    clock, diary = HandClock(), Diary()
    answers: list[Any] = []
    async with serve({"diary": diary}, store=durable, clock=clock) as served:
        session = await served.seed("diary")
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                await begin(tasks, answers, served.call, session, "wait")
                clock.now += LEASE_SECONDS + 1  # stalled
                lease = await acquire(durable, session.id, clock.now, LEASE_SECONDS)
                assert lease is not None
                diary.call_gate.open()
        assert answers[0].text == "The call could not be recorded."
        assert (await served.record(session))["calls"] == []
        await durable.release(lease)
        for _ in range(2):  # what is stale is let go of, and then the failure is noted
            await served.host.maintain()
        masked = await served.verify(session)
        assert (masked.status_code, masked.json()["failure_kind"]) == (502, "store_error")
