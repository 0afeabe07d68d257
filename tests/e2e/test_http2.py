"""HTTP/2 on the same port, and what a client may do there that must not harm anybody else."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import h2.config
import h2.connection
import h2.events
import pytest

from tests.e2e.raw import connect
from tests.e2e.servers import HTTP2, Server

pytestmark = pytest.mark.parametrize("server", HTTP2, indirect=True)

CONFIG = h2.config.H2Configuration(
    header_encoding=None, validate_outbound_headers=False, normalize_outbound_headers=False
)


class Connection:
    """An HTTP/2 connection that sends what it is told to."""

    def __init__(self, client: socket.socket) -> None:
        self._client = client
        self.h2 = h2.connection.H2Connection(CONFIG)
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self._client.sendall(self.h2.data_to_send())

    def send(self, data: bytes) -> None:
        self._client.sendall(data)

    def request(
        self,
        method: bytes,
        path: bytes,
        *,
        end: bool = True,
        headers: Mapping[bytes, bytes] | None = None,
    ) -> int:
        stream: int = self.h2.get_next_available_stream_id()
        pseudo = {b":method": method, b":path": path, b":authority": b"x", b":scheme": b"http"}
        self.h2.send_headers(stream, [*pseudo.items(), *(headers or {}).items()], end_stream=end)
        self.flush()
        return stream

    def receive(self) -> list[h2.events.Event]:
        data = self._client.recv(65536)
        if not data:
            raise ConnectionResetError("closed")
        events: list[h2.events.Event] = self.h2.receive_data(data)
        self.flush()
        return events

    def answer(self, stream: int) -> tuple[bytes, bytes]:
        """Return a stream's status and body, once it has ended."""
        status = body = b""
        while True:
            for event in self.receive():
                if getattr(event, "stream_id", None) != stream:
                    continue
                if isinstance(event, h2.events.ResponseReceived):
                    status = dict(event.headers)[b":status"]
                if isinstance(event, h2.events.DataReceived):
                    body += event.data
                if isinstance(event, h2.events.StreamEnded):
                    return status, body

    def send_body(self, stream: int, size: int) -> None:
        """Send a body, as fast as the server takes it."""
        while size:
            window = min(self.h2.local_flow_control_window(stream), 16384, size)
            if not window:
                self.receive()
                continue
            self.h2.send_data(stream, b"x" * window, end_stream=window == size)
            self.flush()
            size -= window


@contextmanager
def http2(server: Server) -> Iterator[Connection]:
    with connect(server) as client:
        yield Connection(client)


def still_serves(server: Server) -> bool:
    with server.client() as http:
        return http.get("/healthz").status_code == 200


def test_a_path_that_is_not_ascii_closes_its_connection_alone(server: Server) -> None:
    logged = server.log
    with http2(server) as other, http2(server) as connection:
        stream = connection.request(b"GET", b"/\xff\xfe")
        with pytest.raises(ConnectionResetError):
            connection.answer(stream)
        status, _ = other.answer(other.request(b"GET", b"/healthz"))
        assert status == b"200"
    assert still_serves(server)
    (line,) = server.log.removeprefix(logged).splitlines()
    assert "a connection was closed: UnicodeDecodeError" in line


def test_a_body_that_nobody_wants_is_taken_before_its_answer_ends(server: Server) -> None:
    logged = server.log
    with http2(server) as connection:
        stream = connection.request(b"POST", b"/envs/gated/seed_session", end=False)
        status = None
        while status is None:  # the answer is there before any of the body is
            for event in connection.receive():
                if isinstance(event, h2.events.ResponseReceived):
                    status = dict(event.headers)[b":status"]
        assert status == b"401"
        connection.send_body(stream, 2_000_000)
        again, _ = connection.answer(connection.request(b"GET", b"/healthz"))
        assert again == b"200"
    assert server.log == logged


def test_a_body_that_is_given_up_leaves_its_connection_alive(server: Server) -> None:
    with http2(server) as connection:
        stream = connection.request(b"POST", b"/envs/gated/seed_session", end=False)
        connection.h2.send_data(stream, b"{")
        connection.h2.reset_stream(stream)
        connection.flush()
        status, _ = connection.answer(connection.request(b"GET", b"/healthz"))
        assert status == b"200"


def test_many_requests_at_once_on_one_connection(server: Server) -> None:
    with http2(server) as connection:
        streams = [connection.request(b"GET", b"/readyz") for _ in range(50)]
        ended: set[int] = set()
        while ended != set(streams):
            ended |= {
                event.stream_id
                for event in connection.receive()
                if isinstance(event, h2.events.StreamEnded)
            }
