"""Start and stop environments and extensions, side by side, each in a task of its own."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import NamedTuple

import anyio
import pluggy
from anyio.abc import TaskGroup

from gymhost.dispatch import HookCall, HookChain, Runner
from gymhost.errors import PluginLoadError, is_crash
from gymhost.limits import Limits
from gymhost.mount import Mount
from gymhost.owner_task import OwnerTask
from gymhost.plugins import Extension
from gymhost.threads import Threads

__all__ = ["Lifecycle"]

logger = logging.getLogger("gymhost.lifecycle")

EXTENSION_LIMITS = Limits()


class Lifecycle:
    """Starts extensions, then environments; stops environments, then extensions.

    In this order, because an extension's wrappers are around the environments' startup and
    shutdown, too. Both hooks run in one task: what startup enters, shutdown may leave.
    """

    def __init__(self, tasks: TaskGroup, manager: pluggy.PluginManager) -> None:
        self._tasks = tasks
        self._manager = manager
        self._extensions: list[tuple[_Life, OwnerTask]] = []
        self._environments: list[tuple[_Life, OwnerTask]] = []

    async def start_extensions(self, extensions: list[Extension]) -> dict[str, BaseException]:
        """Start extensions; return what failed, by name."""
        lives = (
            _Life(
                each.name,
                partial(self._call_own, each, "startup", EXTENSION_LIMITS.startup_seconds),
                partial(self._call_own, each, "shutdown", EXTENSION_LIMITS.close_seconds),
            )
            for each in extensions
        )
        return await self._start(lives, self._extensions)

    async def start_environments(self, mounts: list[Mount]) -> dict[str, BaseException]:
        """Start environments; return what failed, by name."""
        lives = (_Life(mount.name, mount.startup, mount.shutdown) for mount in mounts)
        return await self._start(lives, self._environments)

    async def stop(self) -> None:
        """Stop what was started."""
        for started in (self._environments, self._extensions):
            async with anyio.create_task_group() as stopping:
                for life, owner in started:
                    stopping.start_soon(self._stop_one, life, owner)

    async def _start(
        self, lives: Iterable[_Life], started: list[tuple[_Life, OwnerTask]]
    ) -> dict[str, BaseException]:
        failures: dict[str, BaseException] = {}
        async with anyio.create_task_group() as starting:
            for life in lives:
                starting.start_soon(self._start_one, life, started, failures)
        return failures

    async def _start_one(
        self,
        life: _Life,
        started: list[tuple[_Life, OwnerTask]],
        failures: dict[str, BaseException],
    ) -> None:
        owner = OwnerTask(life.name)
        await self._tasks.start(owner.serve)
        try:
            await life.startup(owner.run)
        except BaseException as exc:
            owner.close()
            if not is_crash(exc):
                raise
            failures[life.name] = PluginLoadError(f"{life.name!r} could not be started")
            failures[life.name].__cause__ = exc
        else:
            started.append((life, owner))

    async def _stop_one(self, life: _Life, owner: OwnerTask) -> None:
        try:
            await life.shutdown(owner.run)
        except BaseException as exc:
            if not is_crash(exc):
                raise
            logger.exception("%s could not shut down", life.name)
        finally:
            owner.close()

    async def _call_own(self, extension: Extension, hook: str, seconds: float, run: Runner) -> None:
        """Call an extension's own startup or shutdown, where it has one."""
        for found in getattr(self._manager.hook, hook).get_hookimpls():
            if found.plugin is extension.instance and not found.wrapper:
                call = HookCall(found.function)  # no environment: it is not about one
                chain = HookChain(hook, extension.name, call, (), Threads(1))
                await chain({}, seconds, run)


class _Life(NamedTuple):
    name: str
    startup: Callable[[Runner], Awaitable[None]]
    shutdown: Callable[[Runner], Awaitable[None]]
