"""The schedule: attempts against a real server, what fails, what is tried again, how it stops."""

from __future__ import annotations

import logging
from pathlib import Path

import anyio
import pytest

from gymhost import Limits, Task, tool
from gymhost.agents.base import AgentFailure, AgentRun, McpServers
from gymhost.client import Client
from gymhost.config import EnvironmentConfig
from gymhost.models import TOKEN_HEADER
from gymhost.rollouts.patience import HostGone
from tests.rollouts.exams import Exam, Run, Sayer, exam, served


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for before it is tried again."""
    monkeypatch.setattr("gymhost.rollouts.runner.FIRST_WAIT", 0.001)


async def test_every_attempt_is_a_row_with_verifys_answer_and_where_it_belongs(
    tmp_path: Path,
) -> None:
    rows = [exam("a", reward=0.25), {**exam("b"), "more": {"kept": True}}]
    run = Run(tmp_path, rows, attempts=2)
    async with served({"exam": Exam}) as remote:
        tally = await run.play(remote)
    assert (tally.total, tally.scored, tally.mean, tally.left) == (4, 4, 0.625, 0)
    assert run.scores == {(0, 0): 0.25, (0, 1): 0.25, (1, 0): 1.0, (1, 1): 1.0}
    row = next(row for row in run.read() if row["_ng_task_index"] == 1)
    assert row["more"] == {"kept": True}
    assert row["responses_create_params"] == {"input": "Do b."}
    assert row["verifier_metadata"] == {"name": "b"}
    assert [item["type"] for item in row["response"]["output"]] == [
        "function_call",
        "function_call_output",
        "message",
    ]
    assert (row["name"], row["agent_ref"]) == ("b", {"name": "scripted"})
    assert row["usage"] == row["response"]["usage"]
    assert set(row["times"]["seconds"]) == {"seed", "agent", "verify"}
    assert row["versions"] == {"gymhost": "0"}
    assert len(row["session_id"]) == 32
    assert "reference" not in row  # it solves the task
    inputs = run.read("_materialized_inputs")
    assert [(each["_ng_task_index"], each["_ng_rollout_index"]) for each in inputs] == [
        (0, 0), (0, 1), (1, 0), (1, 1),
    ]  # fmt: skip
    assert run.read("_failures") == []


async def test_a_failure_is_a_row_of_its_own_and_is_tried_again(tmp_path: Path) -> None:
    run = Run(tmp_path, [exam("never", fails=9), exam("once", fails=1), exam("good")])
    async with served({"exam": Exam}) as remote:
        tally = await run.play(remote, retries=2)
    assert run.scores == {(1, 0): 1.0, (2, 0): 1.0}
    assert sorted(run.failures) == [(0, "environment_error")] * 3 + [(1, "environment_error")]
    assert (tally.failed, tally.mean) == ({"environment_error": 1}, 1.0)
    last = run.read("_failures")[-1]
    assert (last["_ng_attempt_index"], last["_ng_failure_terminal"]) == (2, False)
    assert "502" in last["_ng_failure_message"]
    assert last["problem"]["mask_sample"] is True
    assert last["response"]["output"][0]["type"] == "function_call"


async def test_a_masked_answer_is_a_failure_by_its_kind_and_no_reward(tmp_path: Path) -> None:
    class Crashing(Exam):
        @tool
        async def crash(self) -> str:
            """Crash."""
            raise LookupError("no page")

    config = EnvironmentConfig(Crashing, on_failure="report")
    run = Run(tmp_path, [exam("a", tool="crash")])
    async with served({"exam": config}) as remote:
        await run.play(remote, retries=0)
    assert run.read() == []
    assert run.failures == [(0, "environment_error")]


async def test_what_would_fail_again_is_not_tried_again(tmp_path: Path) -> None:
    without = {"verifier_metadata": {"name": "x"}}
    run = Run(tmp_path, [without, exam("good")])
    async with served({"exam": Exam}) as remote:
        await run.play(remote, retries=5)
        assert run.failures == [(0, "no_reference")]
        tally = await run.play(remote, retries=5, resume=True)
    assert run.failures == [(0, "no_reference")]
    assert tally.failed == {"no_reference": 1}


async def test_resuming_goes_on_to_the_most_attempts(tmp_path: Path) -> None:
    run = Run(tmp_path, [exam("never", fails=99), exam("good")])
    async with served({"exam": Exam}) as remote:
        await run.play(remote, retries=1, max_attempts=5)
        assert len(run.failures) == 2
        for expected in (4, 5, 5):
            await run.play(remote, retries=1, max_attempts=5, resume=True)
            assert len(run.failures) == expected
    assert [row["_ng_attempt_index"] for row in run.read("_failures")] == [0, 1, 2, 3, 4]
    assert run.scores == {(1, 0): 1.0}


async def test_an_agent_that_takes_too_long_is_a_failure_with_what_it_did(tmp_path: Path) -> None:
    class Slow(Sayer):
        async def act(self, task: Task, mcp: McpServers, run: AgentRun) -> None:
            run.turns = 1
            await anyio.sleep_forever()

    world = Exam()
    run = Run(tmp_path, [exam("a")])
    async with served({"exam": world}) as remote:
        await run.play(remote, Slow("so far"), seconds=0.05, retries=0)
    (row,) = run.read("_failures")
    assert (row["_ng_failure_class"], row["agent"]["turns"]) == ("agent_timeout", 1)
    assert row["_ng_failure_message"] == "the agent did not end in 0.05 s"
    assert row["response"]["output"][0]["content"][0]["text"] == "so far"
    assert (world.closed, world.verdicts) == (["closed"], [])


async def test_an_agent_that_crashes_is_a_failure_and_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Crashes(Sayer):
        async def act(self, task: Task, mcp: McpServers, run: AgentRun) -> None:
            name = task.verifier_metadata["name"]
            raise (
                AgentFailure("the model is down", "model_error") if name == "a" else KeyError(name)
            )

    run = Run(tmp_path, [exam("a"), exam("b")])
    async with served({"exam": Exam}) as remote:
        await run.play(remote, Crashes(), retries=0)
    assert sorted(run.failures) == [(0, "model_error"), (1, "agent_error")]
    (logged,) = [each for each in caplog.records if each.name == "gymhost.rollouts"]
    assert logged.exc_info is not None


async def test_what_an_agent_did_that_is_no_json_is_a_failure(tmp_path: Path) -> None:
    run = Run(tmp_path, [exam("a")])
    async with served({"exam": Exam}) as remote:
        await run.play(remote, Sayer("half \ud800"), retries=0)
    assert run.failures == [(0, "agent_protocol")]


async def test_the_token_and_the_secrets_are_in_no_file(tmp_path: Path) -> None:
    class Talker(Sayer):
        async def act(self, task: Task, mcp: McpServers, run: AgentRun) -> None:
            run.output.append({"type": "note", "text": repr(mcp)})
            if task.verifier_metadata["name"] == "b":
                raise AgentFailure(f"with {mcp}")

    agent = Talker("my option-secret, and 'quoted\"secret'")
    run = Run(tmp_path, [exam("a"), exam("b")])
    async with served({"exam": Exam}) as remote:
        await run.play(remote, agent, retries=0, secrets=["option-secret", 'quoted"secret'])
    (token, _) = [each["exam"]["headers"][TOKEN_HEADER] for each in agent.seen]
    written = b"".join(run.files.values())
    assert (len(run.read()), len(run.failures)) == (1, 1)
    for secret in (token, "option-secret", 'quoted\\"secret'):
        assert secret.encode() not in written


async def test_gymhosts_entry_wins_over_a_static_one_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    static = {"exam": {"url": "http://127.0.0.1:1/"}, "time": {"command": "server-time"}}
    agent = Sayer()
    run = Run(tmp_path, [exam("a"), exam("b")])
    async with served({"exam": Exam}) as remote:
        await run.play(remote, agent, servers=static)
    for seen in agent.seen:
        assert seen["exam"]["url"] == f"{remote.url}/envs/exam/mcp"
        assert seen["time"] == {"command": "server-time"}
    warnings = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert len([each for each in warnings if "'exam'" in each.getMessage()]) == 1


async def test_as_many_run_at_a_time_as_are_asked_for(tmp_path: Path) -> None:
    world = Exam()
    world.wanted_inside = 40
    run = Run(tmp_path, [exam(str(number), tool="meet") for number in range(40)])
    async with served({"exam": world}) as remote:
        tally = await run.play(remote, concurrency=40)
    assert (tally.scored, world.inside) == (40, 40)


class Gated(Sayer):
    """Waits at a gate."""

    def __init__(self, wanted: int) -> None:
        super().__init__()
        self.inside = 0
        self._wanted = wanted
        self.reached = anyio.Event()
        self.gate = anyio.Event()

    async def act(self, task: Task, mcp: McpServers, run: AgentRun) -> None:
        self.inside += 1
        if self.inside == self._wanted:
            self.reached.set()
        await self.gate.wait()


async def test_a_stop_lets_what_runs_end_and_begins_nothing(tmp_path: Path) -> None:
    agent, world = Gated(2), Exam()
    run = Run(tmp_path, [exam(str(number)) for number in range(9)])
    async with served({"exam": world}) as remote:
        with anyio.fail_after(20):
            async with run.runner(remote, agent, concurrency=2) as runner:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(runner.run)
                    await agent.reached.wait()
                    runner.stop()
                    agent.gate.set()
                assert runner.interrupted
                assert (runner.tally().scored, runner.tally().left) == (2, 7)
        agent.inside = 0
        assert (await run.play(remote, agent, resume=True)).scored == 9
    assert agent.inside == 7
    assert sorted(world.verdicts) == [str(number) for number in range(9)]


@pytest.mark.parametrize("twice", [True, False])
async def test_a_second_stop_or_the_end_of_the_grace_closes_what_runs(
    tmp_path: Path, twice: bool
) -> None:
    agent, world = Gated(2), Exam()
    run = Run(tmp_path, [exam(str(number)) for number in range(9)])
    async with served({"exam": world}) as remote:
        with anyio.fail_after(20):
            async with run.runner(
                remote, agent, concurrency=2, grace=100.0 if twice else 0.01
            ) as runner:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(runner.run)
                    await agent.reached.wait()
                    runner.stop()
                    if twice:
                        runner.stop()
        assert world.closed == ["closed", "closed"]
        assert (run.read(), run.failures) == ([], [])  # they are no failures: they are done anew
        agent.gate.set()
        assert (await run.play(remote, agent, resume=True)).scored == 9


async def test_a_host_that_is_gone_ends_the_run_and_costs_no_attempt(tmp_path: Path) -> None:
    agent = Gated(1)
    run = Run(tmp_path, [exam("a"), exam("b")])

    async def play() -> None:
        with pytest.raises(HostGone, match=r"no gymhost answers at http.* any more"):
            await run.play(remote, agent, concurrency=1, patience=0.2)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            async with served({"exam": Exam}) as remote:
                tasks.start_soon(play)
                await agent.reached.wait()
            agent.gate.set()
        assert run.failures == []
        async with served({"exam": Exam}) as remote:
            assert (await run.play(remote, resume=True)).scored == 2


async def test_a_wrong_key_ends_the_run(tmp_path: Path) -> None:
    run = Run(tmp_path, [exam("a"), exam("b")])
    async with served({"exam": Exam}) as remote:
        wrong = type(remote)(remote.url, "wrong", named=True)
        with pytest.raises(HostGone, match="does not take the control key"):
            await run.play(wrong)
    assert run.failures == []


async def test_a_busy_host_is_waited_for(tmp_path: Path) -> None:
    config = EnvironmentConfig(Exam, limits=Limits(open_sessions=2))
    run = Run(tmp_path, [exam(str(number)) for number in range(8)])
    async with served({"exam": config}) as remote:
        tally = await run.play(remote, concurrency=4, retries=0)
    assert (tally.scored, run.failures) == (8, [])


async def test_the_sessions_of_failures_are_closed(tmp_path: Path) -> None:
    run = Run(tmp_path, [exam("a", fails=3), exam("b")])
    async with served({"exam": Exam}) as remote:
        await run.play(remote, retries=1)
        async with Client(remote.url, remote.key) as client:
            use = (await client.environment("exam"))["use"]
    assert use["open_sessions"] == 0
