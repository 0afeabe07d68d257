"""The requests in flight: counted, drained before a stop, and cancelled after the grace."""

from __future__ import annotations

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gymhost.errors import OverCapacity, RequestError
from gymhost.http.problems import answer_to, problem

__all__ = ["InFlight", "InFlightMiddleware"]

# What a cancelled request gets to record what it has done.
CANCEL_SECONDS = 2.0
# How long the rest of a body is taken that was answered before it had come.
LINGER_SECONDS = 10.0


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

    def begin(self, scope: anyio.CancelScope) -> None:
        """Count a request, which its scope cancels."""
        self._scopes.add(scope)

    def end(self, scope: anyio.CancelScope) -> None:
        """Forget a request."""
        self._scopes.discard(scope)
        if not self._scopes:
            self._none.set()

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
    """Counts each request, answers its error, and takes what is left of a body answered early."""

    def __init__(self, app: ASGIApp, in_flight: InFlight) -> None:
        self._app = app
        self._in_flight = in_flight

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})  # 403: nothing here speaks it
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(receive, send)
        with anyio.CancelScope() as cancel_scope:
            self._in_flight.begin(cancel_scope)
            try:
                await self._app(scope, exchange.receive, exchange.send)
            except Exception as exc:
                if exchange.started:
                    raise
                await answer_to(exc)(scope, receive, exchange.send)
                if not isinstance(exc, RequestError):
                    raise  # for the server, which logs it
            finally:
                self._in_flight.end(cancel_scope)
        if cancel_scope.cancelled_caught and not exchange.started:
            await problem(OverCapacity("The server is stopping."))(scope, receive, exchange.send)
        await exchange.finish()


class _Exchange:
    """One request's `receive` and `send`, which keep an early answer from ending too early.

    hypercorn closes the connection when an answer ends before its body has come. What is still
    on its way then makes the kernel reset the connection, and the client may never read the
    answer; and over HTTP/2, hypercorn fails over it. The app queue is the other trap: it holds
    ten pieces of a body, and ending an answer waits for room in it, for ever if nobody reads.
    """

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._body_ended = False
        self._end_held = False
        self.started = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body"):
            self._body_ended = True
        return message

    async def send(self, message: Message) -> None:
        self.started = True
        ends = message["type"] == "http.response.body" and not message.get("more_body")
        if ends and not self._body_ended:
            self._end_held = True
            message = {**message, "more_body": True}
        await self._send(message)

    async def finish(self) -> None:
        """End an answer that is held, when its body has come, or has had its time."""
        if not self._end_held:
            return
        with anyio.move_on_after(LINGER_SECONDS):
            await self._discard()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._discard)
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
            tasks.cancel_scope.cancel()

    async def _discard(self) -> None:
        while not self._body_ended:
            await self.receive()
