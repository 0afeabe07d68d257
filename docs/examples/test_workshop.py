import anyio
import pytest
from workshop import Workshop

from gymhost import Task, testing

pytestmark = pytest.mark.anyio


async def test_the_folder_lives_as_long_as_the_session() -> None:
    task = Task(verifier_metadata={"text": "hello"})
    async with testing.client({"workshop": Workshop}) as client:
        async with client.episode("workshop", task) as episode:
            await episode.call_tool("write", {"text": "hello"})
            folder = anyio.Path((await episode.record())["state"]["folder"])
            assert await folder.is_dir()
            verdict = await episode.verify("done")
        assert verdict["reward"] == 1.0
        assert not await folder.exists()
