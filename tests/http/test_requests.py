"""Requests in flight, drained and cancelled; and bodies that are answered before they have come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest
from starlette.types import Message, Receive, Scope, Send

from gymhost.http import http_exchange, requests
from gymhost.http.requests import InFlight, InFlightMiddleware

SCOPE: Scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
PIECE: Message = {"type": "http.request", "body": b"x", "more_body": True}
LAST: Message = {"type": "http.request", "body": b"", "more_body": False}


class Wire:
    """A server's side of one request: `given` is received in order, then nothing."""

    def __init__(self, *given: Message) -> None:
        self._given = list(given)
        self.sent: list[Message] = []
        self.received = 0

    async def receive(self) -> Message:
        if not self._given:
            await anyio.sleep_forever()
        self.received += 1
        return self._given.pop(0)

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        status: int = self.sent[0]["status"]
        return status

    @property
    def ended(self) -> bool:
        """Whether the answer has ended."""
        return self.sent[-1]["type"] == "http.response.body" and not self.sent[-1]["more_body"]


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer without a look at the body."""
    await send({"type": "http.response.start", "status": 401, "headers": []})
    await send({"type": "http.response.body", "body": b"no"})


async def test_requests_are_counted_while_they_are_answered() -> None:
    in_flight = InFlight()
    counts = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        counts.append(in_flight.count)
        raise RuntimeError("and forgotten however they end")

    with pytest.raises(RuntimeError):
        await InFlightMiddleware(app, in_flight)(SCOPE, Wire().receive, Wire().send)
    assert counts == [1]
    assert in_flight.count == 0


async def test_without_requests_a_drain_is_over_at_once() -> None:
    with anyio.fail_after(5):
        assert await InFlight().drain(3600) == 0


class Waiting:
    """An application whose requests wait to be let go on."""

    def __init__(self) -> None:
        self.started = anyio.Event()
        self.go_on = anyio.Event()
        self.wound_up = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.started.set()
        try:
            await self.go_on.wait()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
                self.wound_up = True
        await refuse(scope, receive, send)


async def drain(in_flight: InFlight, grace: float, results: list[int]) -> None:
    results.append(await in_flight.drain(grace))


async def test_a_drain_waits_for_the_requests_to_end() -> None:
    in_flight, app, wire, results = InFlight(), Waiting(), Wire(LAST), list[int]()
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(InFlightMiddleware(app, in_flight), SCOPE, wire.receive, wire.send)
            await app.started.wait()
            tasks.start_soon(drain, in_flight, 3600, results)
            await anyio.wait_all_tasks_blocked()
            assert results == []
            app.go_on.set()
    assert results == [0]
    assert wire.status == 401


@pytest.mark.parametrize("hurried", [False, True])
async def test_what_does_not_end_in_the_grace_is_cancelled_and_told(hurried: bool) -> None:
    in_flight, app, wire = InFlight(), Waiting(), Wire(LAST)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(InFlightMiddleware(app, in_flight), SCOPE, wire.receive, wire.send)
            await app.started.wait()
            if hurried:
                in_flight.hurry()
            assert await in_flight.drain(3600 if hurried else 0) == 1
            assert app.wound_up  # drain waits for what cancelled requests still record
            assert in_flight.count == 0
    assert wire.status == 503
    assert b"stopping" in wire.sent[1]["body"]
    assert wire.ended


async def test_a_hurry_ends_a_drain_that_has_begun() -> None:
    in_flight, app, wire, results = InFlight(), Waiting(), Wire(LAST), list[int]()
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(InFlightMiddleware(app, in_flight), SCOPE, wire.receive, wire.send)
            await app.started.wait()
            tasks.start_soon(drain, in_flight, 3600, results)
            await anyio.wait_all_tasks_blocked()
            in_flight.hurry()
    assert results == [1]


async def test_a_request_that_does_not_wind_up_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(requests, "CANCEL_SECONDS", 0.01)
    in_flight, go_on, started = InFlight(), anyio.Event(), anyio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with anyio.CancelScope(shield=True):
            started.set()
            await go_on.wait()

    wire = Wire(LAST)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(InFlightMiddleware(app, in_flight), SCOPE, wire.receive, wire.send)
            await started.wait()
            assert await in_flight.drain(0) == 1
            assert in_flight.count == 1
            go_on.set()


async def test_a_request_cancelled_in_its_answer_is_not_answered_twice() -> None:
    in_flight, started = InFlight(), anyio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        started.set()
        await anyio.sleep_forever()

    wire = Wire(LAST)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(InFlightMiddleware(app, in_flight), SCOPE, wire.receive, wire.send)
            await started.wait()
            assert await in_flight.drain(0) == 1
    assert [message["type"] for message in wire.sent] == ["http.response.start"]


@pytest.mark.parametrize(
    "body", [[LAST], [PIECE, LAST], [PIECE] * 30 + [LAST], [PIECE, {"type": "http.disconnect"}]]
)
async def test_an_early_answer_goes_out_at_once_and_ends_after_its_body(
    body: list[Message],
) -> None:
    wire = Wire(*body)
    had_answer_after: list[int] = []

    async def receive() -> Message:
        assert wire.sent[1] == {"type": "http.response.body", "body": b"no", "more_body": True}
        had_answer_after.append(wire.received)
        return await wire.receive()

    with anyio.fail_after(5):
        await InFlightMiddleware(refuse, InFlight())(SCOPE, receive, wire.send)
    assert had_answer_after[0] == 0
    assert wire.received == len(body)
    assert wire.sent[2:] == [{"type": "http.response.body", "body": b"", "more_body": False}]


async def test_an_early_answer_does_not_wait_for_ever_for_its_body(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_exchange, "LINGER_SECONDS", 0.01)
    wire = Wire(PIECE)
    with anyio.fail_after(5):
        await InFlightMiddleware(refuse, InFlight())(SCOPE, wire.receive, wire.send)
    assert wire.ended


async def test_what_still_comes_is_taken_while_an_answer_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """hypercorn ends an answer when there is room in the queue that the body comes through."""
    monkeypatch.setattr(http_exchange, "LINGER_SECONDS", 0)
    put, take = anyio.create_memory_object_stream[Message](10)
    with put, take:
        for _ in range(10):
            put.send_nowait(PIECE)

        async def send(message: Message) -> None:
            if message["type"] == "http.response.body" and not message["more_body"]:
                await put.send({"type": "http.disconnect"})

        with anyio.fail_after(5):
            await InFlightMiddleware(refuse, InFlight())(SCOPE, take.receive, send)


async def test_an_answer_to_a_body_that_has_come_ends_as_it_is() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await refuse(scope, receive, send)

    wire = Wire(LAST)
    await InFlightMiddleware(app, InFlight())(SCOPE, wire.receive, wire.send)
    assert wire.sent[-1] == {"type": "http.response.body", "body": b"no"}


async def test_a_websocket_is_refused() -> None:
    wire = Wire()
    scope = {"type": "websocket", "path": "/envs/diary"}
    await InFlightMiddleware(refuse, InFlight())(scope, wire.receive, wire.send)
    assert wire.sent == [{"type": "websocket.close"}]


async def test_the_lifespan_passes_through() -> None:
    passed: list[Any] = []

    async def app(scope: Scope, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        passed.append((scope, receive, send))

    wire = Wire()
    scope, receive, send = {"type": "lifespan"}, wire.receive, wire.send
    await InFlightMiddleware(app, InFlight())(scope, receive, send)
    assert passed == [(scope, receive, send)]
