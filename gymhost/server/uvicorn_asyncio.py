"""Connections on asyncio, with uvicorn's protocol on httptools.

Only the protocol: uvicorn's own server takes the signals, waits for open connections, and stops the
application only after that.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from contextvars import copy_context
from email.utils import formatdate
from functools import partial
from typing import Any, cast

import anyio
from uvicorn import Config
from uvicorn.server import ServerState

from gymhost.http.app import GymhostApp
from gymhost.server.binding import BACKLOG
from gymhost.server.connections import KEEP_ALIVE_SECONDS, Connections
from gymhost.server.uvicorn_protocol import Protocol

__all__ = ["listen"]


@asynccontextmanager
async def listen(
    app: GymhostApp, bound: socket.socket, connections: Connections
) -> AsyncGenerator[None]:
    """Accept connections, and in the end close them."""
    state = ServerState()
    connected = partial(Protocol, _configure(app), state, connections, copy_context())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_date, state)
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(connected, sock=bound, backlog=BACKLOG)
        try:
            yield
        finally:
            listener.close()
            for protocol in list(state.connections):
                protocol.shutdown()
            try:
                await connections.close()
            finally:
                await _end(state.tasks)
            tasks.cancel_scope.cancel()


async def _date(state: ServerState) -> None:
    """Keep the header that every answer has."""
    while True:
        state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        await anyio.sleep(1)


async def _end(requests: set[asyncio.Task[None]]) -> None:
    """Wait for the requests, whose connections are closed; cancel them when we are."""
    try:
        while requests:
            await asyncio.wait(list(requests))
    finally:
        with anyio.CancelScope(shield=True):
            while requests:
                for request in requests:
                    request.cancel()
                await asyncio.wait(list(requests))


def _configure(app: GymhostApp) -> Config:
    return Config(
        cast(Any, app),  # uvicorn has its own types for ASGI
        http=Protocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
