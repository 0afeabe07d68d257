"""Serve until a signal, and stop in time."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable

import anyio

from gymhost.collecting import collect_seldom, leave_loaded_out
from gymhost.host import task_group
from gymhost.http.app import GymhostApp
from gymhost.server.connections import CONNECTION_SECONDS
from gymhost.server.serving import Backend, ServerName, find_listen, loop_options, serve

__all__ = ["GRACE_SECONDS", "run"]

logger = logging.getLogger("gymhost.server")

GRACE_SECONDS = 10.0
# What the host gets to stop; its own limits are shorter, for hooks that can be cancelled.
HOST_SECONDS = 60.0


def run(
    app: GymhostApp,
    bound: socket.socket,
    *,
    server: ServerName = "hypercorn",
    backend: Backend = "asyncio",
    grace: float = GRACE_SECONDS,
    announce: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGINT or SIGTERM, give requests `grace` seconds to end, and stop.

    `announce` is called once requests are taken. A second signal ends the grace, a third one the
    process. A signal during the start ends it.

    Raises: PluginLoadError: a strict application did not start. ServeError: the server is not
    installed, or does not run on this back end.
    """
    collect_seldom()
    find_listen(server, backend)  # before an event loop, which may be uvloop's
    stopper = _Stopper(app, grace, announce)
    options = loop_options(server)
    try:
        anyio.run(stopper.serve, bound, server, backend, backend=backend, backend_options=options)
    finally:
        stopper.disarm()


def _count(number: int, thing: str, rest: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'} {rest}"


class _Stopper:
    """Turns signals into a stop that ends in time, whatever clients and environments do."""

    def __init__(self, app: GymhostApp, grace: float, announce: Callable[[], None]) -> None:
        self._app = app
        app.requests_stay = True
        self._grace = grace
        self._announce = announce
        self._started = False
        self._signalled = anyio.Event()
        self._timer: threading.Timer | None = None

    async def serve(self, bound: socket.socket, server: ServerName, backend: Backend) -> None:
        """Serve until a signal."""
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with task_group() as tasks:
                with anyio.CancelScope() as serving:
                    tasks.start_soon(self._obey, signals, serving)
                    await serve(self._app, bound, self._stop, server=server, backend=backend)
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
        leave_loaded_out()
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
