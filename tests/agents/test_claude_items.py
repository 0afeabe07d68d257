from __future__ import annotations

from typing import Any

import pytest

from gymhost.agents.claude_items import Items
from gymhost.trajectory import Trajectory

Output = list[dict[str, Any]]


def answered(*blocks: dict[str, Any], message_id: str = "m") -> Output:
    """The items of one message, whose blocks come one by one."""
    output: Output = []
    items = Items(output)
    for block in blocks:
        items.add_answer({"message": {"id": message_id, "content": [block]}})
    return output


def with_result(content: Any, **more: Any) -> dict[str, Any]:
    """The item of a tool's result."""
    output: Output = []
    block = {"type": "tool_result", "tool_use_id": "c", "content": content, **more}
    Items(output).add_results({"message": {"content": [block]}})
    (item,) = output
    return item


def call(call_id: str = "c") -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": "look", "input": {}}


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def test_the_texts_of_a_message_are_one_item_until_something_else_comes() -> None:
    output = answered(text("A"), text("B"), call(), text("C"))
    assert [item["type"] for item in output] == ["message", "function_call", "message"]
    assert [part["text"] for part in output[0]["content"]] == ["A", "B"]
    assert [item["id"] for item in (output[0], output[2])] == ["m", "m:2"]


def test_another_message_is_another_item() -> None:
    output: Output = []
    items = Items(output)
    for message_id in ("a", "b"):
        items.add_answer({"message": {"id": message_id, "content": "Hi."}})
    assert [item["id"] for item in output] == ["a", "b"]


def test_thinking_stands_apart_from_the_answer() -> None:
    output = answered(
        {"type": "thinking", "thinking": "Hm."},
        {"type": "redacted_thinking", "data": "c2Vj"},
        {"type": "thinking", "thinking": "", "signature": "c2ln"},
        text("A"),
    )
    assert output[0]["content"] == [{"type": "reasoning_text", "text": "Hm."}]
    assert output[1]["encrypted_content"] == "c2Vj"
    assert [item["type"] for item in output] == ["reasoning", "reasoning", "message"]
    assert Trajectory(output).assistant_text == "A"


def test_a_tool_of_the_models_own_side_has_its_result_in_the_same_message() -> None:
    search = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}}
    found = {"type": "web_search_tool_result", "tool_use_id": "s", "content": [text("r")]}
    (pair,) = Trajectory(answered(search, found)).tool_calls
    assert (pair.name, pair.output) == ("web_search", "r")


def test_a_result_of_texts_is_their_lines() -> None:
    assert with_result([text("A"), text("B")])["output"] == "A\nB"
    assert with_result("A")["output"] == "A"
    assert with_result(None)["output"] == ""


def test_an_image_stays_in_a_result() -> None:
    source = {"type": "base64", "media_type": "image/png", "data": "aWNvbg=="}
    item = with_result([text("A"), {"type": "image", "source": source}, {"type": "other"}])
    assert item["output"] == [
        {"type": "input_text", "text": "A"},
        {"type": "input_image", "image_url": "data:image/png;base64,aWNvbg=="},
        {"type": "input_text", "text": '{"type": "other"}'},
    ]


@pytest.mark.parametrize("failed", [True, False])
def test_a_failed_tool_is_marked(failed: bool) -> None:
    output = answered(call())
    output.append(with_result("No.", is_error=failed))
    (pair,) = Trajectory(output).tool_calls
    assert pair.is_error is failed
