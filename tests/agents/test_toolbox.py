"""An attempt's MCP servers: real ones, as processes and on a socket."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import psutil
import pytest

from gymhost.agents.base import AgentFailure, AgentRun
from gymhost.agents.responses import ResponsesAgent
from gymhost.agents.toolbox import Toolbox, open_toolbox
from gymhost.client import ToolAnswer
from gymhost.models import Task
from tests.agents.odd import ODD, SCRIPT
from tests.e2e.gates import open_gate
from tests.e2e.openai_endpoint import Says, scripted

TASK = Task({"input": "Go."})


@asynccontextmanager
async def odd_tools(**more: Any) -> AsyncGenerator[Toolbox]:
    with anyio.fail_after(40):
        async with open_toolbox({"odd": {**ODD, **more}}) as toolbox:
            yield toolbox
    assert children() == []


def children() -> list[psutil.Process]:
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if SCRIPT in process.cmdline():
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


async def test_results_become_text_and_errors_stay_errors() -> None:
    async with odd_tools() as toolbox:
        assert len(children()) == 1
        mixed = await toolbox.call("mcp__odd__mixed", {})
        assert mixed == ToolAnswer("A\nB\nfile:///c\n[image]", is_error=False)
        structured = await toolbox.call("mcp__odd__structured", {})
        assert structured == ToolAnswer('{"a": [1, "ü"]}', is_error=False)
        assert await toolbox.call("mcp__odd__refuse", {}) == ToolAnswer("No.", is_error=True)
        assert (await toolbox.call("mcp__odd__together", {"number": "x"})).is_error
        unknown = await toolbox.call("mcp__odd__nope", {})
        assert unknown == ToolAnswer("There is no tool named 'mcp__odd__nope'.", is_error=True)


async def test_what_a_server_calls_wrong_arguments_the_model_is_told() -> None:
    async with odd_tools() as toolbox:
        told = await toolbox.call("mcp__odd__invalid", {})
        assert (told.text, told.is_error) == ("that will not do", True)


@pytest.mark.parametrize(
    ("tool", "complaint"),
    [("broken", "failed a call of 'broken': out of order"), ("leave", "of 'leave': Connection")],
)
async def test_a_server_that_fails_is_no_answer(tool: str, complaint: str) -> None:
    with pytest.raises(AgentFailure, match=complaint) as raised:
        async with odd_tools() as toolbox:
            await toolbox.call(f"mcp__odd__{tool}", {})
    assert (raised.value.failure_class, raised.value.terminal) == ("mcp_error", False)


async def test_a_call_without_an_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gymhost.agents.mcp_servers.CALL_SECONDS", 0.1)
    async with odd_tools() as toolbox:
        told = await toolbox.call("mcp__odd__hang", {})
        assert (told.text, told.is_error) == ("The tool did not answer in 0.1 s.", True)


async def test_a_server_has_no_variables_but_those_it_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GYMHOST_API_KEY", "a control key")
    async with odd_tools(env={"LICENCE": "1"}) as toolbox:
        names = (await toolbox.call("mcp__odd__environment", {})).text.split()
    assert "LICENCE" in names
    assert "GYMHOST_API_KEY" not in names


async def test_names_that_no_model_may_have_are_mapped_and_kept_in_trajectories() -> None:
    async with odd_tools() as toolbox:
        offered = [tool["name"] for tool in toolbox.definitions]
        assert len(set(offered)) == len(offered)
        assert max(map(len, offered)) == 64
        # the same in every attempt
        assert "mcp__odd__long_long_long_long_long_long_long_long_long__9b5ae8d5" in offered
        full = {toolbox.full_name(name): name for name in offered}
        assert full["mcp__odd__dotted.name"] == "mcp__odd__dotted_name"
        for suffix in ("a", "b"):
            name = full[f"mcp__odd__{'long_' * 13}{suffix}"]
            assert (await toolbox.call(name, {})).text == f"long {suffix}"


@pytest.mark.parametrize(
    ("config", "complaint", "terminal"),
    [
        ({**ODD, "args": [SCRIPT, "--fail"]}, "closed; it said: no licence found; key=", False),
        ({"command": "/nowhere/mcp"}, "No such file", True),
        ({"command": []}, "command: Input should be a valid string", True),
        ({"command": sys.executable, "args": 3}, "args: Input should be a valid list", True),
        ({"type": "sse", "url": "http://localhost/sse"}, "needs a 'command', or a 'url'", True),
        ({}, "needs a 'command', or a 'url'", True),
        ({"url": "localhost:1/mcp"}, "protocol", False),
        ({"url": "http://127.0.0.1:9/mcp?key=sk-of-mine"}, "connect", False),
    ],
)
async def test_a_server_that_can_not_be_used_is_a_failure_that_says_why(
    config: dict[str, Any], complaint: str, terminal: bool
) -> None:
    secret = {"env": {"KEY": "sk-of-mine"}, "headers": {"x-key": "sk-of-mine"}}
    with anyio.fail_after(40):
        with pytest.raises(AgentFailure) as raised:
            async with open_toolbox({"odd": {**config, **secret}}):
                pass
    failed = raised.value
    assert str(failed).startswith("MCP server 'odd' can't be used: ")
    assert complaint in str(failed)
    assert "sk-of-mine" not in str(failed)
    assert (failed.failure_class, failed.terminal) == ("mcp_error", terminal)
    assert children() == []


async def test_an_error_of_the_attempt_leaves_bare() -> None:
    with pytest.raises(ZeroDivisionError):
        async with odd_tools():
            raise ZeroDivisionError


async def test_calls_of_one_turn_are_in_the_server_at_once() -> None:
    calls = [("mcp__odd__together", {"number": number}) for number in range(3)]
    run = AgentRun()
    with scripted(Says(calls=calls), Says("Done.")) as endpoint:
        agent = ResponsesAgent(model="m", base_url=endpoint.url)
        with anyio.fail_after(40):
            await agent.run(TASK, {"odd": ODD}, run)
    assert endpoint.heard[1].outputs == ["0", "1", "2"]
    assert run.stop_reason == "completed"


async def test_a_server_that_leaves_in_the_middle_is_no_score() -> None:
    calls = [("mcp__odd__mixed", {}), ("mcp__odd__leave", {})]
    run = AgentRun()
    with scripted(Says(calls=calls[:1]), Says(calls=calls[1:])) as endpoint:
        agent = ResponsesAgent(model="m", base_url=endpoint.url)
        with anyio.fail_after(40):
            with pytest.raises(AgentFailure) as raised:
                await agent.run(TASK, {"odd": ODD}, run)
    assert raised.value.failure_class == "mcp_error"
    kinds = [(item["type"], item.get("status")) for item in run.output]
    assert kinds == [
        ("function_call", "completed"),
        ("function_call_output", None),
        ("function_call", "incomplete"),
    ]


async def test_a_cancelled_attempt_leaves_no_process_and_keeps_what_came_back() -> None:
    run = AgentRun()
    with open_gate() as gate:
        calls = [("mcp__odd__mixed", {}), ("mcp__odd__wait", {"port": gate.port})]
        with scripted(*[Says(calls=[call]) for call in calls]) as endpoint:
            agent = ResponsesAgent(model="m", base_url=endpoint.url)
            async with anyio.create_task_group() as group:
                group.start_soon(agent.run, TASK, {"odd": ODD}, run)
                with anyio.fail_after(40):
                    await anyio.to_thread.run_sync(gate.wait)
                group.cancel_scope.cancel()
    assert children() == []
    kinds = [(item["type"], item.get("status")) for item in run.output]
    assert kinds == [
        ("function_call", "completed"),
        ("function_call_output", None),
        ("function_call", "incomplete"),
    ]
    assert run.stop_reason is None
