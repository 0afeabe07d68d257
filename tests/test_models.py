"""Tasks, references, tool calls and verdicts: what they take, keep and refuse."""

import math
import numbers
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pydantic_core
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gymhost import Reference, Task, ToolCall, ToolOutcome, VerifyResult
from gymhost.errors import InvalidField
from gymhost.models import RESERVED_RESULT_KEYS, ReferenceCall, json_type
from tests.json_values import OBJECTS, TEXT, VALUES, equal

# -- tasks -----------------------------------------------------------------------------------------


def test_a_row_is_a_task_and_keeps_every_key_it_does_not_know() -> None:
    row = {
        "responses_create_params": {"input": [{"role": "user", "content": "Zürich?"}]},
        "verifier_metadata": {"city": "Zürich"},
        "reference": {"answer": "fine"},
        "ng_id": 7,
    }
    task = Task.from_row(row)
    assert task.responses_create_params == row["responses_create_params"]
    assert task.verifier_metadata == {"city": "Zürich"}
    assert task.extra == {"reference": {"answer": "fine"}, "ng_id": 7}
    assert task.to_row() == row


@pytest.mark.parametrize(
    "row",
    [{}, {"responses_create_params": None, "verifier_metadata": None}],
    ids=["absent", "null"],
)
def test_what_is_absent_or_null_is_empty(row: dict[str, Any]) -> None:
    assert Task.from_row(row) == Task()


@pytest.mark.parametrize("key", ["responses_create_params", "verifier_metadata"])
@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ([], "an array"),
        ("{}", "a string"),
        (0, "a number"),
        (1.5, "a number"),
        (False, "a boolean"),
        ("", "a string"),
    ],
)
def test_a_named_key_that_is_no_object_is_refused(key: str, value: Any, kind: str) -> None:
    with pytest.raises(InvalidField, match=f"'{key}' must be an object, not {kind}"):
        Task.from_row({key: value})


@pytest.mark.parametrize(("value", "kind"), [(None, "null"), ({}, "an object")])
def test_every_json_type_has_a_name(value: Any, kind: str) -> None:
    assert json_type(value) == kind


@settings(deadline=None)
@given(OBJECTS, OBJECTS, OBJECTS)
def test_a_task_goes_through_json_and_back(
    params: dict[str, Any], metadata: dict[str, Any], extra: dict[str, Any]
) -> None:
    row = {**extra, "responses_create_params": params, "verifier_metadata": metadata}
    back = Task.from_row(pydantic_core.from_json(pydantic_core.to_json(row))).to_row()
    assert equal(back, row)


# -- references ------------------------------------------------------------------------------------


def test_a_task_says_how_it_is_solved() -> None:
    reference = {"calls": [{"name": "get_weather", "arguments": {"city": "Zürich"}}], "answer": "a"}
    read = Task(extra={"reference": reference}).reference
    assert read == Reference(
        calls=[ReferenceCall(name="get_weather", arguments={"city": "Zürich"})], answer="a"
    )
    assert read.reward == 1.0
    assert read.trajectory is None


@pytest.mark.parametrize("extra", [{}, {"reference": None}])
def test_a_task_without_a_reference_has_none(extra: dict[str, Any]) -> None:
    assert Task(extra=extra).reference is None


@pytest.mark.parametrize(
    "reference",
    [
        [],
        "fine",
        {"answers": "a"},
        {"calls": [{"arguments": {}}]},
        {"calls": [{"name": "a", "args": {}}]},
        {"trajectory": ["text"]},
        {"reward": math.nan},
        {"reward": None},
    ],
    ids=str,
)
def test_a_reference_that_is_none_is_refused(reference: Any) -> None:
    with pytest.raises(ValidationError):
        _ = Task(extra={"reference": reference}).reference


# -- calls and outcomes ----------------------------------------------------------------------------

OUTCOMES = st.builds(
    ToolOutcome,
    content=st.lists(OBJECTS, max_size=3),
    structured_content=st.none() | OBJECTS,
    is_error=st.booleans(),
    kind=TEXT,
)
SECONDS = st.floats(allow_nan=False, allow_infinity=False)


@settings(deadline=None)
@given(
    st.builds(
        ToolCall,
        id=TEXT,
        name=TEXT,
        arguments=OBJECTS,
        started_at=SECONDS,
        duration=SECONDS,
        outcome=st.none() | OUTCOMES,
    )
)
def test_a_call_is_loaded_as_it_was_dumped(call: ToolCall) -> None:
    dumped = call.dump()
    loaded = ToolCall.load(dumped)
    assert loaded == call
    assert loaded.dump() == dumped


def test_a_dumped_call_is_utf8() -> None:
    call = ToolCall("c", "größe", {"ü": "🏔"}, 0.0, 0.0, ToolOutcome.ok("Zürich"))
    assert "größe" in call.dump().decode()
    assert "🏔" in call.dump().decode()


@pytest.mark.parametrize(
    ("outcome", "ok", "result", "error"),
    [
        (None, False, None, None),
        (ToolOutcome.ok("fine"), True, "fine", None),
        (ToolOutcome.ok(""), True, "", None),
        (ToolOutcome.error("no"), False, None, "no"),
        (ToolOutcome.error("slow", "timeout"), False, None, "slow"),
        (
            ToolOutcome(
                [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]
            ),
            True,
            "a\nb",
            None,
        ),
    ],
)
def test_a_call_has_a_result_or_an_error(
    outcome: ToolOutcome | None, ok: bool, result: str | None, error: str | None
) -> None:
    call = ToolCall("c", "look", {}, 0.0, outcome=outcome)
    assert (call.ok, call.result, call.error) == (ok, result, error)


def test_a_failure_in_text_that_is_no_utf8_can_still_be_recorded() -> None:
    outcome = ToolOutcome.error("no file \udcfc.txt, Zürich 🏔")
    assert outcome.text == "no file ?.txt, Zürich 🏔"
    assert ToolCall.load(ToolCall("c", "read", {}, 0.0, outcome=outcome).dump()).outcome == outcome


# -- verdicts --------------------------------------------------------------------------------------


class Scalar32:
    """A number as numpy has them: registered as a Real, and no float."""

    def __init__(self, value: float) -> None:
        self._value = value

    def __repr__(self) -> str:  # for the test's id, which is the same in every process
        return f"Scalar32({self._value})"

    def __float__(self) -> float:
        return self._value


numbers.Real.register(Scalar32)


@pytest.mark.parametrize(
    ("value", "reward"),
    [
        (1.0, 1.0),
        (-0.5, -0.5),
        (1, 1.0),
        (True, 1.0),
        (False, 0.0),
        (Fraction(1, 4), 0.25),
        (Scalar32(0.5), 0.5),
    ],
    ids=str,
)
def test_a_reward_is_a_float(value: Any, reward: float) -> None:
    result = VerifyResult(reward=value, reward_components={"part": value})
    assert (result.reward, type(result.reward)) == (reward, float)
    assert result.reward_components == {"part": reward}


NO_REWARDS: list[Any] = [
    None,
    math.nan,
    math.inf,
    -math.inf,
    Scalar32(math.nan),
    "1.0",
    "",
    b"1",
    [1.0],
    {},
    1j,
    Decimal(1),
]


@pytest.mark.parametrize("value", NO_REWARDS, ids=repr)
@pytest.mark.parametrize(
    "make",
    [
        lambda value: VerifyResult(reward=value),
        lambda value: VerifyResult(reward=1, reward_components={"part": value}),
        lambda value: setattr(VerifyResult(reward=1), "reward", value),
        lambda value: setattr(VerifyResult(reward=1), "reward_components", {"part": value}),
    ],
    ids=["reward", "component", "assigned", "assigned component"],
)
def test_what_is_no_finite_number_is_no_reward(make: Callable[[Any], Any], value: Any) -> None:
    with pytest.raises(ValidationError):
        make(value)


def test_a_verdict_without_a_reward_is_refused() -> None:
    with pytest.raises(ValidationError):
        VerifyResult()  # type: ignore[call-arg]


def test_other_names_are_kept() -> None:
    result = VerifyResult(reward=1, expected_city="Zürich", details={"asked": True})
    assert result.model_dump() == {
        "reward": 1.0,
        "reward_components": {},
        "expected_city": "Zürich",
        "details": {"asked": True},
    }


@pytest.mark.parametrize("key", sorted({*RESERVED_RESULT_KEYS, "_ng_anything"}))
def test_a_reserved_name_is_refused_however_it_is_given(key: str) -> None:
    with pytest.raises(ValidationError, match=f"reserved names can't be extras: {key}"):
        VerifyResult(reward=1, **{key: 1})
    if key.startswith("_"):
        return  # to pydantic, an attribute of the object alone
    with pytest.raises(ValidationError, match=f"reserved names can't be extras: {key}"):
        setattr(VerifyResult(reward=1), key, 1)

    class Own(VerifyResult):
        __annotations__ = {key: int}

    with pytest.raises(ValidationError, match=f"reserved names can't be extras: {key}"):
        Own(reward=1, **{key: 1})


def test_the_reserved_names_are_those_of_the_wire() -> None:
    assert {
        "failure_kind",
        "mask_sample",
        "response",
        "responses_create_params",
        "session_id",
        "unmasked_reward",
        "verifier_metadata",
    } == RESERVED_RESULT_KEYS


@settings(deadline=None)
@given(st.dictionaries(TEXT.filter(str.isidentifier), VALUES, max_size=4))
def test_extras_are_kept_as_they_are(extras: dict[str, Any]) -> None:
    extras = {
        key: value
        for key, value in extras.items()
        if not key.startswith("_") and key not in {"reward", *RESERVED_RESULT_KEYS}
    }
    assert VerifyResult(reward=0, **extras).model_extra == extras
