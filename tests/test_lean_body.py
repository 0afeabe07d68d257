"""A large body read for its texts alone says what all of it says, or is refused as all of it is."""

from __future__ import annotations

import copy
import json
import pickle
from bisect import bisect_left
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gymhost import Trajectory
from gymhost.errors import InvalidBody
from gymhost.http.api import VERDICT_KEYS
from gymhost.http.body import parse_object
from gymhost.lean_body import LARGE, LeanBody, read_lean, trajectory_of, whole
from tests.json_values import VALUES
from tests.test_trajectories import ANY_TEXT, ITEMS, LOOKALIKES, call, message, output, text

parse = partial(parse_object, finite=False)


def lean(raw: bytes) -> LeanBody | None:
    """Read a body as a large one: the spaces behind it are no part of it."""
    return read_lean(raw.ljust(LARGE), parse)


def lean_object(body: Any) -> LeanBody:
    found = lean(json.dumps(body).encode())
    assert found is not None
    return found


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def check_same(found: LeanBody, body: dict[str, Any]) -> None:
    """Hold what was read to the whole body, parsed: first the texts, then everything."""
    expected = Trajectory(body.get("response"))
    read = trajectory_of(found)
    assert read.assistant_text == expected.assistant_text
    assert read.final_text == expected.final_text
    for key in ("session_id", "verifier_metadata", *VERDICT_KEYS, *body):
        assert (key in found) == (key in body), key
    for key in ("session_id", "verifier_metadata"):
        assert repr(found.get(key)) == repr(body.get(key))
    assert not found.is_parsed
    assert repr(read.items) == repr(expected.items)
    assert repr(read.tool_calls) == repr(expected.tool_calls)
    assert repr(read.response) == repr(expected.response)
    assert repr(dict(found)) == repr(whole(found)) == repr(body)
    assert len(found) == len(body)
    assert found.is_parsed


TAKEN = {
    "texts": b'{"response": {"output": [{"role": "assistant", "content": "a"}]}}',
    "parts": b'{"response": [{"role": "assistant", "content": ["a", null, {"text": "b"}, {}]}]}',
    "no text": b'{"response": [{"role": "assistant", "content": [{"text": null}]}]}',
    "null content": b'{"response": [{"role": "assistant", "content": null}]}',
    "no content": b'{"response": [{"role": "assistant"}]}',
    "null type": b'{"response": [{"role": "assistant", "type": null, "content": "a"}]}',
    "null": b'{"response": null, "a": 1}',
    "null output": b'{"response": {"output": null}}',
    "no output": b'{"response": {"id": "x"}, "verifier_metadata": {"a": [1, 1.0, true]}}',
    "twice": b'{"response": null, "response": [{"role": "assistant", "content": "a"}]}',
    "twice inside": b'{"response": {"output": [{"role": "assistant"}], "output": []}}',
    "twice named": b'{"response": [], "session_id": "a", "session_id": "b"}',
    "named by nothing": b'{"response": [], "session_id": null, "verifier_metadata": null}',
    "named by a number": b'{"response": [], "session_id": 12345678901234567890123, "x": -0.0}',
    "escaped": b'{"r\\u0065sponse": [{"rol\\u0065": "assistant", "content": "\\u00fc\\n"}]}',
    "non-ASCII": '{"response": [{"role": "assistant", "content": "ü🏔"}], "ü": "ß"}'.encode(),
    "too large": b'{"response": [], "a": 1e400}',
    "many digits": b'{"response": [], "a": ' + b"1" * 4_000 + b"}",
    "deep": b'{"response": [], "a": ' + nested(150) + b"}",
    "spaces": b' \n{ "response" :\t[ ] }\r\n',
}


@pytest.mark.parametrize("raw", TAKEN.values(), ids=TAKEN)
def test_what_is_read_of_a_body_is_what_all_of_it_says(raw: bytes) -> None:
    found = lean(raw)
    assert found
    check_same(found, parse(raw))


LEFT = {
    "nothing": b"",
    "an empty object": b"{}",
    "no response": b'{"session_id": "a"}',
    "a text": b'{"response": "a"}',
    "a number": b'{"response": 7}',
    "a text as output": b'{"response": {"output": "a"}}',
    "an item that is none": b'{"response": [1]}',
    "a number as role": b'{"response": [{"role": 1}]}',
    "an object as content": b'{"response": [{"content": {"text": "a"}}]}',
    "a number as text": b'{"response": [{"content": [{"text": 1}]}]}',
    "a list as part": b'{"response": [{"content": [["a"]]}]}',
    "an array": b"[]",
    "a surrogate": b'{"response": [], "a": "\\ud83d"}',
    "a surrogate in a text": b'{"response": [{"content": "\\ud83d"}]}',
    "no UTF-8": b'{"response": [], "a": "\xff"}',
    "cut UTF-8": b'{"response": [], "a": "\xc3',
    "UTF-8 for a surrogate": b'{"response": [], "a": "\xed\xa0\xbd"}',
    "NaN": b'{"response": [], "a": NaN}',
    "a control character": b'{"response": [], "a": "\x01"}',
    "a comma too much": b'{"response": [],}',
    "more": b'{"response": []} {}',
    "a mark": b'\xef\xbb\xbf{"response": []}',
    "too deep for anybody": b'{"response": [], "a": ' + nested(100_000) + b"}",
    **{key: b'{"response": [], "%b": null}' % key.encode() for key in VERDICT_KEYS},
}


@pytest.mark.parametrize("raw", LEFT.values(), ids=LEFT)
def test_a_body_of_another_form_is_parsed_whole(raw: bytes) -> None:
    assert lean(raw) is None


def test_a_small_body_is_parsed_whole() -> None:
    raw = b'{"response": []}'
    assert read_lean(raw.ljust(LARGE - 1), parse) is None
    assert read_lean(raw.ljust(LARGE), parse) is not None


@settings(deadline=None)
@given(
    st.fixed_dictionaries(
        {
            "response": st.fixed_dictionaries({"output": st.lists(LOOKALIKES | ITEMS, max_size=5)})
            | st.lists(LOOKALIKES, max_size=5)
            | VALUES
        },
        optional=dict.fromkeys(
            ("session_id", "verifier_metadata", "reward", "x"), VALUES | ANY_TEXT
        ),
    ),
    st.booleans(),
)
def test_any_body_is_read_as_it_is_parsed(body: dict[str, Any], ascii_only: bool) -> None:
    raw = json.dumps(body, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    found = lean(raw)
    if found is not None:
        check_same(found, parse(raw))


PIECES = [
    b'"',
    b"\\",
    b"\\u12",
    b"\xc3",
    b"\xff",
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b":",
    b"1",
    b"e",
    b"-",
]


@settings(deadline=None)
@given(
    st.sampled_from([*TAKEN.values(), *LEFT.values()]).filter(lambda raw: len(raw) < 200),
    st.lists(
        st.tuples(
            st.integers(0, 200),
            st.integers(0, 2),
            st.sampled_from(PIECES) | st.binary(max_size=2),
        ),
        min_size=1,
        max_size=3,
    ),
)
def test_a_broken_body_is_not_taken_for_a_whole_one(
    raw: bytes, changes: list[tuple[int, int, bytes]]
) -> None:
    for where, removed, put in changes:
        raw = raw[:where] + put + raw[where + removed :]
    found = lean(raw)
    if found is not None:
        check_same(found, parse(raw))


@pytest.mark.parametrize(
    "rest", [nested(250), b"1" * 5_000, b'{"a":' * 250 + b"1" + b"}" * 250], ids=len
)
def test_what_only_the_whole_parse_refuses_is_refused_when_the_rest_is_asked_for(
    rest: bytes,
) -> None:
    raw = b'{"response": {"output": [{"role": "assistant", "content": "a"}], "x": %b}}' % rest
    found = lean(raw)
    assert found is not None
    read = trajectory_of(found)
    assert read.assistant_text == "a"
    assert (found.get("session_id"), "note" in found) == (None, False)
    with pytest.raises(InvalidBody) as expected:
        parse(raw)
    for _ in range(2):
        with pytest.raises(InvalidBody) as caught:
            _ = read.items
        assert str(caught.value) == str(expected.value)


def test_metadata_is_read_as_deep_as_all_of_the_body_is() -> None:
    raw = b'{"response": [], "verifier_metadata": %b}'
    fits, too_deep = lean(raw % nested(200)), lean(raw % nested(201))
    assert fits is not None
    assert too_deep is not None
    assert fits["verifier_metadata"] == parse(raw % nested(200))["verifier_metadata"]
    with pytest.raises(InvalidBody) as expected:
        parse(raw % nested(201))
    with pytest.raises(InvalidBody) as caught:
        _ = too_deep["verifier_metadata"]
    assert str(caught.value) == str(expected.value)


def test_what_nests_almost_too_deep_to_be_read_at_all_is_taken_or_refused() -> None:
    raw = b'{"response": [], "x": %b}'
    refused = bisect_left(range(500_000), True, key=lambda depth: lean(raw % nested(depth)) is None)
    found = lean(raw % nested(refused - 1))
    assert found is not None

    def deeper(frames: int) -> bool:
        return deeper(frames - 1) if frames else "x" in found

    with suppress(InvalidBody):  # since Python 3.12, a frame takes nothing of what C may recurse
        assert deeper(50)


def test_a_response_that_somebody_changes_is_what_the_texts_are_read_from() -> None:
    found = lean_object({"response": {"output": [message("a"), message("b")]}})
    read = trajectory_of(found)
    read.response["output"].pop()
    assert (read.assistant_text, read.final_text) == ("a", "a")


def test_an_attempt_whose_rest_is_unread_goes_whole_to_another_process() -> None:
    body = {"response": {"output": [message([text("a")]), call(), output()]}}
    for again in (lambda it: pickle.loads(pickle.dumps(it)), copy.deepcopy, copy.copy):
        read = again(trajectory_of(lean_object(body)))
        assert read.response == body["response"]
        assert (read.final_text, read.tool_calls[0].output) == ("a", "fine")
