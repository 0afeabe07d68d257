"""A task that runs function after function, and owns what they enter."""

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup, TaskStatus

from gymhost.owner_task import OwnerTask


@pytest.fixture
async def tasks() -> AsyncIterator[TaskGroup]:
    async with anyio.create_task_group() as tasks:
        yield tasks
        tasks.cancel_scope.cancel()


async def value(of: Any) -> Any:
    await anyio.lowlevel.checkpoint()
    if isinstance(of, BaseException):
        raise of
    return of


async def test_what_a_function_returns_or_raises_is_the_callers(tasks: TaskGroup) -> None:
    owner = OwnerTask("owner")
    await tasks.start(owner.serve)
    with anyio.fail_after(5):
        assert await owner.run(lambda: value(5)) == 5
        with pytest.raises(LookupError, match="no such city"):
            await owner.run(lambda: value(LookupError("no such city")))
        with pytest.raises(SystemExit):
            await owner.run(lambda: value(SystemExit(1)))
        assert await owner.run(lambda: value("and again")) == "and again"
    owner.close()


async def test_functions_run_in_one_task_which_is_not_the_callers(tasks: TaskGroup) -> None:
    owner, found = OwnerTask("owner"), []
    await tasks.start(owner.serve)

    async def look() -> None:
        found.append(anyio.get_current_task().id)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as callers:
            callers.start_soon(owner.run, look)
            callers.start_soon(owner.run, look)
    assert found[0] == found[1] != anyio.get_current_task().id
    owner.close()


async def test_a_cancelled_caller_ends_the_task_and_waits_for_its_end(tasks: TaskGroup) -> None:
    owner, log = OwnerTask("owner"), []
    await tasks.start(owner.serve)

    async def sleep() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
            log.append("unwound")

    with anyio.fail_after(5):
        with anyio.move_on_after(0.01):
            await owner.run(sleep)
        assert log == ["unwound"]


async def test_a_task_that_is_cancelled_tells_its_caller(tasks: TaskGroup) -> None:
    owner = OwnerTask("owner")

    async def serve(*, task_status: TaskStatus[anyio.CancelScope]) -> None:
        async with anyio.create_task_group() as group:
            await group.start(owner.serve)
            task_status.started(group.cancel_scope)

    async def cancel(scope: anyio.CancelScope) -> None:
        await anyio.wait_all_tasks_blocked()
        scope.cancel()

    with anyio.fail_after(5):
        tasks.start_soon(cancel, await tasks.start(serve))
        with pytest.raises(RuntimeError, match="its task has ended"):
            await owner.run(anyio.sleep_forever)


async def test_close_lets_the_task_end() -> None:
    owner = OwnerTask("owner")
    owner.close()  # before it was started: nothing to end
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            await tasks.start(owner.serve)
            owner.close()
