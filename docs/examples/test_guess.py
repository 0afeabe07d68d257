"""How an author tests: the real HTTP application and MCP client, in one process."""

import pytest
from guess import Guess

from gymhost import Task, testing

pytestmark = pytest.mark.anyio  # on asyncio and on trio


async def test_a_found_number_is_rewarded_by_the_guesses_it_took() -> None:
    task = Task(verifier_metadata={"random_seed": 0})
    async with testing.client({"guess": Guess}) as client:
        async with client.episode("guess", task) as episode:
            for number, expected in ((60, "lower"), (40, "higher"), (50, "found")):
                answer = await episode.call_tool("guess", {"number": number})
                assert answer.text == expected
            verdict = await episode.verify("It is 50.")
    assert verdict["reward"] == pytest.approx(1 - 2 / 7)
    assert verdict["guesses"] == 3
