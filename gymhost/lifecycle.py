"""Start and stop environments and extensions: each in a task of its own, from first to last."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from functools import partial

import anyio
import pluggy
from anyio import to_thread
from anyio.abc import TaskGroup, TaskStatus

from gymhost.errors import is_crash
from gymhost.mount import Mount
from gymhost.plugins import Extension

__all__ = ["Lifecycle"]

logger = logging.getLogger("gymhost.lifecycle")

EXTENSION_SECONDS = 30.0


class Lifecycle:
    """Owns the tasks in which `startup` and `shutdown` run.

    Both run in one task, so that what startup enters, a task group say, shutdown may leave.
    """

    def __init__(self, tasks: TaskGroup, manager: pluggy.PluginManager) -> None:
        self._tasks = tasks
        self._manager = manager
        self._stop = anyio.Event()
        self._running = 0
        self._all_stopped = anyio.Event()

    async def start_extensions(self, extensions: list[Extension]) -> dict[str, BaseException]:
        """Start extensions side by side; return what failed, by name."""
        failures: dict[str, BaseException] = {}
        async with anyio.create_task_group() as starting:
            for extension in extensions:
                starting.start_soon(
                    self._tasks.start,
                    self._own,
                    extension.name,
                    partial(self._call_own_hook, extension.instance, "startup"),
                    partial(self._call_own_hook, extension.instance, "shutdown"),
                    failures,
                )
        return failures

    async def start_environments(self, mounts: list[Mount]) -> dict[str, BaseException]:
        """Start environments side by side; return what failed, by name."""
        failures: dict[str, BaseException] = {}
        async with anyio.create_task_group() as starting:
            for mount in mounts:
                starting.start_soon(
                    self._tasks.start,
                    self._own,
                    mount.name,
                    mount.startup,
                    mount.shutdown,
                    failures,
                )
        return failures

    async def stop(self) -> None:
        """Run every `shutdown`, and wait for them."""
        self._stop.set()
        if self._running:
            await self._all_stopped.wait()

    async def _own(
        self,
        name: str,
        startup: Callable[[], Awaitable[None]],
        shutdown: Callable[[], Awaitable[None]],
        failures: dict[str, BaseException],
        *,
        task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        try:
            await startup()
        except BaseException as exc:
            if not is_crash(exc):
                raise
            failures[name] = exc
            task_status.started()
            return
        self._running += 1
        task_status.started()
        try:
            await self._stop.wait()
            await shutdown()
        except BaseException as exc:
            if not is_crash(exc):
                raise
            logger.exception("%s could not shut down", name)
        finally:
            self._running -= 1
            if not self._running:
                self._all_stopped.set()

    async def _call_own_hook(self, extension: object, hook: str) -> None:
        """Call an extension's own startup or shutdown, where it has one."""
        for found in getattr(self._manager.hook, hook).get_hookimpls():
            if found.plugin is extension and not found.wrapper:
                with anyio.fail_after(EXTENSION_SECONDS):
                    if inspect.iscoroutinefunction(found.function):
                        await found.function()
                    else:
                        await to_thread.run_sync(found.function, abandon_on_cancel=True)
