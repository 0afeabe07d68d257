"""The scripted agent: plays a task's reference, or a file of steps. No model, no key."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2
import pydantic_core
from pydantic import ValidationError

from gymhost.agents.base import AgentFailure, AgentRun, McpServers
from gymhost.agents.mcp_servers import CALL_SECONDS, McpServer, connect, connections
from gymhost.client import UNLIMITED
from gymhost.episode import answer_item, call_items
from gymhost.lean_http import lean_transport
from gymhost.models import TOKEN_HEADER, JSONObject, Reference, ReferenceCall, Task

__all__ = ["Scripted"]

TIMEOUT = httpx2.Timeout(30, read=CALL_SECONDS)
HEADERS = {"accept": "application/json, text/event-stream", "content-type": "application/json"}


class Scripted:
    """Calls what it is told to call, and says what it is told to say.

    A call names a tool, or, where several servers have it, `mcp__<server>__<tool>`.
    """

    def __init__(self, steps: str | None = None) -> None:
        """`steps` is a JSON file: one reference, which is played for every task.

        Raises: ValueError: it can't be read, or is none.
        """
        self._steps = None if steps is None else _read(Path(steps))
        self._connections = _Connections()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._connections.aclose()

    async def run(self, task: Task, mcp: McpServers, run: AgentRun) -> None:
        """Play the steps, or the task's reference.

        Raises: AgentFailure: the task has none, or a server does not answer as MCP.
        """
        reference = self._steps or _reference(task)
        if reference.trajectory is not None:
            run.output += reference.trajectory
            run.stop_reason = "completed"
            return
        async with connections() as stack:
            await _play(reference, _Servers(mcp, self._connections, stack), run)


async def _play(reference: Reference, servers: _Servers, run: AgentRun) -> None:
    for number, call in enumerate(reference.calls):
        text = await servers.call(call)
        run.turns += 1
        run.output += call_items(f"call_{number}", call.name, call.arguments, text)
    run.turns += 1
    run.output.append(answer_item(reference.answer))
    run.stop_reason = "completed"


class _Connections:
    """Clients for all attempts, one for each server: a connection a call costs more than the call.

    They have no cookies, and a server that is gymhost needs no handshake.
    """

    def __init__(self) -> None:
        self._clients: dict[str, tuple[httpx2.AsyncClient, httpx2.URL]] = {}

    def client(self, url: str) -> tuple[httpx2.AsyncClient, httpx2.URL]:
        """Return the client for a URL, and that: to parse it takes as long as to send a call."""
        if url not in self._clients:
            client = httpx2.AsyncClient(
                headers=HEADERS,
                timeout=TIMEOUT,
                limits=UNLIMITED,
                transport=lean_transport(url),
            )
            self._clients[url] = client, httpx2.URL(url)
        return self._clients[url]

    async def aclose(self) -> None:
        """Close them."""
        clients, self._clients = self._clients, {}
        for client, _ in clients.values():
            await client.aclose()


def _read(path: Path) -> Reference:
    try:
        reference = Reference.model_validate(pydantic_core.from_json(path.read_bytes()))
    except (OSError, ValueError) as exc:
        raise ValueError(f"the steps in {path} can't be read: {_one_line(exc)}") from exc
    if reference.is_ambiguous:
        raise ValueError(f"the steps in {path}: {AMBIGUOUS}")
    return reference


AMBIGUOUS = "a trajectory, and beside it calls or an answer: keep one"


def _reference(task: Task) -> Reference:
    try:
        reference = task.reference
    except ValidationError as exc:
        raise AgentFailure(
            f"the task's reference can't be read: {_one_line(exc)}", "no_reference", terminal=True
        ) from exc
    if reference is None:
        raise AgentFailure(
            "the task has no reference to play: give the scripted agent a file of steps",
            "no_reference",
            terminal=True,
        )
    if reference.is_ambiguous:
        raise AgentFailure(f"the reference has {AMBIGUOUS}", "no_reference", terminal=True)
    return reference


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


class _Servers:
    """The servers of one attempt. Those of others are connected when they are used."""

    def __init__(
        self, servers: McpServers, connections: _Connections, stack: AsyncExitStack
    ) -> None:
        self._mcp = servers
        self._connections = connections
        self._stack = stack
        self._others: dict[str, McpServer] = {}
        self._owners: dict[str, str] = {}

    async def call(self, call: ReferenceCall) -> str:
        """Call a tool, and return its text: of a tool error, too, as an agent reads it."""
        server, tool = await self._resolve(call.name)
        config = self._mcp[server]
        if _is_gymhosts(config):
            params = {"name": tool, "arguments": call.arguments}
            result = await _post(self._connections, server, config, "tools/call", params)
            return _text(result)
        connected = await self._connected(server, config)
        return (await connected.call(tool, call.arguments)).text

    async def _resolve(self, name: str) -> tuple[str, str]:
        """Return the server and the tool that a name means."""
        for server in self._mcp:
            prefix = f"mcp__{server}__"
            if name.startswith(prefix):
                return server, name.removeprefix(prefix)
        if len(self._mcp) == 1:
            return next(iter(self._mcp)), name
        if not self._mcp:
            raise AgentFailure(
                f"there is no MCP server to call {name!r} of", "mcp_error", terminal=True
            )
        if not self._owners:
            for server, config in self._mcp.items():
                for tool in await self._tools(server, config):
                    self._owners.setdefault(tool, server)
        if name not in self._owners:
            known = ", ".join(self._mcp)
            raise AgentFailure(f"no server has the tool {name!r}: {known}", "mcp_error")
        return self._owners[name], name

    async def _tools(self, server: str, config: JSONObject) -> list[str]:
        if _is_gymhosts(config):
            result = await _post(self._connections, server, config, "tools/list", {})
            return [str(tool["name"]) for tool in result.get("tools", ())]
        return [tool.name for tool in (await self._connected(server, config)).tools]

    async def _connected(self, server: str, config: JSONObject) -> McpServer:
        if server not in self._others:
            self._others[server] = await connect(self._stack, server, config)
        return self._others[server]


def _is_gymhosts(config: JSONObject) -> bool:
    """Whether one request without a handshake will do."""
    return TOKEN_HEADER in (config.get("headers") or {})


async def _post(
    connections: _Connections, server: str, config: JSONObject, method: str, params: JSONObject
) -> JSONObject:
    """Send one request. The endpoint keeps no state, so nothing has to come before it.

    Raises: AgentFailure.
    """
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    try:
        client, url = connections.client(config["url"])
        response = await client.post(
            url, content=pydantic_core.to_json(message), headers=config["headers"]
        )
    except httpx2.HTTPError as exc:
        text = _one_line(exc) or type(exc).__name__
        raise AgentFailure(
            f"the MCP server {server!r} did not answer: {text}", "mcp_error"
        ) from exc
    try:
        answer = pydantic_core.from_json(response.content)
    except ValueError as exc:
        told = {"error": {"message": f"{response.status_code}, and no JSON"}}
        raise _no_result(server, told) from exc
    if not isinstance(answer, dict) or not isinstance(answer.get("result"), dict):
        raise _no_result(server, answer)
    result: JSONObject = answer["result"]
    return result


def _no_result(server: str, answer: Any) -> AgentFailure:
    error = answer.get("error") if isinstance(answer, dict) else None
    told = error.get("message") if isinstance(error, dict) else json.dumps(answer)[:200]
    return AgentFailure(f"the MCP server {server!r} answered with an error: {told}", "mcp_error")


def _text(result: JSONObject) -> str:
    blocks = result.get("content")
    texts = [
        block["text"]
        for block in (blocks if isinstance(blocks, list) else ())
        if isinstance(block, dict) and isinstance(block.get("text"), str)
    ]
    return "\n".join(texts)
