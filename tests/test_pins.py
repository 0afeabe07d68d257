"""Pinned sessions: live things, entered and left in one task, however the session ends."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import anyio
import pytest

from gymhost import Environment, Session, Task, ToolError, Trajectory, tool
from gymhost.config import EnvironmentConfig
from gymhost.errors import LeaseLost
from gymhost.limits import Limits
from gymhost.models import CloseReason
from gymhost.pins import Pin
from gymhost.registry import LEASE_SECONDS
from gymhost.stores import Lease, MemoryStore
from tests.environments import Gate
from tests.faulty_store import FaultyStore
from tests.served import HandClock, Served, serve

SHORT = Limits(close_seconds=0.05, tool_seconds=0.05)


class Cockpit(Environment):
    """Sessions hold engines, each a task group with a task in it, as a real simulator has."""

    pinned = True

    def __init__(self) -> None:
        self.log: list[str] = []
        self.engines: dict[str, anyio.Event] = {}
        self.entering: Gate | None = None
        self.leaving: Gate | None = None
        self.tasks: set[int] = set()
        self.seed_error: Exception | None = None

    @asynccontextmanager
    async def engine(self, name: str) -> AsyncGenerator[str]:
        if self.entering is not None:
            await self.entering.pass_through()
        async with anyio.create_task_group() as tasks:
            fails = self.engines[name] = anyio.Event()
            tasks.start_soon(self._turn, fails)
            self.log.append(f"{name} on")
            self.tasks.add(anyio.get_current_task().id)
            try:
                yield name
                if self.leaving is not None:
                    await self.leaving.pass_through()
            finally:
                self.tasks.add(anyio.get_current_task().id)
                self.log.append(f"{name} off")
                tasks.cancel_scope.cancel()

    async def _turn(self, fails: anyio.Event) -> None:
        await fails.wait()
        raise RuntimeError("the engine broke")

    @contextmanager
    def lamp(self) -> Generator[str]:
        self.log.append("lamp on")
        yield "lamp"
        self.log.append("lamp off")

    async def seed(self, session: Session, task: Task) -> Any:
        if task.verifier_metadata.get("engine"):
            await session.enter(self.engine("first"))
        if self.seed_error is not None:
            raise self.seed_error
        return self.state_type()

    @tool
    async def start(self, session: Session, name: str) -> str:
        """Start one more engine."""
        return await session.enter(self.engine(name))

    @tool
    async def light(self, session: Session) -> str:
        """Light the lamp."""
        return await session.enter(self.lamp())

    @tool
    async def refuse(self, session: Session) -> str:
        """Enter what can't be entered."""

        @asynccontextmanager
        async def broken() -> AsyncGenerator[None]:
            raise ToolError("no fuel")
            yield

        await session.enter(broken())
        return "never"

    async def verify(self, session: Session, trajectory: Trajectory) -> float:
        return 1.0

    async def close(self, session: Session, reason: CloseReason) -> None:
        self.log.append(f"close {reason}")


async def end_by_verify(served: Served, session: Any) -> None:
    assert (await served.verify(session)).json()["reward"] == 1.0


async def end_by_close(served: Served, session: Any) -> None:
    assert (await served.close(session)).json()["status"] == "closed"


@pytest.mark.parametrize("end", [end_by_verify, end_by_close])
async def test_what_was_entered_is_left_in_reverse_after_close(end: Any) -> None:
    cockpit = Cockpit()
    async with serve({"cockpit": cockpit}) as served:
        session = await served.seed("cockpit", {"verifier_metadata": {"engine": True}})
        assert (await served.call(session, "start", name="second")).text == "second"
        assert (await served.call(session, "light")).text == "lamp"
        assert cockpit.log == ["first on", "second on", "lamp on"]
        with anyio.fail_after(5):
            await end(served, session)
        assert cockpit.log[3] in ("close verified", "close closed")
        assert cockpit.log[4:] == ["lamp off", "second off", "first off"]
        assert len(cockpit.tasks) == 1  # entered and left in one task


async def test_a_stop_leaves_what_was_entered_also_over_a_durable_store() -> None:
    for durable in (False, True):
        cockpit, store = Cockpit(), MemoryStore()
        store.durable = durable
        async with serve({"cockpit": cockpit}, store=store) as served:
            session = await served.seed("cockpit", {"verifier_metadata": {"engine": True}})
        assert cockpit.log == ["first on", "close shutdown", "first off"]
        row = await store.get(session.id)
        assert row is not None
        assert (row.status, row.closing) == ("closed", False)


async def test_an_idle_pinned_session_expires_and_can_not_be_verified() -> None:
    cockpit, clock = Cockpit(), HandClock()
    limits = Limits(idle_seconds=100)
    config = EnvironmentConfig(plugin=cockpit, limits=limits)
    async with serve({"cockpit": config}, clock=clock) as served:
        session = await served.seed("cockpit")
        await served.call(session, "start", name="first")
        for _ in range(12):
            clock.now += LEASE_SECONDS / 3  # renewed all the time, so that it is held
            await served.host.maintain()
        assert cockpit.log == ["first on", "close expired", "first off"]
        answer = await served.verify(session)
        assert (answer.status_code, answer.json()["failure_kind"]) == (410, "session_expired")
        assert served.mount("cockpit").counts["session_expired"] == 1
        assert (await served.call(session, "light")).is_error


async def test_what_hangs_as_it_is_left_does_not_keep_other_sessions_from_expiring() -> None:
    cockpit, clock = Cockpit(), HandClock()
    cockpit.leaving = Gate()
    async with serve({"cockpit": cockpit}, clock=clock) as served:
        for name in ("first", "second"):
            await served.call(await served.seed("cockpit"), "start", name=name)
        clock.now += 3_601
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(served.host.maintain)
                await anyio.wait_all_tasks_blocked()
                assert cockpit.log.count("close expired") == 2
                cockpit.leaving.open()


@pytest.mark.parametrize("moments", range(6))
async def test_what_is_entered_as_the_session_ends_is_left_or_refused(moments: int) -> None:
    cockpit = Cockpit()

    async def enter() -> None:
        with suppress(RuntimeError):
            await pin.enter(cockpit.engine("late"))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:  # it would wait for what is left open
            pin = Pin(tasks, "s-1")
            tasks.start_soon(enter)
            for _ in range(moments):
                await anyio.lowlevel.checkpoint()
            await pin.aclose(5)
    assert cockpit.log in ([], ["late on", "late off"])


async def test_a_pinned_session_is_kept_while_it_is_not_used() -> None:
    cockpit, clock = Cockpit(), HandClock()
    async with serve({"cockpit": cockpit}, clock=clock) as served:
        session = await served.seed("cockpit", {"verifier_metadata": {"engine": True}})
        for _ in range(10):
            clock.now += LEASE_SECONDS - 1
            await served.host.maintain()
        assert cockpit.log == ["first on"]
        assert (await served.call(session, "light")).text == "lamp"


async def test_a_seed_that_fails_leaves_what_it_had_entered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cockpit = Cockpit()
    cockpit.seed_error = ValueError("no")
    async with serve({"cockpit": cockpit}) as served:
        body = {"verifier_metadata": {"engine": True}}
        assert (await served.post("cockpit", "seed_session", body)).status_code == 502
        assert cockpit.log == ["first on", "first off"]


async def test_a_session_that_could_not_be_created_leaves_what_it_had_entered() -> None:
    cockpit, store = Cockpit(), FaultyStore()
    async with serve({"cockpit": cockpit}, store=store) as served:
        store.fail("create")
        body = {"verifier_metadata": {"engine": True}}
        assert (await served.post("cockpit", "seed_session", body)).status_code == 503
        store.broken.clear()
        assert cockpit.log == ["first on", "first off"]


async def test_what_can_not_be_entered_is_the_tools_failure_and_the_rest_goes_on() -> None:
    cockpit = Cockpit()
    async with serve({"cockpit": cockpit}) as served:
        session = await served.seed("cockpit")
        await served.call(session, "start", name="first")
        refused = await served.call(session, "refuse")
        assert (refused.text, refused.is_error) == ("no fuel", True)
        assert (await served.call(session, "light")).text == "lamp"


async def test_what_breaks_later_ends_alone_and_nothing_more_can_be_entered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cockpit = Cockpit()
    async with serve({"cockpit": cockpit}) as served:
        broken, other = await served.seed("cockpit"), await served.seed("cockpit")
        await served.call(other, "start", name="others")
        await served.call(broken, "start", name="first")
        cockpit.engines["first"].set()
        with anyio.fail_after(5):
            while "first off" not in cockpit.log:
                await anyio.lowlevel.checkpoint()
            assert (await served.call(broken, "light")).is_error
        assert f"session {broken.id}" in caplog.text
        assert (await served.call(other, "light")).text == "lamp"
        spoiled = await served.verify(broken)
        assert (spoiled.status_code, spoiled.json()["unmasked_reward"]) == (502, 1.0)
        assert (await served.verify(other)).json()["reward"] == 1.0


async def test_what_is_entered_too_slowly_is_the_tools_timeout_and_is_left_with_the_session() -> (
    None
):
    cockpit = Cockpit()
    cockpit.entering = gate = Gate()
    config = EnvironmentConfig(plugin=cockpit, limits=Limits(tool_seconds=0.05))
    async with serve({"cockpit": config}) as served:
        session = await served.seed("cockpit")
        late = await served.call(session, "start", name="late")
        assert late.is_error
        assert "took longer" in late.text
        gate.open()
        with anyio.fail_after(5):
            while "late on" not in cockpit.log:
                await anyio.lowlevel.checkpoint()
            await served.verify(session)
        assert cockpit.log == ["late on", "close verified", "late off"]


@pytest.mark.parametrize("stuck_in", ["entering", "leaving"])
async def test_what_hangs_is_cancelled_and_the_score_stands(
    stuck_in: str, caplog: pytest.LogCaptureFixture
) -> None:
    cockpit = Cockpit()
    setattr(cockpit, stuck_in, Gate())
    config = EnvironmentConfig(plugin=cockpit, limits=SHORT)
    async with serve({"cockpit": config}) as served:
        session = await served.seed("cockpit")
        await served.call(session, "start", name="first")
        with anyio.fail_after(5):
            assert (await served.verify(session)).json()["reward"] == 1.0
        assert served.mount("cockpit").counts["close_failed"] == 1
        assert "took longer than 0.05 s" in caplog.text
        assert cockpit.log[-1] == ("first off" if stuck_in == "leaving" else "close verified")


async def test_entering_needs_a_pinned_environment() -> None:
    class Loose(Cockpit):
        pinned = False

    async with serve({"loose": Loose()}) as served:
        session = await served.seed("loose")
        assert (await served.call(session, "light")).is_error
        assert served.mount("loose").counts["environment_error"] == 1
    with pytest.raises(RuntimeError, match="needs `pinned = True`"):
        await Session("", "loose", Task(), model=Loose.state_type).enter(Cockpit().lamp())


async def test_a_pinned_session_of_a_process_that_is_gone_is_lost_and_its_record_stays() -> None:
    cockpit, store, clock = Cockpit(), MemoryStore(), HandClock()
    store.durable = True
    async with serve({"cockpit": Cockpit()}, store=store, clock=clock) as crashed:
        session = await crashed.seed("cockpit")
        await crashed.call(session, "start", name="first")
        clock.now += LEASE_SECONDS + 1  # nobody renews: as if it were gone
        async with serve({"cockpit": cockpit}, store=store, clock=clock) as served:
            assert served.mount("cockpit").open_sessions == 1
            told = await served.call(session, "light")
            assert (told.text, told.is_error) == ("The session was lost in a crash.", True)
            assert (await served.verify(session)).json()["failure_kind"] == "session_lost"
            assert (await served.close(session)).json()["status"] == "lost"
            await served.host.maintain()
            answer = await served.verify(session)
            assert (answer.status_code, answer.json()["failure_kind"]) == (410, "session_lost")
            assert cockpit.log == ["close lost"]
            record = await served.record(session)
            assert (record["status"], len(record["calls"])) == ("lost", 1)
            assert served.mount("cockpit").counts["session_lost"] == 1
            assert served.mount("cockpit").open_sessions == 0
        with pytest.raises(LeaseLost):
            await store.commit(Lease(session.id, 0, clock.now), call=b"late")
        crashed.mount("cockpit").open_sessions = 0  # what it believes is not the point here


async def test_a_process_that_was_overtaken_leaves_what_its_session_had_entered() -> None:
    cockpit, store, clock = Cockpit(), MemoryStore(), HandClock()
    async with serve({"cockpit": cockpit}, store=store, clock=clock) as served:
        session = await served.seed("cockpit", {"verifier_metadata": {"engine": True}})
        clock.now += LEASE_SECONDS + 1
        lost = await store.claim_expired(
            clock.now, unused=1e9, idle=1e9, total=1e9, environment="cockpit", closing=True
        )
        assert [row.session_id for row in lost] == [session.id]
        await served.host.maintain()
        with anyio.fail_after(5):
            while "first off" not in cockpit.log:
                await anyio.lowlevel.checkpoint()
        assert sorted(cockpit.log) == ["close lost", "first off", "first on"]
        served.mount("cockpit").open_sessions = 0  # another process has counted it
