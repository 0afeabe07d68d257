"""A Responses API request in the words of the Chat Completions API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gymhost.models import JSONObject

__all__ = ["chat_fields", "chat_messages", "chat_tools"]

LEFT_OUT = frozenset(
    {"include", "instructions", "max_tool_calls", "prompt", "reasoning", "text", "truncation"}
)
"""What the Chat Completions API does not know, or says in another way."""


def chat_fields(fields: Mapping[str, Any]) -> JSONObject:
    """Return a request's fields, without its input and tools."""
    chat = {key: value for key, value in fields.items() if key not in LEFT_OUT}
    if "max_output_tokens" in chat:
        # not max_tokens, which OpenAI's reasoning models refuse
        chat["max_completion_tokens"] = chat.pop("max_output_tokens")
    choice = chat.get("tool_choice")
    if isinstance(choice, dict) and choice.get("type") == "function":
        chat["tool_choice"] = {"type": "function", "function": {"name": choice.get("name")}}
    reasoning, text = fields.get("reasoning"), fields.get("text")
    if isinstance(reasoning, dict) and reasoning.get("effort"):
        chat["reasoning_effort"] = reasoning["effort"]
    if isinstance(text, dict):
        if text.get("verbosity"):
            chat["verbosity"] = text["verbosity"]
        if isinstance(text.get("format"), dict):
            chat["response_format"] = _response_format(text["format"])
    return chat


def _response_format(given: JSONObject) -> JSONObject:
    if given.get("type") != "json_schema":
        return given
    schema = {key: value for key, value in given.items() if key != "type"}
    return {"type": "json_schema", "json_schema": schema}


def chat_tools(tools: Sequence[JSONObject]) -> list[JSONObject]:
    """Return the function tools. The others, such as web search, are the Responses API's alone."""
    return [
        {
            "type": "function",
            "function": {
                key: value
                for key, value in tool.items()
                if key in ("name", "description", "parameters") or (key == "strict" and value)
            },
        }
        for tool in tools
        if tool.get("type") == "function"
    ]


def chat_messages(items: Sequence[JSONObject], instructions: str | None) -> list[JSONObject]:
    """Return input items as messages."""
    messages: list[JSONObject] = []
    for item in items:
        kind = item.get("type", "message")
        if kind == "message":
            role, content = item.get("role", "user"), _content(item.get("content"))
            messages.append({"role": role, "content": content})
        elif kind == "function_call":
            _add_call(messages, item)
        elif kind == "function_call_output":
            output = item.get("output")
            content = output if isinstance(output, str) else _content(output)
            messages.append(
                {"role": "tool", "tool_call_id": item.get("call_id"), "content": content}
            )
    if not instructions:
        return messages
    # one message: the chat templates of many open models take a single system message, at the start
    if messages and messages[0]["role"] == "system" and isinstance(messages[0]["content"], str):
        first = messages.pop(0)
        instructions = f"{instructions}\n\n{first['content']}"
    return [{"role": "system", "content": instructions}, *messages]


def _add_call(messages: list[JSONObject], item: JSONObject) -> None:
    """Add a call to the assistant's message that it belongs to, or one of its own."""
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": None})
    function = {"name": item.get("name"), "arguments": item.get("arguments") or "{}"}
    call = {"id": item.get("call_id"), "type": "function", "function": function}
    messages[-1].setdefault("tool_calls", []).append(call)


def _content(content: Any) -> str | list[JSONObject]:
    """Return a message's content; text alone as a string, which every server takes."""
    if not isinstance(content, list):
        return content if isinstance(content, str) else ""
    parts = [_part(part) for part in content if isinstance(part, dict)]
    if all(part.get("type") == "text" for part in parts):
        return "".join(part["text"] for part in parts)
    return parts


def _part(part: JSONObject) -> JSONObject:
    kind = part.get("type")
    if kind in ("input_text", "output_text", "text"):
        return {"type": "text", "text": str(part.get("text", ""))}
    if kind == "refusal":
        return {"type": "text", "text": str(part.get("refusal", ""))}
    if kind == "input_image":
        image = {"url": part.get("image_url"), "detail": part.get("detail")}
        image = {key: value for key, value in image.items() if value is not None}
        return {"type": "image_url", "image_url": image}
    return part
