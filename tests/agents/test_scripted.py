"""The scripted agent, against gymhost's own tools and somebody else's."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from gymhost import Task
from gymhost.agents.base import AgentFailure, AgentRun, McpServers
from gymhost.agents.scripted import Scripted
from gymhost.client import Client
from tests.environments import Diary
from tests.rollouts.exams import served

TIME = {
    "type": "stdio",
    "command": sys.executable,
    "args": ["-m", "mcp_server_time", "--local-timezone", "UTC"],
}
NOON = {"source_timezone": "Asia/Tokyo", "time": "16:30", "target_timezone": "Asia/Kolkata"}


def task(**reference: Any) -> Task:
    return Task(extra={"reference": reference})


async def play(agent: Scripted, played: Task, servers: McpServers) -> AgentRun:
    run = AgentRun()
    with anyio.fail_after(40):
        async with agent:
            await agent.run(played, servers, run)
    return run


async def diary(agent: Scripted, played: Task, more: McpServers | None = None) -> AgentRun:
    """Play with the tools of a diary."""
    async with served({"diary": Diary}) as remote, Client(remote.url, remote.key) as client:
        seeded = await client.seed("diary")
        assert seeded.mcp is not None
        entry = {"type": "http", "url": seeded.mcp.url, "headers": seeded.mcp.headers}
        return await play(agent, played, {**(more or {}), "diary": entry})


async def test_the_reference_is_played_and_noted() -> None:
    calls = [{"name": "write", "arguments": {"note": note}} for note in ("ä", "b")]
    run = await diary(Scripted(), task(calls=calls, answer="done"))
    assert run.output == [
        {
            "type": "function_call",
            "call_id": "call_0",
            "name": "write",
            "arguments": json.dumps({"note": "ä"}),
        },
        {"type": "function_call_output", "call_id": "call_0", "output": "ä"},
        {
            "type": "function_call",
            "call_id": "call_1",
            "name": "write",
            "arguments": '{"note": "b"}',
        },
        {"type": "function_call_output", "call_id": "call_1", "output": "ä,b"},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "done"}],
        },
    ]
    assert (run.turns, run.stop_reason) == (3, "completed")


async def test_a_trajectory_is_handed_in_as_it_is() -> None:
    items = [{"type": "message", "role": "assistant", "content": "as it is"}]
    assert (await play(Scripted(), task(trajectory=items), {})).output == items


async def test_a_tool_error_is_read_as_an_agent_reads_it() -> None:
    run = await diary(Scripted(), task(calls=[{"name": "write", "arguments": {"not": 1}}]))
    assert "note" in run.output[1]["output"]


async def test_the_steps_of_a_file_are_played_for_every_task(tmp_path: Path) -> None:
    path = tmp_path / "steps.json"
    path.write_text('{"calls": [{"name": "mcp__diary__write", "arguments": {"note": "x"}}]}')
    run = await diary(Scripted(str(path)), Task())
    assert [item.get("output") for item in run.output] == [None, "x", None]
    assert run.output[0]["name"] == "mcp__diary__write"


async def test_somebody_elses_server_is_started_and_called() -> None:
    calls = [
        {"name": "convert_time", "arguments": NOON},
        {"name": "mcp__diary__write", "arguments": {"note": "x"}},
        {"name": "mcp__time__get_current_time", "arguments": {"timezone": "Tokyo"}},
    ]
    run = await diary(Scripted(), task(calls=calls), {"time": TIME})
    outputs = [item["output"] for item in run.output if "output" in item]
    assert "13:00:00+05:30" in outputs[0]
    assert outputs[1] == "x"
    assert "Invalid timezone" in outputs[2]


@pytest.mark.parametrize(
    ("played", "servers", "failure", "said"),
    [
        (Task(), {}, "no_reference", "the task has no reference to play"),
        (task(answers=1), {}, "no_reference", "the task's reference can't be read"),
        (task(trajectory=[], answer="x"), {}, "no_reference", "keep one"),
        (task(calls=[{"name": "write"}]), {}, "mcp_error", "there is no MCP server to call"),
        (
            task(calls=[{"name": "write"}]),
            {"gone": {"command": "/nowhere/at/all"}},
            "mcp_error",
            "MCP server 'gone' can't be used",
        ),
        (
            task(calls=[{"name": "write"}]),
            {"gone": {"url": "http://127.0.0.1:9/", "headers": {"X-NeMo-Gym-Session-Token": "x"}}},
            "mcp_error",
            "the MCP server 'gone' did not answer",
        ),
    ],
)
async def test_what_can_not_be_played_is_a_failure(
    played: Task, servers: McpServers, failure: str, said: str
) -> None:
    with pytest.raises(AgentFailure, match=said) as caught:
        await play(Scripted(), played, servers)
    assert caught.value.failure_class == failure
    assert caught.value.terminal == (failure == "no_reference" or "answer" not in said)


async def test_a_tool_that_no_server_has_is_a_failure() -> None:
    with pytest.raises(AgentFailure, match="no server has the tool 'dance'"):
        await diary(Scripted(), task(calls=[{"name": "dance"}]), {"time": TIME})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "can't be read: EOF"),
        ('{"answers": 1}', "can't be read: 1 validation"),
        ('{"trajectory": [], "answer": "x"}', "keep one"),
    ],
)
def test_steps_that_are_none_are_said(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "steps.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        Scripted(str(path))
    with pytest.raises(ValueError, match="No such file"):
        Scripted(str(tmp_path / "nowhere"))
