"""Requests as bytes on a socket, for what no HTTP client would do."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Self

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


class Pipeline:
    """A connection on which many requests are sent before the first answer is read."""

    def __init__(self, client: socket.socket) -> None:
        self._client = client
        self._answers = client.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._answers.close()

    def send(self, requests: Sequence[bytes]) -> list[Answer]:
        """Send requests; return their answers, in the same order."""
        self._client.sendall(b"".join(requests))
        return [self._read() for _ in requests]

    def _read(self) -> Answer:
        head: list[bytes] = []
        length = 0
        while (line := self._answers.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
            if name.lower() != b"date":
                head.append(line)
        return Answer(b"".join(head), self._answers.read(length))


class Answer(NamedTuple):
    """An answer's bytes. Its head is without the date."""

    head: bytes
    body: bytes
