"""Serve the application with hypercorn, on asyncio or trio, and stop it well."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Literal

import anyio
import hypercorn.asyncio
import hypercorn.trio
import sniffio
import trio
from hypercorn.config import Config

from gymhost.errors import ServeError
from gymhost.http.app import GymhostApp

__all__ = ["Backend", "bind", "run", "serve"]

Backend = Literal["asyncio", "trio"]

logger = logging.getLogger("gymhost.server")

DRAIN_SECONDS = 10.0
# What hypercorn gets after everything of ours has ended, to close its connections.
CONNECTION_SECONDS = 2.0


def bind(host: str, port: int) -> socket.socket:
    """Take a port, and not yet listen: a port in use is found before anything is started.

    Raises: ServeError: it is in use, not allowed, or no address of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except (OSError, OverflowError) as exc:
        raise ServeError(f"{host!r} is no address of this machine: {exc}") from exc
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        bound.bind(address)
        # SO_REUSEADDR lets two sockets share a port that neither listens on yet
        bound.listen(1)
    except (OSError, OverflowError) as exc:
        bound.close()
        raise ServeError(
            f"port {port} on {host} can't be taken: {getattr(exc, 'strerror', exc)}. "
            "Try another one: --port 0 takes any that is free."
        ) from exc
    return bound


def run(
    app: GymhostApp,
    bound: socket.socket,
    *,
    backend: Backend = "asyncio",
    grace: float = DRAIN_SECONDS,
    announce: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGINT or SIGTERM, then drain for `grace` seconds and stop.

    `announce` is called once requests are taken. A second signal ends the grace.
    """
    config = _config(bound)
    stopper = _Stopper(app, grace, announce)
    try:
        if backend == "trio":
            trio.run(_serve_trio, app, config, stopper.wait)
        else:
            asyncio.run(_serve_asyncio(app, config, stopper.wait))
    except BaseException as exc:
        if app.startup_error is not None:
            raise ServeError(str(app.startup_error)) from exc
        raise
    finally:
        stopper.disarm()


async def serve(app: GymhostApp, bound: socket.socket, stop: Callable[[], Awaitable[None]]) -> None:
    """Serve inside a running event loop, until `stop` returns."""

    async def trigger() -> None:
        await stop()
        await app.drain(0)
        await app.served.stop()

    config = _config(bound)
    if sniffio.current_async_library() == "trio":
        await _serve_trio(app, config, trigger)
    else:
        await _serve_asyncio(app, config, trigger)


def _config(bound: socket.socket) -> Config:
    config = Config()
    config.bind = [f"fd://{bound.detach()}"]
    config.errorlog = logging.getLogger("gymhost.hypercorn")
    config.backlog = 2048
    config.keep_alive_timeout = 75
    config.keep_alive_max_requests = 1_000_000_000
    config.startup_timeout = 3600  # each environment has its own limit
    config.shutdown_timeout = 120
    config.graceful_timeout = CONNECTION_SECONDS
    config.include_server_header = False
    return config


async def _serve_asyncio(
    app: GymhostApp, config: Config, trigger: Callable[[], Awaitable[None]]
) -> None:
    await hypercorn.asyncio.serve(app, config, shutdown_trigger=trigger, mode="asgi")  # type: ignore[arg-type]


async def _serve_trio(
    app: GymhostApp, config: Config, trigger: Callable[[], Awaitable[None]]
) -> None:
    await hypercorn.trio.serve(app, config, shutdown_trigger=trigger, mode="asgi")  # type: ignore[arg-type]


class _Stopper:
    """hypercorn's shutdown trigger, which does the stopping itself before it returns.

    hypercorn 0.18 on Python 3.12 and later waits for open connections without any limit, and its
    lifespan ends only after that: so streams are ended, calls drained, and the host stopped here.
    What can then still hold hypercorn is a client that does not read; the process ends over it.
    """

    def __init__(self, app: GymhostApp, grace: float, announce: Callable[[], None]) -> None:
        self._app = app
        self._grace = grace
        self._announce = announce
        self._timer: threading.Timer | None = None

    async def wait(self) -> None:
        """Wait for a signal, then stop everything of ours."""
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            self._announce()
            await anext(signals)
            logger.info("stopping: %d requests have %g s", self._app.in_flight.count, self._grace)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._drain, tasks.cancel_scope)
                await anext(signals)
                logger.warning("stopping at once")
                await self._app.drain(0)
                tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await self._app.served.stop()
        self._arm()

    async def _drain(self, scope: anyio.CancelScope) -> None:
        cancelled = await self._app.drain(self._grace)
        if cancelled:
            logger.warning("%d requests did not end in time", cancelled)
        scope.cancel()

    def _arm(self) -> None:
        self._timer = threading.Timer(CONNECTION_SECONDS + 3, self._give_up)
        self._timer.daemon = True
        self._timer.start()

    def _give_up(self) -> None:
        logger.warning("a connection could not be closed; everything else has ended")
        logging.shutdown()
        os._exit(0)

    def disarm(self) -> None:
        """hypercorn has ended by itself."""
        if self._timer is not None:
            self._timer.cancel()
