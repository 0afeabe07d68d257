"""What the SDK's handlers are given with a request."""

from __future__ import annotations

from typing import Any

import anyio
from mcp.shared.exceptions import NoBackChannelError
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from starlette.requests import Request
from starlette.types import Message, Receive

__all__ = ["Gone", "McpContext", "Replay"]


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


class McpContext:
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
