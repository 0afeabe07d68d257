"""What a conversation with a model looks like to the agent, whichever API carries it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import pydantic_core

from gymhost.agents.base import AgentFailure, Usage
from gymhost.models import JSONObject, finite_json

__all__ = ["CallIds", "Dialect", "FunctionCall", "Turn", "counted", "function_call", "no_answer"]

CALL_ID_LENGTH = 64  # OpenAI's limit


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """A tool call that a model asks for."""

    call_id: str
    name: str
    """As the model wrote it."""
    raw_arguments: str
    arguments: JSONObject | None
    """None where the model did not write a JSON object."""

    @property
    def sent_arguments(self) -> str:
        """The arguments as they go back to the model.

        vLLM, SGLang and llama.cpp parse them in the history of a conversation, and refuse all of
        it where one call had no JSON object.
        """
        return "{}" if self.arguments is None or not self.raw_arguments else self.raw_arguments

    def item(self, **more: Any) -> JSONObject:
        """Return it as a Responses API item."""
        return {
            "type": "function_call",
            **more,
            "call_id": self.call_id,
            "name": self.name,
            "arguments": self.raw_arguments,
        }


@dataclass(slots=True)
class Turn:
    """One answer of a model."""

    items: list[JSONObject]
    """Responses API items."""
    calls: list[FunctionCall]
    """Those of the items that are tool calls."""
    usage: Usage
    stop_reason: str
    """As the API words it: `completed`, `stop`, `max_output_tokens`, `length`, ..."""
    is_cut: bool = False
    """Whether the answer broke off. Its calls may be halves: they are not for running."""
    model: str | None = None


class Dialect(Protocol):
    """One conversation, as one API has it."""

    path: str
    """Behind `/v1/`."""

    def request(self) -> JSONObject:
        """Return the body that asks for the next turn."""
        ...

    def read(self, answer: JSONObject) -> Turn:
        """Read a turn, and remember it for the next request.

        Raises: AgentFailure: it is none.
        """
        ...

    def answer(self, call: FunctionCall, output: str) -> None:
        """Remember what a tool call came to."""
        ...


@dataclass(slots=True)
class CallIds:
    """The ids of one conversation's tool calls. Models leave them out, or repeat them."""

    taken: set[str] = field(default_factory=set[str])
    _made: int = 0

    def unique(self, given: Any) -> str:
        """Return an id that no other call has: the given one, if it can be."""
        if isinstance(given, str) and 0 < len(given) <= CALL_ID_LENGTH and given not in self.taken:
            self.taken.add(given)
            return given
        while True:
            # nine letters and digits: all that Mistral's models take
            made = f"call{self._made:05}"
            self._made += 1
            if made not in self.taken:
                self.taken.add(made)
                return made


def function_call(call_id: str, name: Any, arguments: Any) -> FunctionCall:
    """Read a tool call. Some servers give the arguments as an object, some none at all."""
    if isinstance(arguments, str):
        raw = arguments
    else:
        raw = "" if arguments is None else json.dumps(arguments)
    return FunctionCall(call_id, name if isinstance(name, str) else "", raw, _object(raw))


def counted(usage: Any, *, given: str, made: str) -> Usage:
    """Read the tokens of one call; `given` and `made` are what an API calls input and output."""
    usage = usage if isinstance(usage, Mapping) else {}
    details = usage.get(f"{given}_details")
    details = details if isinstance(details, Mapping) else {}
    return Usage(
        _count(usage.get(given)), _count(usage.get(made)), _count(details.get("cached_tokens"))
    )


def no_answer(what: str) -> AgentFailure:
    """Return the failure of an answer that can't be read."""
    return AgentFailure(f"the model's answer {what}", "model_error")


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _object(text: str) -> JSONObject | None:
    if not text.strip():
        return {}
    try:
        value = pydantic_core.from_json(text)
        finite_json(value)
    except ValueError:  # also of NaN, and of a number beyond all floats
        return None
    return value if isinstance(value, dict) else None
