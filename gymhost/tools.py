"""A marked method becomes a tool: how it is found, run, and how it answers."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import CoroutineType
from typing import Any, Protocol, TypeVar, overload

import pydantic_core
from pydantic import BaseModel

from gymhost.deadlines import never_waits
from gymhost.errors import ToolDefinitionError, UnknownTool
from gymhost.models import JSONObject, ToolCall, ToolOutcome, finite_json
from gymhost.session import Session
from gymhost.signatures import plan_for
from gymhost.threads import Threads

__all__ = ["MethodTool", "Tool", "ToolOptions", "ToolSet", "method_tools", "tool"]

RESERVED_NAMES = frozenset({"verify", "seed_session", "close_session", "aggregate_metrics", "mcp"})
# MCP 2025-11-25 allows more (dots, 128 characters); models' APIs take these.
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MARK = "__gymhost_tool__"

_FunctionT = TypeVar("_FunctionT", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class ToolOptions:
    """How the host runs a tool."""

    timeout: float | None = None
    """Seconds; None is the environment's limit."""
    concurrent: bool = False
    """Run beside the session's other calls, with a state that can't be changed."""
    timeout_masks: bool = False
    """A timeout is the environment's fault, and spoils the sample."""


@overload
def tool(function: _FunctionT, /) -> _FunctionT: ...
@overload
def tool(
    *, timeout: float | None = None, concurrent: bool = False, timeout_masks: bool = False
) -> Callable[[_FunctionT], _FunctionT]: ...
def tool(
    function: Any = None,
    /,
    *,
    timeout: float | None = None,
    concurrent: bool = False,
    timeout_masks: bool = False,
) -> Any:
    """Mark a method as a tool: its name, docstring and typed parameters are what the agent sees."""
    if timeout is not None and not timeout > 0:
        raise ValueError(f"a tool's timeout must be a positive number of seconds, not {timeout!r}")
    if isinstance(function, str | int | float):
        raise TypeError(f"@tool({function!r}): its options have names, as in @tool(timeout=5)")
    options = ToolOptions(timeout, concurrent, timeout_masks)

    def mark(function: _FunctionT) -> _FunctionT:
        setattr(function, _MARK, options)
        return function

    return mark if function is None else mark(function)


class Tool(Protocol):
    """What the host needs of a tool, however it was defined."""

    name: str
    description: str
    input_schema: JSONObject
    options: ToolOptions
    never_waits: bool
    """Whether `run` awaits nothing, so that no limit binds it."""

    async def run(self, session: Session[Any], arguments: JSONObject) -> Any:
        """Return what the tool returns.

        Raises: InvalidArguments, ToolError, and whatever the author's code raises.
        """


class ToolSet:
    """One environment's tools, by name."""

    def __init__(self) -> None:
        self._tools: dict[str, Tool] = {}

    def add(self, tool: Tool) -> None:
        """Add a tool.

        Raises: ToolDefinitionError: a name that is taken, reserved, or not a tool name.
        """
        if not NAME.fullmatch(tool.name):
            raise ToolDefinitionError(
                f"tool name {tool.name!r}: use 1 to 64 ASCII letters, digits, '_' and '-'"
            )
        if tool.name in RESERVED_NAMES:
            raise ToolDefinitionError(f"tool name {tool.name!r} is reserved")
        if tool.name in self._tools:
            raise ToolDefinitionError(f"two tools are named {tool.name!r}")
        self._tools[tool.name] = tool

    def __len__(self) -> int:
        return len(self._tools)

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def get(self, name: str) -> Tool | None:
        """Return the tool of that name."""
        return self._tools.get(name)

    async def run(self, session: Session[Any], call: ToolCall) -> ToolOutcome:
        """Run one call.

        Raises: ToolError: the agent's or the author's; and whatever the tool raises.
        """
        tool = self._tools.get(call.name)
        if tool is None:
            raise UnknownTool(f"There is no tool named {call.name!r}.")
        return to_outcome(await tool.run(session, call.arguments))


def to_outcome(value: Any) -> ToolOutcome:
    """Return a tool's value as MCP content.

    A string is text alone: beside structured content, some agents show the model the JSON.

    Raises: ValueError, pydantic_core.PydanticSerializationError: the value is not finite JSON.
    """
    if isinstance(value, ToolOutcome):
        _sendable([value.content, value.structured_content])
        return value
    if isinstance(value, str):
        value.encode()  # as in _sendable
        return ToolOutcome.ok(value)
    plain = pydantic_core.to_jsonable_python(value)
    try:
        text = _sendable(plain)
    except ValueError as exc:
        if "integer string conversion" not in str(exc):
            raise
        # Python's limit; an agent's huge argument must not spoil its own sample
        return ToolOutcome.error("The result has a number of too many digits.", "limit")
    structured = isinstance(value, BaseModel | Mapping) or dataclasses.is_dataclass(value)
    return ToolOutcome(
        [{"type": "text", "text": text}],
        structured_content=plain if structured and isinstance(plain, dict) else None,
    )


def _sendable(value: Any) -> str:
    """Return plain data as JSON.

    Raises: ValueError: a NaN or an infinity; UnicodeEncodeError: a lone surrogate.
    """
    text = finite_json(value)
    text.encode()
    return text


class MethodTool:
    """A method marked with `@tool`, of one instance."""

    def __init__(
        self, name: str, method: Callable[..., Any], options: ToolOptions, threads: Threads
    ) -> None:
        self._plan = plan_for(name, method)
        self._method = method
        self._threads = threads
        self.name = name
        self.description = inspect.getdoc(method) or ""
        self.input_schema = self._plan.input_schema
        self.options = options
        self.never_waits = never_waits(method)

    async def run(self, session: Session[Any], arguments: JSONObject) -> Any:
        chosen = self._plan.bind(session, arguments)
        if self._plan.is_async:
            result = self._method(**chosen)
            if type(result) is CoroutineType:
                return await result
        else:
            result = await self._threads.run(partial(self._method, **chosen))
        # a decorator may hide a coroutine function behind a plain one, or the other way round
        return await result if inspect.isawaitable(result) else result


def method_tools(instance: object, threads: Threads) -> list[MethodTool]:
    """Return the instance's marked methods as tools, in the order in which they are defined.

    Raises: ToolDefinitionError: a signature that can't be offered.
    """
    found: dict[str, tuple[Callable[..., Any], ToolOptions]] = {}
    for cls in reversed(type(instance).__mro__):
        for name, member in vars(cls).items():
            # below @staticmethod or @classmethod, the mark is on the function inside
            marked = member.__func__ if isinstance(member, staticmethod | classmethod) else member
            options = getattr(member, _MARK, None) or getattr(marked, _MARK, None)
            if isinstance(options, ToolOptions):
                found[name] = (getattr(instance, name), options)
            elif name in found:
                del found[name]  # overridden without the mark: no longer a tool
    return [MethodTool(name, method, options, threads) for name, (method, options) in found.items()]
