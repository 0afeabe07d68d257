"""Responses API items, read leniently: whatever an agent's harness wrote down."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gymhost import Trajectory
from gymhost.trajectory import TrajectoryCall
from tests.json_values import VALUES, nested


def message(content: Any, role: str = "assistant") -> dict[str, Any]:
    return {"type": "message", "role": role, "content": content}


def text(value: Any) -> dict[str, Any]:
    return {"type": "output_text", "text": value, "annotations": []}


def call(call_id: Any = "c1", name: Any = "get_weather", arguments: Any = "{}") -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}


def output(call_id: Any = "c1", value: Any = "fine") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": value}


# -- items -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "response",
    [
        None,
        "",
        "text",
        b"bytes",
        7,
        True,
        [],
        {},
        {"output": None},
        {"output": "text"},
        {"output": {"type": "message"}},
        {"outputs": [message("a")]},
        [None, 1, "a", [], ["message"]],
    ],
    ids=repr,
)
def test_what_has_no_items_is_an_empty_trajectory(response: Any) -> None:
    trajectory = Trajectory(response)
    assert trajectory.items == ()
    assert trajectory.tool_calls == ()
    assert (trajectory.assistant_text, trajectory.final_text) == ("", "")
    assert trajectory.response is response


def test_no_response_at_all_is_an_empty_trajectory() -> None:
    assert Trajectory().items == ()


@pytest.mark.parametrize("wrap", [lambda items: items, lambda items: {"output": items}, tuple])
def test_items_come_from_a_response_or_from_its_output(wrap: Any) -> None:
    items = [{"type": "reasoning", "summary": []}, None, message("a"), {"type": "x_new", "y": 1}]
    assert Trajectory(wrap(items)).items == (items[0], items[2], items[3])


# -- text ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("Zürich 🏔", "Zürich 🏔"),
        (None, ""),
        ([], ""),
        (7, ""),
        ({"text": "a"}, ""),
        ([text("a"), text("b")], "ab"),
        (["a", text("b")], "ab"),
        ([text("a"), {"type": "refusal", "refusal": "I can't."}], "a"),
        ([{"text": "no type"}], "no type"),
        ([text(None), text(7), text(["a"]), {"type": "output_text"}], ""),
        ([None, 7, ["a"], [text("a")]], ""),
        (b"bytes", ""),
    ],
)
def test_a_message_is_the_text_of_its_parts(content: Any, expected: str) -> None:
    trajectory = Trajectory([message(content)])
    assert trajectory.assistant_text == trajectory.final_text == expected


def test_the_assistants_messages_are_joined_and_the_last_is_the_final_one() -> None:
    trajectory = Trajectory(
        [
            message("one"),
            message("not mine", role="user"),
            call(),
            output(),
            {"role": "assistant", "content": "two"},  # a message without a type
            {"type": "message", "content": "no role"},
            {"type": "reasoning", "role": "assistant", "content": "no message"},
            message([text("three")]),
            {"type": "web_search_call", "id": "x"},
        ]
    )
    assert trajectory.assistant_text == "one\ntwo\nthree"
    assert trajectory.final_text == "three"


def test_a_last_message_without_text_is_the_final_one() -> None:
    trajectory = Trajectory([message("one"), message([{"type": "refusal", "refusal": "no"}])])
    assert (trajectory.assistant_text, trajectory.final_text) == ("one\n", "")


# -- calls -----------------------------------------------------------------------------------------


def test_calls_are_paired_with_their_outputs_by_call_id() -> None:
    trajectory = Trajectory(
        [
            output("c3", "before its call"),
            call("c1", arguments='{"city": "Zürich"}'),
            call("c2", "other"),
            output("c2", [text("a"), {"type": "input_image"}, text("b")]),
            output("c1", "fine"),
            call("c3"),
            call("c4"),
            output("nobody's", "lost"),
        ]
    )
    assert [(each.call_id, each.name, each.output) for each in trajectory.tool_calls] == [
        ("c1", "get_weather", "fine"),
        ("c2", "other", "ab"),
        ("c3", "get_weather", "before its call"),
        ("c4", "get_weather", None),
    ]
    assert trajectory.tool_calls[0].arguments == {"city": "Zürich"}
    assert trajectory.tool_calls is trajectory.tool_calls


@pytest.mark.parametrize(
    ("items", "outputs"),
    [
        pytest.param("c o1", ["1"], id="one"),
        pytest.param("c o1 o2", ["2"], id="sent again: the last counts"),
        pytest.param("o1 c", ["1"], id="before its call"),
        pytest.param("o1 o2 c", ["2"], id="twice before its call"),
        pytest.param("c c", [None, None], id="none"),
        pytest.param("c o1 c o2", ["1", "2"], id="an id in each of two turns"),
        pytest.param("c c o1 o2", ["1", "2"], id="an id twice in one turn"),
        pytest.param("c o1 c", ["1", None], id="an output answers one call"),
        pytest.param("c c o1", ["1", None], id="an output answers the first"),
        pytest.param("c o1 o2 c o3", ["2", "3"], id="sent again, and the id again"),
        pytest.param("o1 c c", ["1", None], id="before the first of two"),
        pytest.param("o1 c c o2", ["1", "2"], id="before, and after"),
        pytest.param("o1 c o2 o3", ["3"], id="before, and again"),
    ],
)
def test_an_output_answers_one_call_though_an_id_comes_again(
    items: str, outputs: list[str | None]
) -> None:
    made = [call() if item == "c" else output(value=item[1:]) for item in items.split()]
    assert [each.output for each in Trajectory(made).tool_calls] == outputs


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"content": [{"type": "text", "text": "a"}], "isError": False}, "a"),  # of MCP
        ({"content": "a"}, "a"),
        ({"content": {"content": "a"}}, ""),
        ({"text": "a"}, ""),
        ({}, ""),
    ],
)
def test_an_output_may_be_a_tools_whole_result(value: Any, expected: str) -> None:
    (only,) = Trajectory([call(), output(value=value)]).tool_calls
    assert only.output == expected


@pytest.mark.parametrize(
    ("more", "is_error"),
    [
        ({}, False),
        ({"status": "completed"}, False),
        ({"status": "success"}, False),
        ({"status": None}, False),
        ({"status": ["failed"]}, False),
        ({"isError": False}, False),
        ({"isError": "yes"}, False),
        ({"output": {"isError": None}}, False),
        ({"output": '{"isError": false}'}, False),
        ({"output": '"isError": true'}, False),
        ({"output": '["isError", true]'}, False),
        ({"output": '{"about": {"isError": true}}'}, False),
        ({"output": [{"isError": True}]}, False),
        ({"status": "incomplete"}, True),
        ({"status": "in_progress"}, True),
        ({"status": "failed"}, True),
        ({"isError": True}, True),
        ({"is_error": True}, True),
        ({"output": {"isError": True}}, True),
        ({"output": {"is_error": True}}, True),
        ({"output": '{"content": [], "isError": true}'}, True),
        ({"output": '{"isError": true, "text": "\\ud83d"}'}, False),  # no JSON
    ],
)
def test_an_output_says_that_the_tool_failed(more: dict[str, Any], is_error: bool) -> None:
    (only,) = Trajectory([call(), {**output(), **more}]).tool_calls
    assert only.is_error is is_error


def test_a_call_without_an_output_has_not_failed() -> None:
    (only,) = Trajectory([{**call(), "status": "incomplete"}]).tool_calls
    assert not only.is_error


@pytest.mark.parametrize("call_id", [None, 7, 1.5, True, [], ["c1"], {"id": "c1"}])
def test_a_call_id_that_is_no_string_pairs_with_nothing(call_id: Any) -> None:
    (only,) = Trajectory([call(call_id), output(call_id), output("c1")]).tool_calls
    assert only.call_id == call_id
    assert only.output is None


def test_a_call_that_lacks_everything_is_a_call() -> None:
    (only,) = Trajectory([{"type": "function_call"}]).tool_calls
    assert only == TrajectoryCall("", None, None, None)
    assert (only.name, only.arguments) == ("", {})


@pytest.mark.parametrize("name", [None, 7, ["get_weather"], {}, nested(10_000)], ids=type)
def test_a_name_that_is_no_string_is_no_name(name: Any) -> None:
    (only,) = Trajectory([call(name=name)]).tool_calls
    assert (only.emitted_name, only.name) == ("", "")


@pytest.mark.parametrize(
    ("emitted", "name"),
    [
        ("get_weather", "get_weather"),
        ("mcp__weather__get_weather", "get_weather"),
        ("mcp__my-weather__get__weather", "get__weather"),
        ("mcp__a__b__c", "b__c"),
        ("mcp__a_b__c", "c"),
        ("mcp____x", "mcp____x"),
        ("mcp__a__", "mcp__a__"),
        ("mcp__a", "mcp__a"),
        ("mcp__", "mcp__"),
        ("mcp", "mcp"),
        ("mcp_a__b", "mcp_a__b"),
        ("MCP__a__b", "MCP__a__b"),
        ("other__a__b", "other__a__b"),
        ("", ""),
    ],
)
def test_a_name_is_also_known_without_its_server(emitted: str, name: str) -> None:
    (only,) = Trajectory([call(name=emitted)]).tool_calls
    assert (only.emitted_name, only.name) == (emitted, name)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"city": "Zürich", "n": 1}', {"city": "Zürich", "n": 1}),
        (' {"a": {"b": [1, null]}} ', {"a": {"b": [1, None]}}),
        ({"city": "Zürich"}, {"city": "Zürich"}),
        (None, {}),
        ("", {}),
        ("not JSON", {}),
        ('{"cut": "of', {}),
        ("[1]", {}),
        ([1], {}),
        ("7", {}),
        (7, {}),
        ('"text"', {}),
        ("null", {}),
        ("\ud83d", {}),
        ('{"a": "\ud83d"}', {}),
        ("[" * 10_000 + "]" * 10_000, {}),
        ('{"a":' * 10_000 + "1" + "}" * 10_000, {}),
        (nested(10_000), {}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_arguments_are_an_object_or_empty(arguments: Any, expected: dict[str, Any]) -> None:
    (only,) = Trajectory([call(arguments=arguments)]).tool_calls
    assert only.arguments == expected
    assert only.raw_arguments is arguments


@pytest.mark.parametrize(
    ("arguments", "well_formed"),
    [
        ("{}", True),
        ({}, True),
        ('{"a": 1}', True),
        (None, True),  # a tool without parameters
        ("", True),
        (" ", False),
        ("null", False),
        ("not JSON", False),
        ("[]", False),
        ([], False),
        (0, False),
        (False, False),
    ],
)
def test_arguments_are_well_formed_as_an_object_or_left_out(
    arguments: Any, well_formed: bool
) -> None:
    (only,) = Trajectory([call(arguments=arguments)]).tool_calls
    assert only.is_well_formed is well_formed


# -- anything at all -------------------------------------------------------------------------------

KEYS = st.sampled_from(
    ["type", "role", "content", "text", "output", "call_id", "name", "arguments", "refusal"]
)
WORDS = st.sampled_from(
    [
        "message",
        "assistant",
        "function_call",
        "function_call_output",
        "output_text",
        "c1",
        "mcp__a__b",
    ]
)
ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=6)  # surrogates, too
ITEMS = st.dictionaries(KEYS | ANY_TEXT, VALUES | WORDS | ANY_TEXT, max_size=6)
LOOKALIKES = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["message", "function_call", "function_call_output"]),
        "role": st.just("assistant"),
    },
    optional={
        key: VALUES | WORDS | ANY_TEXT | st.lists(ITEMS, max_size=3)
        for key in ("content", "call_id", "name", "arguments", "output")
    },
)


def read_all(trajectory: Trajectory) -> None:
    """Read everything that a verifier can."""
    assert isinstance(trajectory.assistant_text, str)
    assert isinstance(trajectory.final_text, str)
    assert all(isinstance(item, dict) for item in trajectory.items)
    for each in trajectory.tool_calls:
        assert isinstance(each.emitted_name, str)
        assert isinstance(each.name, str)
        assert each.emitted_name.endswith(each.name)
        assert isinstance(each.arguments, dict)
        assert each.output is None or isinstance(each.output, str)
        assert isinstance(each.is_error, bool)
        assert isinstance(each.is_well_formed, bool)


@settings(deadline=None)
@given(VALUES | st.lists(ITEMS | LOOKALIKES | VALUES, max_size=6))
def test_reading_never_raises(output: Any) -> None:
    read_all(Trajectory(output))
    read_all(Trajectory({"output": output}))


@settings(deadline=None)
@given(st.text(max_size=40) | VALUES.map(json.dumps))
def test_reading_arguments_never_raises(arguments: str) -> None:
    (only,) = Trajectory([call(arguments=arguments)]).tool_calls
    assert isinstance(only.arguments, dict)
    try:
        parsed = json.loads(arguments)
    except ValueError:
        return
    if isinstance(parsed, dict):
        assert only.arguments == parsed
