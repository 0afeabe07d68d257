"""Tool calls wait and fail as configured, through gymhost's own test client."""

from collections.abc import Mapping
from typing import Any

import anyio
import pytest
from gym_ext_tool_latency import ToolLatency

from gymhost import (
    Environment,
    EnvironmentConfig,
    Session,
    Task,
    ToolError,
    ToolOutcome,
    Trajectory,
    Wrapper,
    hookimpl,
    testing,
    tool,
)
from gymhost.client import ApiError, Client, Episode

pytestmark = pytest.mark.anyio  # on asyncio and on trio

UNAVAILABLE = "The service is unavailable. Try again later."
AN_HOUR = 3600


class Shop(Environment):
    """Counts the calls that reached its tools."""

    def __init__(self) -> None:
        self.reached = 0

    @tool
    async def look(self) -> str:
        """Look."""
        self.reached += 1
        return "a pear"

    @tool(timeout=0.01)
    async def buy(self) -> str:
        """Buy."""
        self.reached += 1
        return "bought"

    async def verify(self, session: Session, trajectory: Trajectory) -> float:
        return sum(call.ok for call in session.calls)


async def answers(episode: Episode, number: int, name: str = "look") -> list[str]:
    return [(await episode.call_tool(name)).text for _ in range(number)]


async def pattern(client: Client, number: int = 30, **metadata: Any) -> list[bool]:
    """Return which calls of an episode failed."""
    async with client.episode("shop", Task(verifier_metadata=metadata)) as episode:
        return [text == UNAVAILABLE for text in await answers(episode, number)]


async def test_without_options_it_does_nothing() -> None:
    shop = Shop()
    async with testing.client({"shop": shop}, extensions=[ToolLatency]) as client:
        assert await pattern(client) == [False] * 30
    assert shop.reached == 30


async def test_an_injected_error_is_the_agents_to_read_and_masks_nothing() -> None:
    shop = Shop()
    async with testing.client({"shop": shop}, extensions=[ToolLatency(error_rate=1)]) as client:
        async with client.episode("shop") as episode:
            answer = await episode.call_tool("look")
            assert (answer.text, answer.is_error) == (UNAVAILABLE, True)
            record = await episode.record()
            assert await episode.verify() == {"reward": 0.0}
        counts = (await client.environment("shop"))["counts"]
    (call,) = record["calls"]
    assert (call["name"], call["kind"]) == ("look", "injected_error")
    assert counts["injected_error"] == 1
    assert shop.reached == 0


async def test_other_extensions_see_an_injected_error_as_the_tools() -> None:
    class Retries:
        @hookimpl(wrapper=True)
        def call_tool(self) -> Wrapper[ToolOutcome]:
            try:
                return (yield)
            except ToolError as exc:
                return ToolOutcome.ok(f"seen: {exc}")

    extensions = [ToolLatency(error_rate=1, error_text="503"), Retries]
    async with testing.client({"shop": Shop}, extensions=extensions) as client:
        async with client.episode("shop") as episode:
            assert await answers(episode, 1) == ["seen: 503"]


async def test_the_agent_reads_one_of_several_texts() -> None:
    latency = ToolLatency(error_rate=1, error_text=["503", "timed out"])
    async with testing.client({"shop": Shop}, extensions=[latency]) as client:
        async with client.episode("shop") as episode:
            assert set(await answers(episode, 30)) == {"503", "timed out"}


async def test_the_delay_is_in_the_record_and_not_in_the_tools_own_time() -> None:
    async with testing.client({"shop": Shop}, extensions=[ToolLatency(0.05)]) as client:
        async with client.episode("shop") as episode:
            assert await answers(episode, 1, "buy") == ["bought"]  # its timeout is shorter
            (call,) = (await episode.record())["calls"]
    assert call["duration"] > 0.045


async def test_a_delay_holds_up_no_other_session_and_leaves_cleanly_when_cancelled() -> None:
    latency = ToolLatency(environments={"slow": {"delay_seconds": AN_HOUR, "error_rate": 1}})
    async with testing.client({"slow": Shop, "shop": Shop}, extensions=[latency]) as client:
        async with client.episode("slow") as waiting, client.episode("shop") as other:
            with anyio.fail_after(10):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(waiting.call_tool, "look")
                    while client.host.mounts["slow"].calls_in_flight == 0:
                        await anyio.lowlevel.checkpoint()
                    assert await answers(other, 2) == ["a pear", "a pear"]
                    assert client.host.mounts["slow"].calls_in_flight == 1
                    tasks.cancel_scope.cancel()
                while client.host.mounts["slow"].calls_in_flight:
                    await anyio.lowlevel.checkpoint()
                (call,) = (await waiting.record())["calls"]
                assert call["kind"] == "cancelled"
                with pytest.raises(ApiError) as masked:
                    await waiting.verify()
                assert masked.value.failure_kind == "cancelled"


# -- which calls -----------------------------------------------------------------------------------

FAILS: dict[str, Any] = {"error_rate": 1}
WORKS: dict[str, Any] = {"error_rate": 0}


@pytest.mark.parametrize(
    ("options", "failing"),
    [
        (FAILS, {"here.look", "here.buy", "there.look", "there.buy"}),
        ({**FAILS, "environments": {"here": WORKS}}, {"there.look", "there.buy"}),
        ({"environments": {"here": FAILS}}, {"here.look", "here.buy"}),
        ({"environments": {"here": {"tools": {"look": FAILS}}}}, {"here.look"}),
        ({"environments": {"here": {**FAILS, "tools": {"look": WORKS}}}}, {"here.buy"}),
        (
            {**FAILS, "environments": {"here": {"tools": {"buy": WORKS}}}},
            {"here.look", "there.look", "there.buy"},
        ),
        ({"environments": {}}, set()),
        ({"error_rate": 0.0, "delay_seconds": 0}, set()),
    ],
)
async def test_the_most_specific_options_count(
    options: Mapping[str, Any], failing: set[str]
) -> None:
    found: set[str] = set()
    environments = {"here": Shop, "there": Shop}
    async with testing.client(environments, extensions=[ToolLatency(**options)]) as client:
        for environment in environments:
            async with client.episode(environment) as episode:
                for name in ("look", "buy"):
                    if (await episode.call_tool(name)).is_error:
                        found.add(f"{environment}.{name}")
    assert found == failing


async def test_what_a_tools_options_leave_out_is_its_environments() -> None:
    tools = {"look": {"error_text": "of the tool"}}
    environments = {"shop": {"error_rate": 1, "error_text": "of the environment", "tools": tools}}
    latency = ToolLatency(error_text="of all", environments=environments)
    async with testing.client({"shop": Shop}, extensions=[latency]) as client:
        async with client.episode("shop") as episode:
            assert await answers(episode, 1, "look") == ["of the tool"]
            assert await answers(episode, 1, "buy") == ["of the environment"]


async def test_an_environment_that_is_not_mounted_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    latency = ToolLatency(environments={"shop": FAILS, "shpo": FAILS, "here": FAILS})
    async with testing.client({"shop": Shop}, extensions=[latency]) as client:
        await pattern(client, 2)
    said = [each.message for each in caplog.records if each.name == "gym_ext_tool_latency"]
    assert said == ["no environment is named here, shpo: their faults are never injected"]


# -- reproducible ----------------------------------------------------------------------------------


async def test_a_task_with_a_random_seed_meets_the_same_faults_again() -> None:
    patterns = []
    for _ in range(2):
        latency = ToolLatency(error_rate=0.5)
        async with testing.client({"shop": Shop}, extensions=[latency]) as client:
            patterns.append(await pattern(client, random_seed=7))
            assert await pattern(client, random_seed=8) != patterns[0]
            assert await pattern(client, random_seed=0) != await pattern(client, random_seed="0")
    assert patterns[0] == patterns[1]
    # and on every machine
    assert "".join("x" if failed else "." for failed in patterns[0]) == (
        "...xxx..x.xx.xxx..xx..xxx..xxx"
    )
    latency = ToolLatency(error_rate=0.5, random_seed=1)
    async with testing.client({"shop": Shop}, extensions=[latency]) as client:
        assert await pattern(client, random_seed=7) != patterns[0]


async def test_faults_do_not_depend_on_what_other_sessions_do() -> None:
    task = Task(verifier_metadata={"random_seed": 7})
    async with testing.client({"shop": Shop}, extensions=[ToolLatency(error_rate=0.5)]) as client:
        alone = await pattern(client, random_seed=7)
        async with client.episode("shop", task) as first, client.episode("shop", task) as second:
            beside: list[bool] = []
            for number in range(30):
                beside += [text == UNAVAILABLE for text in await answers(first, 1)]
                await answers(second, number % 3)
    assert beside == alone


async def test_the_delay_does_not_change_which_calls_fail() -> None:
    found = []
    for delay in (0, [0.0, 0.001], {"p50": 0.0001, "p99": 0.001}):
        latency = ToolLatency(delay, 0.5)
        async with testing.client({"shop": Shop}, extensions=[latency]) as client:
            found.append(await pattern(client, random_seed=7))
    assert found[0] == found[1] == found[2]


async def test_sessions_of_a_task_without_a_random_seed_meet_faults_of_their_own() -> None:
    async with testing.client({"shop": Shop}, extensions=[ToolLatency(error_rate=0.5)]) as client:
        assert await pattern(client) != await pattern(client)


async def test_two_environments_meet_faults_of_their_own() -> None:
    configs = {"shop": EnvironmentConfig(plugin=Shop), "other": EnvironmentConfig(plugin=Shop)}
    task = Task(verifier_metadata={"random_seed": 7})
    async with testing.client(configs, extensions=[ToolLatency(error_rate=0.5)]) as client:
        async with client.episode("other", task) as episode:
            other = [text == UNAVAILABLE for text in await answers(episode, 30)]
        assert other != await pattern(client, random_seed=7)
