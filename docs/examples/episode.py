"""One episode on a running server: prints the reward."""

import anyio

from gymhost import Task
from gymhost.client import Client


async def main() -> None:
    task = Task(verifier_metadata={"expected_city": "Paris"})
    async with Client("http://127.0.0.1:8000") as client:
        async with client.episode("weather", task) as episode:
            report = await episode.call_tool("get_weather", {"city": "Paris"})
            verdict = await episode.verify(report.text)
    print(verdict["reward"])


if __name__ == "__main__":
    anyio.run(main)
