"""What a wrapper sees of an awaited hook, and what it may do about it."""

import inspect
from collections.abc import Callable, Generator
from typing import Any

import anyio
import pytest

from gymhost import hookimpl
from gymhost.errors import CallTimeout, HookError
from tests.chains import VERIFY, World, compiled

Wrapper = Generator[Any, Any, Any]


class Around:
    """An extension whose wrapper of verify is a given generator function."""

    def __init__(self, generator: Callable[[], Wrapper]) -> None:
        self.generator = generator

    @hookimpl(wrapper=True)
    def verify(self) -> Wrapper:
        return (yield from self.generator())


class Fails(World):
    async def verify(self, session: Any, trajectory: Any) -> float:
        await anyio.lowlevel.checkpoint()
        raise LookupError("no such city")


class Sleeps(World):
    """Notes what ends its sleep."""

    ended_by: BaseException | None = None

    async def verify(self, session: Any, trajectory: Any) -> float:
        try:
            await anyio.sleep_forever()
        except BaseException as exc:
            self.ended_by = exc
            raise
        return 1.0


async def value(of: Any) -> Any:
    """Wait a moment, and return or raise `of`."""
    await anyio.lowlevel.checkpoint()
    if isinstance(of, Exception):
        raise of
    return of


async def run(environment: World, *generators: Callable[[], Wrapper], seconds: float = 5) -> Any:
    """Verify inside wrappers, the last of which is the outermost."""
    chain = compiled("verify", environment, *map(Around, generators))
    with anyio.fail_after(10):
        return await chain(VERIFY, seconds)


async def test_a_wrapper_is_sent_the_awaited_result() -> None:
    seen = []

    def wrapper() -> Wrapper:
        result = yield
        seen.append(result)
        return result

    assert await run(World(0.5), wrapper) == 0.5
    assert seen == [0.5]


async def test_a_wrapper_is_thrown_the_real_exception_and_may_replace_or_swallow_it() -> None:
    def replaces() -> Wrapper:
        try:
            yield
        except LookupError as exc:
            raise ValueError("replaced") from exc

    def swallows() -> Wrapper:
        try:
            return (yield)
        except ValueError as exc:
            return str(exc)

    with pytest.raises(ValueError, match="replaced") as caught:
        await run(Fails(), replaces)
    assert str(caught.value.__cause__) == "no such city"
    assert await run(Fails(), replaces, swallows) == "replaced"


async def test_a_wrapper_may_replace_the_result() -> None:
    def doubles() -> Wrapper:
        return 2 * (yield)

    def forgets() -> Wrapper:
        yield

    assert await run(World(0.25), doubles, doubles) == 1.0
    assert await run(World(0.25), forgets) is None


async def test_a_wrapper_sees_the_limits_timeout() -> None:
    seen = []

    def wrapper() -> Wrapper:
        try:
            return (yield)
        except CallTimeout as exc:
            seen.append(exc)
            raise

    with pytest.raises(CallTimeout) as caught:
        await run(Sleeps(), wrapper, seconds=0.01)
    assert seen == [caught.value]


async def test_a_wrapper_may_limit_the_time_with_fail_after() -> None:
    def wrapper() -> Wrapper:
        with anyio.fail_after(0.01):
            return (yield)

    environment = Sleeps()
    with pytest.raises(TimeoutError):
        await run(environment, wrapper)
    assert isinstance(environment.ended_by, anyio.get_cancelled_exc_class())
    assert await run(World(0.5), wrapper) == 0.5


async def test_a_wrapper_may_limit_the_time_with_move_on_after() -> None:
    def wrapper() -> Wrapper:
        with anyio.move_on_after(0.01):
            return (yield)
        return "given up"

    environment = Sleeps()
    assert await run(environment, wrapper) == "given up"
    assert isinstance(environment.ended_by, anyio.get_cancelled_exc_class())
    assert await run(World(0.5), wrapper) == 0.5


async def test_a_wrapper_sees_cancellation_and_may_clean_up_shielded() -> None:
    log: list[Any] = []

    def inner() -> Wrapper:
        try:
            return (yield)
        except BaseException as exc:
            log.append(type(exc))
            raise
        finally:
            with anyio.CancelScope(shield=True):
                log.append((yield value("cleaned up")))

    def outer() -> Wrapper:
        try:
            return (yield)
        finally:
            log.append("outer")

    with anyio.move_on_after(0.01) as scope:
        await run(Sleeps(), inner, outer)
    assert scope.cancelled_caught
    assert log == [anyio.get_cancelled_exc_class(), "cleaned up", "outer"]


async def test_a_wrapper_is_sent_what_it_waits_for() -> None:
    def wrapper() -> Wrapper:
        before = yield value("before")
        result = yield
        after = yield value("after")
        again = yield value("again")
        return [before, result, after, again]

    assert await run(World(0.5), wrapper) == ["before", 0.5, "after", "again"]


async def test_a_wrapper_is_thrown_what_it_waits_for() -> None:
    def wrapper() -> Wrapper:
        with pytest.raises(LookupError, match="before"):
            yield value(LookupError("before"))
        result = yield
        with pytest.raises(LookupError, match="after"):
            yield value(LookupError("after"))
        return result

    assert await run(World(0.5), wrapper) == 0.5


async def test_what_a_wrapper_waits_for_and_does_not_handle_fails_the_hook() -> None:
    def before() -> Wrapper:
        yield value(LookupError("before"))
        return (yield)

    def after() -> Wrapper:
        yield
        yield value(LookupError("after"))

    for wrapper in (before, after):
        with pytest.raises(LookupError, match=wrapper.__name__):
            await run(World(), wrapper)


async def test_a_wrapper_may_wait_in_the_face_of_an_error() -> None:
    def wrapper() -> Wrapper:
        try:
            yield
        except LookupError:
            return (yield value("a second opinion"))

    assert await run(Fails(), wrapper) == "a second opinion"


async def test_where_a_setup_raises_those_already_entered_are_thrown_the_error() -> None:
    log = []

    class Verified(World):
        async def verify(self, session: Any, trajectory: Any) -> float:
            log.append("verify")
            return 1.0

    def inner() -> Wrapper:
        log.append("inner")
        yield

    def broken() -> Wrapper:
        raise KeyError("setup")
        yield

    def outer() -> Wrapper:
        try:
            yield
        except KeyError as exc:
            log.append(exc.args[0])
            raise

    with pytest.raises(KeyError, match="setup"):
        await run(Verified(), inner, broken, outer)
    assert log == ["setup"]


def yields_nothing() -> Wrapper:
    return 1.0
    yield


def yields_twice() -> Wrapper:
    yield
    yield


def yields_again_after_an_error() -> Wrapper:
    try:
        yield
    except LookupError:
        yield


def yields_a_number_before() -> Wrapper:
    yield 5
    yield


def yields_a_number_after() -> Wrapper:
    yield
    yield 5


@pytest.mark.parametrize(
    ("wrapper", "environment", "complaint"),
    [
        (yields_nothing, World(), "a wrapper of 'verify' did not yield: Around.verify"),
        (yields_twice, World(), "a wrapper of 'verify' yielded twice: Around.verify"),
        (yields_again_after_an_error, Fails(), "a wrapper of 'verify' yielded twice"),
        (yields_a_number_before, World(), "Around.verify yielded 5: a wrapper yields nothing, or"),
        (yields_a_number_after, World(), "Around.verify yielded 5: a wrapper yields nothing, or"),
    ],
)
async def test_a_wrapper_that_breaks_the_rules_fails_the_hook_and_is_closed(
    wrapper: Callable[[], Wrapper], environment: World, complaint: str
) -> None:
    generators: list[Wrapper] = []
    seen = []

    def kept() -> Wrapper:
        generators.append(wrapper())
        return (yield from generators[0])

    def outer() -> Wrapper:
        try:
            return (yield)
        except HookError as exc:
            seen.append(exc)
            raise

    with pytest.raises(HookError, match=complaint) as caught:
        await run(environment, kept, outer)
    assert seen == [caught.value]
    assert inspect.getgeneratorstate(generators[0]) == inspect.GEN_CLOSED
    if isinstance(environment, Fails):
        assert isinstance(caught.value.__cause__, LookupError)


async def test_a_wrapper_names_the_arguments_it_wants() -> None:
    class Curious:
        @hookimpl(wrapper=True)
        def verify(self, environment: str, trajectory: Any, session: Any = None) -> Wrapper:
            return [(yield), environment, trajectory, session]

    class Positional:
        @hookimpl(wrapper=True)
        def verify(self, session: Any, environment: str, /) -> Wrapper:
            return [*(yield), environment, session]

    chain = compiled("verify", World(0.5), Curious(), Positional())
    assert await chain(VERIFY, 5) == [
        0.5,
        "world",
        "the trajectory",
        "the session",
        "world",
        "the session",
    ]


async def test_a_wrapper_is_around_a_plain_def_too() -> None:
    class Plain(World):
        def verify(self, session: Any, trajectory: Any) -> float:
            raise LookupError("from the thread")

    def wrapper() -> Wrapper:
        try:
            yield
        except LookupError as exc:
            return str(exc)

    assert await run(Plain(), wrapper) == "from the thread"
