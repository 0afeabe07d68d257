"""The agent plane by hand: one POST in the shape of any protocol version, and what comes back.

Beside it stands the SDK's own server with the same tool, for what both should answer alike.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx2
import mcp_types
from mcp.server.lowlevel import Server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import BaseModel
from starlette.types import ASGIApp, Message

from gymhost import Environment, Session, Task, ToolError, Trajectory, testing, tool
from gymhost.http.mcp import TOKEN_HEADER

HANDSHAKE = ("2025-03-26", "2025-06-18", "2025-11-25")
MODERN = "2026-07-28"
VERSIONS = (*HANDSHAKE, MODERN)
ERAS = ("2025-06-18", MODERN)
"""One version for each of the two ways in."""

META = "io.modelcontextprotocol/"
CLIENT = {"name": "wire", "version": "1"}

# What no answer on this plane may hold: the tests plant each of them.
ANSWER = "canary-of-the-verifier"
CRASH = "canary-of-a-crash"
NOTE = "canary-of-a-session"
SECRETS = (ANSWER, CRASH, NOTE, "Traceback", 'File "', "site-packages", "pydantic")


class Echo(Environment):
    """One tool, which the SDK's server has too."""

    @tool
    async def echo(self, text: str) -> str:
        """Say it again."""
        return text

    async def verify(self, session: Session, trajectory: Trajectory) -> float:
        return 1.0


class Notes(BaseModel):
    """What one session has written, and the answer that its verifier waits for."""

    answer: str = ""
    notes: list[str] = []


class Notebook(Environment[Notes]):
    """A tool for each way in which a call can end."""

    def __init__(self) -> None:
        self.entered = anyio.Event()
        self.go_on = anyio.Event()

    async def seed(self, session: Session[Notes], task: Task) -> Notes:
        return Notes(answer=str(task.verifier_metadata.get("answer", "")))

    async def allowed_tools(self, session: Session[Notes], task: Task) -> list[str] | None:
        return task.verifier_metadata.get("tools")

    @tool
    async def write(self, session: Session[Notes], note: str) -> str:
        """Write a note down, and read all of them."""
        session.state.notes.append(note)
        return "\n".join(session.state.notes)

    @tool
    async def mirror(self, value: Any) -> dict[str, Any]:
        """Return a value as it came."""
        return {"value": value}

    @tool
    async def wait(self, session: Session[Notes], note: str = "waited") -> str:
        """Wait to be let go on."""
        self.entered.set()
        await self.go_on.wait()
        session.state.notes.append(note)
        return note

    @tool
    async def refuse(self, why: str) -> str:
        """Fail, in words for the agent."""
        raise ToolError(why)

    @tool
    async def crash(self) -> str:
        """Fail, in words that are not for the agent."""
        raise RuntimeError(CRASH)

    async def verify(self, session: Session[Notes], trajectory: Trajectory) -> float:
        return float(len(session.state.notes))


@dataclass(frozen=True)
class Post:
    """One request. A body of bytes goes as it is, others as JSON; a header of None not at all."""

    body: Any
    headers: dict[str, str | None]

    def with_headers(self, **changed: str | None) -> Post:
        """Return it with headers changed: `mcp_name` is `mcp-name`."""
        changes = {name.replace("_", "-"): value for name, value in changed.items()}
        return Post(self.body, {**self.headers, **changes})

    def with_body(self, **changed: Any) -> Post:
        """Return it with members of its body changed."""
        return Post({**self.body, **changed}, self.headers)

    def without(self, *members: str) -> Post:
        """Return it without members of its body."""
        kept = {name: value for name, value in self.body.items() if name not in members}
        return Post(kept, self.headers)

    @property
    def content(self) -> bytes:
        """The bytes of the body."""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


def post(
    version: str,
    method: str,
    params: Mapping[str, Any] | None = None,
    *,
    token: str | None = None,
    request_id: Any = 1,
) -> Post:
    """Return a request as a client of that version sends it."""
    headers: dict[str, str | None] = {
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": version,
        TOKEN_HEADER: token,
    }
    if version == MODERN:
        headers["mcp-method"] = method
        if isinstance((params or {}).get("name"), str):
            headers["mcp-name"] = dict(params or {})["name"]
        params = {**(params or {}), "_meta": modern_meta()}
    body = {"jsonrpc": "2.0", "id": request_id, "method": method}
    return Post(body if params is None else {**body, "params": dict(params)}, headers)


def modern_meta(**changed: Any) -> dict[str, Any]:
    """Return the envelope of 2026-07-28; what is changed to None is left out."""
    meta = {"protocolVersion": MODERN, "clientCapabilities": {}, "clientInfo": CLIENT, **changed}
    return {META + name: value for name, value in meta.items() if value is not None}


def call(version: str, name: str, token: str | None, /, **arguments: Any) -> Post:
    """Return a `tools/call`."""
    return post(version, "tools/call", {"name": name, "arguments": arguments}, token=token)


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: httpx2.Headers
    text: str
    body: Any = field(repr=False)
    """The JSON; None where there is none."""

    @property
    def result(self) -> dict[str, Any]:
        """The result of a request that was answered with one."""
        assert self.status == 200, self
        assert isinstance(self.body, dict), self
        assert "result" in self.body, self
        result: dict[str, Any] = self.body["result"]
        return result

    @property
    def tool_text(self) -> str:
        """The text of a tool's answer, which is one block."""
        (block,) = self.result["content"]
        assert block["type"] == "text"
        return str(block["text"])

    @property
    def kind(self) -> str | int | None:
        """`result`, `tool error`, the code of an error, or None where there is no JSON."""
        if not isinstance(self.body, dict):
            return None
        if "error" in self.body:
            return int(self.body["error"]["code"])
        return "tool error" if self.body["result"].get("isError") else "result"


def http_client(app: ASGIApp, *, raise_app_exceptions: bool = True) -> httpx2.AsyncClient:
    """Return a client of an application in this process; nothing is added to what it sends."""
    return httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app, raise_app_exceptions=raise_app_exceptions),
        base_url="http://gymhost.test",
    )


def asgi_scope(path: str, sent: Post) -> dict[str, Any]:
    """What an ASGI server makes of a request; its body is the test's to receive."""
    headers = [
        (name.lower().encode(), value.encode())
        for name, value in sent.headers.items()
        if value is not None
    ]
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("gymhost.test", 80),
    }


async def send(http: httpx2.AsyncClient, path: str, sent: Post) -> Answer:
    """Send a request, and hold its answer to what is true of every answer of this plane."""
    answer = await exchange(http, path, sent)
    modern_404 = answer.kind == mcp_types.METHOD_NOT_FOUND
    # 404 is what 2026-07-28 wants for an unknown method, and only that: it has no sessions that
    # a client could begin anew
    assert answer.status != 404 or (
        modern_404 and sent.headers.get("mcp-protocol-version") not in (None, *HANDSHAKE)
    ), answer
    check_answer(answer)
    return answer


async def exchange(http: httpx2.AsyncClient, path: str, sent: Post) -> Answer:
    """Send a request."""
    headers = [(n.encode(), v.encode("latin-1")) for n, v in sent.headers.items() if v is not None]
    request = http.build_request("POST", path, content=sent.content, headers=headers)
    if sent.headers["accept"] is None:
        del request.headers["accept"]
    with anyio.fail_after(10):
        response = await http.send(request)
    is_json = response.headers.get("content-type") == "application/json"
    body = response.json() if is_json and response.content else None
    return Answer(response.status_code, response.headers, response.text, body)


def check_answer(answer: Answer) -> None:
    """What is true of every answer of the agent plane, also where a request is refused."""
    assert answer.status not in (401, 403), answer  # clients begin an OAuth discovery
    assert answer.kind != -32001, answer  # one client reports it as a timeout
    for name in ("www-authenticate", "mcp-session-id", "set-cookie", "location"):
        assert name not in answer.headers, answer
    for secret in SECRETS:
        assert secret not in answer.text, answer
        assert secret not in str(answer.headers), answer


class Connection:
    """One request as a server drives it: its client can read a stream, and leave."""

    def __init__(self, app: ASGIApp, path: str, sent: Post) -> None:
        self._app = app
        self._scope = asgi_scope(path, sent)
        self._content: bytes | None = sent.content
        self._left = anyio.Event()
        self._send_stream, self._messages = anyio.create_memory_object_stream[Message](100)
        self.ended = anyio.Event()

    async def run(self) -> None:
        """Serve the request to its end."""
        with self._send_stream:
            await self._app(self._scope, self._receive, self._send_stream.send)
        self.ended.set()

    def leave(self) -> None:
        """Hang up."""
        self._left.set()

    async def start(self) -> Message:
        """Return the status and headers of the answer."""
        message = await self._messages.receive()
        assert message["type"] == "http.response.start"
        return message

    async def piece(self) -> tuple[bytes, bool]:
        """Return the next piece of the answer's body, and whether it is the last."""
        message = await self._messages.receive()
        assert message["type"] == "http.response.body"
        return message.get("body", b""), not message.get("more_body", False)

    def close(self) -> None:
        """Forget what has not been read."""
        self._messages.close()

    async def _receive(self) -> Message:
        content, self._content = self._content, None
        if content is not None:
            return {"type": "http.request", "body": content, "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}


async def seed_token(client: testing.InProcessClient, name: str, **metadata: Any) -> str:
    """Seed a session and return its token."""
    seeded = await client.seed(name, Task(verifier_metadata=metadata))
    assert seeded.mcp is not None
    return seeded.mcp.headers[TOKEN_HEADER]


@asynccontextmanager
async def sdk_client() -> AsyncGenerator[httpx2.AsyncClient]:
    """Serve Echo's tool by the SDK's own transport, at /mcp."""
    schema = {
        "type": "object",
        "properties": {"text": {"type": "string"}},
        "required": ["text"],
        "additionalProperties": False,
    }

    async def list_tools(context: Any, params: Any) -> mcp_types.ListToolsResult:
        echo = mcp_types.Tool(name="echo", description="Say it again.", input_schema=schema)
        return mcp_types.ListToolsResult(tools=[echo], ttl_ms=0, cache_scope="private")

    async def call_tool(context: Any, params: Any) -> mcp_types.CallToolResult:
        known = params.name == "echo"
        text = params.arguments["text"] if known else f"There is no tool named {params.name!r}."
        content = [mcp_types.TextContent(type="text", text=text)]
        return mcp_types.CallToolResult(content=content, is_error=not known)

    listen = ListenHandler(InMemorySubscriptionBus())
    server: Server[Any] = Server(
        "echo", on_list_tools=list_tools, on_call_tool=call_tool, on_subscriptions_listen=listen
    )
    app = server.streamable_http_app(
        json_response=True,
        stateless_http=True,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    async with app.router.lifespan_context(app), http_client(app) as http:
        yield http
