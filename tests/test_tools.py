"""Marked methods: which are tools, how they run, how they answer, what they refuse."""

import functools
import math
import threading
from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, Any, Literal

import anyio
import pytest
from pydantic import BaseModel, BeforeValidator, Field

from gymhost import ToolCall, ToolError, ToolOutcome, tool
from gymhost.errors import InvalidArguments, ToolDefinitionError, UnknownTool
from gymhost.threads import Threads
from gymhost.tools import RESERVED_NAMES, ToolSet
from tests.method_tools import a_session, run, tools_of


class Weather:
    """A class with tools; a real one would be an Environment."""

    @tool
    async def report(self, city: str) -> str:
        """Report the weather.

        Of one city.
        """
        return f"fine in {city}"

    @tool(timeout=2.5, concurrent=True, timeout_masks=True)
    def cities(self) -> list[str]:
        return ["Paris", "Rome"]

    def helper(self) -> None:
        """No tool."""


# -- marks -----------------------------------------------------------------------------------------


def test_a_tool_is_named_after_its_method_and_described_by_its_docstring() -> None:
    tools = tools_of(Weather())
    assert list(tools) == ["report", "cities"]
    assert tools["report"].description == "Report the weather.\n\nOf one city."
    assert tools["cities"].description == ""


def test_a_marked_method_is_still_the_function_it_was() -> None:
    assert Weather().cities() == ["Paris", "Rome"]


def test_a_mark_carries_how_the_host_runs_the_tool() -> None:
    tools = tools_of(Weather())
    plain, special = tools["report"].options, tools["cities"].options
    assert (plain.timeout, plain.concurrent, plain.timeout_masks) == (None, False, False)
    assert (special.timeout, special.concurrent, special.timeout_masks) == (2.5, True, True)


@pytest.mark.parametrize("timeout", [0, 0.0, -1, math.nan, -math.inf])
def test_a_timeout_that_no_call_could_keep_is_refused(timeout: float) -> None:
    with pytest.raises(ValueError, match="must be a positive number of seconds"):
        tool(timeout=timeout)


@pytest.mark.parametrize("misplaced", [5, 0.5, "report"])
def test_an_option_without_its_name_is_refused(misplaced: Any) -> None:
    with pytest.raises(TypeError, match="its options have names"):
        tool(misplaced)


def test_a_mark_is_inherited() -> None:
    class Heir(Weather):
        @tool
        async def more(self) -> None: ...

    assert list(tools_of(Heir())) == ["report", "cities", "more"]


async def test_an_override_with_the_mark_is_the_tool() -> None:
    class Heir(Weather):
        @tool(timeout=1)
        async def report(self, city: str, unit: str = "F") -> str:
            return f"{await super().report(city)} in {unit}"

    report = tools_of(Heir())["report"]
    assert list(report.input_schema["properties"]) == ["city", "unit"]
    assert report.options.timeout == 1
    assert report.description == Weather.report.__doc__.replace(" " * 8, "").strip()  # type: ignore[union-attr]
    assert await run(report, {"city": "Rom"}) == "fine in Rom in F"


@pytest.mark.parametrize("override", [lambda self, city: city, None])
def test_an_override_without_the_mark_is_no_tool(override: Any) -> None:
    heir = type("Heir", (Weather,), {"report": override})
    assert list(tools_of(heir())) == ["cities"]
    heir_of_heir = type("HeirOfHeir", (heir,), {"report": tool(lambda self: None)})
    assert sorted(tools_of(heir_of_heir())) == ["cities", "report"]


async def test_static_and_class_methods_are_tools_with_the_mark_above_or_below() -> None:
    class Tools:
        prefix = "in"

        @tool
        @staticmethod
        async def static_below(city: str) -> str:
            return f"in {city}"

        @staticmethod
        @tool(timeout=3)
        def static_above(city: str) -> str:
            return f"in {city}"

        @tool
        @classmethod
        async def class_below(cls, city: str) -> str:
            return f"{cls.prefix} {city}"

        @classmethod
        @tool(timeout=3)
        def class_above(cls, city: str) -> str:
            return f"{cls.prefix} {city}"

    tools = tools_of(Tools())
    assert list(tools) == ["static_below", "static_above", "class_below", "class_above"]
    for name, each in tools.items():
        assert list(each.input_schema["properties"]) == ["city"]
        assert await run(each, {"city": "Rom"}) == "in Rom"
        assert each.options.timeout == (3 if name.endswith("above") else None)


async def test_one_function_under_two_names_is_two_tools() -> None:
    class Tools:
        @tool
        async def first(self, city: str) -> str:
            return city

        second = first

    tools = tools_of(Tools())
    assert list(tools) == ["first", "second"]
    with pytest.raises(InvalidArguments, match="for 'second'"):
        await run(tools["second"], {})


# -- the set of one environment's tools ------------------------------------------------------------


def tool_set(*methods: Callable[..., Any], **named: Callable[..., Any]) -> ToolSet:
    members = {each.__name__: tool(each) for each in methods}
    members |= {name: tool(each) for name, each in named.items()}
    tools = ToolSet()
    for each in tools_of(type("Tools", (), members)()).values():
        tools.add(each)
    return tools


async def nothing(self: object) -> None: ...


@pytest.mark.parametrize("name", sorted(RESERVED_NAMES))
def test_a_reserved_name_is_refused(name: str) -> None:
    with pytest.raises(ToolDefinitionError, match=f"tool name '{name}' is reserved"):
        tool_set(**{name: nothing})


def test_the_reserved_names_are_those_of_the_design() -> None:
    assert {"verify", "seed_session", "close_session", "aggregate_metrics", "mcp"} == RESERVED_NAMES


@pytest.mark.parametrize("name", ["", "a.b", "a b", "wetter_für", "x" * 65, "a\n"])
def test_a_name_that_models_can_not_call_is_refused(name: str) -> None:
    with pytest.raises(ToolDefinitionError, match="use 1 to 64 ASCII letters"):
        tool_set(**{name: nothing})


def test_a_name_of_64_letters_digits_and_dashes_is_taken() -> None:
    name = "A-0_" * 16
    assert tool_set(**{name: nothing}).get(name) is not None


def test_two_tools_of_one_name_are_refused() -> None:
    tools = tool_set(nothing)
    with pytest.raises(ToolDefinitionError, match="two tools are named 'nothing'"):
        tools.add(tools_of(type("T", (), {"nothing": tool(nothing)})())["nothing"])
    assert (len(tools), [each.name for each in tools]) == (1, ["nothing"])


async def test_a_call_runs_the_tool_that_it_names() -> None:
    async def repeat(self: object, city: str) -> str:
        return city

    tools = tool_set(repeat, nothing)
    call = ToolCall("c", "repeat", {"city": "Zürich 🏔"}, 0.0)
    assert await tools.run(a_session(), call) == ToolOutcome.ok("Zürich 🏔")
    with pytest.raises(UnknownTool, match="There is no tool named 'weather'"):
        await tools.run(a_session(), ToolCall("c", "weather", {}, 0.0))


async def test_what_a_tool_does_to_its_arguments_is_not_done_to_the_calls() -> None:
    async def spoil(self: object, listed: list[Any], anything: Any) -> None:
        listed.append("new")
        anything["deep"].append("new")

    call = ToolCall("c", "spoil", {"listed": [], "anything": {"deep": []}}, 0.0)
    await tool_set(spoil).run(a_session(), call)
    assert call.arguments == {"listed": [], "anything": {"deep": []}}


# -- arguments -------------------------------------------------------------------------------------

CANARY = "canary-7b1f"


class Pet(BaseModel):
    kind: Literal["pet"] = "pet"
    name: str


class Toy(BaseModel):
    kind: Literal["toy"]


def _refuse(value: str) -> str:
    raise ValueError("no such city")


class Picky:
    @tool
    async def ask(
        self,
        city: Annotated[str, Field(max_length=20)],
        days: int = 1,
        unit: Literal["F", "C"] = "F",
        pets: list[Pet] = [],  # noqa: B006
        thing: Annotated[Pet | Toy, Field(discriminator="kind")] | None = None,
        checked: Annotated[str, BeforeValidator(_refuse)] = "",
    ) -> str:
        return f"{city} {days} {unit}"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, ["missing argument 'city'"]),
        ({"city": None}, ["city: Input should be a valid string"]),
        ({"city": [CANARY]}, ["city: Input should be a valid string"]),
        ({"city": CANARY * 2}, ["city: String should have at most 20 characters"]),
        ({"city": "a", "days": CANARY}, ["days: Input should be a valid integer"]),
        ({"city": "a", "days": 1.5}, ["days: Input should be a valid integer"]),
        ({"city": "a", "unit": CANARY}, ["unit: Input should be 'F' or 'C'"]),
        ({"city": "a", "town": CANARY}, ["unknown argument 'town'"]),
        ({"days": 1, "town": CANARY}, ["missing argument 'city'", "unknown argument 'town'"]),
        ({"city": "a", "pets": [{"nom": CANARY}]}, ["missing argument 'pets.0.name'"]),
        ({"city": "a", "pets": CANARY}, ["pets: Input should be a valid array"]),
        ({"city": "a", "thing": {"kind": CANARY}}, ["thing: expected one of 'pet', 'toy'"]),
        ({"city": "a", "thing": {"name": CANARY}}, ["thing: Unable to extract tag"]),
        ({"city": "a", "checked": CANARY}, ["checked: Value error, no such city"]),
    ],
)
async def test_wrong_arguments_are_told_in_plain_words_and_not_repeated(
    arguments: dict[str, Any], says: Iterable[str]
) -> None:
    with pytest.raises(InvalidArguments) as caught:
        await run(tools_of(Picky())["ask"], arguments)
    text = str(caught.value)
    assert text.startswith("Invalid arguments for 'ask': ")
    assert text.endswith(". It takes: city, days, unit, pets, thing, checked.")
    for each in says:
        assert each in text
    assert CANARY not in text
    assert "http" not in text
    assert "pydantic" not in text


async def test_an_exception_of_an_authors_validator_is_a_crash_not_the_agents_fault() -> None:
    def fail(value: object) -> object:
        raise RuntimeError("bug")

    async def ask(self: object, city: Annotated[str, BeforeValidator(fail)]) -> None: ...

    with pytest.raises(RuntimeError, match="bug"):
        await run(tools_of(type("Tools", (), {"ask": tool(ask)})())["ask"], {"city": "a"})


# -- where it runs ---------------------------------------------------------------------------------


async def test_an_async_tool_runs_on_the_event_loop_and_a_plain_one_in_the_threads() -> None:
    threads = Threads(1)

    class Tools:
        @tool
        async def inline(self) -> tuple[int, int]:
            return threading.get_ident(), threads.in_use

        @tool
        def threaded(self) -> tuple[int, int]:
            return threading.get_ident(), threads.in_use

    tools = tools_of(Tools(), threads)
    loop = threading.get_ident()
    assert await run(tools["inline"], {}) == (loop, 0)
    ident, in_use = await run(tools["threaded"], {})
    assert ident != loop
    assert in_use == 1
    assert threads.in_use == 0


def loudly(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def later(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


async def test_a_decorator_may_hide_what_kind_of_function_a_tool_is() -> None:
    class Tools:
        @tool
        @loudly
        async def hidden_async(self, city: str) -> str:
            await anyio.lowlevel.checkpoint()
            return city

        @tool
        @later
        def hidden_plain(self, city: str) -> str:
            return city

        @tool
        def awaitable(self, city: str) -> Awaitable[str]:
            return self.hidden_async(city)

    for each in tools_of(Tools()).values():
        assert list(each.input_schema["properties"]) == ["city"]
        assert await run(each, {"city": "Rom"}) == "Rom"


@pytest.mark.parametrize("error", [ToolError("no such city"), KeyError("bug")])
async def test_what_a_tool_raises_is_raised(error: Exception) -> None:
    class Tools:
        @tool
        def fail(self) -> None:
            raise error

    with pytest.raises(type(error)) as caught:
        await run(tools_of(Tools())["fail"], {})
    assert caught.value is error
