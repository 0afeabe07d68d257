"""Environments served in this process, spoken to by hand: every byte is the test's own."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import httpx2

from gymhost import testing
from gymhost.host import EnvironmentLike, Host
from gymhost.http.mcp import TOKEN_HEADER
from gymhost.mount import Mount
from gymhost.stores.base import ENDED

NO_ANSWER: dict[str, Any] = {"response": {"output": []}}


@dataclass(frozen=True)
class Seeded:
    """A session, as seed_session answered it."""

    environment: str
    id: str
    token: str

    @property
    def cookie(self) -> dict[str, str]:
        """The header that names the session."""
        return {"cookie": f"gymhost_session={self.id}"}


class HandClock:
    """A clock that a test turns by hand."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


@dataclass
class Served:
    """A host behind its HTTP application."""

    client: testing.InProcessClient
    http: httpx2.AsyncClient
    """Sends what it is told, and the control key."""

    @property
    def host(self) -> Host:
        return self.client.host

    def mount(self, name: str) -> Mount:
        return self.host.mounts[name]

    async def seed(self, name: str, body: Any = None, **headers: str) -> Seeded:
        """Start a session, which must succeed."""
        response = await self.post(name, "seed_session", body or {}, **headers)
        assert response.status_code == 200, response.text
        answer = response.json()
        token = answer["mcp"]["headers"][TOKEN_HEADER] if "mcp" in answer else ""
        return Seeded(name, answer["session_id"], token)

    async def post(self, name: str, page: str, body: Any = None, **headers: str) -> httpx2.Response:
        """Send a body, as it is or as JSON; `prefer` and `idempotency_key` are headers."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {key.replace("_", "-"): value for key, value in headers.items()}
        self.http.cookies.clear()  # a session is named where a test names it
        return await self.http.post(f"/envs/{name}/{page}", content=content, headers=given)

    async def verify(self, session: Seeded, body: Any = None, **headers: str) -> httpx2.Response:
        """Verify a session, named by its cookie."""
        sent = NO_ANSWER if body is None else body
        return await self.post(session.environment, "verify", sent, **session.cookie, **headers)

    async def close(self, session: Seeded) -> httpx2.Response:
        """Close a session, named by its cookie."""
        return await self.post(session.environment, "close_session", {}, **session.cookie)

    async def call(self, session: Seeded, tool: str, /, **arguments: Any) -> Outcome:
        """Call a tool over MCP, as an agent does."""
        response = await self.http.post(
            f"/envs/{session.environment}/mcp",
            json=tool_call(tool, arguments),
            headers={"accept": "application/json", TOKEN_HEADER: session.token},
        )
        assert response.status_code == 200, response.text
        result = response.json()["result"]
        return Outcome(result["content"][0]["text"], result["isError"])

    async def record(self, session: Seeded) -> dict[str, Any]:
        """Return what GET /sessions/<id> answers."""
        response = await self.http.get(f"/sessions/{session.id}")
        assert response.status_code == 200, response.text
        record: dict[str, Any] = response.json()
        return record

    async def check_counts(self) -> None:
        """Hold each environment's counters to what is really there."""
        living: Counter[str] = Counter()
        for (name, status), number in (await self.host.store.counts()).items():
            if status not in ENDED:
                living[name] += number
        for name, mount in self.host.mounts.items():
            assert mount.open_sessions == living[name], name
            assert mount.calls_in_flight == 0, name


@dataclass(frozen=True)
class Outcome:
    """What an agent gets from a tool call."""

    text: str
    is_error: bool


def tool_call(tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON-RPC `tools/call`."""
    params = {"name": tool, "arguments": dict(arguments)}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


@asynccontextmanager
async def serve(
    environments: Mapping[str, EnvironmentLike], **options: Any
) -> AsyncGenerator[Served]:
    """Serve environments; at the end, no counter may have drifted, and nothing may be open."""
    async with testing.client(environments, **options) as client:
        async with raw_client(client) as http:
            served = Served(client, http)
            yield served
            with anyio.fail_after(5):
                await served.check_counts()
    for mount in served.host.mounts.values():
        if not served.host.store.durable and not mount.keeps_nothing:
            assert mount.open_sessions == 0, mount.name


def raw_client(client: testing.InProcessClient, *, key: str | None = "") -> httpx2.AsyncClient:
    """Return a client of its application that adds the control key alone; None for no key."""
    used = client.key if key == "" else key
    return httpx2.AsyncClient(
        transport=httpx2.ASGITransport(client.app, raise_app_exceptions=False),
        base_url="http://gymhost.test",
        headers={} if used is None else {"authorization": f"Bearer {used}"},
    )
