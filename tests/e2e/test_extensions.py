"""The two extensions that come with gymhost, in `gymhost serve`, configured by its file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL
from typing import Any

import httpx2
import pytest

from tests.e2e.servers import Servers, call_tool

CONFIG = """
only: true
environments:
  weather:
  flaky: {plugin: weather}
extensions:
  reward_log: {path: rewards.jsonl}
  tool_latency:
    environments:
      flaky: {delay_seconds: [0, 0.001], error_rate: 1, error_text: 503 Service Unavailable}
"""


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    started = Servers(tmp_path)
    (tmp_path / "gymhost.yaml").write_text(CONFIG)
    yield started
    started.end()


def play(http: httpx2.Client, environment: str) -> tuple[str, str, Any]:
    """Ask for the weather, and repeat it; return the session, the report and the verdict."""
    seeded = http.post(f"/envs/{environment}/seed_session", json={}).json()
    (token,) = seeded["mcp"]["headers"].values()
    result = call_tool(http, token, "get_weather", environment=environment, city="Paris")
    report = result["content"][0]["text"]
    content = [{"type": "output_text", "text": report}]
    output = [{"type": "message", "role": "assistant", "content": content}]
    body = {"session_id": seeded["session_id"], "response": {"output": output}}
    answer = http.post(f"/envs/{environment}/verify", json=body)
    assert answer.status_code == 200, answer.text
    return seeded["session_id"], report, answer.json()["reward"]


def rows(folder: Path) -> list[list[Any]]:
    lines = (folder / "rewards.jsonl").read_text("utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    return [[row["environment"], row["session_id"], row["reward"]] for row in found]


def test_verdicts_are_logged_and_faults_injected_as_configured(
    servers: Servers, backend: str
) -> None:
    server = servers.start("--backend", backend)
    with server.client() as http:
        sound = play(http, "weather")
        flaky = play(http, "flaky")
        (call,) = http.get(f"/sessions/{flaky[0]}").json()["calls"]
    assert sound[1:] == ("The weather in Paris is sunny and 72 F.", 1.0)
    assert flaky[1:] == ("503 Service Unavailable", 0.0)
    assert (call["kind"], call["error"]) == ("injected_error", "503 Service Unavailable")
    server.send(SIGKILL)
    server.wait()
    # what was answered is there, though nothing was shut down
    assert rows(servers.folder) == [
        ["weather", sound[0], 1.0],
        ["flaky", flaky[0], 0.0],
    ]


def test_a_strict_server_refuses_a_log_that_can_not_be_written(servers: Servers) -> None:
    (servers.folder / "rewards.jsonl").mkdir()
    process, log = servers.spawn("--strict")
    assert process.wait(20) == 1
    reason = "'reward_log' could not be started: IsADirectoryError: [Errno 21] Is a directory"
    assert f"reward_log: {reason}" in log.read_text("utf-8")
