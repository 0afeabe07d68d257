"""The agent `responses` against a scripted endpoint, with the tools of a real server."""

from __future__ import annotations

import sys
from typing import Any

import anyio
import pytest
from gym_env_external_verifier import ExternalVerifier

from gymhost.agents.base import AgentFailure, AgentRun, McpServers
from gymhost.agents.responses import ResponsesAgent
from gymhost.client import Client
from gymhost.models import SeedAnswer, Task
from tests.e2e.openai_endpoint import (
    KEY,
    Answers,
    Drips,
    Endpoint,
    Heard,
    Says,
    refusal,
    scripted,
)
from tests.e2e.servers import Server, Servers

TASK = Task(
    {"input": [{"role": "user", "content": "What is the weather in Paris?"}]},
    {"expected_city": "Paris"},
)
ASK = "mcp__weather__get_weather"
SENTENCE = "The weather in Paris is sunny and 72 F."

BUSY = Answers(429, {"error": {"message": "slow down"}}, {"retry-after": "0"})

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


@both_dialects
async def test_two_calls_of_one_turn_run_at_once_and_are_answered_in_order(
    server: Server, dialect: str
) -> None:
    calls = [(ASK, {"city": "Paris"}), (ASK, {"city": "Oslo"})]
    rollout = Rollout()
    with scripted(Says("Two at once.", calls=calls), repeats) as endpoint:
        await rollout.play(server, agent(endpoint, dialect=dialect))
    assert rollout.verdict["reward"] == 1.0
    assert rollout.kinds == [
        *("message", "function_call", "function_call"),
        *("function_call_output", "function_call_output", "message"),
    ]
    paris, oslo = endpoint.heard[1].outputs
    assert ("Paris" in paris, "Oslo" in oslo) == (True, True)
    asked = {call["arguments"]["city"] for call in rollout.session["calls"]}
    assert asked == {"Paris", "Oslo"}


@both_dialects
async def test_ids_that_repeat_or_are_missing_are_made_unique(server: Server, dialect: str) -> None:
    cities = ["Paris", "Oslo", "Rome", "Bern"]
    calls = [(ASK, {"city": city}) for city in cities]
    ids = ["call_1", "call_1", None, ""]
    rollout = Rollout()
    with scripted(
        Says(calls=calls, ids=ids), Says(calls=calls[:1], ids=["call_1"]), repeats
    ) as endpoint:
        await rollout.play(server, agent(endpoint, dialect=dialect))
    made = [item["call_id"] for item in rollout.run.output if item["type"] == "function_call"]
    assert made[0] == "call_1"
    assert len(set(made)) == 5
    for city, told in zip([*cities, "Paris"], endpoint.heard[2].outputs, strict=True):
        assert city in told
    assert rollout.verdict["reward"] == 1.0


@both_dialects
async def test_what_a_model_does_wrong_it_is_told_and_the_run_goes_on(
    server: Server, dialect: str
) -> None:
    calls: list[tuple[str, Any]] = [
        (ASK, '{"city": "Par'),
        (ASK, "[1]"),
        (ASK, '{"city": 1e999}'),
        (ASK, {"town": "Paris"}),
        ("mcp__weather__forecast", {}),
        (ASK, ""),
    ]
    rollout = Rollout()
    with scripted(Says(calls=calls), Says(calls=[(ASK, {"city": "Paris"})]), repeats) as endpoint:
        await rollout.play(server, agent(endpoint, dialect=dialect))
    told = endpoint.heard[1].outputs
    assert told[0] == 'The arguments are not a JSON object: {"city": "Par'
    assert told[1].endswith("object: [1]")
    assert told[2].endswith('object: {"city": 1e999}')
    assert "town" in told[3]
    assert told[4] == "There is no tool named 'mcp__weather__forecast'."
    assert "city" in told[5]
    outputs = [item for item in rollout.run.output if item["type"] == "function_call_output"]
    assert [item.get("is_error", False) for item in outputs] == [True] * 6 + [False]
    assert rollout.run.output[0]["arguments"] == '{"city": "Par'
    assert rollout.verdict["reward"] == 1.0


@both_dialects
async def test_after_the_last_turn_its_calls_are_made_and_no_more_is_asked(
    server: Server, dialect: str
) -> None:
    rollout = Rollout()
    with scripted(*[Says(SENTENCE, calls=[(ASK, {"city": "Paris"})])] * 5) as endpoint:
        await rollout.play(server, agent(endpoint, dialect=dialect, max_turns=2))
    assert (len(endpoint.heard), rollout.run.turns) == (2, 2)
    assert rollout.run.stop_reason == "max_turns"
    assert len(rollout.session["calls"]) == 2
    assert rollout.verdict["reward"] == 1.0


@both_dialects
async def test_a_turn_that_was_cut_off_is_kept_and_its_calls_are_not_made(
    server: Server, dialect: str
) -> None:
    rollout = Rollout()
    with scripted(Says("I will", calls=[(ASK, '{"city":')], cut=True)) as endpoint:
        await rollout.play(server, agent(endpoint, dialect=dialect, max_output_tokens=10))
    assert rollout.run.stop_reason in ("length", "max_output_tokens")
    assert rollout.kinds == ["message", "function_call"]
    assert rollout.run.output[1]["status"] == "incomplete"
    assert rollout.session["calls"] == []
    assert rollout.verdict["reward"] == 0.0
    asked = endpoint.heard[0].body
    assert asked["max_completion_tokens" if dialect == "chat" else "max_output_tokens"] == 10


@both_dialects
async def test_a_busy_endpoint_is_asked_again_and_no_tool_call_is_repeated(
    server: Server, dialect: str
) -> None:
    broken = Answers(503, b"<html>upstream</html>", {"retry-after-ms": "1"})
    says_so = Answers(
        body={"error": {"message": "busy", "code": 429}}, headers={"retry-after": "0"}
    )
    rollout = Rollout()
    with scripted(
        *(BUSY, broken, Says(calls=[(ASK, {"city": "Paris"})])), *(says_so, broken, BUSY, repeats)
    ) as endpoint:
        await rollout.play(server, agent(endpoint, dialect=dialect))
    assert rollout.verdict["reward"] == 1.0
    assert len(endpoint.heard) == 7
    assert len(rollout.session["calls"]) == 1
    assert rollout.run.turns == 2


async def failure(server: Server, rollout: Rollout, agent: ResponsesAgent) -> AgentFailure:
    with pytest.raises(AgentFailure) as raised:
        await rollout.play(server, agent)
    return raised.value


@pytest.mark.parametrize(
    ("steps", "failure_class", "terminal", "message"),
    [
        pytest.param([Drips()], "model_timeout", False, "in 2 s", id="it hangs"),
        pytest.param([Answers(body=b"data: {]")], "model_error", False, "{]", id="garbage"),
        pytest.param([Answers(body={})], "model_error", False, "has no ", id="no turn"),
        pytest.param([BUSY] * 3, "model_rate_limited", False, "429: slow down", id="busy"),
        pytest.param(
            [refusal("no model scripted", 404)], "model_error", True, "no model", id="no such model"
        ),
    ],
)
@both_dialects
async def test_a_bad_endpoint_is_a_failure_with_its_class(
    server: Server,
    dialect: str,
    steps: list[Answers | Drips],
    failure_class: str,
    terminal: bool,
    message: str,
) -> None:
    rollout = Rollout()
    called = Says(calls=[(ASK, {"city": "Paris"})])
    with scripted(called, *steps) as endpoint:
        failed = await failure(
            server, rollout, agent(endpoint, dialect=dialect, attempts=3, timeout=2)
        )
        assert len(endpoint.heard) == 1 + len(steps)
    assert (failed.failure_class, failed.terminal) == (failure_class, terminal)
    assert message in str(failed)
    assert rollout.kinds == ["function_call", "function_call_output"]
    assert rollout.run.turns == 1
    assert (rollout.session["status"], len(rollout.session["calls"])) == ("open", 1)


@both_dialects
async def test_a_conversation_that_grows_too_long_ends_and_is_scored(
    server: Server, dialect: str
) -> None:
    too_long = refusal("too much", code="context_length_exceeded")
    rollout = Rollout()
    with scripted(Says(SENTENCE, calls=[(ASK, {"city": "Paris"})]), too_long) as endpoint:
        await rollout.play(server, agent(endpoint, dialect=dialect))
    assert rollout.run.stop_reason == "context_length"
    assert rollout.verdict["reward"] == 1.0
    with scripted(too_long) as endpoint:
        failed = await failure(server, Rollout(), agent(endpoint, dialect=dialect))
    assert failed.terminal


async def test_a_cancelled_attempt_leaves_no_connection_and_keeps_what_was_done(
    server: Server,
) -> None:
    rollout = Rollout()
    with scripted(Says(calls=[(ASK, {"city": "Paris"})]), Drips()) as endpoint:
        async with anyio.create_task_group() as group:
            group.start_soon(rollout.play, server, agent(endpoint))
            with anyio.fail_after(20):
                await anyio.to_thread.run_sync(endpoint.dripping.wait, 20)
            group.cancel_scope.cancel()
        assert await anyio.to_thread.run_sync(endpoint.hung_up.wait, 20)
    assert rollout.kinds == ["function_call", "function_call_output"]


async def test_a_host_that_is_gone_is_no_score(servers: Servers, backend: str) -> None:
    host = servers.start("--backend", backend)

    def leave(heard: Heard) -> Says:
        host.stop()
        return Says(calls=[(ASK, {"city": "Paris"})] * 2)

    run = AgentRun()
    async with Client(host.url, host.key) as client:
        seeded = await client.seed("weather", TASK)
        with scripted(leave) as endpoint, anyio.fail_after(40):
            with pytest.raises(AgentFailure) as raised:
                await agent(endpoint).run(TASK, connected(seeded), run)
            failed = raised.value
            assert (failed.failure_class, failed.terminal) == ("mcp_error", False)
            with pytest.raises(AgentFailure, match="MCP server 'weather' can't be used") as raised:
                await agent(endpoint).run(TASK, connected(seeded), AgentRun())
    assert [item.get("status") for item in run.output] == ["incomplete"] * 2


TIMES = {
    "source_timezone": "Asia/Tokyo",
    "time": "16:30",
    "target_timezone": "Asia/Kolkata",  # neither has daylight saving time
}
CONVERT = "mcp__time__convert_time"


@pytest.mark.parametrize(
    ("arguments", "reward"),
    # right, and a tool error
    [(TIMES, 1.0), ({**TIMES, "source_timezone": "X"}, 0.0)],
)
async def test_somebody_elses_tools_are_used_and_scored_by_the_trajectory(
    server: Server, arguments: dict[str, str], reward: float
) -> None:
    task = next(ExternalVerifier().tasks())
    time = {
        "command": sys.executable,
        "args": ["-m", "mcp_server_time", "--local-timezone", "UTC"],
    }
    run = AgentRun()
    async with Client(server.url, server.key) as client:
        seeded = await client.seed("external_verifier", task)
        with scripted(Says(calls=[(CONVERT, arguments)]), repeats) as endpoint:
            with anyio.fail_after(40):
                await agent(endpoint).run(task, {"time": time}, run)
        verdict = await client.verify("external_verifier", seeded.session_id, output=run.output)
    assert verdict["reward"] == reward
    assert "mcp__time__get_current_time" in endpoint.heard[0].tools
