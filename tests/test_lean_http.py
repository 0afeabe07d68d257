"""The lean transport: what it keeps, what it closes, and what it says of servers that go away."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import httpx2
import pytest
from anyio.abc import SocketStream

from gymhost.lean_http import LeanTransport, lean_transport

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n"


class Peer:
    """A server that answers what a test says, and counts."""

    def __init__(self, answers: list[bytes], *, close: bool = False) -> None:
        self.connections = 0
        self.requests: list[bytes] = []
        self._answers = answers
        self._close = close

    async def serve(self, stream: SocketStream) -> None:
        self.connections += 1
        async with stream:
            while True:
                try:
                    got = await stream.receive()
                    while not self._is_whole(got):
                        got += await stream.receive()
                except (anyio.EndOfStream, anyio.BrokenResourceError):
                    return
                self.requests.append(got)
                if not self._answers:
                    return
                await stream.send(self._answers.pop(0))
                if self._close:
                    return

    @staticmethod
    def _is_whole(got: bytes) -> bool:
        head, end, body = got.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or b"0"
        return bool(end) and len(body) >= int(length)


@asynccontextmanager
async def listening(peer: Peer) -> AsyncGenerator[httpx2.AsyncClient]:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    with anyio.fail_after(10):
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, peer.serve)
            url = f"http://127.0.0.1:{port}"
            async with httpx2.AsyncClient(base_url=url, transport=LeanTransport()) as client:
                yield client
            tasks.cancel_scope.cancel()


async def test_a_connection_is_used_again_and_a_request_is_sent_as_it_is() -> None:
    peer = Peer([HEAD + b"x-a: 1\r\n\r\nok", HEAD + b"\r\nno"])
    async with listening(peer) as client:
        first = await client.post("/a?b=c", content="ä" * 100_000, headers={"x-b": "2"})
        second = await client.get("/d")
    assert (first.text, first.headers["x-a"], second.text) == ("ok", "1", "no")
    assert peer.connections == 1
    head, _, body = peer.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /a?b=c HTTP/1.1\r\n")
    assert b"x-b: 2" in head
    assert body == ("ä" * 100_000).encode()


async def test_each_request_at_a_time_has_a_connection() -> None:
    peer = Peer([HEAD + b"\r\nok"] * 20)
    async with listening(peer) as client:
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(client.get, "/")
        assert 1 < peer.connections <= 10
        await client.get("/")
    assert len(peer.requests) == 11


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nok",  # until its end
        b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"\r\nok",
    ],
)
async def test_bodies_of_each_kind_are_read(answer: bytes) -> None:
    async with listening(Peer([answer], close=True)) as client:
        assert (await client.get("/")).text == "ok"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"", httpx2.RemoteProtocolError),
        (HEAD + b"\r\n1", httpx2.RemoteProtocolError),
        (b"SSH-2.0-x\r\n\r\n", httpx2.RemoteProtocolError),
        (HEAD[:20], httpx2.RemoteProtocolError),
    ],
)
async def test_an_answer_that_is_none_is_an_error(
    answer: bytes, kind: type[httpx2.TransportError]
) -> None:
    async with listening(Peer([answer] if answer else [], close=True)) as client:
        with pytest.raises(kind):
            await client.get("/")


async def test_a_connection_that_the_server_has_closed_is_not_used_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gymhost.lean_http.FRESH_SECONDS", 0.0)
    peer = Peer([HEAD + b"\r\nok"] * 2, close=True)
    async with listening(peer) as client:
        await client.get("/")
        await anyio.wait_all_tasks_blocked()
        assert (await client.get("/")).text == "ok"
    assert peer.connections == 2


async def test_an_answer_that_does_not_come_is_a_timeout_and_its_connection_is_gone() -> None:
    class Silent(Peer):
        async def serve(self, stream: SocketStream) -> None:
            self.connections += 1
            async with stream:
                await stream.receive()
                if self.connections == 1:
                    await anyio.sleep_forever()
                await stream.send(HEAD + b"\r\nok")

    peer = Silent([])
    async with listening(peer) as client:
        with pytest.raises(httpx2.ReadTimeout):
            await client.get("/", timeout=0.05)
        assert (await client.get("/")).text == "ok"
    assert peer.connections == 2


async def test_nobody_there_is_a_connect_error() -> None:
    async with httpx2.AsyncClient(transport=LeanTransport()) as client:
        with pytest.raises(httpx2.ConnectError):
            await client.get("http://127.0.0.1:9/")


@pytest.mark.parametrize(
    ("url", "proxy", "lean"),
    [
        ("http://127.0.0.1:1", "", True),
        ("https://gym.example", "", False),
        ("http://gym.example", "http://127.0.0.1:9", False),
    ],
)
def test_it_is_for_plain_http_without_a_proxy(
    monkeypatch: pytest.MonkeyPatch, url: str, proxy: str, lean: bool
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    if proxy:
        monkeypatch.setenv("http_proxy", proxy)
    assert isinstance(lean_transport(url), LeanTransport) == lean
