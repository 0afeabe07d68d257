"""The base class: its defaults, its state type, and overriding as implementing."""

import functools
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import pytest
from pydantic import BaseModel

from gymhost import Environment, EnvironmentConfig, Session, Task, ToolCall, Trajectory, tool
from gymhost.environment import StateT
from gymhost.errors import PluginError
from gymhost.session import NoState
from gymhost.testing import client

T = TypeVar("T")
ModelT = TypeVar("ModelT", bound=BaseModel)


class Count(BaseModel):
    number: int = 3


class Settings(BaseModel):
    unit: str = "F"


class World(Environment[Count]):
    async def verify(self, session: Session[Count], trajectory: Trajectory) -> float:
        return session.state.number


class Inherits(World):
    pass


class Simulated(Environment[ModelT], Generic[T, ModelT]):
    """A base class of an author's, with parameters of its own."""


class Simulation(Simulated[Settings, Count]):
    pass


class HalfSimulated(Simulated[Settings, StateT]):
    pass


class Whole(HalfSimulated[Count]):
    pass


class Mixin(Generic[T]):
    pass


class Mixed(Mixin[Settings], World):
    pass


class Extra(World, Generic[T]):
    pass


class Named(Environment):
    state_type = Count


@pytest.mark.parametrize(
    ("cls", "state"),
    [
        (Environment, NoState),
        (World, Count),
        (Inherits, Count),
        (Simulation, Count),
        (Whole, Count),
        (Mixed, Count),
        (Extra[int], Count),
        (Named, Count),
        (type("Plain", (Environment,), {}), NoState),
        (Simulated, NoState),
    ],
)
def test_the_state_type_is_the_model_in_the_brackets(cls: Any, state: type) -> None:
    assert cls.state_type is state


@pytest.mark.parametrize("argument", [dict, int, dict[str, int], "Count", Any, Count | None])
def test_a_state_that_is_no_model_is_refused_at_once(argument: Any) -> None:
    with pytest.raises(PluginError, match=r"^Bad: Environment\[.*\]: the state is a pydantic mode"):

        class Bad(Environment[argument]):
            pass


async def test_the_defaults_are_enough_for_an_environment_that_only_verifies() -> None:
    async with client({"world": World}) as served:
        async with served.episode("world") as episode:
            assert await episode.tools() == []
            assert (await episode.verify())["reward"] == 3.0
    assert list(World().tasks()) == []


async def test_a_forgotten_mark_does_not_silence_a_hook() -> None:
    log = []

    def logged(function: Any) -> Any:
        @functools.wraps(function)
        async def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            log.append(function.__name__)
            return await function(self, *args, **kwargs)

        return call

    class SeedsElsewhere:
        """Not an environment itself."""

        async def seed(self, session: Session, task: Task) -> Count:
            return Count(number=5)

    class Overrides(SeedsElsewhere, World):
        startup = logged(World.startup)
        verify = logged(World.verify)

        @logged
        async def allowed_tools(self, session: Session, task: Task) -> list[str]:
            return ["look"]

        @logged
        async def call_tool(self, session: Session, call: ToolCall) -> Any:
            return await super().call_tool(session, call)

        @tool
        async def look(self) -> str:
            """Look."""
            return "seen"

        @tool
        async def hide(self) -> str:
            """Hide."""
            return "hidden"

        @logged
        async def close(self, session: Session, reason: str) -> None: ...

        @logged
        async def shutdown(self) -> None: ...

    async with client({"world": Overrides}) as served:
        async with served.episode("world") as episode:
            assert await episode.tools() == ["look"]
            assert (await episode.call_tool("look")).text == "seen"
            assert (await episode.verify())["reward"] == 5.0
    assert log == ["startup", "allowed_tools", "call_tool", "verify", "close", "shutdown"]


class Chooses(World):
    """allowed_tools returns what the test says."""

    def __init__(self, choice: Any) -> None:
        self.choice = choice

    async def allowed_tools(self, session: Session, task: Task) -> Any:
        return self.choice() if callable(self.choice) else self.choice

    @tool
    async def one(self) -> str:
        """One."""
        return "1"

    @tool
    async def two(self) -> str:
        """Two."""
        return "2"


def generated() -> Iterator[str]:
    yield "two"


@pytest.mark.parametrize(
    ("choice", "tools"),
    [
        (None, ["one", "two"]),
        (["two"], ["two"]),
        ({"two", "one"}, ["one", "two"]),
        (["two", "two"], ["two"]),
        (generated, ["two"]),
        ((), []),
    ],
)
async def test_allowed_tools_narrows_what_a_session_may_use(choice: Any, tools: list[str]) -> None:
    async with client({"world": EnvironmentConfig(plugin=Chooses(choice))}) as served:
        async with served.episode("world") as episode:
            assert await episode.tools() == tools
            answer = await episode.call_tool("one")
            assert answer.is_error == ("one" not in tools)
