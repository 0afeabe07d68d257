"""The floor: gymhost's server with an application that reads the body and answers a constant.

    python -m benchmarks.floor BACKEND SERVER

A path names how many bytes the answer has: `/1024`.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import cache, partial
from signal import SIGINT, SIGTERM
from socket import socket
from typing import Any, cast

import anyio

from gymhost.server import Backend, ServerName, bind, loop_options, serve


class Constant:
    """The application."""

    def __init__(self) -> None:
        self.router = self  # where a server looks for the lifespan

    @asynccontextmanager
    async def lifespan_context(self, app: Any) -> AsyncGenerator[None]:
        yield

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        body = _body(int(scope["path"][1:]))
        length = (b"content-length", str(len(body)).encode())
        headers = [(b"content-type", b"application/json"), length]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@cache
def _body(length: int) -> bytes:
    return b'{"is": "%s"}' % (b"x" * (length - len('{"is": ""}')))


def run(app: Any, backend: str, server: str) -> None:
    """Serve an application until a signal."""
    loop, chosen = cast(Backend, backend), cast(ServerName, server)
    with bind("127.0.0.1", 0) as bound:
        main = partial(_serve, app, bound, loop, chosen)
        anyio.run(main, backend=loop, backend_options=loop_options(chosen))


async def _serve(app: Any, bound: socket, backend: Backend, server: ServerName) -> None:
    with anyio.open_signal_receiver(SIGINT, SIGTERM) as signals:

        async def stop() -> None:
            print(f"http://127.0.0.1:{bound.getsockname()[1]} ({backend})", flush=True)
            await anext(signals)

        await serve(app, bound, stop, server=server, backend=backend)


if __name__ == "__main__":
    run(Constant(), *sys.argv[1:])
