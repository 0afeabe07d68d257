"""The bodies that the agent plane takes, whole, and those that it refuses without harm."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Any

import anyio
import httpx2
import pytest
from mcp.shared.inbound import encode_header_value
from starlette.types import Message

from gymhost import testing
from gymhost.config import EnvironmentConfig
from gymhost.http.mcp import TOKEN_HEADER
from gymhost.limits import Limits
from tests.http.wire import (
    ERAS,
    MODERN,
    Notebook,
    Post,
    asgi_scope,
    call,
    http_client,
    seed_token,
    send,
)

PATH = "/envs/notebook/mcp"
LIMIT = 20_000


@dataclass
class Plane:
    client: testing.InProcessClient
    http: httpx2.AsyncClient


@pytest.fixture(scope="module")
async def plane(anyio_backend: str) -> AsyncGenerator[Plane]:
    config = EnvironmentConfig(plugin=Notebook, limits=Limits(mcp_body_bytes=LIMIT))
    async with (
        testing.client({"notebook": config}) as client,
        http_client(client.app) as http,
    ):
        yield Plane(client, http)


@pytest.fixture
async def token(plane: Plane) -> str:
    return await seed_token(plane.client, "notebook")


async def mirrored(plane: Plane, sent: Post) -> Any:
    """The value that a mirror returns."""
    answer = await send(plane.http, PATH, sent)
    assert answer.kind == "result", answer
    return json.loads(answer.tool_text)["value"]


async def still_works(plane: Plane, version: str, token: str) -> bool:
    value: Any = await mirrored(plane, call(version, "mirror", token, value=["good"]))
    return bool(value == ["good"])


def padded(version: str, token: str, size: int) -> Post:
    """A call of exactly that many bytes."""
    short = call(version, "mirror", token, value="").content
    sent = call(version, "mirror", token, value="x" * (size - len(short)))
    assert len(sent.content) == size
    return sent


@pytest.mark.parametrize("version", ERAS)
async def test_a_body_of_the_limit_is_taken(plane: Plane, token: str, version: str) -> None:
    value = await mirrored(plane, padded(version, token, LIMIT))
    assert set(value) == {"x"}


@pytest.mark.parametrize("version", ERAS)
@pytest.mark.parametrize(
    ("declared", "pieces", "said"),
    [
        (b"20001", 0, "The body has 20001 bytes, more than the 20000 taken here."),
        (b"9" * 100, 0, f"The body has {'9' * 100} bytes, more than the 20000 taken here."),
        (None, 21, "The body has more than the 20000 bytes taken here."),
        (b"1000", 21, "The body has more than the 20000 bytes taken here."),
        (b"many", 21, "The body has more than the 20000 bytes taken here."),
    ],
    ids=["declared", "declared beyond measure", "chunked", "declared less", "no number"],
)
async def test_a_body_past_the_limit_is_413_before_it_is_read_whole(
    plane: Plane, token: str, version: str, declared: bytes | None, pieces: int, said: str
) -> None:
    sent = padded(version, token, LIMIT * 10)
    scope = asgi_scope(PATH, sent)
    if declared is not None:
        scope["headers"].append((b"content-length", declared))
    taken = 0
    taken_before_the_answer: list[int] = []
    body: list[bytes] = []

    async def receive() -> Message:
        nonlocal taken
        taken += 1
        piece = sent.content[(taken - 1) * 1_000 : taken * 1_000]
        return {"type": "http.request", "body": piece, "more_body": taken < 200}

    async def send_message(message: Message) -> None:
        if message["type"] == "http.response.start":
            assert message["status"] == 413
            taken_before_the_answer.append(taken)
        else:
            body.append(message["body"])

    with anyio.fail_after(5):
        await plane.client.app(scope, receive, send_message)
    assert taken_before_the_answer == [pieces]
    assert json.loads(b"".join(body)) == {
        "jsonrpc": "2.0",
        "id": None,
        "error": {"code": -32600, "message": said},
    }
    assert await still_works(plane, version, token)


@pytest.mark.parametrize("version", ERAS)
async def test_one_byte_past_the_limit_is_413(plane: Plane, token: str, version: str) -> None:
    answer = await send(plane.http, PATH, padded(version, token, LIMIT + 1))
    assert (answer.status, answer.kind) == (413, -32600)
    assert await still_works(plane, version, token)


@pytest.mark.parametrize("version", ERAS)
async def test_a_body_in_pieces_is_put_together(plane: Plane, token: str, version: str) -> None:
    sent = call(version, "mirror", token, value="in pieces: é")

    async def chunks() -> AsyncIterator[bytes]:
        for byte in json.dumps(sent.body, ensure_ascii=False).encode():
            yield bytes([byte])

    headers = [(name.encode(), str(value).encode()) for name, value in sent.headers.items()]
    response = await plane.http.post(PATH, content=chunks(), headers=headers)
    assert response.json()["result"]["structuredContent"] == {"value": "in pieces: é"}


@pytest.mark.parametrize("version", ERAS)
@pytest.mark.parametrize("pieces", [0, 1])
async def test_a_client_that_leaves_within_its_body_is_not_an_error_of_the_server(
    plane: Plane, token: str, version: str, pieces: int
) -> None:
    sent = call(version, "mirror", token, value=1)
    messages: list[Message] = [
        *[{"type": "http.request", "body": sent.content[:20], "more_body": True}] * pieces,
        {"type": "http.disconnect"},
    ]
    answered: list[Message] = []

    async def receive() -> Message:
        return messages.pop(0)

    async def send_message(message: Message) -> None:
        answered.append(message)

    # an error of the server would be raised here, and stand in the log with its traceback
    await plane.client.app(asgi_scope(PATH, sent), receive, send_message)
    assert answered[0]["status"] == 400
    assert await still_works(plane, version, token)


TEXTS = ["Zürich", "東京", "🌦️", "שלום", "\u0000\u0001\u001f", "\u2028\ufeff\ufffd", "\\ud800", '"']


@pytest.mark.parametrize("version", ERAS)
@pytest.mark.parametrize("ensure_ascii", [True, False])
async def test_non_ascii_arguments_and_results_are_whole(
    plane: Plane, version: str, ensure_ascii: bool
) -> None:
    seeded = await plane.client.seed("notebook")
    assert seeded.mcp is not None
    token = seeded.mcp.headers[TOKEN_HEADER]
    sent = call(version, "mirror", token, value={text: [text] for text in TEXTS})
    content = json.dumps(sent.body, ensure_ascii=ensure_ascii).encode()
    answer = await send(plane.http, PATH, Post(content, sent.headers))
    expected = {"value": {text: [text] for text in TEXTS}}
    assert json.loads(answer.tool_text) == expected
    assert answer.result["structuredContent"] == expected
    (recorded,) = (await plane.client.session(seeded.session_id))["calls"]
    assert recorded["arguments"] == expected


@pytest.mark.parametrize("version", ERAS)
@pytest.mark.parametrize("name", ["météo", "天気", "🌦️", "a b", " write", "write\n", ""])
async def test_a_tool_name_that_nobody_could_give_is_an_unknown_tool(
    plane: Plane, token: str, version: str, name: str
) -> None:
    sent = call(version, name, token)
    if version == MODERN:
        sent = sent.with_headers(mcp_name=encode_header_value(name))
    answer = await send(plane.http, PATH, sent)
    assert (answer.kind, answer.tool_text) == ("tool error", f"There is no tool named {name!r}.")
    assert await still_works(plane, version, token)


@pytest.mark.parametrize("version", ERAS)
@pytest.mark.parametrize(
    ("text", "read"),
    [
        (r"cut \ud83c", "cut \ufffd"),
        (r"\udf26 cut", "\ufffd cut"),
        (r"\uDF26\uD83C", "\ufffd\ufffd"),
        (r"\ud83c\ud83c\udf26", "\ufffd\U0001f326"),
        (r"\ud83c\udf26", "\U0001f326"),
        (r"\\ud83c", r"\ud83c"),
    ],
)
async def test_a_lone_surrogate_is_read_as_a_replacement_character(
    plane: Plane, version: str, text: str, read: str
) -> None:
    seeded = await plane.client.seed("notebook")
    assert seeded.mcp is not None
    token = seeded.mcp.headers[TOKEN_HEADER]
    for name in ("mirror", "refuse"):
        sent = call(version, name, token, **{"value" if name == "mirror" else "why": "HERE"})
        content = sent.content.replace(b"HERE", text.encode())
        answer = await send(plane.http, PATH, Post(content, sent.headers))
        assert read in (
            answer.tool_text if name == "refuse" else json.loads(answer.tool_text)["value"]
        )
    record = await plane.client.session(seeded.session_id)
    assert [call["arguments"] for call in record["calls"]] == [{"value": read}, {"why": read}]
    assert await still_works(plane, version, token)


@pytest.mark.parametrize("version", ERAS)
async def test_a_deep_value_is_mirrored_or_refused_as_no_json(
    plane: Plane, token: str, version: str
) -> None:
    statuses = set()
    for depth in (1, 100, 190, 195, 197, 198, 199, 200, 201, 250, 300, 2_000):
        sent = call(version, "mirror", token, value="HERE")
        content = sent.content.replace(b'"HERE"', b"[" * depth + b"]" * depth)
        answer = await send(plane.http, PATH, Post(content, sent.headers))
        statuses.add(answer.status)
        if answer.status == 200:
            assert answer.tool_text == '{"value": ' + "[" * depth + "]" * depth + "}"
            assert depth < 200
        else:
            assert (answer.status, answer.kind) == (400, -32700)
            assert depth > 190
        assert await still_works(plane, version, token)
    assert statuses == {200, 400}


async def test_the_deepest_value_that_is_taken_can_be_read_from_the_record(plane: Plane) -> None:
    async with plane.client.episode("notebook") as episode:
        assert episode.seeded.mcp is not None
        token = episode.seeded.mcp.headers[TOKEN_HEADER]
        sent = call(ERAS[0], "mirror", token, value="HERE")
        for depth in range(190, 205):
            content = sent.content.replace(b'"HERE"', b"[" * depth + b"]" * depth)
            await send(plane.http, PATH, Post(content, sent.headers))
        taken = (await episode.record())["calls"]
        assert 1 < len(taken) < 15
        assert (await episode.verify())["reward"] == 0.0


@pytest.mark.parametrize("version", ERAS)
@pytest.mark.parametrize(
    "number",
    [
        "NaN",
        "Infinity",
        "-Infinity",
        "[NaN]",
        "1e400",
        "-1E0999",
        pytest.param("9" * 5_000, id="5,000 digits"),
    ],
)
async def test_a_number_that_json_or_python_does_not_have_is_refused(
    plane: Plane, token: str, version: str, number: str
) -> None:
    sent = call(version, "mirror", token, value="HERE")
    content = sent.content.replace(b'"HERE"', number.encode())
    answer = await send(plane.http, PATH, Post(content, sent.headers))
    assert (answer.status, answer.kind) == (400, -32700)
    assert await still_works(plane, version, token)


@pytest.mark.parametrize("version", ERAS)
@pytest.mark.parametrize(
    "number",
    [0, -1, 2**53 + 1, pytest.param(10**4_000, id="10**4000"), 1e308, 5e-324, 0.1],
)
async def test_every_other_number_is_mirrored(
    plane: Plane, token: str, version: str, number: float
) -> None:
    assert await mirrored(plane, call(version, "mirror", token, value=number)) == number


@pytest.mark.parametrize("version", ERAS)
async def test_a_number_is_measured_as_it_came_not_as_it_is_written(
    plane: Plane, token: str, version: str
) -> None:
    sent = call(version, "mirror", token, value="HERE")
    # 1e15 is 4 bytes as it comes, and 18 as most write it
    content = sent.content.replace(b'"HERE"', b"[" + b",".join([b"1e15"] * 3_000) + b"]")
    assert len(content) < LIMIT
    assert await mirrored(plane, Post(content, sent.headers)) == [1e15] * 3_000


async def test_bad_bodies_do_not_hold_up_a_good_one(plane: Plane, token: str) -> None:
    bad = padded(ERAS[0], token, LIMIT + 1)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(send, plane.http, PATH, bad)
            for version in ERAS:
                tasks.start_soon(still_works, plane, version, token)
