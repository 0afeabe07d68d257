"""Find a number between 1 and 100. The fewer guesses, the higher the reward."""

import random
from collections.abc import Iterator

from pydantic import BaseModel

from gymhost import Environment, Session, Task, ToolError, Trajectory, VerifyResult, tool


class GuessState(BaseModel):
    secret: int
    found: bool = False


class Guess(Environment[GuessState]):
    def __init__(self, guesses: int = 7) -> None:
        self.guesses = guesses

    async def seed(self, session: Session[GuessState], task: Task) -> GuessState:
        dice = random.Random(task.verifier_metadata["random_seed"])
        return GuessState(secret=dice.randint(1, 100))

    @tool
    async def guess(self, session: Session[GuessState], number: int) -> str:
        """Guess the number. The answer is "higher", "lower" or "found"."""
        if not 1 <= number <= 100:
            raise ToolError("The number is between 1 and 100.")
        if number == session.state.secret:
            session.state.found = True
            return "found"
        return "higher" if number < session.state.secret else "lower"

    async def verify(self, session: Session[GuessState], trajectory: Trajectory) -> VerifyResult:
        used = sum(call.ok for call in session.calls)
        found = session.state.found and used <= self.guesses
        return VerifyResult(reward=(1 - (used - 1) / self.guesses) if found else 0, guesses=used)

    def tasks(self) -> Iterator[Task]:
        for random_seed, secret in ((0, 50), (1, 18)):
            calls = [{"name": "guess", "arguments": {"number": secret}}]
            yield Task(
                verifier_metadata={"random_seed": random_seed},
                extra={"reference": {"calls": calls, "reward": 1.0}},
            )
