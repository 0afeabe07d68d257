"""What the agent plane answers to one POST, row by row of the table, in every protocol version."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from gymhost import testing
from tests.http.wire import (
    MODERN,
    VERSIONS,
    Answer,
    Echo,
    call,
    exchange,
    http_client,
    sdk_client,
    seed_token,
    send,
)
from tests.http.wire_table import MODERN_ONLY, TABLE, Kind, Row

PATH = "/envs/echo/mcp"
CASES = [(version, each) for each in TABLE for version in VERSIONS]
CASES += [(MODERN, each) for each in MODERN_ONLY]


@dataclass(frozen=True)
class Servers:
    """Ours and the SDK's, each with the tool `echo`."""

    client: testing.InProcessClient
    ours: httpx2.AsyncClient
    sdk: httpx2.AsyncClient


@pytest.fixture(scope="module")
async def servers(anyio_backend: str) -> AsyncGenerator[Servers]:
    async with (
        testing.client({"echo": Echo}) as client,
        http_client(client.app) as ours,
        sdk_client() as sdk,
    ):
        yield Servers(client, ours, sdk)


@pytest.mark.parametrize(
    ("version", "case"), [pytest.param(v, c, id=f"{v}-{c.name}") for v, c in CASES]
)
async def test_a_post_is_answered_as_the_table_says(
    servers: Servers, version: str, case: Row
) -> None:
    token = await seed_token(servers.client, "echo")
    sent = case.sent(version, token)
    ours = await send(servers.ours, PATH, sent)
    assert kind(ours) == (case.new if version == MODERN else case.old), ours

    sdk = await exchange(servers.sdk, "/mcp", sent)
    expected = case.sdk_new if version == MODERN else case.sdk
    assert kind(sdk) == (expected or kind(ours)), sdk
    if expected is None:
        assert without_words(ours) == without_words(sdk)

    good = await send(servers.ours, PATH, call(version, "echo", token, text="still here"))
    assert good.tool_text == "still here"


def kind(answer: Answer) -> Kind:
    return answer.status, answer.kind


def without_words(answer: Answer) -> Any:
    """The body, but for an error's message, which is for people."""
    if not isinstance(answer.body, dict) or "error" not in answer.body:
        return answer.body
    error = {key: value for key, value in answer.body["error"].items() if key != "message"}
    return {**answer.body, "error": error}


def test_every_difference_from_the_sdk_has_its_reason() -> None:
    for case in TABLE + MODERN_ONLY:
        differs = case.sdk is not None or case.sdk_new is not None
        assert differs == bool(case.why), case.name
