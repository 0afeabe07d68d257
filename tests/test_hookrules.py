"""Hook implementations that pluggy would take in silence are refused as a plugin loads."""

from collections.abc import AsyncGenerator, Generator
from functools import lru_cache
from typing import Any

import pytest

from gymhost import Environment, Session, Trajectory, hookimpl, tool
from gymhost.host import Host
from gymhost.testing import client


class World(Environment):
    async def verify(self, session: Session, trajectory: Trajectory) -> float:
        return 1.0


class Unknown:
    @hookimpl(wrapper=True)
    def verfy(self) -> Generator[None, Any, Any]:
        return (yield)


class UnknownSpecname:
    @hookimpl(wrapper=True, specname="score")
    def verify(self) -> Generator[None, Any, Any]:
        return (yield)


class OldWrapper:
    @hookimpl(hookwrapper=True)  # type: ignore[call-overload]
    def verify(self) -> Generator[None, Any, Any]:
        return (yield)


class AsyncWrapper:
    @hookimpl(wrapper=True)
    async def verify(self) -> AsyncGenerator[None, Any]:
        yield


class CoroutineWrapper:
    @hookimpl(wrapper=True)
    async def verify(self) -> float:
        return 1.0


class NoGenerator:
    @hookimpl(wrapper=True)
    def verify(self) -> float:
        return 1.0


class NoWrapper:
    @hookimpl
    async def verify(self) -> float:
        return 1.0


class ForgottenWrapper:
    @hookimpl
    def startup(self) -> Generator[None, None, None]:
        yield


class Cached:
    @hookimpl(wrapper=True)
    @lru_cache  # noqa: B019
    def verify(self) -> Generator[None, Any, Any]:
        return (yield)


class Unmarked:
    def verify(self) -> Generator[None, Any, Any]:
        return (yield)


class UnmarkedStartup(Unknown):
    def startup(self) -> None: ...

    @hookimpl(wrapper=True, specname="verify")
    def verfy(self) -> Generator[None, Any, Any]:
        return (yield)


class AsyncRegister:
    @hookimpl
    async def register_environments(self, register: Any) -> None: ...


class WrappedRegister:
    @hookimpl(wrapper=True)
    def register_environments(self) -> Generator[None, Any, Any]:
        return (yield)


class WrongArgument:
    @hookimpl(wrapper=True)
    def verify(self, answer: str) -> Generator[None, Any, Any]:
        return (yield)


HOOKS = (
    "aggregate_metrics, allowed_tools, call_tool, close, register_agents, register_environments, "
    "seed, shutdown, startup, verify"
)

EXTENSIONS = [
    (Unknown, f"'verfy' is no hook. Hooks: {HOOKS}"),
    (UnknownSpecname, f"'score' is no hook. Hooks: {HOOKS}"),
    (OldWrapper, "'verify': use wrapper=True, not hookwrapper=True"),
    (AsyncWrapper, "'verify' is marked wrapper=True and is no generator: it must be a plain `def`"),
    (CoroutineWrapper, "'verify' is marked wrapper=True and is no generator: it must be a plain"),
    (NoGenerator, "'verify' is marked wrapper=True and is no generator: it must be a plain `def`"),
    (NoWrapper, "an extension can only wrap 'verify': mark 'verify' @hookimpl(wrapper=True)"),
    (ForgottenWrapper, "'startup' yields: only a wrapper may, @hookimpl(wrapper=True)"),
    (Cached, "'verify' is marked as a hook and is no plain method"),
    (Unmarked, "'verify' is named like a hook and not marked: use @hookimpl"),
    (UnmarkedStartup, "'startup' is named like a hook and not marked: use @hookimpl"),
    (AsyncRegister, "'register_environments': 'register_environments' is a plain `def`, and no"),
    (WrappedRegister, "'register_environments': 'register_environments' is a plain `def`, and"),
    (WrongArgument, "PluginValidationError: Plugin 'extension:WrongArgument' for hook 'verify'"),
    (object, "it is no Environment class, and implements no hook"),
    (World, "an instance of World is no extension: an environment is named by its class"),
]


@pytest.mark.parametrize(("extension", "reason"), EXTENSIONS)
async def test_an_extension_that_is_wrong_fails_alone(extension: type, reason: str) -> None:
    async with client({"world": World}, extensions=[extension], strict=False) as served:
        _, failed = sorted(served.host.records, key=lambda record: record.status, reverse=True)
        assert (failed.name, failed.kind, failed.status) == (
            extension.__name__,
            "extension",
            "failed",
        )
        assert failed.reason is not None
        assert failed.reason.startswith(reason)
        assert "\n" not in failed.reason
        async with served.episode("world") as episode:
            assert (await episode.verify())["reward"] == 1.0


class OldWrapped(World):
    @hookimpl(hookwrapper=True, specname="verify")  # type: ignore[call-overload]
    def old(self) -> Generator[None, Any, Any]:
        return (yield)


class Registers(World):
    @hookimpl(specname="register_environments")
    def more(self, register: Any) -> None: ...


class YieldsInStartup(World):
    def startup(self) -> Generator[None, None, None]:  # type: ignore[override]
        yield


class YieldsInAsyncStartup(World):
    async def startup(self) -> AsyncGenerator[None]:  # type: ignore[override]
        yield


class UnknownHook(World):
    @hookimpl
    async def score(self) -> float:
        return 1.0


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        (OldWrapped, "'old': use wrapper=True, not hookwrapper=True"),
        (Registers, "'more': 'register_environments' is for extensions, not for environments"),
        (YieldsInStartup, "'startup' yields: only a wrapper may, @hookimpl(wrapper=True)"),
        (YieldsInAsyncStartup, "'startup' yields: only a wrapper may, @hookimpl(wrapper=True)"),
        (UnknownHook, f"'score' is no hook. Hooks: {HOOKS}"),
    ],
)
def test_an_environment_that_is_wrong_fails_alone(environment: type, reason: str) -> None:
    host = Host({"bad": environment, "world": World}, discover=False)
    assert [(each.name, each.reason) for each in host.records] == [("bad", reason), ("world", None)]


def test_a_plugins_properties_are_not_asked_for() -> None:
    class Guarded(World):
        @property
        def simulator(self) -> object:
            raise RuntimeError("not started yet")

        @tool
        async def look(self) -> str:
            """Look."""
            return ""

    assert set(Host({"world": Guarded}, discover=False).mounts) == {"world"}


def test_a_value_that_has_every_attribute_is_no_hook() -> None:
    class Proxy:
        def __getattr__(self, name: str) -> Any:
            raise LookupError("no request is running")

    class Holds(World):
        def __init__(self) -> None:
            self.proxy = Proxy()

    assert set(Host({"world": Holds}, discover=False).mounts) == {"world"}


def test_methods_beside_an_extensions_hooks_are_its_own_business() -> None:
    class Helpful:
        @hookimpl(wrapper=True)
        def verify(self) -> Generator[None, Any, Any]:
            return (yield)

        def close(self) -> None: ...

        seed = 5

    assert [each.status for each in Host(extensions=[Helpful], discover=False).records] == ["up"]


@pytest.mark.parametrize("value", [staticmethod(print), classmethod(print), 5, property(print)])
def test_an_override_that_is_no_method_is_refused_at_once(value: object) -> None:
    with pytest.raises(Exception, match=r"Bad.seed must be a plain method"):
        type("Bad", (World,), {"seed": value})
