"""A task's verifier_metadata: what is read, and what is refused, with the path of the field."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from gym_env_external_verifier.patterns import MATCHERS
from gym_env_external_verifier.requirements import (
    MOST,
    ForbiddenCall,
    RequiredCall,
    RequiredText,
    Requirements,
    read_requirements,
)
from gym_env_external_verifier.scoring import MOST_CALLS, score

from gymhost import Task, Trajectory
from gymhost.errors import InvalidField


def test_what_is_left_out_has_its_default() -> None:
    required = read_requirements({"calls": [{"name": "get_weather"}]})
    (call,) = required.calls
    assert (call.arguments, call.output, call.at_least, call.at_most) == ({}, None, 1, None)
    assert (required.ordered, required.forbidden, required.answer) == (False, [], None)
    assert (required.weights, required.partial_credit) == ({}, True)


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ({"calls": ["a"]}, {"calls": [{"name": "a"}]}),
        ({"answer": "x"}, {"answer": {"all_of": ["x"]}}),
        ({"answer": ["x", "y"]}, {"answer": {"all_of": ["x", "y"], "ignore_case": False}}),
        (
            {"calls": [{"name": "a", "output": "x"}], "forbidden": ["b"]},
            {
                "calls": [{"name": "a", "output": {"all_of": ["x"]}, "at_least": 1}],
                "forbidden": [{"name": "b", "at_most": 0}],
                "answer": None,
            },
        ),
    ],
)
def test_a_short_form_means_the_long_one(short: dict[str, Any], long: dict[str, Any]) -> None:
    assert read_requirements(short) == read_requirements(long)


@pytest.mark.parametrize(
    ("metadata", "components"),
    [
        ({"answer": "x"}, ["answer"]),
        ({"calls": ["a", "b"]}, ["calls.0", "calls.1"]),
        ({"calls": ["a", "b"], "ordered": True}, ["calls.0", "calls.1", "order"]),
        ({"calls": [{"name": "a", "at_least": 2}], "ordered": True}, ["calls.0", "order"]),
        ({"calls": ["a"], "ordered": True}, ["calls.0"]),  # nothing to order
        ({"answer": "x", "ordered": True}, ["answer"]),
        (
            {"calls": ["a"], "forbidden": ["b", "c"], "answer": "x"},
            ["calls.0", "forbidden", "answer"],
        ),
    ],
)
def test_each_part_is_a_component(metadata: dict[str, Any], components: list[str]) -> None:
    assert list(read_requirements(metadata).components) == components


NOTHING = "verifier_metadata: give calls or an answer: with neither, doing nothing would be enough"
DEEP: dict[str, Any] = {}
for _ in range(5_000):
    DEEP = {"a": DEEP}


@pytest.mark.parametrize(
    ("metadata", "told"),
    [
        ({}, NOTHING),
        ({"calls": [], "answer": None}, NOTHING),
        ({"forbidden": ["a"]}, NOTHING),
        ({"calls": "a"}, "verifier_metadata.calls: Input should be a valid list"),
        ({"calls": None}, "verifier_metadata.calls: Input should be a valid list"),
        ({"calls": [{}]}, "verifier_metadata.calls.0.name: Field required"),
        (
            {"calls": ["a", 7]},
            "verifier_metadata.calls.1: a tool's name, or an object with its name, is needed",
        ),
        (
            {"calls": [{"name": ""}]},
            "verifier_metadata.calls.0.name: String should have at least 1 character",
        ),
        (
            {"calls": [{"name": 7}]},
            "verifier_metadata.calls.0.name: Input should be a valid string",
        ),
        (
            {"calls": [{"name": "a" * 257}]},
            "verifier_metadata.calls.0.name: String should have at most 256 characters",
        ),
        (
            {"calls": [{"name": "a", "argument": {}}]},
            "verifier_metadata.calls.0.argument: unknown",
        ),
        (
            {"calls": [{"name": "a", "arguments": []}]},
            "verifier_metadata.calls.0.arguments: Input should be a valid dictionary",
        ),
        (
            {"calls": [{"name": "a", "arguments": {"$contains": "x"}}]},
            "verifier_metadata.calls.0.arguments.$contains: "
            "a matcher stands for one argument: name it first",
        ),
        (
            {"calls": [{"name": "a", "arguments": {"x": {"y": [{"$any_of": "z"}]}}}]},
            "verifier_metadata.calls.0.arguments.x.y.0.$any_of: a list is needed",
        ),
        (
            {"calls": [{"name": "a", "arguments": {"x": DEEP}}]},
            "verifier_metadata.calls.0.arguments.x.a.a.a: nested deeper than 32",
        ),
        (
            {"forbidden": [{"name": "a", "arguments": {"{x}": {"$any_of": []}}}], "answer": "x"},
            "verifier_metadata.forbidden.0.arguments.{x}.$any_of: empty",
        ),
        (
            {"calls": [{"name": "a", "at_least": 2, "at_most": 1}]},
            "verifier_metadata.calls.0.at_most: less than at_least, which is 2",
        ),
        (
            {"calls": [{"name": "a", "at_least": 0}]},
            "verifier_metadata.calls.0.at_least: Input should be greater than or equal to 1",
        ),
        *(
            (
                {"calls": [{"name": "a", "at_least": value}]},
                "verifier_metadata.calls.0.at_least: Input should be a valid integer",
            )
            for value in (True, "2", 2.0, None)
        ),
        (
            {"calls": [{"name": "a", "at_least": 150}, {"name": "b", "at_least": 51}]},
            "verifier_metadata.calls: 201 calls are required, more than 200",
        ),
        (
            {"calls": ["a"] * 201},
            "verifier_metadata.calls: List should have at most 200 items after validation, not 201",
        ),
        (
            {"calls": ["mcp__s__a"], "forbidden": ["b", "a"]},
            "verifier_metadata.forbidden.1: a is required, too",
        ),
        ({"ordered": "yes", "answer": "x"}, "verifier_metadata.ordered: Input should be a valid b"),
        ({"partial_credit": 1, "answer": "x"}, "verifier_metadata.partial_credit: Input should be"),
        (
            {"answer": 13},
            "verifier_metadata.answer: "
            "a text, a list of texts or an object with all_of or any_of is needed",
        ),
        (
            {"answer": ["a", ""]},
            "verifier_metadata.answer.all_of.1: String should have at least 1 character",
        ),
        ({"answer": [7]}, "verifier_metadata.answer.all_of.0: Input should be a valid string"),
        ({"answer": []}, "verifier_metadata.answer: give all_of or any_of, with a text in it"),
        ({"answer": {}}, "verifier_metadata.answer: give all_of or any_of, with a text in it"),
        ({"answer": {"any_of": []}}, "verifier_metadata.answer.any_of: List should have at least"),
        ({"answer": {"$contains": "a"}}, "verifier_metadata.answer.$contains: unknown"),
        (
            {"calls": [{"name": "a", "output": {"all_of": "x"}}]},
            "verifier_metadata.calls.0.output.all_of: Input should be a valid list",
        ),
        (
            {"calls": ["a"], "weights": {"calls.1": 2}},
            "verifier_metadata.weights.calls.1: no component of this task: it has calls.0",
        ),
        *(
            ({"answer": "x", "weights": {"answer": value}}, "verifier_metadata.weights.answer: In")
            for value in (0, -1, 1001, True, "2", None, float("nan"), float("inf"))
        ),
        ({"é" * 500: 1, "answer": "x"}, f"verifier_metadata.{'é' * 80}: unknown"),
        (DEEP, "verifier_metadata.a: unknown"),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, str) else "",
)
def test_what_is_wrong_is_told_with_the_path_of_its_field(
    metadata: dict[str, Any], told: str
) -> None:
    with pytest.raises(InvalidField) as caught:
        read_requirements(metadata)
    assert str(caught.value).startswith(told)
    assert "\n" not in str(caught.value)
    assert "http" not in str(caught.value)


def test_several_faults_are_told_at_once_and_many_are_counted() -> None:
    with pytest.raises(InvalidField) as caught:
        read_requirements({"calls": [{}] * 3, "answer": 7, "ordered": 1, "x": 1, "y": 2})
    parts = str(caught.value).split("; ")
    assert parts[0] == "verifier_metadata.calls.0.name: Field required"
    assert parts[-1] == "and 2 more"
    assert len(parts) == 6


def test_a_tool_that_is_required_may_be_limited_and_forbidden_elsewhere() -> None:
    read_requirements({"calls": ["a"], "forbidden": [{"name": "a", "at_most": 3}]})
    read_requirements({"calls": ["a"], "forbidden": [{"name": "a", "arguments": {"x": 1}}]})
    read_requirements({"calls": ["mcp__one__a"], "forbidden": ["mcp__two__a"]})


README = Path(__file__).parents[1] / "README.md"


def test_the_readme_names_every_key_matcher_and_limit() -> None:
    text = README.read_text("utf-8")
    keys = {
        *Requirements.model_fields,
        *RequiredCall.model_fields,
        *ForbiddenCall.model_fields,
        *RequiredText.model_fields,
    }
    for name in keys:
        assert f"`{name}`" in text or f'"{name}"' in text
    for name in (*MATCHERS, "$ignore_case"):
        assert f'"{name}"' in text
    assert f"at most {MOST} calls" in text
    assert f"more than {MOST_CALLS:,} calls" in text


def test_the_readmes_task_is_one() -> None:
    (source,) = re.findall(r"```json\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    task = Task.from_row(json.loads(source))
    assert read_requirements(task.verifier_metadata).components == ("calls.0", "answer")


def test_the_readmes_curl_answers_what_it_says() -> None:
    text = README.read_text("utf-8")
    (source,) = re.findall(r"-d '(.*?)'\n```", text, re.DOTALL)
    body = json.loads(source.replace("'\"'\"'", "'"))
    (answer,) = re.findall(r'^    (\{"reward":.*\})$', text, re.MULTILINE)
    result = score(read_requirements(body["verifier_metadata"]), Trajectory(body["response"]))
    assert json.loads(answer) == result.model_dump()
