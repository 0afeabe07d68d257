"""The real Claude Code attempts tasks of a real server; its model is a script of the test's."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest
from anyio import to_thread

from gymhost.agents import AgentFailure, AgentRun, McpServers, Usage
from gymhost.agents.claude_code import ClaudeCode
from gymhost.client import Client
from gymhost.models import SeedAnswer, Task
from gymhost.trajectory import Trajectory
from tests.agents.programs import is_alive
from tests.e2e.anthropic_endpoint import (
    Endpoint,
    Garbage,
    Hang,
    Refuse,
    Say,
    Step,
    Use,
    instruction,
    last_result,
    open_endpoint,
)
from tests.e2e.servers import Server

CLAUDE = os.environ.get("GYMHOST_CLAUDE") or shutil.which("claude")

pytestmark = pytest.mark.skipif(
    CLAUDE is None,
    reason="there is no Claude Code here. Try: npm install --global @anthropic-ai/claude-code, "
    "or GYMHOST_CLAUDE=/path/to/claude",
)

SENTENCE = "The weather in Paris is sunny and 72 F."
ASKED = "--What is the weather in Paris? @/etc/hosts"
TASK = Task(
    responses_create_params={
        "input": [
            {"role": "system", "content": "-Answer with the report."},
            {"role": "user", "content": ASKED},
        ]
    },
    verifier_metadata={"expected_city": "Paris"},
)
KEY = "sk-not-a-real-key"
# What docs/agents.md advises to deny, where a task needs none of it.
MACHINE = ["Bash", "Edit", "Write", "Read", "WebFetch", "WebSearch", "Agent"]

# What Claude Code does, and not how it is started and ended: a second each.
ONE_BACKEND = pytest.mark.parametrize("anyio_backend", ["asyncio"])

# Its tools are deferred: the model has to ask for one by name before it can call it.
SEARCH = Use("ToolSearch", {"query": "select:mcp__weather__get_weather"})
CALL = Use("mcp__weather__get_weather", {"city": "Paris"})


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the agent makes its own: empty again after each attempt."""
    folder = tmp_path / "t"  # short: a socket's path in it has at most 107 bytes
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("GYMHOST_API_KEY", "the-control-key")
    for name in ("CLAUDE.md", "AGENTS.md"):  # Claude Code looks for these upwards
        (tmp_path / name).write_text("SOMEBODY ELSE'S ADVICE")
    return folder


def agent(endpoint: Endpoint, **options: Any) -> ClaudeCode:
    assert CLAUDE is not None
    given = {"model": "claude-sonnet-4-5", "executable": CLAUDE, "api_key": KEY}
    return ClaudeCode(**{**given, "base_url": endpoint.url, **options})


@asynccontextmanager
async def seeded(server: Server) -> AsyncGenerator[tuple[Client, SeedAnswer, McpServers]]:
    async with Client(server.url, server.key) as client:
        seed = await client.seed("weather", TASK)
        assert seed.mcp is not None
        yield (
            client,
            seed,
            {"weather": {"type": "http", "url": seed.mcp.url, "headers": seed.mcp.headers}},
        )


@pytest.mark.parametrize(
    ("steps", "reward"),
    [
        pytest.param([SEARCH, CALL, Say(last_result)], 1.0, id="calls and repeats"),
        pytest.param([Say(SENTENCE)], 0.0, id="makes it up"),
    ],
)
async def test_an_attempt_is_worth_what_was_done(
    server: Server, temporary: Path, steps: list[Step], reward: float
) -> None:
    run = AgentRun()
    with open_endpoint(*steps) as endpoint, anyio.fail_after(50):
        async with seeded(server) as (client, seed, mcp):
            await agent(endpoint, disallowed_tools=MACHINE).run(TASK, mcp, run)
            verdict = await client.verify("weather", seed.session_id, output=run.output)
            record = await client.session(seed.session_id)
    assert verdict["reward"] == reward
    trajectory = Trajectory(run.output)
    assert trajectory.final_text == SENTENCE
    assert [call["name"] for call in record["calls"]] == ["get_weather"] * (len(steps) == 3)
    assert [call.output for call in trajectory.tool_calls[1:]] == [SENTENCE] * (len(steps) == 3)
    assert (run.turns, run.stop_reason) == (len(steps), "end_turn")
    assert run.usage == Usage(115 * len(steps), 20 * len(steps), 10 * len(steps))
    assert run.cost_usd
    assert run.cost_usd > 0
    assert set(endpoint.keys) == {KEY}
    assert instruction(endpoint.bodies[0]) == ASKED  # and no file in its place
    assert "SOMEBODY ELSE'S ADVICE" not in str(endpoint.bodies)
    assert not {tool["name"] for tool in endpoint.bodies[0]["tools"]} & {*MACHINE}
    assert "-Answer with the report." in str(endpoint.bodies[0]["system"])
    assert files_in(temporary) == []


async def test_it_uses_a_server_that_it_starts_itself() -> None:
    time = {"command": sys.executable, "args": ["-m", "mcp_server_time", "--local-timezone=UTC"]}
    steps = (
        Use("ToolSearch", {"query": "select:mcp__the_time__get_current_time"}),
        Use("mcp__the_time__get_current_time", {"timezone": "Asia/Tokyo"}),
        Say(last_result),
    )
    run = AgentRun()
    with open_endpoint(*steps) as endpoint, anyio.fail_after(50):
        await agent(endpoint).run(TASK, {"the.time": time}, run)
    _, call = Trajectory(run.output).tool_calls
    assert (call.name, call.is_error) == ("get_current_time", False)
    assert json.loads(Trajectory(run.output).final_text)["timezone"] == "Asia/Tokyo"


@ONE_BACKEND
@pytest.mark.parametrize("text", ["/clear", "/" + "x" * 200_000])
async def test_an_instruction_is_just_text(text: str) -> None:
    task = Task(responses_create_params={"input": text, "instructions": "s" * 200_000})
    with open_endpoint(Say("Yes.")) as endpoint, anyio.fail_after(50):
        await agent(endpoint).run(task, {}, AgentRun())
    assert instruction(endpoint.bodies[0]).strip() == text
    assert "s" * 200_000 in str(endpoint.bodies[0]["system"])


@ONE_BACKEND
async def test_the_limit_on_turns_ends_an_attempt_that_is_scored(server: Server) -> None:
    run = AgentRun()
    with open_endpoint(SEARCH, CALL, Say(last_result)) as endpoint, anyio.fail_after(50):
        async with seeded(server) as (client, seed, mcp):
            await agent(endpoint, max_turns=2).run(TASK, mcp, run)
            verdict = await client.verify("weather", seed.session_id, output=run.output)
    assert verdict["reward"] == 0.0
    assert run.stop_reason == "max_turns"


@ONE_BACKEND
async def test_an_endpoint_that_refuses_for_a_while_is_waited_for() -> None:
    run = AgentRun()
    busy = Refuse(429, "rate_limit_error")
    with open_endpoint(busy, busy, Say("Hi.")) as endpoint, anyio.fail_after(50):
        await agent(endpoint).run(TASK, {}, run)
    assert Trajectory(run.output).assistant_text == "Hi."
    assert run.turns == 1


@ONE_BACKEND
@pytest.mark.parametrize(
    ("step", "failure_class", "terminal"),
    [
        (Refuse(429, "rate_limit_error"), "model_rate_limited", False),
        (Refuse(500, "api_error"), "model_error", False),
        (Refuse(401, "authentication_error"), "model_error", True),
        (Garbage(), "model_error", False),
    ],
)
async def test_an_endpoint_that_fails_is_a_failure_and_no_answer(
    step: Step, failure_class: str, terminal: bool
) -> None:
    run = AgentRun()
    retries = {"CLAUDE_CODE_MAX_RETRIES": "1"}
    with open_endpoint(step) as endpoint, anyio.fail_after(50):
        with pytest.raises(AgentFailure) as caught:
            await agent(endpoint, env=retries).run(TASK, {}, run)
    assert (caught.value.failure_class, caught.value.terminal) == (failure_class, terminal)
    assert run.output == []
    assert KEY not in str(caught.value)


@ONE_BACKEND
async def test_it_is_a_failure_where_its_tools_are_not_there() -> None:
    nowhere = {"weather": {"type": "http", "url": "http://127.0.0.1:9/mcp", "headers": {}}}
    with open_endpoint(Say(SENTENCE)) as endpoint, anyio.fail_after(50):
        with pytest.raises(AgentFailure, match="weather is failed") as caught:
            await agent(endpoint).run(TASK, nowhere, AgentRun())
    assert caught.value.failure_class == "mcp_error"


@ONE_BACKEND
async def test_it_is_a_failure_where_an_option_is_wrong() -> None:
    with open_endpoint(Hang()) as endpoint, anyio.fail_after(50):
        with pytest.raises(AgentFailure, match=r"permission-mode.*whatever") as caught:
            await agent(endpoint, permission_mode="whatever").run(TASK, {}, AgentRun())
    assert caught.value.failure_class == "agent_exit"


async def test_a_cancellation_ends_it_while_the_endpoint_hangs(temporary: Path) -> None:
    with open_endpoint(Hang()) as endpoint, anyio.fail_after(50):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(agent(endpoint).run, TASK, {}, AgentRun())
            assert await to_thread.run_sync(endpoint.asked.wait, 30)
            assert processes_below(temporary)
            tasks.cancel_scope.cancel()
    assert processes_below(temporary) == []
    assert files_in(temporary) == []


async def test_a_cancellation_ends_the_commands_that_it_runs(temporary: Path) -> None:
    started = temporary.parent / "started"
    os.mkfifo(started)
    reader = os.open(started, os.O_RDWR | os.O_NONBLOCK)
    command = f"sh -c 'echo $$ > {started}; exec sleep 600'"
    run = AgentRun()
    with open_endpoint(Use("Bash", {"command": command})) as endpoint, anyio.fail_after(50):
        async with anyio.create_task_group() as tasks:
            claude = agent(endpoint, allowed_tools=["Bash"])
            tasks.start_soon(claude.run, TASK, {}, run)
            await anyio.wait_readable(reader)
            pid = int(os.read(reader, 100))
            assert is_alive(pid)
            tasks.cancel_scope.cancel()
    os.close(reader)
    assert not is_alive(pid)
    assert run.output[-1]["status"] == "incomplete"
    assert files_in(temporary) == []


async def test_its_commands_see_no_variable_of_the_hosts(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOMEBODYS_TOKEN", "the-hosts-own")
    run = AgentRun()
    steps = Use("Bash", {"command": "env; pwd; ls -A; echo"}), Say("Done.")
    with open_endpoint(*steps) as endpoint, anyio.fail_after(50):
        await agent(endpoint, allowed_tools=["Bash"]).run(TASK, {}, run)
    (call,) = Trajectory(run.output).tool_calls
    assert call.output is not None
    assert "the-control-key" not in call.output
    assert "the-hosts-own" not in call.output
    assert "ANTHROPIC_API_KEY=***" in call.output  # it sees that; the record does not have it
    environment, _, files = call.output.rpartition("/work")
    assert f"HOME={temporary}" in environment
    assert files.strip() == ""


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def processes_below(folder: Path) -> list[int]:
    """Return the processes that work somewhere in a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if folder in Path(process.cwd()).parents:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found
