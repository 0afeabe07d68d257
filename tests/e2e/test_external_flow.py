"""The external flow: an agent uses somebody else's MCP server, and gymhost scores what it shows."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import anyio
import httpx2
import mcp
import pytest
from gym_env_external_verifier import ExternalVerifier
from mcp.client.stdio import StdioServerParameters, stdio_client

from tests.e2e.servers import Server

Items = list[dict[str, Any]]

ENVIRONMENT = "/envs/external_verifier"
TASK = next(ExternalVerifier().tasks())
ARGUMENTS = {
    "source_timezone": "Asia/Tokyo",
    "time": "16:30",
    "target_timezone": "Asia/Kolkata",  # neither has daylight saving time
}
MCP_SERVER = StdioServerParameters(
    command=sys.executable, args=["-m", "mcp_server_time", "--local-timezone", "UTC"]
)


class Agent:
    """Calls the tools of the MCP server that it has under `time`, and writes down what it did."""

    def __init__(self, client: mcp.Client) -> None:
        self._client = client
        self.items: Items = []

    async def call(self, name: str, **arguments: Any) -> str:
        assert name in {tool.name for tool in (await self._client.list_tools()).tools}
        result = await self._client.call_tool(name, arguments)
        output = result.model_dump(mode="json", by_alias=True, exclude_none=True)
        call_id = f"call_{len(self.items)}"
        self.items += [
            {
                "type": "function_call",
                "call_id": call_id,
                "name": f"mcp__time__{name}",
                "arguments": json.dumps(arguments),
            },
            {"type": "function_call_output", "call_id": call_id, "output": json.dumps(output)},
        ]
        return str(output["content"][0]["text"])

    def say(self, text: str) -> None:
        content = [{"type": "output_text", "text": text}]
        self.items.append({"type": "message", "role": "assistant", "content": content})


async def work(**changed: str) -> Items:
    """Do the task, with changed arguments, and answer what the tool says."""
    with anyio.fail_after(40):
        with open(os.devnull, "w") as nowhere:  # noqa: ASYNC230, PTH123 - it is no file
            transport = stdio_client(MCP_SERVER, errlog=nowhere)
            async with mcp.Client(transport) as client:
                agent = Agent(client)
                await agent.call("get_current_time", timezone="Asia/Tokyo")
                told = await agent.call("convert_time", **{**ARGUMENTS, **changed})
                agent.say(f"The tool says: {told}")
    return agent.items


@pytest.fixture(scope="module")
def transcripts() -> dict[str, Items]:
    """What agents did that were right, an hour off, and wrong about a time zone's name."""
    changes = {"right": {}, "late": {"time": "17:30"}, "misspelt": {"source_timezone": "Tokyo"}}
    return {
        name: anyio.run(lambda changed=changed: work(**changed), backend=backend)
        for (name, changed), backend in zip(
            changes.items(), ("asyncio", "trio", "asyncio"), strict=True
        )
    }


@pytest.fixture
def http(server: Server) -> Iterator[httpx2.Client]:
    with server.client() as client:
        yield client


def seed(http: httpx2.Client) -> str:
    answer = http.post(
        f"{ENVIRONMENT}/seed_session",
        json={
            "responses_create_params": TASK.responses_create_params,
            "verifier_metadata": TASK.verifier_metadata,
        },
    )
    assert answer.status_code == 200, answer.text
    assert "mcp" not in answer.json()
    return str(answer.json()["session_id"])


def verify(http: httpx2.Client, items: Items, **more: Any) -> dict[str, Any]:
    """Score items: in the session whose cookie the client has, if it has one."""
    body = {"response": {"output": items}, **more}
    answer = http.post(f"{ENVIRONMENT}/verify", json=body)
    assert answer.status_code == 200, answer.text
    scored: dict[str, Any] = answer.json()
    assert scored["response"] == body["response"]
    return scored


def test_an_agent_that_used_the_tool_is_rewarded(
    http: httpx2.Client, transcripts: dict[str, Items]
) -> None:
    session_id = seed(http)
    scored = verify(http, transcripts["right"])  # by the cookie, as a trainer does
    assert scored["reward"] == 1.0
    assert scored["reward_components"] == {"calls.0": 1.0, "answer": 1.0}
    again = verify(http, transcripts["right"])
    assert again == scored
    record = http.get(f"/sessions/{session_id}").json()
    assert (record["status"], record["verdict"]["reward"], record["calls"]) == ("verified", 1.0, [])


def without_the_call(items: Items) -> Items:
    """Only what the agent said."""
    return [item for item in items if item["type"] == "message"]


def without_the_output(items: Items) -> Items:
    return [item for item in items if item.get("call_id") != "call_2" or "output" not in item]


def by_another_server(items: Items) -> Items:
    return json.loads(json.dumps(items).replace("mcp__time__convert_time", "mcp__time__now"))


@pytest.mark.parametrize(
    ("transcript", "change", "components"),
    [
        pytest.param("right", without_the_call, [0, 1], id="a claim without the call"),
        pytest.param("right", without_the_output, [0, 1], id="a call that was never answered"),
        pytest.param("right", by_another_server, [0, 1], id="another tool"),
        pytest.param("late", list, [0, 0], id="another argument"),
        pytest.param("misspelt", list, [0, 0], id="a tool error"),
    ],
)
def test_any_other_agent_scores_less(
    http: httpx2.Client,
    transcripts: dict[str, Items],
    transcript: str,
    change: Any,
    components: list[float],
) -> None:
    seed(http)
    scored = verify(http, change(transcripts[transcript]))
    assert list(scored["reward_components"].values()) == components
    assert scored["reward"] == sum(components) / 2


def test_a_call_that_the_server_refused_is_no_call(
    http: httpx2.Client, transcripts: dict[str, Items]
) -> None:
    metadata = {"calls": ["mcp__time__convert_time"]}
    for transcript, reward in (("right", 1.0), ("late", 1.0), ("misspelt", 0.0)):
        items = transcripts[transcript]
        assert verify(http, items, verifier_metadata=metadata)["reward"] == reward


def test_a_stored_rollout_is_scored_without_a_session(
    http: httpx2.Client, transcripts: dict[str, Items]
) -> None:
    metadata = {"verifier_metadata": TASK.verifier_metadata}
    scored = verify(http, transcripts["right"], **metadata)
    assert (scored["reward"], scored["verifier_metadata"]) == (1.0, TASK.verifier_metadata)
    assert verify(http, transcripts["right"], **metadata) == scored
    assert verify(http, transcripts["late"], **metadata)["reward"] == 0.0
    assert not http.cookies


def test_half_a_megabyte_of_2000_items_is_scored_and_echoed(
    http: httpx2.Client, transcripts: dict[str, Items]
) -> None:
    *calls, answer = transcripts["right"]
    filler = [
        {"type": "reasoning", "id": f"r{number}", "summary": [{"text": "Grüße " * 35}]}
        for number in range(1_995)
    ]
    items = [*filler, *calls, answer]
    assert len(items) == 2_000
    assert len(json.dumps(items, ensure_ascii=False).encode()) > 512 * 1024
    seed(http)
    assert verify(http, items)["reward"] == 1.0


@pytest.mark.parametrize("path", ["seed_session", "verify"])
def test_a_task_that_is_none_is_refused_with_the_field_that_is_wrong(
    http: httpx2.Client, path: str
) -> None:
    metadata = {"calls": [{"name": "convert_time", "argumenst": {"time": "16:30"}}]}
    answer = http.post(f"{ENVIRONMENT}/{path}", json={"verifier_metadata": metadata})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"] == "verifier_metadata.calls.0.argumenst: unknown"
    assert answer.json()["mask_sample"] is True
