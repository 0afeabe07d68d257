"""What a token opens: one session of one environment, until it ends; and what a bad one is told."""

from __future__ import annotations

import base64
import logging
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from hashlib import sha256

import httpx2
import pytest

from gymhost import Task, testing
from gymhost.http.mcp import TOKEN_HEADER
from tests.http.wire import ERAS, Notebook, Post, call, http_client, post, seed_token, send
from tests.served import HandClock

PATH = "/envs/notebook/mcp"
NO_TOKEN = "This call carries no session token."
BAD_TOKEN = "The session token is not valid here."
ENDED = "The session has ended."


@dataclass
class Plane:
    client: testing.InProcessClient
    http: httpx2.AsyncClient
    clock: HandClock


@pytest.fixture
async def plane() -> AsyncGenerator[Plane]:
    clock = HandClock()
    environments = {"notebook": Notebook, "other": Notebook}
    async with (
        testing.client(environments, clock=clock) as client,
        http_client(client.app) as http,
    ):
        yield Plane(client, http, clock)


def one_bit_edited(token: str) -> str:
    """The token with the lowest bit of its first byte turned."""
    raw = bytearray(base64.urlsafe_b64decode(token + "="))
    raw[0] ^= 1
    return base64.urlsafe_b64encode(bytes(raw)).decode().rstrip("=")


@pytest.mark.parametrize("version", ERAS)
@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda token: None, NO_TOKEN),
        (lambda token: "", NO_TOKEN),
        (lambda token: token[:-1], BAD_TOKEN),
        (lambda token: token[1:], BAD_TOKEN),
        (lambda token: token[:1], BAD_TOKEN),
        (lambda token: token + "A", BAD_TOKEN),
        (lambda token: token + "=", BAD_TOKEN),
        (one_bit_edited, BAD_TOKEN),
        (lambda token: token.swapcase(), BAD_TOKEN),
        (lambda token: f"Bearer {token}", BAD_TOKEN),
        (lambda token: f'"{token}"', BAD_TOKEN),
        (lambda token: f"{token}, {token}", BAD_TOKEN),
        (lambda token: sha256(token.encode()).hexdigest(), BAD_TOKEN),
        (lambda token: "Zürich\xff", BAD_TOKEN),
        (lambda token: token + "\xe9", BAD_TOKEN),
        (lambda token: "A" * 1_000_000, BAD_TOKEN),
        (lambda token: "null", BAD_TOKEN),
        (lambda token: "'; drop table sessions; --", BAD_TOKEN),
    ],
    ids=[
        "none",
        "empty",
        "last character cut",
        "first character cut",
        "all but one cut",
        "one more character",
        "padded",
        "one bit edited",
        "case changed",
        "bearer",
        "quoted",
        "twice",
        "its hash",
        "latin-1",
        "and a letter of latin-1",
        "a megabyte",
        "null",
        "sql",
    ],
)
async def test_a_bad_token_is_a_tool_error_and_a_good_one_still_works(
    plane: Plane, version: str, edit: Callable[[str], str | None], said: str
) -> None:
    token = await seed_token(plane.client, "notebook")
    answer = await send(plane.http, PATH, call(version, "write", edit(token), note="no"))
    assert (answer.status, answer.kind, answer.tool_text) == (200, "tool error", said)
    listed = await send(plane.http, PATH, post(version, "tools/list", token=edit(token)))
    assert len(listed.result["tools"]) == 5
    good = await send(plane.http, PATH, call(version, "write", token, note="yes"))
    assert good.tool_text == "yes"


@pytest.mark.parametrize("version", ERAS)
async def test_a_token_of_another_environment_opens_nothing(plane: Plane, version: str) -> None:
    foreign = await seed_token(plane.client, "other")
    for _ in range(2):  # unknown to this process's memory, then known
        answer = await send(plane.http, PATH, call(version, "write", foreign, note="no"))
        assert (answer.kind, answer.tool_text) == ("tool error", BAD_TOKEN)
        home = await send(plane.http, "/envs/other/mcp", call(version, "mirror", foreign, value=1))
        assert home.kind == "result"
    written = await send(plane.http, "/envs/other/mcp", call(version, "write", foreign, note="1st"))
    assert written.tool_text == "1st"


async def test_a_token_of_another_host_opens_nothing(plane: Plane) -> None:
    async with testing.client({"notebook": Notebook}) as elsewhere:
        foreign = await seed_token(elsewhere, "notebook")
    answer = await send(plane.http, PATH, call(ERAS[0], "write", foreign, note="no"))
    assert (answer.kind, answer.tool_text) == ("tool error", BAD_TOKEN)


@pytest.mark.parametrize("version", ERAS)
async def test_a_token_that_is_sent_twice_opens_nothing(plane: Plane, version: str) -> None:
    token = await seed_token(plane.client, "notebook")
    for tokens in ((token, token), (token, "bad"), ("bad", token), (token, "")):
        sent = call(version, "write", None, note="no")
        headers = [(key, value) for key, value in sent.headers.items() if value is not None]
        headers += [(TOKEN_HEADER, each) for each in tokens]
        answer = await plane.http.post(PATH, content=sent.content, headers=headers)
        assert answer.json()["result"]["isError"], tokens
        assert BAD_TOKEN in answer.text


@pytest.mark.parametrize("version", ERAS)
async def test_a_token_of_another_session_reaches_that_session_alone(
    plane: Plane, version: str
) -> None:
    mine, theirs = [await seed_token(plane.client, "notebook") for _ in range(2)]
    for token, note, notes in (
        (mine, "a", "a"),
        (theirs, "b", "b"),
        (mine, "c", "a\nc"),
        (theirs, "d", "b\nd"),
    ):
        answer = await send(plane.http, PATH, call(version, "write", token, note=note))
        assert answer.tool_text == notes


@pytest.mark.parametrize("version", ERAS)
@pytest.mark.parametrize("how", ["verified", "closed", "idle", "never used", "too old"])
async def test_a_token_of_an_ended_session_is_told_so(plane: Plane, version: str, how: str) -> None:
    seeded = await plane.client.seed("notebook")
    assert seeded.mcp is not None
    token = seeded.mcp.headers[TOKEN_HEADER]
    if how != "never used":
        before = await send(plane.http, PATH, call(version, "write", token, note="before"))
        assert before.kind == "result"
    named = {"session_id": seeded.session_id}
    match how:
        case "verified":
            await plane.client.request("POST", "/envs/notebook/verify", named)
        case "closed":
            await plane.client.request("POST", "/envs/notebook/close_session", named)
        case "idle":
            plane.clock.now += 3_600
        case "never used":
            plane.clock.now += 600
        case "too old":
            for _ in range(30):
                plane.clock.now += 3_000
                await send(plane.http, PATH, call(version, "mirror", token, value=1))
    for _ in range(2):
        answer = await send(plane.http, PATH, call(version, "write", token, note="after"))
        assert (answer.status, answer.kind, answer.tool_text) == (200, "tool error", ENDED)
    record = await plane.client.session(seeded.session_id)
    assert "after" not in record["state"]["notes"]

    good = await seed_token(plane.client, "notebook")
    answer = await send(plane.http, PATH, call(version, "write", good, note="anew"))
    assert answer.tool_text == "anew"


async def test_bad_tokens_leave_a_session_as_it_was(plane: Plane) -> None:
    async with plane.client.episode("notebook") as episode:
        await episode.call_tool("write", {"note": "one"})
        assert episode.seeded.mcp is not None
        token = episode.seeded.mcp.headers[TOKEN_HEADER]
        for bad in (None, "", token[:-1], one_bit_edited(token)):
            await send(plane.http, PATH, call(ERAS[-1], "write", bad, note="no"))
        record = await episode.record()
        assert [call["arguments"] for call in record["calls"]] == [{"note": "one"}]
        assert (await episode.verify())["reward"] == 1.0
    counts = (await plane.client.environment("notebook"))["counts"]
    assert counts["no_session"] == 4


async def test_the_token_opens_nothing_but_mcp(plane: Plane) -> None:
    seeded = await plane.client.seed("notebook")
    assert seeded.mcp is not None
    token = seeded.mcp.headers[TOKEN_HEADER]
    presented = ({TOKEN_HEADER: token}, {"authorization": f"Bearer {token}"})
    for headers in presented:
        for method, path in (
            ("GET", "/envs"),
            ("GET", "/envs/notebook"),
            ("GET", f"/sessions/{seeded.session_id}"),
            ("POST", "/envs/notebook/verify"),
            ("POST", "/envs/notebook/seed_session"),
            ("POST", "/envs/notebook/close_session"),
        ):
            response = await plane.http.request(method, path, headers=headers)
            assert response.status_code == 401, (method, path)
    answer = await send(plane.http, PATH, call(ERAS[0], "write", token, note="yes"))
    assert answer.tool_text == "yes"


@pytest.mark.parametrize("key_for", ["token", "session_id", "cookie"])
async def test_nothing_but_the_token_opens_the_agent_plane(plane: Plane, key_for: str) -> None:
    seeded = await plane.client.seed("notebook")
    sent = call(ERAS[0], "write", None, note="no")
    with_key = {
        "token": sent.with_headers(authorization=f"Bearer {plane.client.key}"),
        "session_id": Post(sent.body, {**sent.headers, TOKEN_HEADER: seeded.session_id}),
        "cookie": sent.with_headers(cookie=f"gymhost_session={seeded.session_id}"),
    }
    answer = await send(plane.http, PATH, with_key[key_for])
    assert answer.kind == "tool error"


@pytest.mark.parametrize("version", ERAS)
async def test_a_token_is_never_logged(
    plane: Plane, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token = await seed_token(plane.client, "notebook")
    foreign = await seed_token(plane.client, "other")
    for sent in (
        call(version, "write", token, note="yes"),
        call(version, "crash", token),
        call(version, "write", foreign, note="no"),
        call(version, "write", token[:-1], note="no"),
        post(version, "no/such", token=token),
        post(version, "tools/list", token=token).with_body(id=None),
        post(version, "subscriptions/listen", {"notifications": 5}, token=token),
    ):
        await send(plane.http, PATH, sent)
    assert "crash" in caplog.text
    for secret in (token, token[:-1], foreign, sha256(token.encode()).hexdigest()):
        assert secret not in caplog.text


@pytest.mark.parametrize("version", ERAS)
async def test_tools_list_shows_what_the_session_may_use(plane: Plane, version: str) -> None:
    async def names(token: str | None) -> list[str]:
        listed = await send(plane.http, PATH, post(version, "tools/list", token=token))
        return [tool["name"] for tool in listed.result["tools"]]

    everything = ["write", "mirror", "wait", "refuse", "crash"]
    some = await seed_token(plane.client, "notebook", tools=["mirror", "write"])
    nothing = await seed_token(plane.client, "notebook", tools=[])
    foreign = await seed_token(plane.client, "other", tools=["wait"])
    assert await names(await seed_token(plane.client, "notebook")) == everything
    assert await names(some) == ["write", "mirror"]
    assert await names(nothing) == []
    assert await names(None) == everything
    assert await names("invalid") == everything
    assert await names(foreign) == everything

    refused = await send(plane.http, PATH, call(version, "refuse", some, why="because"))
    assert (refused.kind, refused.tool_text) == ("tool error", "There is no tool named 'refuse'.")
    assert (await send(plane.http, PATH, call(version, "write", some, note="yes"))).kind == "result"
    assert await names(some) == ["write", "mirror"]  # now that the session is open in memory


async def test_a_second_token_of_one_session_opens_it_too(plane: Plane) -> None:
    task = Task(verifier_metadata={"answer": "x"})
    first, second = [
        await plane.client.seed("notebook", task, idempotency_key="k") for _ in range(2)
    ]
    assert first.session_id == second.session_id
    assert first.mcp is not None
    assert second.mcp is not None
    tokens = [answer.mcp.headers[TOKEN_HEADER] for answer in (first, second)]
    assert tokens[0] != tokens[1]
    for token, notes in zip(tokens, ("a", "a\nb"), strict=True):
        answer = await send(plane.http, PATH, call(ERAS[0], "write", token, note=notes[-1]))
        assert answer.tool_text == notes
