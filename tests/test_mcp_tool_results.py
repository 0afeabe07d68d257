"""How a tool that was registered on an MCPServer ends: errors, timeouts and answers."""

import logging
import math
from collections.abc import Callable
from typing import Any, Literal

import anyio
import pytest
from mcp.server.mcpserver import Image, MCPServer
from mcp.server.mcpserver.exceptions import ResourceError
from mcp.server.mcpserver.exceptions import ToolError as ServerToolError
from mcp_types import CallToolResult, InputRequiredResult, TextContent
from pydantic import ValidationError

from gymhost import Session, ToolError
from gymhost.client import ToolAnswer
from tests.worlds import Place, Visits, World, playing, registering

CANARY = "canary-19c2"


# -- how it ends -----------------------------------------------------------------------------------


def tool_error(text: str) -> ToolAnswer:
    return ToolAnswer(text, is_error=True, content=[{"type": "text", "text": text}])


def fails_with(error: Exception) -> World:
    async def fail(session: Session[Visits]) -> str:
        session.state.places.append("kept")
        raise error

    def fail_in_thread(session: Session[Visits]) -> str:
        session.state.places.append("kept")
        raise error

    return registering(fail, fail_in_thread)


@pytest.mark.parametrize("kind", [ToolError, ServerToolError, ResourceError])
@pytest.mark.parametrize("name", ["fail", "fail_in_thread"])
async def test_either_tool_error_reaches_the_agent_word_for_word_and_keeps_the_state(
    kind: type[Exception], name: str
) -> None:
    async with playing(fails_with(kind("no such city: Zürich"))) as episode:
        answer = await episode.call_tool(name)
        assert answer == tool_error("no such city: Zürich")
        assert (await episode.record())["calls"][0]["kind"] == "tool_error"
        assert (await episode.call_tool("marked")).text == '["kept"]'


@pytest.mark.parametrize("name", ["fail", "fail_in_thread"])
async def test_the_text_of_a_crash_stays_in_the_log_with_its_cause(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    error = RuntimeError(CANARY)
    error.__cause__ = KeyError("the-cause")
    async with playing(fails_with(error)) as episode:
        answer = await episode.call_tool(name)
        assert answer == tool_error("The tool failed.")
        assert CANARY not in str((await episode.record())["calls"])
        assert (await episode.record())["calls"][0]["kind"] == "environment_error"
        assert (await episode.call_tool("marked")).text == "[]"
    (logged,) = [each for each in caplog.records if each.exc_info]
    assert logged.exc_info is not None
    assert logged.exc_info[1] is error
    assert isinstance(error.__cause__, KeyError)


async def test_a_validation_error_inside_a_tool_is_a_crash_not_the_agents_fault(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL)

    async def parse() -> str:
        return Place.model_validate({"name": CANARY * 1000, "x": 1} | {"name": 3}).name

    with pytest.raises(ValidationError):
        await parse()
    async with playing(registering(parse)) as episode:
        assert await episode.call_tool("parse") == tool_error("The tool failed.")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"days": 1}, "missing argument 'city'"),
        ({"city": "a", "days": CANARY}, "days: Input should be a valid integer"),
        ({"city": "a", "town": CANARY}, "unknown argument 'town'"),
        ({"town": CANARY, "zone": CANARY}, "unknown argument 'town'; unknown argument 'zone'"),
        ({"city": "a", "session": CANARY}, "unknown argument 'session'"),
        ({"city": "a", "session_id": CANARY}, "unknown argument 'session_id'"),
    ],
)
async def test_wrong_arguments_are_told_in_plain_words(
    arguments: dict[str, Any], says: str
) -> None:
    def ask(session: Session[Visits], session_id: str, city: str, days: int = 1) -> str:
        return city

    async with playing(registering(ask)) as episode:
        answer = await episode.call_tool("ask", arguments)
        assert answer.is_error
        assert answer.text.startswith(f"Invalid arguments for 'ask': {says}")
        assert answer.text.endswith(". It takes: city, days.")
        assert CANARY not in answer.text
        assert (await episode.record())["calls"][0]["kind"] == "invalid_arguments"


async def test_a_tool_without_arguments_takes_none() -> None:
    async with playing(registering(ping=lambda: "pong")) as episode:
        assert (await episode.call_tool("ping")).text == "pong"
        answer = await episode.call_tool("ping", {"x": 1})
        assert (
            answer.text
            == "Invalid arguments for 'ping': unknown argument 'x'. It takes: no arguments."
        )


async def test_what_a_tool_does_to_its_arguments_is_not_done_to_the_record() -> None:
    async def spoil(anything: Any) -> str:
        anything["deep"].append("new")
        return "spoiled"

    async with playing(registering(spoil)) as episode:
        assert (await episode.call_tool("spoil", {"anything": {"deep": []}})).text == "spoiled"
        assert (await episode.record())["calls"][0]["arguments"] == {"anything": {"deep": []}}


async def test_a_timeout_gives_the_call_up() -> None:
    async def hang(session: Session[Visits]) -> str:
        session.state.places.append("lost")
        await anyio.sleep_forever()
        raise AssertionError

    async with playing(registering(hang), tool_seconds=0.01) as episode:
        answer = await episode.call_tool("hang")
        assert answer.is_error
        assert "took longer than 0.01 s" in answer.text
        assert (await episode.call_tool("marked")).text == "[]"


# -- what it answers -------------------------------------------------------------------------------


def answers() -> list[tuple[Callable[..., Any], str, Any]]:
    def text() -> str:
        return "fine"

    def maybe() -> str | None:
        return "fine"

    def chosen() -> Literal["fine", "rain"]:
        return "fine"

    def untyped():  # type: ignore[no-untyped-def]
        return "fine"

    def model() -> Place:
        return Place(name="Rigi")

    def mapping() -> dict[str, Any]:
        return {"result": "fine"}

    def number() -> int:
        return 7

    def own() -> CallToolResult:
        return CallToolResult(content=[TextContent(type="text", text="own")], is_error=True)

    return [
        (text, "fine", None),
        (maybe, "fine", None),
        (chosen, "fine", None),
        (untyped, "fine", None),
        (model, '{\n  "name": "Rigi"\n}', {"name": "Rigi"}),
        (mapping, '{\n  "result": "fine"\n}', {"result": "fine"}),
        (number, "7", {"result": 7}),
        (own, "own", None),
    ]


@pytest.mark.parametrize(
    ("function", "text", "structured"), [pytest.param(*a, id=a[0].__name__) for a in answers()]
)
async def test_a_string_answers_with_text_alone_and_the_rest_as_the_sdk_makes_it(
    function: Callable[..., Any], text: str, structured: Any
) -> None:
    async with playing(registering(function)) as episode:
        answer = await episode.call_tool(function.__name__)
        assert (answer.text, answer.structured_content) == (text, structured)
        assert answer.is_error == (function.__name__ == "own")


async def test_structured_output_that_is_asked_for_stays() -> None:
    def register(world: World, mcp: MCPServer) -> None:
        @mcp.tool(structured_output=True)
        def text() -> str:
            return "fine"

    async with playing(World(register)) as episode:
        assert (await episode.call_tool("text")).structured_content == {"result": "fine"}


async def test_images_and_content_blocks_pass_through() -> None:
    def picture() -> list[str | Image]:
        return ["a mountain", Image(data=b"\x89PNG", format="png")]

    async with playing(registering(picture)) as episode:
        assert episode.mcp is not None
        result = await episode.mcp.call_tool("picture", {})
        assert [block.type for block in result.content] == ["text", "image"]
        image = (await episode.record())["calls"][0]["content"][1]
        assert image == {"type": "image", "data": "iVBORw==", "mimeType": "image/png"}


@pytest.mark.parametrize(
    "value", [math.nan, {"a": math.inf}, [1.0, math.nan], {"a": "\ud83d"}], ids=str
)
async def test_a_value_that_is_not_finite_json_is_a_failure(
    value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)

    def measure() -> Any:
        return value

    def typed() -> dict[str, Any]:
        return {"value": value}

    async with playing(registering(measure, typed)) as episode:
        for name in ("measure", "typed"):
            answer = await episode.call_tool(name)
            assert answer == tool_error("The tool failed.")


async def test_a_result_past_the_limit_is_a_tool_error() -> None:
    async with playing(registering(long=lambda: "x" * 2000), result_bytes=1000) as episode:
        answer = await episode.call_tool("long")
        assert answer.is_error
        assert "more than the 1000 allowed" in answer.text


async def test_a_tool_that_asks_the_client_back_is_a_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def ask() -> InputRequiredResult:
        return InputRequiredResult(request_state="x")

    async with playing(registering(ask)) as episode:
        assert await episode.call_tool("ask") == tool_error("The tool failed.")
    assert "asks the client for input" in caplog.text


async def test_a_tool_that_the_author_takes_away_again_is_a_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    servers: list[MCPServer] = []

    def register(world: World, mcp: MCPServer) -> None:
        mcp.add_tool(lambda: "fine", "brief")
        servers.append(mcp)

    async with playing(World(register)) as episode:
        servers[0].remove_tool("brief")
        assert await episode.call_tool("brief") == tool_error("The tool failed.")
