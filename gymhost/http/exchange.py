"""One request of the agent plane and its one answer."""

from __future__ import annotations

from typing import Any

import anyio
import pydantic_core
from mcp.shared.exceptions import NoBackChannelError
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from starlette.requests import Request
from starlette.types import Message, Receive, Send

__all__ = ["Exchange", "Gone", "Replay", "send_answer", "send_error", "send_json"]


class Replay:
    """Receives a body that was read already, then what comes after it."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        body, self._body = self._body, None
        if body is None:
            return await self._receive()
        return {"type": "http.request", "body": body, "more_body": False}


class Gone:
    """Returns, when called, once the client of a request has left."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive

    async def __call__(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass


class Exchange:
    """One request and its one answer, in the shape of `mcp.shared.dispatcher.DispatchContext`."""

    can_send_request = False

    def __init__(self, request: Request, request_id: str | int) -> None:
        self.transport = TransportContext(
            kind="streamable-http", can_send_request=False, headers=request.headers
        )
        self.request_id = request_id
        self.message_metadata = ServerMessageMetadata(request_context=request)

    @property
    def cancel_requested(self) -> anyio.Event:
        """Never set: a cancellation comes on another connection, and calls run to their end."""
        return anyio.Event()

    async def send_raw_request(self, method: str, params: Any, opts: Any = None) -> dict[str, Any]:
        raise NoBackChannelError(method)

    async def notify(self, method: str, params: Any, opts: Any = None) -> None:
        """Drop it: a JSON answer has no room for notifications."""

    async def progress(
        self, progress: float, total: float | None = None, message: str | None = None
    ) -> None:
        """Drop it, as `notify` does."""


async def send_error(
    send: Send, status: int, request_id: str | int | None, code: int, message: str, data: Any = None
) -> None:
    """Answer with a JSON-RPC error."""
    error = {"code": code, "message": message}
    if data is not None:
        error["data"] = data
    await send_json(send, status, {"jsonrpc": "2.0", "id": request_id, "error": error})


async def send_json(send: Send, status: int, body: dict[str, Any]) -> None:
    """Answer with JSON."""
    headers = [(b"content-type", b"application/json")]
    await send_answer(send, status, pydantic_core.to_json(body), headers)


async def send_answer(
    send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    """Answer with bytes."""
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})
