"""One task that runs function after function: what one of them enters, a later one may leave."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
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
        self._scope = anyio.CancelScope()

    async def serve(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run what `run` is given, until `close`. For a task group's `start`."""
        try:
            # a group of one: the backends raise in it what was left open in the task
            async with anyio.create_task_group() as group:
                self._scope = group.cancel_scope
                await group.start(self._work)
                task_status.started()
        except Exception:
            logger.exception("%s left a task group or a cancel scope open", self._name)

    async def _work(self, *, task_status: TaskStatus[None]) -> None:
        self._jobs, jobs = anyio.create_memory_object_stream["_Job"](math.inf)
        with self._jobs, jobs:
            task_status.started()
            async for job in jobs:
                await job.work()

    async def run(self, function: Callable[[], Awaitable[Any]]) -> Any:
        """Await a function in the task. A caller that is cancelled ends the task.

        Raises: what the function raises; RuntimeError: the task has ended.
        """
        assert self._jobs is not None, "serve was not started"
        job = _Job(function)
        self._jobs.send_nowait(job)
        try:
            await job.done.wait()
        except BaseException:
            self._scope.cancel()
            with anyio.CancelScope(shield=True):
                await job.done.wait()
            raise
        if job.error is not None:
            raise job.error
        return job.result

    def close(self) -> None:
        """Let the task end."""
        if self._jobs is not None:
            self._jobs.close()


class _Job:
    def __init__(self, function: Callable[[], Awaitable[Any]]) -> None:
        self._function = function
        self.done = anyio.Event()
        self.result: Any = None
        self.error: BaseException | None = RuntimeError("its task has ended")

    async def work(self) -> None:
        try:
            self.result = await self._function()
            self.error = None
        except BaseException as exc:
            if not is_crash(exc):
                raise
            self.error = exc
        finally:
            self.done.set()
