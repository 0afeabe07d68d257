"""What the agent makes of its options and of a task, with the MCP server of the tests."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from gymhost import __version__
from gymhost.agents.base import AgentFailure, AgentRun
from gymhost.agents.responses import ResponsesAgent
from gymhost.models import JSONObject, Task
from tests.agents.odd import ODD
from tests.e2e.openai_endpoint import Answers, Says, scripted

HELLO = Says("Hello.")


async def asked(task_params: JSONObject, **options: Any) -> tuple[JSONObject, AgentRun]:
    """Return what the endpoint was asked, and the record."""
    run = AgentRun()
    with scripted(HELLO) as endpoint:
        agent = ResponsesAgent(**{"model": "m", "base_url": endpoint.url, **options})
        with anyio.fail_after(40):
            await agent.run(Task(task_params), {}, run)
    return endpoint.heard[0].body, run


async def test_a_tasks_fields_are_honoured_and_options_win() -> None:
    params = {
        "input": "Hi.",
        "model": "the task's",
        "temperature": 0.1,
        "top_p": None,
        "instructions": "The task's.",
        "max_output_tokens": 5,
        "metadata": {"a": "b"},
        "stream": True,
        "background": True,
        "previous_response_id": "resp_1",
    }
    body, run = await asked(params)
    assert body == {
        "input": [{"role": "user", "content": "Hi."}],
        "model": "m",
        "temperature": 0.1,
        "instructions": "The task's.",
        "max_output_tokens": 5,
        "metadata": {"a": "b"},
        "store": False,
    }
    assert (run.model, run.versions) == ("scripted-1", {"gymhost": __version__})
    options = {"temperature": 0.0, "system_prompt": "Mine.", "top_p": 0.5, "max_output_tokens": 9}
    body, _ = await asked(params, params={"seed": 1, "metadata": {}}, **options)
    assert (body["temperature"], body["top_p"], body["max_output_tokens"]) == (0.0, 0.5, 9)
    assert (body["instructions"], body["seed"], body["metadata"]) == ("Mine.", 1, {})


@pytest.mark.parametrize("dialect", ["responses", "chat"])
async def test_a_system_message_is_the_models_to_read(dialect: str) -> None:
    items = [{"role": "system", "content": "Rules."}, {"role": "user", "content": "Hi."}]
    body, _ = await asked({"input": items}, dialect=dialect)
    assert body["messages" if dialect == "chat" else "input"] == items


@pytest.mark.parametrize("given", [None, "", [], {}, 3, ["Hi."]])
async def test_a_task_that_asks_nothing_fails_for_good(given: Any) -> None:
    with pytest.raises(AgentFailure, match="the task asks nothing") as raised:
        await asked({"input": given} if given is not None else {})
    assert raised.value.terminal


async def test_a_task_brings_tools_of_its_own_but_none_that_is_there_already() -> None:
    schema = {"type": "object", "properties": {}}
    own = [
        {"type": "function", "name": "mixed", "parameters": schema},
        {"type": "function", "name": "mcp__odd__refuse", "parameters": schema},
        {"type": "function", "name": "elsewhere", "parameters": schema},
    ]
    run = AgentRun()
    with scripted(Says(calls=[("elsewhere", {})]), HELLO) as endpoint:
        agent = ResponsesAgent(model="m", base_url=endpoint.url)
        with anyio.fail_after(40):
            await agent.run(Task({"input": "Hi.", "tools": own}), {"odd": ODD}, run)
    tools = endpoint.heard[0].tools
    assert len(tools) == len(set(tools))
    assert "mixed" not in tools
    assert "elsewhere" in tools
    # nobody here runs it
    assert endpoint.heard[1].outputs == ["There is no tool named 'elsewhere'."]


async def test_numbers_that_no_record_can_hold_are_a_failure() -> None:
    item = b'{"output": [{"type": "message", "logprob": -1e999}]}'
    run = AgentRun()
    with scripted(Answers(body=item)) as endpoint:
        agent = ResponsesAgent(model="m", base_url=endpoint.url)
        with pytest.raises(AgentFailure, match="can't be kept") as raised:
            await agent.run(Task({"input": "Hi."}), {}, run)
    assert (raised.value.failure_class, run.output) == ("model_error", [])


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"dialect": "messages"}, "dialect must be 'responses' or 'chat'"),
        ({"max_turns": 0}, "max_turns must be at least 1"),
        ({"params": {"messages": [], "stream": True}}, "params can't have messages, stream"),
        ({"params": {"x": float("nan")}}, "params must be JSON"),
        ({"params": {"x": {1}}}, "params must be JSON"),
        ({"base_url": "localhost"}, "base_url must be"),
    ],
)
def test_options_that_can_not_be_used_are_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        ResponsesAgent(**{"model": "m", "base_url": "http://localhost/v1", **options})
