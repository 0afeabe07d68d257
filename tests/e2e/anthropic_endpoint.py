"""An Anthropic Messages endpoint on loopback that streams what a test has written down."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]


@dataclass(frozen=True)
class Say:
    """The model answers with a text, or with one that it makes of what it is sent."""

    text: str | Callable[[Body], str]


@dataclass(frozen=True)
class Use:
    """The model calls a tool, and says something before it."""

    name: str
    input: dict[str, Any]
    text: str = "Let me see."


@dataclass(frozen=True)
class Refuse:
    """The endpoint answers with an error."""

    status: int
    kind: str
    message: str = "not now"


@dataclass(frozen=True)
class Garbage:
    """The endpoint streams something, but no events."""


@dataclass(frozen=True)
class Hang:
    """The endpoint never answers."""


Turn = Say | Use | Refuse | Garbage | Hang
Step = Turn | Callable[[Body], Turn]
"""What the endpoint does, or what makes that of a request."""


@dataclass
class Endpoint:
    """Plays one step for each request, and the last one again and again."""

    steps: Sequence[Step]
    url: str = ""
    bodies: list[Body] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    asked: threading.Event = field(default_factory=threading.Event)
    """Set with the first request."""
    closed: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def next(self, body: Body, key: str | None) -> tuple[Turn, int]:
        """Return what answers a request, and its number."""
        with self._lock:
            self.bodies.append(body)
            self.keys.append(key)
            number = len(self.bodies) - 1
        self.asked.set()
        step = self.steps[min(number, len(self.steps) - 1)]
        return (step(body) if callable(step) else step), number


def last_result(body: Body) -> str:
    """Return the text of the last tool result that a request has, without what Claude Code adds."""
    blocks = [
        block
        for message in body["messages"]
        if isinstance(message["content"], list)
        for block in message["content"]
    ]
    found = [block for block in blocks if block["type"] == "tool_result"]
    content = found[-1]["content"] if found else ""
    if isinstance(content, list):
        content = "".join(part.get("text", "") for part in content)
    return str(content).partition("<system-reminder>")[0].strip()


def instruction(body: Body) -> str:
    """Return what the user has asked: the last text of the first message."""
    content = body["messages"][0]["content"]
    return str(content if isinstance(content, str) else content[-1]["text"])


@contextmanager
def open_endpoint(*steps: Step) -> Iterator[Endpoint]:
    """Serve one until the end of the block."""
    endpoint = Endpoint(steps)

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that was ended is no error: that is what some tests do."""

    class Handler(_Handler):
        played = endpoint

    with Server(("127.0.0.1", 0), Handler) as server:
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        endpoint.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield endpoint
        finally:
            endpoint.closed.set()
            server.shutdown()
            thread.join(10)


class _Handler(BaseHTTPRequestHandler):
    played: Endpoint

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path.partition("?")[0] != "/v1/messages":
            self.send_error(404)
            return
        step, number = self.played.next(body, self.headers.get("x-api-key"))
        match step:
            case Hang():
                self.played.closed.wait(120)
            case Refuse(status, kind, message):
                self.refuse(status, {"type": kind, "message": message})
            case Garbage():
                self.begin()
                self.wfile.write(b"event: message_start\ndata: {]]]\n\n\xff\xfe\x00\n\n")
            case Say() | Use():
                self.begin()
                self.stream(step, body, f"msg_{number}")

    def refuse(self, status: int, error: dict[str, str]) -> None:
        answer = json.dumps({"type": "error", "error": error}).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def begin(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()  # HTTP/1.0: the stream ends with the connection

    def stream(self, step: Say | Use, body: Body, message_id: str) -> None:
        usage = {
            "input_tokens": 100,
            "output_tokens": 1,
            "cache_read_input_tokens": 10,
            "cache_creation_input_tokens": 5,
        }
        message = {
            "id": message_id,
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        }
        self.event("message_start", message=message)
        thought = {"type": "thinking_delta", "thinking": "I wonder."}
        signed = {"type": "signature_delta", "signature": "c2ln"}
        self.block(0, {"type": "thinking", "thinking": "", "signature": ""}, thought, signed)
        text = step.text if isinstance(step.text, str) else step.text(body)
        half = len(text) // 2
        parts = [{"type": "text_delta", "text": each} for each in (text[:half], text[half:])]
        self.block(1, {"type": "text", "text": ""}, *parts)
        if isinstance(step, Use):
            call = {"type": "tool_use", "id": f"toolu_{message_id}", "name": step.name, "input": {}}
            typed = {"type": "input_json_delta", "partial_json": json.dumps(step.input)}
            self.block(2, call, typed)
        reason = "tool_use" if isinstance(step, Use) else "end_turn"
        delta = {"stop_reason": reason, "stop_sequence": None}
        self.event("message_delta", delta=delta, usage={"output_tokens": 20})
        self.event("message_stop")

    def block(self, index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> None:
        self.event("content_block_start", index=index, content_block=start)
        for delta in deltas:
            self.event("content_block_delta", index=index, delta=delta)
        self.event("content_block_stop", index=index)

    def event(self, kind: str, **fields: Any) -> None:
        data = json.dumps({"type": kind, **fields})
        self.wfile.write(f"event: {kind}\ndata: {data}\n\n".encode())
