"""The agent with programs that take Claude Code's place; the real one is in tests/e2e."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from gymhost.agents import AgentFailure, AgentRun
from gymhost.agents.claude_code import ClaudeCode
from gymhost.models import Task
from gymhost.trajectory import Trajectory
from tests.agents.programs import CHILD, FOREVER, is_alive, program

RECORDINGS = Path(__file__).with_name("recordings")
TASK = Task(responses_create_params={"input": "--weather?"})
TOKEN = "the-token-of-the-session"
MCP = {"weather": {"type": "http", "url": "http://127.0.0.1:1/mcp", "headers": {"X-Token": TOKEN}}}
KEY = "sk-not-a-real-key"


def play(name: str, *, until: int | None = None) -> str:
    """Code that prints a recording, or the first lines of it."""
    lines = (RECORDINGS / f"{name}.jsonl").read_text("utf-8").splitlines(keepends=True)
    return f"print({''.join(lines[:until])!r}, end='', flush=True)\n"


class Attempt:
    """One attempt of a program in Claude Code's place."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        self.done = AgentRun()

    async def run(self, code: str, task: Task = TASK, **options: Any) -> None:
        """Attempt a task with the program."""
        executable = str(program(self.folder / "claude", code))
        with anyio.fail_after(30):
            agent = ClaudeCode(executable=executable, grace=0.3, **options)
            await agent.run(task, MCP, self.done)

    async def fail(self, code: str, **options: Any) -> AgentFailure:
        """Attempt a task with a program that fails, and return how it did."""
        with pytest.raises(AgentFailure) as caught:
            await self.run(code, **options)
        return caught.value

    @property
    def left_over(self) -> list[str]:
        """The files that are left of it."""
        return sorted(path.name for path in self.temporary.rglob("*"))


class Watched(list[dict[str, Any]]):
    """An output that tells when it has some items."""

    def __init__(self, size: int) -> None:
        self.reached = anyio.Event()
        self._size = size

    def append(self, item: dict[str, Any]) -> None:
        super().append(item)
        if len(self) == self._size:
            self.reached.set()


@pytest.fixture
def attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Attempt:
    attempt = Attempt(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(attempt.temporary))
    return attempt


@pytest.fixture
def look(attempt: Attempt) -> tuple[str, Callable[[], dict[str, Any]]]:
    """Code that writes down what the program was given, and what that was."""
    report = attempt.folder / "report"
    code = f"""
import json, os, pathlib, sys
config = pathlib.Path(sys.argv[sys.argv.index("--mcp-config") + 1])
pathlib.Path({str(report)!r}).write_text(json.dumps({{
    "env": dict(os.environ), "argv": sys.argv[1:], "work": os.getcwd(), "stdin": sys.stdin.read(),
    "config": json.loads(config.read_text()), "files": os.listdir(),
    "modes": [oct(p.stat().st_mode & 0o777) for p in (config, config.parent)],
    "group": os.getpgid(0) == os.getpid(),
}}))
"""
    return code, lambda: json.loads(report.read_text())


Look = tuple[str, Callable[[], dict[str, Any]]]


async def test_it_gets_a_configuration_that_nobody_else_can_read(
    attempt: Attempt, look: Look
) -> None:
    await attempt.run(look[0] + play("weather"))
    seen = look[1]()
    assert seen["config"] == {"mcpServers": MCP}
    assert seen["modes"] == ["0o600", "0o700"]
    assert seen["files"] == []
    assert seen["group"]
    assert seen["argv"][-2:] == ["--", "--weather?"]
    assert TOKEN not in str(seen["argv"])
    assert attempt.left_over == []


async def test_it_gets_no_variable_but_those_on_the_list(
    attempt: Attempt, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GYMHOST_API_KEY", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "CLAUDE_CONFIG_DIR"):
        monkeypatch.setenv(name, "the-hosts-own")
    await attempt.run(look[0] + play("weather"), api_key=KEY, base_url="http://x", env={"A": "1"})
    env = look[1]()["env"]
    assert "the-hosts-own" not in env.values()
    assert (env["ANTHROPIC_API_KEY"], env["ANTHROPIC_BASE_URL"], env["A"]) == (KEY, "http://x", "1")
    home = Path(env["HOME"])
    assert home.parent == Path(env["CLAUDE_CONFIG_DIR"]).parent
    assert attempt.temporary in home.parents
    assert os.environ["HOME"] not in {value for name, value in env.items() if name != "PATH"}


async def test_a_long_instruction_is_typed(attempt: Attempt, look: Look) -> None:
    text = "-" * 200_000
    await attempt.run(look[0] + play("weather"), Task(responses_create_params={"input": text}))
    assert look[1]()["stdin"] == text


async def test_what_it_did_is_kept(attempt: Attempt) -> None:
    await attempt.run(play("weather"))
    assert Trajectory(attempt.done.output).final_text == "done"
    assert attempt.done.usage.output_tokens == 60


async def test_a_limit_on_turns_is_no_failure_although_its_exit_code_is_1(attempt: Attempt) -> None:
    await attempt.run(play("max_turns") + "raise SystemExit(1)")
    assert attempt.done.stop_reason == "max_turns"


@pytest.mark.parametrize("recording", ["weather", "sub_agent"])
async def test_an_exit_code_is_a_failure_also_after_a_result(
    attempt: Attempt, recording: str
) -> None:
    failure = await attempt.fail(play(recording) + "raise SystemExit(3)")
    assert failure.failure_class == "agent_exit"


async def test_an_exit_says_why_without_the_secrets(attempt: Attempt) -> None:
    code = f"import sys; sys.exit('no such thing: {KEY} {TOKEN}')"
    failure = await attempt.fail(play("weather", until=4) + code, api_key=KEY)
    assert failure.failure_class == "agent_exit"
    assert not failure.terminal
    assert str(failure) == "Claude Code ended with 1: no such thing: *** ***"
    assert attempt.done.output  # what was done by then
    assert attempt.left_over == []


async def test_an_exit_may_say_why_on_its_output(attempt: Attempt) -> None:
    failure = await attempt.fail("print('Error: bad'); raise SystemExit(1)")
    assert str(failure) == "Claude Code ended with 1: Error: bad"


@pytest.mark.parametrize(
    "rest",
    ["", "print('{\"type\": \"assis', end='')", "print('[]\\n\\x00\\n{}')"],
    ids=["nothing", "half a line", "garbage"],
)
async def test_an_end_without_a_result_is_a_failure(attempt: Attempt, rest: str) -> None:
    failure = await attempt.fail(play("weather", until=10) + rest)
    assert failure.failure_class == "agent_protocol"
    assert "without a result" in str(failure)
    assert len(Trajectory(attempt.done.output).tool_calls) == 2


async def test_a_failure_of_the_model_is_what_counts(attempt: Attempt) -> None:
    failure = await attempt.fail(play("rate_limited") + "raise SystemExit(1)")
    assert failure.failure_class == "model_rate_limited"


async def test_it_does_not_go_on_without_its_tools(attempt: Attempt) -> None:
    failure = await attempt.fail(play("mcp_failed") + FOREVER)
    assert failure.failure_class == "mcp_error"
    assert attempt.left_over == []


async def test_a_cancellation_leaves_nothing_but_what_was_done(attempt: Attempt) -> None:
    pids = attempt.folder / "pids"
    code = (
        f"import sys; out = sys.stdout; sys.stdout = open({str(pids)!r}, 'w')\n{CHILD}\n"
        "child(start_new_session=True); sys.stdout = out\n" + play("weather", until=4) + FOREVER
    )
    attempt.done.output = watched = Watched(2)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(attempt.run, code)
        with anyio.fail_after(20):
            await watched.reached.wait()
        tasks.cancel_scope.cancel()
    assert not is_alive(int(pids.read_text()))
    assert [item["type"] for item in attempt.done.output] == ["reasoning", "message"]
    assert attempt.left_over == []


async def test_what_it_prints_of_its_secrets_is_not_recorded(attempt: Attempt) -> None:
    said = {"type": "assistant", "message": {"id": "m", "content": f"{KEY}, {TOKEN}"}}
    await attempt.run(f"print({json.dumps(said)!r})\n" + play("weather"), auth_token=KEY)
    assert Trajectory(attempt.done.output[:1]).assistant_text == "***, ***"


@pytest.mark.parametrize("executable", ["no-such-claude", "/no/such/claude"])
async def test_a_program_that_is_not_there_is_a_failure_for_good(
    attempt: Attempt, executable: str
) -> None:
    with pytest.raises(AgentFailure, match=f"'{executable}'.*Try: npm install") as caught:
        await ClaudeCode(executable=executable).run(TASK, MCP, AgentRun())
    assert (caught.value.failure_class, caught.value.terminal) == ("agent_not_found", True)
    assert attempt.left_over == []


async def test_a_program_that_is_none_is_a_failure_for_good(attempt: Attempt) -> None:
    executable = attempt.folder / "claude"
    executable.write_bytes(b"\x7fELF of another machine")
    executable.chmod(0o755)
    with pytest.raises(AgentFailure, match="could not be started: Exec format") as caught:
        await ClaudeCode(executable=str(executable)).run(TASK, MCP, AgentRun())
    assert (caught.value.failure_class, caught.value.terminal) == ("agent_not_found", True)


async def test_a_machine_that_can_not_start_it_is_a_failure_that_may_pass(
    attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(attempt.folder / "full"))
    failure = await attempt.fail(play("weather"))
    assert (failure.failure_class, failure.terminal) == ("agent_error", False)
    assert "No such file or directory" in str(failure)


async def test_attempts_at_the_same_time_are_apart(attempt: Attempt) -> None:
    said = """
import json, os, sys
config = json.load(open(sys.argv[sys.argv.index("--mcp-config") + 1]))
text = f"{sys.argv[-1]} {list(config['mcpServers'])} {os.environ['HOME']}"
print(json.dumps({"type": "assistant", "message": {"id": "m", "content": text}}))
print(json.dumps({"type": "result", "subtype": "success"}))
"""
    agent = ClaudeCode(executable=str(program(attempt.folder / "claude", said)))
    runs = [AgentRun() for _ in range(12)]
    async with anyio.create_task_group() as tasks:
        for number, run in enumerate(runs):
            task = Task(responses_create_params={"input": f"task {number}"})
            tasks.start_soon(agent.run, task, {f"s{number}": {}}, run)
    texts = [Trajectory(run.output).final_text for run in runs]
    for number, text in enumerate(texts):
        assert text.startswith(f"task {number} ['s{number}'] {attempt.temporary}")
    assert len({text.rpartition(" ")[2] for text in texts}) == 12
    assert attempt.left_over == []


def test_the_control_key_can_not_be_passed_on() -> None:
    with pytest.raises(ValueError, match="GYMHOST_API_KEY"):
        ClaudeCode(pass_variables=["GYMHOST_API_KEY"])
    with pytest.raises(ValueError, match="GYMHOST_API_KEY"):
        ClaudeCode(env={"GYMHOST_API_KEY": "x"})
