"""What a tool's signature becomes: its schema, what is injected, and what can't be offered."""

import gc
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import Enum, StrEnum
from typing import Annotated, Any, Literal, Optional, Union
from uuid import UUID

import jsonschema
import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from gymhost import Session, tool
from gymhost.errors import InvalidArguments, ToolDefinitionError
from gymhost.signatures import _plans
from tests.json_values import NoJSON
from tests.method_tools import run, tools_of


class Place(BaseModel):
    """Where something is."""

    name: str
    height: int | None = None


class Unit(StrEnum):
    F = "F"
    C = "C"


class Size(Enum):
    SMALL = 1
    LARGE = 2


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


class Options(TypedDict, total=False):
    unit: str


@dataclass
class Point:
    x: int
    y: int = 0


def tool_taking(hint: Any, default: Any = ...) -> Any:
    """A tool with one parameter, `value`, which it returns."""

    async def take(self: object, value: Any) -> Any:
        return value

    take.__annotations__ = {"value": hint}
    if default is not ...:
        take.__defaults__ = (default,)
    return tools_of(type("Tools", (), {"take": tool(take)})())["take"]


REF = {"$ref": "#/$defs/Place"}
PET = Annotated[Cat | Dog, Field(discriminator="kind")]


@pytest.mark.parametrize(
    ("hint", "schema", "sent", "received"),
    [
        (str, {"type": "string"}, "Zürich", "Zürich"),
        (int, {"type": "integer"}, 3, 3),
        (float, {"type": "number"}, 3, 3.0),
        (bool, {"type": "boolean"}, True, True),
        (Any, {}, [None, 1], [None, 1]),
        (Literal["F", "C"], {"type": "string", "enum": ["F", "C"]}, "F", "F"),
        (Optional[str], {"anyOf": [{"type": "string"}, {"type": "null"}]}, None, None),  # noqa: UP045
        (str | None, {"anyOf": [{"type": "string"}, {"type": "null"}]}, "a", "a"),
        (Union[int, str], {"anyOf": [{"type": "integer"}, {"type": "string"}]}, "a", "a"),  # noqa: UP007
        (list[int], {"type": "array", "items": {"type": "integer"}}, [1, 2], [1, 2]),
        (
            set[int],
            {"type": "array", "items": {"type": "integer"}, "uniqueItems": True},
            [1, 2],
            {1, 2},
        ),
        (
            dict[str, int],
            {"type": "object", "additionalProperties": {"type": "integer"}},
            {"a": 1},
            {"a": 1},
        ),
        (Place, REF, {"name": "Rigi", "height": 1797}, Place(name="Rigi", height=1797)),
        (list[Place], {"type": "array", "items": REF}, [{"name": "Rigi"}], [Place(name="Rigi")]),
        (Options, {"$ref": "#/$defs/Options"}, {"unit": "F"}, {"unit": "F"}),
        (Point, {"$ref": "#/$defs/Point"}, {"x": 1}, Point(1)),
        (Unit, {"$ref": "#/$defs/Unit"}, "C", Unit.C),
        (Size, {"$ref": "#/$defs/Size"}, 2, Size.LARGE),
        (date, {"type": "string", "format": "date"}, "2026-01-31", date(2026, 1, 31)),
        (
            Annotated[datetime, Field(strict=True)],
            {"type": "string", "format": "date-time"},
            "2026-01-31T12:00:00Z",
            datetime(2026, 1, 31, 12, tzinfo=UTC),
        ),
        (UUID, {"type": "string", "format": "uuid"}, str(UUID(int=7)), UUID(int=7)),
        (
            Annotated[int, Field(ge=1, le=9, description="How many.")],
            {"type": "integer", "minimum": 1, "maximum": 9, "description": "How many."},
            9,
            9,
        ),
        (PET, None, {"kind": "dog"}, Dog(kind="dog")),
    ],
    ids=str,
)
async def test_a_typed_parameter_is_a_property_and_arrives_as_its_type(
    hint: Any, schema: dict[str, Any] | None, sent: Any, received: Any
) -> None:
    taking = tool_taking(hint)
    assert taking.input_schema["type"] == "object"
    assert taking.input_schema["required"] == ["value"]
    assert taking.input_schema["additionalProperties"] is False
    if schema is not None:
        assert taking.input_schema["properties"]["value"] == schema
    jsonschema.Draft202012Validator.check_schema(taking.input_schema)
    jsonschema.validate({"value": sent}, taking.input_schema)
    assert await run(taking, {"value": sent}) == received


def test_a_nested_model_keeps_its_description_and_the_names_give_no_titles() -> None:
    schema = tool_taking(list[Place]).input_schema
    assert schema["$defs"]["Place"]["description"] == "Where something is."
    assert "title" not in schema
    assert "title" not in schema["properties"]["value"]
    assert "title" not in schema["$defs"]["Place"]["properties"]["name"]


@pytest.mark.parametrize(
    ("hint", "default", "schema"),
    [
        (str, "Paris", {"type": "string", "default": "Paris"}),
        (Unit, Unit.F, {"$ref": "#/$defs/Unit", "default": "F"}),
        (Place, Place(name="Rigi"), {**REF, "default": {"name": "Rigi", "height": None}}),
        (float, math.inf, {"type": "number"}),  # no JSON: the function still has it
        (Any, NoJSON(), {}),
        (
            Annotated[str, Field(description="Where.")],
            "Paris",
            {"type": "string", "default": "Paris", "description": "Where."},
        ),
    ],
    ids=str,
)
async def test_a_default_is_shown_and_left_to_the_function(
    hint: Any, default: Any, schema: dict[str, Any]
) -> None:
    taking = tool_taking(hint, default)
    assert taking.input_schema["properties"] == {"value": schema}
    assert "required" not in taking.input_schema
    assert await run(taking, {}) is default


async def test_a_mutable_default_is_the_functions_own() -> None:
    default: list[int] = []
    taking = tool_taking(list[int], default)
    assert await run(taking, {}) is default
    assert await run(taking, {"value": []}) is not default


@pytest.mark.parametrize(
    ("default", "schema", "received"),
    [
        (Field("Paris", description="Where."), {"default": "Paris"}, "Paris"),
        (Field(default_factory=lambda: "Paris", description="Where."), {}, "Paris"),
        (Field(description="Where."), {}, None),
    ],
    ids=["default", "factory", "required"],
)
async def test_a_pydantic_field_as_a_default_describes_the_parameter(
    default: Any, schema: dict[str, Any], received: str | None
) -> None:
    taking = tool_taking(str, default)
    expected = {"type": "string", "description": "Where.", **schema}
    assert taking.input_schema["properties"] == {"value": expected}
    assert await run(taking, {"value": "Rom"}) == "Rom"
    if received is not None:
        assert await run(taking, {}) == received
        return
    with pytest.raises(InvalidArguments, match="missing argument 'value'"):
        await run(taking, {})


@pytest.mark.parametrize(
    "name",
    ["copy", "schema", "json", "_x", "__y", "model_config", "model_fields", "self_", "p0", "cls"],
)
async def test_a_parameter_may_have_any_name(name: str) -> None:
    namespace: dict[str, Any] = {}
    source = f"async def take(self, other: str, {name}: int) -> str:\n    return other * {name}"
    exec(source, namespace)
    taking = tools_of(type("Tools", (), {"take": tool(namespace["take"])})())["take"]
    assert taking.input_schema["properties"][name] == {"type": "integer"}
    assert await run(taking, {name: 2, "other": "ab"}) == "abab"
    with pytest.raises(InvalidArguments, match="unknown argument 'p1'"):
        await run(taking, {"other": "ab", "p1": 2})  # fields are numbered; that is nobody's name


async def test_the_session_and_its_id_are_injected_and_hidden() -> None:
    class Tools:
        @tool
        async def bare(self, session: Session, city: str) -> str:  # type: ignore[type-arg]
            return f"{session.id} {city}"

        @tool
        async def typed(self, city: str, *, any_name: Session[Place]) -> str:
            return f"{any_name.id} {city}"

        @tool
        async def annotated(self, s: Annotated[Session[Place], "the session"], city: str) -> str:
            return f"{s.id} {city}"

        @tool
        async def by_id(self, city: str, session_id: str) -> str:
            return f"{session_id} {city}"

        @tool
        async def untyped_id(self, city: str, session_id) -> str:  # type: ignore[no-untyped-def]
            return f"{session_id} {city}"

        @tool
        async def all_of_them(
            self, one: Session[Place], two: Session[Place], session_id: str, city: str
        ) -> str:
            assert one is two
            assert one.id == session_id
            return f"{one.id} {city}"

    for each in tools_of(Tools()).values():
        assert each.input_schema["properties"] == {"city": {"type": "string"}}
        assert await run(each, {"city": "Bern"}) == "s-1 Bern"


@pytest.mark.parametrize("sent", ["session", "session_id"])
async def test_what_is_injected_can_not_be_sent(sent: str) -> None:
    class Tools:
        @tool
        async def look(self, session: Session[Place], session_id: str) -> str:
            return session_id

    with pytest.raises(InvalidArguments, match=f"unknown argument {sent!r}.*takes: no arguments"):
        await run(tools_of(Tools())["look"], {sent: "another"})


def refused_by_signature() -> dict[str, Callable[..., Any]]:
    async def request(self: object, request: str) -> None: ...
    async def args(self: object, *args: str) -> None: ...
    async def kwargs(self: object, **kwargs: str) -> None: ...
    async def positional(self: object, city: str, /) -> None: ...
    async def unresolvable(self: object, place: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821
    async def bad_syntax(self: object, place: "list[") -> None: ...  # type: ignore[syntax]  # noqa: F722
    async def unschemable(self: object, place: object) -> None: ...
    async def optional_session(self: object, session: Session[Place] | None) -> None: ...
    async def numeric_id(self: object, session_id: int) -> None: ...
    async def bad_pattern(self: object, p: Annotated[str, Field(pattern="(")]) -> None: ...
    async def infinite(self: object, p: Annotated[float, Field(examples=[math.inf])]) -> None: ...

    unschemable.__annotations__["place"] = Callable[[int], str]
    return {name: each for name, each in locals().items() if callable(each)}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("request", "a parameter can't be named 'request'"),
        ("args", "parameter '*args: str' has no schema"),
        ("kwargs", "parameter '**kwargs: str' has no schema"),
        ("positional", "parameter 'city' is positional-only; arguments have names"),
        ("unresolvable", "an annotation can't be resolved: name 'Nowhere' is not defined"),
        ("bad_syntax", "an annotation can't be resolved"),
        ("unschemable", "no schema for its parameters"),
        ("optional_session", "no schema for its parameters"),
        ("numeric_id", "'session_id' is the session's own id, a str"),
        ("bad_pattern", "no schema for its parameters"),
        ("infinite", "no schema for its parameters: Out of range float values"),
    ],
)
def test_a_signature_that_no_agent_could_call_is_refused(name: str, says: str) -> None:
    function = tool(refused_by_signature()[name])
    with pytest.raises(ToolDefinitionError) as caught:
        tools_of(type("Tools", (), {name: function})())
    assert f"tool {name!r}: " in str(caught.value)
    assert says in str(caught.value)


async def test_a_class_made_inside_a_function_may_use_its_types() -> None:
    class Local(BaseModel):
        name: str

    class Tools:
        @tool
        async def take(self, session: Session[Local], place: Local) -> str:
            return place.name

    taking = tools_of(Tools())["take"]
    assert await run(taking, {"place": {"name": "Rigi"}}) == "Rigi"


async def test_postponed_annotations_are_resolved(tmp_path: Any) -> None:
    source = """
from __future__ import annotations
from gymhost import Session, tool
from pydantic import BaseModel
class Tools:
    @tool
    async def take(self, session: Session[Place], place: Place, n: int | None = None) -> Place:
        return place
class Place(BaseModel):
    name: str
"""
    namespace: dict[str, Any] = {"__name__": __name__}
    exec(compile(source, "postponed.py", "exec"), namespace)
    taking = tools_of(namespace["Tools"]())["take"]
    assert list(taking.input_schema["properties"]) == ["place", "n"]
    assert (await run(taking, {"place": {"name": "Rigi"}})).name == "Rigi"


def test_the_instances_of_a_class_share_one_argument_model_and_two_classes_do_not() -> None:
    def make() -> type:
        class Tools:
            @tool
            async def take(self, city: str) -> str:
                return city

        return Tools

    one, two = make(), make()
    first, second, other = (tools_of(each())["take"] for each in (one, one, two))
    assert first._plan is second._plan
    assert first.input_schema is second.input_schema
    assert first._plan.arguments is not other._plan.arguments
    heirs = tools_of(type("Heir", (one,), {})())
    assert heirs["take"]._plan is first._plan


def test_what_is_known_of_a_tool_goes_with_its_class() -> None:
    gc.collect()
    before = len(_plans)
    taking = tool_taking(int)
    assert len(_plans) == before + 1
    del taking
    gc.collect()
    assert len(_plans) == before
