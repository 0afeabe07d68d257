"""uvicorn's HTTP/1.1 protocol, with what it leaves to a proxy in front of it."""

from __future__ import annotations

import asyncio
import logging
from contextvars import Context
from typing import Any

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from gymhost.server.connections import Connections

__all__ = ["Protocol"]

# Bytes of a head, or of anything else that is not a body's, as long as it is not whole.
HEAD_BYTES = 65536


def _is_failure(record: logging.LogRecord) -> bool:
    """A request that is cancelled with the server is none, and uvicorn logs it as one."""
    return record.exc_info is None or not isinstance(record.exc_info[1], asyncio.CancelledError)


logger = logging.getLogger("gymhost.uvicorn")
logger.setLevel(logging.ERROR)  # not for what clients send wrong
logger.addFilter(_is_failure)


class Protocol(HttpToolsProtocol):
    """One connection.

    uvicorn's lets a head be without a host and without an end, in size and in time; it takes a
    WebSocket's request for any other; and when a client goes that has sent more requests at once,
    it tells the last of them alone.
    """

    def __init__(
        self, config: Config, state: ServerState, connections: Connections, context: Context
    ) -> None:
        super().__init__(config, state, {})
        self.logger = logger
        self._connections = connections
        self._context = context
        self._running: RequestResponseCycle | None = None
        self._unparsed = 0
        self._fault = b"400 Bad Request"

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._cut = transport.abort
        self._connections.opened(self._cut)
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the request that is being answered; those behind it never start."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        if (answering := self._answering) is not None:
            answering.disconnected = True
            answering.message_event.set()
        self._connections.closed(self._cut)

    def data_received(self, data: bytes) -> None:
        """Parse what comes. Half a head gets no more time than none, and no endless room."""
        timer, self.timeout_keep_alive_task = self.timeout_keep_alive_task, None
        self._unparsed += len(data)
        super().data_received(data)
        if timer is not None and self._answering is not None:
            timer.cancel()
        else:
            self.timeout_keep_alive_task = timer
        if self._unparsed > HEAD_BYTES:
            self._fault = b"431 Request Header Fields Too Large"
            self.send_400_response("")

    def on_headers_complete(self) -> None:
        """Begin to answer, if it is a request."""
        self._unparsed = 0
        parser: Any = self.parser
        hosts = [name for name, _ in self.headers].count(b"host")
        if hosts != 1 and (hosts or parser.get_http_version() != "1.0"):
            raise ValueError("one host is needed")
        if parser.should_upgrade() and self._get_upgrade() == b"websocket":
            self._fault = b"403 Forbidden"  # nothing here speaks it
            raise ValueError("no WebSocket is served")
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        self._unparsed = 0
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request, unless another answer would be torn, and close."""
        begun = self._answering
        is_torn = begun is not None and (begun is not self.cycle or begun.response_started)
        if not self.transport.is_closing() and not is_torn:
            lines = [b"HTTP/1.1 " + self._fault, b"connection: close", b"content-length: 0"]
            lines += [name + b": " + value for name, value in self.server_state.default_headers]
            self.transport.write(b"\r\n".join([*lines, b"", b""]))
        self.transport.close()

    @property
    def _answering(self) -> RequestResponseCycle | None:
        running = self._running
        return None if running is None or running.response_complete else running

    def _unsupported_upgrade_warning(self) -> None:
        """HTTP/2 over an upgrade is not served; what comes after the answer is HTTP/1.1 again."""

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Answer a request, in the server's context: not in that of the one before it."""
        self._running = cycle
        task = self.loop.create_task(cycle.run_asgi(app), context=self._context.copy())
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)
