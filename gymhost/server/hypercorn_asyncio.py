"""Connections on asyncio, with hypercorn's protocols."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import WorkerContext

from gymhost.http.app import GymhostApp
from gymhost.server.binding import BACKLOG
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
            self.writer.transport.abort()
            await close_streams(self.protocol)


@asynccontextmanager
async def listen(
    app: GymhostApp, bound: socket.socket, connections: Connections
) -> AsyncGenerator[None]:
    """Accept connections, and in the end close them."""
    config, context = configure(), WorkerContext(None)
    loop = asyncio.get_running_loop()
    async with anyio.create_task_group() as tasks:

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = Connection(wrap(app), loop, config, context, {}, reader, writer)
            tasks.start_soon(connections.serve, connection, writer.transport.abort)

        listener = await asyncio.start_server(connected, sock=bound, backlog=BACKLOG)
        try:
            yield
        finally:
            listener.close()
            await context.terminated.set()
            await connections.close()
