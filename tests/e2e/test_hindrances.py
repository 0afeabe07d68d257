"""What clients and environments do that could keep a server from stopping, and does not."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import h2.connection
import pytest

from tests.e2e.gates import Gate, open_gate
from tests.e2e.raw import connect, head, read_until, request
from tests.e2e.servers import Flags, Server, Servers, seed
from tests.http.wire import MODERN, call, post

Hindrance = Callable[[Server], AbstractContextManager[None]]

BRIEFLY = (sys.executable, str(Path(__file__).with_name("serve_briefly.py")))


@contextmanager
def idle_connection(server: Server) -> Iterator[None]:
    with connect(server) as client:
        client.sendall(head(server, "GET", "/healthz"))
        assert read_until(client, b"}").startswith(b"HTTP/1.1 200")
        yield
        assert client.recv(1) == b""


@contextmanager
def idle_http2_connection(server: Server) -> Iterator[None]:
    with connect(server) as client:
        connection = h2.connection.H2Connection()
        connection.initiate_connection()
        client.sendall(connection.data_to_send())
        assert client.recv(65536)
        yield


@contextmanager
def silent_connection(server: Server) -> Iterator[None]:
    with connect(server):
        yield


@contextmanager
def half_a_head(server: Server) -> Iterator[None]:
    with connect(server) as client:
        client.sendall(head(server, "GET", "/healthz")[:-2])
        yield


@contextmanager
def half_a_body(server: Server) -> Iterator[None]:
    with connect(server) as client:
        waits = ("content-length: 10", "expect: 100-continue")
        client.sendall(head(server, "POST", "/envs/gated/seed_session", *waits))
        assert b" 100 " in read_until(client, b"\r\n\r\n")
        client.sendall(b"{")
        yield
        assert b"503" in read_until(client, b"}")  # it was told, and not just cut off


@contextmanager
def unread_answer(server: Server) -> Iterator[None]:
    """A verify whose echo fills every buffer on the way to a client that does not read."""
    with server.client() as http:
        session_id, _ = seed(http)
    body = b'{"session_id": "%s", "response": "%s"}' % (session_id.encode(), b"x" * 20_000_000)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(20)
        client.connect(("127.0.0.1", server.port))
        client.sendall(
            head(server, "POST", "/envs/gated/verify", f"content-length: {len(body)}") + body
        )
        assert client.recv(1) == b"H"
        yield


@contextmanager
def listening_agent(server: Server) -> Iterator[None]:
    """As Claude Code does, for the whole rollout."""
    with server.client() as http:
        _, token = seed(http)
    listen = post(MODERN, "subscriptions/listen", {"notifications": {}}, token=token)
    with connect(server) as client:
        client.sendall(request("/envs/gated/mcp", listen))
        assert b"text/event-stream" in read_until(client, b"acknowledged")
        yield
        assert read_until(client, b"\r\n0\r\n").endswith(b"0\r\n\r\n")  # ended, not cut off


@contextmanager
def connections(server: Server) -> Iterator[None]:
    """All that need no process of their own."""
    with (
        idle_connection(server),
        nullcontext() if server.is_uvicorn else idle_http2_connection(server),
        silent_connection(server),
        half_a_head(server),
        half_a_body(server),
        listening_agent(server),
    ):
        yield


@contextmanager
def stuck_thread(server: Server) -> Iterator[None]:
    with server.client() as http:
        _, token = seed(http)
    with connect(server) as client, open_gate() as gate:
        client.sendall(request("/envs/gated/mcp", call(MODERN, "stick", token, port=gate.port)))
        gate.wait()
        yield


@pytest.mark.parametrize(
    "hindrance",
    [connections, unread_answer, stuck_thread],
)
def test_nothing_keeps_the_server_from_stopping(
    servers: Servers, stack: Flags, hindrance: Hindrance
) -> None:
    server = servers.start(*stack, "--grace", "0.2")
    with hindrance(server):
        assert server.stop() == 0
    assert servers.life[-1] == "shutdown"
    assert server.lines[-1] == "stopped"
    assert "Traceback" not in server.log
    assert "never" not in server.log


def test_hanging_hooks_get_their_time_and_no_more(
    servers: Servers, stack: Flags, gate: Gate
) -> None:
    server = servers.start(
        "20", *stack, command=BRIEFLY, GATED_HANG="close shutdown", GATED_PORT=str(gate.port)
    )
    with server.client() as http:
        seed(http)
    server.send()
    for hook in ("close", "shutdown"):
        arrival = gate.wait()
        assert arrival.place == hook
        arrival.wait_gone()
    assert server.wait() == 0
    assert server.lines[-1] == "stopped"
    assert "close of 'gated' took longer than 1 s" in server.log
    assert "shutdown of 'gated' took longer than 1 s" in server.log


def test_a_hook_that_can_not_be_cancelled_is_left_behind(
    servers: Servers, stack: Flags, gate: Gate
) -> None:
    hooks = {"GATED_HANG": "shutdown", "GATED_PORT": str(gate.port), "GATED_STUBBORN": "1"}
    server = servers.start("0.2", *stack, command=BRIEFLY, **hooks)
    server.send()
    assert gate.wait().place == "shutdown"
    assert server.wait() == 1
    assert "the process ends over what does not stop" in server.log
