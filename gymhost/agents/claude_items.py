"""Claude's messages, as Claude Code prints them, as Responses API items."""

from __future__ import annotations

import json
from typing import Any

from gymhost.models import JSONObject

__all__ = ["Items", "blocks_of"]


class Items:
    """Adds items to an output list.

    A sub-agent's tool calls are the attempt's, and in it, with the `parent_call_id` of the call
    that started it; what it says is its answer to that call, and not the attempt's.
    """

    def __init__(self, output: list[JSONObject]) -> None:
        self._output = output
        self._calls: dict[str, JSONObject] = {}
        self._ids: dict[str, int] = {}

    def add_answer(self, event: JSONObject) -> None:
        """Add what the model says, thinks and calls."""
        parent = event.get("parent_tool_use_id")
        message_id = str(event["message"].get("id") or "msg")
        for block in blocks_of(event):
            kind = str(block.get("type"))
            if kind.endswith("tool_use"):  # server_tool_use: at the model's end, without a result
                self._add_call(block, parent)
            elif kind.endswith("tool_result"):
                self._add_result(block, parent)
            elif kind == "text" and not parent and block.get("text"):
                self._add_text(message_id, str(block["text"]))
            elif kind.endswith("thinking") and not parent:
                self._add_thinking(message_id, block)

    def add_results(self, event: JSONObject) -> None:
        """Add what tools answered."""
        for block in blocks_of(event):
            if block.get("type") == "tool_result":
                self._add_result(block, event.get("parent_tool_use_id"))

    def _add_text(self, message_id: str, text: str) -> None:
        part = {"type": "output_text", "text": text, "annotations": []}
        last = self._output[-1] if self._output else {}
        # the blocks of a message come one by one
        if last.get("type") == "message" and last["id"].partition(":")[0] == message_id:
            last["content"].append(part)
            return
        self._output.append(
            {
                "type": "message",
                "role": "assistant",
                "id": self._unique(message_id),
                "status": "completed",
                "content": [part],
            }
        )

    def _add_thinking(self, message_id: str, block: JSONObject) -> None:
        item: JSONObject = {
            "type": "reasoning",
            "id": self._unique(f"{message_id}:thinking"),
            "summary": [],
        }
        if block.get("thinking"):
            item["content"] = [{"type": "reasoning_text", "text": block["thinking"]}]
        elif block.get("data"):  # redacted
            item["encrypted_content"] = block["data"]
        else:
            return
        self._output.append(item)

    def _add_call(self, block: JSONObject, parent: Any) -> None:
        call_id = str(block.get("id") or self._unique("call"))
        item = {
            "type": "function_call",
            "call_id": call_id,
            "name": str(block.get("name") or ""),
            "arguments": json.dumps(block.get("input") or {}, ensure_ascii=False),
            "status": "incomplete",  # until its result has come
        }
        self._add(item, parent)
        self._calls[call_id] = item

    def _add_result(self, block: JSONObject, parent: Any) -> None:
        call_id = str(block.get("tool_use_id") or "")
        item: JSONObject = {
            "type": "function_call_output",
            "call_id": call_id,
            "output": _output(block.get("content")),
            "status": "completed",
        }
        if block.get("is_error"):
            item["is_error"] = True
        self._add(item, parent)
        if call_id in self._calls:
            self._calls.pop(call_id)["status"] = "completed"

    def _add(self, item: JSONObject, parent: Any) -> None:
        if parent:
            item["parent_call_id"] = str(parent)
        self._output.append(item)

    def _unique(self, name: str) -> str:
        """Return an id that no other item has: one message may become several."""
        count = self._ids[name] = self._ids.get(name, 0) + 1
        return name if count == 1 else f"{name}:{count}"


def blocks_of(event: JSONObject) -> list[JSONObject]:
    """Return the content blocks of an event's message."""
    message = event.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        return []
    return [block for block in content if isinstance(block, dict)]


def _output(content: Any) -> str | list[JSONObject]:
    """Return a tool's result: its text, or parts where it is more than that."""
    if content is None or isinstance(content, str):
        return content or ""
    blocks = content if isinstance(content, list) else [content]
    if all(isinstance(block, dict) and block.get("type") == "text" for block in blocks):
        return "\n".join(str(block.get("text") or "") for block in blocks)
    return [_part(block) for block in blocks]


def _part(block: Any) -> JSONObject:
    source = block.get("source") if isinstance(block, dict) else None
    if isinstance(source, dict) and block.get("type") == "image" and "data" in source:
        url = f"data:{source.get('media_type')};base64,{source['data']}"
        return {"type": "input_image", "image_url": url}
    if isinstance(block, dict) and block.get("type") == "text":
        return {"type": "input_text", "text": str(block.get("text") or "")}
    return {"type": "input_text", "text": json.dumps(block, ensure_ascii=False)}
