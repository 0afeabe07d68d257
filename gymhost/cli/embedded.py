"""A host that a command serves for itself, on a free port of this machine."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio

from gymhost.cli.remote import Remote
from gymhost.client import Client
from gymhost.host import Host
from gymhost.http.app import create_app
from gymhost.http.auth import KeyGuard
from gymhost.server import Backend, bind, serve

__all__ = ["embedded"]


@asynccontextmanager
async def embedded(host: Host, *, backend: Backend = "asyncio") -> AsyncGenerator[Remote]:
    """Serve a host inside the running event loop for as long as the block runs.

    Raises: ServeError.
    """
    key = secrets.token_urlsafe()
    app = create_app(host, KeyGuard([key]))
    stopping = anyio.Event()

    async def stop() -> None:
        await stopping.wait()
        await app.drain(0)  # whoever has asked has gone
        with anyio.CancelScope(shield=True):
            await host.stop()

    with bind("127.0.0.1", 0) as bound:
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:

            async def serve_it() -> None:
                await serve(app, bound, stop, backend=backend)

            tasks.start_soon(serve_it)
            try:
                async with Client(url, key) as client:
                    await client.environments()  # the port is taken: this waits until it answers
                yield Remote(url, key, named=True)
            except Exception as exc:  # noqa: BLE001 - raised below, and not in a group
                failure = exc
            finally:
                stopping.set()
        if failure is not None:
            raise failure
