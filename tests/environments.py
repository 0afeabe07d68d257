"""Small environments that several tests use."""

from __future__ import annotations

import threading
from typing import Any

import anyio
from pydantic import BaseModel

from gymhost import Environment, Session, Task, ToolError, Trajectory, VerifyResult, tool


class Gate:
    """A barrier: whoever comes says so, and waits until it is opened."""

    def __init__(self) -> None:
        self.reached = anyio.Event()
        self._open = anyio.Event()

    async def pass_through(self) -> None:
        self.reached.set()
        await self._open.wait()

    def open(self) -> None:
        self._open.set()


class Notes(BaseModel):
    notes: list[str] = []


class Diary(Environment[Notes]):
    """A session writes notes; its reward is their number, or what the test says."""

    def __init__(self) -> None:
        self.reward: Any = None
        self.seeds = 0
        self.verifies = 0
        self.closed: list[tuple[str, str]] = []
        """Session and reason, as close was told."""
        self.seed_gate: Gate | None = None
        self.call_gate = Gate()
        self.verify_gate: Gate | None = None
        self.close_gate: Gate | None = None

    async def seed(self, session: Session[Notes], task: Task) -> Notes:
        self.seeds += 1
        if self.seed_gate is not None:
            await self.seed_gate.pass_through()
        return Notes(notes=task.verifier_metadata.get("notes", []))

    async def allowed_tools(self, session: Session[Notes], task: Task) -> list[str] | None:
        return task.verifier_metadata.get("tools")

    @tool
    async def write(self, session: Session[Notes], note: str) -> str:
        """Write a note down, and read all of them."""
        session.state.notes.append(note)
        return ",".join(session.state.notes)

    @tool
    async def wait(self, session: Session[Notes], note: str = "waited") -> str:
        """Write a note down when the gate opens."""
        await self.call_gate.pass_through()
        return await self.write(session, note)

    @tool(concurrent=True)
    async def look(self, session: Session[Notes]) -> str:
        """Read the notes when the gate opens, beside other calls."""
        await self.call_gate.pass_through()
        return ",".join(session.state.notes)

    @tool
    async def refuse(self, why: str = "no") -> str:
        """Fail, in words for the agent."""
        raise ToolError(why)

    @tool
    async def crash(self) -> str:
        """Fail, in words that are not for the agent."""
        raise RuntimeError("the cause")

    async def verify(self, session: Session[Notes], trajectory: Trajectory) -> Any:
        self.verifies += 1
        if self.verify_gate is not None:
            await self.verify_gate.pass_through()
        if isinstance(self.reward, BaseException):
            raise self.reward
        return float(len(session.state.notes)) if self.reward is None else self.reward

    async def close(self, session: Session[Notes], reason: str) -> None:
        self.closed.append((session.id, reason))
        if self.close_gate is not None:
            await self.close_gate.pass_through()


class Judge(Environment):
    """Scores a stored rollout: no tools, no session."""

    stateless = True

    async def verify(self, session: Session, trajectory: Trajectory) -> VerifyResult:
        right = trajectory.final_text == session.task.verifier_metadata.get("answer")
        return VerifyResult(reward=right, calls=len(session.calls), session=session.id)


class Broken(Environment):
    """Fails in one hook, in one way, until it is mended."""

    def __init__(self, where: str, how: BaseException | None) -> None:
        """`how` None hangs."""
        self.where: str | None = where
        self.how = how
        self.release = threading.Event()

    def mend(self) -> None:
        self.where = None
        self.release.set()

    async def _fail(self, where: str) -> None:
        if where != self.where:
            return
        if self.how is None:
            await anyio.sleep_forever()
        else:
            raise self.how

    async def startup(self) -> None:
        await self._fail("startup")

    async def seed(self, session: Session, task: Task) -> Any:
        await self._fail("seed")
        return self.state_type()

    async def allowed_tools(self, session: Session, task: Task) -> None:
        await self._fail("allowed_tools")

    @tool
    async def work(self) -> str:
        """Work, or not."""
        await self._fail("tool")
        return "done"

    async def verify(self, session: Session, trajectory: Trajectory) -> float:
        await self._fail("verify")
        return 1.0

    async def close(self, session: Session, reason: str) -> None:
        await self._fail("close")


class BrokenInThreads(Broken):
    """The same, in plain `def` hooks and a plain `def` tool."""

    def _fail_now(self, where: str) -> None:
        if where != self.where:
            return
        if self.how is None:
            self.release.wait()
        else:
            raise self.how

    def startup(self) -> None:  # type: ignore[override]
        self._fail_now("startup")

    def seed(self, session: Session, task: Task) -> Any:
        self._fail_now("seed")
        return self.state_type()

    def allowed_tools(self, session: Session, task: Task) -> None:  # type: ignore[override]
        self._fail_now("allowed_tools")

    @tool
    def work(self) -> str:  # type: ignore[override]
        """Work, or not."""
        self._fail_now("tool")
        return "done"

    def verify(self, session: Session, trajectory: Trajectory) -> float:  # type: ignore[override]
        self._fail_now("verify")
        return 1.0

    def close(self, session: Session, reason: str) -> None:  # type: ignore[override]
        self._fail_now("close")
