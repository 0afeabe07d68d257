"""Tools registered on a real `MCPServer`: they go through the host like all others."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar, cast

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError as ServerToolError
from mcp.server.mcpserver.exceptions import UnexpectedToolError
from mcp_types import CallToolResult
from pydantic import ValidationError

from gymhost.errors import InvalidArguments, ToolDefinitionError, ToolError
from gymhost.models import JSONObject, ToolOutcome
from gymhost.session import Session
from gymhost.threads import Threads
from gymhost.tools import ToolOptions, explain, is_session, resolve_hints

__all__ = ["EnvironmentMCPServer", "RegisteredTool", "inject", "registered_tools"]

_FunctionT = TypeVar("_FunctionT", bound=Callable[..., Any])

_current: ContextVar[Session[Any]] = ContextVar("gymhost_session")


def inject(function: _FunctionT) -> _FunctionT:
    """Give a function its session: `Session[...]` and `session_id` leave the signature.

    `mcp.tool()` on the server that `register_tools` receives does it by itself; use it where a
    function reaches an `MCPServer` in another way.
    """
    signature = inspect.signature(function)
    hints = resolve_hints(function, getattr(function, "__name__", repr(function)))
    sessions = [name for name in signature.parameters if is_session(hints.get(name))]
    ids = [name for name in signature.parameters if name == "session_id" and name not in sessions]
    hidden = {*sessions, *ids}
    if not hidden:
        return function

    def arguments() -> dict[str, Any]:
        session = _current.get()
        return {**dict.fromkeys(sessions, session), **dict.fromkeys(ids, session.id)}

    @functools.wraps(function)
    def call(**given: Any) -> Any:
        return function(**given, **arguments())

    @functools.wraps(function)
    async def call_async(**given: Any) -> Any:
        return await function(**given, **arguments())

    injected = cast(Any, call_async if inspect.iscoroutinefunction(function) else call)
    visible = [value for name, value in signature.parameters.items() if name not in hidden]
    injected.__signature__ = signature.replace(parameters=visible)
    injected.__annotations__ = {name: hint for name, hint in hints.items() if name not in hidden}
    return cast(_FunctionT, injected)


class EnvironmentMCPServer(MCPServer[Any]):
    """An `MCPServer` whose functions get their session, and whose plain `def`s our threads."""

    def __init__(self, name: str, threads: Threads) -> None:
        super().__init__(name)
        self._threads = threads

    def add_tool(  # type: ignore[override]
        self, fn: Callable[..., Any], name: str | None = None, **options: Any
    ) -> None:
        """Add a tool, as `MCPServer.add_tool` does."""
        function = inject(fn)
        if (
            resolve_hints(fn, fn.__name__).get("return") is str
            and options.get("structured_output") is None
        ):
            # beside structured content, some agents show the model {"result": "..."}
            options["structured_output"] = False
        if not inspect.iscoroutinefunction(function):
            function = self._in_a_thread(function)
        super().add_tool(function, name, **options)

    def _in_a_thread(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def threaded(**given: Any) -> Any:
            return await self._threads.run(partial(function, **given))

        return threaded


class RegisteredTool:
    """One tool of an `MCPServer`."""

    options = ToolOptions()

    def __init__(self, server: MCPServer[Any], name: str, description: str, schema: JSONObject):
        self._server = server
        self.name = name
        self.description = description
        self.input_schema = schema

    async def run(self, session: Session[Any], arguments: JSONObject) -> Any:
        self._refuse_unknown(arguments)
        token = _current.set(session)
        try:
            result = await self._server.call_tool(self.name, arguments)
        except UnexpectedToolError as exc:
            # the author's own exception, not the SDK's sentence about it
            raise exc.__cause__ or exc from None
        except ServerToolError as exc:
            if isinstance(exc.__cause__, ValidationError):
                text = explain(exc.__cause__, self.name, self.input_schema.get("properties", ()))
                raise InvalidArguments(text) from exc
            if isinstance(exc.__cause__, ServerToolError):
                raise ToolError(str(exc.__cause__)) from exc
            raise
        finally:
            _current.reset(token)
        if not isinstance(result, CallToolResult):
            raise TypeError(f"tool {self.name!r} asks the client for input, which has no way back")
        return _to_outcome(result)

    def _refuse_unknown(self, arguments: JSONObject) -> None:
        """The SDK passes unknown arguments silently."""
        if self.input_schema.get("additionalProperties"):
            return
        known = self.input_schema.get("properties", {})
        unknown = sorted(arguments.keys() - known.keys())
        if unknown:
            names = "; ".join(f"unknown argument {name!r}" for name in unknown)
            takes = ", ".join(known) or "no arguments"
            raise InvalidArguments(
                f"Invalid arguments for {self.name!r}: {names}. It takes: {takes}."
            )


def _to_outcome(result: CallToolResult) -> ToolOutcome:
    dumped = result.model_dump(mode="json", by_alias=True, exclude_none=True)
    return ToolOutcome(
        dumped["content"],
        structured_content=dumped.get("structuredContent"),
        is_error=bool(result.is_error),
        kind="tool_error" if result.is_error else "ok",
    )


async def registered_tools(server: MCPServer[Any]) -> list[RegisteredTool]:
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
