"""How a tool's value answers: as text, as structured content, or as a failure."""

import math
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel
from typing_extensions import TypedDict

from gymhost import ToolOutcome
from gymhost.tools import to_outcome
from tests.json_values import NoJSON


class Report(BaseModel):
    city: str
    day: date


class Sky(TypedDict):
    clouds: int


@dataclass
class Wind:
    knots: float


@pytest.mark.parametrize(
    ("value", "text", "structured"),
    [
        ("Zürich\n", "Zürich\n", None),
        ('{"a": 1}', '{"a": 1}', None),
        (7, "7", None),
        (True, "true", None),
        (0.5, "0.5", None),
        (None, "null", None),
        ([1, "ü"], '[1, "ü"]', None),
        ((1, 2), "[1, 2]", None),
        ([], "[]", None),
        ({"a": {"ü": [1]}}, '{"a": {"ü": [1]}}', {"a": {"ü": [1]}}),
        ({}, "{}", {}),
        ({1: "a"}, '{"1": "a"}', {"1": "a"}),
        (
            Report(city="Bern", day=date(2026, 1, 31)),
            '{"city": "Bern", "day": "2026-01-31"}',
            {"city": "Bern", "day": "2026-01-31"},
        ),
        (Sky(clouds=8), '{"clouds": 8}', {"clouds": 8}),
        (Wind(7.5), '{"knots": 7.5}', {"knots": 7.5}),
        ([Wind(7.5)], '[{"knots": 7.5}]', None),
        (date(2026, 1, 31), '"2026-01-31"', None),
        (UUID(int=7), '"00000000-0000-0000-0000-000000000007"', None),
        (b"abc", '"abc"', None),
        ({"a"}, '["a"]', None),
    ],
    ids=repr,
)
def test_a_result_is_text_and_structured_where_it_is_an_object(
    value: Any, text: str, structured: Any
) -> None:
    outcome = to_outcome(value)
    assert outcome.content == [{"type": "text", "text": text}]
    assert outcome.structured_content == structured
    assert (outcome.is_error, outcome.kind) == (False, "ok")


def test_an_outcome_is_passed_on_as_it_is() -> None:
    image = {"type": "image", "data": "aGk=", "mimeType": "image/png"}
    outcome = ToolOutcome([image], {"a": 1}, is_error=True, kind="tool_error")
    assert to_outcome(outcome) is outcome


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        -math.inf,
        [1.0, [math.inf]],
        {"a": {"b": math.nan}},
        Wind(math.inf),
        "\ud83d",
        ["\ud83d"],
        {"\ud83d": 1},
        b"\xff",
        NoJSON(),
        ToolOutcome.ok("\ud83d"),
        ToolOutcome([], {"a": math.nan}),
        ToolOutcome([NoJSON()]),  # type: ignore[list-item]
    ],
    ids=repr,
)
def test_a_value_that_is_not_finite_json_is_a_failure(value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        to_outcome(value)


def test_a_model_with_a_nan_is_a_failure() -> None:
    class Reading(BaseModel):
        value: float | None

    assert to_outcome(Reading(value=None)).structured_content == {"value": None}
    with pytest.raises(ValueError, match="Out of range float"):
        to_outcome(Reading(value=math.nan))


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("x" * 10, 10),
        ("é" * 5, 10),  # bytes, not characters
        (["x" * 6], 10),
        ({"a": "x" * 4}, 13),  # its text has a space more than what is structured
        (ToolOutcome.ok("x" * 10), 10),
        (ToolOutcome([{"type": "text", "text": "x"}], structured_content={"a": "xx"}), 10),
        (ToolOutcome([{"type": "text", "text": "x"}, {"type": "y"}]), 13),
    ],
)
def test_the_size_of_a_result_is_what_the_agent_reads_in_bytes(value: Any, size: int) -> None:
    assert to_outcome(value).size == size


def test_a_number_of_too_many_digits_is_a_limit_and_not_a_crash() -> None:
    outcome = to_outcome({"n": 10**5000})
    assert (outcome.is_error, outcome.kind) == (True, "limit")
