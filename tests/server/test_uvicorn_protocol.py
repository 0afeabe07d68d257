"""What uvicorn's protocol does here that uvicorn leaves to a proxy, over real sockets."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, cast

import anyio
import pytest
from anyio.abc import SocketStream

from gymhost.server import bind, serve, uvicorn_asyncio

pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio"])  # there is no other

GET = b"GET / HTTP/1.1\r\nhost: localhost\r\n"


class Application:
    """Answers in two pieces, the second when it is let go on."""

    def __init__(self) -> None:
        self.router = self
        self.begun = anyio.Event()
        self.gate = anyio.Event()
        self.ended = anyio.Event()
        self.variable = ContextVar[str]("test", default="the server's")
        self.seen: list[str] = []

    @asynccontextmanager
    async def lifespan_context(self, app: Any) -> AsyncGenerator[None]:
        yield

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen.append(self.variable.get())
        self.variable.set("of a request")
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"first", "more_body": True})
            self.begun.set()
            await self.gate.wait()
            await send({"type": "http.response.body", "body": b"second"})
        finally:
            self.ended.set()


@asynccontextmanager
async def connected(app: Application) -> AsyncGenerator[SocketStream]:
    """Serve, and connect to it."""
    bound = bind("127.0.0.1", 0)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(
                lambda: serve(cast(Any, app), bound, anyio.sleep_forever, server="uvicorn")
            )
            async with await anyio.connect_tcp("127.0.0.1", bound.getsockname()[1]) as client:
                yield client
            tasks.cancel_scope.cancel()


async def receive_all(client: SocketStream) -> bytes:
    """Return what comes until the connection is closed."""
    data = b""
    while True:
        try:
            data += await client.receive()
        except anyio.EndOfStream:
            return data


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nho"])
async def test_a_connection_on_which_no_request_comes_is_closed(
    monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(uvicorn_asyncio, "KEEP_ALIVE_SECONDS", 0.05)
    async with connected(Application()) as client:
        if sent:
            await client.send(sent)
        assert await receive_all(client) == b""


async def test_a_request_that_is_answered_has_all_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uvicorn_asyncio, "KEEP_ALIVE_SECONDS", 0.05)
    app = Application()
    async with connected(app) as client, await anyio.connect_tcp(*address(client)) as idle:
        await client.send(GET + b"\r\n")
        assert await receive_all(idle) == b""  # its time is over, and the other's would be
        app.gate.set()
        assert b"second" in await receive_all(client)


async def test_an_answer_is_not_torn_by_what_is_no_request_behind_it() -> None:
    async with connected(Application()) as client:
        await client.send(GET + b"\r\n")
        data = b""
        while b"first" not in data:
            data += await client.receive()
        await client.send(b"nonsense\r\n\r\n")
        assert b"400" not in data + await receive_all(client)


async def test_requests_that_are_cancelled_with_the_server_end_and_are_no_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = Application()
    async with connected(app) as client:
        await client.send(GET + b"\r\n")
        await app.begun.wait()
    assert app.ended.is_set()
    assert [each for each in caplog.records if each.levelno >= logging.WARNING] == []


async def test_a_request_runs_in_the_context_of_the_server_and_not_of_the_one_before_it() -> None:
    app = Application()
    app.gate.set()
    async with connected(app) as client:
        await client.send((GET + b"\r\n") * 2 + GET + b"connection: close\r\n\r\n")
        assert (await receive_all(client)).count(b"second") == 3
    assert app.seen == ["the server's"] * 3


async def test_what_fails_in_the_application_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    app = Application()
    app.gate = cast(Any, None)
    async with connected(app) as client:
        await client.send(GET + b"\r\n")
        await receive_all(client)
    assert "Exception in ASGI application" in caplog.text


def address(client: SocketStream) -> tuple[str, int]:
    """Return the server's."""
    host, port = client.extra(anyio.abc.SocketAttribute.remote_address)
    return str(host), int(port)
