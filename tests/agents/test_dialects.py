"""Both dialects: what a task's request becomes, and how odd answers are read."""

from __future__ import annotations

from typing import Any

import pytest

from gymhost.agents.base import AgentFailure, Usage
from gymhost.agents.chat_dialect import ChatDialect
from gymhost.agents.dialects import CallIds, Dialect
from gymhost.agents.responses_dialect import ResponsesDialect

ITEMS = [{"role": "user", "content": "Hi."}]
TOOL = {
    "type": "function",
    "name": "t",
    "description": "d",
    "parameters": {"type": "object", "properties": {}},
    "strict": False,
}


def responses(**fields: Any) -> ResponsesDialect:
    return ResponsesDialect(ITEMS, fields, [TOOL], {})


def chat(**fields: Any) -> ChatDialect:
    return ChatDialect(ITEMS, fields, [TOOL], {})


def choice(finish: str | None = "stop", /, **message: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", **message}, "finish_reason": finish}]}


def function(arguments: Any, name: Any = "t", call_id: Any = "c") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_a_responses_request_has_the_conversation_and_keeps_nothing_at_the_server() -> None:
    assert responses(model="m", temperature=0.5, instructions="Be brief.").request() == {
        "store": False,
        "model": "m",
        "temperature": 0.5,
        "instructions": "Be brief.",
        "tools": [TOOL],
        "input": ITEMS,
    }


def test_params_go_over_everything_and_without_tools_there_is_no_list_of_them() -> None:
    for dialect in (ResponsesDialect, ChatDialect):
        asked = dialect(ITEMS, {"model": "m", "top_p": 1}, [], {"top_p": 0.5, "store": True})
        request = asked.request()
        assert "tools" not in request
        assert (request["top_p"], request["store"]) == (0.5, True)


def test_encrypted_reasoning_is_asked_for_where_reasoning_is() -> None:
    assert responses(reasoning={"effort": "low"}).request()["include"] == [
        "reasoning.encrypted_content"
    ]
    assert responses(reasoning={}, include=[]).request()["include"] == []
    assert "include" not in responses().request()


def test_a_chat_request_says_the_same_in_its_own_words() -> None:
    schema = {"type": "json_schema", "name": "s", "schema": {"type": "object"}}
    request = chat(
        model="m",
        instructions="Be brief.",
        max_output_tokens=7,
        tool_choice={"type": "function", "name": "t"},
        reasoning={"effort": "low"},
        text={"verbosity": "low", "format": schema},
        truncation="auto",
        parallel_tool_calls=False,
        seed=1,
    ).request()
    assert request == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, *ITEMS],
        "max_completion_tokens": 7,
        "tool_choice": {"type": "function", "function": {"name": "t"}},
        "reasoning_effort": "low",
        "verbosity": "low",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "s", "schema": {"type": "object"}},
        },
        "parallel_tool_calls": False,
        "seed": 1,
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "t",
                    "description": "d",
                    "parameters": {"type": "object", "properties": {}},
                },
            }
        ],
    }
    plain = chat(text={"format": {"type": "json_object"}}, tool_choice="auto").request()
    assert (plain["response_format"], plain["tool_choice"]) == ({"type": "json_object"}, "auto")


def test_chat_has_a_tasks_items_as_messages() -> None:
    items = [
        {"role": "system", "content": [{"type": "input_text", "text": "Rules."}]},
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "See:"},
                {"type": "input_image", "image_url": "data:x", "detail": "low"},
            ],
        },
        {"type": "reasoning", "summary": []},
        {
            "role": "assistant",
            "content": [{"type": "output_text", "text": "a"}, {"type": "refusal", "refusal": "b"}],
        },
        {"type": "function_call", "call_id": "1", "name": "t", "arguments": '{"a": 1}'},
        {"type": "function_call", "call_id": "2", "name": "t", "arguments": ""},
        {"type": "function_call_output", "call_id": "1", "output": "one"},
        {
            "type": "function_call_output",
            "call_id": "2",
            "output": [{"type": "input_text", "text": "two"}],
        },
        {"type": "function_call", "call_id": "3", "name": "t"},
        {"role": "user"},
        {"role": "user", "content": [{"text": "?"}]},
    ]
    asked = ChatDialect(items, {"instructions": "Be brief."}, [{"type": "web_search"}], {})
    image = {"type": "image_url", "image_url": {"url": "data:x", "detail": "low"}}
    assert asked.request() == {
        "messages": [
            {"role": "system", "content": "Be brief.\n\nRules."},
            {"role": "user", "content": [{"type": "text", "text": "See:"}, image]},
            {
                "role": "assistant",
                "content": "ab",
                "tool_calls": [function('{"a": 1}', call_id="1"), function("{}", call_id="2")],
            },
            {"role": "tool", "tool_call_id": "1", "content": "one"},
            {"role": "tool", "tool_call_id": "2", "content": "two"},
            {"role": "assistant", "content": None, "tool_calls": [function("{}", call_id="3")]},
            {"role": "user", "content": ""},
            {"role": "user", "content": [{"text": "?"}]},
        ]
    }
    # its ids are taken
    (call,) = asked.read(choice(tool_calls=[function("{}", call_id="1")])).calls
    assert call.call_id not in ("1", "2", "3")


@pytest.mark.parametrize("dialect", [responses, chat])
@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"output": None, "choices": []},
        {"output": "text", "choices": "text"},
        {"output": {}, "choices": [1]},
        {"output": 1, "choices": [{"message": "text"}]},
        {"output": [], "status": "failed", "choices": [{}]},
        {"output": [], "status": "in_progress", **choice("error", content="")},
    ],
)
def test_an_answer_without_a_turn_is_a_failure(dialect: Any, answer: dict[str, Any]) -> None:
    with pytest.raises(AgentFailure, match="the model's answer ") as raised:
        dialect().read(answer)
    assert raised.value.failure_class == "model_error"


@pytest.mark.parametrize("dialect", [responses, chat])
def test_an_empty_turn_is_one(dialect: Any) -> None:
    turn = dialect().read({"output": [], **choice(None, content=None, tool_calls=None)})
    assert (turn.items, turn.calls, turn.usage) == ([], [], Usage())
    assert turn.stop_reason in ("completed", "stop")
    assert (turn.is_cut, turn.model) == (False, None)


@pytest.mark.parametrize("usage", [None, [], {"prompt_tokens": "7", "input_tokens": -1}, 3])
@pytest.mark.parametrize("dialect", [responses, chat])
def test_usage_that_is_none_is_not_counted(dialect: Any, usage: Any) -> None:
    assert dialect().read({"output": [], **choice(), "usage": usage}).usage == Usage()


def test_usage_is_read_in_the_words_of_either() -> None:
    details = {"cached_tokens": 2}
    usage = {"input_tokens": 5, "output_tokens": 3, "input_tokens_details": details}
    assert responses().read({"output": [], "usage": usage}).usage == Usage(5, 3, 2)
    usage = {"prompt_tokens": 5, "completion_tokens": 3, "prompt_tokens_details": details}
    assert chat().read({**choice(), "usage": usage}).usage == Usage(5, 3, 2)
    usage["prompt_tokens_details"] = None  # vLLM's
    assert chat().read({**choice(), "usage": usage}).usage == Usage(5, 3, 0)


@pytest.mark.parametrize(
    ("arguments", "read", "sent"),
    [
        ('{"a": 1}', {"a": 1}, '{"a": 1}'),
        ({"a": 1}, {"a": 1}, '{"a": 1}'),
        ("", {}, "{}"),
        (None, {}, "{}"),
        ("null", None, "{}"),
        ("[]", None, "{}"),
        ([1], None, "{}"),
        ('{"a"', None, "{}"),
        ('{"a": NaN}', None, "{}"),
        ('{"a": 1e999}', None, "{}"),
        ('{"a":' * 300 + "1" + "}" * 300, None, "{}"),
    ],
)
def test_arguments_that_are_no_object_go_back_as_an_empty_one(
    arguments: Any, read: Any, sent: str
) -> None:
    conversation: Dialect = chat()
    (call,) = conversation.read(choice("tool_calls", tool_calls=[function(arguments)])).calls
    assert call.arguments == read
    conversation.answer(call, "told")
    *_, assistant, tool = conversation.request()["messages"]
    assert assistant["tool_calls"] == [function(sent)]
    assert tool == {"role": "tool", "tool_call_id": "c", "content": "told"}

    conversation = responses()
    item = {"type": "function_call", "call_id": "c", "name": "t", "arguments": arguments}
    turn = conversation.read({"output": [item]})
    assert turn.calls[0].arguments == read
    assert turn.items == [{**item, "arguments": turn.calls[0].raw_arguments}]
    conversation.answer(turn.calls[0], "told")
    *_, asked, told = conversation.request()["input"]
    assert asked == {**item, "arguments": sent}
    assert told == {"type": "function_call_output", "call_id": "c", "output": "told"}


def test_calls_without_a_name_or_an_id_are_calls() -> None:
    odd = [{}, {"function": 3}, function("{}", name=None, call_id=7), "no call"]
    turn = chat().read(choice("stop", tool_calls=odd))
    assert [(call.name, call.call_id) for call in turn.calls] == [
        ("", "call00000"),
        ("", "call00001"),
        ("", "call00002"),
    ]
    turn = responses().read({"output": [{"type": "function_call"}, None, "no item"]})
    assert [(call.name, call.call_id) for call in turn.calls] == [("", "call00000")]


def test_ids_are_unique_and_short() -> None:
    ids = CallIds({"call00000"})
    given = ["a", "a", "", None, 5, "x" * 65, "call00003"]
    made = [ids.unique(each) for each in given]
    assert made == ["a", *(f"call0000{number}" for number in range(1, 6)), "call00006"]


def test_chat_reads_reasoning_apart_from_the_answer_and_sends_it_back_as_it_came() -> None:
    for key in ("reasoning_content", "reasoning"):
        conversation = chat()
        turn = conversation.read(choice(content="Hello.", **{key: "Hm."}))
        assert [item["type"] for item in turn.items] == ["reasoning", "message"]
        assert turn.items[0]["content"] == [{"type": "reasoning_text", "text": "Hm."}]
        sent = conversation.request()["messages"][-1]
        assert sent == {"role": "assistant", "content": "Hello.", key: "Hm."}
    conversation = chat()
    conversation.read(choice(content=None, reasoning_content="", tool_calls=[function("{}")]))
    assert conversation.request()["messages"][-1]["reasoning_content"] == ""
    conversation.read(choice(content="Hello."))
    assert conversation.request()["messages"][-1] == {"role": "assistant", "content": "Hello."}


def test_chat_reads_content_in_parts_and_refusals() -> None:
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
        {"type": "text", "text": "Hel"},
        {"type": "text", "text": "lo."},
        {"type": "text"},
    ]
    turn = chat().read(choice(content=parts))
    assert turn.items[0]["content"] == [{"type": "reasoning_text", "text": "Hm."}]
    assert turn.items[1]["content"][0]["text"] == "Hello."
    (refused,) = chat().read(choice(content=None, refusal="I won't.")).items
    assert refused["content"] == [{"type": "refusal", "refusal": "I won't."}]


@pytest.mark.parametrize(
    ("read", "reason", "cut"),
    [
        (lambda: chat().read(choice("length", content="a")), "length", True),
        (lambda: chat().read(choice("content_filter")), "content_filter", True),
        (lambda: chat().read(choice("tool_calls")), "tool_calls", False),
        (
            lambda: responses().read(
                {
                    "output": [],
                    "status": "incomplete",
                    "incomplete_details": {"reason": "max_output_tokens"},
                }
            ),
            *("max_output_tokens", True),
        ),
        (lambda: responses().read({"output": [], "status": "incomplete"}), "incomplete", True),
        (lambda: responses().read({"output": []}), "completed", False),
    ],
)
def test_why_a_turn_ended_is_told(read: Any, reason: str, cut: bool) -> None:
    turn = read()
    assert (turn.stop_reason, turn.is_cut) == (reason, cut)


CALL = {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "t", "arguments": "{}"}
MESSAGE = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "Hm", "annotations": []}, {"refusal": "!"}],
}
SEARCH = {"type": "web_search_call", "id": "ws_1", "status": "completed"}


@pytest.mark.parametrize(
    "content",
    [{"encrypted_content": "x"}, {"content": [{"type": "reasoning_text", "text": "Hm."}]}],
)
def test_reasoning_with_a_content_goes_back_with_what_it_led_to(content: dict[str, Any]) -> None:
    conversation = responses()
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": [], **content}
    turn = conversation.read({"output": [{**reasoning, "status": None}, MESSAGE, dict(CALL)]})
    assert [item["type"] for item in turn.items] == ["reasoning", "message", "function_call"]
    assert conversation.request()["input"] == [*ITEMS, reasoning, MESSAGE, CALL]


def test_reasoning_without_one_stays_away_and_nothing_names_it() -> None:
    conversation = responses()
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": None}
    odd = [{**MESSAGE, "content": "As a text."}, {**MESSAGE, "content": [None, {}]}]
    turn = conversation.read({"output": [reasoning, MESSAGE, *odd, SEARCH, dict(CALL)]})
    assert turn.items[0] == reasoning
    assert conversation.request()["input"] == [
        *ITEMS,
        {"role": "assistant", "content": "Hm!"},
        {"role": "assistant", "content": "As a text."},
        {"role": "assistant", "content": ""},
        {"type": "web_search_call", "status": "completed"},
        {key: value for key, value in CALL.items() if key != "id"},
    ]
