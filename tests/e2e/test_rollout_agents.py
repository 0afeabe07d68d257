"""`gymhost rollout` as a process, with the agents of a gymhost.yaml: each row, each bad end."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from gym_env_external_verifier import ExternalVerifier

from gymhost.http.mcp import TOKEN_HEADER
from tests.e2e import anthropic_endpoint, openai_endpoint
from tests.e2e.anthropic_endpoint import Hang, Refuse, Say, Turn, Use, instruction, last_result
from tests.e2e.openai_endpoint import Answers, Drips, Heard, Says, refusal
from tests.e2e.rollouts import KEY, Rollouts, ended
from tests.e2e.servers import BACKENDS, Server, Servers

CLAUDE = os.environ.get("GYMHOST_CLAUDE") or shutil.which("claude")
MODEL_KEY = "sk-of-the-model"
TIME_TOKEN = "token-of-the-clock"

with_claude = pytest.param(
    "coder",
    marks=pytest.mark.skipif(
        CLAUDE is None,
        reason="there is no Claude Code here. Try: npm install --global @anthropic-ai/claude-code, "
        "or GYMHOST_CLAUDE=/path/to/claude",
    ),
)
each_agent = pytest.mark.parametrize("agent", [with_claude, "talker", "chatter"])
a_claude_and_a_model = pytest.mark.parametrize("agent", [with_claude, "talker"])

SENTENCE = "The weather in Paris is sunny and 72 F."
ASK = "mcp__weather__get_weather"
PARIS = {"city": "Paris"}


def task(asked: str) -> dict[str, Any]:
    return {
        "responses_create_params": {
            "input": [
                {"role": "system", "content": "Answer with the report."},
                {"role": "user", "content": asked},
            ]
        },
        "verifier_metadata": {"expected_city": "Paris"},
        "source": "of the test",
    }


ASKED, GUESSED = task("What is the weather in Paris?"), task("Guess the weather in Paris.")


# The model that both endpoints play: it asks where it is asked, and makes up where it is to guess.


def claudes_turn(body: dict[str, Any]) -> Turn:
    if "Guess" in instruction(body):
        return Say(SENTENCE)
    turns = sum(message["role"] == "assistant" for message in body["messages"])
    # its tools are deferred: the model has to ask for one by name before it can call it
    steps = (Use("ToolSearch", {"query": f"select:{ASK}"}), Use(ASK, PARIS), Say(last_result))
    return steps[turns]


def models_turn(heard: Heard) -> Says:
    if "Guess" in str(heard.body):
        return Says(SENTENCE)
    return Says(heard.outputs[-1]) if heard.outputs else Says(calls=[(ASK, PARIS)])


@dataclass
class Model:
    """A model behind one endpoint of each kind. It hangs up to a test where `hanging` says so."""

    urls: dict[str, str] = field(default_factory=dict)
    hanging: Callable[[str], bool] = lambda _: False
    hung: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    """Released for each request that hangs."""
    claude: Any = None
    openai: Any = None

    def claudes_turn(self, body: dict[str, Any]) -> Turn:
        if self.hanging(instruction(body)):
            self.hung.release()
            return Hang()
        return claudes_turn(body)

    def models_turn(self, heard: Heard) -> Says | Drips:
        if self.hanging(str(heard.body)):
            self.hung.release()
            return Drips()
        return models_turn(heard)


@contextmanager
def model(claude: anthropic_endpoint.Step | None = None, *openai: Any) -> Iterator[Model]:
    """Serve a model; what it does can be given, for Claude Code and for others."""
    played = Model()
    with (
        anthropic_endpoint.open_endpoint(claude or played.claudes_turn) as played.claude,
        openai_endpoint.scripted(*(openai or [played.models_turn] * 100)) as played.openai,
    ):
        yield played


def configured(folder: Path, played: Model, **more: Any) -> None:
    """Write the file: three agents, whose secrets are `${...}`; `more` is for their options."""
    openai = {
        "model": "scripted",
        "base_url": played.openai.url,
        "api_key": "${MODEL_KEY}",
        "attempts": 1,
        **more.get("openai", {}),
    }
    claude = {
        "model": "claude-sonnet-4-5",
        "executable": CLAUDE,
        "base_url": played.claude.url,
        "api_key": "${MODEL_KEY}",
        "env": {"CLAUDE_CODE_MAX_RETRIES": "1"},
        **more.get("claude", {}),
    }
    chat = {**openai, "dialect": "chat"}
    time = {
        "command": sys.executable,
        "args": ["-m", "mcp_server_time", "--local-timezone", "UTC"],
        "env": {"TIME_TOKEN": "${TIME_TOKEN}"},
    }
    document = {
        "agents": {
            "coder": {"type": "claude-code", "options": claude},
            "talker": {"type": "responses", "options": openai},
            "chatter": {"type": "responses", "options": chat},
            "timekeeper": {"type": "responses", "options": openai, "mcp_config": {"time": time}},
        },
        **more.get("settings", {}),
    }
    (folder / "gymhost.yaml").write_text(yaml.safe_dump(document))


def rollouts(folder: Path, *arguments: str, tasks: Any = (ASKED, GUESSED), **more: str) -> Rollouts:
    # where the agents have their folders; short: a socket's path in it has at most 107 bytes
    temporary = folder / "t"
    temporary.mkdir(exist_ok=True)
    secrets = {"MODEL_KEY": MODEL_KEY, "TIME_TOKEN": TIME_TOKEN}
    given = {"environment": "weather", "TMPDIR": str(temporary), **secrets, **more}
    return Rollouts(folder, tasks, *arguments, **given)


def written(folder: Path) -> str:
    """What all files of a run hold."""
    return "".join(path.read_text("utf-8") for path in sorted(folder.glob("rollouts*.jsonl")))


def left_behind(folder: Path) -> list[str]:
    """Return the processes that work below the agents' folder, and what is in that."""
    found = [path.name for path in (folder / "t").iterdir()]
    for process in psutil.process_iter():
        try:
            if folder / "t" in Path(process.cwd()).parents:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


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


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Server]:
    started = Servers(tmp_path)
    (tmp_path / "gymhost.yaml").unlink(missing_ok=True)
    yield started.start(GYMHOST_API_KEY=KEY)
    started.end()


def asked_of(host: Server, path: str) -> Any:
    with host.client() as http:
        answer = http.get(path, headers={"authorization": f"Bearer {KEY}"})
        assert answer.status_code == 200, answer.text
        return answer.json()


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


@pytest.mark.skipif(CLAUDE is None, reason="there is no Claude Code here")
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
            marks=pytest.mark.skipif(
                bad.agent == "coder" and CLAUDE is None, reason="there is no Claude Code here"
            ),
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
    assert asked_of(host, "/envs/weather")["counts"]["verified"] == 4
