"""What an agent did, as it reports it: Responses API output items, read leniently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pydantic_core

from gymhost.models import JSONObject

__all__ = ["Trajectory", "TrajectoryCall"]


class Trajectory:
    """What an agent did, as Responses API output items; read leniently, and only when asked."""

    def __init__(self, response: Any = None) -> None:
        """Take a Responses API response object, its `output` list, or nothing."""
        self.response = response

    @cached_property
    def items(self) -> tuple[JSONObject, ...]:
        """The output items in order. Types that are not known here pass through."""
        output = self.response
        if isinstance(output, Mapping):
            output = output.get("output")
        if isinstance(output, str) or not isinstance(output, Sequence):
            return ()
        return tuple(item for item in output if isinstance(item, dict))

    @cached_property
    def _assistant_messages(self) -> tuple[str, ...]:
        return tuple(
            _text(item.get("content"))
            for item in self.items
            if item.get("type", "message") == "message" and item.get("role") == "assistant"
        )

    @property
    def assistant_text(self) -> str:
        """The text of all assistant messages, joined by newlines."""
        return "\n".join(self._assistant_messages)

    @property
    def final_text(self) -> str:
        """The text of the last assistant message, empty without one."""
        return self._assistant_messages[-1] if self._assistant_messages else ""

    @cached_property
    def tool_calls(self) -> tuple[TrajectoryCall, ...]:
        """Each `function_call`, with the `function_call_output` of the same `call_id`."""
        outputs = {
            _string(item.get("call_id")): _text(item.get("output"))
            for item in self.items
            if item.get("type") == "function_call_output"
        }
        outputs.pop(None, None)
        return tuple(
            TrajectoryCall(
                emitted_name=_string(item.get("name")) or "",
                raw_arguments=item.get("arguments"),
                call_id=item.get("call_id"),
                output=outputs.get(_string(item.get("call_id"))),
            )
            for item in self.items
            if item.get("type") == "function_call"
        )


@dataclass(frozen=True)
class TrajectoryCall:
    """A tool call as the agent reported it. gymhost did not see it happen."""

    emitted_name: str
    """The name as the model wrote it: `mcp__weather__get_weather`."""
    raw_arguments: Any
    """Usually a JSON object in a string."""
    call_id: Any
    output: str | None
    """The output's text; None where the call has no output."""

    @property
    def name(self) -> str:
        """The tool's own name: `get_weather`, also where the model wrote `mcp__weather__...`."""
        prefix, _, rest = self.emitted_name.partition("__")
        server, separator, tool = rest.partition("__")
        return tool if prefix == "mcp" and server and separator and tool else self.emitted_name

    @cached_property
    def arguments(self) -> JSONObject:
        """The arguments; empty where the model did not write a JSON object."""
        value = self.raw_arguments
        if isinstance(value, str):
            try:
                value = pydantic_core.from_json(value.encode())
            except ValueError:  # also of a lone surrogate
                return {}
        return value if isinstance(value, dict) else {}


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _text(content: Any) -> str:
    """Return the text of a content: a string, or the text of its parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        return ""
    parts = (part if isinstance(part, str) else _part_text(part) for part in content)
    return "".join(parts)


def _part_text(part: Any) -> str:
    return (_string(part.get("text")) or "") if isinstance(part, Mapping) else ""
