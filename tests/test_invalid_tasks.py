"""An environment refuses a task: the trainer's mistake, and no failure of the environment."""

import pytest

from gymhost import Environment, InvalidTask, Session, Task, Trajectory
from gymhost.client import ApiError, Client
from gymhost.testing import client

WHY = "verifier_metadata.city: must be a text, not 7 ☂"


class Picky(Environment):
    """Refuses a task when it is seeded, or when it is verified, as the task says."""

    stateless = True

    def check(self, task: Task, when: str) -> None:
        if task.verifier_metadata.get("wrong") == when:
            raise InvalidTask(WHY)

    async def seed(self, session: Session, task: Task) -> None:  # type: ignore[override]
        self.check(task, "seed")
        return await super().seed(session, task)  # type: ignore[return-value]

    async def verify(self, session: Session, trajectory: Trajectory) -> float:
        self.check(session.task, "verify")
        return 1.0


class PickyInAThread(Picky):
    def seed(self, session: Session, task: Task):  # type: ignore[no-untyped-def, override]
        self.check(task, "seed")
        return self.state_type()

    def verify(self, session: Session, trajectory: Trajectory) -> float:  # type: ignore[override]
        self.check(session.task, "verify")
        return 1.0


@pytest.mark.parametrize("environment", [Picky, PickyInAThread])
@pytest.mark.parametrize("when", ["seed", "verify", "verify without a session"])
async def test_a_refused_task_is_answered_422_with_the_reason(
    environment: type[Environment], when: str
) -> None:
    wrong = {"wrong": when.split()[0]}
    async with client({"picky": environment}) as api:
        with pytest.raises(ApiError) as caught:
            await attempt(api, wrong, detached=when.endswith("session"))
        assert (caught.value.status, caught.value.failure_kind) == (422, "invalid_request")
        assert caught.value.problem["detail"] == WHY
        assert caught.value.problem["mask_sample"] is True
        counts = (await api.environment("picky"))["counts"]
        assert counts["invalid_task"] == 1
        assert "environment_error" not in counts
        assert (await attempt(api, {}, detached=False))["reward"] == 1.0


async def attempt(api: Client, metadata: dict[str, str], *, detached: bool) -> dict[str, object]:
    if detached:
        return await api.request("POST", "/envs/picky/verify", {"verifier_metadata": metadata})
    async with api.episode("picky", Task(verifier_metadata=metadata)) as episode:
        return await episode.verify()
