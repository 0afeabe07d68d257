"""Serving inside a running event loop."""

from __future__ import annotations

from typing import cast

import anyio
import httpx2
import pytest

from gymhost.client import Client
from gymhost.host import Host
from gymhost.http.app import create_app
from gymhost.http.auth import KeyGuard
from gymhost.server import Backend, ServerName, bind, serve
from tests.environments import Diary

STACKS = pytest.mark.parametrize(
    ("anyio_backend", "server"),
    [("asyncio", "hypercorn"), ("trio", "hypercorn"), ("asyncio", "uvicorn")],
)


@STACKS
async def test_it_serves_until_it_is_told_to_stop(anyio_backend: str, server: ServerName) -> None:
    app = create_app(Host({"diary": Diary}, discover=False), KeyGuard(["key"]))
    bound = bind("127.0.0.1", 0)
    url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    stop = anyio.Event()
    backend = cast(Backend, anyio_backend)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: serve(app, bound, stop.wait, server=server, backend=backend))
            async with Client(url, "key") as client:
                # sent before anything has started: the port is taken, and the answer comes then
                assert (await client.environment("diary"))["status"] == "up"
                stop.set()
        async with httpx2.AsyncClient() as http:
            with pytest.raises(httpx2.ConnectError):
                await http.get(url)


@STACKS
async def test_cancelling_it_ends_sessions_and_connections(
    anyio_backend: str, server: ServerName
) -> None:
    diary = Diary()
    app = create_app(Host({"diary": diary}, discover=False), KeyGuard(["key"]))
    bound = bind("127.0.0.1", 0)
    url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    backend = cast(Backend, anyio_backend)
    with anyio.fail_after(10):
        async with Client(url, "key") as client:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(
                    lambda: serve(app, bound, anyio.sleep_forever, server=server, backend=backend)
                )
                seeded = await client.seed("diary")
                tasks.cancel_scope.cancel()
            with pytest.raises(httpx2.HTTPError):
                await client.environments()
    assert diary.closed == [(seeded.session_id, "shutdown")]
