"""An environment whose right score depends on every call of the attempt, and on no other's."""

import anyio
from pydantic import BaseModel

from gymhost import Environment, Session, tool


class Total(BaseModel):
    total: int = 0


class Sums(Environment[Total]):
    def __init__(self):
        self.inside = 0
        self.all_inside = anyio.Event()

    @tool
    async def add(self, session: Session[Total], number: int) -> str:
        """Add a number."""
        session.state.total += number
        return str(session.state.total)

    @tool
    async def meet(self, session: Session[Total]) -> str:
        """Wait until as many have come as the task says."""
        self.inside += 1
        if self.inside == session.task.verifier_metadata["together"]:
            self.all_inside.set()
        await self.all_inside.wait()
        return "all are here"

    @tool(timeout=5)
    async def wait(self) -> str:
        """Wait until the time is over."""
        await anyio.sleep_forever()

    async def verify(self, session, trajectory):
        right = trajectory.final_text == str(session.state.total)
        return session.state.total / 100 if right else 0.0
