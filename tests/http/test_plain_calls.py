"""Plain calls are told apart from all others, and are answered as the SDK would."""

from __future__ import annotations

from typing import Any

import pytest
from mcp_types import SERVER_INFO_META_KEY, methods

from gymhost import testing
from gymhost.http import mcp as endpoint
from gymhost.http.plain_calls import PlainCall, is_plain_head, plain_call, wire_result
from gymhost.models import ToolOutcome
from tests.http.wire import MODERN, VERSIONS, Echo, call, http_client, seed_token, send

HEAD = {b"content-type": b"application/json", b"accept": b"application/json"}
PARAMS = {"name": "echo", "arguments": {"text": "hi"}}
MESSAGE = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": PARAMS}
INFO = {"name": "echo", "version": "1"}


def legacy(message: Any, version: str = "2025-06-18") -> PlainCall | None:
    head = {**HEAD, b"mcp-protocol-version": version.encode()}
    assert is_plain_head(head)
    return plain_call(head, message, "2025-03-26")


@pytest.mark.parametrize(
    "other",
    [
        {b"content-type": None},
        {b"accept": None},
        {b"content-type": b"text/plain"},
        {b"accept": b"text/html"},
        {b"content-type": b"application/json, application/json"},  # it came twice
        {b"content-type": b"application/json; charset=utf-8"},
    ],
)
def test_unusual_headers_are_the_sdks(other: dict[bytes, bytes | None]) -> None:
    head = {name: value for name, value in {**HEAD, **other}.items() if value is not None}
    assert not is_plain_head(head)


def test_a_plain_call_says_what_to_do() -> None:
    assert legacy(MESSAGE) == PlainCall(7, "echo", {"text": "hi"}, "2025-06-18")
    with_token = {**MESSAGE, "params": {**PARAMS, "_meta": {"progressToken": 1}}}
    assert legacy(with_token) == legacy(MESSAGE)
    assert plain_call(HEAD, MESSAGE, "2025-03-26") == PlainCall(
        7, "echo", {"text": "hi"}, "2025-03-26"
    )


@pytest.mark.parametrize(
    "message",
    [
        None,
        [MESSAGE],
        {**MESSAGE, "jsonrpc": "1.0"},
        {**MESSAGE, "id": True},
        {**MESSAGE, "id": None},
        {**MESSAGE, "id": 1.5},
        {**MESSAGE, "more": 1},
        {**MESSAGE, "method": "tools/list"},
        {key: value for key, value in MESSAGE.items() if key != "id"},
        {**MESSAGE, "params": None},
        {**MESSAGE, "params": {"name": "echo"}},
        {**MESSAGE, "params": {**PARAMS, "name": 5}},
        {**MESSAGE, "params": {**PARAMS, "arguments": []}},
        {**MESSAGE, "params": {**PARAMS, "task": {}}},
        {**MESSAGE, "params": {**PARAMS, "_meta": 1}},
        {**MESSAGE, "params": {**PARAMS, "_meta": {"progressToken": True}}},
        {**MESSAGE, "params": {**PARAMS, "_meta": {"other": 1}}},
    ],
)
def test_what_is_not_plain_is_the_sdks(message: Any) -> None:
    assert legacy(message) is None


def test_a_version_that_nobody_knows_is_the_sdks() -> None:
    assert legacy(MESSAGE, "1999-01-01") is None
    assert legacy(MESSAGE, MODERN) is None  # without its envelope


CONTENT: dict[str, list[dict[str, Any]]] = {
    "text": [{"type": "text", "text": "Zürich 🌦"}],
    "two": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
    "none": [],
    "an image": [{"type": "image", "data": "aGk=", "mimeType": "image/png"}],
    "with notes": [{"type": "text", "text": "a", "annotations": {"priority": 0.5}}],
}


@pytest.mark.parametrize("structured", [None, {"result": 5}, {}], ids=repr)
@pytest.mark.parametrize("content", CONTENT)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_result_is_what_the_sdk_makes_of_it(
    version: str, content: str, structured: dict[str, Any] | None
) -> None:
    outcome = ToolOutcome(CONTENT[content], structured, is_error=content == "two")
    given: dict[str, Any] = {"content": outcome.content, "isError": outcome.is_error}
    if structured is not None:
        given["structuredContent"] = structured
    if version == MODERN:
        given["resultType"] = "complete"
    expected = methods.serialize_server_result("tools/call", version, given)
    if version == MODERN:
        expected["_meta"] = {SERVER_INFO_META_KEY: INFO}
    assert wire_result(outcome, version, INFO) == expected


def test_a_content_that_mcp_does_not_know_is_no_result() -> None:
    with pytest.raises(ValueError, match="content"):
        wire_result(ToolOutcome([{"type": "smell", "of": "roses"}]), "2025-06-18", INFO)


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_sdk_is_not_asked_about_a_plain_call(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*arguments: Any, **options: Any) -> None:
        raise AssertionError("the SDK was asked")

    async with testing.client({"echo": Echo}) as client, http_client(client.app) as http:
        token = await seed_token(client, "echo")
        monkeypatch.setattr(endpoint, "serve_one", never)
        monkeypatch.setattr(endpoint.McpEndpoint, "_start_manager", never)
        sent = call(version, "echo", token, text="hi")
        answer = await send(http, "/envs/echo/mcp", sent)
        assert answer.tool_text == "hi"
