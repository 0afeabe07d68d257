"""What a tool, seed and verify receive, without a host around it."""

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import pydantic_core
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, computed_field

from gymhost import Session, Task, ToolCall, ToolOutcome
from gymhost.session import NoState, dump_state


class Item(BaseModel):
    name: str


class Cart(BaseModel):
    items: list[Item] = []
    seen: set[str] = set()
    total: float = 0


class OtherCart(BaseModel):
    items: list[Item] = []


def session_of(state: BaseModel | None, **options: Any) -> Session[Any]:
    dumped = None if state is None else state.model_dump_json().encode()
    model = NoState if state is None else type(state)
    return Session("s-1", "shop", b"{}", model=model, state=dumped, **options)


def test_a_session_has_its_id_environment_and_task() -> None:
    task = Task({"input": "Zürich"}, {"city": "Zürich"}, {"reference": None, "n": 1})
    dumped = pydantic_core.to_json(task.to_row())
    session = Session("s-1", "shop", dumped, model=Cart)
    assert (session.id, session.environment) == ("s-1", "shop")
    assert session.task == task
    assert session.task is session.task
    assert Session("s-1", "shop", task, model=Cart).task is task


def test_the_task_that_one_call_has_changed_is_as_it_was_for_the_next() -> None:
    dumped = pydantic_core.to_json(Task(verifier_metadata={"city": "Paris"}).to_row())
    first, second = (Session("s-1", "shop", dumped, model=Cart) for _ in range(2))
    first.task.verifier_metadata["city"] = "Rome"
    assert second.task.verifier_metadata == {"city": "Paris"}


# -- state -----------------------------------------------------------------------------------------


def test_the_state_is_a_copy_of_ones_own() -> None:
    kept = Cart(items=[Item(name="pear")])
    first, second = session_of(kept), session_of(kept)
    first.state.items.append(Item(name="fig"))
    assert first.state is first.state
    assert [each.name for each in first.state.items] == ["pear", "fig"]
    assert second.state == kept == Cart(items=[Item(name="pear")])


@pytest.mark.parametrize("look", [False, True])
def test_a_state_that_is_as_it_was_is_not_kept_again(look: bool) -> None:
    session = session_of(Cart())
    if look:
        assert session.state.items == []
    assert session.changed_state() is None


def test_what_is_changed_in_place_is_kept() -> None:
    session = session_of(Cart())
    session.state.items.append(Item(name="fig"))
    changed = session.changed_state()
    assert changed is not None
    assert Cart.model_validate_json(changed).items == [Item(name="fig")]


def test_a_state_that_is_assigned_is_kept() -> None:
    session = session_of(Cart())
    session.state = Cart(total=2)
    assert session.state.total == 2
    changed = session.changed_state()
    assert changed is not None
    assert Cart.model_validate_json(changed) == Cart(total=2)


@pytest.mark.parametrize("value", [OtherCart(), {"items": []}, None, Cart])
def test_a_state_of_another_type_is_refused_where_it_is_assigned(value: Any) -> None:
    session = session_of(Cart())
    with pytest.raises(TypeError, match="the state is a Cart, not "):
        session.state = value
    assert session.changed_state() is None


def test_seed_has_no_state_yet_and_no_calls() -> None:
    session = session_of(None)
    with pytest.raises(RuntimeError, match="what seed returns is the state"):
        _ = session.state
    with pytest.raises(RuntimeError, match="what seed returns is the state"):
        session.state = NoState()
    assert session.calls == ()
    assert session.call_count == 0
    assert session.failure_kind is None
    assert session.changed_state() is None


def test_a_concurrent_tool_can_not_assign_the_state() -> None:
    session = session_of(Cart(), read_only=True)
    with pytest.raises(RuntimeError, match="concurrent=True tool can't change the state"):
        session.state = Cart(total=1)
    assert session.changed_state() is None


def test_a_concurrent_tool_that_changes_the_state_in_place_is_told_so() -> None:
    session = session_of(Cart(), read_only=True)
    session.state.items.append(Item(name="fig"))
    with pytest.raises(ValueError, match=r"concurrent=True tool changed the state.* read-only"):
        session.changed_state()


@settings(deadline=None)
@given(st.lists(st.text(max_size=3)), st.lists(st.text(max_size=3)))
def test_a_set_that_comes_back_in_another_order_is_not_changed(
    added: list[str], removed: list[str]
) -> None:
    state = Cart()
    for each in added:
        state.seen.add(each)
    for each in removed:
        state.seen.discard(each)
    session = session_of(state, read_only=True)
    assert session.state.seen == state.seen
    assert session.changed_state() is None


# -- what survives a store -------------------------------------------------------------------------


class Colour(Enum):
    RED = 1


@dataclass
class Move:
    to: tuple[int, int]


class Rich(BaseModel):
    """What an author may well keep."""

    when: datetime = datetime(2026, 1, 31, 12, tzinfo=UTC)
    took: timedelta = timedelta(microseconds=1)
    price: Decimal = Decimal("0.10")
    ident: UUID = UUID(int=7)
    path: Path = Path("/tmp/ü")
    colour: Colour = Colour.RED
    moves: list[Move] = Field(default_factory=lambda: [Move((1, 2))])
    board: dict[int, tuple[str, ...]] = {1: ("a", "b")}
    tags: frozenset[str] = frozenset({"a", "b", "c"})
    text: bytes = b"abc"
    big: int = 2**100
    small: float = 0.1 + 0.2
    nothing: float | None = None
    anything: Any = None

    @computed_field
    def tripled(self) -> int:
        return 3 * self.big


def test_a_state_of_rich_types_survives() -> None:
    state = Rich(anything={"a": [1, 2.5, None, "ü"]})
    assert Rich.model_validate_json(dump_state(state, Rich)) == state


class Base(BaseModel):
    n: int = 0


class Derived(Base):
    more: int = 0


class Odd(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    number: float = 0
    maybe: float | None = None
    anything: Any = None
    named: int = Field(0, alias="Named")
    left_out: int = Field(0, exclude=True)
    secret: SecretStr = SecretStr("")
    base: Base = Field(default_factory=Base)
    _cache: dict[str, int] = PrivateAttr(default_factory=dict)


@pytest.mark.parametrize(
    ("field_name", "value", "says"),
    [
        ("number", math.nan, "number"),
        ("maybe", math.nan, "come back different: maybe"),
        ("maybe", math.inf, "come back different: maybe"),
        ("anything", (1, 2), "come back different: anything"),
        ("anything", {1: "a"}, "come back different: anything"),
        ("anything", {1, 2}, "come back different: anything"),
        ("anything", datetime(2026, 1, 31, tzinfo=UTC), "come back different: anything"),
        ("anything", object(), "Unable to serialize"),
        ("anything", "\ud83d", "surrogates not allowed"),
        ("anything", b"\xff", "invalid utf-8"),
        ("named", 1, "come back different: named"),
        ("left_out", 1, "come back different: left_out"),
        ("secret", SecretStr("hunter2"), "come back different: secret"),
        ("base", Derived(more=1), "come back different: base"),
        ("number", "1", "number"),
        ("number", "no number", "number"),
        ("_cache", {"a": 1}, "its private or extra attributes"),
    ],
)
def test_a_state_that_would_come_back_different_is_a_clear_error(
    field_name: str, value: Any, says: str
) -> None:
    state = Odd()
    dump_state(state, Odd)
    setattr(state, field_name, value)
    with pytest.raises(ValueError, match="the state does not survive being stored") as caught:
        dump_state(state, Odd)
    assert says in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_subclass_of_the_state_would_come_back_as_its_base() -> None:
    with pytest.raises(ValueError, match="a Derived would come back as a Base"):
        dump_state(Derived(), Base)


@pytest.mark.parametrize("value", [None, {}, OtherCart(), Cart])
def test_what_is_no_state_of_the_environment_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="the state must be a Cart, not "):
        dump_state(value, Cart)


# -- calls -----------------------------------------------------------------------------------------


@dataclass
class Calls:
    """Calls as a store has them."""

    dumped: list[bytes] = field(default_factory=list)

    def add(self, name: str, outcome: ToolOutcome) -> ToolCall:
        call = ToolCall(f"id-{name}", name, {"city": "Zürich"}, 1.5, 0.25, outcome)
        self.dumped.append(call.dump())
        return call


@pytest.mark.parametrize("kind", [list, tuple])
def test_calls_are_read_in_the_order_in_which_they_ended(kind: type) -> None:
    calls = Calls()
    first = calls.add("first", ToolOutcome.ok("fine"))
    second = calls.add("second", ToolOutcome.error("no such city"))
    session = session_of(Cart(), calls=kind(calls.dumped))
    assert session.calls == (first, second)
    assert session.calls is session.calls
    assert session.call_count == 2
    assert [(call.ok, call.result, call.error) for call in session.calls] == [
        (True, "fine", None),
        (False, None, "no such city"),
    ]


def test_calls_are_counted_without_being_read() -> None:
    session = session_of(Cart(), calls=[b"not even JSON"] * 3)
    assert session.call_count == 3
    with pytest.raises(ValueError, match="expected ident"):
        _ = session.calls


def test_the_calls_that_one_call_has_changed_are_as_they_were_for_the_next() -> None:
    calls = Calls()
    calls.add("first", ToolOutcome.ok("fine"))
    first, second = (session_of(Cart(), calls=calls.dumped) for _ in range(2))
    first.calls[0].arguments["city"] = "Rome"
    assert first.calls[0].outcome is not None
    first.calls[0].outcome.content.clear()
    assert second.calls[0].arguments == {"city": "Zürich"}
    assert second.calls[0].result == "fine"
