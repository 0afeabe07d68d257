"""What gymhost adds to a tool call, in-process: above the SDK's bare `serve_one`.

Both sides get the same request through the same ASGI messages, read its JSON and write an
answer's. The bare one then gives it to `mcp.server.runner.serve_one`, with a handler that answers
a constant. gymhost is its whole application: routing, the token, the session, its limits and lock,
the tool and the record. They take turns, block by block; figures are CPU time of one call.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from statistics import median
from typing import Any

import anyio
import pydantic_core
from mcp_types import CallToolRequestParams
from starlette.requests import Request

from benchmarks.bare import answer, bare_server, text_result
from benchmarks.cells import LEGACY, MODERN
from benchmarks.errors import BenchmarkError
from benchmarks.in_process import Application, Ask
from benchmarks.tables import print_table, print_targets
from benchmarks.targets import CALL, state
from benchmarks.weather import META
from gymhost import Environment, Session, Trajectory, tool
from gymhost.host import Host
from gymhost.http.app import GymhostApp, create_app
from gymhost.http.auth import KeyGuard
from gymhost.http.mcp import TOKEN_HEADER

ROUNDS = 100
CALLS = 50
"""In one block. A session may have 1,000."""
BARE, OURS, OURS_MODERN = "serve_one alone", "gymhost", f"gymhost, {MODERN}"


class Echo(Environment):
    """One trivial tool."""

    @tool
    async def echo(self, session: Session, text: str) -> str:
        """Return the text."""
        return text

    async def verify(self, session: Session, trajectory: Trajectory) -> float:
        return float(len(session.calls))


class Bare:
    """An ASGI application: the SDK's server, and nothing of gymhost's."""

    def __init__(self) -> None:
        self._server = bare_server("bare", self._constant)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        message = pydantic_core.from_json((await receive())["body"])
        body = pydantic_core.to_json(await answer(self._server, request, message))
        length = (b"content-length", str(len(body)).encode())
        headers = [(b"content-type", b"application/json"), length]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _constant(self, context: Any, params: CallToolRequestParams) -> dict[str, Any]:
        return text_result("hello")


def _call(protocol: str, token: str) -> Ask:
    params: dict[str, Any] = {"name": "echo", "arguments": {"text": "hello"}}
    headers = {"mcp-protocol-version": protocol, TOKEN_HEADER: token}
    if protocol == MODERN:
        headers |= {"mcp-method": "tools/call", "mcp-name": "echo"}
        params["_meta"] = {
            f"{META}protocolVersion": protocol,
            f"{META}clientCapabilities": {},
            f"{META}clientInfo": {"name": "benchmark", "version": "1"},
        }
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    return Ask("/envs/echo/mcp", pydantic_core.to_json(message), headers)


async def _round(bare: Bare, app: GymhostApp) -> dict[str, float]:
    """Measure each once, in a session of its own.

    Raises: BenchmarkError: an answer or the record is wrong.
    """
    key = {"authorization": "Bearer key"}
    seeded = await Ask("/envs/echo/seed_session", b"{}", key).send(app)
    token = seeded["mcp"]["headers"][TOKEN_HEADER]
    legacy, modern = _call(LEGACY, token), _call(MODERN, token)
    found = {
        BARE: await _spend(legacy, bare),
        OURS: await _spend(legacy, app),
        OURS_MODERN: await _spend(modern, app),
    }
    body = pydantic_core.to_json({"session_id": seeded["session_id"]})
    verdict = await Ask("/envs/echo/verify", body, key).send(app)
    if verdict["reward"] != 2 * CALLS:
        raise BenchmarkError(f"{2 * CALLS} calls were recorded as {verdict['reward']}")
    return found


async def _spend(call: Ask, app: Application) -> float:
    spent, answers = await call.spend(app, CALLS)
    for each in answers:
        content = each.get("result", {}).get("content")
        if content != [{"type": "text", "text": "hello"}]:
            raise BenchmarkError(f"a tool call was answered {each!r}")
    return spent


@asynccontextmanager
async def _serving() -> AsyncGenerator[GymhostApp]:
    app = create_app(Host({"echo": Echo}, discover=False), KeyGuard(["key"]))
    async with app.router.lifespan_context(app):
        yield app


async def _rounds(number: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {BARE: [], OURS: [], OURS_MODERN: []}
    async with _serving() as app:
        bare = Bare()
        await _round(bare, app)  # a warm-up
        for _ in range(number):
            for name, value in (await _round(bare, app)).items():
                found[name].append(value)
    return found


def main(rounds: int, backends: Sequence[str]) -> dict[str, Any]:
    """Measure on the event loops and print a table.

    Raises: BenchmarkError: an answer is wrong.
    """
    rows, figures, targeted = [], {}, {}
    for backend in backends:
        found = anyio.run(_rounds, rounds, backend=backend)
        above = {
            name: [ours - bare for ours, bare in zip(found[name], found[BARE], strict=True)]
            for name in found
        }
        figures[backend] = {
            name: {
                "min_us": min(found[name]),
                "median_us": median(found[name]),
                "above_us": median(above[name]),
            }
            for name in found
        }
        targeted[f"{backend} above us"] = figures[backend][OURS]["above_us"]
        rows += [
            (backend, name, *(f"{figure:.1f}" for figure in figures[backend][name].values()))
            for name in found
        ]
    print(f"{rounds} rounds of {CALLS} calls each")
    print_table(
        "CPU of one tool call in-process, in us; above: the median of the rounds' differences",
        ("loop", "", "minimum", "median", "above"),
        rows,
    )
    print_targets(state(CALL, targeted))
    return {"call": figures}
