from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
from pydantic import BaseModel

from gymhost import Environment, Session, Task, Trajectory, tool


class WorkshopState(BaseModel):
    folder: str


class Workshop(Environment[WorkshopState]):
    """Write a file. Each session has a folder, which goes with it."""

    pinned = True

    async def seed(self, session: Session[WorkshopState], task: Task) -> WorkshopState:
        return WorkshopState(folder=await session.enter(TemporaryDirectory()))

    @tool
    def write(self, session: Session[WorkshopState], text: str) -> str:
        """Write the file's text."""
        Path(session.state.folder, "file.txt").write_text(text)
        return "written"

    async def verify(self, session: Session[WorkshopState], trajectory: Trajectory) -> float:
        file = anyio.Path(session.state.folder, "file.txt")
        wanted = session.task.verifier_metadata["text"]
        return float(await file.is_file() and await file.read_text() == wanted)
