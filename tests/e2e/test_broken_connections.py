"""What an agent does to its own connection while its call runs: no sample is masked by it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress

import h2.exceptions
import httpx2
import pytest

from tests.e2e.gates import Gate
from tests.e2e.raw import connect, request
from tests.e2e.servers import HTTP2, Server, seed
from tests.e2e.test_disconnects import record, until
from tests.e2e.test_http2 import Connection, http2
from tests.http.wire import Post, call


@pytest.fixture
def http(server: Server) -> Iterator[httpx2.Client]:
    with server.client() as client:
        yield client


def odd_path(connection: Connection, stream: int) -> None:
    connection.request(b"GET", b"/\xff\xfe")


def no_frame(connection: Connection, stream: int) -> None:
    connection.send(bytes(9))  # DATA, on stream 0


def reset(connection: Connection, stream: int) -> None:
    connection.h2.reset_stream(stream)
    connection.flush()


def goodbye(connection: Connection, stream: int) -> None:
    connection.h2.close_connection()
    connection.flush()


def many_resets(connection: Connection, stream: int) -> None:
    for _ in range(200):
        connection.h2.reset_stream(connection.request(b"GET", b"/healthz"))
    reset(connection, stream)


HARMS = (odd_path, no_frame, reset, goodbye, many_resets)


def start_call(connection: Connection, sent: Post) -> int:
    headers = {
        name.lower().encode(): value.encode()
        for name, value in sent.headers.items()
        if value is not None
    }
    stream = connection.request(b"POST", b"/envs/gated/mcp", end=False, headers=headers)
    connection.h2.send_data(stream, sent.content, end_stream=True)
    connection.flush()
    return stream


@pytest.mark.parametrize("server", HTTP2, indirect=True)
@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.__name__)
def test_an_http2_connection_that_breaks_lets_its_calls_run_to_their_end(
    server: Server,
    http: httpx2.Client,
    gate: Gate,
    harm: Callable[[Connection, int], None],
) -> None:
    session_id, token = seed(http)
    with http2(server) as connection:
        stream = start_call(connection, call(None, "hold", token, port=gate.port))
        running = gate.wait()
        harm(connection, stream)
        # the server has seen it: it answers, or closes the connection
        with suppress(OSError, h2.exceptions.ProtocolError):
            connection.answer(connection.request(b"GET", b"/healthz"))
    running.release()
    check_clean(http, session_id)


@pytest.mark.parametrize("garbage", [b"\xff\xfe\r\n\r\n", b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n"])
def test_an_http1_connection_that_breaks_lets_its_call_run_to_its_end(
    server: Server, http: httpx2.Client, gate: Gate, garbage: bytes
) -> None:
    session_id, token = seed(http)
    with connect(server) as agent:
        agent.sendall(request("/envs/gated/mcp", call(None, "hold", token, port=gate.port)))
        running = gate.wait()
        agent.sendall(garbage)
        agent.shutdown(socket.SHUT_WR)
        running.release()
        check_clean(http, session_id)


def check_clean(http: httpx2.Client, session_id: str) -> None:
    (recorded,) = until(lambda: record(http, session_id)["calls"], bool)
    assert (recorded["kind"], recorded["result"]) == ("ok", "held")
    scored = http.post("/envs/gated/verify", json={"session_id": session_id})
    assert (scored.status_code, scored.json()["reward"]) == (200, 1.0)
