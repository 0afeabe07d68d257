"""The open connections, which at the end are all closed."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import anyio

__all__ = ["CONNECTION_SECONDS", "KEEP_ALIVE_SECONDS", "Connections", "Cut", "log_closed"]

# What open connections get after everything of ours has ended, before they are cut off.
CONNECTION_SECONDS = 2.0
# How long one stays open on which nothing is asked.
KEEP_ALIVE_SECONDS = 75

Cut = Callable[[], object]
"""Closes one connection without the client's help."""

logger = logging.getLogger("gymhost.server")


class Connections:
    """The open connections. One that fails is closed alone; at the end all are."""

    def __init__(self) -> None:
        self._cuts: set[Cut] = set()
        self._none = anyio.Event()

    def opened(self, cut: Cut) -> None:
        """Count one."""
        self._cuts.add(cut)

    def closed(self, cut: Cut) -> None:
        """Forget one."""
        self._cuts.remove(cut)
        if not self._cuts:
            self._none.set()

    async def serve(self, connection: Awaitable[None], cut: Cut) -> None:
        """Serve one until it is closed."""
        self.opened(cut)
        try:
            await connection
        except Exception as exc:  # noqa: BLE001 - hypercorn's, over what a client sent
            log_closed(exc)
            cut()
        finally:
            self.closed(cut)

    async def close(self) -> None:
        """Wait for the server to close them, which it was told to, and cut off the rest."""
        try:
            if self._cuts:
                self._none = anyio.Event()
                with anyio.move_on_after(CONNECTION_SECONDS):
                    await self._none.wait()
        finally:
            for cut in list(self._cuts):
                cut()


def log_closed(error: Exception) -> None:
    """Say why a connection was closed by us."""
    logger.warning("a connection was closed: %s", _describe(error))


def _describe(error: Exception) -> str:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return " ".join(f"{type(error).__name__}: {error}".split())
