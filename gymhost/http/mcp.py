"""One environment's MCP endpoint: Streamable HTTP, stateless, JSON, 2025-03-26 to 2026-07-28.

What the handshake-era clients send, which is nearly everything, goes straight to the SDK's
`serve_one`: its own stateless transport spends 80 % of such a call on tasks and streams between
them. 2026-07-28 requests, and versions nobody knows, go to the SDK's session manager.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any

import anyio
import pydantic_core
from anyio.abc import TaskGroup, TaskStatus
from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.runner import serve_one
from mcp.server.streamable_http import check_accept_headers
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mcp.server.transport_security import TransportSecurityMiddleware, TransportSecuritySettings
from mcp.shared.exceptions import MCPError
from mcp.shared.jsonrpc_dispatcher import handler_exception_to_error_data
from mcp_types import (
    DEFAULT_NEGOTIATED_VERSION,
    INTERNAL_ERROR,
    INVALID_REQUEST,
    PARSE_ERROR,
    CallToolRequestParams,
    PaginatedRequestParams,
    SubscriptionsListenRequestParams,
)
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.requests import Request

from gymhost.deadlines import Interrupted
from gymhost.errors import BodyTooLarge, RequestError
from gymhost.host import Host
from gymhost.http.body import parse_json
from gymhost.http.http_exchange import HttpExchange
from gymhost.http.json_rpc import rpc_error, rpc_result
from gymhost.http.mcp_context import Gone, McpContext, Replay
from gymhost.http.plain_calls import PlainCall, is_plain_head, plain_call, wire_result
from gymhost.http.reply import Header, Reply
from gymhost.models import TOKEN_HEADER, ToolOutcome
from gymhost.mount import Mount
from gymhost.stores import ENDED

__all__ = ["TOKEN_HEADER", "McpEndpoint"]

logger = logging.getLogger("gymhost.mcp")

TOKEN_BYTES = TOKEN_HEADER.lower().encode()
VERSION_HEADER = b"mcp-protocol-version"
VERSIONS = frozenset(HANDSHAKE_PROTOCOL_VERSIONS)


class McpEndpoint:
    """Serves one environment's tools to agents."""

    def __init__(
        self,
        host: Host,
        mount: Mount,
        tasks: TaskGroup,
        security: TransportSecuritySettings | None = None,
    ) -> None:
        """`tasks` live as long as the endpoint is served.

        `security` turns on the SDK's checks of Host and Origin, which are off: the token is what
        protects, and agents come by any name.
        """
        self._host = host
        self._mount = mount
        self._limit = mount.limits.mcp_body_bytes
        self._listen = ListenHandler(
            InMemorySubscriptionBus(), max_subscriptions=mount.limits.open_sessions
        )
        self._listening: Counter[str] = Counter()
        """Streams, by session."""
        self._server: Server[Any] = Server(
            mount.name,
            version=mount.record.version or "",
            on_subscriptions_listen=self._subscribe,
            get_tool_input_schema=self._input_schema,
        )
        # Added, not passed: they answer dicts, which are the wire's own shape.
        self._server.add_request_handler("tools/list", PaginatedRequestParams, self._list_tools)
        self._server.add_request_handler("tools/call", CallToolRequestParams, self._call_tool)
        # The SDK's OpenTelemetry spans: nothing here exports them.
        self._server.middleware.clear()
        self._security = TransportSecurityMiddleware(security)
        self._checks_hosts = security is not None
        self._server_info = self._server.server_info_stamp
        self._mirrors = {
            each.name
            for each in mount.tools
            if b"x-mcp-header" in pydantic_core.to_json(each.input_schema)
        }
        """Tools of whose parameters 2026-07-28 has copies in headers: the SDK compares them."""
        self._tasks = tasks
        self._starting = anyio.Lock()
        self._manager_runs = False
        self._manager = StreamableHTTPSessionManager(
            app=self._server,
            json_response=True,
            stateless=True,
            max_request_body_size=sys.maxsize,  # what comes there has been measured
        )

    def close_streams(self) -> None:
        """End the streams that clients hold open to listen."""
        self._listen.close()

    async def __call__(self, exchange: HttpExchange) -> None:
        """Answer one request."""
        if exchange.scope["method"] != "POST":
            await exchange.answer(_empty(405, (b"allow", b"POST")))
            return
        plain = is_plain_head(exchange.head) and not (self._checks_hosts or exchange.repeats)
        if not plain and await self._refused(exchange):
            return
        try:
            message = parse_json(await exchange.read_body(self._limit))
        except BodyTooLarge as exc:
            self._mount.counts["body_too_large"] += 1
            self._mount.hit("mcp_body_bytes")
            await exchange.answer(rpc_error(None, INVALID_REQUEST, str(exc), status=413))
            return
        except ValueError:
            await exchange.answer(rpc_error(None, PARSE_ERROR, "Parse error", status=400))
            return
        if plain:
            call = plain_call(exchange.head, message, DEFAULT_NEGOTIATED_VERSION)
            if call is not None and call.name not in self._mirrors:
                await exchange.answer(await self._plain_reply(exchange, call))
                return
        version = exchange.header(VERSION_HEADER)
        if version is None or version in VERSIONS:
            version = version or DEFAULT_NEGOTIATED_VERSION
            await exchange.answer(await self._reply(exchange, message, version))
            return
        # written anew: the SDK's own parser takes NaN and lone surrogates, which no record takes
        replayed = Replay(pydantic_core.to_json(message), exchange.receive)
        if not self._manager_runs:
            await self._start_manager()
        await self._manager.handle_request(exchange.scope, replayed, exchange.send)

    async def _refused(self, exchange: HttpExchange) -> bool:
        """Answer a request whose headers do not fit; say whether that was so."""
        request = Request(exchange.scope, exchange.receive)
        refusal = await self._security.validate_request(request, is_post=True)
        if refusal is not None:
            # the SDK's words for it, which do not say that they are text
            text = bytes(refusal.body)
            await exchange.answer(Reply(text, refusal.status_code, b"text/plain; charset=utf-8"))
            return True
        if check_accept_headers(request)[0]:
            return False
        why = "Not Acceptable: accept application/json"
        await exchange.answer(rpc_error(None, INVALID_REQUEST, why, status=406))
        return True

    async def _plain_reply(self, exchange: HttpExchange, call: PlainCall) -> Reply:
        try:
            outcome = await self._host.call_tool(
                self._mount.name,
                exchange.header(TOKEN_BYTES),
                call.name,
                call.arguments,
                gone=Gone(exchange.receive),
                stays=exchange.stays,
            )
            return rpc_result(
                call.request_id, wire_result(outcome, call.version, self._server_info)
            )
        except Exception:
            logger.exception("a tool call of %s failed in gymhost", self._mount.name)
            return rpc_error(call.request_id, INTERNAL_ERROR, "Internal server error")

    async def _start_manager(self) -> None:
        """Start the SDK's session manager, at the first request that needs it.

        In a task of its own: it holds a task group, and those of a thousand environments, nested
        in one another, are more than asyncio can cancel (RecursionError).
        """
        with anyio.CancelScope(shield=True):  # it can be started once
            async with self._starting:
                if not self._manager_runs:
                    await self._tasks.start(self._run_manager)
                    self._manager_runs = True

    async def _run_manager(self, *, task_status: TaskStatus[None]) -> None:
        async with self._manager.run():
            task_status.started()
            await anyio.sleep_forever()

    async def _reply(self, exchange: HttpExchange, message: Any, version: str) -> Reply:
        match message:
            case {"jsonrpc": "2.0", "method": str(), "id": str() | int() as request_id} if (
                not isinstance(request_id, bool) and _params_fit(message)
            ):
                return await self._serve(exchange, message, request_id, version)
            case {"jsonrpc": "2.0", "method": str()} if "id" not in message and _params_fit(
                message
            ):
                return _empty(202)  # a notification: nothing here acts on one
            case {"jsonrpc": "2.0", "id": str() | int(), "result": dict()} | {
                "jsonrpc": "2.0",
                "error": dict(),
            } if "method" not in message:
                return _empty(202)  # a response to nothing that was asked
            case _:
                what = "The body must be one JSON-RPC 2.0 request or notification"
                return rpc_error(None, INVALID_REQUEST, what, status=400)

    async def _serve(
        self,
        exchange: HttpExchange,
        message: dict[str, Any],
        request_id: str | int,
        version: str,
    ) -> Reply:
        context = McpContext(Request(exchange.scope, exchange.receive), request_id)
        connection = Connection.from_envelope(version, None, None)
        try:
            result = await serve_one(
                self._server,
                context,
                message["method"],
                message.get("params"),
                connection=connection,
                lifespan_state=None,
            )
        except Exception as exc:
            error = handler_exception_to_error_data(exc)
            if error is None:
                logger.exception("an MCP request of %s failed", self._mount.name)
                return rpc_error(request_id, INTERNAL_ERROR, "Internal server error")
            return rpc_error(request_id, error.code, error.message, error.data)
        return rpc_result(request_id, result)

    # -- handlers: for both ways in ------------------------------------------------------------

    async def _list_tools(
        self, context: ServerRequestContext[Any, Any], params: PaginatedRequestParams
    ) -> dict[str, Any]:
        allowed = None
        token = _token(context)
        if token:
            try:
                row = await self._host.registry.peek(token)
            except RequestError:
                logger.exception("tools/list of %s shows all tools", self._mount.name)
            else:
                if row is not None and row.environment == self._mount.name:
                    allowed = row.allowed_tools
        tools = self._mount.tool_definitions(allowed)
        # what another session may use is nobody's to cache
        return {"tools": tools, "resultType": "complete", "ttlMs": 0, "cacheScope": "private"}

    async def _call_tool(
        self, context: ServerRequestContext[Any, Any], params: CallToolRequestParams
    ) -> dict[str, Any]:
        try:
            outcome = await self._host.call_tool(
                self._mount.name,
                _token(context),
                params.name,
                params.arguments or {},
                gone=Gone(_request(context).receive),
            )
        except Interrupted:  # which the SDK would not let through as it is
            outcome = ToolOutcome.error("The server is stopping.", "cancelled")
        result: dict[str, Any] = {
            "content": outcome.content,
            "isError": outcome.is_error,
            "resultType": "complete",  # 2026-07-28; the SDK leaves it out for those before
        }
        if outcome.structured_content is not None:
            result["structuredContent"] = outcome.structured_content
        return result

    async def _subscribe(
        self, context: ServerRequestContext[Any, Any], params: SubscriptionsListenRequestParams
    ) -> Any:
        """Hold a stream open. Nothing is ever sent on it: an environment's tools do not change."""
        token = _token(context)
        row = await self._host.registry.peek(token) if token else None
        if row is None or row.environment != self._mount.name or row.status in ENDED:
            raise MCPError(INVALID_REQUEST, f"Listening needs the {TOKEN_HEADER} header")
        if self._host.stopping:
            raise MCPError(INTERNAL_ERROR, "The server is stopping")
        # one that listens for each of its connections is fine; one that takes all streams is not
        most = self._mount.limits.session_queue
        if self._listening[row.session_id] >= most:
            self._mount.hit("session_queue")
            raise MCPError(INVALID_REQUEST, f"This session listens on {most} streams already")
        self._listening[row.session_id] += 1
        try:
            return await self._listen(context, params)
        finally:
            self._listening[row.session_id] -= 1
            if not self._listening[row.session_id]:
                del self._listening[row.session_id]

    def _input_schema(self, name: str) -> Mapping[str, Any] | None:
        tool = self._mount.tools.get(name)
        return None if tool is None else tool.input_schema


def _params_fit(message: dict[str, Any]) -> bool:
    params = message.get("params")
    return params is None or isinstance(params, dict)


def _request(context: ServerRequestContext[Any, Any]) -> Request:
    assert isinstance(context.request, Request)  # both ways in attach it
    return context.request


def _token(context: ServerRequestContext[Any, Any]) -> str | None:
    # several are one, as HTTP has it, which is no token
    return ", ".join(_request(context).headers.getlist(TOKEN_HEADER)) or None


def _empty(status: int, *headers: Header) -> Reply:
    return Reply(status=status, media_type=b"", headers=headers)
