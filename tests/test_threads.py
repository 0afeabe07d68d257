"""An environment's own threads: how many, whose they are, and what becomes of an abandoned one."""

import asyncio
import threading
from collections.abc import Callable, Iterator

import anyio
import pytest
import trio
from anyio import from_thread
from pydantic import BaseModel

from gymhost import Environment, EnvironmentConfig, Limits, Session, Task, Trajectory, tool
from gymhost.testing import client
from gymhost.threads import Threads


class Held:
    """A function that says when it has begun, and returns when it is released."""

    def __init__(self) -> None:
        self.began = anyio.Event()
        self._release = threading.Event()

    def __call__(self) -> str:
        from_thread.run_sync(self.began.set)
        assert self._release.wait(10)
        return "released"

    def release(self) -> None:
        self._release.set()


@pytest.fixture
def held() -> Iterator[Held]:
    held = Held()
    yield held
    held.release()  # a thread that a failed test forgot would keep pytest from its end


async def abandon(threads: Threads, held: Held) -> None:
    """Start a thread and give it up."""
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(threads.run, held)
            await held.began.wait()
            scope.cancel()
    assert scope.cancelled_caught


async def test_what_a_thread_returns_or_raises_is_the_callers() -> None:
    threads = Threads(1)
    assert await threads.run(lambda: 5) == 5
    with pytest.raises(SystemExit):
        await threads.run(exit_now)
    assert (threads.in_use, threads.stuck) == (0, 0)


def exit_now() -> None:
    raise SystemExit(2)


async def test_a_call_waits_for_a_free_thread(held: Held) -> None:
    threads, order = Threads(1), []

    async def run(function: Callable[[], str]) -> None:
        order.append(await threads.run(function))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run, held)
            await held.began.wait()
            tasks.start_soon(run, lambda: "second")
            await anyio.wait_all_tasks_blocked()
            assert threads.in_use == 1
            assert order == []
            held.release()
    assert order == ["released", "second"]


async def test_an_abandoned_thread_keeps_its_place_until_it_returns(held: Held) -> None:
    threads, second = Threads(1), []
    with anyio.fail_after(5):
        await abandon(threads, held)
        assert (threads.in_use, threads.stuck) == (1, 1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(threads.run, lambda: second.append("ran"))
            await anyio.wait_all_tasks_blocked()
            assert second == []
            held.release()
    assert second == ["ran"]
    assert (threads.in_use, threads.stuck) == (0, 0)


async def test_a_call_that_is_cancelled_while_it_waits_never_runs(held: Held) -> None:
    threads, ran = Threads(1), []
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(threads.run, held)
            await held.began.wait()
            with anyio.move_on_after(0.01) as scope:
                await threads.run(lambda: ran.append("ran"))
            assert scope.cancelled_caught
            assert (threads.in_use, threads.stuck) == (1, 0)
            held.release()
    assert ran == []
    assert (threads.in_use, threads.stuck) == (0, 0)


async def test_a_call_that_is_cancelled_before_it_starts_never_runs() -> None:
    threads, ran = Threads(1), []
    with anyio.CancelScope() as scope:
        scope.cancel()
        await threads.run(lambda: ran.append("ran"))
    assert ran == []
    assert (threads.in_use, threads.stuck) == (0, 0)


async def test_two_environments_threads_are_their_own(held: Held) -> None:
    full, other = Threads(1), Threads(1)
    with anyio.fail_after(5):
        await abandon(full, held)
        assert await other.run(lambda: "other") == "other"


def test_an_abandoned_thread_ends_though_asyncio_has_stopped() -> None:
    """It must not wait for a loop that will never answer: the process would not end."""
    held, before = Held(), set(threading.enumerate())
    with asyncio.Runner() as runner:
        runner.run(abandon(Threads(1), held))
        held.release()
        assert_ended(before)


@pytest.mark.parametrize("run", [lambda main: asyncio.run(main()), trio.run])
def test_an_abandoned_thread_ends_though_its_loop_is_closed(run: Callable[..., None]) -> None:
    helds, before = [], set(threading.enumerate())

    async def main() -> None:
        helds.append(Held())
        await abandon(Threads(1), helds[0])

    run(main)
    helds[0].release()
    assert_ended(before)


def assert_ended(before: set[threading.Thread]) -> None:
    # trio keeps an idle thread for the next call: a daemon, which holds nothing up
    for thread in set(threading.enumerate()) - before:
        if not thread.daemon:
            thread.join(5)
            assert not thread.is_alive()


class Notes(BaseModel):
    notes: int = 0


class Plain(Environment[Notes]):
    """All of it runs in threads; its tool may meet others at a barrier first."""

    def __init__(self, barrier: threading.Barrier | None = None) -> None:
        self.barrier = barrier
        self.release = threading.Event()

    def seed(self, session: Session[Notes], task: Task) -> Notes:  # type: ignore[override]
        return Notes()

    @tool
    def note(self, session: Session[Notes]) -> str:
        """Write a note."""
        if self.barrier is not None:
            self.barrier.wait(10)
            assert self.release.wait(10)
        session.state.notes += 1
        return f"{session.state.notes}"

    def verify(self, session: Session[Notes], trajectory: Trajectory) -> float:  # type: ignore[override]
        return session.state.notes


async def test_an_environment_serves_while_another_ones_threads_are_all_held() -> None:
    held, free = Plain(threading.Barrier(4)), Plain()  # three threads, and the test
    configs = {
        "held": EnvironmentConfig(plugin=held, limits=Limits(threads=3)),
        "free": EnvironmentConfig(plugin=free),
    }
    verdicts = []

    async def play_held() -> None:
        async with served.episode("held") as episode:
            await episode.call_tool("note")
            verdicts.append((await episode.verify())["reward"])

    async with client(configs) as served:
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(play_held)
                assert held.barrier is not None
                await anyio.to_thread.run_sync(held.barrier.wait, 10)
                assert served.host.mounts["held"].threads.in_use == 3
                async with served.episode("free") as episode:
                    assert (await episode.call_tool("note")).text == "1"
                    assert (await episode.verify())["reward"] == 1.0
                assert verdicts == []
                held.release.set()
    assert verdicts == [1.0, 1.0, 1.0]


async def test_a_timed_out_tool_leaves_a_stuck_thread_until_it_returns() -> None:
    world = Plain(threading.Barrier(1))
    limits = Limits(threads=2, tool_seconds=0.3)
    async with client({"world": EnvironmentConfig(plugin=world, limits=limits)}) as served:
        mount = served.host.mounts["world"]
        with anyio.fail_after(10):
            async with served.episode("world") as episode:
                assert "took longer" in (await episode.call_tool("note")).text
                assert mount.threads.stuck == 1
                world.release.set()
                while mount.threads.stuck:
                    await anyio.lowlevel.checkpoint()
                assert (await episode.call_tool("note")).text == "1"
        assert mount.threads.in_use == 0
