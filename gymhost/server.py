"""Serve the application with hypercorn, on asyncio or trio, and stop it well.

What is hypercorn's here is the connection and its protocols. Its own server, in 0.18, waits for
open connections without any limit on Python 3.12 and later, ends on trio with the first
connection that fails (a path over HTTP/2 that is not ASCII is enough), and stops the application
only after all that.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Literal, cast

import anyio
import hypercorn.asyncio.worker_context
import hypercorn.trio.worker_context
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.typing import ConnectionState

from gymhost.connections import CONNECTION_SECONDS, AsyncioConnection, Connections, TrioConnection
from gymhost.errors import ServeError
from gymhost.host import task_group
from gymhost.http.app import GymhostApp

__all__ = ["GRACE_SECONDS", "Backend", "bind", "run", "serve"]

Backend = Literal["asyncio", "trio"]

logger = logging.getLogger("gymhost.server")

GRACE_SECONDS = 10.0
# What the host gets to stop; its own limits are shorter, for hooks that can be cancelled.
HOST_SECONDS = 60.0
BACKLOG = 2048


def bind(host: str, port: int) -> socket.socket:
    """Take a port: one in use is found before anything is started. Clients wait till it serves.

    Raises: ServeError: it is in use, not allowed, or no address of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as exc:
        raise ServeError(f"{host!r} is no address of this machine: {exc}.") from exc
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        # listen too: SO_REUSEADDR lets two sockets share a port on which neither listens
        bound.listen(BACKLOG)
    except OSError as exc:
        bound.close()
        hint = "Try another one: --port 0 takes any that is free."
        if exc.errno == errno.EADDRNOTAVAIL:
            hint = "Try --host 127.0.0.1, or 0.0.0.0 for every address."
        raise ServeError(f"port {port} on {host} can't be taken: {exc.strerror}. {hint}") from exc
    return bound


def run(
    app: GymhostApp,
    bound: socket.socket,
    *,
    backend: Backend = "asyncio",
    grace: float = GRACE_SECONDS,
    announce: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGINT or SIGTERM, give requests `grace` seconds to end, and stop.

    `announce` is called once requests are taken. A second signal ends the grace, a third one the
    process. A signal during the start ends it.

    Raises: PluginLoadError: a strict application did not start.
    """
    stopper = _Stopper(app, grace, announce)
    try:
        anyio.run(stopper.serve, bound, backend, backend=backend)
    finally:
        stopper.disarm()


async def serve(
    app: GymhostApp,
    bound: socket.socket,
    stop: Callable[[], Awaitable[None]],
    *,
    backend: Backend = "asyncio",
) -> None:
    """Serve inside a running event loop, until `stop` returns. What then still runs is cut off."""
    listen = _listen_trio if backend == "trio" else _listen_asyncio
    connections = Connections()
    async with app.router.lifespan_context(app), listen(app, bound, connections):
        await stop()


@asynccontextmanager
async def _listen_asyncio(
    app: GymhostApp, bound: socket.socket, connections: Connections
) -> AsyncGenerator[None]:
    config, context = _config(), hypercorn.asyncio.worker_context.WorkerContext(None)
    loop = asyncio.get_running_loop()
    async with anyio.create_task_group() as tasks:

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = AsyncioConnection(_wrap(app), loop, config, context, {}, reader, writer)
            tasks.start_soon(connections.serve, connection, writer.transport.abort)

        listener = await asyncio.start_server(connected, sock=bound, backlog=BACKLOG)
        try:
            yield
        finally:
            listener.close()
            await context.terminated.set()
            await connections.close()


@asynccontextmanager
async def _listen_trio(
    app: GymhostApp, bound: socket.socket, connections: Connections
) -> AsyncGenerator[None]:
    config, context = _config(), hypercorn.trio.worker_context.WorkerContext(None)

    async def connected(stream: trio.SocketStream) -> None:
        connection = TrioConnection(
            _wrap(app), config, context, ConnectionState({}), cast(Any, stream)
        )
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


def _wrap(app: GymhostApp) -> ASGIWrapper:
    return ASGIWrapper(cast(Any, app))  # hypercorn has its own types for ASGI


def _config() -> Config:
    config = Config()
    config.errorlog = logging.getLogger("gymhost.hypercorn")
    config.keep_alive_timeout = 75
    config.keep_alive_max_requests = 1_000_000_000
    config.include_server_header = False
    return config


def _count(number: int, thing: str, rest: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'} {rest}"


class _Stopper:
    """Turns signals into a stop that ends in time, whatever clients and environments do."""

    def __init__(self, app: GymhostApp, grace: float, announce: Callable[[], None]) -> None:
        self._app = app
        self._grace = grace
        self._announce = announce
        self._started = False
        self._signalled = anyio.Event()
        self._timer: threading.Timer | None = None

    async def serve(self, bound: socket.socket, backend: Backend) -> None:
        """Serve until a signal."""
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with task_group() as tasks:
                with anyio.CancelScope() as serving:
                    tasks.start_soon(self._obey, signals, serving)
                    await serve(self._app, bound, self._stop, backend=backend)
                tasks.cancel_scope.cancel()

    async def _obey(
        self, signals: AsyncIterator[signal.Signals], serving: anyio.CancelScope
    ) -> None:
        await anext(signals)
        self._signalled.set()
        if not self._started:
            logger.info("stopping before everything has started")
            self._arm(HOST_SECONDS, 1)
            serving.cancel()
        await anext(signals)
        logger.warning("stopping at once")
        self._app.in_flight.hurry()
        await anext(signals)
        self._leave(1)

    async def _stop(self) -> None:
        """Wait for a signal, then stop everything of ours."""
        self._started = True
        self._announce()
        await self._signalled.wait()
        logger.info("stopping: %s", _count(self._app.in_flight.count, "request", "running"))
        cancelled = await self._app.drain(self._grace)
        if cancelled:
            logger.warning("%s", _count(cancelled, "request", "cancelled"))
        self._arm(HOST_SECONDS, 1)
        with anyio.CancelScope(shield=True):
            await self._app.served.stop()
        self._arm(CONNECTION_SECONDS + 3, 0)

    def _arm(self, seconds: float, status: int) -> None:
        """Leave in `seconds`: not everybody's code can be cancelled."""
        self.disarm()
        self._timer = threading.Timer(seconds, self._leave, [status])
        self._timer.daemon = True
        self._timer.start()

    def _leave(self, status: int) -> None:
        logger.warning("the process ends over what does not stop")
        logging.shutdown()
        os._exit(status)

    def disarm(self) -> None:
        """Everything has ended by itself."""
        if self._timer is not None:
            self._timer.cancel()
