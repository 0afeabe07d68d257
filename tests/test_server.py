"""Taking a port, and serving inside a running event loop."""

from __future__ import annotations

import socket
from typing import cast

import anyio
import httpx2
import pytest

from gymhost.client import Client
from gymhost.errors import ServeError
from gymhost.host import Host
from gymhost.http.app import create_app
from gymhost.http.auth import KeyGuard
from gymhost.server import Backend, bind, serve
from tests.environments import Diary


def test_a_free_port_is_taken() -> None:
    with bind("127.0.0.1", 0) as bound:
        host, port = bound.getsockname()
        assert host == "127.0.0.1"
        assert port > 0


def test_a_port_taken_by_somebody_who_listens_is_refused() -> None:
    with bind("127.0.0.1", 0) as first, pytest.raises(ServeError, match="already in use") as caught:
        bind("127.0.0.1", first.getsockname()[1])
    assert isinstance(caught.value.__cause__, OSError)


def test_a_port_that_others_may_share_is_still_taken_for_one() -> None:
    """SO_REUSEADDR lets two sockets bind a port as long as neither listens."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        with bind("127.0.0.1", other.getsockname()[1]), pytest.raises(OSError, match="in use"):
            other.listen()


@pytest.mark.parametrize(
    ("host", "said"), [("192.0.2.1", "Try --host"), ("x" * 80, "is no address of this machine")]
)
def test_an_address_of_another_machine_is_refused(host: str, said: str) -> None:
    with pytest.raises(ServeError, match=said):
        bind(host, 0)


def test_a_name_that_nobody_knows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)  # a real one would ask the network
    with pytest.raises(ServeError, match=r"'nowhere' is no address of this machine: .*not known"):
        bind("nowhere", 0)


async def test_it_serves_until_it_is_told_to_stop(anyio_backend: str) -> None:
    app = create_app(Host({"diary": Diary}, discover=False), KeyGuard(["key"]))
    bound = bind("127.0.0.1", 0)
    url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    stop = anyio.Event()
    backend = cast(Backend, anyio_backend)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: serve(app, bound, stop.wait, backend=backend))
            async with Client(url, "key") as client:
                # sent before anything has started: the port is taken, and the answer comes then
                assert (await client.environment("diary"))["status"] == "up"
                stop.set()
        async with httpx2.AsyncClient() as http:
            with pytest.raises(httpx2.ConnectError):
                await http.get(url)


async def test_cancelling_it_ends_sessions_and_connections(anyio_backend: str) -> None:
    diary = Diary()
    app = create_app(Host({"diary": diary}, discover=False), KeyGuard(["key"]))
    bound = bind("127.0.0.1", 0)
    url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    backend = cast(Backend, anyio_backend)
    with anyio.fail_after(10):
        async with Client(url, "key") as client:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lambda: serve(app, bound, anyio.sleep_forever, backend=backend))
                seeded = await client.seed("diary")
                tasks.cancel_scope.cancel()
            with pytest.raises(httpx2.HTTPError):
                await client.environments()
    assert diary.closed == [(seeded.session_id, "shutdown")]
