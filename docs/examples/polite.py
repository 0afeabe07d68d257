"""An environment that wraps its own tool calls. Its wrapper applies to itself alone."""

from dataclasses import replace

from gymhost import Environment, Session, ToolOutcome, Trajectory, Wrapper, hookimpl, tool


class Polite(Environment):
    @tool
    async def greet(self, name: str) -> str:
        """Greet somebody."""
        return f"Hello {name}"

    @hookimpl(wrapper=True, specname="call_tool")
    def say_please(self) -> Wrapper[ToolOutcome]:
        outcome = yield
        return replace(outcome, content=[*outcome.content, {"type": "text", "text": "Thank you."}])

    async def verify(self, session: Session, trajectory: Trajectory) -> float:
        return float("Thank you." in trajectory.final_text)
