"""Playing example tasks: references, and doing nothing."""

from __future__ import annotations

from typing import Any

import pytest

from gymhost import Environment, Session, Task, Trajectory, testing, tool
from gymhost.checking import Played, play_tasks
from gymhost.client import McpMode


class Adder(Environment):
    """Scores 1 for the right sum, called for and said; 0.5 for saying it alone."""

    @tool
    async def add(self, a: int, b: int) -> int:
        return a + b

    async def verify(self, session: Session, trajectory: Trajectory) -> float:
        expected = session.task.verifier_metadata.get("expected")
        if expected is None:
            raise RuntimeError("no such task")
        said = trajectory.final_text == str(expected)
        called = any(call.ok for call in session.calls) or bool(trajectory.tool_calls)
        return 0.5 * said + 0.5 * (said and called)


def adding(reference: Any, expected: int | None = 3) -> Task:
    metadata = {} if expected is None else {"expected": expected}
    return Task(verifier_metadata=metadata, extra={"reference": reference})


CALL = {"name": "add", "arguments": {"a": 1, "b": 2}}
TRAJECTORY = [
    {"type": "function_call", "call_id": "1", "name": "add", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "1", "output": "3"},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "3"}]},
]


async def play(*tasks: Task, mode: McpMode = "auto") -> list[Played]:
    async with testing.client({"adder": Adder}) as client:
        return [each async for each in play_tasks(client, "adder", list(tasks), mcp_mode=mode)]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_reference_is_played_through_mcp_and_beside_it_nothing(mode: McpMode) -> None:
    (played,) = await play(adding({"calls": [CALL], "answer": "3"}), mode=mode)
    assert played == Played("adder", 0, expected=1.0, reference=1.0, nothing=0.0)


async def test_a_trajectory_is_submitted_as_it_is() -> None:
    (played,) = await play(adding({"trajectory": TRAJECTORY}))
    assert played == Played("adder", 0, expected=1.0, reference=1.0, nothing=0.0)


@pytest.mark.parametrize("more", [{"calls": [CALL]}, {"answer": "3"}])
async def test_a_trajectory_beside_calls_or_an_answer_is_a_problem(more: dict[str, Any]) -> None:
    (played,) = await play(adding({"trajectory": TRAJECTORY, **more}))
    assert played.problem == (
        "the reference has a trajectory, and beside it calls or an answer: keep one"
    )
    assert (played.reference, played.nothing, played.skipped) == (None, None, False)


@pytest.mark.parametrize(
    ("trajectory", "problem"),
    [
        ([], "the reference scored 0, not 1"),  # submitted all the same, and not taken for none
        (TRAJECTORY[2:], "the reference scored 0.5, not 1"),
    ],
)
async def test_a_wrong_trajectory_is_a_problem(trajectory: Any, problem: str) -> None:
    (played,) = await play(adding({"trajectory": trajectory}))
    assert played.problem == problem


async def test_a_trajectory_is_played_where_there_are_no_tools_and_no_sessions() -> None:
    class External(Environment):
        stateless = True

        async def verify(self, session: Session, trajectory: Trajectory) -> float:
            wanted = session.task.verifier_metadata["expected"]
            return float(any(call.output == str(wanted) for call in trajectory.tool_calls))

    async with testing.client({"external": External}) as client:
        task = adding({"trajectory": TRAJECTORY})
        (played,) = [each async for each in play_tasks(client, "external", [task])]
    assert played == Played("external", 0, expected=1.0, reference=1.0, nothing=0.0)


@pytest.mark.parametrize(
    ("reference", "problem"),
    [
        ({"answer": "3"}, "the reference scored 0.5, not 1"),
        ({"calls": [CALL], "answer": "4"}, "the reference scored 0, not 1"),
        ({"answer": "3", "reward": 0.25}, "the reference scored 0.5, not 0.25"),
    ],
)
async def test_a_wrong_reference_is_a_problem(reference: Any, problem: str) -> None:
    (played,) = await play(adding(reference))
    assert played.problem == problem
    assert not played.skipped


async def test_a_reference_that_states_its_reward_is_right_with_less() -> None:
    (played,) = await play(adding({"answer": "3", "reward": 0.5}))
    assert played.problem is None


async def test_doing_nothing_must_not_score_what_the_reference_does() -> None:
    class Generous(Adder):
        async def verify(self, session: Session, trajectory: Trajectory) -> float:
            return 1.0

    async with testing.client({"adder": Generous}) as client:
        task = adding({"calls": [CALL]})
        (played,) = [each async for each in play_tasks(client, "adder", [task])]
    assert played.problem == "doing nothing scored 1"


async def test_each_task_is_played_whatever_becomes_of_the_others() -> None:
    right = adding({"calls": [CALL], "answer": "3"})
    played = await play(
        adding({"calls": "add"}), Task(), adding({"answer": "3"}, expected=None), right
    )
    assert [each.task for each in played] == [0, 1, 2, 3]
    unreadable, without, raising, good = played
    assert unreadable.problem is not None
    assert unreadable.problem.startswith("the reference can't be read: ")
    assert "\n" not in unreadable.problem
    assert without.skipped
    assert raising.problem is not None
    assert raising.problem.startswith("502 environment_error: verify of 'adder' failed.")
    assert raising.expected == 1.0
    assert good.problem is None


async def test_calls_of_a_reference_for_an_environment_without_tools_are_a_problem() -> None:
    class Toolless(Environment):
        async def verify(self, session: Session, trajectory: Trajectory) -> float:
            return 1.0

    async with testing.client({"toolless": Toolless}) as client:
        task = adding({"calls": [CALL]})
        (played,) = [each async for each in play_tasks(client, "toolless", [task])]
    assert played.problem == "'toolless' has no tools"


async def test_an_error_without_a_text_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async with testing.client({"adder": Adder}) as client:

        async def fail(*arguments: Any, **options: Any) -> None:
            raise ConnectionError

        monkeypatch.setattr(client, "seed", fail)
        task = adding({"answer": "3"})
        (played,) = [each async for each in play_tasks(client, "adder", [task])]
    assert played.problem == "ConnectionError"
