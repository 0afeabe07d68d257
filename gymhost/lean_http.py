"""A transport for many small requests to one plain-HTTP server: its CPU is a third of httpx's own.

httpcore's pool looks at every connection for every request, and sends a request's head and body
apart. Here a request takes the connection that was used last, looks at that one alone, and is one
write. For what is not plain HTTP/1.1 over TCP, httpx's own transport is the right one.
"""

from __future__ import annotations

import select
import time
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import Any, Self
from urllib.request import getproxies, proxy_bypass

import anyio
import anyio.abc
import h11
import httpx2

__all__ = ["LeanTransport", "lean_transport"]

RECEIVE_BYTES = 64 * 1024
# A server may close what is idle at any time; below this nobody does.
FRESH_SECONDS = 0.5
MOST_HEAD_BYTES = 256 * 1024

Origin = tuple[str, int]


def lean_transport(url: str) -> httpx2.AsyncBaseTransport | None:
    """Return a transport for a server, or None where only httpx's own will do."""
    parsed = httpx2.URL(url)
    proxied = "http" in getproxies() and not proxy_bypass(parsed.host)
    return None if parsed.scheme != "http" or proxied else LeanTransport()


class LeanTransport(httpx2.AsyncBaseTransport):
    """Keeps the connections that it opens, as many as there are requests at a time."""

    def __init__(self) -> None:
        self._idle: dict[Origin, deque[_Connection]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                await connection.close()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request, and read the answer whole.

        Raises: httpx2.TransportError.
        """
        timeouts: dict[str, float | None] = request.extensions.get("timeout", {})
        body = await request.aread()
        origin = (request.url.host, request.url.port or 80)
        connection = await self._take(origin, timeouts.get("connect"))
        answered = False
        try:
            response = await connection.exchange(request, body, timeouts.get("read"))
            answered = True
        finally:
            if answered and connection.reusable:
                self._idle.setdefault(origin, deque()).append(connection)
            else:
                with anyio.CancelScope(shield=True):
                    await connection.close()
        return response

    async def _take(self, origin: Origin, seconds: float | None) -> _Connection:
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if connection.is_open():
                return connection
            await connection.close()
        try:
            with anyio.fail_after(seconds):
                return _Connection(await anyio.connect_tcp(*origin))
        except TimeoutError as exc:
            raise httpx2.ConnectTimeout(f"no connection in {seconds:g} s") from exc
        except OSError as exc:
            raise httpx2.ConnectError(str(exc)) from exc


class _Connection:
    """One connection, which has one request at a time."""

    def __init__(self, stream: anyio.abc.SocketStream) -> None:
        self._stream = stream
        self._file: int = stream.extra(anyio.abc.SocketAttribute.raw_socket).fileno()
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MOST_HEAD_BYTES)
        self._used = time.monotonic()

    def is_open(self) -> bool:
        """Whether the server has not closed it."""
        if time.monotonic() - self._used < FRESH_SECONDS:
            return True
        # to be read: its end, or what nobody has asked for
        poll = select.poll()
        poll.register(self._file, select.POLLIN)
        return not poll.poll(0)

    @property
    def reusable(self) -> bool:
        """Whether it can have another request."""
        return self._http.our_state is h11.IDLE

    async def close(self) -> None:
        """Close it."""
        with suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            await self._stream.aclose()

    async def exchange(
        self, request: httpx2.Request, body: bytes, seconds: float | None
    ) -> httpx2.Response:
        """Send a request, and read the answer.

        Raises: httpx2.TransportError.
        """
        try:
            with anyio.fail_after(seconds):
                await self._stream.send(self._written(request, body))
                response = await self._read()
        except TimeoutError as exc:
            raise httpx2.ReadTimeout(f"no answer in {seconds:g} s") from exc
        except anyio.EndOfStream as exc:
            raise httpx2.RemoteProtocolError("the server closed the connection") from exc
        except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError) as exc:
            raise httpx2.ReadError(str(exc) or "the connection broke") from exc
        except h11.LocalProtocolError as exc:
            raise httpx2.LocalProtocolError(str(exc)) from exc
        except h11.RemoteProtocolError as exc:
            raise httpx2.RemoteProtocolError(str(exc)) from exc
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        self._used = time.monotonic()
        return response

    def _written(self, request: httpx2.Request, body: bytes) -> bytes:
        http = self._http
        head = http.send(
            h11.Request(
                method=request.method, target=request.url.raw_path, headers=request.headers.raw
            )
        )
        sent = http.send(h11.Data(body)) if body else b""
        return b"".join(filter(None, (head, sent, http.send(h11.EndOfMessage()))))

    async def _read(self) -> httpx2.Response:
        status, headers, content = 0, [], []
        while True:
            event: Any = self._http.next_event()
            if event is h11.NEED_DATA:
                try:
                    data = await self._stream.receive(RECEIVE_BYTES)
                except anyio.EndOfStream:
                    if self._http.their_state is not h11.SEND_BODY:
                        raise
                    data = b""  # it may be how the body ends
                self._http.receive_data(data)
            elif isinstance(event, h11.Response):
                status, headers = event.status_code, event.headers.raw_items()
            elif isinstance(event, h11.Data):
                content.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                return httpx2.Response(status, headers=headers, content=b"".join(content))
