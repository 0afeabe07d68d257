"""Requests as bytes on a socket, for what no HTTP client would do."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from tests.e2e.servers import Server
from tests.http.wire import Post


@contextmanager
def connect(server: Server) -> Iterator[socket.socket]:
    """Open a connection."""
    with socket.create_connection(("127.0.0.1", server.port), 20) as client:
        yield client


def head(server: Server, method: str, path: str, *headers: str) -> bytes:
    """Return the head of a control-plane request."""
    lines = [f"{method} {path} HTTP/1.1", "host: localhost", *headers]
    return "\r\n".join([*lines, f"authorization: Bearer {server.key}", "", ""]).encode()


def request(path: str, sent: Post) -> bytes:
    """Return a whole request of the agent plane."""
    headers = [f"{name}: {value}" for name, value in sent.headers.items() if value is not None]
    lines = [f"POST {path} HTTP/1.1", "host: localhost", *headers]
    return "\r\n".join([*lines, f"content-length: {len(sent.content)}", "", ""]).encode() + (
        sent.content
    )


def read_until(client: socket.socket, end: bytes) -> bytes:
    """Return what comes, up to `end`, or until the server closes the connection."""
    data = b""
    while end not in data:
        piece = client.recv(65536)
        if not piece:
            break
        data += piece
    return data
