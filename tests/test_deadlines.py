"""One timer for everything that must not take too long."""

from __future__ import annotations

import functools
import types
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import AsyncMock

import anyio
import pytest
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from gymhost.deadlines import Deadlines, never_waits

LONG = 3600.0
SHORT = 0.01


@asynccontextmanager
async def watched(deadlines: Deadlines) -> AsyncGenerator[TaskGroup]:
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(deadlines.watch)
            await anyio.wait_all_tasks_blocked()
            yield tasks
            tasks.cancel_scope.cancel()


async def take(deadlines: Deadlines, seconds: float, ended: list[float]) -> None:
    """Sleep, until it is cancelled; note how long it might have taken."""
    scope = anyio.CancelScope()
    deadlines.begin(scope, seconds)
    try:
        with scope:
            await anyio.sleep_forever()
    finally:
        deadlines.end(scope, seconds)
    assert scope.cancelled_caught
    ended.append(seconds)


@pytest.mark.parametrize("watches", [True, False])
async def test_what_takes_too_long_is_cancelled_and_nothing_else(watches: bool) -> None:
    deadlines, ended = Deadlines(), list[float]()
    async with watched(deadlines if watches else Deadlines()) as tasks:
        tasks.start_soon(take, deadlines, LONG, ended)
        async with anyio.create_task_group() as short:
            for number in range(5):
                short.start_soon(take, deadlines, SHORT * (1 + number % 2), ended)
        assert sorted(ended) == [SHORT] * 3 + [SHORT * 2] * 2


async def test_a_shorter_one_wakes_the_watcher_that_sleeps_for_a_longer_one() -> None:
    deadlines, ended = Deadlines(), list[float]()
    async with watched(deadlines) as tasks:
        tasks.start_soon(take, deadlines, LONG, ended)
        await anyio.wait_all_tasks_blocked()  # the watcher sleeps for an hour
        await take(deadlines, SHORT, ended)
        await take(deadlines, SHORT, ended)
        assert ended == [SHORT] * 2


async def test_one_that_has_ended_in_time_is_left_alone() -> None:
    deadlines, ended = Deadlines(), list[float]()
    async with watched(deadlines):
        scope = anyio.CancelScope()
        deadlines.begin(scope, SHORT)
        deadlines.end(scope, SHORT)
        with scope:
            await take(deadlines, SHORT * 2, ended)  # the watcher has been by
        assert not scope.cancel_called


async def test_what_outlives_the_watcher_keeps_its_deadline() -> None:
    deadlines, ended = Deadlines(), list[float]()
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            async with watched(deadlines):
                tasks.start_soon(take, deadlines, SHORT * 10, ended)
                tasks.start_soon(take, deadlines, SHORT * 20, ended)
                await checkpoint()  # they have begun
            assert ended == []
    assert ended == [SHORT * 10, SHORT * 20]


async def test_a_tool_that_holds_up_the_loop_is_not_cut_off_after_it_has_ended() -> None:
    """As with anyio's own: what has ended has ended, however late."""
    deadlines = Deadlines()
    async with watched(deadlines):
        scope = anyio.CancelScope()
        deadlines.begin(scope, 0.0)
        with scope:
            pass
        deadlines.end(scope, 0.0)
        await anyio.wait_all_tasks_blocked()
        assert not scope.cancel_called


async def test_an_interrupt_cancels_what_runs_and_what_comes_after() -> None:
    deadlines, ended = Deadlines(), list[float]()
    async with watched(deadlines):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(take, deadlines, LONG, ended)
            tasks.start_soon(take, deadlines, LONG * 2, ended)
            await anyio.wait_all_tasks_blocked()
            deadlines.interrupt()
        await take(deadlines, LONG, ended)
    assert sorted(ended[:2]) == [LONG, LONG * 2]
    assert ended[2:] == [LONG]


# -- what needs no limit ---------------------------------------------------------------------------


async def plain(value: int = 1) -> list[int]:
    return [value + each for each in range(3) if each]


class Methods:
    async def plain(self) -> Methods:
        def inner() -> int:
            return 1

        async def never_called() -> None:
            await checkpoint()

        return self if inner() and never_called else Methods()

    @staticmethod
    async def static() -> None:
        raise ValueError

    @classmethod
    async def of_class(cls) -> type[Methods]:
        try:
            return cls
        finally:
            del cls


async def _items() -> AsyncGenerator[int]:
    yield 1


async def awaits() -> None:
    if anyio:
        await checkpoint()


async def iterates() -> None:
    async for _ in _items():
        pass


async def enters() -> None:
    async with anyio.create_task_group():
        pass


async def comprehends() -> list[int]:
    return [each async for each in _items()]


async def long_before_it_awaits(values: list[int]) -> list[int]:
    for _ in range(10):
        values = [*values, *[each * 2 for each in values if each % 3], len(values)]
        if values and sum(values) > 100:
            values = sorted(values, key=lambda each: -each)[:10]
    await checkpoint()
    return values


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def call(*args: Any) -> Any:
        return await function(*args)

    return call


@types.coroutine
def generated() -> Generator[None]:
    yield


class Compiled:
    """As Cython's functions are: with the code of another one."""

    __code__ = plain.__code__

    async def __call__(self) -> None: ...


class Called:
    async def __call__(self) -> None: ...


@pytest.mark.parametrize(
    "function", [plain, Methods().plain, Methods.static, Methods().static, Methods.of_class]
)
def test_what_awaits_nothing_never_waits(function: Callable[..., Any]) -> None:
    assert never_waits(function)
    coroutine = function()
    with pytest.raises((StopIteration, ValueError)):
        coroutine.send(None)


@pytest.mark.parametrize(
    "function",
    [
        awaits,
        iterates,
        enters,
        comprehends,
        long_before_it_awaits,
        decorated(plain),
        generated,
        _items,
        Called(),
        functools.partial(plain, 1),
        max,
        print,
        Compiled(),
        AsyncMock(),
        lambda: plain(),
    ],
)
def test_of_whatever_may_wait_it_is_known(function: Callable[..., Any]) -> None:
    assert not never_waits(function)
