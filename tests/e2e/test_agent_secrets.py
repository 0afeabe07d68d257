"""The agent plane tells its agent nothing but its tools' answers: every byte of it is read."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gymhost.http.mcp import TOKEN_HEADER
from tests.e2e import vaults
from tests.e2e.raw import connect, read_until
from tests.e2e.servers import Server, Servers, call_tool, verify
from tests.http.wire import VERSIONS, Post, call, post

ANSWER = "canary-of-the-answer"
OTHERS_NOTE = "canary-of-another-session"
OWN = "what the agent wrote itself"

CALLS: list[tuple[str, dict[str, Any]]] = [
    ("write", {"note": OWN}),
    ("write", {}),
    ("write", {"note": ["no", "text"]}),
    ("write", {"note": OWN, "more": 1}),
    ("no_such_tool", {}),
    ("verify", {}),
    ("../vault", {}),
    ("crash", {}),
    ("crash_in_a_thread", {}),
    ("exit", {}),
    ("misread", {}),
    ("refuse", {}),
    ("stall", {}),
    ("spoil", {}),
    ("overflow", {}),
    ("infinite", {}),
    ("opaque", {}),
    ("sdk_crash", {}),
    ("sdk_crash", {"more": 1}),
    ("sdk_crash_in_a_thread", {}),
    ("sdk_misread", {}),
    ("sdk_refuse", {}),
    ("sdk_unstructured", {}),
]
KINDS = {
    "ok": {"write"},
    "environment_error": {
        "crash",
        "crash_in_a_thread",
        "exit",
        "infinite",
        "misread",
        "opaque",
        "sdk_crash",
        "sdk_crash_in_a_thread",
        "sdk_misread",
        "sdk_unstructured",
        "spoil",
    },
    "tool_error": {"refuse", "sdk_refuse"},
    "timeout": {"stall"},
    "limit": {"overflow"},
    "unknown_tool": {"no_such_tool", "verify", "../vault"},
    "invalid_arguments": {"write", "sdk_crash"},
}
METHODS = (
    "initialize",
    "ping",
    "server/discover",
    "tools/list",
    "resources/list",
    "resources/read",
    "prompts/list",
    "prompts/get",
    "completion/complete",
    "logging/setLevel",
    "subscriptions/listen",
    "tasks/list",
    "no/such",
)
GARBAGE: list[Any] = [
    b"",
    b"{",
    b"null",
    b"[]",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"jsonrpc": "2.0", "id": 1e999, "method": "ping"}',
    {"jsonrpc": "2.0", "id": {}, "method": "tools/call"},
    {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": 5}},
    {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "write", "x": "y"}},
    {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": []},
    {"jsonrpc": "1.0", "id": 1, "method": "ping"},
]
OPEN_PAGES = ["/", "/healthz", "/readyz"]
CLOSED_PAGES = [
    ("GET", "/envs"),
    ("GET", "/envs/vault"),
    ("GET", "/envs/nowhere"),
    ("POST", "/envs/vault/seed_session"),
    ("POST", "/envs/vault/verify"),
    ("POST", "/envs/vault/close_session"),
    ("POST", "/envs/vault/aggregate_metrics"),
    ("GET", "/sessions"),
    ("GET", "/sessions/{id}"),
    ("GET", "/sessions/{other}"),
    ("DELETE", "/sessions/{other}"),
    ("GET", "/openapi.json"),
]


class Agent:
    """Somebody who has a session's token, and reads every byte that it gets them."""

    def __init__(self, server: Server, token: str) -> None:
        self.token = token
        self.seen: list[bytes] = []
        self._http = httpx2.Client(base_url=server.url, timeout=20)
        self._server = server

    def send(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """Send a request, and keep what comes back."""
        self._http.cookies.clear()
        answer = self._http.request(method, path, **options)
        head = [f"{answer.status_code} {answer.reason_phrase}".encode()]
        head += [name + b": " + value for name, value in answer.headers.raw]
        self.seen.append(b"\n".join([*head, answer.content]))
        return answer

    def post(self, sent: Post, path: str = "/envs/vault/mcp") -> httpx2.Response:
        """Send a request of MCP."""
        headers = {name: value for name, value in sent.headers.items() if value is not None}
        return self.send("POST", path, content=sent.content, headers=headers)

    def send_raw(self, data: bytes) -> None:
        """Send what is no HTTP."""
        with connect(self._server) as client:
            client.sendall(data)
            self.seen.append(read_until(client, b"\0"))  # until the server hangs up

    def close(self) -> None:
        self._http.close()


@pytest.fixture
def server(servers: Servers, backend: str) -> Server:
    return vaults.start(servers, "--backend", backend)


def seed_full(http: httpx2.Client, environment: str = "vault") -> tuple[str, str]:
    """Start a session whose task is full of canaries."""
    answer = http.post(
        f"/envs/{environment}/seed_session",
        json={
            "verifier_metadata": {"answer": ANSWER, "deep": [{"canary-of-metadata": 1}]},
            "responses_create_params": {"input": "canary-of-the-instruction"},
            "reference": {"calls": [{"name": "canary-of-a-reference"}]},
            "more": "canary-of-an-extra",
        },
    )
    assert answer.status_code == 200, answer.text
    (token,) = answer.json()["mcp"]["headers"].values()
    return answer.json()["session_id"], token


@pytest.mark.timeout(120)
def test_who_has_a_token_is_told_nothing_but_what_its_tools_answer(
    servers: Servers, server: Server
) -> None:
    canaries = vaults.secrets_of_the_operator()
    canaries.plant("the code's own", vaults.HIDDEN)
    canaries.plant("a task", ANSWER, *(f"canary-of-{what}" for what in ("metadata", "an-extra")))
    canaries.plant("a task", "canary-of-the-instruction", "canary-of-a-reference")
    canaries.plant("another session", OTHERS_NOTE)
    canaries.plant("a traceback", "Traceback", 'File "', ".py", "Error:", "pydantic", "object at")
    for place in (servers.folder, Path(sys.prefix), Path(__file__).parents[2], Path.home()):
        canaries.plant("a path", str(place))
    with server.client() as http:
        sessions = {}
        for name, environment in (
            ("agent", "vault"),
            ("other", "vault"),
            ("foreign", "cellar"),
            ("verified", "vault"),
            ("closed", "vault"),
            ("failed", "vault"),
        ):
            session_id, token = sessions[name] = seed_full(http, environment)
            canaries.plant(f"the id of {name}", session_id)
            if name != "agent":
                call_tool(http, token, "write", environment=environment, note=OTHERS_NOTE)
                canaries.plant_token(f"the token of {name}", token)
        assert verify(http, sessions["verified"][0], "vault").json()["answer"] == ANSWER
        named = {"session_id": sessions["closed"][0]}
        assert http.post("/envs/vault/close_session", json=named).status_code == 200
        crash = [{"type": "message", "role": "assistant", "content": "crash"}]
        body = {"session_id": sessions["failed"][0], "response": {"output": crash}}
        assert http.post("/envs/vault/verify", json=body).status_code == 502

        (session_id, token), (other, _) = sessions["agent"], sessions["other"]
        agent = Agent(server, token)
        try:
            ended = [sessions[name][1] for name in ("verified", "closed", "failed")]
            wrong = [None, "bad", *ended, sessions["foreign"][1]]
            for sent, path in mcp_requests(token, wrong):
                assert agent.post(sent, path).status_code not in (401, 403)
            canaries.plant_token("the agent's own token", token)
            visit_pages(agent, session_id, other)
            visit_oddly(agent)
        finally:
            agent.close()

        record = http.get(f"/sessions/{session_id}").json()
        kinds: dict[str, set[str]] = {}
        for each in record["calls"]:
            kinds.setdefault(each["kind"], set()).add(each["name"])
        assert kinds == KINDS  # each way out was tried
        assert ANSWER in json.dumps(record)
    assert OWN.encode() in b"".join(agent.seen)
    assert len(agent.seen) > 400
    leaks = [found for each in agent.seen if (found := canaries.found_in(each))]
    assert leaks == []


def mcp_requests(own: str, wrong: list[str | None]) -> Iterator[tuple[Post, str]]:
    """Yield all that an agent can send to the endpoints."""
    path = "/envs/vault/mcp"
    for version in VERSIONS:
        for name, arguments in CALLS:
            yield call(version, name, own, **arguments), path
        for method, token in itertools.product(METHODS, [own, *wrong]):
            if method != "subscriptions/listen" or token != own:  # which stays open
                params = {"name": "write", "uri": "file:///etc/passwd", "cursor": "x", "level": "x"}
                yield post(version, method, params, token=token), path
                yield post(version, method, token=token), f"{path}/"
        for token in wrong:
            yield call(version, "crash", token), path
        for elsewhere in ("cellar", "unstartable", "nowhere"):
            yield call(version, "write", own, note="no"), f"/envs/{elsewhere}/mcp"
        for body in GARBAGE:
            yield Post(body, post(version, "ping", token=own).headers), path
    yield post("1999-01-01", "tools/list", token=own), path
    yield post(VERSIONS[0], "ping", token=own).with_headers(accept="text/html"), path
    yield post(VERSIONS[0], "ping", {"x": "y" * 5_000_000}, token=own), path


def visit_pages(agent: Agent, session_id: str, other: str) -> None:
    """Ask for every page with all that an agent has, and more: none opens."""
    credentials = (
        {},
        {"authorization": f"Bearer {agent.token}"},
        {"authorization": f"bearer {agent.token}", TOKEN_HEADER: agent.token},
        {"authorization": f"Basic {agent.token}"},
        {TOKEN_HEADER: agent.token},
        {"cookie": f"gymhost_session={agent.token}"},
        {"cookie": f"gymhost_session={session_id}"},
        {"cookie": f"gymhost_session={other}", "authorization": f"Bearer {session_id}"},
    )
    for headers in credentials:
        for method, path in CLOSED_PAGES:
            shown = path.format(id="0" * 32, other="1" * 32)
            answer = agent.send(method, shown, headers=headers)
            expected = 404 if path == "/sessions" else 401
            assert answer.status_code in (expected, 401), (method, path, answer.text)
            assert "set-cookie" not in answer.headers
        for path in OPEN_PAGES:
            assert agent.send("GET", path, headers=headers).status_code == 200
            assert agent.send("HEAD", path, headers=headers).status_code == 200


def visit_oddly(agent: Agent) -> None:
    """Ask in ways that no client would."""
    headers = {TOKEN_HEADER: agent.token}
    for method in ("GET", "DELETE", "PUT", "HEAD", "OPTIONS", "PATCH", "TRACE"):
        for path in ("/envs/vault/mcp", "/envs/nowhere/mcp", "/envs/vault/mcp/x", "/", "/nowhere"):
            agent.send(method, path, headers=headers)
    for path in (
        "/envs/vault/mcp/../verify",
        "/envs/vault/mcp/%2e%2e/verify",
        "/envs//mcp",
        "/envs/vault%2fmcp",
        "/envs/vault/mcp%00",
        "/envs/../etc/passwd",
        "/envs/vault/mcp?session_id=x",
    ):
        agent.send("POST", path, headers=headers, content=b"{}")
    start = b"POST /envs/vault/mcp HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
    agent.send_raw(start + b"\xff: \x01\r\n\r\n")
    agent.send_raw(start + b"content-length: x\r\n\r\n")
    agent.send_raw(start + f"{TOKEN_HEADER}: {agent.token}\r\n".encode() * 2 + b"\r\n")
    agent.send_raw(b"nonsense\r\n\r\n")
