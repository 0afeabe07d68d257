"""The host's own life: it starts, serves many at once, maintains itself, and stops."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from pydantic import BaseModel

from gymhost import Environment, Session, Task, Trajectory, hookimpl, testing, tool
from gymhost.config import EnvironmentConfig
from gymhost.errors import EnvironmentDown, OverCapacity, StoreError, UnknownEnvironment
from gymhost.host import Host, task_group
from gymhost.limits import Limits
from tests.environments import Diary, Gate
from tests.faulty_store import FaultyStore
from tests.served import HandClock, serve


class Owner(BaseModel):
    owner: str = ""
    notes: list[str] = []


class Ledger(Environment[Owner]):
    """Each session knows whose it is, and notices what is not its own."""

    async def seed(self, session: Session[Owner], task: Task) -> Owner:
        await anyio.lowlevel.checkpoint()
        return Owner(owner=task.verifier_metadata["owner"])

    @tool
    async def note(self, session: Session[Owner], text: str) -> str:
        before = len(session.state.notes)
        await anyio.lowlevel.checkpoint()  # let others in
        session.state.notes.append(text)
        await anyio.lowlevel.checkpoint()
        return f"{session.environment}/{session.state.owner}/{before}"

    @tool
    def note_in_a_thread(self, session: Session[Owner], text: str) -> str:
        session.state.notes.append(text)
        return session.state.owner

    async def verify(self, session: Session[Owner], trajectory: Trajectory) -> float:
        owner = session.task.verifier_metadata["owner"]
        mine = [note for note in session.state.notes if note.startswith(f"{owner}:")]
        called = [call for call in session.calls if call.arguments["text"].startswith(f"{owner}:")]
        assert len(mine) == len(session.state.notes) == len(called) == len(session.calls)
        return float(len(mine))


async def test_two_hundred_interleaved_sessions_see_nothing_of_each_other() -> None:
    environments = {f"ledger{number}": Ledger for number in range(4)}
    rewards: dict[str, float] = {}
    async with serve(environments) as served:

        async def rollout(number: int) -> None:
            environment, owner = f"ledger{number % 4}", f"owner{number}"
            task = {"verifier_metadata": {"owner": owner}}
            session = await served.seed(environment, task)
            for call in range(3):
                outcome = await served.call(session, "note", text=f"{owner}:{call}")
                assert outcome.text == f"{environment}/{owner}/{call}"
            assert (await served.call(session, "note_in_a_thread", text=f"{owner}:t")).text == owner
            answer = await served.verify(session)
            assert answer.headers["set-cookie"].startswith(f"gymhost_session={session.id};")
            rewards[owner] = answer.json()["reward"]

        with anyio.fail_after(50):
            async with anyio.create_task_group() as tasks:
                for number in range(200):
                    tasks.start_soon(rollout, number)
    assert rewards == {f"owner{number}": 4.0 for number in range(200)}


async def test_two_hosts_in_one_process_share_nothing() -> None:
    async with serve({"diary": Diary()}) as one, serve({"diary": Diary()}) as two:
        session = await one.seed("diary")
        assert (await two.verify(session)).status_code == 404
        assert (await two.call(session, "write", note="a")).is_error
        assert (await one.call(session, "write", note="a")).text == "a"


async def test_an_environment_that_is_unknown_or_down_says_so() -> None:
    class Unmakeable(Diary):
        def __init__(self) -> None:
            raise ValueError("no such luck")

    async with serve({"diary": Diary(), "down": Unmakeable}, strict=False) as served:
        with pytest.raises(UnknownEnvironment, match="Served here: diary"):
            served.host.mount("nowhere")
        with pytest.raises(EnvironmentDown, match="no such luck"):
            served.host.mount("down")
    async with serve({}) as served:
        with pytest.raises(UnknownEnvironment, match="Served here: none"):
            served.host.mount("nowhere")


def test_only_what_is_named_is_mounted_where_the_host_is_told_so() -> None:
    host = Host(
        {"diary": Diary(), "blocked": EnvironmentConfig("weather")}, only=True, blocked=["weather"]
    )
    assert set(host.mounts) == {"diary"}
    (blocked,) = [record for record in host.records if record.name == "blocked"]
    assert blocked.status == "failed"


async def test_a_host_serves_only_inside_its_block() -> None:
    host = Host({"diary": Diary()}, discover=False)
    with pytest.raises(RuntimeError, match="async with"):
        await host.seed("diary", {}, b"")
    async with host:
        seeded = await host.seed("diary", {}, b"")
        await host.stop()
        with pytest.raises(OverCapacity):
            await host.seed("diary", {}, b"")
        with pytest.raises(OverCapacity):
            await host.verify("diary", seeded.session_id, {}, b"")


@pytest.mark.parametrize("error", [AssertionError("in a test"), KeyError("x"), SystemExit(3)])
async def test_what_is_raised_inside_a_host_comes_out_as_it_is(error: BaseException) -> None:
    """A failed assertion in an author's test is no group of groups."""
    cause = ValueError("the cause")
    with pytest.raises(type(error)) as caught:
        async with testing.client({"diary": Diary()}):
            raise error from cause
    assert caught.value is error
    assert error.__cause__ is cause


async def test_what_fails_beside_a_block_comes_out_as_a_group() -> None:
    async def fail() -> None:
        raise KeyError("beside")

    async def wait_beside() -> None:
        async with task_group() as tasks:
            tasks.start_soon(fail)
            await anyio.sleep_forever()

    with anyio.fail_after(5):
        with pytest.raises(ExceptionGroup) as caught:
            await wait_beside()
    assert caught.group_contains(KeyError, match="beside")


async def test_an_extension_that_does_not_start_wraps_nothing() -> None:
    class Doubling:
        def __init__(self) -> None:
            self.shut_down = False

        @hookimpl
        async def startup(self) -> None:
            raise ValueError("canary")

        @hookimpl
        async def shutdown(self) -> None:
            self.shut_down = True

        @hookimpl(wrapper=True)
        def verify(self) -> Any:
            return 2 * (yield) + 1

    doubling = Doubling()
    async with serve({"diary": Diary()}, extensions=[doubling], strict=False) as served:
        assert (await served.verify(await served.seed("diary"))).json()["reward"] == 0.0
        (failed,) = (await served.http.get("/envs")).json()["failed"]
        assert (failed["name"], failed["kind"], failed["status"]) == (
            "Doubling",
            "extension",
            "failed",
        )
    assert not doubling.shut_down


async def test_an_environment_whose_hooks_can_not_be_compiled_is_out_alone() -> None:
    class Twice(Diary):
        @hookimpl(specname="seed")
        async def another_seed(self, session: Any, task: Any) -> Any:
            return None

    async with serve({"twice": Twice, "diary": Diary()}, strict=False) as served:
        assert (await served.post("twice", "seed_session", {})).status_code == 503
        await served.seed("diary")


@pytest.mark.parametrize("error", [StoreError("no"), RuntimeError("a bug")])
async def test_maintenance_goes_on_by_itself_though_it_fails(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gymhost.host.MAINTENANCE_SECONDS", 0.01)
    clock, store, diary = HandClock(), FaultyStore(), Diary()
    diary.close_gate = closing = Gate()
    store.broken["claim_expired"] = error
    store.gates["claim_expired"] = first = Gate()
    async with serve({"diary": diary}, clock=clock, store=store) as served:
        session = await served.seed("diary")
        clock.now += 601
        with anyio.fail_after(5):
            await first.reached.wait()
            store.gates["claim_expired"] = second = Gate()
            first.open()
            await second.reached.wait()
            assert diary.closed == []
            store.broken.clear()
            second.open()
            await closing.reached.wait()
            closing.open()
    assert diary.closed == [(session.id, "expired")]


async def test_a_close_that_hangs_keeps_no_other_environments_sessions_from_expiring(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gymhost.host.MAINTENANCE_SECONDS", 0.01)
    clock, hanging, other = HandClock(), Diary(), Diary()
    hanging.close_gate, other.close_gate = Gate(), Gate()
    environments = {
        "a": EnvironmentConfig(plugin=hanging, limits=Limits(close_seconds=60)),
        "b": EnvironmentConfig(plugin=other, limits=Limits(open_sessions=1)),
    }
    async with serve(environments, clock=clock) as served:
        first = await served.seed("a")
        clock.now += 601
        with anyio.fail_after(5):
            await hanging.close_gate.reached.wait()
            second = await served.seed("b")
            clock.now += 601
            await other.close_gate.reached.wait()
            other.close_gate.open()
            await served.seed("b")  # there is room for it
            hanging.close_gate.open()
    assert hanging.closed == [(first.id, "expired")]
    assert other.closed[0] == (second.id, "expired")


async def test_leases_are_renewed_though_a_close_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gymhost.host.MAINTENANCE_SECONDS", 0.01)
    clock, store, diary = HandClock(), FaultyStore(), Diary()
    diary.close_gate = gate = Gate()
    config = EnvironmentConfig(plugin=diary, limits=Limits(close_seconds=60))
    async with serve({"diary": config, "other": Diary()}, clock=clock, store=store) as served:
        await served.seed("diary")
        clock.now += 601
        with anyio.fail_after(5):
            await gate.reached.wait()
            session = await served.seed("other")
            await served.call(session, "write", note="a")
            slot = await served.host.registry.by_id("other", session.id)
            for _ in range(3):
                store.gates_after["renew"] = renewed = Gate()
                await renewed.reached.wait()
                renewed.open()
                clock.now += 20
                slot.used_at = clock.now
            gate.open()
        assert not (await served.call(session, "write", note="b")).is_error
