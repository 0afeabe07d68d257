from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gymhost.agents import AgentRun, Usage, stream_json
from gymhost.agents.stream_json import StreamJson
from gymhost.trajectory import Trajectory

RECORDINGS = Path(__file__).with_name("recordings")
SENTENCE = "The weather in Paris is sunny and 72 F."


def lines(name: str) -> list[bytes]:
    """What Claude Code 2.1.332 printed, without the fields that nobody reads."""
    return (RECORDINGS / f"{name}.jsonl").read_bytes().splitlines()


def read(given: list[bytes]) -> tuple[AgentRun, StreamJson]:
    run = AgentRun()
    reader = StreamJson(run, ["weather"])
    for line in given:
        if not reader.feed(line):
            break
    return run, reader


def event(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def assistant(message_id: str, *blocks: dict[str, Any], **usage: int) -> bytes:
    message = {"id": message_id, "model": "m", "content": blocks, "usage": usage}
    return event(type="assistant", message=message, parent_tool_use_id=None)


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def success(**fields: Any) -> bytes:
    return event(**{"type": "result", "subtype": "success", "is_error": False, **fields})


def test_a_recorded_run_becomes_a_trajectory() -> None:
    run, reader = read(lines("weather"))
    assert reader.finished
    assert reader.failure is None
    found = Trajectory(run.output)
    assert [(call.name, call.output) for call in found.tool_calls[1:]] == [
        ("get_weather", SENTENCE)
    ]
    assert found.tool_calls[0].arguments == {"query": "select:mcp__weather__get_weather"}
    assert "mcp__weather__get_weather" in str(found.tool_calls[0].output)
    assert found.final_text == "done"
    assert found.assistant_text == "let me\nlet me\ndone"  # and no thinking
    assert [item["type"] for item in run.output[:4]] == [
        "reasoning",
        "message",
        "function_call",
        "function_call_output",
    ]
    assert (run.model, run.stop_reason, run.turns) == ("claude-sonnet-4-5", "end_turn", 3)
    assert run.versions == {"claude-code": "2.1.332"}
    assert run.cost_usd == pytest.approx(0.001017)


def test_usage_is_counted_once() -> None:
    *before, result = lines("weather")
    run, reader = read(before)
    # three messages, each in three events
    assert run.usage == Usage(input_tokens=51, output_tokens=3, cached_input_tokens=15)
    reader.feed(result)
    # the events say what was known when a message began, the result says how it ended
    assert run.usage == Usage(input_tokens=51, output_tokens=60, cached_input_tokens=15)
    reader.feed(result)
    assert run.usage.total_tokens == 111


def test_the_result_of_an_older_version_has_the_usage_of_all_models_in_one() -> None:
    run, _ = read(
        [assistant("m", text("Hi.")), success(usage={"input_tokens": 3, "output_tokens": 4})]
    )
    assert run.usage == Usage(3, 4)


def test_the_limit_on_turns_is_no_failure() -> None:
    run, reader = read(lines("max_turns"))
    assert reader.failure is None
    assert reader.finished
    assert reader.stopped_early
    assert (run.stop_reason, run.turns) == ("max_turns", 1)


def test_a_rate_limit_is_a_failure_and_its_text_is_not_the_models() -> None:
    run, reader = read(lines("rate_limited"))
    assert reader.failure is not None
    assert reader.failure.failure_class == "model_rate_limited"
    assert not reader.failure.terminal
    assert "slow down" in str(reader.failure)
    assert (run.output, run.turns) == ([], 0)


def test_a_sub_agents_calls_are_the_attempts_and_its_words_are_not() -> None:
    recorded = lines("sub_agent")
    words = json.dumps(
        {
            "type": "assistant",
            "message": {"id": "m", "content": [text("of the sub-agent")]},
            "parent_tool_use_id": "toolu_0",
        }
    ).encode()
    run, _ = read([*recorded[:8], words, *recorded[8:]])
    found = Trajectory(run.output)
    assert [call.name for call in found.tool_calls] == ["Agent", "get_weather"]
    assert found.assistant_text == "let me\nmain done"
    inner = [item for item in run.output if "parent_call_id" in item]
    assert [(item["type"], item["parent_call_id"]) for item in inner] == [
        ("function_call", "toolu_0"),
        ("function_call_output", "toolu_0"),
    ]
    # four calls of the model, of which the result's own `usage` has two
    assert run.usage == Usage(input_tokens=68, output_tokens=80, cached_input_tokens=20)


def test_a_server_that_is_not_connected_stops_the_run() -> None:
    _, reader = read(lines("mcp_failed"))
    assert reader.failure is not None
    assert reader.failure.failure_class == "mcp_error"
    assert "weather is failed" in str(reader.failure)


@pytest.mark.parametrize("servers", [[], [{"name": "weather", "status": "pending"}], [None]])
def test_a_server_that_may_never_come_stops_the_run(servers: list[Any]) -> None:
    begin = event(type="system", subtype="init", mcp_servers=servers)
    assert not StreamJson(AgentRun(), ["weather"]).feed(begin)
    assert StreamJson(AgentRun()).feed(begin)


def test_a_version_that_does_not_list_servers_is_believed() -> None:
    assert StreamJson(AgentRun(), ["weather"]).feed(event(type="system", subtype="init"))


def test_a_call_without_a_result_is_incomplete() -> None:
    call = {"type": "tool_use", "id": "c", "name": "wait", "input": {"s": 1}}
    run, reader = read([assistant("m", call)])
    assert run.output == [
        {
            "type": "function_call",
            "call_id": "c",
            "name": "wait",
            "arguments": '{"s": 1}',
            "status": "incomplete",
        }
    ]
    assert not reader.finished


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\xff\xfe",
        b"API key: none",
        b'{"type": "assistant", "message": {"content": [{"ty',  # half of one
        b"[" * 100_000,
        b"null",
        b"[1]",
        b'{"type": "assistant", "message": NaN}',
        event(type="assistant"),
        event(type="assistant", message="Hi."),
        event(type="assistant", message={"content": 7}),
        event(type="assistant", message={"content": [7, {"type": "text"}, {"type": "thinking"}]}),
        event(type="user", message={"content": "Go on."}),
        event(type="user", message={"content": [text("Go on.")]}),
        event(type="system", subtype="thinking_tokens"),
        event(type="hologram", message={"content": [text("Hi.")]}),
        event(type=["assistant"]),
    ],
)
def test_what_is_no_event_is_passed_over(line: bytes) -> None:
    run, reader = read([line, *lines("weather")])
    assert reader.finished
    assert run.output == read(lines("weather"))[0].output


def test_the_last_line_that_is_no_event_is_kept_for_the_message() -> None:
    _, reader = read([b"Error: it is Monday  ", b"", *lines("weather")])
    assert reader.noise == "Error: it is Monday"


@pytest.mark.parametrize(
    ("fields", "failure_class", "terminal"),
    [
        ({"api_error_status": 429}, "model_rate_limited", False),
        ({"api_error_status": 529}, "model_error", False),
        ({"api_error_status": 401}, "model_error", True),
        ({"api_error_status": 404}, "model_error", True),
        ({"result": "API Error: Request timed out."}, "model_timeout", False),
        ({"result": "Credit balance is too low"}, "model_error", False),
        ({"subtype": "error_during_execution", "errors": ["a bug"]}, "agent_error", False),
        ({"subtype": None}, "agent_error", False),
    ],
)
def test_an_error_has_its_class(fields: dict[str, Any], failure_class: str, terminal: bool) -> None:
    _, reader = read([assistant("m", text("Hi.")), success(**{"is_error": True, **fields})])
    assert reader.failure is not None
    assert (reader.failure.failure_class, reader.failure.terminal) == (failure_class, terminal)
    assert not reader.finished


def test_an_error_event_says_what_the_result_does_not() -> None:
    message = {"id": "x", "model": "<synthetic>", "content": [text("Invalid API key")]}
    said = event(type="assistant", message=message, error="authentication_failed")
    _, reader = read([said, success(is_error=True)])
    assert str(reader.failure) == "Invalid API key"
    assert reader.failure is not None
    assert reader.failure.terminal


def test_without_a_key_the_advice_is_one_that_helps() -> None:
    _, reader = read([success(is_error=True, result="Not logged in · Please run /login")])
    assert str(reader.failure).endswith("give the agent the option api_key or auth_token")


def test_a_run_that_never_asked_the_model_is_no_attempt() -> None:
    _, reader = read([success(result="")])
    assert reader.failure is not None
    assert "did not ask the model" in str(reader.failure)
    assert not reader.finished


def test_a_trajectory_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_json, "OUTPUT_LIMIT", 2**20)
    long = assistant("m", text("x" * 2**19))
    run, reader = read([long] * 5)
    assert reader.failure is not None
    assert reader.failure.failure_class == "agent_protocol"
    assert len(run.output) == 1
