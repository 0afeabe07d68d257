"""Whole episodes of the installed weather plugin, over real sockets, as its users have them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anyio
import httpx2
import pytest

from gymhost.client import Client, McpMode
from gymhost.models import Task
from tests.e2e.servers import HTTP2, Server, call_tool, seed

SENTENCE = "The weather in Paris is sunny and 72 F."
PARIS = {"verifier_metadata": {"expected_city": "Paris"}}


@pytest.fixture
def http(server: Server) -> Iterator[httpx2.Client]:
    with server.client() as client:
        yield client


def weather(http: httpx2.Client, token: str, city: str) -> str:
    """Ask for the weather."""
    result = call_tool(http, token, "get_weather", environment="weather", city=city)
    return str(result["content"][0]["text"])


def reward(http: httpx2.Client, session_id: str, answer: str | None) -> float:
    """Submit an answer, or none, and return its score."""
    content = [{"type": "output_text", "text": answer}]
    items = [{"type": "message", "role": "assistant", "content": content}] if answer else []
    body = {"session_id": session_id, "response": {"output": items}}
    scored = http.post("/envs/weather/verify", json=body)
    assert scored.status_code == 200, scored.text
    assert scored.json()["response"] == body["response"]
    return float(scored.json()["reward"])


@pytest.mark.parametrize(
    ("asked", "answer", "expected"),
    [
        pytest.param("Paris", SENTENCE, 1.0, id="the reference"),
        pytest.param(None, None, 0.0, id="no action"),
        pytest.param(None, SENTENCE, 0.0, id="the sentence without the call"),
        pytest.param("Paris", "It is sunny.", 0.0, id="the call without the sentence"),
        pytest.param("Rome", SENTENCE, 0.0, id="a call for the wrong city"),
        pytest.param("Rome", SENTENCE.replace("Paris", "Rome"), 0.0, id="the wrong city"),
    ],
)
def test_an_episode_by_plain_http(
    http: httpx2.Client, asked: str | None, answer: str | None, expected: float
) -> None:
    session_id, token = seed(http, "weather", expected_city="Paris")
    if asked is not None:
        assert weather(http, token, asked) == SENTENCE.replace("Paris", asked)
    assert reward(http, session_id, answer) == expected


def test_a_call_in_another_session_does_not_count(http: httpx2.Client) -> None:
    session_id, _ = seed(http, "weather", expected_city="Paris")
    _, other = seed(http, "weather", expected_city="Paris")
    assert weather(http, other, "Paris") == SENTENCE
    assert reward(http, session_id, SENTENCE) == 0.0


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # the server has a backend of its own
@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize(
    ("asked", "answer", "expected"),
    [("Paris", SENTENCE, 1.0), (None, SENTENCE, 0.0), ("Paris", "", 0.0), ("Rome", SENTENCE, 0.0)],
)
async def test_an_episode_with_the_official_client(
    server: Server, mode: McpMode, asked: str | None, answer: str, expected: float
) -> None:
    with anyio.fail_after(30):
        async with (
            Client(server.url, server.key) as client,
            client.episode("weather", Task(**PARIS), mcp_mode=mode) as episode,
        ):
            assert episode.mcp is not None
            version = "2026-07-28" if mode == "auto" else "2025-11-25"
            assert episode.mcp.protocol_version == version
            assert await episode.tools() == ["get_weather"]
            if asked is not None:
                told = await episode.call_tool("get_weather", {"city": asked})
                assert told.text == SENTENCE.replace("Paris", asked)
            assert (await episode.verify(answer))["reward"] == expected


def test_a_connection_is_kept_alive(http: httpx2.Client) -> None:
    addresses = set()
    for _ in range(3):
        answer = http.get("/healthz")
        addresses.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
    assert len(addresses) == 1


@pytest.mark.parametrize("server", HTTP2, indirect=True)
def test_an_episode_over_one_http2_connection(server: Server) -> None:
    with server.client(http1=False, http2=True) as http:
        answer = http.get("/healthz")
        assert answer.http_version == "HTTP/2"
        session_id, token = seed(http, "weather", expected_city="Paris")
        assert weather(http, token, "Paris") == SENTENCE
        assert reward(http, session_id, SENTENCE) == 1.0


def record(http: httpx2.Client, session_id: str) -> dict[str, Any]:
    found: dict[str, Any] = http.get(f"/sessions/{session_id}").json()
    return found


def test_the_record_shows_the_call_and_not_the_token(http: httpx2.Client) -> None:
    session_id, token = seed(http, "weather")
    weather(http, token, "Zürich")
    found = record(http, session_id)
    assert [(call["name"], call["arguments"]) for call in found["calls"]] == [
        ("get_weather", {"city": "Zürich"})
    ]
    assert token not in str(found)
