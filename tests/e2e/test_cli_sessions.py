"""`gymhost mcp-config` and `call` as processes of their own, against real servers."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import anyio
import httpx2
import mcp
import pytest
from mcp.client.streamable_http import streamable_http_client

from tests.distributions import variables
from tests.e2e.gates import Gate
from tests.e2e.servers import GYMHOST, Server


@pytest.fixture
def user(server: Server, tmp_path: Path) -> dict[str, str]:
    """The variables of a user of the server, with a state folder of their own."""
    assert server.key is not None
    return variables(tmp_path, GYMHOST_URL=server.url, GYMHOST_API_KEY=server.key)


def run(script: str, user: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run what somebody types."""
    return subprocess.run(
        ["bash", "-eu", "-c", script.replace("gymhost ", f"'{GYMHOST}' ")],
        env=user,
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        timeout=50,
        check=False,
    )


async def call_as_configured(pasted: str, tool: str, arguments: dict[str, Any]) -> str:
    """Call a tool with nothing but the config that was pasted."""
    (entry,) = json.loads(pasted)["mcpServers"].values()
    assert entry["type"] == "http"
    with anyio.fail_after(20):
        async with httpx2.AsyncClient(headers=entry["headers"]) as http:
            transport = streamable_http_client(entry["url"], http_client=http)
            async with mcp.Client(transport) as client:
                result = await client.call_tool(tool, arguments)
    assert not result.is_error
    (block,) = result.content
    assert block.type == "text"
    return block.text


def test_an_agent_with_the_printed_config_earns_the_reward(
    user: dict[str, str], tmp_path: Path
) -> None:
    asked = {"input": "Wie ist es in 東京?"}
    task = {"responses_create_params": asked, "verifier_metadata": {"expected_city": "東京"}}
    (tmp_path / "tasks.jsonl").write_text(f"{{}}\n{json.dumps(task)}\n", "utf-8")
    seeded = run("gymhost mcp-config weather --task tasks.jsonl:2 > .mcp.json", user, tmp_path)
    assert (seeded.returncode, seeded.stdout) == (0, "")
    assert "task     Wie ist es in 東京?\n" in seeded.stderr
    pasted = (tmp_path / ".mcp.json").read_text("utf-8")
    report = anyio.run(call_as_configured, pasted, "get_weather", {"city": "東京"})
    assert report == "The weather in 東京 is sunny and 72 F."
    verified = run(f"gymhost mcp-config weather --verify '{report}'", user, tmp_path)
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "reward: 1.0\n", "")


def test_a_call_by_hand_earns_it_too(user: dict[str, str], tmp_path: Path) -> None:
    script = """
        gymhost mcp-config weather > .mcp.json
        answer=$(gymhost call weather get_weather --arg city=Paris --session last)
        gymhost mcp-config weather --verify "$answer"
    """
    ran = run(script, user, tmp_path)
    assert (ran.returncode, ran.stdout) == (0, "reward: 1.0\n")


def test_ctrl_c_ends_a_call_and_closes_its_session(
    server: Server, user: dict[str, str], gate: Gate
) -> None:
    def living() -> int:
        number: int = http.get("/envs/gated").json()["use"]["open_sessions"]
        return number

    with server.client() as http:
        before = living()
        with subprocess.Popen(
            [GYMHOST, "call", "gated", "hold", "--arg", f"port={gate.port}"],
            env=user,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            arrival = gate.wait()
            assert living() == before + 1
            process.send_signal(signal.SIGINT)
            arrival.release()  # a session is closed after its running calls
            out, err = process.communicate(timeout=20)
        assert (process.returncode, out, err) == (130, b"", b"")
        assert living() == before
