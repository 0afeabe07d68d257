"""Servers that are no gymhost: some speak something else, others almost as it does."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "X-NeMo-Gym-Session-Token"
STEERING = "\x1b]0;mine\x07\x1b[2J\x9b31m\x7f\u202e"
"""What clears a terminal, names its window, colours it (twice) and turns its letters round."""


@contextmanager
def answering(raw: bytes) -> Generator[str]:
    """A server that answers every connection with some bytes; yields its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(raw)

        thread = threading.Thread(target=answer, daemon=True)  # main() ends a process over others
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def http(status: str, body: str) -> bytes:
    """Return an HTTP answer."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def tool(name: str = "say", schema: Any = None) -> dict[str, Any]:
    """Return a tool as a server names it; it takes a city, unless a schema says otherwise."""
    return {
        "name": name,
        "inputSchema": schema or {"type": "object", "properties": {"city": {"type": "string"}}},
    }


@dataclass
class Stranger:
    """A server that answers like a gymhost with one environment, but for what is set here."""

    tools: Any = field(default_factory=lambda: [tool()])
    seeded: dict[str, Any] = field(default_factory=dict)
    """Set in the seed answer; a None takes the key out."""
    mcp: dict[str, Any] = field(default_factory=dict)
    """Set in its `mcp`."""
    verdict: dict[str, Any] = field(default_factory=lambda: {"reward": 1.0})
    raw: bytes | None = None
    """The body of every answer of the control plane."""
    refusal: dict[str, Any] | None = None
    """A problem, for every seeding."""
    result: Any = field(default_factory=lambda: {"content": [{"type": "text", "text": "hi"}]})
    """What a tool answers. None: the answer is to another question."""
    lists: list[dict[str, Any]] = field(default_factory=list)
    """The tools as MCP names them."""
    url: str = ""
    paths: list[str] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    """The Authorization of each request so far, and its method and path."""
    asked: threading.Event = field(default_factory=threading.Event)
    """Set with the first of them."""

    def answer(self, path: str, body: bytes) -> tuple[int, Any]:
        """Return the status and the answer."""
        if path.endswith("/mcp"):
            return self._mcp(json.loads(body))
        if self.raw is not None:
            return 200, self.raw
        if path.endswith("/seed_session"):
            return (400, self.refusal) if self.refusal else (200, self._seed())
        if path.endswith("/verify"):
            return 200, self.verdict
        if path.endswith("/close_session"):
            return 200, {"session_id": "s", "status": "closed"}
        return 200, {"name": "weather", "tools": self.tools}

    def _seed(self) -> dict[str, Any]:
        mcp = {
            "server_name": "weather",
            "url_path": "/mcp",
            "url": f"{self.url}/envs/weather/mcp",
            "transport": "http",
            "headers": {TOKEN: "t"},
            **self.mcp,
        }
        answer: dict[str, Any] = {
            "session_id": "s",
            "expires_at": "2030-01-01T00:00:00Z",
            "mcp": mcp,
        }
        answer.update(self.seeded)
        return {key: value for key, value in answer.items() if value is not None}

    def _mcp(self, request: dict[str, Any]) -> tuple[int, Any]:
        if "id" not in request:
            return 202, b""
        answer: dict[str, Any] = {"jsonrpc": "2.0", "id": request["id"]}
        match request["method"]:
            case "initialize":
                answer["result"] = {
                    "protocolVersion": "2025-06-18",
                    "capabilities": {"tools": {}},
                    "serverInfo": {"name": "weather", "version": "1"},
                }
            case "tools/list":
                answer["result"] = {"tools": self.lists}
            case "tools/call":
                answer["result"] = self.result or {}
                answer["id"] = request["id"] if self.result else "another"
            case _:
                answer["error"] = {"code": -32601, "message": "Method not found"}
        return 200, answer


@contextmanager
def serving(stranger: Stranger) -> Generator[str]:
    """Serve a stranger on a port of this machine; yields its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            if self.path.endswith("/mcp"):
                self.send_error(405)
            else:
                self.do_POST()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            stranger.keys.append(self.headers.get("authorization"))
            stranger.paths.append(f"{self.command} {self.path}")
            stranger.asked.set()
            status, answer = stranger.answer(self.path, body)
            sent = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that has gone is no error: it has what it wanted to know."""

    with Server(("127.0.0.1", 0), Handler) as server:
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        stranger.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield stranger.url
        finally:
            server.shutdown()
            thread.join(10)
