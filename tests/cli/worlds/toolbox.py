"""Environments with a tool of every kind, for the commands that call them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from gymhost import (
    Environment,
    Session,
    Task,
    ToolCall,
    ToolError,
    ToolOutcome,
    Trajectory,
    VerifyResult,
    tool,
)


class Point(BaseModel):
    """A place."""

    x: int
    y: int = 0


class Nothing(BaseModel):
    """No state."""


class Toolbox(Environment[Nothing]):
    """What it is given, it gives back."""

    def __init__(self) -> None:
        self.seeded = 0

    async def seed(self, session: Session[Nothing], task: Task) -> Nothing:
        self.seeded += 1
        return Nothing()

    @tool
    def seeds(self) -> int:
        """Return how many sessions were seeded."""
        return self.seeded

    @tool
    def asked(self, session: Session[Nothing]) -> dict[str, Any]:
        """Return the session's task."""
        return session.task.to_row()

    @tool
    def take(
        self,
        text: str = "",
        n: int = 0,
        ratio: float = 0.0,
        flag: bool = False,
        words: list[str] = [],  # noqa: B006 - what an author writes
        size: Literal["S", "L"] = "S",
        level: Literal[1, 2] = 1,
        point: Point | None = None,
        either: int | str = 0,
        anything: Any = None,
        letters: str = Field("a", pattern=r"^\p{L}+$"),
    ) -> dict[str, Any]:
        """Return the arguments."""
        kept = {name: value for name, value in locals().items() if name != "self"}
        return {**kept, "point": point.model_dump() if point is not None else None}

    @tool
    def say(self, text: str) -> str:
        """Say it again."""
        return text

    @tool
    def refuse(self) -> str:
        """Refuse."""
        raise ToolError("no such city: Ünknown")

    @tool
    def crash(self) -> str:
        """Crash."""
        raise RuntimeError("a secret of the server")

    async def verify(self, session: Session[Nothing], trajectory: Trajectory) -> VerifyResult:
        said = trajectory.final_text or ""
        right = said == session.task.verifier_metadata.get("answer", "yes")
        return VerifyResult(
            reward=float(right),
            reward_components={"right": float(right)},
            said=said,
            called=[call.name for call in session.calls],
        )


class Pictures(Environment[Nothing]):
    """Answers with what is not text."""

    @tool
    def look(self) -> str:
        """Look."""
        return ""

    async def call_tool(self, session: Session[Nothing], call: ToolCall) -> ToolOutcome:
        picture = {"type": "image", "data": "AAAA", "mimeType": "image/png"}
        return ToolOutcome([{"type": "text", "text": "here"}, picture])

    async def verify(self, session: Session[Nothing], trajectory: Trajectory) -> float:
        return 0.0


class Toolless(Environment[Nothing]):
    """Has none."""

    async def verify(self, session: Session[Nothing], trajectory: Trajectory) -> float:
        return 0.0


class Unstartable(Toolless):
    """Is not served."""

    async def startup(self) -> None:
        raise RuntimeError("no database")
