"""Environments and wrappers that fail: an exact answer each time, and a good one after it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import anyio
import pytest

from gymhost import hookimpl
from gymhost.config import EnvironmentConfig
from gymhost.limits import Limits
from tests.environments import Broken, BrokenInThreads, Diary
from tests.served import Served, serve

CANARY = "canary-of-the-cause"

# Made anew for each test: an exception keeps its traceback. None hangs.
CRASHES: dict[str, Callable[[], BaseException]] = {
    "an exception": lambda: ValueError(CANARY),
    "sys.exit": lambda: SystemExit(CANARY),
    "a group": lambda: ExceptionGroup(CANARY, [ValueError(CANARY)]),
    "a group with sys.exit": lambda: BaseExceptionGroup(CANARY, [SystemExit(CANARY)]),
    "StopIteration": lambda: StopIteration(CANARY),
    "TimeoutError": lambda: TimeoutError(CANARY),
}
WAYS = [*CRASHES, "hangs"]
KINDS = [Broken, BrokenInThreads]
LIMITED = {
    "startup": "startup_seconds",
    "seed": "seed_seconds",
    "allowed_tools": "seed_seconds",
    "tool": "tool_seconds",
    "verify": "verify_seconds",
    "close": "close_seconds",
}


def broken(kind: type[Broken], where: str, how: str) -> tuple[Broken, EnvironmentConfig]:
    """An environment that fails in one hook; where it hangs, that hook alone has little time."""
    environment = kind(where, None if how == "hangs" else CRASHES[how]())
    limits = Limits(**{LIMITED[where]: 0.05}) if how == "hangs" else Limits()
    return environment, EnvironmentConfig(plugin=environment, limits=limits)


def mend(served: Served, environment: Broken) -> None:
    """Let an environment work again, with all the time that a slow machine may need."""
    environment.mend()
    served.mount("broken").limits = Limits()


async def check_that_all_is_well(served: Served, *names: str) -> None:
    """A whole episode in each environment."""
    for name in names:
        session = await served.seed(name)
        outcome = await served.call(
            session,
            "work" if name == "broken" else "write",
            **({} if name == "broken" else {"note": "a"}),
        )
        assert not outcome.is_error, name
        assert (await served.verify(session)).json()["reward"] == 1.0, name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("where", ["seed", "allowed_tools"])
async def test_a_seed_that_fails_is_an_error_and_the_next_one_is_not(
    where: str, how: str, kind: type[Broken]
) -> None:
    environment, config = broken(kind, where, how)
    async with serve({"broken": config, "diary": Diary()}) as served:
        with anyio.fail_after(5):
            answer = await served.post("broken", "seed_session", {})
        expected = (504, "environment_timeout") if how == "hangs" else (502, "environment_error")
        assert (answer.status_code, answer.json()["failure_kind"]) == expected
        assert answer.json()["mask_sample"] is True
        assert CANARY not in answer.text
        counts = served.mount("broken").counts
        assert (counts[expected[1]], counts["seed_failed"]) == (1, 1)
        mend(served, environment)
        await check_that_all_is_well(served, "broken", "diary")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", WAYS)
async def test_a_tool_that_fails_is_a_tool_error(how: str, kind: type[Broken]) -> None:
    environment, config = broken(kind, "tool", how)
    async with serve({"broken": config, "diary": Diary()}) as served:
        session = await served.seed("broken")
        with anyio.fail_after(5):
            outcome = await served.call(session, "work")
        assert outcome.is_error
        if how == "hangs":
            assert outcome.text == "The tool took longer than 0.05 s and was given up."
        else:
            assert outcome.text == "The tool failed."
        mend(served, environment)
        assert (await served.call(session, "work")).text == "done"
        answer = await served.verify(session)
        assert answer.status_code == (200 if how == "hangs" else 502)
        assert CANARY not in answer.text
        assert CANARY not in str(await served.record(session))
        await check_that_all_is_well(served, "broken", "diary")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", WAYS)
async def test_a_verify_that_fails_is_an_error_and_may_score_later(
    how: str, kind: type[Broken]
) -> None:
    environment, config = broken(kind, "verify", how)
    async with serve({"broken": config, "diary": Diary()}) as served:
        session = await served.seed("broken")
        with anyio.fail_after(5):
            answer = await served.verify(session)
        expected = (504, "environment_timeout") if how == "hangs" else (502, "environment_error")
        assert (answer.status_code, answer.json()["failure_kind"]) == expected
        assert CANARY not in answer.text
        mend(served, environment)
        assert (await served.verify(session)).json()["reward"] == 1.0
        await check_that_all_is_well(served, "broken", "diary")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", WAYS)
async def test_a_close_that_fails_is_noted_and_nothing_else(how: str, kind: type[Broken]) -> None:
    environment, config = broken(kind, "close", how)
    async with serve({"broken": config, "diary": Diary()}) as served:
        scored, closed = await served.seed("broken"), await served.seed("broken")
        with anyio.fail_after(5):
            assert (await served.verify(scored)).json()["reward"] == 1.0
            assert (await served.close(closed)).json()["status"] == "closed"
        assert served.mount("broken").counts["close_failed"] == 2
        mend(served, environment)
        await check_that_all_is_well(served, "broken", "diary")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", WAYS)
async def test_an_environment_that_does_not_start_is_out_alone(
    how: str, kind: type[Broken]
) -> None:
    environment, config = broken(kind, "startup", how)
    try:
        async with serve({"broken": config, "diary": Diary()}, strict=False) as served:
            answer = await served.post("broken", "seed_session", {})
            assert (answer.status_code, answer.json()["failure_kind"]) == (503, "environment_error")
            listed = (await served.http.get("/envs")).json()
            assert [each["name"] for each in listed["environments"]] == ["diary"]
            (failed,) = listed["failed"]
            assert (failed["name"], failed["status"]) == ("broken", "failed")
            assert failed["reason"]
            ready = (await served.http.get("/readyz")).json()
            assert ready == {"status": "ready", "degraded": 0, "failed": 1, "store": "ok"}
            await check_that_all_is_well(served, "diary")
    finally:
        environment.release.set()  # the thread that hangs


@pytest.mark.parametrize("how", ["an exception", "sys.exit", "a group", "StopIteration"])
async def test_an_environment_that_can_not_be_made_is_out_alone(how: str) -> None:
    class Unmakeable(Diary):
        def __init__(self) -> None:
            raise CRASHES[how]()

    async with serve({"unmakeable": Unmakeable, "diary": Diary()}, strict=False) as served:
        answer = await served.post("unmakeable", "seed_session", {})
        assert (answer.status_code, answer.json()["failure_kind"]) == (503, "environment_error")
        await check_that_all_is_well(served, "diary")


async def test_stuck_threads_are_counted_until_the_environment_reads_as_degraded() -> None:
    environment = BrokenInThreads("tool", None)
    limits = Limits(tool_seconds=0.05, stuck_threads=1)
    config = EnvironmentConfig(plugin=environment, limits=limits)
    async with serve({"broken": config, "diary": Diary()}) as served:
        session = await served.seed("broken")
        with anyio.fail_after(5):
            for stuck, status in ((1, "up"), (2, "degraded")):
                await served.call(session, "work")
                shown = (await served.http.get("/envs/broken")).json()
                assert (shown["status"], shown["use"]["stuck_threads"]) == (status, stuck)
        ready = await served.http.get("/readyz")
        assert (ready.status_code, ready.json()["degraded"]) == (200, 1)
        assert ready.json()["status"] == "degraded"
        mend(served, environment)
        await check_that_all_is_well(served, "broken", "diary")


class SetupRaises:
    """A wrapper whose setup raises."""

    def _wrap(self) -> Generator[None, Any, Any]:
        raise ValueError(CANARY)
        yield

    @hookimpl(wrapper=True)
    def seed(self, environment: str) -> Generator[None, Any, Any]:
        return (yield from self._wrap()) if environment == "seed" else (yield)

    @hookimpl(wrapper=True)
    def call_tool(self, environment: str) -> Generator[None, Any, Any]:
        return (yield from self._wrap()) if environment == "call_tool" else (yield)

    @hookimpl(wrapper=True)
    def verify(self, environment: str) -> Generator[None, Any, Any]:
        return (yield from self._wrap()) if environment == "verify" else (yield)


class YieldsTwice(SetupRaises):
    """A wrapper that yields once more than it may."""

    def _wrap(self) -> Generator[None, Any, Any]:
        yield
        return (yield)


class NeverYields(SetupRaises):
    """A wrapper that returns at once."""

    def _wrap(self) -> Generator[None, Any, Any]:
        return None
        yield


@pytest.mark.parametrize("wrapper", [SetupRaises, YieldsTwice, NeverYields])
async def test_a_wrapper_that_breaks_the_rules_is_an_environment_error(
    wrapper: type[SetupRaises],
) -> None:
    names = ("seed", "call_tool", "verify", "fine")
    diaries = {name: Diary() for name in names}
    async with serve(diaries, extensions=[wrapper]) as served:
        seed = await served.post("seed", "seed_session", {})
        assert (seed.status_code, seed.json()["failure_kind"]) == (502, "environment_error")

        session = await served.seed("call_tool")
        outcome = await served.call(session, "write", note="a")
        assert (outcome.is_error, outcome.text) == (True, "The tool failed.")
        record = await served.record(session)
        assert [call["kind"] for call in record["calls"]] == ["environment_error"]
        assert record["state"] == {"notes": []}
        assert (await served.verify(session)).status_code == 502

        session = await served.seed("verify")
        assert not (await served.call(session, "write", note="a")).is_error
        verify = await served.verify(session)
        assert (verify.status_code, verify.json()["failure_kind"]) == (502, "environment_error")
        assert (await served.record(session))["status"] == "verify_failed"

        for answer in (seed, verify):
            assert CANARY not in answer.text
        await check_that_all_is_well(served, "fine")
