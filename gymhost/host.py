"""Environments and sessions behind one door: seed, call_tool, verify, close. No HTTP, no CLI."""

from __future__ import annotations

import logging
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Collection,
    Mapping,
    Sequence,
)
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from types import TracebackType
from typing import Any, Self

import anyio
from anyio.abc import TaskGroup, TaskStatus

from gymhost.calling import Calling
from gymhost.clock import Clock, SystemClock
from gymhost.config import EnvironmentConfig
from gymhost.deadlines import Deadlines
from gymhost.dispatch import create_plugin_manager
from gymhost.ending import Ending, hook_failures_answered
from gymhost.environment import Environment
from gymhost.errors import (
    EnvironmentDown,
    EnvironmentMissing,
    OverCapacity,
    SessionEnded,
    SessionLost,
    StoreError,
    UnknownEnvironment,
)
from gymhost.lean_body import AnyBody
from gymhost.lifecycle import Lifecycle
from gymhost.limits import Limits
from gymhost.models import JSONObject, ToolOutcome
from gymhost.mount import Mount
from gymhost.plugins import PluginLoader, PluginRecord
from gymhost.registry import Registry
from gymhost.seeding import Seeded, Seeding
from gymhost.store_health import StoreHealth
from gymhost.stores import ENDED, SessionStore, Status, open_store
from gymhost.sweeper import Sweeper
from gymhost.verification import Verification, VerifyAnswer

__all__ = ["EnvironmentLike", "Host", "task_group"]

logger = logging.getLogger("gymhost.host")

MAINTENANCE_SECONDS = 5.0
# A session that lives when its environment is gone: by default, none would be left by then.
ABANDONED_SECONDS = Limits().total_seconds
# What stop gives to each of its steps. A close hook that has begun by then has its own time, too.
SESSIONS_SECONDS = 15.0
ENVIRONMENTS_SECONDS = 20.0
STORE_SECONDS = 3.0

EnvironmentLike = EnvironmentConfig | type[Environment[Any]] | Environment[Any]


class Host:
    """Serves environments for as long as its `async with` block runs; once.

    Two hosts in one process share nothing.
    """

    def __init__(
        self,
        environments: Mapping[str, EnvironmentLike] | None = None,
        *,
        extensions: Sequence[object] = (),
        discover: bool = True,
        only: bool = False,
        blocked: Collection[str] = (),
        extension_options: Mapping[str, Mapping[str, Any]] | None = None,
        extensions_wrap: bool = True,
        store: str | SessionStore = "memory://",
        keep_trajectories: bool = False,
        clock: Clock | None = None,
    ) -> None:
        """Load the plugins.

        `environments` adds to the installed ones, or configures those of the same name; with
        `only`, they alone are mounted. `discover=False` does not look for installed plugins.
        `extension_options` are the keyword arguments of installed extensions, by their names.
        Without `extensions_wrap`, extensions register their environments and do nothing else.
        `keep_trajectories` keeps what was scored beside the score.
        A plugin that fails is in `records`, with its cause.
        """
        self.clock = clock or SystemClock()
        self.store = open_store(store) if isinstance(store, str) else store
        self.store_health = StoreHealth(self.store, self.clock)
        self.registry = Registry(self.store, self.clock)
        self.keep_trajectories = keep_trajectories
        self.stopping = False
        self._ending = Ending(self.store, self.registry, self.clock)
        self._sweeper = Sweeper(self.store, self._ending)
        self._seeding = Seeding(self.store, self.registry, self.clock, self._ending)
        self._calling = Calling(self.store, self.registry, self.clock, self._ending)
        self._verification = Verification(
            self.store, self.registry, self.clock, self._ending, keep_trajectories
        )
        self._deadlines, self._request_deadlines = Deadlines(), Deadlines()
        self._manager = create_plugin_manager()
        self._loader = PluginLoader(self._manager, blocked, extension_options or {})
        if discover:
            self._loader.discover()
        for extension in extensions:
            self._loader.add_extension(extension)
        if not extensions_wrap:
            for loaded in self._loader.extensions:
                if self._manager.is_registered(loaded.instance):  # one that failed is out already
                    self._manager.unregister(loaded.instance)
        self.mounts = self._mount_all(environments or {}, only=only)
        self._stack = AsyncExitStack()
        self._running: tuple[TaskGroup, Lifecycle] | None = None
        self._lives: TaskGroup | None = None
        """Of what still has to be undone when the host is cancelled."""
        self._stopped = False

    @property
    def records(self) -> list[PluginRecord]:
        """What loaded, what failed and why."""
        return self._loader.records

    @property
    def agents(self) -> Mapping[str, Callable[..., Any] | str]:
        """What makes agents, or `module:attribute`, by the names that extensions gave them."""
        return self._loader.agents

    @property
    def agent_owners(self) -> Mapping[str, PluginRecord]:
        """Which extension has registered each agent."""
        return self._loader.agent_owners

    def mount(self, name: str) -> Mount:
        """Return a mounted environment.

        Raises: UnknownEnvironment; EnvironmentDown: it failed to load or start.
        """
        mount = self.mounts.get(name)
        if mount is not None:
            return mount
        for record in self.records:
            if record.name == name and record.status == "failed" and record.kind != "extension":
                raise EnvironmentDown(f"{name!r} is not served: {record.reason}")
        known = ", ".join(sorted(self.mounts)) or "none"
        raise UnknownEnvironment(f"No environment is named {name!r}. Served here: {known}.")

    async def seed(
        self,
        name: str,
        body: JSONObject,
        raw: bytes,
        key: str | None = None,
        *,
        stays: bool = False,
    ) -> Seeded:
        """Start a session from a task. `raw` is the body as it came, to know it again by `key`.

        `stays` is as in `call_tool`.

        Raises: InvalidField, OverCapacity, KeyConflict, EnvironmentFailed, EnvironmentTimeout,
        StoreError, UnknownEnvironment, EnvironmentDown.
        """
        mount = self.mount(name)
        self._tasks()
        assert self._lives is not None
        return await self._seeding.seed(mount, body, raw, key, self._lives, stays)

    async def call_tool(
        self,
        name: str,
        token: str | None,
        tool_name: str,
        arguments: JSONObject,
        *,
        gone: Callable[[], Awaitable[Any]] | None = None,
        stays: bool = False,
    ) -> ToolOutcome:
        """Run one tool call of an agent: the one way to it. A failure is an outcome, not an error.

        `gone` returns when the caller has gone away: a call that still waits then never starts.
        `stays` is for callers that nothing cancels: what is written then needs no shield.
        """
        mount = self.mounts.get(name)
        if mount is None:
            return ToolOutcome.error(f"{name!r} is not served.", "refused")
        if self.stopping:
            return await self._calling.refuse_for_stop(mount, token)
        return await self._calling.call_tool(mount, token, tool_name, arguments, gone, stays)

    async def verify(
        self,
        name: str,
        session_id: str | None,
        body: AnyBody,
        raw: bytes,
        *,
        stays: bool = False,
    ) -> VerifyAnswer:
        """Score a session's attempt, once; `raw` is the body as it came.

        The same body joins the run in flight or gets the recorded answer. Without a session, a
        stateless environment scores the body's own task. A run has a task of its own, which goes on
        when the caller is cancelled; with `stays`, for callers that nothing cancels, it is the
        caller's.

        Raises: SessionLost, SessionEnded, TaskMismatch, AlreadyVerified, SampleMasked,
        EnvironmentFailed, EnvironmentTimeout, StoreError, UnknownEnvironment, EnvironmentDown.
        """
        mount, tasks = self.mount(name), self._tasks()
        await self._calling.settle(session_id)
        return await self._verification.verify(
            mount, session_id, body, raw, None if stays else tasks
        )

    async def aggregate_metrics(self, name: str, results: Sequence[JSONObject]) -> bytes:
        """Return statistics over many of verify's answers, as JSON: an `AggregateMetrics`.

        Raises: EnvironmentFailed, EnvironmentTimeout, UnknownEnvironment, EnvironmentDown,
        OverCapacity.
        """
        mount = self.mount(name)
        self._tasks()
        with hook_failures_answered(mount, "aggregate_metrics"):
            return await mount.aggregate_metrics(results)

    async def close(self, name: str, session_id: str) -> Status:
        """End a session unscored, after its running calls; one that has ended stays as it is.

        Raises: SessionLost, StoreError, UnknownEnvironment, EnvironmentDown.
        """
        return await self._ending.close(self.mount(name), session_id)

    async def forget(self, session_id: str) -> None:
        """Forget a session, whatever its environment: it is closed first if it lives.

        Raises: SessionLost, StoreError; EnvironmentMissing: it can't be closed; OverCapacity:
        another process works on it, or its environment is yet to be told that it has ended.
        """
        row = await self.store.get(session_id)
        mount = self.mounts.get(row.environment) if row is not None else None
        # one that is closing is left to the sweeper, which could not have it while it is open here
        if row is not None and mount is not None and not row.closing:
            with suppress(SessionEnded):  # pinned to a process that is gone: the sweeper's, too
                await self._ending.close(mount, session_id)  # or wait for a verify of an ended one
            row = await self.store.get(session_id)
        if row is not None and (row.status not in ENDED or row.closing):
            if mount is None:
                raise EnvironmentMissing(
                    f"{row.environment!r} is not served, and has to be told that the session ends. "
                    "A day after its last use, a prune forgets it all the same."
                )
            raise OverCapacity(f"{row.environment!r} is being told that the session has ended.")
        if not await self.registry.forget(session_id):
            raise SessionLost(f"No session {session_id!r} is known.")

    async def prune(self, ended_before: float, *, environment: str | None = None) -> int:
        """Forget the sessions that ended before a time; return how many.

        With them go those that no environment will end any more, because it is not mounted:
        living ones, too, where nobody has used them since, nor in the last day.

        Raises: StoreError.
        """
        pruned = await self.store.prune(ended_before, environment=environment)
        now = self.clock.time()
        before = min(ended_before, now - ABANDONED_SECONDS)
        names = {name for name, _ in await self.store.counts()} - self.mounts.keys()
        for name in sorted(names):
            if environment in (None, name):
                pruned += await self.store.prune_abandoned(before, now, environment=name)
        return pruned

    async def maintain(self) -> None:
        """Renew leases, expire sessions and forget old ones, once. The host does it by itself.

        Raises: StoreError.
        """
        await self._keep()
        for mount in list(self.mounts.values()):
            await self._expire(mount)
        await self._count_open()

    async def _keep(self) -> None:
        await self._calling.settle()
        await self._verification.mark_submitted()
        for slot in await self.registry.maintain():
            assert self._lives is not None
            mount = self.mounts[slot.row.environment]
            self._lives.start_soon(self._ending.unwind, mount, slot.id, slot.pin)

    async def _expire(self, mount: Mount) -> None:
        if not self.stopping:
            await self._sweeper.sweep(mount)

    async def _count_open(self) -> None:
        if not self.stopping:
            await self._sweeper.count_open(self.mounts)

    def interrupt(self) -> None:
        """Cancel what requests wait for: each ends with Interrupted. Nothing more may begin."""
        self._request_deadlines.interrupt()

    async def stop(self) -> None:
        """End what does not outlive the process, and stop the environments. Once."""
        self.stopping = True
        if self._stopped or self._running is None:
            return
        self._stopped = True
        steps: tuple[tuple[str, float, Callable[[], Awaitable[None]]], ...] = (
            ("the sessions", SESSIONS_SECONDS, self._end_sessions),
            ("the leases", STORE_SECONDS, self.registry.drop_all),
            ("the environments", ENVIRONMENTS_SECONDS, self._running[1].stop),
            ("the session store", STORE_SECONDS, self.store.aclose),
        )
        for what, seconds, step in steps:
            with anyio.move_on_after(seconds) as scope:
                try:
                    await step()
                except StoreError:
                    logger.exception("ending %s failed", what)
            if scope.cancelled_caught:
                logger.error("ending %s took longer than %g s: given up", what, seconds)

    async def _end_sessions(self) -> None:
        await self._seeding.stop()
        await self._verification.stop()
        async with task_group() as ending:
            ending.start_soon(self._sweeper.stop)
            await self._ending.close_all(list(self.mounts.values()))

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            tasks = await stack.enter_async_context(task_group())
            stack.callback(tasks.cancel_scope.cancel)
            lives: TaskGroup = await tasks.start(_hold_shielded)
            stack.callback(lives.cancel_scope.cancel)
            self._running, self._lives = (tasks, Lifecycle(lives, self._manager)), lives
            stack.push_async_callback(self._stop_shielded)
            await self._start(*self._running)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return await self._stack.__aexit__(kind, error, traceback)

    async def _start(self, tasks: TaskGroup, lifecycle: Lifecycle) -> None:
        for deadlines in (self._deadlines, self._request_deadlines):
            tasks.start_soon(deadlines.watch)
        await self.store.open()
        extensions = {each.name: each for each in self._loader.extensions}
        failures = await lifecycle.start_extensions(list(extensions.values()))
        for name, error in failures.items():
            self._loader.take_out(extensions[name].record, extensions[name].instance, error)
        if failures:  # what failed to start wraps nothing
            siblings = [mount.instance for mount in self.mounts.values()]
            for mount in self.mounts.values():
                mount.compile_hooks(self._manager, siblings)
        failures = await lifecycle.start_environments(list(self.mounts.values()))
        for name, error in failures.items():
            mount = self.mounts.pop(name)
            self._loader.take_out(mount.record, mount.instance, error)
        living = await self._sweeper.living()
        for name, mount in self.mounts.items():
            mount.open_sessions += living[name]
        # tasks of their own: no lease is lost, and nobody else's session stays, because an
        # environment's close hangs
        for maintain in (self._keep, self._count_open):
            tasks.start_soon(self._repeat, maintain)
        for mount in self.mounts.values():
            tasks.start_soon(self._repeat, partial(self._expire, mount))

    async def _stop_shielded(self) -> None:
        with anyio.CancelScope(shield=True):
            await self.stop()

    async def _repeat(self, maintain: Callable[[], Awaitable[None]]) -> None:
        while True:
            await anyio.sleep(MAINTENANCE_SECONDS)
            try:
                await maintain()
            except Exception:
                logger.exception("the sessions could not be maintained; trying again")

    def _mount_all(
        self, environments: Mapping[str, EnvironmentLike], *, only: bool
    ) -> dict[str, Mount]:
        configs = {
            name: value if isinstance(value, EnvironmentConfig) else EnvironmentConfig(plugin=value)
            for name, value in environments.items()
        }
        loaded = self._loader.mount(configs, only=only)
        siblings = [each.instance for each in loaded]
        mounts: dict[str, Mount] = {}
        for each in loaded:
            try:
                with each.record.timed():
                    mounts[each.record.name] = Mount(
                        each,
                        self._manager,
                        siblings,
                        self._deadlines,
                        self._request_deadlines,
                    )
            except Exception as exc:  # noqa: BLE001 - take_out logs it
                self._loader.take_out(each.record, each.instance, exc)
        return mounts

    def _tasks(self) -> TaskGroup:
        """Return the host's own task group.

        Raises: OverCapacity: the host is stopping.
        """
        if self._running is None:
            raise RuntimeError("the host does not run: use `async with host:`")
        if self.stopping:
            raise OverCapacity("The server is stopping.")
        return self._running[0]


@asynccontextmanager
async def task_group() -> AsyncGenerator[TaskGroup]:
    """Open a task group that raises its block's own error bare, where nothing else has failed.

    A failed assertion, or a `pytest.skip`, inside a host's block stays what it is.
    """
    error: BaseException | None = None
    try:
        async with anyio.create_task_group() as tasks:
            try:
                yield tasks
            except BaseException as exc:
                error = exc
                raise
    except BaseExceptionGroup as group:
        if error is None or group.exceptions != (error,):
            raise
        raise error from error.__cause__


async def _hold_shielded(*, task_status: TaskStatus[TaskGroup]) -> None:
    """Hold a task group open for what still has to shut down when the host is cancelled."""
    with anyio.CancelScope(shield=True):
        async with anyio.create_task_group() as tasks:
            task_status.started(tasks)
            await anyio.sleep_forever()
