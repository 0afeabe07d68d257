"""MCP servers of an attempt, by URL or by command: connect, list, call, and say what went wrong."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO, cast

import httpx2
from pydantic import ValidationError

from gymhost.agents.base import AgentFailure
from gymhost.agents.tls import tls
from gymhost.episode import ToolAnswer, bare_error
from gymhost.models import JSONObject, finite_json
from gymhost.redaction import Redaction

if TYPE_CHECKING:
    import mcp
    import mcp_types

__all__ = ["CALL_SECONDS", "McpServer", "connect", "connections"]

CONNECT_SECONDS = 30.0
CALL_SECONDS = 600.0
PAGES = 100  # of tools/list: a server that always has one more is not read on
HTTP = ("http", "streamable-http", "streamable_http")
STDIO = ("command", "args", "env", "cwd")
TOLD = 500  # characters of an error


@dataclass(frozen=True)
class McpServer:
    """A server that is connected."""

    name: str
    client: mcp.Client
    tools: Sequence[mcp_types.Tool]

    async def call(self, tool: str, arguments: JSONObject) -> ToolAnswer:
        """Call a tool. What the agent did wrong is an answer that says so.

        Raises: AgentFailure: `mcp_error`: the server did not do its part.
        """
        import mcp
        from mcp_types import INVALID_PARAMS, REQUEST_TIMEOUT

        try:
            result = await self.client.call_tool(tool, arguments, read_timeout_seconds=CALL_SECONDS)
        except Exception as exc:
            if isinstance(exc, mcp.MCPError) and exc.code == INVALID_PARAMS:
                return ToolAnswer(str(exc), is_error=True)
            if isinstance(exc, mcp.MCPError) and exc.code == REQUEST_TIMEOUT:
                text = f"The tool did not answer in {CALL_SECONDS:g} s."
                return ToolAnswer(text, is_error=True)
            message = f"MCP server {self.name!r} failed a call of {tool!r}: {exc}"
            raise AgentFailure(message[:TOLD], "mcp_error") from exc
        return ToolAnswer(_text(result), bool(result.is_error))


@asynccontextmanager
async def connections() -> AsyncGenerator[AsyncExitStack]:
    """Hold connections; at the end, also by cancellation, servers are disconnected or stopped.

    Raises: AgentFailure: `mcp_error`: one was lost.
    """
    error: BaseException | None = None
    try:
        async with AsyncExitStack() as stack:
            try:
                yield stack
            except BaseException as exc:
                error = exc
                raise
    except BaseExceptionGroup as group:  # of the MCP client's task groups
        bare = error if isinstance(error, AgentFailure) else bare_error(group, error)
        if bare is error or not isinstance(bare, Exception) or isinstance(bare, AgentFailure):
            raise bare from bare.__cause__
        message = f"an MCP server was lost: {_words(bare)}"
        raise AgentFailure(message[:TOLD], "mcp_error") from group


async def connect(stack: AsyncExitStack, name: str, config: Mapping[str, Any]) -> McpServer:
    """Connect to a server, for as long as `stack` of `connections` is open.

    Raises: AgentFailure: `mcp_error`: it can't be reached.
    """
    # until it is there: what it says then is nobody's
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as file:
        log = cast(TextIO, file)
        try:
            client = await _client(stack, config, log)
            return McpServer(name, client, await _list_tools(client))
        except Exception as exc:
            bare = bare_error(exc, None) if isinstance(exc, BaseExceptionGroup) else exc
            message = f"MCP server {name!r} can't be used: {_words(bare)}"
            log.seek(0)
            if said := log.read(TOLD).strip():
                message += f"; it said: {said}"
            raise AgentFailure(
                _without_secrets(message, config)[:TOLD],
                "mcp_error",
                terminal=isinstance(bare, FileNotFoundError | PermissionError | _WrongConfig),
            ) from exc


class _WrongConfig(Exception):
    """It names no MCP server."""


async def _client(stack: AsyncExitStack, config: Mapping[str, Any], log: TextIO) -> mcp.Client:
    # here: it takes most of a second to import
    import mcp
    from mcp.client.stdio import StdioServerParameters, stdio_client
    from mcp.client.streamable_http import streamable_http_client

    transport: Any
    if "command" in config:
        given = {key: config[key] for key in STDIO if config.get(key) is not None}
        try:
            transport = stdio_client(StdioServerParameters(**given), errlog=log)
        except ValidationError as exc:
            (problem, *_) = exc.errors(include_input=False)
            place = ".".join(map(str, problem["loc"]))
            raise _WrongConfig(f"{place}: {problem['msg']}") from exc
    elif isinstance(config.get("url"), str) and config.get("type", "http") in HTTP:
        http = await stack.enter_async_context(
            httpx2.AsyncClient(
                headers=config.get("headers"),
                timeout=httpx2.Timeout(CONNECT_SECONDS, read=CALL_SECONDS),
                verify=tls(),
            )
        )
        transport = streamable_http_client(config["url"], http_client=http)
    else:
        raise _WrongConfig("it needs a 'command', or a 'url' of type 'http'")
    # the time limit is the client's, not a cancel scope around this: what is entered here is
    # left elsewhere, and scopes have to nest
    return await stack.enter_async_context(
        mcp.Client(transport, read_timeout_seconds=CONNECT_SECONDS)
    )


async def _list_tools(client: mcp.Client) -> list[mcp_types.Tool]:
    tools: list[mcp_types.Tool] = []
    cursor: str | None = None
    for _ in range(PAGES):
        page = await client.list_tools(cursor=cursor)
        tools += page.tools
        cursor = page.next_cursor
        if cursor is None:
            break
    return tools


def _text(result: mcp_types.CallToolResult) -> str:
    """Return what the model reads of a result: its texts, and a word for what is none."""
    from mcp_types import TextResourceContents

    lines: list[str] = []
    for block in result.content:
        if block.type == "text":
            lines.append(block.text)
        elif block.type == "resource" and isinstance(block.resource, TextResourceContents):
            lines.append(block.resource.text)
        elif block.type == "resource_link":
            lines.append(str(block.uri))
        else:
            lines.append(f"[{block.type}]")
    if not lines and result.structured_content is not None:
        return finite_json(result.structured_content)
    return "\n".join(lines)


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _without_secrets(message: str, config: Mapping[str, Any]) -> str:
    """Take out what a configuration keeps: headers, variables, and a URL, which may have a key."""
    kept = [*(config.get("headers") or {}).values(), *(config.get("env") or {}).values()]
    return Redaction(each for each in (*kept, config.get("url")) if isinstance(each, str)).text(
        message
    )
