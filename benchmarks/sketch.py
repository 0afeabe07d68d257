"""A sketch of gymhost: the same wire, in the fewest lines, without its promises.

    python -m benchmarks.sketch BACKEND SERVER

One environment, a dictionary of sessions, bodies that are parsed and written again. No journal,
limits, locks, hooks, private state or durability, and nothing clever: what somebody would write in
an afternoon. Some targets are parts of what it takes in the same run.
"""

from __future__ import annotations

import secrets
import sys
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import compare_digest
from os import environ
from typing import Any

import pydantic_core
from mcp_types import CallToolRequestParams
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.bare import answer, bare_server, text_result
from benchmarks.floor import run

TOKEN_HEADER = "X-NeMo-Gym-Session-Token"
COOKIE = "gymhost_session"


@dataclass
class Session:
    """One attempt."""

    id: str
    task: dict[str, Any]
    calls: list[dict[str, Any]] = field(default_factory=list)


class Sketch:
    """The sessions, and what is done to them."""

    def __init__(self, key: str) -> None:
        self._key = f"Bearer {key}"
        self._sessions: dict[str, Session] = {}
        self._by_token: dict[bytes, Session] = {}
        self._mcp = bare_server("weather", self._call_tool)

    async def seed(self, request: Request) -> Response:
        """Start a session."""
        if not self._may(request):
            return Response(status_code=401)
        session = Session(secrets.token_hex(16), await _json(request))
        token = secrets.token_urlsafe(32)
        self._sessions[session.id] = session
        self._by_token[sha256(token.encode()).digest()] = session
        mcp = {
            "server_name": "weather",
            "url_path": "/mcp",
            "url": str(request.base_url) + "envs/weather/mcp",
            "transport": "http",
            "headers": {TOKEN_HEADER: token},
        }
        response = _answer({"session_id": session.id, "mcp": mcp})
        response.set_cookie(COOKIE, session.id, path="/envs/weather")
        return response

    async def mcp(self, request: Request) -> Response:
        """Answer one JSON-RPC request."""
        return _answer(await answer(self._mcp, request, await _json(request)))

    async def verify(self, request: Request) -> Response:
        """Score, and echo the body."""
        if not self._may(request):
            return Response(status_code=401)
        session = self._sessions.pop(request.cookies[COOKIE])
        body = await _json(request)
        expected = session.task["verifier_metadata"]["expected_city"]
        asked = any(call["city"] == expected for call in session.calls)
        said = " ".join(
            part["text"]
            for item in body["response"]["output"]
            if item["type"] == "message" and item["role"] == "assistant"
            for part in item["content"]
            if part["type"] == "output_text"
        )
        reward = float(asked and _report(expected).casefold() in said.casefold())
        response = _answer({**body, "reward": reward})
        response.set_cookie(COOKIE, session.id, path="/envs/weather")
        return response

    def _may(self, request: Request) -> bool:
        return compare_digest(request.headers.get("authorization", ""), self._key)

    async def _call_tool(self, context: Any, params: CallToolRequestParams) -> dict[str, Any]:
        token = context.request.headers[TOKEN_HEADER]
        session = self._by_token[sha256(token.encode()).digest()]
        arguments = params.arguments or {}
        session.calls.append(arguments)
        return text_result(_report(arguments["city"]))


async def _json(request: Request) -> Any:
    return pydantic_core.from_json(await request.body())


def _answer(body: Any) -> Response:
    return Response(pydantic_core.to_json(body), media_type="application/json")


def _report(city: str) -> str:
    return f"The weather in {city} is sunny and 72 F."


def application(key: str) -> Starlette:
    """Return it as an ASGI application; `key` opens the control plane."""
    sketch = Sketch(key)
    pages = {"seed_session": sketch.seed, "mcp": sketch.mcp, "verify": sketch.verify}
    return Starlette(
        routes=[
            Route(f"/envs/weather/{name}", page, methods=["POST"]) for name, page in pages.items()
        ]
    )


if __name__ == "__main__":
    run(application(environ["GYMHOST_API_KEY"]), *sys.argv[1:])
