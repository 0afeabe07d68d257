"""An OpenAI-compatible endpoint on loopback that plays a script, in both dialects.

It holds each request to the rules that the real ones have, and answers 400 where one is broken.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

JSON = dict[str, Any]
KEY = "sk-of-the-tests"


@dataclass(frozen=True)
class Says:
    """A turn of the model."""

    text: str | None = None
    calls: Sequence[tuple[str, Any]] = ()
    """Names and arguments: an object, or text that is sent as it is."""
    ids: Sequence[str | None] = ()
    thinking: str | None = None
    cut: bool = False
    """It broke off at the limit of tokens."""


@dataclass(frozen=True)
class Answers:
    """An answer that is no turn."""

    status: int = 200
    body: bytes | JSON = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Drips:
    """Bytes that never end, or nothing at all."""

    chunk: bytes = b""


@dataclass
class Heard:
    """A request."""

    path: str
    headers: Mapping[str, str]
    body: JSON

    @property
    def tools(self) -> list[str]:
        return [tool.get("function", tool)["name"] for tool in self.body.get("tools", [])]

    @property
    def outputs(self) -> list[str]:
        """What the tools have answered so far."""
        items = self.body.get("messages") or self.body.get("input")
        assert isinstance(items, list)
        return [
            item.get("content") or item.get("output")
            for item in items
            if item.get("role") == "tool" or item.get("type") == "function_call_output"
        ]


Step = Says | Answers | Drips | Callable[[Heard], "Says | Answers"]


@dataclass
class Endpoint:
    """What the script's requests were."""

    url: str
    script: list[Step]
    heard: list[Heard] = field(default_factory=list)
    hung_up: threading.Event = field(default_factory=threading.Event)
    """The client has closed a connection that dripped."""
    dripping: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def play(self, heard: Heard) -> Says | Answers | Drips:
        with self.lock:
            self.heard.append(heard)
            if complaint := complain(heard):
                return refusal(complaint)
            if not self.script:
                return refusal("the script is over")
            step = self.script.pop(0)
        return step(heard) if callable(step) else step


def refusal(message: str, status: int = 400, **more: Any) -> Answers:
    return Answers(status, {"error": {"message": message, "type": "invalid_request_error", **more}})


def complain(heard: Heard) -> str | None:
    """Return how a request breaks the API's rules."""
    chat = heard.path == "/v1/chat/completions"
    if not chat and heard.path != "/v1/responses":
        return f"no such page: {heard.path}"
    for tool in heard.body.get("tools", []):
        function = tool.get("function") if chat else tool
        if not function or not re.fullmatch("[a-zA-Z0-9_-]{1,64}", function.get("name", "")):
            return f"no tool: {tool}"
        if function.get("parameters", {}).get("type") != "object":
            return f"no schema: {tool}"
    called, answered = [], []
    for item in heard.body["messages" if chat else "input"]:
        if any(value is None for key, value in item.items() if key != "content"):
            return f"a null: {item}"
        if chat:
            called += [(call["id"], call["function"]) for call in item.get("tool_calls", [])]
            answered += [item["tool_call_id"]] if item["role"] == "tool" else []
        elif item.get("type") == "function_call":
            called.append((item["call_id"], item))
        elif item.get("type") == "function_call_output":
            answered.append(item["call_id"])
            if item.keys() - {"type", "call_id", "output"}:
                return f"unknown keys: {item}"
    for _, function in called:
        if not isinstance(json.loads(function["arguments"]), dict):
            return f"arguments that are no object: {function}"
    if [call_id for call_id, _ in called] != answered or len(set(answered)) != len(answered):
        return f"calls and outputs do not pair: {called}, {answered}"
    return None


def responses_body(turn: Says, number: int) -> JSON:
    output: list[JSON] = []
    if turn.thinking is not None:
        thought = [{"type": "reasoning_text", "text": turn.thinking}]
        item = {"id": f"rs_{number}", "type": "reasoning", "summary": [], "content": thought}
        output.append({**item, "encrypted_content": None, "status": None})
    if turn.text is not None:
        content = [{"type": "output_text", "text": turn.text, "annotations": []}]
        item = {"id": f"msg_{number}", "type": "message", "role": "assistant"}
        output.append({**item, "status": "completed", "content": content})
    for call_id, name, arguments in numbered(turn, number):
        item = {"type": "function_call", "id": f"fc_{number}", "status": "completed"}
        output.append({**item, "call_id": call_id, "name": name, "arguments": arguments})
    return {
        "id": f"resp_{number}",
        "object": "response",
        "model": "scripted-1",
        "status": "incomplete" if turn.cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if turn.cut else None,
        "error": None,
        "output": output,
        "usage": {
            "input_tokens": 100,
            "input_tokens_details": {"cached_tokens": 40},
            "output_tokens": 10,
            "total_tokens": 110,
        },
    }


def chat_body(turn: Says, number: int) -> JSON:
    message: JSON = {"role": "assistant", "content": turn.text, "refusal": None}
    if turn.thinking is not None:
        message["reasoning_content"] = turn.thinking
    if turn.calls:
        message["tool_calls"] = [
            {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
            for call_id, name, arguments in numbered(turn, number)
        ]
    finish = "length" if turn.cut else "tool_calls" if turn.calls else "stop"
    return {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "model": "scripted-1",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {
            "prompt_tokens": 100,
            "prompt_tokens_details": {"cached_tokens": 40},
            "completion_tokens": 10,
            "total_tokens": 110,
        },
    }


def numbered(turn: Says, number: int) -> Iterator[tuple[str | None, str, str]]:
    for index, (name, arguments) in enumerate(turn.calls):
        call_id = turn.ids[index] if turn.ids else f"call_{number}_{index}"
        text = arguments if isinstance(arguments, str) else json.dumps(arguments)
        yield call_id, name, text


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    endpoint: Endpoint

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        step = self.endpoint.play(Heard(self.path, dict(self.headers), body))
        if isinstance(step, Drips):
            self.drip(step.chunk)
            return
        if isinstance(step, Says):
            encode = chat_body if self.path.endswith("/chat/completions") else responses_body
            step = Answers(body=encode(step, len(self.endpoint.heard)))
        data = json.dumps(step.body).encode() if isinstance(step.body, dict) else step.body
        self.send_response(step.status)
        for name, value in {"content-type": "application/json", **step.headers}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def drip(self, chunk: bytes) -> None:
        """Send until the client hangs up; or send nothing, and wait for that."""
        self.close_connection = True
        self.endpoint.dripping.set()
        try:
            if not chunk:
                self.connection.settimeout(60)
                self.connection.recv(1)
            else:
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.end_headers()
                while not self.endpoint.ended.is_set():
                    self.wfile.write(chunk)
        except OSError:
            pass
        self.endpoint.hung_up.set()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def scripted(*script: Step) -> Iterator[Endpoint]:
    """Serve a script; its steps are played in the order in which requests come."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        endpoint = Endpoint(f"http://127.0.0.1:{server.server_port}/v1", list(script))
        server.RequestHandlerClass = type("Playing", (Handler,), {"endpoint": endpoint})
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield endpoint
        finally:
            endpoint.ended.set()
            server.shutdown()
            thread.join()
