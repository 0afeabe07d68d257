"""Requests straight into an ASGI application, encoded once, and the CPU time that they take."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import anyio
import pydantic_core

from benchmarks.errors import BenchmarkError

Application = Callable[[Any, Any, Any], Awaitable[None]]


@dataclass(frozen=True)
class Ask:
    """A request, encoded once."""

    path: str
    body: bytes
    headers: dict[str, str]

    async def send(self, app: Application) -> Any:
        """Send it straight into the application; return the answer's JSON.

        Raises: BenchmarkError: another status than 200.
        """
        return self._read(await self._exchange(app, self._scope()))

    async def spend(self, app: Application, times: int) -> tuple[float, list[Any]]:
        """Send it so often; return the CPU microseconds of one, and what was answered.

        Raises: BenchmarkError: another status than 200.
        """
        scopes = [self._scope() for _ in range(times)]
        answers = []
        begun = time.process_time()
        for scope in scopes:
            answers.append(await self._exchange(app, scope))
        spent = time.process_time() - begun
        return spent / times * 1e6, [self._read(each) for each in answers]

    def _scope(self) -> dict[str, Any]:
        """Return a new ASGI scope: an application writes into it."""
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": self.path,
            "raw_path": self.path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [
                (b"host", b"localhost"),
                (b"accept", b"application/json, text/event-stream"),
                (b"content-type", b"application/json"),
                (b"content-length", str(len(self.body)).encode()),
                *((name.lower().encode(), value.encode()) for name, value in self.headers.items()),
            ],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 1),
        }

    def _read(self, sent: list[Any]) -> Any:
        start, *parts = sent
        body = b"".join(part.get("body", b"") for part in parts)
        if start["status"] != 200:
            raise BenchmarkError(f"{self.path} answered {start['status']}: {body!r}")
        return pydantic_core.from_json(body)

    async def _exchange(self, app: Application, scope: Any) -> list[Any]:
        sent: list[Any] = []
        bodies = [self.body]

        async def receive() -> Any:
            if not bodies:
                await anyio.sleep_forever()  # the client stays
            return {"type": "http.request", "body": bodies.pop(), "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await app(scope, receive, send)
        return sent
