"""Serve inside a running event loop, with the server that was chosen."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from importlib.util import find_spec
from typing import Any, Literal

from gymhost.errors import ServeError
from gymhost.http.app import GymhostApp
from gymhost.server.connections import Connections

__all__ = ["Backend", "Listen", "ServerName", "find_listen", "loop_options", "serve"]

Backend = Literal["asyncio", "trio"]
ServerName = Literal["hypercorn", "uvicorn"]

Listen = Callable[[GymhostApp, socket.socket, Connections], AbstractAsyncContextManager[None]]
"""Accepts connections while it is entered, and closes them when it is left."""


async def serve(
    app: GymhostApp,
    bound: socket.socket,
    stop: Callable[[], Awaitable[None]],
    *,
    server: ServerName = "hypercorn",
    backend: Backend = "asyncio",
) -> None:
    """Serve inside a running event loop, until `stop` returns. What then still runs is cut off.

    Raises: ServeError: the server is not installed, or does not run on this back end.
    """
    listen, connections = find_listen(server, backend), Connections()
    async with app.router.lifespan_context(app), listen(app, bound, connections):
        await stop()


def find_listen(server: ServerName, backend: Backend) -> Listen:
    """Import what accepts the connections of a server; of the others, nothing.

    Raises: ServeError: it is not installed, or does not run on this back end.
    """
    if server == "uvicorn":
        return _find_uvicorn(backend)
    if backend == "trio":
        from gymhost.server import hypercorn_trio

        return hypercorn_trio.listen
    from gymhost.server import hypercorn_asyncio

    return hypercorn_asyncio.listen


def _find_uvicorn(backend: Backend) -> Listen:
    if backend != "asyncio":
        raise ServeError(f"uvicorn runs on asyncio alone, not on {backend}: hypercorn runs there.")
    try:
        from gymhost.server import uvicorn_asyncio
    except ImportError as exc:
        raise ServeError(
            f"uvicorn can't be used: {exc}. Try: pip install 'gymhost[uvicorn]'"
        ) from exc
    return uvicorn_asyncio.listen


def loop_options(server: ServerName) -> dict[str, Any]:
    """Return the options of `anyio.run` with which a server is fastest: uvicorn's, with uvloop."""
    return {"use_uvloop": True} if server == "uvicorn" and find_spec("uvloop") else {}
