"""The base class of an environment: override what it does differently."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast, get_args, get_origin

import anyio.to_thread
from pydantic import BaseModel

from gymhost.aggregation import AggregateMetrics, aggregate
from gymhost.errors import PluginError
from gymhost.hookspecs import LIFECYCLE_HOOKS, PROJECT, hookimpl
from gymhost.models import CloseReason, JSONObject, Task, ToolCall, ToolOutcome, VerifyResult
from gymhost.session import NoState, Session, StateT
from gymhost.trajectory import Trajectory

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

__all__ = ["Environment"]


class Environment(ABC, Generic[StateT]):
    """One world: tools, a state of type `StateT`, and a verifier.

    A subclass names its state, a pydantic model, in brackets: `Environment[WeatherState]`. The
    host makes one instance for each name it is mounted under, with the options of the
    configuration. All hooks may be `async def`, or plain `def`, which run in a thread.
    """

    stateless: ClassVar[bool] = False
    """verify needs no session: it can score a stored rollout by its task and trajectory alone."""
    pinned: ClassVar[bool] = False
    """Sessions hold live things, by `session.enter`, and so end with the process."""
    state_type: ClassVar[type[BaseModel]] = NoState
    """The model in the brackets."""

    _run_tool: Callable[[Session[Any], ToolCall], Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        argument = _state_argument(cls)
        if isinstance(argument, type) and issubclass(argument, BaseModel):
            cls.state_type = argument
        elif argument is not None and not isinstance(argument, TypeVar):
            raise PluginError(
                f"{cls.__name__}: Environment[{argument!r}]: the state is a pydantic model"
            )
        for name in LIFECYCLE_HOOKS:
            # Overriding is implementing: pluggy does not find a method whose marker was forgotten.
            member = inspect.getattr_static(cls, name)
            if member is vars(Environment)[name]:
                continue
            if not inspect.isfunction(member):
                raise PluginError(f"{cls.__name__}.{name} must be a plain method")
            if not hasattr(member, f"{PROJECT}_impl"):
                hookimpl(member)

    # Environments have identity equality: pluggy compares what is registered with ==.
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    async def startup(self) -> None:
        """Prepare the environment. Fires once, before it is served; may take 30 s."""

    async def shutdown(self) -> None:
        """Undo startup. Fires once, after the last session has closed, in startup's own task."""

    async def seed(self, session: Session[StateT], task: Task) -> StateT:
        """Return the new session's state. Fires once for a session."""
        return cast(StateT, self.state_type())

    async def allowed_tools(self, session: Session[StateT], task: Task) -> Collection[str] | None:
        """Name the tools this session may use, None for all. Fires after seed."""
        return None

    async def call_tool(self, session: Session[StateT], call: ToolCall) -> ToolOutcome:
        """Run one tool call. Fires for every tool call of an agent.

        Raises: ToolError: the agent reads its text; anything else is a crash, which it does not.
        """
        return cast(ToolOutcome, await self._run_tool(session, call))

    @abstractmethod
    async def verify(
        self, session: Session[StateT], trajectory: Trajectory
    ) -> VerifyResult | float:
        """Score a finished rollout. Fires after the agent stops, until it has scored once."""

    async def close(self, session: Session[StateT], reason: CloseReason) -> None:
        """Release what the session holds. Fires when it ends; after a crash, perhaps again."""

    async def aggregate_metrics(self, results: Sequence[JSONObject]) -> AggregateMetrics:
        """Return statistics over many of verify's answers. Fires when a trainer asks for them.

        The default ones are those of `aggregate`. An override adds to what `super()` returns, or
        chooses other `key_metrics`; a `mask_sample` answer among `results` is no measurement.
        """
        return await anyio.to_thread.run_sync(aggregate, results)

    def tasks(self) -> Iterable[Task]:
        """Return example tasks, for `gymhost check` and for people."""
        return ()

    def register_tools(self, mcp: MCPServer[Any]) -> None:
        """Register more tools on a real `MCPServer`, beside the marked ones. Called once."""


def _state_argument(cls: type) -> Any:
    """Return what a class puts in Environment's brackets: a model, a type variable, or None."""
    for base in vars(cls).get("__orig_bases__", ()):
        origin = get_origin(base)
        if origin is Environment:
            return get_args(base)[0]
        if isinstance(origin, type) and issubclass(origin, Environment):
            # a generic base class of the author's: which of its parameters is the state?
            argument = _state_argument(origin)
            parameters = getattr(origin, "__parameters__", ())
            if argument in parameters:
                return get_args(base)[parameters.index(argument)]
    return None
