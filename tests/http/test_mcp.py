"""The agent plane as a place: its paths and methods, its limits, its secrets, its end."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import anyio
import httpx2
import pytest

from gymhost import Task, testing
from gymhost.config import EnvironmentConfig
from gymhost.errors import StoreError
from gymhost.host import Host
from gymhost.http.app import create_app
from gymhost.http.auth import KeyGuard
from gymhost.http.mcp import TOKEN_HEADER
from gymhost.limits import Limits
from gymhost.models import SeedAnswer
from tests.faulty_store import FaultyStore
from tests.http.wire import (
    ANSWER,
    CLIENT,
    CRASH,
    ERAS,
    HANDSHAKE,
    MODERN,
    NOTE,
    VERSIONS,
    Connection,
    Echo,
    Notebook,
    call,
    check_answer,
    exchange,
    http_client,
    post,
    seed_token,
    send,
)
from tests.http.wire_table import MODERN_ONLY, TABLE

PATH = "/envs/notebook/mcp"


@dataclass
class Plane:
    client: testing.InProcessClient
    http: httpx2.AsyncClient

    @property
    def notebook(self) -> Notebook:
        instance = self.client.host.mounts["notebook"].instance
        assert isinstance(instance, Notebook)
        return instance


@pytest.fixture
async def plane() -> AsyncGenerator[Plane]:
    limits = Limits(session_queue=1, calls_in_flight=3)
    config = EnvironmentConfig(plugin=Notebook, limits=limits)
    async with (
        testing.client({"notebook": config}) as client,
        http_client(client.app) as http,
    ):
        yield Plane(client, http)


def token_of(seeded: SeedAnswer) -> str:
    assert seeded.mcp is not None
    return seeded.mcp.headers[TOKEN_HEADER]


@pytest.mark.parametrize("path", [PATH, f"{PATH}/"])
@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS"])
async def test_only_post_is_taken(plane: Plane, method: str, path: str) -> None:
    token = await seed_token(plane.client, "notebook")
    for headers in ({}, {TOKEN_HEADER: token, "mcp-session-id": "x"}, {"accept": "text/html"}):
        response = await plane.http.request(method, path, headers=headers)
        assert (response.status_code, response.headers["allow"]) == (405, "POST")
        assert response.content == b""
    answer = await send(plane.http, path, call(MODERN, "write", token, note="good"))
    assert answer.tool_text == "good"


@pytest.mark.parametrize("version", VERSIONS)
async def test_both_slash_forms_are_one_endpoint_without_a_redirect(
    plane: Plane, version: str
) -> None:
    token = await seed_token(plane.client, "notebook")
    for path, notes in ((PATH, "a"), (f"{PATH}/", "a\nb"), (f"{PATH}?x=1", "a\nb\nc")):
        sent = call(version, "write", token, note=notes[-1])
        assert (await send(plane.http, path, sent)).tool_text == notes


@pytest.mark.parametrize(
    "path",
    [
        f"{PATH}/more",
        f"{PATH}/mcp",
        f"{PATH}x",
        "/envs/notebook/MCP",
        "/envs/notebook//mcp",
        "/mcp",
    ],
)
async def test_other_paths_are_not_the_endpoint(plane: Plane, path: str) -> None:
    token = await seed_token(plane.client, "notebook")
    key = {"authorization": f"Bearer {plane.client.key}"}
    sent = call(MODERN, "write", token, note="no").with_headers(**key)
    response = await plane.http.post(path, json=sent.body, headers=sent.headers)
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    good = await send(plane.http, PATH, call(MODERN, "write", token, note="good"))
    assert good.tool_text == "good"


async def test_only_tools_are_advertised(plane: Plane) -> None:
    for version in HANDSHAKE:
        params = {"protocolVersion": version, "capabilities": {}, "clientInfo": CLIENT}
        answer = await send(plane.http, PATH, post(version, "initialize", params))
        assert answer.result["capabilities"] == {"tools": {"listChanged": False}}
        assert answer.result["protocolVersion"] == version
        assert answer.result["serverInfo"]["name"] == "notebook"
    answer = await send(plane.http, PATH, post(MODERN, "server/discover"))
    # 2026-07-28 has one way to be told of changes, which is served
    assert answer.result["capabilities"] == {"tools": {"listChanged": True}}
    assert MODERN in answer.result["supportedVersions"]


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_first_requests_may_come_at_once(plane: Plane, version: str) -> None:
    kinds = []

    async def listed() -> None:
        kinds.append((await send(plane.http, PATH, post(version, "tools/list"))).kind)

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(listed)
    assert kinds == ["result"] * 10


async def test_a_client_that_never_sends_a_version_is_served(plane: Plane) -> None:
    token = await seed_token(plane.client, "notebook")
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": CLIENT}
    answers = [
        await send(plane.http, PATH, sent.with_headers(mcp_protocol_version=None))
        for sent in (
            post(HANDSHAKE[0], "initialize", params, token=token),
            post(HANDSHAKE[0], "notifications/initialized", token=token).without("id"),
            post(HANDSHAKE[0], "tools/list", token=token),
            call(HANDSHAKE[0], "write", token, note="good"),
        )
    ]
    assert [answer.status for answer in answers] == [200, 202, 200, 200]
    assert answers[-1].tool_text == "good"


@pytest.mark.parametrize("version", ERAS)
async def test_a_session_hangs_on_its_token_and_not_on_a_session_id(
    plane: Plane, version: str
) -> None:
    token = await seed_token(plane.client, "notebook")
    for session_id, notes in ((None, "a"), ("x", "a\nb"), ("y" * 1_000, "a\nb\nc")):
        sent = call(version, "write", token, note=notes[-1])
        answer = await send(plane.http, PATH, sent.with_headers(mcp_session_id=session_id))
        assert answer.tool_text == notes


async def test_hosts_are_not_checked_until_they_are_named(plane: Plane) -> None:
    sent = post(MODERN, "tools/list")
    anywhere = sent.with_headers(host="10.0.0.7:8000", origin="https://elsewhere.example")
    assert (await send(plane.http, PATH, anywhere)).kind == "result"

    host = Host({"echo": Echo}, discover=False)
    app = create_app(host, KeyGuard(["key"]), mcp_allowed_hosts=["gym.example:8000", "inner:*"])
    async with app.router.lifespan_context(app), http_client(app) as http:
        for version in VERSIONS:
            for name, status in (
                ("gym.example:8000", 200),
                ("inner:7", 200),
                ("gym.example", 421),
                ("evil.example", 421),
            ):
                sent = post(version, "tools/list").with_headers(host=name)
                assert (await send(http, "/envs/echo/mcp", sent)).status == status
            page = post(version, "tools/list").with_headers(host="inner:7", origin="http://evil")
            assert (await exchange(http, "/envs/echo/mcp", page)).status == 403


@pytest.mark.parametrize("version", ERAS)
async def test_a_call_whose_client_leaves_runs_to_its_end_and_into_the_record(
    plane: Plane, version: str
) -> None:
    seeded = await plane.client.seed("notebook")
    sent = call(version, "wait", token_of(seeded), note="after all")
    connection = Connection(plane.client.app, PATH, sent)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(connection.run)
            await plane.notebook.entered.wait()
            connection.leave()
            await anyio.wait_all_tasks_blocked()
            plane.notebook.go_on.set()
    connection.close()
    record = await plane.client.session(seeded.session_id)
    (recorded,) = record["calls"]
    assert (recorded["name"], recorded["result"]) == ("wait", "after all")
    assert recorded["duration"] > 0
    assert record["state"]["notes"] == ["after all"]


@pytest.mark.parametrize("version", ERAS)
async def test_a_call_whose_client_leaves_before_its_turn_never_starts(
    plane: Plane, version: str
) -> None:
    seeded = await plane.client.seed("notebook")
    token = token_of(seeded)
    first = Connection(plane.client.app, PATH, call(version, "wait", token))
    second = Connection(plane.client.app, PATH, call(version, "write", token, note="never"))
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(first.run)
            await plane.notebook.entered.wait()
            tasks.start_soon(second.run)
            await anyio.wait_all_tasks_blocked()
            assert not second.ended.is_set()
            second.leave()
            await second.ended.wait()
            plane.notebook.go_on.set()
    first.close()
    second.close()
    record = await plane.client.session(seeded.session_id)
    assert [call["name"] for call in record["calls"]] == ["wait"]
    third = await send(plane.http, PATH, call(version, "write", token, note="good"))
    assert third.tool_text == "waited\ngood"


@pytest.mark.parametrize("version", ERAS)
async def test_calls_on_one_token_take_turns_and_too_many_are_a_tool_error(
    plane: Plane, version: str
) -> None:
    token = await seed_token(plane.client, "notebook")
    other = await seed_token(plane.client, "notebook")
    texts: dict[str, str] = {}

    async def make_call(name: str, token: str, **arguments: Any) -> None:
        answer = await send(plane.http, PATH, call(version, name, token, **arguments))
        assert answer.status == 200
        texts[arguments.get("note", name)] = answer.tool_text

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: make_call("wait", token))
            await plane.notebook.entered.wait()
            tasks.start_soon(lambda: make_call("write", token, note="second"))
            await anyio.wait_all_tasks_blocked()
            assert texts == {}
            await make_call("write", token, note="third")
            assert texts == {"third": "This session has 1 calls waiting already."}
            tasks.start_soon(lambda: make_call("wait", other))
            await anyio.wait_all_tasks_blocked()
            await make_call("write", other, note="fourth")
            assert texts["fourth"] == "The server is busy. Try again in a moment."
            plane.notebook.go_on.set()
    assert texts["second"] == "waited\nsecond"


@pytest.mark.parametrize("version", ERAS)
async def test_a_stopping_server_refuses_new_calls_and_lets_running_ones_end(
    plane: Plane, version: str
) -> None:
    token = await seed_token(plane.client, "notebook")
    cancelled: list[int] = []
    answers = []

    async def drain() -> None:
        cancelled.append(await plane.client.app.drain(60))

    async def wait() -> None:
        answers.append(await send(plane.http, PATH, call(version, "wait", token)))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await plane.notebook.entered.wait()
            tasks.start_soon(drain)
            await anyio.wait_all_tasks_blocked()
            late = await send(plane.http, PATH, call(version, "write", token, note="late"))
            assert (late.kind, late.tool_text) == ("tool error", "The server is stopping.")
            assert (await send(plane.http, PATH, post(version, "tools/list"))).kind == "result"
            plane.notebook.go_on.set()
    assert cancelled == [0]
    assert answers[0].tool_text == "waited"


@pytest.mark.parametrize("version", ERAS)
async def test_a_store_that_fails_is_a_tool_error_and_says_nothing_of_itself(version: str) -> None:
    store = FaultyStore()
    async with (
        testing.client({"notebook": Notebook}, store=store) as client,
        http_client(client.app) as http,
    ):
        token = await seed_token(client, "notebook", tools=["write"])
        client.host.registry._minted.clear()  # as where another process has minted the token
        store.broken["find"] = StoreError(CRASH)
        answer = await send(http, PATH, call(version, "write", token, note="no"))
        assert answer.kind == "tool error"
        assert answer.tool_text == "The tool call could not begin. Try again."
        listed = await send(http, PATH, post(version, "tools/list", token=token))
        assert len(listed.result["tools"]) == 5

        store.broken["find"] = RuntimeError(CRASH)
        for sent in (
            call(version, "write", token, note="no"),
            post(version, "tools/list", token=token),
        ):
            answer = await send(http, PATH, sent)
            assert (answer.status, answer.kind) == (200, -32603)
            assert answer.body["error"] == {"code": -32603, "message": "Internal server error"}

        store.broken.clear()
        answer = await send(http, PATH, call(version, "write", token, note="good"))
        assert answer.tool_text == "good"


@pytest.mark.parametrize("version", VERSIONS)
async def test_nothing_secret_is_in_any_answer(plane: Plane, version: str) -> None:
    # what send() looks for is planted first: in tasks, in another session, and in a crash
    seeded = await plane.client.seed("notebook", Task(verifier_metadata={"answer": ANSWER}))
    token = token_of(seeded)
    theirs = await seed_token(plane.client, "notebook", answer=ANSWER)
    planted = await exchange(plane.http, PATH, call(version, "write", theirs, note=NOTE))
    assert NOTE in planted.text
    state = (await plane.client.session(seeded.session_id))["state"]
    assert state["answer"] == ANSWER

    rows = TABLE + (MODERN_ONLY if version == MODERN else [])
    for sent in (
        *(row.sent(version, token) for row in rows),
        call(version, "write", token, note="mine"),
        call(version, "crash", token),
        call(version, "refuse", token, why="because"),
        call(version, "write", token),
        call(version, "write", token, note={"answer": [1]}),
        call(version, "write", token, note="x", more="y"),
        call(version, "seed", token),
        call(version, "verify", token),
        call(version, "mirror", theirs, value=1),
    ):
        await send(plane.http, PATH, sent)
    for method in ("GET", "DELETE", "OPTIONS"):
        response = await plane.http.request(method, PATH)
        assert response.content == b""
    record = await plane.client.session(seeded.session_id)
    crashed = [call for call in record["calls"] if call["name"] == "crash"]
    assert [call["error"] for call in crashed] == ["The tool failed."]


@pytest.mark.parametrize("version", ERAS)
@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("refuse", {"why": "no such city: 東京"}, "no such city: 東京"),
        ("crash", {}, "The tool failed."),
        ("nothing", {}, "There is no tool named 'nothing'."),
        ("verify", {}, "There is no tool named 'verify'."),
        ("write", {}, "Invalid arguments for 'write': missing argument 'note'. It takes: note."),
        (
            "write",
            {"note": "x", "session": "y"},
            "Invalid arguments for 'write': unknown argument 'session'. It takes: note.",
        ),
        (
            "write",
            {"note": ["a secret of the input"]},
            "Invalid arguments for 'write': note: Input should be a valid string. It takes: note.",
        ),
    ],
)
async def test_what_goes_wrong_in_a_call_is_a_tool_error_in_plain_words(
    plane: Plane, version: str, name: str, arguments: dict[str, Any], said: str
) -> None:
    token = await seed_token(plane.client, "notebook")
    answer = await send(plane.http, PATH, call(version, name, token, **arguments))
    assert (answer.status, answer.kind, answer.tool_text) == (200, "tool error", said)
    good = await send(plane.http, PATH, call(version, "write", token, note="good"))
    assert good.tool_text == "good"


async def test_a_call_without_arguments_may_leave_them_out(plane: Plane) -> None:
    token = await seed_token(plane.client, "notebook")
    plane.notebook.go_on.set()
    for version in VERSIONS:
        for params in ({"name": "wait"}, {"name": "wait", "arguments": {}}):
            sent = post(version, "tools/call", params, token=token)
            assert (await send(plane.http, PATH, sent)).tool_text == "waited"
        null = post(version, "tools/call", {"name": "wait", "arguments": None}, token=token)
        check_answer(await exchange(plane.http, PATH, null))
