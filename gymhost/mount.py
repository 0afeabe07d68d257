"""One environment as it is served: its tools, its compiled hooks, its threads and its counts."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any, Literal, TypeVar

import anyio.to_thread
import pluggy

from gymhost.aggregation import AggregateMetrics
from gymhost.deadlines import Deadlines
from gymhost.dispatch import Check, HookCall, HookChain, Runner, compile_chain
from gymhost.environment import Environment
from gymhost.errors import (
    CallTimeout,
    EnvironmentFailed,
    EnvironmentTimeout,
    InvalidBody,
    InvalidTask,
    PluginError,
    ToolDefinitionError,
    is_crash,
)
from gymhost.models import (
    MASKING_KINDS,
    JSONObject,
    Task,
    ToolCall,
    ToolOutcome,
)
from gymhost.plugins import LoadedEnvironment, PluginRecord
from gymhost.scores import checked_result, dump_score
from gymhost.session import Session, checked_state
from gymhost.threads import Threads
from gymhost.tools import Tool, ToolSet, method_tools, to_outcome
from gymhost.trajectory import Trajectory

__all__ = ["Mount"]

logger = logging.getLogger("gymhost.environment")

_ResultT = TypeVar("_ResultT")

LIFE_HOOKS = frozenset({"startup", "shutdown", "close"})
"""Those that run whatever becomes of requests."""


class Mount:
    """An environment under one name.

    Raises: PluginError: a tool can't be offered, or a hook is implemented twice.
    """

    def __init__(
        self,
        loaded: LoadedEnvironment,
        manager: pluggy.PluginManager,
        siblings: Sequence[Environment[Any]],
        deadlines: Deadlines,
        request_deadlines: Deadlines,
    ) -> None:
        """`request_deadlines` are those of what requests wait for, which a stop interrupts."""
        self.name = loaded.record.name
        self.record: PluginRecord = loaded.record
        self.instance = loaded.instance
        self.limits = loaded.config.limits
        self._deadlines = deadlines
        self._request_deadlines = request_deadlines
        self.on_failure: Literal["error", "report"] = loaded.config.on_failure
        self.counts: Counter[str] = Counter()
        """Since the start: calls, seeds, verdicts, and failures by kind."""
        self.limits_hit: Counter[str] = Counter()
        """Since the start: how often each of the limits was reached, by its name."""
        self.threads = self._own_threads()
        """For tools."""
        self.hook_threads = self._own_threads()
        """As many more, for hooks: the threads that tools have taken, which an agent can let
        them do at will, must not keep its attempt from being scored."""
        self.tools = ToolSet()
        for method_tool in method_tools(self.instance, self.threads):
            self.tools.add(method_tool)
        # object's: a frozen dataclass may be an environment, too
        object.__setattr__(self.instance, "_run_tool", self.tools.run)
        self.reads_whole = False
        """Whether verify has asked for more of a large trajectory than the messages' texts."""
        self.open_sessions = 0
        self.seeding = 0
        """Those of the open sessions that the store does not have yet."""
        self.claiming = 0
        """Sweeps that are ending some of them, which are not counted out yet."""
        self.calls_in_flight = 0
        self.compile_hooks(manager, siblings)

    def _own_threads(self) -> Threads:
        return Threads(
            self.limits.threads,
            waits=partial(self.hit, "threads"),
            abandons=self._count_abandoned,
        )

    def _count_abandoned(self) -> None:
        self.counts["abandoned_thread"] += 1
        if self.degraded:
            self.hit("stuck_threads")

    def hit(self, limit: str, number: int = 1) -> None:
        """Count that one of the limits was reached."""
        self.limits_hit[limit] += number

    def compile_hooks(
        self, manager: pluggy.PluginManager, siblings: Sequence[Environment[Any]]
    ) -> None:
        """Compile the hooks inside the wrappers that are registered now.

        Raises: HookError: a hook is implemented twice.
        """

        def chain(hook: str, limit: str, check: Check | None = None) -> HookChain:
            return compile_chain(
                manager,
                hook,
                self.instance,
                environment=self.name,
                siblings=siblings,
                threads=self.threads if hook == "call_tool" else self.hook_threads,
                check=check,
                timed_out=partial(self.hit, limit),
                deadlines=self._deadlines if hook in LIFE_HOOKS else self._request_deadlines,
            )

        check_state = partial(checked_state, model=self.instance.state_type)
        check_metrics = partial(_checked, "aggregate_metrics", AggregateMetrics)
        self._startup = chain("startup", "startup_seconds")
        self._shutdown = chain("shutdown", "close_seconds")
        self._seed = chain("seed", "seed_seconds", check_state)
        self._allowed_tools = chain("allowed_tools", "seed_seconds")
        self._call_tool = chain("call_tool", "tool_seconds", self._checked_outcome)
        self._runs_tools = self._call_tool.is_default(Environment.call_tool)
        if self._runs_tools:
            # what that does: one step less for each call
            self._call_tool.implementation = HookCall(self.tools.run, ("session", "call"))
        self._verify = chain("verify", "verify_seconds", checked_result)
        self._close = chain("close", "close_seconds")
        self._aggregate_metrics = chain("aggregate_metrics", "verify_seconds", check_metrics)
        self._seeds_default = self._seed.is_default(Environment.seed)
        self._allows_all = self._allowed_tools.is_default(Environment.allowed_tools)
        self.keeps_nothing = self._close.is_default(Environment.close) and not self.instance.pinned
        """Whether the end of a session needs nothing: the default close, no wrappers, no pins."""

    async def startup(self, run: Runner) -> None:
        """Take the tools that the author registers, and start the environment.

        `run` awaits the hook in the task in which shutdown will run, too.
        """
        if type(self.instance).register_tools is not Environment.register_tools:
            await self._register_tools()
        await self._startup({}, self.limits.startup_seconds, run)

    async def _register_tools(self) -> None:
        # only here: the SDK's server class is not needed by most environments
        from gymhost.mcp_tools import EnvironmentMCPServer, registered_tools

        server = EnvironmentMCPServer(self.name, self.threads)
        builtin_middleware = list(server.middleware)
        self.instance.register_tools(server)
        if server.middleware != builtin_middleware:
            raise ToolDefinitionError("register_tools added middleware: only tools are served")
        for registered in await registered_tools(server):
            self.tools.add(registered)

    async def shutdown(self, run: Runner) -> None:
        """Stop the environment."""
        await self._shutdown({}, self.limits.close_seconds, run)

    async def seed(self, session: Session[Any], task: Task) -> Any:
        """Return the new session's state."""
        if self._seeds_default:
            return self.instance.state_type()
        arguments = {"session": session, "task": task}
        return await self._seed(arguments, self.limits.seed_seconds)

    async def allowed_tools(self, session: Session[Any], task: Task) -> tuple[str, ...] | None:
        """Return the names of the tools that the session may use, None for all.

        Raises: PluginError: they are no tools of this environment.
        """
        if self._allows_all:
            return None
        arguments = {"session": session, "task": task}
        names: Collection[str] | None = await self._allowed_tools(
            arguments, self.limits.seed_seconds
        )
        if names is None:
            return None
        if isinstance(names, str):
            raise PluginError(
                f"allowed_tools returned the string {names!r}: a collection is needed"
            )
        chosen = sorted(set(names))  # once: the author may have written a generator
        unknown = [name for name in chosen if self.tools.get(name) is None]
        if unknown:
            raise PluginError(f"allowed_tools names what is no tool: {', '.join(unknown)}")
        return tuple(chosen)

    def tool_seconds(self, tool: Tool | None) -> float:
        """Return a tool's timeout."""
        own = tool.options.timeout if tool is not None else None
        return own if own is not None else self.limits.tool_seconds

    async def call_tool(
        self, session: Session[Any], call: ToolCall, tool: Tool | None
    ) -> ToolOutcome:
        """Run one tool call, inside the wrappers."""
        if tool is not None and tool.never_waits and self._runs_tools:
            return self._checked_outcome(to_outcome(await tool.run(session, call.arguments)))
        arguments = {"session": session, "call": call}
        return self._checked_outcome(await self._call_tool(arguments, self.tool_seconds(tool)))

    def _checked_outcome(self, outcome: Any) -> ToolOutcome:
        return self.sized(_checked("call_tool", ToolOutcome, outcome))

    def sized(self, outcome: ToolOutcome) -> ToolOutcome:
        """Return an outcome, or instead of one that is too large, that it is."""
        size, most = outcome.size, self.limits.result_bytes
        if size <= most:
            return outcome
        self.hit("result_bytes")
        what = "The tool failed with" if outcome.is_error else "The result has"
        kind = outcome.kind if outcome.kind in MASKING_KINDS else "limit"
        return ToolOutcome.error(f"{what} {size} bytes, more than the {most} allowed.", kind)

    async def verify(self, session: Session[Any], trajectory: Trajectory) -> bytes:
        """Score an attempt; return the `VerifyResult` as JSON.

        Raises: ValueError: what verify returned is no score (None, NaN, an extra that is not
        finite JSON).
        """
        arguments = {"session": session, "trajectory": trajectory}
        return dump_score(await self._verify(arguments, self.limits.verify_seconds))

    async def close(self, session: Session[Any], reason: str) -> None:
        """Let the environment release what a session holds."""
        await self._close({"session": session, "reason": reason}, self.limits.close_seconds)

    async def aggregate_metrics(self, results: Sequence[JSONObject]) -> bytes:
        """Return statistics over many of verify's answers, as JSON.

        Raises: ValueError: what the hook returned is not finite JSON, or no AggregateMetrics.
        """
        metrics = await self._aggregate_metrics({"results": results}, self.limits.verify_seconds)
        metrics = _checked("aggregate_metrics", AggregateMetrics, metrics)
        return await anyio.to_thread.run_sync(metrics.dump)  # many tasks make it large

    @property
    def is_interrupted(self) -> bool:
        """Whether a stop has cancelled what requests were doing: nothing more may begin."""
        return self._request_deadlines.interrupted

    def tool_definitions(self, allowed: Collection[str] | None = None) -> list[JSONObject]:
        """Return the tools as MCP's `tools/list` shows them."""
        return [
            {
                "name": tool.name,
                "description": tool.description,
                "inputSchema": tool.input_schema,
            }
            for tool in self.tools
            if allowed is None or tool.name in allowed
        ]

    def failure(self, what: str, error: BaseException) -> BaseException:
        """Return what a control-plane request is answered where one of the hooks failed.

        A cancellation is returned as it is.
        """
        if isinstance(error, InvalidBody):
            return error  # of a large body's rest, which is parsed when a hook asks for it
        if isinstance(error, InvalidTask):
            self.counts["invalid_task"] += 1
            return error
        if isinstance(error, CallTimeout):
            self.counts["environment_timeout"] += 1
            self.counts[f"{what}_failed"] += 1
            return EnvironmentTimeout(f"{what} took longer than {error.seconds:g} s.")
        if not is_crash(error):
            return error
        self.counts["environment_error"] += 1
        self.counts[f"{what}_failed"] += 1
        logger.error("%s of %s failed", what, self.name, exc_info=error)
        return EnvironmentFailed(f"{what} of {self.name!r} failed. The log has the cause.")

    @property
    def degraded(self) -> bool:
        """Whether too many abandoned threads still run."""
        return self.stuck_threads > self.limits.stuck_threads

    @property
    def stuck_threads(self) -> int:
        """Abandoned threads that still run."""
        return self.threads.stuck + self.hook_threads.stuck


def _checked(hook: str, kind: type[_ResultT], result: Any) -> _ResultT:
    """Return what a hook returned.

    Raises: PluginError: it is something else.
    """
    if not isinstance(result, kind):
        raise PluginError(f"{hook} returned {type(result).__name__}, not {kind.__name__}")
    return result
