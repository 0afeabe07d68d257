"""A conversation by `/v1/responses`. Each request has all of it: nothing is kept at the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gymhost.agents.dialects import (
    CallIds,
    FunctionCall,
    Turn,
    counted,
    function_call,
    no_answer,
)
from gymhost.models import JSONObject

__all__ = ["ResponsesDialect"]

REASONING = "reasoning.encrypted_content"


class ResponsesDialect:
    """A conversation, as the Responses API has it."""

    path = "responses"

    def __init__(
        self,
        items: Sequence[JSONObject],
        fields: Mapping[str, Any],
        tools: Sequence[JSONObject],
        params: Mapping[str, Any],
    ) -> None:
        """Begin with a task's input `items`; `fields` are the request's, `params` go over them."""
        self._items = list(items)
        self._ids = CallIds({str(item["call_id"]) for item in items if "call_id" in item})
        self._fields: JSONObject = {"store": False, **fields}
        if tools:
            self._fields["tools"] = list(tools)
        self._fields |= params
        # only where reasoning is asked for: OpenAI's other models refuse to give it
        if "reasoning" in self._fields:
            self._fields.setdefault("include", [REASONING])

    def request(self) -> JSONObject:
        return {**self._fields, "input": self._items}

    def read(self, answer: JSONObject) -> Turn:
        status, output = answer.get("status"), answer.get("output")
        if status in ("failed", "cancelled", "queued", "in_progress"):
            raise no_answer(f"is {status}")
        if not isinstance(output, list):
            raise no_answer("has no output")
        turn = Turn(
            items=[],
            calls=[],
            usage=counted(answer.get("usage"), given="input_tokens", made="output_tokens"),
            stop_reason=_stop_reason(answer),
            is_cut=status == "incomplete",
            model=answer.get("model") if isinstance(answer.get("model"), str) else None,
        )
        sent: list[JSONObject] = []
        for item in output:
            if not isinstance(item, dict):
                continue
            if item.get("type") == "function_call":
                call = function_call(
                    self._ids.unique(item.get("call_id")), item.get("name"), item.get("arguments")
                )
                turn.calls.append(call)
                item |= call.item()
                sent.append({**item, "arguments": call.sent_arguments})
            else:
                sent.append(item)
            turn.items.append(item)
        self._items += _sent_again(sent)
        return turn

    def answer(self, call: FunctionCall, output: str) -> None:
        self._items.append(
            {"type": "function_call_output", "call_id": call.call_id, "output": output}
        )


def _stop_reason(answer: JSONObject) -> str:
    details = answer.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else None
    return str(reason or answer.get("status") or "completed")


def _sent_again(items: list[JSONObject]) -> list[JSONObject]:
    """Return a turn's items as the next request has them.

    Reasoning goes back if it has a content, open (as vLLM's) or encrypted: of one without, the
    server would have to find its own copy, and has none. Then what it led to loses its id, by
    which OpenAI would miss the reasoning.
    """
    # without nulls, which are in answers and not allowed in requests
    items = [{key: value for key, value in item.items() if value is not None} for item in items]
    reasoning = [item for item in items if item.get("type") == "reasoning"]
    if all(item.get("encrypted_content") or item.get("content") for item in reasoning):
        return items
    return [_without_id(item) for item in items if item.get("type") != "reasoning"]


def _without_id(item: JSONObject) -> JSONObject:
    if item.get("type") == "message":  # the one form of a message that needs none
        content = item.get("content")
        parts = content if isinstance(content, list) else [{"text": content}]
        texts = [
            part.get("text") or part.get("refusal") for part in parts if isinstance(part, dict)
        ]
        return {"role": "assistant", "content": "".join(str(text or "") for text in texts)}
    return {key: value for key, value in item.items() if key != "id"}
