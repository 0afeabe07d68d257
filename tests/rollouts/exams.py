"""An environment whose tasks say what becomes of them, and runs against a real server of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import sniffio

from gymhost import Environment, Session, Task, Trajectory, VerifyResult, tool
from gymhost.agents.base import AgentRun, McpServers
from gymhost.agents.scripted import Scripted
from gymhost.cli.embedded import embedded
from gymhost.cli.remote import Remote
from gymhost.client import Client
from gymhost.episode import answer_item
from gymhost.host import EnvironmentLike, Host
from gymhost.lean_http import lean_transport
from gymhost.rollouts.attempt import Attempts
from gymhost.rollouts.inputs import materialized
from gymhost.rollouts.mcp_config import StaticServers
from gymhost.rollouts.patience import Patience
from gymhost.rollouts.records import Records, open_records
from gymhost.rollouts.runner import Plan, Runner, Tally

Row = dict[str, Any]


class Exam(Environment):
    """Scores what a task says, if its tool was called. `fails`: so often, verify raises first."""

    def __init__(self) -> None:
        self.failed: Counter[str] = Counter()
        self.verdicts: list[str] = []
        """The name of each task that was scored."""
        self.closed: list[str] = []
        self.inside = 0
        self.wanted_inside = 0
        self.all_inside = anyio.Event()

    @tool(concurrent=True)
    async def answer(self) -> str:
        """Hand in."""
        return "taken"

    @tool(timeout=30)
    async def meet(self) -> str:
        """Wait until all have come."""
        self.inside += 1
        if self.inside == self.wanted_inside:
            self.all_inside.set()
        await self.all_inside.wait()
        return "all are here"

    async def verify(self, session: Session, trajectory: Trajectory) -> VerifyResult:
        wanted = session.task.verifier_metadata
        name = str(wanted.get("name"))
        if self.failed[name] < wanted.get("fails", 0):
            self.failed[name] += 1
            raise LookupError("no judge")
        self.verdicts.append(name)
        called = any(call.ok for call in session.calls)
        return VerifyResult(reward=wanted.get("reward", 1.0) if called else 0.0, name=name)

    async def close(self, session: Session, reason: str) -> None:
        self.closed.append(reason)


def exam(name: str, *, tool: str = "answer", **metadata: Any) -> Row:
    """A task that calls the tool, and is worth what `reward` says."""
    return {
        "responses_create_params": {"input": f"Do {name}."},
        "verifier_metadata": {"name": name, **metadata},
        "reference": {"calls": [{"name": tool}], "answer": "done"},
    }


class Sayer:
    """An agent that says something, after what a test makes it do."""

    def __init__(self, text: str = "hello") -> None:
        self.text = text
        self.seen: list[McpServers] = []

    async def run(self, task: Task, mcp: McpServers, run: AgentRun) -> None:
        self.seen.append(mcp)
        run.output.append(answer_item(self.text))
        await self.act(task, mcp, run)

    async def act(self, task: Task, mcp: McpServers, run: AgentRun) -> None: ...


@asynccontextmanager
async def served(environments: Mapping[str, EnvironmentLike]) -> AsyncGenerator[Remote]:
    """Serve environments on a port of this machine."""
    host = Host(environments, discover=False)
    backend: Any = sniffio.current_async_library()
    async with embedded(host, backend=backend) as remote:
        yield remote


@dataclass
class Run:
    """A run that a test makes, in one folder."""

    folder: Path
    rows: Iterable[Row]
    attempts: int = 1
    environment: str = "exam"
    agent_name: str = "scripted"

    @property
    def output(self) -> Path:
        return self.folder / "rollouts.jsonl"

    @contextmanager
    def records(self, *, resume: bool = False) -> Iterator[Records]:
        lines = materialized(self.rows, self.attempts, self.agent_name)
        header = {"environment": self.environment, "agent": self.agent_name}
        header["attempts"] = self.attempts  # type: ignore[assignment]
        with open_records(
            self.output, lines, attempts=self.attempts, header=header, resume=resume
        ) as records:
            yield records

    @asynccontextmanager
    async def runner(
        self,
        remote: Remote,
        agent: Any = None,
        *,
        resume: bool = False,
        patience: float = 60.0,
        servers: Mapping[str, Row] | None = None,
        seconds: float | None = None,
        secrets: Iterable[str] = (),
        **plan: Any,
    ) -> AsyncGenerator[Runner]:
        """Get ready to play against a server."""
        transport = lean_transport(remote.url)
        async with Scripted() as scripted, Client(remote.url, remote.key, transport=transport) as c:
            with self.records(resume=resume) as records:
                attempts = Attempts(
                    c,
                    self.environment,
                    agent or scripted,
                    self.agent_name,
                    records,
                    patience=Patience(remote.url, patience),
                    servers=StaticServers(servers or {}),
                    timeout=seconds,
                    secrets=list(secrets),
                    versions={"gymhost": "0"},
                )
                yield Runner(records, attempts, Plan(**plan))

    async def play(self, remote: Remote, agent: Any = None, **options: Any) -> Tally:
        """Play to the end."""
        with anyio.fail_after(30):
            async with self.runner(remote, agent, **options) as runner:
                await runner.run()
                return runner.tally()

    @property
    def files(self) -> dict[str, bytes]:
        """What each file holds."""
        return {path.name: path.read_bytes() for path in self.folder.iterdir()}

    def read(self, what: str = "") -> list[Row]:
        """The rows of the output, or of a file beside it."""
        path = self.output.with_name(f"rollouts{what}.jsonl")
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]

    @property
    def scores(self) -> dict[tuple[int, int], float]:
        """Each attempt's reward: there is one row of each."""
        rows = self.read()
        found = {(row["_ng_task_index"], row["_ng_rollout_index"]): row["reward"] for row in rows}
        assert len(found) == len(rows)
        return found

    @property
    def failures(self) -> list[tuple[int, str]]:
        """The task and the class of each failure, in order."""
        rows = self.read("_failures")
        assert not any("reward" in row for row in rows)
        return [(row["_ng_task_index"], row["_ng_failure_class"]) for row in rows]
