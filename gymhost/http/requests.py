"""The requests in flight: counted, drained before a stop, and cancelled after the grace."""

from __future__ import annotations

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gymhost.errors import OverCapacity
from gymhost.http.problems import problem

__all__ = ["InFlight", "InFlightMiddleware"]


class InFlight:
    """What the server waits for when it stops."""

    def __init__(self) -> None:
        self._scopes: set[anyio.CancelScope] = set()
        self._none: anyio.Event | None = None

    @property
    def count(self) -> int:
        """Requests being answered."""
        return len(self._scopes)

    def begin(self, scope: anyio.CancelScope) -> None:
        """Count a request, which its scope cancels."""
        self._scopes.add(scope)

    def end(self, scope: anyio.CancelScope) -> None:
        """Forget a request."""
        self._scopes.discard(scope)
        if not self._scopes and self._none is not None:
            self._none.set()

    async def drain(self, grace: float) -> int:
        """Wait up to `grace` seconds for the requests to end, cancel the rest, and count those."""
        if self._scopes:
            self._none = anyio.Event()
            with anyio.move_on_after(grace):
                await self._none.wait()
        left = list(self._scopes)
        for scope in left:
            scope.cancel()
        return len(left)


class InFlightMiddleware:
    """Counts each request, and takes what is left of a body that was answered early."""

    def __init__(self, app: ASGIApp, in_flight: InFlight) -> None:
        self._app = app
        self._in_flight = in_flight

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(receive, send)
        with anyio.CancelScope() as cancel_scope:
            self._in_flight.begin(cancel_scope)
            try:
                await self._app(scope, exchange.receive, exchange.send)
            finally:
                self._in_flight.end(cancel_scope)
        if cancel_scope.cancelled_caught and not exchange.started:
            await problem(OverCapacity("The server is stopping."))(scope, receive, exchange.send)


class _Exchange:
    """One request's `receive` and `send`."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._body_ended = False
        self.started = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body"):
            self._body_ended = True
        return message

    async def send(self, message: Message) -> None:
        self.started = True
        if self._body_ended or message.get("more_body") or "body" not in message:
            await self._send(message)
            return
        # hypercorn holds ten pieces of a body, and waits for room with the connection's own task:
        # an answer that ends before its body has come would wait for ever
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._discard)
            await self._send(message)
            tasks.cancel_scope.cancel()

    async def _discard(self) -> None:
        while not self._body_ended:
            await self.receive()
