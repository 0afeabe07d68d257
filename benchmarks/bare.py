"""A tool call through the SDK's `serve_one` alone, as gymhost makes it: nothing else around it."""

from __future__ import annotations

from typing import Any

from mcp.server.connection import Connection
from mcp.server.lowlevel import Server
from mcp.server.runner import serve_one
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types import CallToolRequestParams
from starlette.requests import Request

from benchmarks.cells import LEGACY


def bare_server(name: str, call_tool: Any) -> Server[Any]:
    """Return the SDK's server with one handler, which gets the context and the parameters."""
    server: Server[Any] = Server(name)
    server.add_request_handler("tools/call", CallToolRequestParams, call_tool)
    server.middleware.clear()  # as gymhost does: nothing exports the SDK's spans
    return server


async def answer(server: Server[Any], request: Request, message: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON-RPC answer to a request of a client of the handshake era."""
    result = await serve_one(
        server,
        _Exchange(request, message["id"]),
        message["method"],
        message["params"],
        connection=Connection.from_envelope(LEGACY, None, None),
        lifespan_state=None,
    )
    return {"jsonrpc": "2.0", "id": message["id"], "result": result}


def text_result(text: str) -> dict[str, Any]:
    """Return what a tool has answered."""
    content = [{"type": "text", "text": text}]
    return {"content": content, "isError": False, "resultType": "complete"}


class _Exchange:
    """One request, in the shape of `mcp.shared.dispatcher.DispatchContext`."""

    can_send_request = False
    cancel_requested: Any = None

    def __init__(self, request: Request, request_id: int) -> None:
        self.transport = TransportContext(
            kind="streamable-http", can_send_request=False, headers=request.headers
        )
        self.request_id = request_id
        self.message_metadata = ServerMessageMetadata(request_context=request)

    async def send_raw_request(self, method: str, params: Any, opts: Any = None) -> dict[str, Any]:
        raise NotImplementedError

    async def notify(self, method: str, params: Any, opts: Any = None) -> None:
        raise NotImplementedError

    async def progress(
        self, progress: float, total: float | None = None, message: str | None = None
    ) -> None:
        raise NotImplementedError
