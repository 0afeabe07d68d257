"""Connections on trio, with hypercorn's protocols."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import trio
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState

from gymhost.http.app import GymhostApp
from gymhost.server.connections import Connections, log_closed
from gymhost.server.hypercorn_config import close_streams, configure, wrap

__all__ = ["listen"]


class Connection(TCPServer):
    """One whose requests go on when it breaks."""

    async def _read_data(self) -> None:
        try:
            await super()._read_data()
        except Exception as exc:  # noqa: BLE001 - over what a client sent
            log_closed(exc)
            await trio.aclose_forcefully(self.stream)
            await close_streams(self.protocol)


@asynccontextmanager
async def listen(
    app: GymhostApp, bound: socket.socket, connections: Connections
) -> AsyncGenerator[None]:
    """Accept connections, and in the end close them."""
    config, context = configure(), WorkerContext(None)

    async def connected(stream: trio.SocketStream) -> None:
        connection = Connection(wrap(app), config, context, ConnectionState({}), cast(Any, stream))
        await connections.serve(connection, stream.socket.close)

    listener = trio.SocketListener(trio.socket.from_stdlib_socket(bound))
    async with trio.open_nursery() as handlers, trio.open_nursery() as accepting:
        accepting.start_soon(
            partial(trio.serve_listeners, connected, [listener], handler_nursery=handlers)
        )
        try:
            yield
        finally:
            accepting.cancel_scope.cancel()
            await context.terminated.set()
            await connections.close()
