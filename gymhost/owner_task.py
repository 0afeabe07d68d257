"""One task that runs function after function: what one of them enters, a later one may leave."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import anyio
from anyio.abc import TaskStatus
from anyio.streams.memory import MemoryObjectSendStream

from gymhost.errors import is_crash

__all__ = ["OwnerTask"]

logger = logging.getLogger("gymhost.owner_task")


class OwnerTask:
    """Owns what an author enters by hand: a task group or a cancel scope belongs to its task.

    What they leave open is torn down with the task. It is logged, and harms no other.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: MemoryObjectSendStream[_Job] | None = None
        self._waiting: set[_Job] = set()
        self._scope = anyio.CancelScope()
        self.stack = AsyncExitStack()
        """Unwound in the task, when it ends, however it does."""
        self.ended = anyio.Event()

    async def serve(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run what it is given, until `close`. For a task group's `start`."""
        try:
            # a group of one: the backends raise in it what was left open in the task
            async with anyio.create_task_group() as group:
                self._scope = group.cancel_scope
                await group.start(self._work)
                task_status.started()
        except Exception:
            logger.exception("what %s had entered failed, or was left open", self._name)
        finally:
            self.ended.set()
            for job in self._waiting:
                job.done.set()

    async def _work(self, *, task_status: TaskStatus[None]) -> None:
        self._jobs, jobs = anyio.create_memory_object_stream["_Job"](math.inf)
        with self._jobs, jobs:
            async with self.stack:
                task_status.started()
                async for job in jobs:
                    await job.work()

    async def run(self, function: Callable[[], Awaitable[Any]]) -> Any:
        """Await a function in the task. A caller that is cancelled ends the task.

        Raises: what the function raises; RuntimeError: the task has ended.
        """
        job = self._submit(function)
        try:
            await job.done.wait()
        except BaseException:
            self.cancel()
            with anyio.CancelScope(shield=True):
                await job.done.wait()
            raise
        return job.outcome()

    async def run_on(self, function: Callable[[], Awaitable[Any]]) -> Any:
        """Await a function in the task; it goes on there when the caller is cancelled.

        Raises: what the function raises; RuntimeError: the task has ended.
        """
        job = self._submit(function)
        await job.done.wait()
        return job.outcome()

    def _submit(self, function: Callable[[], Awaitable[Any]]) -> _Job:
        assert self._jobs is not None, "serve was not started"
        job = _Job(function, self._waiting)
        if self.ended.is_set():
            job.done.set()
        else:
            self._jobs.send_nowait(job)
        return job

    def close(self) -> None:
        """Let the task end, after what it was given."""
        if self._jobs is not None:
            self._jobs.close()

    def cancel(self) -> None:
        """End the task at once."""
        self._scope.cancel()


class _Job:
    def __init__(self, function: Callable[[], Awaitable[Any]], waiting: set[_Job]) -> None:
        self._function = function
        self._waiting = waiting
        self.done = anyio.Event()
        self._result: Any = None
        self._error: BaseException | None = RuntimeError("its task has ended")
        waiting.add(self)

    async def work(self) -> None:
        try:
            self._result = await self._function()
            self._error = None
        except BaseException as exc:
            if not is_crash(exc):
                raise
            self._error = exc
        finally:
            self._waiting.discard(self)
            self.done.set()

    def outcome(self) -> Any:
        self._waiting.discard(self)
        if self._error is not None:
            raise self._error
        return self._result
