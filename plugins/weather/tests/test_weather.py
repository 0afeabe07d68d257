"""The weather environment, through gymhost's own test client: real HTTP application, real MCP."""

import pytest
from gym_env_weather import Weather

from gymhost import Task, testing
from gymhost.checking import play_tasks
from gymhost.client import McpMode

pytestmark = pytest.mark.anyio  # on asyncio and on trio

PARIS = Task(verifier_metadata={"expected_city": "Paris"})
SENTENCE = "The weather in Paris is sunny and 72 F."


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_every_reference_scores_one_and_doing_nothing_scores_zero(mode: McpMode) -> None:
    tasks = list(Weather().tasks())
    async with testing.client({"weather": Weather}) as client:
        played = [each async for each in play_tasks(client, "weather", tasks, mcp_mode=mode)]
    assert len(played) == 5
    assert {(each.reference, each.nothing, each.problem) for each in played} == {(1.0, 0.0, None)}


async def test_the_tool_reports_the_weather() -> None:
    async with testing.client({"weather": Weather}) as client:
        async with client.episode("weather") as episode:
            assert await episode.tools() == ["get_weather"]
            answer = await episode.call_tool("get_weather", {"city": "Oslo"})
    assert answer.text == "The weather in Oslo is sunny and 72 F."
    assert not answer.is_error
    assert answer.structured_content is None


@pytest.mark.parametrize(
    ("city", "answer", "expected", "reward"),
    [
        ("Paris", SENTENCE, {"expected_city": "Paris"}, 1.0),
        ("pARIS", SENTENCE.upper(), {"expected_city": "Paris"}, 1.0),
        ("Paris", f"I looked it up: {SENTENCE} Enjoy!", {"expected_city": "PARIS"}, 1.0),
        ("Paris", SENTENCE, {}, 1.0),  # Paris, where the task names none
        ("Paris", SENTENCE, {"expected_city": None}, 1.0),
        (None, SENTENCE, {"expected_city": "Paris"}, 0.0),  # the sentence without the call
        ("Paris", "It is fine.", {"expected_city": "Paris"}, 0.0),  # the call without it
        ("Paris", None, {"expected_city": "Paris"}, 0.0),
        ("Oslo", SENTENCE, {"expected_city": "Paris"}, 0.0),  # the wrong city
        ("Paris", SENTENCE, {"expected_city": "Oslo"}, 0.0),
        (None, None, {}, 0.0),
    ],
)
async def test_the_reward_needs_the_call_and_the_sentence(
    city: str | None, answer: str | None, expected: dict[str, str], reward: float
) -> None:
    async with testing.client({"weather": Weather}) as client:
        async with client.episode("weather", Task(verifier_metadata=expected)) as episode:
            if city is not None:
                await episode.call_tool("get_weather", {"city": city})
            assert (await episode.verify(answer))["reward"] == reward


async def test_a_call_in_another_session_does_not_count() -> None:
    async with testing.client({"weather": Weather}) as client:
        async with (
            client.episode("weather", PARIS) as caller,
            client.episode("weather", PARIS) as liar,
        ):
            await caller.call_tool("get_weather", {"city": "Paris"})
            assert (await liar.verify(SENTENCE))["reward"] == 0.0
            assert (await caller.verify(SENTENCE))["reward"] == 1.0


async def test_a_call_that_failed_does_not_count() -> None:
    async with testing.client({"weather": Weather}) as client:
        async with client.episode("weather", PARIS) as episode:
            answer = await episode.call_tool("get_weather", {"city": "Paris", "day": "today"})
            assert answer.is_error
            assert (await episode.verify(SENTENCE))["reward"] == 0.0


async def test_a_second_instance_reports_in_celsius() -> None:
    async with testing.client({"celsius": Weather("C"), "fahrenheit": Weather}) as client:
        for name, number in (("celsius", "22 C"), ("fahrenheit", "72 F")):
            async with client.episode(name, PARIS) as episode:
                answer = await episode.call_tool("get_weather", {"city": "Paris"})
                assert answer.text == f"The weather in Paris is sunny and {number}."
                assert (await episode.verify(answer.text))["reward"] == 1.0
        tasks = list(Weather("C").tasks())
        played = [each async for each in play_tasks(client, "celsius", tasks)]
    assert {each.problem for each in played} == {None}


def test_an_unknown_unit_is_refused() -> None:
    with pytest.raises(ValueError, match="unit must be 'F' or 'C', not 'K'"):
        Weather("K")  # type: ignore[arg-type]
