"""A server that speaks gymhost's wire from a thread, and goes wrong where a test says so."""

from __future__ import annotations

import json
import re
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.load import Address
from gymhost.http.mcp import TOKEN_HEADER

Spoil = Callable[[int, bytes], bytes | None]
"""Gets an episode's number and the answer that is due; returns what is sent, None to hang up."""


def answer(body: Any, *headers: str, status: int = 200) -> bytes:
    """Return an answer as bytes. A body of bytes goes as it is, others as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(content)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + content


def report(city: str) -> str:
    """What the weather environment says of a city."""
    return f"The weather in {city} is sunny and 72 F."


class FakeServer:
    """Sessions are numbered from 0 on, in the order in which they are seeded."""

    def __init__(self) -> None:
        self.spoil: dict[str, Spoil] = {}
        """What goes wrong at a step: `seed`, `call`, `verify` or `floor`."""
        self.asked: dict[int, list[str]] = {}
        self.expected: list[str] = []
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.hung = threading.Event()
        """Set at the end: what waits for it hangs until then."""
        self.own_server: socketserver.ThreadingTCPServer

    @property
    def address(self) -> Address:
        host, port = self.own_server.server_address[:2]
        return str(host), port

    def go_away(self) -> None:
        """Take no more connections, as a process that has died."""
        self.own_server.shutdown()
        self.own_server.server_close()

    def respond(self, path: str, headers: dict[str, str], body: bytes) -> bytes | None:
        """Return what is sent, or None to close the connection."""
        self.requests.append((path, headers, body))
        step, number, due = self._due(path, headers, body)
        spoil = self.spoil.get(step)
        return due if spoil is None else spoil(number, due)

    def _due(self, path: str, headers: dict[str, str], body: bytes) -> tuple[str, int, bytes]:
        if path[1:].isdecimal():
            return "floor", 0, answer(b"x" * int(path[1:]))
        asked = json.loads(body)
        if path == "/envs/weather/seed_session":
            number = len(self.expected)
            self.expected.append(asked["verifier_metadata"]["expected_city"])
            seeded = {"mcp": {"headers": {TOKEN_HEADER: f"token-{number}"}}}
            return "seed", number, answer(seeded, f"set-cookie: session={number}; Path=/envs")
        if path == "/envs/weather/mcp":
            number = int(headers[TOKEN_HEADER.lower()].removeprefix("token-"))
            city = asked["params"]["arguments"]["city"]
            self.asked.setdefault(number, []).append(city)
            content = [{"type": "text", "text": report(city)}]
            return "call", number, answer({"result": {"content": content, "isError": False}})
        assert path == "/envs/weather/verify"
        number = int(headers["cookie"].removeprefix("session="))
        expected = self.expected[number]
        told = asked["response"]["output"][-1]["content"][0]["text"]
        good = expected in self.asked.get(number, []) and told == report(expected)
        return "verify", number, answer(body[:-1] + b',"reward":%.1f}' % good)


@contextmanager
def fake_server() -> Iterator[FakeServer]:
    """Serve from threads."""
    fake = FakeServer()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while first := self.rfile.readline():
                headers = {}
                while line := self.rfile.readline().decode().rstrip("\r\n"):
                    name, _, value = line.partition(": ")
                    headers[name.lower()] = value
                body = self.rfile.read(int(headers["content-length"]))
                sent = fake.respond(first.decode().split()[1], headers, body)
                if sent is None:
                    return
                self.wfile.write(sent)
                # an answer that says less or more than its length is the last
                length = re.search(rb"(?i)content-length: (\d+)\r", sent)
                if length is None or not sent.endswith(b"\r\n\r\n", 0, len(sent) - int(length[1])):
                    return

    class Listener(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True
        request_queue_size = 100

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Say nothing: the client may have left, which is what some tests want."""

    with Listener(("127.0.0.1", 0), Handler) as server:
        fake.own_server = server
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            yield fake
        finally:
            fake.hung.set()
            server.shutdown()
            thread.join()
