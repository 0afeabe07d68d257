"""Client connections: hypercorn's, except that one that fails is its client's alone."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

import anyio
import hypercorn.asyncio.tcp_server
import hypercorn.trio.tcp_server
import trio
from hypercorn.events import Closed
from hypercorn.protocol import ProtocolWrapper

__all__ = ["CONNECTION_SECONDS", "AsyncioConnection", "Connections", "TrioConnection"]

logger = logging.getLogger("gymhost.server")

# What open connections get after everything of ours has ended, before they are cut off.
CONNECTION_SECONDS = 2.0
# More than hypercorn lets one connection have.
STREAMS = 200


class Connections:
    """The open connections. One that fails is closed alone; at the end all are."""

    def __init__(self) -> None:
        self._cuts: set[Callable[[], object]] = set()
        self._none = anyio.Event()

    async def serve(self, connection: Awaitable[None], cut: Callable[[], object]) -> None:
        """Serve one until it is closed. `cut` closes it without the client's help."""
        self._cuts.add(cut)
        try:
            await connection
        except Exception as exc:  # noqa: BLE001 - hypercorn's, over what a client sent
            _log_closed(exc)
            cut()
        finally:
            self._cuts.remove(cut)
            if not self._cuts:
                self._none.set()

    async def close(self) -> None:
        """Wait for hypercorn to close them, which it was told to, and cut off the rest."""
        try:
            if self._cuts:
                self._none = anyio.Event()
                with anyio.move_on_after(CONNECTION_SECONDS):
                    await self._none.wait()
        finally:
            for cut in list(self._cuts):
                cut()


# hypercorn's own connections end with what a client sends that they can't read, and cancel the
# requests that run on them: an agent could spoil its own sample, having its call cut short. In
# these, the client is as one that has left.
class AsyncioConnection(hypercorn.asyncio.tcp_server.TCPServer):
    """One on asyncio."""

    async def _read_data(self) -> None:
        try:
            await super()._read_data()
        except Exception as exc:  # noqa: BLE001 - over what a client sent
            _log_closed(exc)
            self.writer.transport.abort()
            await _close_streams(self.protocol)


class TrioConnection(hypercorn.trio.tcp_server.TCPServer):
    """One on trio."""

    async def _read_data(self) -> None:
        try:
            await super()._read_data()
        except Exception as exc:  # noqa: BLE001 - over what a client sent
            _log_closed(exc)
            await trio.aclose_forcefully(self.stream)
            await _close_streams(self.protocol)


async def _close_streams(protocol: ProtocolWrapper) -> None:
    """Tell each request of a connection that its client has left."""
    # The stream that has failed may fail again. It is forgotten before that: so ask once more.
    for _ in range(STREAMS):
        with suppress(Exception):
            return await protocol.handle(Closed())


def _log_closed(error: Exception) -> None:
    logger.warning("a connection was closed: %s", _describe(error))


def _describe(error: Exception) -> str:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return " ".join(f"{type(error).__name__}: {error}".split())
