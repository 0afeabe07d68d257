"""A task's instruction, for agents that take one text rather than a list of messages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gymhost.agents.base import AgentFailure
from gymhost.models import Task, json_type

__all__ = ["Instruction", "instruction"]

SYSTEM_ROLES = ("system", "developer")


@dataclass(frozen=True, slots=True)
class Instruction:
    """What the agent is asked, and what its system prompt gets besides."""

    system: str | None
    text: str


def instruction(task: Task) -> Instruction:
    """Read `responses_create_params.input`, a string or messages, and `instructions`.

    Raises: AgentFailure: `invalid_task`: there is none, or it is more than text that a user says.
    """
    params = task.responses_create_params
    messages = list(_messages(params.get("input")))
    system = [text for role, text in messages if role in SYSTEM_ROLES]
    if isinstance(params.get("instructions"), str):  # the Responses API's system message
        system.insert(0, params["instructions"])
    text = "\n\n".join(text for role, text in messages if role not in SYSTEM_ROLES)
    if not text.strip():
        raise _invalid("the task has no instruction: responses_create_params.input is empty")
    return Instruction("\n\n".join(filter(None, system)) or None, text)


def _messages(given: Any) -> Iterator[tuple[str, str]]:
    """Yield the role and the text of each message."""
    if given is None or isinstance(given, str):
        yield "user", given or ""
        return
    if not isinstance(given, list):
        raise _invalid(f"input is {json_type(given)}, not a string or a list of messages")
    for number, message in enumerate(given):
        where = f"input.{number}"
        if not isinstance(message, dict) or message.get("type", "message") != "message":
            raise _invalid(f"{where} is no message")
        role = message.get("role")
        if role != "user" and role not in SYSTEM_ROLES:
            # what an assistant said can't be told from what it is asked, in one text
            raise _invalid(f"{where} has the role {role!r}; user and system can be sent")
        yield role, _text(where, message.get("content"))


def _text(where: str, content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") if isinstance(part, dict) else None for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise _invalid(f"{where}.content has more than text")
    return "\n".join(text for text in texts if text)


def _invalid(message: str) -> AgentFailure:
    return AgentFailure(message, "invalid_task", terminal=True)
