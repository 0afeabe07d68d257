"""Which implementation of a hook runs, with which arguments, where, and for how long."""

import functools
import gc
import threading
import weakref
from collections.abc import Generator
from contextvars import ContextVar
from typing import Any

import anyio
import pytest

from gymhost import Environment, Session, hookimpl
from gymhost.dispatch import compile_chain, create_plugin_manager
from gymhost.errors import CallTimeout, HookError
from gymhost.threads import Threads
from tests.chains import VERIFY, World, compiled


class Passes:
    """Wraps verify, and changes nothing."""

    @hookimpl(wrapper=True)
    def verify(self) -> Generator[None, float, float]:
        return (yield)


async def test_the_environment_that_is_asked_answers() -> None:
    first, second = World(0.25), World(0.75)
    assert await compiled("verify", first, second)(VERIFY, 5) == 0.25
    assert await compiled("verify", second, first)(VERIFY, 5) == 0.75


async def test_an_environment_that_registers_later_answers_for_itself_alone() -> None:
    manager = create_plugin_manager()
    first, later = World(0.25), World(0.75)
    threads = Threads(1)
    manager.register(first)
    manager.register(later)
    chain = compile_chain(
        manager, "verify", first, environment="world", siblings=[first], threads=threads
    )
    assert await chain(VERIFY, 5) == 0.25


async def test_a_hook_that_is_not_implemented_is_the_base_classs() -> None:
    chain = compiled("allowed_tools", World())
    assert await chain({"session": "s", "task": "t"}, 5) is None


async def test_an_implementation_may_have_another_name() -> None:
    class Renamed(World):
        @hookimpl(specname="allowed_tools")
        async def choose(self, task: Any) -> list[str]:
            return [task]

    assert await compiled("allowed_tools", Renamed())({"session": "s", "task": "t"}, 5) == ["t"]


def test_a_hook_that_is_implemented_twice_is_refused() -> None:
    class Twice(World):
        @hookimpl(specname="verify")
        async def another(self, session: Session, trajectory: Any) -> float:
            return 0.0

    with pytest.raises(HookError, match=r"'verify' is implemented more than once: another, verify"):
        compiled("verify", Twice())


async def test_an_implementation_names_the_arguments_it_wants() -> None:
    class Few(World):
        async def verify(self, environment: str, trajectory: Any) -> Any:  # type: ignore[override]
            return environment, trajectory

    class Defaults(World):
        async def verify(self, session: Any = None, trajectory: Any = None, extra: int = 3) -> Any:
            return session, trajectory, extra

    class Positional(World):
        async def verify(self, trajectory: Any, session: Any, /) -> Any:
            return session, trajectory

    session, trajectory = VERIFY.values()
    assert await compiled("verify", Few())(VERIFY, 5) == ("world", trajectory)
    assert await compiled("verify", Defaults())(VERIFY, 5) == (session, trajectory, 3)
    assert await compiled("verify", Positional())(VERIFY, 5) == (session, trajectory)


async def test_a_plain_def_runs_in_the_environments_threads_and_sees_the_context() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="unset")
    threads = Threads(1)

    class Plain(World):
        def verify(self, session: Session, trajectory: Any) -> Any:
            return variable.get(), threading.current_thread(), threads.in_use

    variable.set("set")
    value, thread, in_use = await compiled("verify", Plain(), threads=threads)(VERIFY, 5)
    assert value == "set"
    assert thread is not threading.current_thread()
    assert (in_use, threads.in_use) == (1, 0)


async def test_a_coroutine_that_a_decorator_hides_is_awaited() -> None:
    def logged(function: Any) -> Any:
        @functools.wraps(function)
        def call(*args: Any) -> Any:
            return function(*args)

        return call

    class Decorated(World):
        @logged
        async def verify(self, session: Session, trajectory: Any) -> Any:
            await anyio.lowlevel.checkpoint()
            return trajectory

    assert await compiled("verify", Decorated())(VERIFY, 5) == "the trajectory"


async def test_an_implementation_that_takes_too_long_is_a_call_timeout() -> None:
    class Slow(World):
        async def verify(self, session: Session, trajectory: Any) -> float:
            await anyio.sleep_forever()
            return 1.0

    with anyio.fail_after(5), pytest.raises(CallTimeout) as caught:
        await compiled("verify", Slow())(VERIFY, 0.01)
    assert str(caught.value) == "verify of 'world' took longer than 0.01 s"
    assert caught.value.seconds == 0.01


async def test_a_thread_that_takes_too_long_is_abandoned() -> None:
    release, threads = threading.Event(), Threads(1)

    class Slow(World):
        def verify(self, session: Session, trajectory: Any) -> float:
            release.wait(10)
            return 1.0

    try:
        with anyio.fail_after(5), pytest.raises(CallTimeout):
            await compiled("verify", Slow(), threads=threads)(VERIFY, 0.01)
    finally:
        release.set()


@pytest.mark.parametrize("wrapped", [False, True])
async def test_a_timeout_error_of_the_authors_own_stays_what_it_is(wrapped: bool) -> None:
    class Raises(World):
        async def verify(self, session: Session, trajectory: Any) -> float:
            raise TimeoutError("the simulator did not answer")

    class FailsAfter(World):
        async def verify(self, session: Session, trajectory: Any) -> float:
            with anyio.fail_after(0.01):
                await anyio.sleep_forever()
            return 1.0

    extensions = [Passes()] if wrapped else []
    with pytest.raises(TimeoutError, match="the simulator"):
        await compiled("verify", Raises(), *extensions)(VERIFY, 5)
    with anyio.fail_after(5), pytest.raises(TimeoutError):
        await compiled("verify", FailsAfter(), *extensions)(VERIFY, 5)


class Doubles(World):
    """Wraps its own verify."""

    @hookimpl(wrapper=True, specname="verify")
    def twice(self) -> Generator[None, float, float]:
        return 2 * (yield)


async def test_an_environments_own_wrapper_applies_to_itself_alone() -> None:
    doubles, other = Doubles(0.25), World(0.25)
    assert await compiled("verify", doubles, other)(VERIFY, 5) == 0.5
    assert await compiled("verify", other, doubles)(VERIFY, 5) == 0.25


async def test_a_wrapper_under_the_hooks_own_name_wraps_what_is_inherited() -> None:
    class Doubled(World):
        @hookimpl(wrapper=True)
        def verify(self) -> Generator[None, float, float]:  # type: ignore[override]
            return 2 * (yield)

        @hookimpl(wrapper=True)
        def allowed_tools(self) -> Generator[None, Any, Any]:  # type: ignore[override]
            assert (yield) is None
            return ["all"]

    assert await compiled("verify", Doubled(0.25))(VERIFY, 5) == 0.5
    assert await compiled("allowed_tools", Doubled())({"session": "s", "task": "t"}, 5) == ["all"]


def test_a_hook_that_is_wrapped_and_not_implemented_is_refused() -> None:
    class Hollow(Environment):
        @hookimpl(wrapper=True)
        def verify(self) -> Generator[None, float, float]:  # type: ignore[override]
            return (yield)

    with pytest.raises(HookError, match="'verify' is wrapped, and nothing implements it"):
        compiled("verify", Hollow())


async def test_a_failure_holds_on_to_nothing() -> None:
    """A trajectory may have megabytes: it goes with its call, not with the garbage collector."""

    class Fails(World):
        async def verify(self, session: Session, trajectory: Any) -> float:
            await anyio.lowlevel.checkpoint()
            raise ValueError("no score")

    class Notes:
        @hookimpl(wrapper=True)
        def verify(self, trajectory: Any) -> Generator[Any, float, float]:
            try:
                return (yield)
            finally:
                yield anyio.lowlevel.checkpoint()

    class Trajectory:
        pass

    chain = compiled("verify", Fails(), Notes(), Passes())
    gc.disable()
    try:
        trajectory = Trajectory()
        gone = weakref.ref(trajectory)
        with pytest.raises(ValueError, match="no score"):
            await chain({"session": "s", "trajectory": trajectory}, 5)
        del trajectory
        assert gone() is None
    finally:
        gc.enable()
