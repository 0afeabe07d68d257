"""How environments and extensions start and stop: in order, side by side, each on its own."""

import logging
import threading
from collections.abc import Callable, Generator
from typing import Any

import anyio
import pytest
from anyio.abc import TaskStatus

from gymhost import Environment, EnvironmentConfig, Limits, Session, Trajectory, hookimpl, lifecycle
from gymhost.errors import EnvironmentDown
from gymhost.host import Host
from gymhost.testing import client


class World(Environment):
    """Logs its life."""

    def __init__(self, log: list[str], name: str = "world") -> None:
        self.log, self.name = log, name

    async def startup(self) -> None:
        self.log.append(f"{self.name} starts")

    async def verify(self, session: Session, trajectory: Trajectory) -> float:
        return 1.0

    async def shutdown(self) -> None:
        self.log.append(f"{self.name} stops")


class Does(World):
    """Runs a given function in its startup, or its shutdown."""

    def __init__(self, log: list[str], *, start: Any = None, stop: Any = None) -> None:
        super().__init__(log, "does")
        self.start, self.stop = start, stop

    async def startup(self) -> None:
        if self.start is not None:
            await self.start()
        await super().startup()

    async def shutdown(self) -> None:
        await super().shutdown()
        if self.stop is not None:
            await self.stop()


async def serve(environments: dict[str, Any], *extensions: object) -> Host:
    """Run a host from its start to its stop."""
    with anyio.fail_after(10):
        async with Host(environments, extensions=extensions, discover=False) as host:
            pass
    return host


class Simulates(World):
    """Enters a task group in startup, by hand, and leaves it in shutdown."""

    fails = False

    async def startup(self) -> None:
        self.group = anyio.create_task_group()
        await self.group.__aenter__()
        await self.group.start(self.simulate)
        if self.fails:
            raise OSError("no GPU")
        self.log.append("simulation starts")

    async def simulate(self, *, task_status: TaskStatus[None]) -> None:
        try:
            task_status.started()
            await anyio.sleep_forever()
        finally:
            self.log.append("simulation ends")

    async def shutdown(self) -> None:
        self.group.cancel_scope.cancel()
        await self.group.__aexit__(None, None, None)
        self.log.append("group left")


async def test_shutdown_leaves_the_task_group_that_startup_entered() -> None:
    log: list[str] = []
    host = await serve({"first": Simulates(log), "second": Simulates(log)})
    assert [record.status for record in host.records] == ["up", "up"]
    assert log[:2] == ["simulation starts"] * 2
    assert sorted(log[2:]) == ["group left"] * 2 + ["simulation ends"] * 2


async def test_wrappers_may_limit_the_time_of_a_startup_that_enters_a_task_group() -> None:
    class Limits:
        @hookimpl(wrapper=True)
        def startup(self) -> Generator[None, None, None]:
            with anyio.fail_after(5):
                yield

    log: list[str] = []
    host = await serve({"world": Simulates(log)}, Limits())
    assert [record.status for record in host.records] == ["up", "up"]
    assert log == ["simulation starts", "simulation ends", "group left"]


class FailsToSimulate(Simulates):
    fails = True


class HangsInSimulation(Simulates):
    async def startup(self) -> None:
        await super().startup()
        await anyio.sleep_forever()


class NeverLeaves(Simulates):
    async def shutdown(self) -> None: ...


@pytest.mark.parametrize("careless", [FailsToSimulate, HangsInSimulation, NeverLeaves])
async def test_a_task_group_that_is_left_open_harms_no_other(
    careless: type[Simulates], caplog: pytest.LogCaptureFixture
) -> None:
    log: list[str] = []
    config = EnvironmentConfig(plugin=careless([]), limits=Limits(startup_seconds=0.2))
    async with client({"careless": config, "fine": Simulates(log)}, strict=False) as served:
        async with served.episode("fine") as episode:
            assert (await episode.verify())["reward"] == 1.0
    assert log == ["simulation starts", "simulation ends", "group left"]
    assert "what careless had entered failed, or was left open" in caplog.messages


async def test_environments_start_and_stop_side_by_side() -> None:
    log: list[str] = []
    met = [anyio.Event() for _ in range(4)]

    def meets(mine: int, others: int) -> Callable[[], Any]:
        async def meet() -> None:
            met[mine].set()
            await met[others].wait()

        return meet

    await serve(
        {
            "one": Does(log, start=meets(0, 1), stop=meets(2, 3)),
            "two": Does(log, start=meets(1, 0), stop=meets(3, 2)),
        }
    )
    assert log == ["does starts"] * 2 + ["does stops"] * 2


async def crash() -> None:
    raise OSError("no GPU")


async def leave() -> None:
    raise SystemExit(3)


async def crash_in_a_group() -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(crash)


async def in_a_thread() -> None:
    await anyio.to_thread.run_sync(exit, 4)


STARTUPS = [
    (crash, "OSError: no GPU"),
    (leave, "it called sys.exit(3)"),
    (crash_in_a_group, "OSError: no GPU"),
    (in_a_thread, "it called sys.exit(4)"),
    (anyio.sleep_forever, "CallTimeout: startup of 'bad' took longer than 0.05 s"),
]


@pytest.mark.parametrize(("start", "cause"), STARTUPS)
async def test_an_environment_that_can_not_start_fails_alone(
    start: Callable[[], Any], cause: str
) -> None:
    log: list[str] = []
    limits = Limits(startup_seconds=0.05)
    config = EnvironmentConfig(plugin=Does(log, start=start), limits=limits)
    environments = {"bad": config, "fine": World(log)}
    with anyio.fail_after(10):
        async with client(environments, strict=False) as served:
            async with served.episode("fine") as episode:
                assert (await episode.verify())["reward"] == 1.0
            bad, fine = served.host.records
            assert (bad.status, fine.status) == ("failed", "up")
            assert bad.reason == f"'bad' could not be started: {cause}"
            with pytest.raises(EnvironmentDown, match="could not be started"):
                served.host.mount("bad")
    assert log == ["world starts", "world stops"]  # what did not start is not stopped


async def test_a_plain_def_startup_that_hangs_fails_alone() -> None:
    log: list[str] = []
    release = threading.Event()

    class Hangs(World):
        def startup(self) -> None:  # type: ignore[override]
            release.wait(10)

    try:
        config = EnvironmentConfig(plugin=Hangs(log), limits=Limits(startup_seconds=0.05))
        host = await serve({"bad": config, "fine": World(log)})
        assert [record.status for record in host.records] == ["failed", "up"]
        assert log == ["world starts", "world stops"]
    finally:
        release.set()


@pytest.mark.parametrize("stop", [crash, leave, anyio.sleep_forever])
async def test_a_shutdown_that_fails_is_logged_and_stops_no_other(
    stop: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    log: list[str] = []
    limits = Limits(close_seconds=0.05)
    config = EnvironmentConfig(plugin=Does(log, stop=stop), limits=limits)
    with caplog.at_level(logging.ERROR, "gymhost.lifecycle"):
        await serve({"bad": config, "fine": World(log)})
    assert sorted(log) == ["does starts", "does stops", "world starts", "world stops"]
    assert [record.message for record in caplog.records] == ["bad could not shut down"]
    assert caplog.records[0].exc_info is not None


class Database:
    """An extension with a life of its own, whose wrappers are around the environments' lives."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    @hookimpl
    async def startup(self) -> None:
        self.log.append("database starts")

    @hookimpl
    def shutdown(self) -> None:
        assert threading.current_thread() is not threading.main_thread()
        self.log.append("database stops")

    @hookimpl(wrapper=True, specname="startup")
    def around_startup(self, environment: str) -> Generator[None, None, None]:
        self.log.append(f"before {environment}")
        yield

    @hookimpl(wrapper=True, specname="shutdown")
    def around_shutdown(self, environment: str) -> Generator[None, None, None]:
        yield
        self.log.append(f"after {environment}")


async def test_an_extension_lives_longer_than_the_environments_it_wraps() -> None:
    log: list[str] = []
    host = await serve({"world": World(log)}, Database(log))
    assert [record.status for record in host.records] == ["up", "up"]
    assert log == [
        "database starts",
        "before world",
        "world starts",
        "world stops",
        "after world",
        "database stops",
    ]


async def hang() -> None:
    await anyio.sleep_forever()


@pytest.mark.parametrize(
    ("start", "cause"),
    [
        (crash, "OSError: no GPU"),
        (leave, "it called sys.exit(3)"),
        (hang, "CallTimeout: startup of 'Bad' took longer than 0.05 s"),
    ],
)
async def test_an_extension_that_can_not_start_wraps_nothing(
    start: Callable[[], Any], cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []

    class Bad(Database):
        @hookimpl
        async def startup(self) -> None:
            await start()

        @hookimpl(wrapper=True)
        def verify(self) -> Generator[None, Any, Any]:
            return -1 * (yield)

    monkeypatch.setattr(lifecycle, "EXTENSION_LIMITS", Limits(startup_seconds=0.05))
    with anyio.fail_after(10):
        async with client({"world": World(log)}, extensions=[Bad(log)], strict=False) as served:
            bad, world = sorted(served.host.records, key=lambda record: record.name)
            assert (bad.status, world.status) == ("failed", "up")
            assert bad.reason == f"'Bad' could not be started: {cause}"
            async with served.episode("world") as episode:
                assert (await episode.verify())["reward"] == 1.0
    assert log == ["world starts", "world stops"]


async def test_an_extensions_own_startup_is_about_no_environment() -> None:
    class Confused:
        @hookimpl
        async def startup(self, environment: str) -> None: ...

    host = await serve({}, Confused)
    assert host.records[0].reason is not None
    assert host.records[0].reason.startswith("'Confused' could not be started: TypeError: ")


async def test_a_wrapper_that_raises_in_startup_fails_the_environment() -> None:
    class Refuses:
        @hookimpl(wrapper=True)
        def startup(self, environment: str) -> Generator[None, None, None]:
            if environment == "bad":
                raise PermissionError(environment)
            yield

    log: list[str] = []
    host = await serve({"bad": World(log), "fine": World(log)}, Refuses)
    _, bad, fine = host.records
    assert (bad.status, fine.status) == ("failed", "up")
    assert bad.reason == "'bad' could not be started: PermissionError: bad"
    assert log == ["world starts", "world stops"]


async def test_a_start_that_is_cancelled_is_undone() -> None:
    log: list[str] = []

    class Hangs(World):
        async def startup(self) -> None:
            hanging.set()
            await anyio.sleep_forever()

    hanging = anyio.Event()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve, {"fine": World(log), "hangs": Hangs(log)})
            await hanging.wait()
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
    assert log == ["world starts", "world stops"]
