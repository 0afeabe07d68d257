"""The requests in flight: counted, drained before a stop, and cancelled after the grace."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
from starlette.types import ASGIApp, Receive, Scope, Send

from gymhost.errors import OverCapacity, RequestError
from gymhost.http.http_exchange import HttpExchange
from gymhost.http.problems import answer_to, problem

__all__ = ["InFlight", "InFlightMiddleware"]

# What a cancelled request gets to record what it has done.
CANCEL_SECONDS = 2.0


class InFlight:
    """What the server waits for when it stops."""

    def __init__(self) -> None:
        self._scopes: set[anyio.CancelScope] = set()
        self._none = anyio.Event()
        self._hurried = anyio.Event()

    @property
    def count(self) -> int:
        """Requests being answered."""
        return len(self._scopes)

    async def serve(
        self, exchange: HttpExchange, answer: Callable[[HttpExchange], Awaitable[None]]
    ) -> None:
        """Count a request, answer it or its error, and take what is left of its body."""
        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                await answer(exchange)
            except Exception as exc:
                if exchange.started:
                    raise
                await exchange.answer(answer_to(exc))
                if not isinstance(exc, RequestError):
                    raise  # for the server, which logs it
            finally:
                self._scopes.discard(scope)
                if not self._scopes:
                    self._none.set()
        if scope.cancelled_caught and not exchange.started:
            await exchange.answer(problem(OverCapacity("The server is stopping.")))
        await exchange.finish()

    async def drain(self, grace: float) -> int:
        """Wait up to `grace` seconds for the requests to end, cancel the rest, and count those."""
        async with anyio.create_task_group() as tasks:
            tasks.cancel_scope.deadline = anyio.current_time() + grace
            tasks.start_soon(self._cancel_when_hurried, tasks.cancel_scope)
            await self._wait_for_none()
            tasks.cancel_scope.cancel()
        left = list(self._scopes)
        for scope in left:
            scope.cancel()
        with anyio.move_on_after(CANCEL_SECONDS):
            await self._wait_for_none()
        return len(left)

    def hurry(self) -> None:
        """End the grace."""
        self._hurried.set()

    async def _cancel_when_hurried(self, scope: anyio.CancelScope) -> None:
        await self._hurried.wait()
        scope.cancel()

    async def _wait_for_none(self) -> None:
        if self._scopes:
            if self._none.is_set():
                self._none = anyio.Event()
            await self._none.wait()


class InFlightMiddleware:
    """Counts the requests of an ASGI application, and answers their errors."""

    def __init__(self, app: ASGIApp, in_flight: InFlight) -> None:
        self._app = app
        self._in_flight = in_flight

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})  # 403: nothing here speaks it
        elif scope["type"] != "http":
            await self._app(scope, receive, send)
        else:
            await self._in_flight.serve(HttpExchange(scope, receive, send), self._pass_on)

    async def _pass_on(self, exchange: HttpExchange) -> None:
        await self._app(exchange.scope, exchange.receive, exchange.send)
