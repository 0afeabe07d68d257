"""Play example tasks: each reference must score what it states, and doing nothing must not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from math import isclose

from gymhost.client import Client, Episode, McpMode
from gymhost.models import Reference, Task

__all__ = ["Played", "play_tasks"]


@dataclass(frozen=True, slots=True)
class Played:
    """What one task came to."""

    environment: str
    task: int
    """Its place among the environment's tasks, from 0."""
    expected: float | None = None
    """The reference's stated reward; None where the task has no reference."""
    reference: float | None = None
    """What the reference scored."""
    nothing: float | None = None
    """What doing nothing scored."""
    problem: str | None = None
    """What is wrong, in one line; None where nothing is."""

    @property
    def skipped(self) -> bool:
        """Whether there was no reference to play."""
        return self.expected is None and self.problem is None


async def play_tasks(
    client: Client, environment: str, tasks: list[Task], *, mcp_mode: McpMode = "auto"
) -> AsyncIterator[Played]:
    """Play each task's reference, and nothing at all, over HTTP and MCP."""
    for index, task in enumerate(tasks):
        try:
            reference = task.reference
        except ValueError as exc:
            text = " ".join(str(exc).split())
            yield Played(environment, index, problem=f"the reference can't be read: {text}")
            continue
        if reference is None:
            yield Played(environment, index)
            continue
        if reference.is_ambiguous:
            told = "the reference has a trajectory, and beside it calls or an answer: keep one"
            yield Played(environment, index, reference.reward, problem=told)
            continue
        try:
            yield await _play(client, environment, index, task, reference, mcp_mode)
        except Exception as exc:  # noqa: BLE001 - one task's failure is that task's row
            text = " ".join(str(exc).split()) or type(exc).__name__
            yield Played(environment, index, reference.reward, problem=text)


async def _play(
    client: Client,
    environment: str,
    index: int,
    task: Task,
    reference: Reference,
    mcp_mode: McpMode,
) -> Played:
    async with client.episode(environment, task, mcp_mode=mcp_mode) as episode:
        scored = await _play_reference(episode, reference)
    async with client.episode(environment, task, mcp_mode=mcp_mode) as episode:
        nothing = float((await episode.verify())["reward"])
    problem = None
    if not isclose(scored, reference.reward, abs_tol=1e-9):
        problem = f"the reference scored {scored:g}, not {reference.reward:g}"
    elif reference.reward > 0 and nothing >= reference.reward:
        problem = f"doing nothing scored {nothing:g}"
    return Played(environment, index, reference.reward, scored, nothing, problem)


async def _play_reference(episode: Episode, reference: Reference) -> float:
    if reference.trajectory is not None:
        return float((await episode.verify(output=reference.trajectory))["reward"])
    for call in reference.calls:
        await episode.call_tool(call.name, call.arguments)
    return float((await episode.verify(reference.answer))["reward"])
