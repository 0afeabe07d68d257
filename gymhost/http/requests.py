"""The requests in flight: counted, drained before a stop, and cancelled after the grace."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
from starlette.types import ASGIApp, Receive, Scope, Send

from gymhost.deadlines import Interrupted
from gymhost.errors import OverCapacity, RequestError
from gymhost.http.http_exchange import HttpExchange
from gymhost.http.problems import answer_to, problem

__all__ = ["InFlight", "InFlightMiddleware"]

# What a cancelled request gets to record what it has done.
CANCEL_SECONDS = 2.0


class InFlight:
    """What the server waits for when it stops."""

    def __init__(self) -> None:
        self._running: dict[HttpExchange, anyio.CancelScope | None] = {}
        """Each request, and what cancels it."""
        self._none = anyio.Event()
        self._hurried = anyio.Event()

    @property
    def count(self) -> int:
        """Requests being answered."""
        return len(self._running)

    async def serve(
        self, exchange: HttpExchange, answer: Callable[[HttpExchange], Awaitable[None]]
    ) -> None:
        """Count a request, answer it or its error, and take what is left of its body.

        One that stays has no scope of its own, which would cost as much as its tool: whatever it
        may wait for is interrupted in the host. One that waits for its body is answered by `drain`.
        """
        if exchange.stays:
            self._running[exchange] = None
            await self._answer(exchange, answer)
        else:
            with anyio.CancelScope() as scope:
                self._running[exchange] = scope
                await self._answer(exchange, answer)
            if scope.cancelled_caught:
                await self._answer_stopped(exchange)
        if exchange.end_held:
            await exchange.finish()

    async def _answer(
        self, exchange: HttpExchange, answer: Callable[[HttpExchange], Awaitable[None]]
    ) -> None:
        try:
            await answer(exchange)
        except Interrupted:
            await self._answer_stopped(exchange)
        except Exception as exc:
            if exchange not in self._running:  # a stop has answered it, and closes the connection
                exchange.end_held = False
                return
            if exchange.started:
                raise
            await exchange.answer(answer_to(exc))
            if not isinstance(exc, RequestError):
                raise  # for the server, which logs it
        finally:
            self._running.pop(exchange, None)
            if not self._running:
                self._none.set()

    async def _answer_stopped(self, exchange: HttpExchange) -> None:
        if not exchange.started:
            await exchange.answer(problem(OverCapacity("The server is stopping.")))

    async def drain(self, grace: float, interrupt: Callable[[], None] = lambda: None) -> int:
        """Wait up to `grace` seconds for the requests to end, cancel the rest, and count those.

        `interrupt` ends what those wait for that have no scope of their own.
        """
        async with anyio.create_task_group() as tasks:
            tasks.cancel_scope.deadline = anyio.current_time() + grace
            tasks.start_soon(self._cancel_when_hurried, tasks.cancel_scope)
            await self._wait_for_none()
            tasks.cancel_scope.cancel()
        left = list(self._running.items())
        if left:
            interrupt()
        with anyio.move_on_after(CANCEL_SECONDS):
            async with anyio.create_task_group() as tasks:
                for exchange, scope in left:
                    if scope is not None:
                        scope.cancel()
                    elif not exchange.body_ended:
                        # it waits for its client alone, and then for the end of its connection
                        self._running.pop(exchange, None)
                        tasks.start_soon(self._answer_stopped, exchange)
            await self._wait_for_none()
        return len(left)

    def hurry(self) -> None:
        """End the grace."""
        self._hurried.set()

    async def _cancel_when_hurried(self, scope: anyio.CancelScope) -> None:
        await self._hurried.wait()
        scope.cancel()

    async def _wait_for_none(self) -> None:
        if self._running:
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
