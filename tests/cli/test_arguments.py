"""A tool's arguments, made of words by its input schema."""

from __future__ import annotations

from typing import Any

import pytest
import typer

from gymhost.cli.arguments import tool_arguments
from gymhost.host import Host
from gymhost.models import JSONObject
from tests.cli.worlds.toolbox import Toolbox

TAKES = (
    "It takes: text (string), n (integer), ratio (number), flag (boolean), words (array), "
    'size ("S"|"L"), level (1|2), point (object|null), either (integer|string), '
    "anything (anything), letters (string)."
)


@pytest.fixture(scope="module")
def schemas() -> dict[str, JSONObject]:
    host = Host({"toolbox": Toolbox}, discover=False)
    tools = host.mounts["toolbox"].tool_definitions()
    return {tool["name"]: tool["inputSchema"] for tool in tools}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("text=Paris", "Paris"),
        ("text=", ""),
        ("text=3", "3"),
        ("text=null", "null"),
        ('text={"a": 1}', '{"a": 1}'),
        ("text=a=b", "a=b"),
        ("n=3", 3),
        ("n=-12345678901234567890", -12345678901234567890),
        ("ratio=0.5", 0.5),
        ("ratio=1", 1),
        ("flag=true", True),
        ('words=["a", "b"]', ["a", "b"]),
        ("words=[]", []),
        ("size=L", "L"),
        ("level=2", 2),
        ('point={"x": 1}', {"x": 1}),
        ("point=null", None),
        ("either=7", "7"),
        ("anything=7", "7"),
        ("letters=é", "é"),
    ],
)
def test_what_the_schema_takes_as_text_is_text_and_all_else_is_json(
    schemas: dict[str, JSONObject], word: str, value: Any
) -> None:
    made = tool_arguments("take", schemas["take"], [word])
    assert made == {word.partition("=")[0]: value}
    assert [type(each) for each in made.values()] == [type(value)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["n=three"], "n: 'three' is not of type 'integer'. " + TAKES),
        (["n=3.5"], "n: 3.5 is not of type 'integer'. " + TAKES),
        (["n="], "n: '' is not of type 'integer'. " + TAKES),
        (["n=NaN"], "n: 'NaN' is not of type 'integer'. " + TAKES),
        (["ratio=1e999"], "ratio: '1e999' is not of type 'number'. " + TAKES),
        (["flag=yes"], "flag: 'yes' is not of type 'boolean'. " + TAKES),
        (["words=a"], "words: 'a' is not of type 'array'. " + TAKES),
        (["words=[1]"], "words.0: 1 is not of type 'string'. " + TAKES),
        (["size=XL"], "size: 'XL' is not one of ['S', 'L']. " + TAKES),
        (["level=3"], "level: 3 is not one of [1, 2]. " + TAKES),
        (["point=[]"], "point: [] is not valid under any of the given schemas. " + TAKES),
        (["city=Paris"], "take takes no 'city'. " + TAKES),
        (["=Paris"], "take takes no ''. " + TAKES),
        (["Paris"], "'Paris' is not NAME=VALUE"),
        (["n=1", "n=2"], "'n' is given twice"),
    ],
)
def test_a_wrong_word_is_refused_with_what_the_tool_takes(
    schemas: dict[str, JSONObject], words: list[str], said: str
) -> None:
    with pytest.raises(typer.BadParameter) as caught:
        tool_arguments("take", schemas["take"], words)
    assert caught.value.message == said


@pytest.mark.parametrize(
    ("tool", "words", "said"),
    [
        ("say", [], "'text' is a required property. It takes: text (string, required)."),
        ("crash", ["x=1"], "crash takes no 'x'. It takes: nothing."),
    ],
)
def test_what_a_tool_takes_is_named(
    schemas: dict[str, JSONObject], tool: str, words: list[str], said: str
) -> None:
    with pytest.raises(typer.BadParameter) as caught:
        tool_arguments(tool, schemas[tool], words)
    assert caught.value.message == said


def test_a_huge_word_is_not_all_repeated(schemas: dict[str, JSONObject]) -> None:
    with pytest.raises(typer.BadParameter) as caught:
        tool_arguments("take", schemas["take"], ["n=" + "x" * 100_000])
    assert len(caught.value.message) < 1000
    assert caught.value.message.endswith(TAKES)


def test_a_schema_of_another_hand_is_followed() -> None:
    schema: JSONObject = {
        "type": "object",
        "properties": {
            "kind": {"$ref": "#/$defs/Kind"},
            "one": {"const": 1},
            "far": {"$ref": "http://127.0.0.1:9/far.json"},
        },
        "$defs": {"Kind": {"enum": ["a", 2]}},
        "additionalProperties": True,
    }
    words = ["kind=2", "one=1", "more=x", "far=1"]  # far: not fetched
    made = {"kind": 2, "one": 1, "more": "x", "far": "1"}
    assert tool_arguments("any", schema, words) == made
    with pytest.raises(typer.BadParameter) as caught:
        tool_arguments("any", schema, ["kind=b"])
    assert 'It takes: kind ("a"|2), one (1), far (anything).' in caught.value.message


@pytest.mark.parametrize(
    "city",
    [
        {"type": "string", "pattern": "^b$"},
        {"$schema": "https://json-schema.org/draft/2020-12/schema", "pattern": "^b$"},
        {"type": "object", "patternProperties": {"a": False}},
        {"type": "object", "patternProperties": {"b": {}}, "additionalProperties": False},
        {"type": "object", "unevaluatedProperties": False},
    ],
)
def test_patterns_are_left_to_the_server(city: JSONObject) -> None:
    word = "a" if "type" not in city or city["type"] == "string" else '{"a": 1}'
    made = tool_arguments("any", {"properties": {"city": city}}, [f"city={word}"])
    assert made == {"city": "a" if word == "a" else {"a": 1}}


def test_what_else_an_object_takes_is_still_checked() -> None:
    schema: JSONObject = {"properties": {"city": {"type": "object", "additionalProperties": False}}}
    with pytest.raises(typer.BadParameter, match="Additional properties are not allowed"):
        tool_arguments("any", schema, ['city={"a": 1}'])
