"""What a trajectory scores: a table of tasks and attempts, and what holds for all of them."""

import json
import math
from typing import Any

import pytest
from gym_env_external_verifier.requirements import read_requirements
from gym_env_external_verifier.scoring import score
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gymhost import Trajectory, VerifyResult

Item = dict[str, Any]


def scored(metadata: dict[str, Any], items: list[Any]) -> VerifyResult:
    return score(read_requirements(metadata), Trajectory({"output": items}))


def call(
    name: str = "look_up", /, call_id: str = "c", output: Any = "found", **arguments: Any
) -> list[Item]:
    """A call and its output; without one for None."""
    made = {"type": "function_call", "call_id": call_id, "name": name}
    items = [{**made, "arguments": json.dumps(arguments)}]
    if output is not None:
        items.append({"type": "function_call_output", "call_id": call_id, "output": output})
    return items


def say(text: str) -> list[Item]:
    content = [{"type": "output_text", "text": text}]
    return [{"type": "message", "role": "assistant", "content": content}]


# -- required calls --------------------------------------------------------------------------------

PARIS = {"calls": [{"name": "look_up", "arguments": {"city": "Paris"}}]}


@pytest.mark.parametrize(
    ("items", "share"),
    [
        pytest.param(call(city="Paris"), 1, id="the call"),
        pytest.param(call(city="Paris", day="today"), 1, id="with more arguments"),
        pytest.param(call("mcp__atlas__look_up", city="Paris"), 1, id="with its server"),
        pytest.param([*call(city="Rome"), *call(city="Paris")], 1, id="after another"),
        pytest.param(call(city="Paris", output=""), 1, id="an empty output"),
        pytest.param(call(city="Paris")[::-1], 1, id="recorded after its output"),
        pytest.param([], 0, id="nothing"),
        pytest.param(say('I called look_up(city="Paris").'), 0, id="a claim"),
        pytest.param(call(city="paris"), 0, id="another case"),
        pytest.param(call(), 0, id="no arguments"),
        pytest.param(call("look_up_all", city="Paris"), 0, id="another tool"),
        pytest.param(call("atlas__look_up", city="Paris"), 0, id="no such prefix"),
        pytest.param(call(city="Paris", output=None), 0, id="no output"),
        pytest.param(call(city="Paris")[1:], 0, id="no call"),
        pytest.param([*call(city="Rome"), *call(city="Paris", output=None)], 0, id="one output"),
        pytest.param(
            [*call(city="Paris", output=None), *call("other", call_id="d")], 0, id="another's"
        ),
    ],
)
def test_a_call_counts_once_it_is_answered(items: list[Item], share: float) -> None:
    result = scored(PARIS, items)
    assert result.reward_components == {"calls.0": share}
    assert result.reward == share


@pytest.mark.parametrize(
    ("arguments", "share"),
    [
        ("{}", 1),
        ({}, 1),
        ("", 1),
        (None, 1),
        ("not JSON", 0),
        ('{"city": "Pa', 0),
        ("[]", 0),
        ([], 0),
        ('"city"', 0),
        ("null", 0),
        (7, 0),
        ("\ud83d", 0),
        ('{"a":' * 9_000 + "1" + "}" * 9_000, 0),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_arguments_that_are_no_object_are_no_call(arguments: Any, share: float) -> None:
    made, output = call()
    result = scored({"calls": ["look_up"]}, [{**made, "arguments": arguments}, output])
    assert result.reward == share


FAILED = {"content": [{"type": "text", "text": "found"}], "isError": True}


@pytest.mark.parametrize(
    ("output", "share"),
    [
        ({"output": "found", "status": "completed", "isError": False}, 1),
        ({"output": {**FAILED, "isError": False}}, 1),
        ({"output": json.dumps({**FAILED, "isError": False})}, 1),
        ({"output": '{"about": "\\"isError\\": true"}'}, 1),
        ({"output": '"isError": true'}, 1),
        ({"output": "found", "isError": True}, 0),
        ({"output": "found", "is_error": True}, 0),
        ({"output": "found", "status": "incomplete"}, 0),
        ({"output": FAILED}, 0),
        ({"output": json.dumps(FAILED)}, 0),
    ],
)
def test_a_call_that_failed_does_not_count(output: Item, share: float) -> None:
    made, _ = call()
    answered = {"type": "function_call_output", "call_id": "c", **output}
    assert scored({"calls": ["look_up"]}, [made, answered]).reward == share


@pytest.mark.parametrize(
    ("wanted", "output", "share"),
    [
        ("13:00", "at 13:00.", 1),
        ("13:00", "at 13.00.", 0),
        ("13:00", "", 0),
        ("Found", "found", 0),
        ({"all_of": ["Found"], "ignore_case": True}, "it was FOUND", 1),
        (["a", "b"], "b, a", 1),
        (["a", "b"], "a", 0),  # an output is as it must be or not
        ({"any_of": ["a", "b"]}, "b", 1),
        ({"any_of": ["a", "b"]}, "c", 0),
        ("ab", [{"type": "output_text", "text": "a"}, {"type": "output_text", "text": "b"}], 1),
        ("found", {"content": [{"type": "text", "text": "found"}]}, 1),
        ("a", 7, 0),
        ("a", [None, {"text": 7}], 0),
    ],
)
def test_an_output_contains_what_it_must(wanted: Any, output: Any, share: float) -> None:
    metadata = {"calls": [{"name": "look_up", "output": wanted}]}
    assert scored(metadata, call(output=output)).reward == share


@pytest.mark.parametrize(
    ("name", "emitted", "share"),
    [
        ("search", "search", 1),
        ("search", "mcp__wiki__search", 1),
        ("mcp__wiki__search", "mcp__wiki__search", 1),
        ("mcp__wiki__search", "mcp__tracker__search", 0),
        ("mcp__wiki__search", "search", 0),  # whose it was is not known
        ("wiki__search", "mcp__a__wiki__search", 1),
        ("search", "mcp__wiki__", 0),
        ("search", "Search", 0),
        ("mcp__x", "mcp__x", 1),
    ],
)
def test_a_name_is_bare_or_carries_its_server(name: str, emitted: str, share: float) -> None:
    assert scored({"calls": [name]}, call(emitted)).reward == share


def test_two_servers_with_one_tool_name_are_told_apart() -> None:
    metadata = {"calls": ["mcp__wiki__search", "mcp__tracker__search"]}
    wiki, tracker = call("mcp__wiki__search", "1"), call("mcp__tracker__search", "2")
    assert scored(metadata, [*tracker, *wiki]).reward == 1
    result = scored(metadata, [*wiki, *call("mcp__wiki__search", "3")])
    assert result.reward_components == {"calls.0": 1, "calls.1": 0}


# -- several calls ---------------------------------------------------------------------------------

ANY_CITY = {"name": "look_up"}
IN_PARIS = {"name": "look_up", "arguments": {"city": "Paris"}}


@pytest.mark.parametrize(
    ("calls", "cities", "shares"),
    [
        ([IN_PARIS, IN_PARIS], ["Paris"], [1, 0]),
        ([IN_PARIS, IN_PARIS], ["Paris", "Paris"], [1, 1]),
        ([ANY_CITY, IN_PARIS], ["Paris"], [1, 0]),
        ([ANY_CITY, IN_PARIS], ["Paris", "Rome"], [1, 1]),
        ([ANY_CITY, IN_PARIS], ["Rome", "Paris"], [1, 1]),
        ([IN_PARIS, ANY_CITY], ["Rome", "Paris"], [1, 1]),
        ([ANY_CITY, IN_PARIS], ["Rome", "Rome"], [1, 0]),
        ([{**ANY_CITY, "at_least": 4}], ["Rome"], [0.25]),
        ([{**ANY_CITY, "at_least": 2}], ["Rome", "Paris", "Bonn"], [1]),
        ([{**ANY_CITY, "at_least": 2}, IN_PARIS], ["Paris", "Rome"], [0.5, 1]),  # worth more there
        ([{**IN_PARIS, "at_most": 1}], ["Paris"], [1]),
        ([{**IN_PARIS, "at_most": 1}], ["Paris", "Rome"], [1]),
        ([{**IN_PARIS, "at_most": 1}], ["Paris", "Paris"], [0]),
        ([{**IN_PARIS, "at_most": 1}], [], [0]),
        ([{**IN_PARIS, "at_most": 1}, ANY_CITY], ["Paris", "Paris"], [0, 1]),
        ([{**IN_PARIS, "at_least": 2, "at_most": 3}], ["Paris"] * 3, [1]),
        ([{**IN_PARIS, "at_least": 2, "at_most": 3}], ["Paris"] * 4, [0]),
    ],
)
def test_one_call_meets_one_requirement(
    calls: list[Item], cities: list[str], shares: list[float]
) -> None:
    items = [
        item for number, city in enumerate(cities) for item in call(call_id=str(number), city=city)
    ]
    result = scored({"calls": calls}, items)
    expected = {f"calls.{index}": share for index, share in enumerate(shares)}
    assert result.reward_components == expected
    assert result.reward == pytest.approx(sum(shares) / len(shares))


def test_a_call_that_failed_counts_against_at_most() -> None:
    items = [*call(call_id="1", output=None), *call(call_id="2")]
    assert scored({"calls": [{"name": "look_up", "at_most": 1}]}, items).reward == 0
    assert scored({"calls": [{"name": "look_up", "at_most": 2}]}, items).reward == 1


def test_one_id_for_two_calls_is_two_calls_with_an_output_each() -> None:
    metadata = {"calls": [{"name": "look_up", "at_least": 2}]}
    assert scored(metadata, [*call(), *call()]).reward == 1
    assert scored(metadata, [*call(), *call(output=None)]).reward == 0.5
    assert scored(metadata, [*call(output=None), *call()]).reward == 0.5


STEPS = {"calls": ["a", "b", {"name": "c", "at_least": 2}], "ordered": True}


@pytest.mark.parametrize(
    ("made", "order"),
    [
        ("abcc", 1),
        ("xaxbcxcx", 1),
        ("aabcc", 1),
        ("cabcc", 1),
        ("", 0),
        ("x", 0),
        ("a", 1 / 4),
        ("ba", 1 / 4),
        ("bacc", 3 / 4),
        ("ccba", 2 / 4),
        ("abc", 3 / 4),
    ],
)
def test_order_is_the_longest_part_in_order(made: str, order: float) -> None:
    items = [item for number, name in enumerate(made) for item in call(name, str(number))]
    result = scored(STEPS, items)
    assert result.reward_components["order"] == order
    assert (result.reward == 1) == (order == 1)


def test_order_is_that_of_the_calls_and_not_of_their_outputs() -> None:
    first, first_output = call("a", "1")
    second, second_output = call("b", "2")
    parallel = [first, second, second_output, first_output]
    assert scored({"calls": ["a", "b"], "ordered": True}, parallel).reward == 1


def test_without_ordered_no_order_is_asked_for() -> None:
    items = [*call("b", "1"), *call("a", "2")]
    assert scored({"calls": ["a", "b"]}, items).reward_components == {"calls.0": 1, "calls.1": 1}


# -- forbidden calls and the answer ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("forbidden", "items", "share"),
    [
        (["drop"], [], 1),
        (["drop"], call("drop"), 0),
        (["drop"], call("mcp__db__drop"), 0),
        (["drop"], call("drop", output=None), 0),  # it was tried
        (["drop"], [{"type": "function_call", "name": "drop", "arguments": "not JSON"}], 0),
        (["drop"], [{"type": "function_call", "name": "drop"}], 0),
        (["drop"], call("drop_all"), 1),
        (["mcp__db__drop"], call("mcp__ui__drop"), 1),
        (["drop", "wipe"], call("wipe"), 0),
        ([{"name": "drop", "arguments": {"table": "users"}}], call("drop", table="tmp"), 1),
        ([{"name": "drop", "arguments": {"table": "users"}}], call("drop", table="users"), 0),
        ([{"name": "drop", "at_most": 2}], [*call("drop"), *call("drop")], 1),
        ([{"name": "drop", "at_most": 1}], [*call("drop"), *call("drop")], 0),
    ],
)
def test_a_forbidden_call(forbidden: list[Any], items: list[Item], share: float) -> None:
    metadata = {"calls": ["look_up"], "forbidden": forbidden}
    result = scored(metadata, [*call(call_id="first"), *items])
    assert result.reward_components == {"calls.0": 1, "forbidden": share}
    assert result.reward == (1 + share) / 2


@pytest.mark.parametrize("items", [[], call("other"), call(output=None), say("Done.")])
def test_doing_nothing_of_what_is_asked_scores_nothing(items: list[Item]) -> None:
    metadata = {"calls": ["look_up"], "forbidden": ["drop"], "answer": "13:00", "ordered": True}
    result = scored(metadata, items)
    assert result.reward == 0
    assert result.reward_components == {"calls.0": 0, "forbidden": 0, "answer": 0}


@pytest.mark.parametrize(
    ("answer", "text", "share"),
    [
        ("13:00", "It is 13:00.", 1),
        ("13:00", "It is 1 pm.", 0),
        ("Kolkata", "KOLKATA", 0),
        ({"all_of": ["Kolkata"], "ignore_case": True}, "KOLKATA", 1),
        ({"all_of": ["STRASSE"], "ignore_case": True}, "Straße", 1),
        ({"any_of": ["1 PM", "13:00"], "ignore_case": True}, "1 pm", 1),
        ("São Paulo", "In São Paulo 🌧", 1),
        (["a", "b", "c", "d"], "a c", 0.5),
        ({"any_of": ["a", "b"]}, "b", 1),
        ({"any_of": ["a", "b"]}, "c", 0),
        ({"all_of": ["a"], "any_of": ["b", "c"]}, "c", 0.5),
        ({"all_of": ["a"], "any_of": ["b", "c"]}, "ac", 1),
        ({"all_of": ["a"], "any_of": ["b", "c"]}, "bc", 0.5),
    ],
)
def test_the_answer_contains_what_it_must(answer: Any, text: str, share: float) -> None:
    result = scored({"answer": answer}, say(text))
    assert (result.reward, result.reward_components) == (share, {"answer": share})


def test_the_answer_is_the_last_message_and_neither_an_earlier_one_nor_an_output() -> None:
    items = [*say("13:00"), *call(output="13:00"), *say("Never mind.")]
    assert scored({"answer": "13:00"}, items).reward == 0
    user = {"type": "message", "role": "user", "content": "13:00"}
    assert scored({"answer": "13:00"}, [user]).reward == 0


# -- the reward ------------------------------------------------------------------------------------


def test_the_reward_is_the_weighted_mean_of_its_components() -> None:
    metadata = {"calls": ["a", "b"], "answer": "13:00", "forbidden": ["drop"]}
    items = [*call("a"), *say("13:00")]
    assert scored(metadata, items).reward == 3 / 4
    weights = {"calls.1": 5, "answer": 0.5}
    result = scored({**metadata, "weights": weights}, items)
    assert result.reward_components == {"calls.0": 1, "calls.1": 0, "forbidden": 1, "answer": 1}
    assert result.reward == (1 + 1 + 0.5) / (1 + 5 + 1 + 0.5)


def test_a_call_goes_where_it_is_worth_the_most() -> None:
    metadata = {"calls": [ANY_CITY, IN_PARIS], "weights": {"calls.1": 3}}
    result = scored(metadata, call(city="Paris"))
    assert result.reward_components == {"calls.0": 0, "calls.1": 1}
    assert result.reward == 0.75


def test_without_partial_credit_it_is_all_or_nothing() -> None:
    metadata = {"calls": ["a"], "answer": ["x", "y"], "forbidden": ["b"], "partial_credit": False}
    assert scored(metadata, [*call("a"), *say("x y")]).reward == 1
    for items in ([*call("a"), *say("x")], say("x y"), [*call("a"), *call("b"), *say("x y")], []):
        result = scored(metadata, items)
        assert result.reward == 0
        assert set(result.reward_components) == {"calls.0", "answer", "forbidden"}
    assert scored(metadata, [*call("a"), *say("x")]).reward_components["answer"] == 0.5


# -- hostile sizes ---------------------------------------------------------------------------------


def test_a_trajectory_of_2000_items_and_half_a_megabyte() -> None:
    items = [
        item
        for number in range(1_000)
        for item in call(call_id=str(number), number=number, output="x" * 350)
    ]
    assert 400_000 < len(json.dumps(items)) < 600_000
    calls = [{"name": "look_up", "arguments": {"number": number}} for number in range(200)]
    result = scored({"calls": calls, "ordered": True}, items)
    assert result.reward == 1
    assert scored({"calls": calls, "ordered": True}, items[::-1]).reward_components["order"] < 0.1


def test_more_calls_than_are_looked_at_score_nothing() -> None:
    metadata = {"calls": [{"name": "look_up", "at_least": 200}], "answer": "x"}
    items = [*call(), *say("x")]
    made, output = call(city="Paris")
    assert scored(metadata, [made, output] * 10_000 + say("x")).reward == 1
    result = scored(metadata, [made, output] * 10_000 + items)
    assert (result.reward, result.reward_components) == (0, {"calls.0": 0, "answer": 0})


# -- what holds for any task and any trajectory ----------------------------------------------------

NAMES = st.sampled_from(["a", "b", "mcp__s__a", "mcp__t__a"])
BARE = st.sampled_from(["a", "b"])
SMALL = st.fixed_dictionaries({}, optional={"x": st.integers(0, 1), "y": st.sampled_from("pq")})
TEXTS = st.fixed_dictionaries(
    {"all_of": st.lists(st.sampled_from("pqP"), min_size=1, max_size=2)},
    optional={"any_of": st.just(["r", "s"]), "ignore_case": st.booleans()},
)


@st.composite
def tasks(
    draw: st.DrawFn, names: st.SearchStrategy[str] = NAMES, limited: bool = True
) -> dict[str, Any]:
    """Draw the metadata of a valid task; `limited` ones may forbid, and have `at_most`."""
    calls = draw(
        st.lists(
            st.fixed_dictionaries(
                {"name": names, "arguments": SMALL, "at_least": st.integers(1, 2)},
                optional={"output": TEXTS, **({"at_most": st.integers(2, 3)} if limited else {})},
            ),
            max_size=4,
        )
    )
    metadata: dict[str, Any] = {"calls": calls, "ordered": draw(st.booleans())}
    if not calls or draw(st.booleans()):
        metadata["answer"] = draw(TEXTS)
    if limited and draw(st.booleans()):
        metadata["forbidden"] = [
            {"name": draw(names), "arguments": draw(SMALL), "at_most": draw(st.integers(1, 2))}
        ]
    metadata["partial_credit"] = draw(st.booleans())
    weights = st.sampled_from([0.001, 0.1, 1, 3, 1000])
    components = st.sampled_from(read_requirements(metadata).components)
    metadata["weights"] = draw(st.dictionaries(components, weights))
    return metadata


@st.composite
def pairs(draw: st.DrawFn, names: st.SearchStrategy[str] = NAMES) -> list[Item]:
    """Draw a call, and perhaps its output, with an id of its own."""
    call_id = str(draw(st.integers(0, 10**9)))
    output = draw(st.none() | st.text("pqrs", max_size=3))
    return call(draw(names), call_id, output, **draw(SMALL))


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.sampled_from(["a", "b", "c1", "mcp__s__a", "p"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["text", "content", "isError", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)
ANY_ITEM = JSON | st.fixed_dictionaries(
    {"type": st.sampled_from(["function_call", "function_call_output", "message"]) | JSON},
    optional={
        "call_id": st.sampled_from(["c1", "c2"]) | JSON,
        "name": NAMES | JSON,
        "arguments": st.sampled_from(["{}", '{"x": 1}', '{"x": ', "[]"]) | JSON,
        "output": JSON,
        "role": st.just("assistant"),
        "content": JSON,
        "status": JSON,
    },
)


@settings(deadline=None)
@given(tasks(), st.lists(ANY_ITEM, max_size=8) | JSON)
def test_any_trajectory_scores_something_from_0_to_1(metadata: Any, items: Any) -> None:
    result = scored(metadata, items)
    assert math.isfinite(result.reward)
    assert 0 <= result.reward <= 1
    assert list(result.reward_components) == list(read_requirements(metadata).components)
    assert all(0 <= share <= 1 for share in result.reward_components.values())
    assert scored(metadata, items) == result


@settings(deadline=None)
@given(tasks())
def test_doing_nothing_scores_0(metadata: dict[str, Any]) -> None:
    assert scored(metadata, []).reward == 0


@settings(deadline=None)
@given(tasks(limited=False), st.lists(pairs(), max_size=6), pairs(), st.integers(0, 6))
def test_one_more_call_never_lowers_the_reward(
    metadata: dict[str, Any], made: list[list[Item]], more: list[Item], place: int
) -> None:
    before = scored(metadata, [item for pair in made for item in pair])
    made.insert(place, more)
    after = scored(metadata, [item for pair in made for item in pair])
    assert after.reward >= before.reward


@settings(deadline=None)
@given(tasks(BARE), st.lists(pairs(BARE), max_size=6), st.sampled_from(["s", "my-server"]))
def test_a_prefix_of_the_names_never_changes_the_reward(
    metadata: dict[str, Any], made: list[list[Item]], server: str
) -> None:
    items = [item for pair in made for item in pair]
    prefixed = [
        {**item, "name": f"mcp__{server}__{item['name']}"} if "name" in item else item
        for item in items
    ]
    assert scored(metadata, prefixed) == scored(metadata, items)


@settings(deadline=None)
@given(tasks(), st.lists(pairs(), max_size=6), st.randoms())
def test_without_ordered_the_order_of_the_calls_does_not_matter(
    metadata: dict[str, Any], made: list[list[Item]], random: Any
) -> None:
    assume(len({pair[0]["call_id"] for pair in made}) == len(made))
    metadata["ordered"] = False
    metadata["weights"].pop("order", None)
    before = scored(metadata, [item for pair in made for item in pair])
    random.shuffle(made)
    assert scored(metadata, [item for pair in made for item in pair]) == before


@settings(deadline=None)
@given(tasks(limited=False))
def test_doing_all_that_is_asked_scores_1(metadata: dict[str, Any]) -> None:
    items: list[Item] = []
    for each in metadata["calls"]:
        output = "".join([*each.get("output", {}).get("all_of", []), "r"])
        for _ in range(each["at_least"]):
            items += call(each["name"], str(len(items)), output, **each["arguments"])
    if "answer" in metadata:
        items += say("".join([*metadata["answer"]["all_of"], "s"]))
    assert scored(metadata, items).reward == 1
