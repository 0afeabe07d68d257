"""The agent `responses` against a scripted endpoint, with the tools of a real server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from gymhost.agents.base import AgentFailure, AgentRun, McpServers
from gymhost.agents.responses import ResponsesAgent
from gymhost.client import Client
from gymhost.models import SeedAnswer, Task
from tests.e2e.openai_endpoint import KEY, Endpoint, Heard, Says, scripted
from tests.e2e.servers import Server

TASK = Task(
    {"input": [{"role": "user", "content": "What is the weather in Paris?"}]},
    {"expected_city": "Paris"},
)
ASK = "mcp__weather__get_weather"
SENTENCE = "The weather in Paris is sunny and 72 F."

both_dialects = pytest.mark.parametrize("dialect", ["responses", "chat"])


def agent(endpoint: Endpoint, **options: Any) -> ResponsesAgent:
    return ResponsesAgent(
        **{"model": "scripted", "base_url": endpoint.url, "api_key": KEY, **options}
    )


def connected(seeded: SeedAnswer) -> McpServers:
    assert seeded.mcp is not None
    server = {"type": "http", "url": seeded.mcp.url, "headers": seeded.mcp.headers}
    return {seeded.mcp.server_name: server}


class Rollout:
    """One attempt at the weather task: its record so far, its verdict and the host's record."""

    def __init__(self) -> None:
        self.run = AgentRun()
        self.verdict: dict[str, Any] = {}
        self.session: dict[str, Any] = {}

    async def play(self, server: Server, agent: ResponsesAgent, task: Task = TASK) -> None:
        async with Client(server.url, server.key) as client:
            seeded = await client.seed("weather", task)
            try:
                with anyio.fail_after(30):
                    await agent.run(task, connected(seeded), self.run)
                output = self.run.output
                self.verdict = await client.verify("weather", seeded.session_id, output=output)
            finally:
                self.session = await client.session(seeded.session_id)

    @property
    def kinds(self) -> list[str]:
        return [item["type"] for item in self.run.output]


def repeats(heard: Heard) -> Says:
    return Says("\n".join(heard.outputs))


@both_dialects
async def test_an_agent_that_asks_and_repeats_the_report_is_rewarded(
    server: Server, dialect: str
) -> None:
    rollout = Rollout()
    with scripted(Says(thinking="I ask.", calls=[(ASK, {"city": "Paris"})]), repeats) as endpoint:
        await rollout.play(server, agent(endpoint, dialect=dialect))
    assert rollout.verdict["reward"] == 1.0
    assert rollout.kinds == ["reasoning", "function_call", "function_call_output", "message"]
    _, call, output, message = rollout.run.output
    assert (call["name"], call["call_id"]) == (ASK, output["call_id"])
    assert output["output"] == message["content"][0]["text"] == SENTENCE
    (recorded,) = rollout.session["calls"]
    assert (recorded["name"], recorded["arguments"]) == ("get_weather", {"city": "Paris"})
    usage = rollout.run.usage
    assert (usage.input_tokens, usage.output_tokens, usage.cached_input_tokens) == (200, 20, 80)
    assert (rollout.run.turns, rollout.run.model) == (2, "scripted-1")
    assert rollout.run.stop_reason in ("completed", "stop")
    assert endpoint.heard[0].tools == [ASK]
    assert endpoint.heard[0].headers["authorization"] == f"Bearer {KEY}"


@both_dialects
async def test_an_agent_that_makes_the_report_up_is_not(server: Server, dialect: str) -> None:
    rollout = Rollout()
    with scripted(Says(SENTENCE)) as endpoint:
        await rollout.play(server, agent(endpoint, dialect=dialect))
    assert rollout.verdict["reward"] == 0.0
    assert rollout.session["calls"] == []
