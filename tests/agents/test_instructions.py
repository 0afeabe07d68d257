from __future__ import annotations

from typing import Any

import pytest

from gymhost.agents import AgentFailure
from gymhost.agents.instructions import Instruction, instruction
from gymhost.models import Task


def asked(given: Any, **params: Any) -> Instruction:
    return instruction(Task(responses_create_params={"input": given, **params}))


def message(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


def test_a_string_is_the_instruction() -> None:
    assert asked(" Go.\n") == Instruction(None, " Go.\n")


def test_messages_are_joined_and_a_system_message_stands_apart() -> None:
    parts = [{"type": "input_text", "text": "One."}, {"type": "input_text", "text": "Two."}]
    given = [
        message("system", "Be brief."),
        {"type": "message", **message("user", parts)},
        message("developer", "Be kind."),
        message("user", "Three."),
    ]
    assert asked(given) == Instruction("Be brief.\n\nBe kind.", "One.\nTwo.\n\nThree.")


def test_the_params_instructions_are_the_first_system_message() -> None:
    assert (
        asked([message("system", "B"), message("user", "C")], instructions="A").system == "A\n\nB"
    )


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (None, "no instruction"),
        ("", "no instruction"),
        (" \n", "no instruction"),
        ([], "no instruction"),
        ([message("system", "Be brief.")], "no instruction"),
        (7, "input is a number"),
        (["Go."], "input.0 is no message"),
        ([{"type": "function_call", "name": "f"}], "input.0 is no message"),
        ([message("user", "Go."), message("tool", "Where?")], "input.1 has the role 'tool'"),
        ([message("assistant", "Where?")], "input.0 has the role 'assistant'"),
        ([message("user", [{"type": "input_image", "image_url": "data:"}])], "more than text"),
        ([message("user", None)], "more than text"),
    ],
)
def test_what_is_no_instruction_is_refused_for_good(given: Any, why: str) -> None:
    with pytest.raises(AgentFailure, match=why) as caught:
        asked(given)
    assert caught.value.failure_class == "invalid_task"
    assert caught.value.terminal
