"""Every hook: a signature, and a sentence about when it fires."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

import pluggy
from typing_extensions import TypeAliasType

if TYPE_CHECKING:
    from gymhost.aggregation import AggregateMetrics
    from gymhost.models import JSONObject, Task, ToolCall, ToolOutcome, VerifyResult
    from gymhost.session import Session
    from gymhost.trajectory import Trajectory

__all__ = ["EXTENSION_HOOKS", "LIFECYCLE_HOOKS", "PROJECT", "Wrapper", "hookimpl"]

PROJECT = "gymhost"

_ResultT = TypeVar("_ResultT")
Wrapper = TypeAliasType("Wrapper", Generator[Any, _ResultT, _ResultT], type_params=(_ResultT,))
"""What a wrapper returns, by the hook's result: `def verify(self) -> Wrapper[VerifyResult]`."""

_FunctionT = TypeVar("_FunctionT", bound=Callable[..., Any])
_hookspec = pluggy.HookspecMarker(PROJECT)
_hookimpl = pluggy.HookimplMarker(PROJECT)


@overload
def hookimpl(function: _FunctionT, /) -> _FunctionT: ...
@overload
def hookimpl(
    *,
    wrapper: bool = ...,
    tryfirst: bool = ...,
    trylast: bool = ...,
    specname: str | None = ...,
) -> Callable[[_FunctionT], _FunctionT]: ...
def hookimpl(function: Any = None, /, **options: Any) -> Any:
    """Mark a method as a hook implementation; with `wrapper=True`, as a wrapper around one.

    A wrapper is a plain generator: what comes before its bare `yield` runs before the hook, the
    `yield` gives the awaited result (or raises what was raised), and what it returns is the result.
    It waits by yielding an awaitable: `value = yield some_coroutine()`.
    """
    return _hookimpl(function, **options) if function is not None else _hookimpl(**options)


class HookSpecs:
    """A wrapper may name any subset of the arguments; `environment` is the environment's name."""

    @_hookspec
    def startup(self, environment: str) -> None:
        """Prepare the environment. Fires once, before it is served; may take 30 s."""

    @_hookspec
    def shutdown(self, environment: str) -> None:
        """Undo startup. Fires once, after the last session has closed."""

    @_hookspec
    def seed(self, environment: str, session: Session[Any], task: Task) -> Any:
        """Return the new session's state. Fires once for a session."""

    @_hookspec
    def allowed_tools(
        self, environment: str, session: Session[Any], task: Task
    ) -> Collection[str] | None:
        """Name the tools this session may use, None for all. Fires after seed."""

    @_hookspec
    def call_tool(  # type: ignore[empty-body]
        self, environment: str, session: Session[Any], call: ToolCall
    ) -> ToolOutcome:
        """Run one tool call. Fires for every tool call of an agent."""
        ...  # noqa: PIE790 - pyright wants it

    @_hookspec
    def verify(  # type: ignore[empty-body]
        self, environment: str, session: Session[Any], trajectory: Trajectory
    ) -> VerifyResult | float:
        """Score a finished rollout. Fires after the agent stops, until it has scored once."""
        ...  # noqa: PIE790

    @_hookspec
    def close(self, environment: str, session: Session[Any], reason: str) -> None:
        """Release what the session holds. Fires when it ends, however it ends."""

    @_hookspec
    def aggregate_metrics(  # type: ignore[empty-body]
        self, environment: str, results: Sequence[JSONObject]
    ) -> AggregateMetrics:
        """Return statistics over many of verify's answers. Fires when a trainer asks for them."""
        ...  # noqa: PIE790

    @_hookspec
    def register_environments(self, register: Callable[..., None]) -> None:
        """Mount more environments: `register(name, cls, **options)`. Fires at load; plain `def`."""

    @_hookspec
    def register_agents(self, register: Callable[..., None]) -> None:
        """Offer agents: `register(name, "module:Class")`. Fires at load; plain `def`."""


EXTENSION_HOOKS = frozenset({"register_agents", "register_environments"})
"""Hooks that an extension implements itself, called once and synchronously, at load."""

LIFECYCLE_HOOKS = frozenset(
    {
        "aggregate_metrics",
        "allowed_tools",
        "call_tool",
        "close",
        "seed",
        "shutdown",
        "startup",
        "verify",
    }
)
"""Hooks of one environment, awaited by `dispatch`; extensions wrap them."""
