"""Attempts with tasks that are refused, hosts that hang, and agents that say too much."""

from __future__ import annotations

from pathlib import Path

import anyio
import httpx2
import pytest

from gymhost import InvalidTask, Session, Task
from gymhost.agents.base import AgentFailure, AgentRun, McpServers
from gymhost.session import NoState
from tests.rollouts.exams import Exam, Run, Sayer, exam, served


class Picky(Exam):
    """Refuses tasks, or never answers, where the task says so."""

    async def seed(self, session: Session, task: Task) -> NoState:
        if task.verifier_metadata.get("refused"):
            raise InvalidTask("verifier_metadata.refused: not here")
        if task.verifier_metadata.get("hangs"):
            await anyio.sleep_forever()
        return NoState()


async def test_a_task_that_the_environment_refuses_fails_once(tmp_path: Path) -> None:
    run = Run(tmp_path, [exam("a", refused=True), exam("b")])
    async with served({"exam": Picky}) as remote:
        await run.play(remote, retries=3)
    (row,) = run.read("_failures")
    assert (row["_ng_failure_class"], row["_ng_failure_terminal"]) == ("invalid_request", True)
    assert "verifier_metadata.refused: not here" in row["_ng_failure_message"]
    assert row["session_id"] is None
    assert run.scores == {(1, 0): 1.0}


async def test_a_host_that_takes_a_request_and_hangs_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gymhost.client.TIMEOUT", httpx2.Timeout(30, read=0.5))
    run = Run(tmp_path, [exam("a", hangs=True)])
    async with served({"exam": Picky}) as remote:
        await run.play(remote, retries=0)
    assert run.failures == [(0, "host_timeout")]


async def test_a_failure_whose_trajectory_can_not_be_written_is_written_without_it(
    tmp_path: Path,
) -> None:
    class Fails(Sayer):
        async def act(self, task: Task, mcp: McpServers, run: AgentRun) -> None:
            raise AgentFailure("half \udc80 a letter")

    run = Run(tmp_path, [exam("a")])
    async with served({"exam": Exam}) as remote:
        await run.play(remote, Fails("half \ud800"), retries=0)
    (row,) = run.read("_failures")
    assert row["_ng_failure_message"] == "half ? a letter"
    assert row["response"]["output"] == []


async def test_a_failure_in_an_agents_own_task_group_is_that_failure(tmp_path: Path) -> None:
    class Grouped(Sayer):
        async def act(self, task: Task, mcp: McpServers, run: AgentRun) -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.fail)

        async def fail(self) -> None:
            raise AgentFailure("429", "model_rate_limited")

    run = Run(tmp_path, [exam("a")])
    async with served({"exam": Exam}) as remote:
        await run.play(remote, Grouped(), retries=0)
    assert run.failures == [(0, "model_rate_limited")]


async def test_rows_and_trajectories_of_many_megabytes_are_played(tmp_path: Path) -> None:
    large = "Grüße " * 3_000_000  # 24 MB
    row = {**exam("a"), "context": large}
    run = Run(tmp_path, [row, exam("b")])
    async with served({"exam": Exam}) as remote:
        await run.play(remote, Sayer(large))
    assert run.scores == {(0, 0): 0.0, (1, 0): 0.0}  # it has called no tool
    rows = {each["_ng_task_index"]: each for each in run.read()}
    assert rows[0]["context"] == large
    assert rows[1]["response"]["output"][0]["content"][0]["text"] == large


async def test_infinities_of_an_agent_are_null(tmp_path: Path) -> None:
    class Costly(Sayer):
        async def act(self, task: Task, mcp: McpServers, run: AgentRun) -> None:
            run.cost_usd = float("inf")
            run.extra["ratio"] = float("nan")

    run = Run(tmp_path, [exam("a")])
    async with served({"exam": Exam}) as remote:
        await run.play(remote, Costly())
    assert (run.read()[0]["agent"]["cost_usd"], run.read()[0]["agent"]["ratio"]) == (None, None)


async def test_a_session_that_is_being_seeded_when_the_run_ends_is_closed(tmp_path: Path) -> None:
    world = Exam()
    gate, seeding = anyio.Event(), anyio.Event()

    class Slow(Exam):
        async def seed(self, session: Session, task: Task) -> NoState:
            seeding.set()
            await gate.wait()
            return NoState()

        async def close(self, session: Session, reason: str) -> None:
            world.closed.append(reason)

    run = Run(tmp_path, [exam("a")])
    async with served({"exam": Slow}) as remote:
        with anyio.fail_after(20):
            async with run.runner(remote) as runner:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(runner.run)
                    await seeding.wait()
                    runner.stop()
                    runner.stop()
                    gate.set()
        assert world.closed == ["closed"]
    assert (run.read(), run.failures) == ([], [])
