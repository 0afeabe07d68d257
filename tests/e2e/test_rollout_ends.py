"""`gymhost rollout` with agents that fail, and one that is interrupted while they work."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import anthropic_endpoint
from tests.e2e.anthropic_endpoint import Hang, Refuse
from tests.e2e.openai_endpoint import Answers, Drips, refusal
from tests.e2e.rollout_agents import (
    ASKED,
    MODEL_KEY,
    a_claude_and_a_model,
    asked_of,
    configured,
    left_behind,
    model,
    needs_claude,
    rollouts,
    task,
    written,
)
from tests.e2e.rollouts import ended
from tests.e2e.servers import Server


@dataclass(frozen=True)
class BadEnd:
    """What makes an agent fail, and how the row says so."""

    agent: str
    failure_class: str
    message: str
    terminal: bool = False
    claude: anthropic_endpoint.Step | None = None
    openai: Any = None
    options: dict[str, Any] = field(default_factory=dict)
    timeout: str = "40"


DENIED = f"Incorrect API key provided: {MODEL_KEY}"
BAD_ENDS = {
    "time limit of claude": BadEnd(
        *("coder", "agent_timeout", "did not end in 4 s"), claude=Hang(), timeout="4"
    ),
    "time limit": BadEnd(
        *("talker", "agent_timeout", "did not end in 2 s"), openai=Drips(), timeout="2"
    ),
    "exit code": BadEnd(
        *("coder", "agent_exit", "permission-mode"), options={"permission_mode": "whatever"}
    ),
    "401 of claude's": BadEnd(
        *("coder", "model_error", "401", True), claude=Refuse(401, "authentication_error", DENIED)
    ),
    "401": BadEnd(*("chatter", "model_error", "401", True), openai=refusal(DENIED, 401)),
    "hangs": BadEnd(
        *("talker", "model_timeout", "in 1 s"), openai=Drips(), options={"timeout": 1.0}
    ),
    "429": BadEnd(*("talker", "model_rate_limited", "429"), openai=Answers(429, {}, {})),
    "garbage": BadEnd(*("chatter", "model_error", "{]"), openai=Answers(body=b"data: {]")),
    "no program": BadEnd(
        *("coder", "agent_not_found", "nowhere", True), options={"executable": "nowhere"}
    ),
}


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(
            bad,
            id=name,
            marks=[needs_claude] if bad.agent == "coder" else [],
        )
        for name, bad in BAD_ENDS.items()
    ],
)
def test_a_bad_end_is_a_row_with_its_class_and_no_reward(
    tmp_path: Path, host: Server, bad: BadEnd
) -> None:
    steps = [bad.openai] if bad.openai is not None else []
    with model(bad.claude, *steps) as played:
        configured(tmp_path, played, openai=bad.options, claude=bad.options)
        run = rollouts(
            *(tmp_path, "--agent", bad.agent, "--url", host.url),
            *("--retries", "0", "--timeout", bad.timeout),
            tasks=[ASKED],
        )
        last = run.run()
    assert last.code == 1, last
    assert f"0 of 1 scored, mean reward -, 1 failed (1 {bad.failure_class})" in last.out
    assert "Traceback" not in last.err
    assert run.read() == []
    (row,) = run.read("_failures")
    assert (row["_ng_failure_class"], row["_ng_failure_terminal"]) == (
        bad.failure_class,
        bad.terminal,
    )
    assert bad.message in row["_ng_failure_message"]
    assert last.err.splitlines()[0].startswith(f"{bad.failure_class}: ")
    assert "reward" not in row
    assert MODEL_KEY not in written(tmp_path) + last.out + last.err
    assert asked_of(host, "/envs/weather")["use"]["open_sessions"] == 0
    assert asked_of(host, f"/sessions/{row['session_id']}")["status"] == "closed"
    assert left_behind(tmp_path) == []


@a_claude_and_a_model
def test_ctrl_c_leaves_no_process_and_no_session_and_resuming_finishes(
    tmp_path: Path, host: Server, agent: str
) -> None:
    verified = asked_of(host, "/envs/weather")["counts"].get("verified", 0)
    with model() as played:
        configured(tmp_path, played, settings={"grace": 0.5})
        played.hanging = lambda asked: "Rome" in asked
        tasks = [ASKED, *[task("What is the weather in Paris, and not in Rome?")] * 2, ASKED]
        run = rollouts(*(tmp_path, "--agent", agent, "--url", host.url, "-c", "3"), tasks=tasks)
        runner = run.start()
        for _ in range(2):
            assert played.hung.acquire(timeout=30)
        run.wait_for_rows(2, runner)
        assert asked_of(host, "/envs/weather")["use"]["open_sessions"] == 2
        assert agent != "coder" or len(left_behind(tmp_path)) >= 4
        runner.send_signal(signal.SIGINT)
        last = ended(runner)
        assert last.code == 130, last
        assert "2 of 4 scored, mean reward 1.000" in last.out
        assert last.err.splitlines()[-1].endswith("--resume")
        assert asked_of(host, "/envs/weather")["use"]["open_sessions"] == 0
        assert left_behind(tmp_path) == []
        before = run.output.read_bytes()
        played.hanging = lambda _: False
        again = run.run("--resume")
    assert again.code == 0, again
    assert run.output.read_bytes().startswith(before)
    assert run.rewards() == {(number, 0): 1.0 for number in range(4)}
    assert asked_of(host, "/envs/weather")["counts"]["verified"] == verified + 4
