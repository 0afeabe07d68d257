"""`gymhost rollout` as a process, with the agents of a gymhost.yaml: what each row says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from gym_env_external_verifier import ExternalVerifier

from gymhost.http.mcp import TOKEN_HEADER
from tests.e2e.anthropic_endpoint import Say, Turn, Use, last_result
from tests.e2e.openai_endpoint import Heard, Says
from tests.e2e.rollout_agents import (
    ASK,
    ASKED,
    MODEL_KEY,
    SENTENCE,
    TIME_TOKEN,
    asked_of,
    configured,
    each_agent,
    left_behind,
    model,
    needs_claude,
    rollouts,
    written,
)
from tests.e2e.rollouts import KEY, Rollouts
from tests.e2e.servers import BACKENDS, Server


def check_rows(played: Rollouts, agent: str) -> None:
    """Hold the rows of ASKED and GUESSED, twice each, to what the model did."""
    assert played.rewards() == {(0, 0): 1.0, (0, 1): 1.0, (1, 0): 0.0, (1, 1): 0.0}
    assert played.read("_failures") == []
    for row in played.read():
        asked = row["_ng_task_index"] == 0
        turns = (3 if agent == "coder" else 2) if asked else 1
        tokens = (115, 10, 20) if agent == "coder" else (100, 40, 10)
        read, cached, made = (number * turns for number in tokens)
        assert row["usage"] == {
            "input_tokens": read,
            "input_tokens_details": {"cached_tokens": cached},
            "output_tokens": made,
            "total_tokens": read + made,
        }
        assert row["response"]["usage"] == row["usage"]
        assert row["agent_ref"] == {"name": agent}
        assert row["agent"]["turns"] == turns
        assert row["agent"]["stop_reason"] in ("completed", "stop", "end_turn")
        used = {"gymhost", "weather"} | ({"claude-code"} if agent == "coder" else set())
        assert row["versions"].keys() == used
        assert row["times"]["seconds"].keys() == {"seed", "agent", "verify"}
        assert row["source"] == "of the test"
        calls = [item for item in row["response"]["output"] if item["type"] == "function_call"]
        assert (ASK in [call["name"] for call in calls]) == asked
        message = row["response"]["output"][-1]
        assert message["content"][0]["text"] == SENTENCE


@pytest.mark.parametrize("backend", BACKENDS)
@each_agent
def test_an_agent_is_scored_by_what_it_did_on_a_host_of_its_own(
    tmp_path: Path, agent: str, backend: str
) -> None:
    with model() as played:
        configured(tmp_path, played, settings={"backend": backend})
        run = rollouts(tmp_path, "--agent", agent, "--attempts", "2", "-c", "4")
        last = run.run()
    assert (last.code, last.err) == (0, ""), last
    assert "4 of 4 scored, mean reward 0.500" in last.out
    check_rows(run, agent)
    seen = played.claude.keys if agent == "coder" else played.openai.heard
    keys = {each if agent == "coder" else each.headers["authorization"] for each in seen}
    assert keys == {MODEL_KEY if agent == "coder" else f"Bearer {MODEL_KEY}"}
    assert MODEL_KEY not in written(tmp_path) + last.out
    assert left_behind(tmp_path) == []


@each_agent
def test_an_agent_is_scored_by_a_host_that_runs_elsewhere(
    tmp_path: Path, host: Server, agent: str
) -> None:
    with model() as played:
        configured(tmp_path, played)
        run = rollouts(tmp_path, "--agent", agent, "--attempts", "2", "--url", host.url)
        last = run.run()
    assert (last.code, last.err) == (0, ""), last
    check_rows(run, agent)
    for row in run.read():
        record = asked_of(host, f"/sessions/{row['session_id']}")
        assert (record["status"], record["verdict"]["reward"]) == ("verified", row["reward"])
        assert len(record["calls"]) == row["reward"]
    assert KEY not in written(tmp_path) + last.out + last.err


CONVERT = "mcp__time__convert_time"
TOKYO = {"source_timezone": "Asia/Tokyo", "time": "16:30", "target_timezone": "Asia/Kolkata"}


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_agents_own_mcp_server_is_used_and_scored_by_the_trajectory(
    tmp_path: Path, backend: str
) -> None:
    """The external flow: gymhost does not see the calls, and the server is started by command."""

    def turn(heard: Heard) -> Says:
        return Says(heard.outputs[-1]) if heard.outputs else Says(calls=[(CONVERT, TOKYO)])

    with model(None, *[turn] * 2, Says("I do not know.")) as played:
        configured(tmp_path, played, settings={"backend": backend})
        tasks = [next(ExternalVerifier().tasks()).to_row()] * 2
        run = rollouts(
            *(tmp_path, "--agent", "timekeeper", "-c", "1"),
            tasks=tasks,
            environment="external_verifier",
        )
        last = run.run()
    assert (last.code, last.err) == (0, ""), last
    assert run.rewards() == {(0, 0): 1.0, (1, 0): 0.0}
    assert CONVERT in played.openai.heard[0].tools
    assert not {MODEL_KEY, TIME_TOKEN} & {*re.findall(r"[\w-]+", written(tmp_path))}


@needs_claude
def test_what_an_agent_reads_of_its_secrets_is_in_no_file(tmp_path: Path, host: Server) -> None:
    """It prints its MCP configuration, with the session's token, and its key; the model repeats."""
    look = Use("Bash", {"command": "cat ../mcp.json; env; cat ../../../gymhost.yaml; ps e"})

    def turn(body: dict[str, Any]) -> Turn:
        return Say(last_result) if any(m["role"] == "assistant" for m in body["messages"]) else look

    with model(turn) as played:
        configured(tmp_path, played, claude={"allowed_tools": ["Bash"]})
        run = rollouts(tmp_path, "--agent", "coder", "--url", host.url, tasks=[ASKED])
        last = run.run()
    assert last.code == 0, last
    seen = str(played.claude.bodies[-1])
    token = re.search(rf"{TOKEN_HEADER}\W+([\w-]{{20,}})", seen)
    assert token is not None
    assert MODEL_KEY in seen  # what the model was told; and what is written:
    assert "ANTHROPIC_API_KEY=***" in written(tmp_path)
    assert KEY not in seen
    for secret in (token[1], MODEL_KEY, TIME_TOKEN, KEY):
        assert secret not in written(tmp_path) + last.out + last.err
