"""A conversation by `/v1/chat/completions`, read as Responses API items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gymhost.agents.chat_messages import chat_fields, chat_messages, chat_tools
from gymhost.agents.dialects import (
    CallIds,
    FunctionCall,
    Turn,
    counted,
    function_call,
    no_answer,
)
from gymhost.models import JSONObject

__all__ = ["ChatDialect"]

REASONING = ("reasoning_content", "reasoning")
"""DeepSeek's name for it, and vLLM's since 0.11."""
CUT = frozenset({"length", "content_filter"})


class ChatDialect:
    """A conversation, as the Chat Completions API has it."""

    path = "chat/completions"

    def __init__(
        self,
        items: Sequence[JSONObject],
        fields: Mapping[str, Any],
        tools: Sequence[JSONObject],
        params: Mapping[str, Any],
    ) -> None:
        """Begin with a task's input `items`; `fields` are a Responses API request's.

        `params` are this API's own, and go over them.
        """
        self._messages = chat_messages(items, fields.get("instructions"))
        self._ids = CallIds({str(item["call_id"]) for item in items if "call_id" in item})
        self._fields = chat_fields(fields)
        if offered := chat_tools(tools):
            self._fields["tools"] = offered
        self._fields |= params
        self._turns = 0

    def request(self) -> JSONObject:
        return {**self._fields, "messages": self._messages}

    def read(self, answer: JSONObject) -> Turn:
        choice, message = _first(answer)
        finish = str(choice.get("finish_reason") or "stop")
        if finish == "error":  # OpenRouter's
            raise no_answer("broke off with an error")
        self._turns += 1
        calls = [self._call(call) for call in _list(message.get("tool_calls"))]
        self._messages.append(_sent_again(message, calls))
        return Turn(
            items=self._items(message, calls, cut=finish in CUT),
            calls=calls,
            usage=counted(answer.get("usage"), given="prompt_tokens", made="completion_tokens"),
            stop_reason=finish,
            is_cut=finish in CUT,
            model=answer.get("model") if isinstance(answer.get("model"), str) else None,
        )

    def answer(self, call: FunctionCall, output: str) -> None:
        self._messages.append({"role": "tool", "tool_call_id": call.call_id, "content": output})

    def _call(self, call: JSONObject) -> FunctionCall:
        function = call.get("function")
        function = function if isinstance(function, dict) else {}
        return function_call(
            self._ids.unique(call.get("id")), function.get("name"), function.get("arguments")
        )

    def _items(
        self, message: JSONObject, calls: Sequence[FunctionCall], *, cut: bool
    ) -> list[JSONObject]:
        items: list[JSONObject] = []
        status = "incomplete" if cut else "completed"
        if reasoning := _reasoning(message):
            thought = [{"type": "reasoning_text", "text": reasoning}]
            item = {"type": "reasoning", "id": f"rs_{self._turns}", "summary": []}
            items.append({**item, "content": thought})
        if content := _content(message):
            item = {"type": "message", "id": f"msg_{self._turns}", "role": "assistant"}
            items.append({**item, "status": status, "content": content})
        return items + [call.item(id=f"fc_{call.call_id}", status=status) for call in calls]


def _first(answer: JSONObject) -> tuple[JSONObject, JSONObject]:
    choices = _list(answer.get("choices"))
    if not choices:
        raise no_answer("has no choices")
    message = choices[0].get("message")
    if not isinstance(message, dict):
        raise no_answer("has no message")
    return choices[0], message


def _list(value: Any) -> list[JSONObject]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _reasoning(message: JSONObject) -> str:
    for key in REASONING:
        if isinstance(message.get(key), str) and message[key]:
            return str(message[key])
    # Mistral's: parts of the content
    thoughts = [part for part in _list(message.get("content")) if part.get("type") == "thinking"]
    return "".join(_text(part.get("thinking")) for part in thoughts)


def _content(message: JSONObject) -> list[JSONObject]:
    """Return the parts of a message item; none where the model said nothing."""
    parts: list[JSONObject] = []
    if text := _text(message.get("content")):
        parts.append({"type": "output_text", "text": text, "annotations": []})
    if isinstance(message.get("refusal"), str) and message["refusal"]:
        parts.append({"type": "refusal", "refusal": message["refusal"]})
    return parts


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    texts = (part.get("text") for part in _list(content))
    return "".join(text for text in texts if isinstance(text, str))


def _sent_again(message: JSONObject, calls: Sequence[FunctionCall]) -> JSONObject:
    """Return a turn as the next request has it."""
    sent: JSONObject = {"role": "assistant", "content": _text(message.get("content")) or None}
    # under the name it came with: DeepSeek refuses a conversation that has lost it, be it empty,
    # and a server that gave none is sent none
    sent |= {key: message[key] for key in REASONING if isinstance(message.get(key), str)}
    if calls:
        sent["tool_calls"] = [
            {
                "id": call.call_id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.sent_arguments},
            }
            for call in calls
        ]
    return sent
