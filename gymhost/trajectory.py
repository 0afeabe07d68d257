"""What an agent did, as it reports it: Responses API output items, read leniently."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Self

import pydantic_core

from gymhost.models import JSONObject

__all__ = ["Texts", "Trajectory", "TrajectoryCall"]

# What JSON makes comes first: an abstract class takes ten times as long to know its own.
OBJECT = (dict, Mapping)
ARRAY = (list, Sequence)


class Texts(NamedTuple):
    """What the assistant said."""

    assistant: str
    final: str


class Trajectory:
    """What an agent did, as Responses API output items; read leniently, and only when asked."""

    _unread: tuple[Texts, Callable[[], Any]] | None = None
    _items: tuple[JSONObject, ...] | None = None
    _read: Texts | None = None

    def __init__(self, response: Any = None) -> None:
        """Take a Responses API response object, its `output` list, or nothing."""
        self.response = response

    @classmethod
    def unread(cls, texts: Texts, response: Callable[[], Any]) -> Self:
        """Return one of which only the texts are known.

        `response` makes that when it is asked for, and may raise.
        """
        trajectory = cls.__new__(cls)
        trajectory._unread = texts, response
        return trajectory

    @cached_property
    def response(self) -> Any:
        """The response as it was sent."""
        assert self._unread is not None  # else it was given
        return self._unread[1]()

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy, or another process, needs: the response, and not how to get it."""
        return {**self.__dict__, "response": self.response, "_unread": None}

    @property
    def items(self) -> tuple[JSONObject, ...]:
        """The output items in order. Types that are not known here pass through."""
        if self._items is None:
            self._items = self._read_items()
        return self._items

    def _read_items(self) -> tuple[JSONObject, ...]:
        return tuple([item for item in self._output() if isinstance(item, dict)])

    def _output(self) -> Sequence[Any]:
        output = self.response
        if isinstance(output, OBJECT):
            output = output.get("output")
        return () if isinstance(output, str) or not isinstance(output, ARRAY) else output

    @property
    def _texts(self) -> Texts:
        if self._read is None:
            self._read = self._read_texts()
        return self._read

    def _read_texts(self) -> Texts:
        # a wrapper that has asked for the response may have changed it
        if self._unread is not None and "response" not in self.__dict__:
            return self._unread[0]
        # plain loops: a trajectory has thousands of items, and a generator for each costs as much
        # as parsing it
        texts: list[str] = []
        for item in self._output():
            if (
                isinstance(item, dict)
                and item.get("role") == "assistant"
                and item.get("type", "message") == "message"
            ):
                texts.append(_text(item.get("content")))
        return Texts("\n".join(texts), texts[-1] if texts else "")

    @property
    def assistant_text(self) -> str:
        """The text of all assistant messages, joined by newlines."""
        return self._texts.assistant

    @property
    def final_text(self) -> str:
        """The text of the last assistant message, empty without one."""
        return self._texts.final

    @cached_property
    def tool_calls(self) -> tuple[TrajectoryCall, ...]:
        """Each `function_call`, with its `function_call_output`.

        They are paired by `call_id`. Some harnesses number the calls of each turn anew, so an id
        that comes again is another call: an output answers the first call of its id that has
        none yet, and one output answers one call. One that is sent again replaces the last.
        """
        calls: list[JSONObject] = []
        outputs: dict[int, JSONObject] = {}
        early: dict[str, JSONObject] = {}  # outputs that come before their call
        waiting: dict[str, deque[int]] = {}
        answered: dict[str, int] = {}
        for item in self.items:
            call_id = _string(item.get("call_id"))
            if item.get("type") == "function_call":
                calls.append(item)
                if call_id in early:
                    answered[call_id] = len(calls) - 1
                    outputs[answered[call_id]] = early.pop(call_id)
                elif call_id is not None:
                    waiting.setdefault(call_id, deque()).append(len(calls) - 1)
            elif item.get("type") == "function_call_output" and call_id is not None:
                if waiting.get(call_id):
                    answered[call_id] = waiting[call_id].popleft()
                if call_id in answered:
                    outputs[answered[call_id]] = item
                else:
                    early[call_id] = item
        return tuple(_paired(call, outputs.get(index)) for index, call in enumerate(calls))


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
    is_error: bool = False
    """Whether the output says that the tool failed, or has not ended.

    Responses API items have no field for a failure: an `isError` (of MCP) or `is_error` counts,
    on the item or in its output, and the `status` of an item that did not complete.
    """

    @property
    def name(self) -> str:
        """The tool's own name: `get_weather`, also where the model wrote `mcp__weather__...`."""
        prefix, _, rest = self.emitted_name.partition("__")
        server, separator, tool = rest.partition("__")
        return tool if prefix == "mcp" and server and separator and tool else self.emitted_name

    @property
    def arguments(self) -> JSONObject:
        """The arguments; empty where the model did not write a JSON object."""
        return self._parsed_arguments or {}

    @property
    def is_well_formed(self) -> bool:
        """Whether the arguments are a JSON object, or none at all."""
        return self._parsed_arguments is not None or self.raw_arguments in (None, "")

    @cached_property
    def _parsed_arguments(self) -> JSONObject | None:
        return _object(self.raw_arguments)


def _paired(call: JSONObject, output: JSONObject | None) -> TrajectoryCall:
    return TrajectoryCall(
        emitted_name=_string(call.get("name")) or "",
        raw_arguments=call.get("arguments"),
        call_id=call.get("call_id"),
        output=None if output is None else _output_text(output.get("output")),
        is_error=output is not None and _is_error(output),
    )


def _output_text(output: Any) -> str:
    """Return the text of an output; of a tool's whole MCP result, the text of its content."""
    return _text(output.get("content") if isinstance(output, Mapping) else output)


def _is_error(item: JSONObject) -> bool:
    if item.get("status") in ("in_progress", "incomplete", "failed"):
        return True
    result = item.get("output")
    if isinstance(result, str):
        # the JSON of an MCP result; looked for first, as an output may be long
        result = _object(result) if '"isError"' in result else None
    marked = (item, result) if isinstance(result, Mapping) else (item,)
    return any(each.get(key) is True for each in marked for key in ("isError", "is_error"))


def _object(value: Any) -> JSONObject | None:
    """Return a JSON object, or what one in a string says; None for anything else."""
    if isinstance(value, str):
        try:
            value = pydantic_core.from_json(value.encode())
        except ValueError:  # also of a lone surrogate
            return None
    return value if isinstance(value, dict) else None


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _text(content: Any) -> str:
    """Return the text of a content: a string, or the text of its parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, ARRAY):
        return ""
    texts: list[str] = []
    for part in content:
        text = part.get("text") if isinstance(part, OBJECT) else part
        if isinstance(text, str):
            texts.append(text)
    return "".join(texts)
