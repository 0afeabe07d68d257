"""The agent plane through the official client, in each of its modes."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypedDict

import anyio
import httpx2
import mcp
import pytest
from mcp.client.streamable_http import streamable_http_client
from pydantic import BaseModel

from gymhost import Environment, Session, Trajectory, testing, tool
from gymhost.http.mcp import TOKEN_HEADER
from tests.http.wire import MODERN, VERSIONS, Notebook, call, http_client, seed_token, send

MODES = {"auto": MODERN, "legacy": "2025-11-25", MODERN: MODERN}
"""Each mode, and the version that it speaks with us."""


class Report(BaseModel):
    city: str
    degrees: int | None = None


@dataclass
class Point:
    x: int
    y: float


class Entry(TypedDict):
    name: str


class Values(Environment):
    """A tool for each kind of value."""

    @tool
    async def text(self) -> str:
        return "It is {sunny} in Zürich: 東京 🌦️"

    @tool
    async def json_text(self) -> str:
        return '{"looks": "structured"}'

    @tool
    async def empty(self) -> str:
        return ""

    @tool
    async def mapping(self) -> dict[str, Any]:
        return {"city": "Zürich", "list": [1, None, {"deep": True}]}

    @tool
    async def model(self) -> Report:
        return Report(city="東京")

    @tool
    def point(self) -> Point:
        return Point(1, 2.5)

    @tool
    async def typed(self) -> Entry:
        return {"name": "n"}

    @tool
    async def models(self) -> list[Report]:
        return [Report(city="Paris", degrees=20)]

    @tool
    async def numbers(self) -> list[int]:
        return [1, 2]

    @tool
    async def number(self) -> float:
        return 2.5

    @tool
    async def truth(self) -> bool:
        return True

    @tool
    async def nothing(self) -> None:
        return None

    @tool
    async def not_a_number(self) -> dict[str, float]:
        return {"degrees": float("nan")}

    @tool
    async def no_json(self) -> Any:
        return object()

    async def verify(self, session: Session, trajectory: Trajectory) -> float:
        return 1.0


@pytest.fixture
async def client() -> AsyncGenerator[testing.InProcessClient]:
    async with testing.client({"notebook": Notebook, "values": Values}) as client:
        yield client


@asynccontextmanager
async def connected(
    client: testing.InProcessClient, path: str, token: str | None, mode: str
) -> AsyncGenerator[mcp.Client]:
    """The official client, on a connection of its own."""
    async with httpx2.AsyncClient(
        headers={} if token is None else {TOKEN_HEADER: token},
        transport=httpx2.ASGITransport(client.app),
    ) as http:
        transport = streamable_http_client(f"http://gymhost.test{path}", http_client=http)
        with anyio.fail_after(10):
            async with mcp.Client(transport, mode=mode) as agent:
                yield agent


def text_of(result: Any) -> str:
    (block,) = result.content
    assert block.type == "text"
    text: str = block.text
    return text


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("slash", ["", "/"])
async def test_the_official_client_plays_a_rollout(
    client: testing.InProcessClient, mode: str, slash: str
) -> None:
    token = await seed_token(client, "notebook")
    async with connected(client, f"/envs/notebook/mcp{slash}", token, mode) as agent:
        assert agent.protocol_version == MODES[mode]
        listed = (await agent.list_tools()).tools
        assert [tool.name for tool in listed] == ["write", "mirror", "wait", "refuse", "crash"]
        assert listed[0].description == "Write a note down, and read all of them."
        assert listed[0].input_schema["required"] == ["note"]
        assert "session" not in json.dumps(listed[0].input_schema)

        first = await agent.call_tool("write", {"note": "東京"})
        assert (text_of(first), bool(first.is_error)) == ("東京", False)
        assert text_of(await agent.call_tool("write", {"note": "b"})) == "東京\nb"
        for name, arguments, said in (
            ("refuse", {"why": "word for word: é"}, "word for word: é"),
            ("crash", {}, "The tool failed."),
            ("nothing", {}, "There is no tool named 'nothing'."),
        ):
            failed = await agent.call_tool(name, arguments)
            assert (text_of(failed), failed.is_error) == (said, True)
        assert text_of(await agent.call_tool("write", {"note": "c"})) == "東京\nb\nc"


@pytest.mark.parametrize("mode", MODES)
async def test_only_tools_are_offered_to_the_official_client(
    client: testing.InProcessClient, mode: str
) -> None:
    async with connected(client, "/envs/notebook/mcp", None, mode) as agent:
        offered = agent.server_capabilities.model_dump(exclude_none=True)
        # pinned to a version it asks nothing, and takes what that version has
        assert set(offered) == {"tools"} or mode == MODERN
        for ask in (agent.list_prompts, agent.list_resources):
            with pytest.raises(mcp.MCPError, match="Method not found"):
                await ask()
        assert len((await agent.list_tools()).tools) == 5


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("token", [None, "", "invalid"])
async def test_without_a_good_token_the_client_connects_and_its_calls_are_told_why(
    client: testing.InProcessClient, mode: str, token: str | None
) -> None:
    async with connected(client, "/envs/notebook/mcp", token, mode) as agent:
        assert len((await agent.list_tools()).tools) == 5
        for _ in range(2):
            answer = await agent.call_tool("write", {"note": "no"})
            assert answer.is_error
            assert "token" in text_of(answer)


@pytest.mark.parametrize("mode", MODES)
async def test_a_new_connection_for_every_call_is_one_session(
    client: testing.InProcessClient, mode: str
) -> None:
    token = await seed_token(client, "notebook")
    for notes in ("a", "a\nb", "a\nb\nc"):
        async with connected(client, "/envs/notebook/mcp", token, mode) as agent:
            assert text_of(await agent.call_tool("write", {"note": notes[-1]})) == notes


async def test_connections_in_different_modes_are_one_session(
    client: testing.InProcessClient,
) -> None:
    token = await seed_token(client, "notebook")
    for mode, notes in zip(MODES, ("a", "a\nb", "a\nb\nc"), strict=True):
        async with connected(client, "/envs/notebook/mcp", token, mode) as agent:
            assert text_of(await agent.call_tool("write", {"note": notes[-1]})) == notes


@pytest.mark.parametrize("mode", MODES)
async def test_several_clients_on_one_token_overlap_and_lose_nothing(
    client: testing.InProcessClient, mode: str
) -> None:
    seeded = await client.seed("notebook")
    assert seeded.mcp is not None
    token = seeded.mcp.headers[TOKEN_HEADER]
    notes = [f"note {number}" for number in range(12)]

    async def write(mine: list[str]) -> None:
        async with connected(client, "/envs/notebook/mcp", token, mode) as agent:
            for note in mine:
                assert note in text_of(await agent.call_tool("write", {"note": note}))

    async with anyio.create_task_group() as tasks:
        for start in range(4):
            tasks.start_soon(write, notes[start::4])
    record = await client.session(seeded.session_id)
    assert sorted(record["state"]["notes"]) == sorted(notes)
    assert sorted(call["arguments"]["note"] for call in record["calls"]) == sorted(notes)
    lengths = [len(call["result"].splitlines()) for call in record["calls"]]
    assert lengths == list(range(1, 13))  # each saw what all before it had written


@pytest.mark.parametrize("mode", MODES)
async def test_calls_of_one_client_overlap(client: testing.InProcessClient, mode: str) -> None:
    token = await seed_token(client, "notebook")
    notebook = client.host.mounts["notebook"].instance
    assert isinstance(notebook, Notebook)
    answered: list[str] = []
    async with connected(client, "/envs/notebook/mcp", token, mode) as agent:

        async def make_call(name: str, note: str) -> None:
            answered.append(text_of(await agent.call_tool(name, {"note": note})))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(make_call, "wait", "first")
            await notebook.entered.wait()
            tasks.start_soon(make_call, "write", "second")
            await anyio.wait_all_tasks_blocked()
            assert answered == []
            notebook.go_on.set()
    assert sorted(answered) == ["first", "first\nsecond"]


TEXT_ONLY = {
    "text": "It is {sunny} in Zürich: 東京 🌦️",
    "json_text": '{"looks": "structured"}',
    "empty": "",
    "models": '[{"city": "Paris", "degrees": 20}]',
    "numbers": "[1, 2]",
    "number": "2.5",
    "truth": "true",
    "nothing": "null",
}
STRUCTURED = {
    "mapping": {"city": "Zürich", "list": [1, None, {"deep": True}]},
    "model": {"city": "東京", "degrees": None},
    "point": {"x": 1, "y": 2.5},
    "typed": {"name": "n"},
}


@pytest.mark.parametrize("mode", MODES)
async def test_what_a_tool_returns_reaches_the_client_as_text_or_as_a_structure(
    client: testing.InProcessClient, mode: str
) -> None:
    token = await seed_token(client, "values")
    async with connected(client, "/envs/values/mcp", token, mode) as agent:
        for name, text in TEXT_ONLY.items():
            answer = await agent.call_tool(name)
            assert (text_of(answer), bool(answer.is_error)) == (text, False), name
            assert answer.structured_content is None, name
        for name, value in STRUCTURED.items():
            answer = await agent.call_tool(name)
            assert (json.loads(text_of(answer)), bool(answer.is_error)) == (value, False), name
            assert answer.structured_content == value, name
        for name in ("not_a_number", "no_json"):
            answer = await agent.call_tool(name)
            assert (text_of(answer), answer.is_error) == ("The tool failed.", True), name
            assert answer.structured_content is None, name


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_structure_is_beside_its_text_on_the_wire_of_every_version(
    client: testing.InProcessClient, version: str
) -> None:
    token = await seed_token(client, "values")
    async with http_client(client.app) as http:
        for name in TEXT_ONLY:
            answer = await send(http, "/envs/values/mcp", call(version, name, token))
            assert "structuredContent" not in answer.result
        for name, value in STRUCTURED.items():
            answer = await send(http, "/envs/values/mcp", call(version, name, token))
            assert json.loads(answer.tool_text) == value
            assert answer.result["structuredContent"] == value
