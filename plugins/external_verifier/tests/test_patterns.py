"""What an argument must be: equal JSON, or a matcher."""

import json
from typing import Any

import pytest
from gym_env_external_verifier.patterns import check_pattern, matches
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

# few letters, so that keys and values meet
KEYS = st.text("ab$", max_size=2) | st.sampled_from(["$equals", "$contains", "$any_of"])
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("aA$é", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("pattern", "value", "expected"),
    [
        # JSON equals itself; numbers are numbers, and nothing else is one
        ("Paris", "Paris", True),
        ("Paris", "paris", False),
        ("Paris", "Paris ", False),
        ("é", "e\u0301", False),
        ("", "", True),
        (1, 1.0, True),
        (1.0, 1, True),
        (10**30, 1e30, False),  # which is another number
        (0.1, 0.1, True),
        (1, True, False),
        (True, 1, False),
        (0, False, False),
        (True, True, True),
        (False, True, False),
        (1, "1", False),
        ("1", 1, False),
        (None, None, True),
        (None, 0, False),
        (None, "", False),
        (0, None, False),
        (1, float("nan"), False),
        (1, float("inf"), False),
        # objects may have more, lists not
        ({}, {}, True),
        ({}, {"a": 1}, True),
        ({}, [], False),
        ({"a": 1}, {"a": 1, "b": 2}, True),
        ({"a": 1, "b": 2}, {"a": 1}, False),
        ({"a": None}, {}, False),
        ({"a": {"b": [1]}}, {"a": {"b": [1.0], "c": 2}}, True),
        ({"a": {"b": [1]}}, {"a": {"b": [True]}}, False),
        ([], [], True),
        ([1, 2], [1, 2], True),
        ([1, 2], [2, 1], False),
        ([1], [1, 2], False),
        ([{"a": 1}], [{"a": 1, "b": 2}], True),
        ([], "", False),
        ([1], {"0": 1}, False),
        # $equals: just this, with no more keys, and `$` means nothing in it
        ({"$equals": {"a": 1}}, {"a": 1.0}, True),
        ({"$equals": {"a": 1}}, {"a": 1, "b": 2}, False),
        ({"$equals": {"a": {"b": 1}}}, {"a": {"b": 1, "c": 2}}, False),
        ({"$equals": [{"a": 1}]}, [{"a": 1, "b": 2}], False),
        ({"$equals": [1]}, [1, 2], False),
        ({"$equals": [1]}, "1", False),
        ({"$equals": {}}, [], False),
        ({"$equals": {"$contains": "a"}}, {"$contains": "a"}, True),
        ({"$equals": {"$contains": "a"}}, "cat", False),
        ({"$equals": "Paris", "$ignore_case": True}, "PARIS", True),
        ({"$equals": "Paris", "$ignore_case": False}, "PARIS", False),
        ({"$equals": "STRASSE", "$ignore_case": True}, "straße", True),
        ({"$equals": {"a": ["X"]}, "$ignore_case": True}, {"a": ["x"]}, True),
        ({"$equals": {"a": 1}, "$ignore_case": True}, {"A": 1}, False),  # keys are exact
        # $contains: a part of a text, or an item of a list
        ({"$contains": "is"}, "Paris", True),
        ({"$contains": "IS"}, "Paris", False),
        ({"$contains": "IS", "$ignore_case": True}, "Paris", True),
        ({"$contains": ["Pa", "is"]}, "Paris", True),
        ({"$contains": ["Pa", "Rome"]}, "Paris", False),
        ({"$contains": "1"}, 1, False),
        ({"$contains": 1}, "1", False),
        ({"$contains": "a"}, {"a": 1}, False),
        ({"$contains": "a"}, None, False),
        ({"$contains": "a"}, ["b", "a"], True),
        ({"$contains": "a"}, ["ba"], False),
        ({"$contains": ["a", "b"]}, ["c", "b", "a"], True),
        ({"$contains": ["a", "b"]}, ["a"], False),
        ({"$contains": {"a": 1}}, [{"a": 1, "b": 2}], True),
        ({"$contains": [["a"]]}, [["a"]], True),
        ({"$contains": 1}, [True], False),
        ({"$contains": {"$contains": "a"}}, ["cat"], True),
        # $any_of: one of several patterns
        ({"$any_of": [1, "1"]}, "1", True),
        ({"$any_of": [1, "1"]}, 2, False),
        ({"$any_of": [{"$contains": "a"}, None]}, "cat", True),
        ({"$any_of": [{"a": 1}]}, {"a": 1, "b": 2}, True),
        ({"$any_of": ["a"], "$ignore_case": True}, "A", True),
        ({"$any_of": [{"$contains": "a"}], "$ignore_case": True}, "CAT", True),
        ({"$any_of": [{"b": "a"}], "$ignore_case": True}, {"b": "A"}, True),
        ({"a": {"$any_of": [1]}, "b": [{"$contains": "x"}]}, {"a": 1, "b": ["xy"]}, True),
        ({"a": {"$any_of": [1]}, "b": [{"$contains": "x"}]}, {"a": 1, "b": ["y"]}, False),
    ],
)
def test_what_fits_a_pattern(pattern: Any, value: Any, expected: bool) -> None:
    check_pattern(pattern)
    assert matches(pattern, value) is expected


def nested(depth: int) -> Any:
    """An object in a list in an object, and so on; `depth` is odd."""
    value: Any = 1
    for number in range(depth):
        value = [value] if number % 2 else {"a": value}
    return value


@pytest.mark.parametrize(
    ("pattern", "path", "reason"),
    [
        ({"$contans": 1}, ("$contans",), "not a matcher"),
        ({"$": 1}, ("$",), "not a matcher"),
        ({"$equals": 1, "unit": "F"}, ("unit",), "not a matcher"),
        ({"$equals": 1, "$contains": "a"}, (), "only one"),
        ({"$ignore_case": True}, (), "only one"),
        ({"$equals": "a", "$ignore_case": "yes"}, ("$ignore_case",), "true or false"),
        ({"$any_of": "a"}, ("$any_of",), "a list is needed"),
        ({"$any_of": []}, ("$any_of",), "empty"),
        ({"$contains": ""}, ("$contains",), "empty"),
        ({"$contains": []}, ("$contains",), "empty"),
        ({"$contains": ["a", ""]}, ("$contains", 1), "empty"),
        ({"a": [{"$any_of": [{"$x": 1}]}]}, ("a", 0, "$any_of", 0, "$x"), "not a matcher"),
        (float("nan"), (), "not a finite number"),
        ([float("inf")], (0,), "not a finite number"),
        ({"$equals": {"a": [float("inf")]}}, ("$equals", "a", 0), "not a finite number"),
        ({1: "a"}, (), "a key that is not a string"),
        ({"a": (1,)}, ("a",), "not JSON: tuple"),
        ({"$equals": [b""]}, ("$equals", 0), "not JSON: bytes"),
        (nested(41), ("a", 0, "a", 0), "nested deeper than 32"),
        (nested(9_001), ("a", 0, "a", 0), "nested deeper than 32"),
        ({"$equals": nested(9_001)}, ("$equals", "a", 0, "a"), "nested deeper than 32"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_pattern_is_refused_where_it_stands(
    pattern: Any, path: tuple[Any, ...], reason: str
) -> None:
    with pytest.raises(PydanticCustomError) as caught:
        check_pattern(pattern)
    assert reason in caught.value.message()
    assert caught.value.context is not None
    assert caught.value.context["path"] == path


def test_a_value_of_any_depth_is_compared_no_deeper_than_the_pattern() -> None:
    deep = nested(9_001)
    assert matches({"a": {"$any_of": [[{"b": 1}], 2]}}, deep) is False
    assert matches({}, deep) is True


@given(JSON)
def test_json_equals_itself_as_it_is_sent(value: Any) -> None:
    sent = json.loads(json.dumps(value))
    check_pattern({"$equals": value})
    assert matches({"$equals": value}, sent)
    assert matches({"$any_of": [{"$equals": value}]}, sent)
    assert matches({"$contains": [{"$equals": value}]}, [None, sent])


@given(JSON, JSON)
def test_any_pattern_is_refused_or_compared_with_any_value(pattern: Any, value: Any) -> None:
    try:
        check_pattern(pattern)
    except PydanticCustomError:
        return
    found = matches(pattern, value)
    assert isinstance(found, bool)
    # what fits exactly also fits with any case
    assert not found or matches({"$any_of": [pattern], "$ignore_case": True}, value)
