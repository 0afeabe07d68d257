"""Environments and extensions are built, configured and registered; what fails fails alone."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import pydantic
import pytest
from pydantic import BaseModel

from gymhost import Environment, EnvironmentConfig, Limits, Session, Trajectory, hookimpl, tool
from gymhost.errors import PluginLoadError
from gymhost.host import EnvironmentLike, Host
from gymhost.plugins import PluginRecord, check_all_up
from gymhost.testing import client


class World(Environment):
    def __init__(self, score: float = 1.0) -> None:
        self.score = score

    async def verify(self, session: Session, trajectory: Trajectory) -> float:
        return self.score


class Factor:
    """An extension that multiplies rewards."""

    def __init__(self, by: float = 0.5) -> None:
        self.by = by

    @hookimpl(wrapper=True)
    def verify(self) -> Generator[None, Any, Any]:
        return self.by * (yield).reward


OTHERS = set(Host().mounts) - {"weather"}
"""What else is installed where the tests run."""


async def reward(name: str, **host: Any) -> float:
    """Score an attempt of one environment of a host."""
    async with client(discover=False, **host) as served, served.episode(name) as episode:
        return (await episode.verify())["reward"]


def record(host: Host, name: str) -> PluginRecord:
    (found,) = [record for record in host.records if record.name == name]
    return found


async def test_one_class_is_mounted_several_times_with_options_of_its_own() -> None:
    environments = {
        "default": World,
        "low": EnvironmentConfig(plugin=World, options={"score": 0.25}),
        "instance": World(0.75),
    }
    async with client(environments) as served:
        assert served.host.mounts["low"].instance is not served.host.mounts["default"].instance
        for name, expected in (("default", 1.0), ("low", 0.25), ("instance", 0.75)):
            async with served.episode(name) as episode:
                assert (await episode.verify())["reward"] == expected


def scoring(decorate: Callable[[type], type], *bases: type) -> Callable[..., Environment]:
    """Return a new class with a field, whose instances are equal where their scores are."""

    class Scores(*bases, Environment):  # type: ignore[misc]
        score: float = 1.0

        async def verify(self, session: Session, trajectory: Trajectory) -> float:
            return self.score

    return decorate(Scores)


KINDS: dict[str, Callable[[], Callable[..., Environment]]] = {
    "dataclass": lambda: scoring(dataclass),
    "slotted": lambda: scoring(dataclass(slots=True)),
    "frozen": lambda: scoring(dataclass(frozen=True)),
    "pydantic": lambda: scoring(lambda cls: cls, BaseModel),
    "pydantic-dataclass": lambda: scoring(pydantic.dataclasses.dataclass),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_instances_that_would_be_equal_are_two_environments(kind: str) -> None:
    cls = KINDS[kind]()
    one, two = cls(score=0.5), cls(score=0.5)
    assert one == two  # before they are mounted
    for name in ("one", "two"):
        assert await reward(name, environments={"one": one, "two": two}) == 0.5


@pytest.mark.parametrize("kind", KINDS)
async def test_a_class_whose_instances_are_equal_is_mounted_twice(kind: str) -> None:
    config = EnvironmentConfig(plugin=KINDS[kind](), options={"score": 0.5})  # type: ignore[arg-type]
    for name in ("one", "two"):
        assert await reward(name, environments={"one": config, "two": config}) == 0.5


async def test_a_frozen_dataclass_may_have_tools() -> None:
    @dataclass(frozen=True)
    class Frozen(World):
        seen: str = "seen"

        @tool
        async def look(self) -> str:
            """Look."""
            return self.seen

        async def verify(self, session: Session, trajectory: Trajectory) -> float:
            return 0.5

    async with client({"world": Frozen()}) as served:
        async with served.episode("world") as episode:
            assert (await episode.call_tool("look")).text == "seen"


class Abstract(Environment):
    pass


class Exits(World):
    def __init__(self) -> None:
        raise SystemExit("no licence")


class Misspelt(World):
    @hookimpl
    async def sede(self) -> None: ...


class Reserved(World):
    @tool
    async def seed_session(self) -> str:
        """Pretend."""
        return ""


class Invalid(World):
    @tool
    async def wörld(self) -> str:
        """Look."""
        return ""


class Unresolvable(World):
    @tool
    async def look(self, at: "Nothing") -> str:  # type: ignore[name-defined]  # noqa: F821
        """Look."""
        return ""


class Twice(World):
    @hookimpl(specname="verify")
    async def verify_again(self) -> float:
        return 0.0


class Wanting(World):
    async def verify(self, session: Session, answer: str) -> float:  # type: ignore[override]
        return 0.0


SHARED = World()

FAILURES: dict[str, tuple[EnvironmentLike, str]] = {
    "abstract": (Abstract, "Abstract could not be made with the options: none: TypeError: Can't"),
    "exits": (Exits, "Exits could not be made with the options: none: it called sys.exit('no "),
    "options": (
        EnvironmentConfig(plugin=World, options={"speed": 3, "place": "Rome"}),
        "World could not be made with the options: place, speed: TypeError: World.__init__() got",
    ),
    "no-class": (
        EnvironmentConfig(plugin=dict),  # type: ignore[arg-type]
        "'no-class' is no Environment class: <class 'dict'>",
    ),
    "nowhere": (EnvironmentConfig(), "no environment plugin is named 'nowhere'. Installed: none"),
    "with-options": (
        EnvironmentConfig(plugin=World(), options={"score": 1}),
        "'with-options' is an instance: it takes no options",
    ),
    "Capital": (World, "'Capital' can't be mounted: use lower-case ASCII letters, digits, '_'"),
    "misspelt": (
        Misspelt,
        "'sede' is no hook. Hooks: aggregate_metrics, allowed_tools, call_tool, close, ",
    ),
    "wanting": (Wanting, "PluginValidationError: Plugin 'environment:wanting' for hook 'verify' "),
    "twice": (Twice, "HookError: 'verify' is implemented more than once: verify, verify_again"),
    "reserved": (Reserved, "ToolDefinitionError: tool name 'seed_session' is reserved"),
    "invalid": (Invalid, "ToolDefinitionError: tool name 'wörld': use 1 to 64 ASCII letters"),
    "unresolvable": (
        Unresolvable,
        "ToolDefinitionError: tool 'look': an annotation can't be resolved: name 'Nothing'",
    ),
    "threads": (
        EnvironmentConfig(plugin=World, limits=Limits(threads=1.5)),  # type: ignore[arg-type]
        "TypeError: total_tokens must be an int",
    ),
    "zz": (SHARED, "this instance of World is mounted already, as environment:fine: mount the"),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_an_environment_that_can_not_be_mounted_fails_alone(name: str) -> None:
    plugin, reason = FAILURES[name]
    async with client({name: plugin, "fine": SHARED}, strict=False) as served:
        failed = record(served.host, name)
        assert failed.status == "failed"
        assert failed.reason is not None
        assert failed.reason.startswith(reason)
        assert "\n" not in failed.reason
        assert name not in served.host.mounts
        async with served.episode("fine") as episode:
            assert (await episode.verify())["reward"] == 1.0


def test_strict_lists_all_that_failed() -> None:
    host = Host({name: plugin for name, (plugin, _) in FAILURES.items()}, discover=False)
    with pytest.raises(PluginLoadError) as caught:
        check_all_up(host.records)
    lines = str(caught.value).splitlines()
    assert lines[0] == "not everything can be served:"
    # but "zz", whose instance is mounted once now
    assert [line.split(":")[0].strip() for line in lines[1:]] == sorted(FAILURES.keys() - {"zz"})
    assert caught.value.__cause__ is not None


def test_where_all_is_up_strict_has_nothing_to_say() -> None:
    check_all_up(Host({"world": World}, discover=False).records)
    check_all_up(Host({"world": World}, discover=False, blocked=["world"]).records)


def test_only_what_is_given_is_mounted_with_only() -> None:
    assert set(Host({"world": World}, only=True).mounts) == {"world"}
    assert set(Host({"world": World}).mounts) == {"world", "weather", *OTHERS}


def test_an_installed_plugin_may_be_configured_under_another_name() -> None:
    config = EnvironmentConfig(plugin="weather", options={"unit": "C"})
    host = Host({"celsius": config, "weather": EnvironmentConfig(options={"unit": "F"})})
    assert set(host.mounts) == {"celsius", "weather", *OTHERS}
    assert record(host, "celsius").distribution == "gym-env-weather"


def test_a_blocked_name_is_not_mounted_nor_used_by_another() -> None:
    config = EnvironmentConfig(plugin="weather")
    host = Host(
        {"weather": config, "celsius": config, "world": World},
        blocked=["weather", "world", *OTHERS],
    )
    assert record(host, "weather").status == "blocked"
    assert record(host, "world").status == "blocked"
    assert record(host, "celsius").reason == "plugin 'weather' is blocked"
    assert host.mounts == {}


async def test_an_environment_that_failed_wraps_nobody() -> None:
    class Bad(Reserved):
        @hookimpl(wrapper=True, specname="verify")
        def spoil(self) -> Generator[None, Any, Any]:
            yield
            raise RuntimeError("spoilt")

    assert await reward("world", environments={"a": Bad, "world": World}, strict=False) == 1.0


async def test_two_extensions_of_one_class_are_two() -> None:
    async with client({"world": World}, extensions=[Factor(0.5), Factor(0.25), Factor]) as served:
        names = [each.name for each in served.host.records if each.kind == "extension"]
        assert names == ["Factor", "Factor-2", "Factor-3"]
        async with served.episode("world") as episode:
            assert (await episode.verify())["reward"] == 0.5 * 0.25 * 0.5


def test_an_extension_twice_is_refused_and_the_first_stays() -> None:
    factor = Factor()
    host = Host({"world": World}, extensions=[factor, factor], discover=False)
    assert record(host, "Factor").status == "up"
    assert record(host, "Factor-2").reason == "an equal extension is registered: extension:Factor"


async def test_an_extension_may_be_a_dataclass() -> None:
    @dataclass
    class Data:
        by: dict[str, float]

        @hookimpl(wrapper=True)
        def verify(self, environment: str) -> Generator[None, Any, Any]:
            return self.by[environment] * (yield).reward

    extensions = [Data({"world": 0.5}), Data({"world": 0.25})]
    assert await reward("world", environments={"world": World}, extensions=extensions) == 0.125


async def test_an_extension_registers_environments() -> None:
    class Registers:
        @hookimpl
        def register_environments(self, register: Callable[..., None]) -> None:
            register("low", World, score=0.25)
            register("high", World)

    extensions = [Registers()]
    config = EnvironmentConfig(plugin="low", options={"score": 0.75})
    environments = {"mine": config}
    for name, expected in (("low", 0.25), ("high", 1.0), ("mine", 0.75)):
        assert await reward(name, environments=environments, extensions=extensions) == expected
    host = Host(extensions=extensions, blocked=["low"], discover=False)
    assert set(host.mounts) == {"high"}
    assert record(host, "low").status == "blocked"


def test_a_registration_that_is_wrong_fails_alone() -> None:
    class Registers:
        @hookimpl(specname="register_environments")
        def more(self, register: Callable[..., None]) -> None:
            register("Capital", World)
            register(7, World)
            register("world", World)
            register("world", World)
            register("weather", World)
            register("dict", dict)

    host = Host(extensions=[Registers()])
    assert set(host.mounts) == {"world", "weather", *OTHERS}
    assert record(host, "Registers").status == "up"
    reasons = {each.name: each.reason for each in host.records if each.status == "failed"}
    use = "can't be mounted: use lower-case ASCII letters, digits, '_' and '-'"
    assert reasons == {
        "Capital": f"'Capital' {use}",
        "7": f"7 {use}",
        "world": "'Registers' registers 'world', which is taken",
        "weather": "'Registers' registers 'weather', which is taken",
        "dict": "'dict' is no Environment class: <class 'dict'>",
    }


async def test_an_extension_that_fails_to_register_environments_is_out_with_all_of_them() -> None:
    class Registers(Factor):
        @hookimpl
        def register_environments(self, register: Callable[..., None]) -> None:
            register("more", World)
            raise LookupError("no list")

    async with client({"world": World}, extensions=[Registers()], strict=False) as served:
        assert record(served.host, "Registers").reason == "LookupError: no list"
        assert set(served.host.mounts) == {"world"}
        async with served.episode("world") as episode:
            assert (await episode.verify())["reward"] == 1.0


def test_an_extension_is_not_configured_as_an_environment() -> None:
    config = EnvironmentConfig(plugin="Factor")
    host = Host({"world": config}, extensions=[Factor()], discover=False)
    failed = [each.reason for each in host.records if each.status == "failed"]
    assert failed == ["'Factor' is an extension: configure it under `extensions`"]


def test_a_failure_is_logged_with_its_traceback_where_it_has_a_cause(
    caplog: pytest.LogCaptureFixture,
) -> None:
    Host({"nowhere": EnvironmentConfig(), "exits": Exits, "twice": Twice}, discover=False)
    logged = {each.getMessage().split()[0]: each.exc_info for each in caplog.records}
    assert {name: bool(info) for name, info in logged.items()} == {
        "exits": True,
        "nowhere": False,
        "twice": True,
    }
    assert "nowhere is not served: no environment plugin is named 'nowhere'" in caplog.text


def test_a_blocked_name_that_nothing_has_is_said(caplog: pytest.LogCaptureFixture) -> None:
    Host({"world": World}, blocked=["wrold", "world"], discover=False)
    (said,) = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert said == "'wrold' is blocked, and nothing here has that name"
