"""What wrappers are sent has been checked, whoever returned it."""

import math
from collections.abc import Callable, Generator
from typing import Any

import anyio
import pytest

from gymhost import (
    Environment,
    Session,
    Task,
    ToolCall,
    ToolOutcome,
    Trajectory,
    VerifyResult,
    Wrapper,
    hookimpl,
    tool,
)
from gymhost.client import ApiError
from gymhost.testing import client
from tests.chains import VERIFY, World, compiled


class Around:
    """An extension whose wrapper of a hook notes what it sees, and returns what it is told."""

    def __init__(self, change: Callable[[Any], Any] = lambda result: result) -> None:
        self.change = change
        self.seen: list[Any] = []

    def _wrap(self) -> Generator[None, Any, Any]:
        try:
            result = yield
        except Exception as exc:
            self.seen.append(exc)
            raise
        self.seen.append(result)
        return self.change(result)

    @hookimpl(wrapper=True)
    def verify(self) -> Generator[None, Any, Any]:
        return (yield from self._wrap())


class AroundSeed(Around):
    verify = None

    @hookimpl(wrapper=True)
    def seed(self) -> Generator[None, Any, Any]:
        return (yield from self._wrap())


class AroundCalls(Around):
    verify = None

    @hookimpl(wrapper=True)
    def call_tool(self) -> Generator[None, Any, Any]:
        return (yield from self._wrap())


# -- one chain -------------------------------------------------------------------------------------


def as_percent(value: Any) -> str:
    if not isinstance(value, float | str):
        raise TypeError(f"no score: {value!r}")
    return value if isinstance(value, str) else f"{value:.0%}"


async def test_each_wrapper_is_sent_what_the_check_makes_of_the_result() -> None:
    inner, outer = Around(lambda result: 0.75), Around()
    chain = compiled("verify", World(0.5), inner, outer, check=as_percent)
    assert await chain(VERIFY, 5) == "75%"
    assert (inner.seen, outer.seen) == (["50%"], ["75%"])


async def test_without_wrappers_the_check_is_the_callers() -> None:
    assert await compiled("verify", World(0.5), check=as_percent)(VERIFY, 5) == 0.5


async def test_an_environments_wrong_result_is_raised_in_every_wrapper() -> None:
    inner, outer = Around(), Around()
    world = World(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="no score: None") as caught:
        await compiled("verify", world, inner, outer, check=as_percent)(VERIFY, 5)
    assert inner.seen == outer.seen == [caught.value]
    assert not hasattr(caught.value, "__notes__")


async def test_a_wrappers_wrong_result_is_raised_in_those_around_it_with_its_name() -> None:
    inner, outer = Around(lambda result: None), Around()
    with pytest.raises(TypeError, match="no score: None") as caught:
        await compiled("verify", World(0.5), inner, outer, check=as_percent)(VERIFY, 5)
    assert (inner.seen, outer.seen) == (["50%"], [caught.value])
    assert caught.value.__notes__ == ["Around.verify returned it, a wrapper of 'verify'"]


async def test_a_wrapper_may_replace_a_wrong_result() -> None:
    class Replaces:
        @hookimpl(wrapper=True)
        def verify(self) -> Generator[None, Any, Any]:
            try:
                return (yield)
            except TypeError:
                return 0.25

    world = World(None)  # type: ignore[arg-type]
    assert await compiled("verify", world, Replaces(), check=as_percent)(VERIFY, 5) == "25%"


# -- a host ----------------------------------------------------------------------------------------


class Plays(Environment):
    """Its hooks return what the test says."""

    def __init__(self, score: Any = 0.5, state: Any = None, outcome: Any = None) -> None:
        self.score, self.state, self.outcome = score, state, outcome

    async def seed(self, session: Session, task: Task) -> Any:
        return self.state_type() if self.state is None else self.state

    @tool
    async def look(self) -> str:
        """Look."""
        return "seen"

    @tool
    async def crash(self) -> str:
        """Fail."""
        raise RuntimeError("a bug")

    async def call_tool(self, session: Session, call: ToolCall) -> Any:
        return await super().call_tool(session, call) if self.outcome is None else self.outcome

    async def verify(self, session: Session, trajectory: Trajectory) -> Any:
        return self.score


class Scored(VerifyResult):
    """A result of an author's own."""

    steps: int


@pytest.mark.parametrize(
    "score", [0.5, 1, True, VerifyResult(reward=0.5, note="ü"), Scored(reward=0.5, steps=2)]
)
async def test_a_wrapper_of_verify_sees_a_verify_result_whatever_the_author_returned(
    score: Any,
) -> None:
    around = Around()
    async with client({"plays": Plays(score)}, extensions=[around]) as served:
        async with served.episode("plays") as episode:
            await episode.verify()
    (seen,) = around.seen
    assert type(seen) is (type(score) if isinstance(score, VerifyResult) else VerifyResult)
    assert seen == (score if isinstance(score, VerifyResult) else VerifyResult(reward=score))


WRONG: list[Any] = [
    None,
    "1",
    math.nan,
    VerifyResult(reward=1, note=math.inf),
    VerifyResult(reward=1, note=object()),
]


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("who", ["environment", "wrapper"])
async def test_what_is_no_score_is_an_environment_error_that_wrappers_see(
    who: str, wrong: Any, caplog: pytest.LogCaptureFixture
) -> None:
    inner = Around(lambda result: wrong if who == "wrapper" else result)
    outer = Around()
    plays = Plays(wrong if who == "environment" else 0.5)
    async with client({"plays": plays}, extensions=[inner, outer]) as served:
        async with served.episode("plays") as episode:
            with pytest.raises(ApiError, match="502 environment_error"):
                await episode.verify()
    assert [isinstance(seen, ValueError) for seen in (*inner.seen, *outer.seen)] == [
        who == "environment",
        True,
    ]
    named = "Around.verify returned it, a wrapper of 'verify'" in caplog.text
    assert named == (who == "wrapper")


async def test_a_wrapper_of_verify_may_return_a_number() -> None:
    inner, outer = Around(lambda result: result.reward / 2), Around()
    async with client({"plays": Plays()}, extensions=[inner, outer]) as served:
        async with served.episode("plays") as episode:
            assert (await episode.verify())["reward"] == 0.25
    assert outer.seen == [VerifyResult(reward=0.25)]


@pytest.mark.parametrize("state", [5, Task(), VerifyResult(reward=1)])
async def test_a_wrapper_of_seed_sees_no_state_of_another_type(state: Any) -> None:
    around = AroundSeed()
    async with client({"plays": Plays(state=state)}, extensions=[around]) as served:
        with pytest.raises(ApiError, match="502 environment_error"):
            await served.seed("plays")
    (seen,) = around.seen
    assert str(seen) == f"the state must be a NoState, not {type(state).__name__}"


async def test_a_wrapper_of_call_tool_sees_no_other_outcome() -> None:
    around = AroundCalls()
    async with client({"plays": Plays(outcome="seen")}, extensions=[around]) as served:
        async with served.episode("plays") as episode:
            assert (await episode.call_tool("look")).is_error
    (seen,) = around.seen
    assert str(seen) == "call_tool returned str, not ToolOutcome"


async def test_a_wrapper_of_call_tool_that_forgets_the_outcome_fails_the_call(
    caplog: pytest.LogCaptureFixture,
) -> None:
    around = AroundCalls(lambda outcome: None)
    async with client({"plays": Plays()}, extensions=[around]) as served:
        async with served.episode("plays") as episode:
            assert (await episode.call_tool("look")).text == "The tool failed."
    assert around.seen == [ToolOutcome.ok("seen")]
    assert "AroundCalls.call_tool returned it, a wrapper of 'call_tool'" in caplog.text


# -- what it knows of the session ------------------------------------------------------------------


class Knows:
    def __init__(self) -> None:
        self.known: list[tuple[str, int, str | None]] = []

    @hookimpl(wrapper=True)
    def verify(self, session: Session) -> Wrapper[VerifyResult]:
        self.known.append((session.id, session.call_count, session.failure_kind))
        yield anyio.lowlevel.checkpoint()
        return (yield)


async def test_a_wrapper_of_verify_knows_whether_the_sample_is_spoiled() -> None:
    knows = Knows()
    async with client({"plays": Plays()}, extensions=[knows]) as served:
        async with served.episode("plays") as sound, served.episode("plays") as spoiled:
            await sound.call_tool("look")
            await sound.call_tool("no_such_tool")
            await sound.verify()
            await spoiled.call_tool("crash")
            with pytest.raises(ApiError):
                await spoiled.verify()
    assert knows.known == [
        (sound.session_id, 2, None),
        (spoiled.session_id, 1, "environment_error"),
    ]


async def test_what_an_author_makes_of_the_failure_kind_unmasks_nothing() -> None:
    class Hides(Plays):
        async def verify(self, session: Session, trajectory: Trajectory) -> float:
            session.failure_kind = None
            return 1.0

    async with client({"plays": Hides()}) as served:
        async with served.episode("plays") as episode:
            await episode.call_tool("crash")
            with pytest.raises(ApiError, match="502 environment_error"):
                await episode.verify()
