"""Tools registered on a real `MCPServer`: they go through the host like all others."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn, TypeVar, cast

import pydantic_core
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError as ServerToolError
from mcp.server.mcpserver.exceptions import UnexpectedToolError
from mcp.server.mcpserver.utilities.context_injection import find_context_parameter
from mcp_types import CallToolResult
from pydantic import ValidationError

from gymhost.errors import InvalidArguments, ToolDefinitionError, ToolError
from gymhost.models import JSONObject, ToolOutcome, finite_json
from gymhost.session import Session
from gymhost.signatures import check_parameter, explain, injected, is_async, refuse_non_finite
from gymhost.threads import Threads
from gymhost.tools import ToolOptions

__all__ = ["EnvironmentMCPServer", "RegisteredTool", "inject", "registered_tools"]

_FunctionT = TypeVar("_FunctionT", bound=Callable[..., Any])

_current: ContextVar[Session[Any]] = ContextVar("gymhost_session")


def inject(function: _FunctionT) -> _FunctionT:
    """Give a function its session: `Session[...]` and `session_id` leave the signature.

    `mcp.tool()` on the server that `register_tools` receives does it by itself; use it where a
    function reaches an `MCPServer` in another way.
    """
    name = _name(function)
    try:
        signature = inspect.signature(function, eval_str=True)
    except (NameError, AttributeError, TypeError, SyntaxError) as exc:
        raise ToolDefinitionError(f"tool {name!r}: an annotation can't be resolved: {exc}") from exc
    hints = {
        parameter.name: parameter.annotation
        for parameter in signature.parameters.values()
        if parameter.annotation is not parameter.empty
    }
    sessions, ids = injected(signature.parameters, hints, name)
    hidden = {*sessions, *ids}
    if not hidden:
        return function

    @functools.wraps(function)
    def call(**given: Any) -> Any:
        session = _current.get()
        return function(
            **given, **dict.fromkeys(sessions, session), **dict.fromkeys(ids, session.id)
        )

    @functools.wraps(function)
    async def call_async(**given: Any) -> Any:
        result = call(**given)
        return await result if inspect.isawaitable(result) else result

    wrapper = cast(Any, call_async if is_async(function) else call)
    visible = [value for key, value in signature.parameters.items() if key not in hidden]
    wrapper.__signature__ = signature.replace(parameters=visible)
    wrapper.__annotations__ = {key: hint for key, hint in hints.items() if key not in hidden}
    return cast(_FunctionT, wrapper)


class EnvironmentMCPServer(MCPServer[Any]):
    """An `MCPServer` whose functions get their session, and whose plain `def`s our threads."""

    def __init__(self, name: str, threads: Threads) -> None:
        super().__init__(name)
        self._threads = threads
        self.structured: set[str] = set()
        """Tools that were asked to answer with structured content."""

    def add_tool(  # type: ignore[override]
        self, fn: Callable[..., Any], name: str | None = None, **options: Any
    ) -> None:
        """Add a tool, as `MCPServer.add_tool` does.

        Raises: ToolDefinitionError: its name is taken, or it can't be offered here.
        """
        own_name = name or _name(fn)
        if self._tool_manager.get_tool(own_name) is not None:  # the SDK would keep the first
            raise ToolDefinitionError(f"two tools are named {own_name!r}")
        function = inject(fn)
        for parameter in inspect.signature(function).parameters.values():
            check_parameter(parameter, own_name)
        context = find_context_parameter(function)
        if context is not None:
            raise ToolDefinitionError(
                f"tool {own_name!r}: parameter {context!r} is a Context, which has no client to "
                "talk to here; take the Session instead"
            )
        if options.get("structured_output"):
            self.structured.add(own_name)
        super().add_tool(self._in_its_place(function, own_name), name, **options)

    def completion(self) -> NoReturn:
        """Refuse it: only tools are served."""
        raise ToolDefinitionError("register_tools registered completions: only tools are served")

    def custom_route(self, *args: Any, **options: Any) -> NoReturn:
        """Refuse it: only tools are served."""
        raise ToolDefinitionError("register_tools registered a route: only tools are served")

    def _in_its_place(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        """Return a coroutine function that runs it: here, or a plain `def` in our threads."""
        inline = is_async(function)
        parameters = inspect.signature(function).parameters
        defaults = {each.name: each.default for each in parameters.values()}

        @functools.wraps(function)
        async def run(**given: Any) -> Any:
            sent = {key: value for key, value in given.items() if value is not defaults[key]}
            refuse_non_finite(sent, name)
            if inline:
                result = function(**given)
            else:
                result = await self._threads.run(partial(function, **given))
            value = await result if inspect.isawaitable(result) else result
            if not isinstance(value, str):  # the SDK would make null of a NaN
                finite_json(pydantic_core.to_jsonable_python(value, fallback=str))
            return value

        return run


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", repr(function))


class RegisteredTool:
    """One tool of an `MCPServer`."""

    options = ToolOptions()
    never_waits = False

    def __init__(
        self, server: EnvironmentMCPServer, name: str, description: str, schema: JSONObject
    ) -> None:
        self._server = server
        self.name = name
        self.description = description
        self.input_schema = schema

    async def run(self, session: Session[Any], arguments: JSONObject) -> Any:
        self._refuse_unknown(arguments)
        token = _current.set(session)
        try:
            # a copy: what a tool does to its arguments is not done to the record's
            result = await self._server.call_tool(self.name, copy.deepcopy(arguments))
        except ServerToolError as exc:
            error = self._own_error(exc)
        else:
            if not isinstance(result, CallToolResult):
                raise TypeError(
                    f"tool {self.name!r} asks the client for input, which has no way back"
                )
            return _to_outcome(result, as_text=self.name not in self._server.structured)
        finally:
            _current.reset(token)
        raise error  # not in the handler: its context is the author's

    def _own_error(self, error: ServerToolError) -> BaseException:
        """Return what the SDK has wrapped: the author's exception, or the arguments' fault."""
        cause = error.__cause__
        if cause is None or isinstance(error, UnexpectedToolError):
            return cause or error
        if isinstance(cause, ValidationError):
            text = explain(cause, self.name, self.input_schema.get("properties", ()))
            return InvalidArguments(text).with_traceback(cause.__traceback__)
        return ToolError(str(cause)).with_traceback(cause.__traceback__)

    def _refuse_unknown(self, arguments: JSONObject) -> None:
        """The SDK passes unknown arguments silently."""
        known = self.input_schema.get("properties", {})
        unknown = sorted(arguments.keys() - known.keys())
        if unknown:
            names = "; ".join(f"unknown argument {name!r}" for name in unknown)
            takes = ", ".join(known) or "no arguments"
            raise InvalidArguments(
                f"Invalid arguments for {self.name!r}: {names}. It takes: {takes}."
            )


def _to_outcome(result: CallToolResult, *, as_text: bool) -> ToolOutcome:
    dumped = result.model_dump(mode="json", by_alias=True, exclude_none=True)
    outcome = ToolOutcome(
        dumped["content"],
        structured_content=dumped.get("structuredContent"),
        is_error=bool(result.is_error),
        kind="tool_error" if result.is_error else "ok",
    )
    if as_text and outcome.structured_content == {"result": outcome.text}:
        # the SDK's wrapping of a string: beside it, some agents show the model the JSON
        return replace(outcome, structured_content=None)
    return outcome


async def registered_tools(server: EnvironmentMCPServer) -> list[RegisteredTool]:
    """Return what an author has registered on the server.

    Raises: ToolDefinitionError: prompts, resources or middleware, which are not served yet.
    """
    unserved = {
        "prompts": await server.list_prompts(),
        "resources": await server.list_resources() or await server.list_resource_templates(),
    }
    for what, found in unserved.items():
        if found:
            raise ToolDefinitionError(f"register_tools registered {what}: only tools are served")
    return [
        RegisteredTool(server, tool.name, tool.description or "", dict(tool.input_schema))
        for tool in await server.list_tools()
    ]
