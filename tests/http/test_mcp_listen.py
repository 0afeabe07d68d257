"""`subscriptions/listen`: the one stream of the agent plane, which a client may hold all along."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import httpx2
import pytest

from gymhost import testing
from gymhost.config import EnvironmentConfig
from gymhost.http.mcp import TOKEN_HEADER
from gymhost.limits import Limits
from tests.http.wire import (
    HANDSHAKE,
    META,
    MODERN,
    Connection,
    Notebook,
    Post,
    call,
    http_client,
    post,
    seed_token,
    send,
)

PATH = "/envs/notebook/mcp"
METHOD = "subscriptions/listen"
REFUSED = (400, -32600)


@dataclass
class Plane:
    client: testing.InProcessClient
    http: httpx2.AsyncClient


@pytest.fixture
async def plane() -> AsyncGenerator[Plane]:
    config = EnvironmentConfig(plugin=Notebook, limits=Limits(open_sessions=2))
    environments = {"notebook": config, "other": Notebook}
    async with testing.client(environments) as client, http_client(client.app) as http:
        yield Plane(client, http)


def listen(token: str | None, request_id: int = 7, **wanted: bool) -> Post:
    notifications = wanted or {"toolsListChanged": True}
    return post(
        MODERN, METHOD, {"notifications": notifications}, token=token, request_id=request_id
    )


async def event(connection: Connection) -> tuple[dict[str, Any], bool]:
    """The next event of a stream, and whether it is the last."""
    piece, last = await connection.piece()
    name, data = piece.decode().removesuffix("\r\n\r\n").split("\r\n")
    assert name == "event: message"
    message: dict[str, Any] = json.loads(data.removeprefix("data: "))
    return message, last


@asynccontextmanager
async def listening(plane: Plane, sent: Post) -> AsyncGenerator[Connection]:
    """Hold a stream open; its client hangs up at the end."""
    connection = Connection(plane.client.app, PATH, sent)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(connection.run)
            start = await connection.start()
            assert start["status"] == 200
            assert dict(start["headers"])[b"content-type"] == b"text/event-stream"
            yield connection
            connection.leave()
    connection.close()


async def test_an_authorised_client_is_told_that_it_listens(plane: Plane) -> None:
    token = await seed_token(plane.client, "notebook")
    async with listening(plane, listen(token)) as stream:
        acknowledged, last = await event(stream)
        assert not last
        assert acknowledged["method"] == "notifications/subscriptions/acknowledged"
        assert acknowledged["params"]["_meta"] == {META + "subscriptionId": 7}
        assert acknowledged["params"]["notifications"] == {"toolsListChanged": True}
        await anyio.wait_all_tasks_blocked()
        assert not stream.ended.is_set()


async def test_the_whole_rollout_fits_beside_an_open_stream(plane: Plane) -> None:
    async with plane.client.episode("notebook") as episode:
        assert episode.seeded.mcp is not None
        token = episode.seeded.mcp.headers[TOKEN_HEADER]
        async with listening(plane, listen(token)) as stream:
            await event(stream)
            assert (await episode.call_tool("write", {"note": "one"})).text == "one"
            assert (await episode.call_tool("write", {"note": "two"})).text == "one\ntwo"
            assert (await episode.verify())["reward"] == 2.0
            await anyio.wait_all_tasks_blocked()
            assert not stream.ended.is_set()


async def test_a_client_that_hangs_up_leaves_nothing_behind(plane: Plane) -> None:
    token = await seed_token(plane.client, "notebook")
    for _ in range(5):  # more than may be open at once
        async with listening(plane, listen(token)) as stream:
            await event(stream)
            assert plane.client.app.in_flight.count == 1
        assert plane.client.app.in_flight.count == 0


async def test_streams_are_limited_and_a_closed_one_makes_room(plane: Plane) -> None:
    token = await seed_token(plane.client, "notebook")
    async with listening(plane, listen(token, 1)) as first:
        await event(first)
        async with listening(plane, listen(token, 2)) as second:
            await event(second)
            answer = await send(plane.http, PATH, listen(token, 3))
            assert (answer.status, answer.kind) == (200, -32603)
            good = await send(plane.http, PATH, call(MODERN, "write", token, note="good"))
            assert good.tool_text == "good"
        async with listening(plane, listen(token, 4)) as third:
            assert (await event(third))[0]["params"]["_meta"] == {META + "subscriptionId": 4}


async def test_a_drain_ends_open_streams_at_once_and_in_good_order(plane: Plane) -> None:
    token = await seed_token(plane.client, "notebook")
    async with listening(plane, listen(token, 1)) as first:
        async with listening(plane, listen(token, 2)) as second:
            for stream in (first, second):
                await event(stream)
            # the grace is for running calls: it is far longer than this test may take
            assert await plane.client.app.drain(600) == 0
            for request_id, stream in ((1, first), (2, second)):
                ended, last = await event(stream)
                assert last
                assert ended["id"] == request_id
                assert ended["result"]["_meta"][META + "subscriptionId"] == request_id
                await stream.ended.wait()
    answer = await send(plane.http, PATH, listen(token))
    assert (answer.status, answer.kind) == (200, -32603)
    assert answer.body["error"]["message"] == "The server is stopping"


@pytest.mark.parametrize("how", ["none", "empty", "invalid", "foreign", "closed", "verified"])
async def test_listening_needs_the_token_of_a_living_session(plane: Plane, how: str) -> None:
    seeded = await plane.client.seed("notebook")
    assert seeded.mcp is not None
    token = seeded.mcp.headers[TOKEN_HEADER]
    named = {"session_id": seeded.session_id}
    bad: str | None = token
    match how:
        case "none":
            bad = None
        case "empty":
            bad = ""
        case "invalid":
            bad = token[:-1]
        case "foreign":
            bad = await seed_token(plane.client, "other")
        case "closed":
            await plane.client.request("POST", "/envs/notebook/close_session", named)
        case "verified":
            await plane.client.request("POST", "/envs/notebook/verify", named)
    answer = await send(plane.http, PATH, listen(bad))
    assert (answer.status, answer.kind) == REFUSED
    assert TOKEN_HEADER in answer.body["error"]["message"]

    good = await seed_token(plane.client, "notebook")
    async with listening(plane, listen(good)) as stream:
        await event(stream)


@pytest.mark.parametrize("version", HANDSHAKE)
async def test_older_versions_have_no_streams(plane: Plane, version: str) -> None:
    token = await seed_token(plane.client, "notebook")
    sent = post(version, METHOD, {"notifications": {}}, token=token)
    answer = await send(plane.http, PATH, sent)
    assert (answer.status, answer.kind) == (200, -32601)


async def test_a_listen_that_names_nothing_is_refused_as_such(plane: Plane) -> None:
    token = await seed_token(plane.client, "notebook")
    answer = await send(plane.http, PATH, post(MODERN, METHOD, {"notifications": 5}, token=token))
    assert (answer.status, answer.kind) == (400, -32602)


async def test_one_session_can_not_take_every_stream() -> None:
    limits = Limits(open_sessions=50, session_queue=1)
    config = EnvironmentConfig(plugin=Notebook, limits=limits)
    async with testing.client({"notebook": config}) as client, http_client(client.app) as http:
        plane = Plane(client, http)
        token = await seed_token(client, "notebook")
        other = await seed_token(client, "notebook")
        async with listening(plane, listen(token)) as held:
            await event(held)
            refused = await send(http, PATH, listen(token))
            assert (refused.status, refused.kind) == REFUSED
            async with listening(plane, listen(other)) as others:
                await event(others)
        async with listening(plane, listen(token)) as again:
            await event(again)
        assert client.host.mounts["notebook"].limits_hit == {"session_queue": 1}
