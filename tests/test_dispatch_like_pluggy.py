"""The same synchronous hooks, called by pluggy and awaited by dispatch, do the same."""

from collections.abc import Generator
from typing import Any

import pluggy
from hypothesis import given
from hypothesis import strategies as st

from gymhost import hookimpl
from gymhost.errors import HookError
from gymhost.hookspecs import PROJECT
from tests.chains import VERIFY, World, compiled

BEHAVIOURS = ["pass", "replace", "swallow", "raise", "raise in setup", "did not yield"]
FAILURES = (LookupError, OSError, RuntimeError, ValueError, HookError)
ORDERS: list[dict[str, bool]] = [{}, {"tryfirst": True}, {"trylast": True}]

Wrappers = list[tuple[str, dict[str, bool]]]


class Specs:
    """gymhost's verify, as a hook that plain pluggy calls for one result."""

    @pluggy.HookspecMarker(PROJECT)(firstresult=True)
    def verify(self, environment: str, session: Any, trajectory: Any) -> Any: ...


class Plain(World):
    def __init__(self, log: list[Any], *, fails: bool) -> None:
        super().__init__()
        self.log, self.fails = log, fails

    def verify(self, session: Any, trajectory: Any) -> Any:
        self.log.append("verify")
        if self.fails:
            raise LookupError("verify")
        return ["verify"]


def wrapping(name: str, behaviour: str, order: dict[str, bool], log: list[Any]) -> object:
    """Return an extension that logs what it sees of verify, and then does as it is told."""

    class Logs:
        @hookimpl(wrapper=True, **order)
        def verify(self) -> Generator[None, Any, Any]:
            log.append(f"{name} enters")
            if behaviour == "raise in setup":
                raise OSError(name)
            if behaviour == "did not yield":
                return None
            try:
                result = yield
            except Exception as exc:
                log.append((name, described(exc)))
                if behaviour != "swallow":
                    raise
                return [name]
            log.append((name, result))
            if behaviour == "raise":
                raise ValueError(name)
            return [*result, name] if behaviour == "replace" else result

    return Logs()


def described(error: Exception) -> str:
    return "did not yield" if "did not yield" in str(error) else repr(error)


@given(
    wrappers=st.lists(st.tuples(st.sampled_from(BEHAVIOURS), st.sampled_from(ORDERS)), max_size=5),
    fails=st.booleans(),
)
async def test_wrappers_nest_and_act_as_in_pluggy(wrappers: Wrappers, fails: bool) -> None:
    assert await log_of_dispatch(wrappers, fails) == log_of_pluggy(wrappers, fails)


def log_of_pluggy(wrappers: Wrappers, fails: bool) -> list[Any]:
    log: list[Any] = []
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(Specs)
    for plugin in plugins(wrappers, fails, log):
        manager.register(plugin)
    try:
        log.append(manager.hook.verify(environment="world", **VERIFY))
    except FAILURES as exc:
        log.append(described(exc))
    return log


async def log_of_dispatch(wrappers: Wrappers, fails: bool) -> list[Any]:
    log: list[Any] = []
    environment, *extensions = plugins(wrappers, fails, log)
    assert isinstance(environment, Plain)
    try:
        log.append(await compiled("verify", environment, *extensions)(VERIFY, 5))
    except FAILURES as exc:
        log.append(described(exc))
    return log


def plugins(wrappers: Wrappers, fails: bool, log: list[Any]) -> list[object]:
    extensions = (
        wrapping(f"wrapper {number}", behaviour, order, log)
        for number, (behaviour, order) in enumerate(wrappers)
    )
    return [Plain(log, fails=fails), *extensions]
