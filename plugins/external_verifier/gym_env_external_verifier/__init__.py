"""Score an agent's calls of somebody else's MCP tools, by the trajectory that it handed in."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files

import pydantic_core

from gym_env_external_verifier.requirements import read_requirements
from gym_env_external_verifier.scoring import score
from gymhost import Environment, Session, Task, Trajectory, VerifyResult
from gymhost.session import NoState

__all__ = ["ExternalVerifier"]


class ExternalVerifier(Environment):
    """Reward what the trajectory shows: the calls a task requires, their outputs, the answer."""

    stateless = True

    async def seed(self, session: Session, task: Task) -> NoState:
        read_requirements(task.verifier_metadata)  # a task that is none is refused at once
        return await super().seed(session, task)

    # not async: a large trajectory is read in a thread
    def verify(  # type: ignore[override]
        self, session: Session, trajectory: Trajectory
    ) -> VerifyResult:
        return score(read_requirements(session.task.verifier_metadata), trajectory)

    def tasks(self) -> Iterator[Task]:
        lines = files(__name__).joinpath("tasks.jsonl").read_text("utf-8").splitlines()
        return (Task.from_row(pydantic_core.from_json(line)) for line in lines)
