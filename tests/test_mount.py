"""One environment as it is served: what its hooks may answer, and what is made of it."""

import threading
from collections.abc import Generator
from typing import Any

import anyio
import pytest
from mcp.server.mcpserver import MCPServer

from gymhost import (
    Environment,
    EnvironmentConfig,
    Limits,
    Session,
    Task,
    ToolCall,
    ToolOutcome,
    Trajectory,
    VerifyResult,
    hookimpl,
    tool,
)
from gymhost.client import ApiError
from gymhost.testing import client


class World(Environment):
    @tool
    async def look(self, at: str = "sky") -> str:
        """Look."""
        return f"seen {at}"

    async def verify(self, session: Session, trajectory: Trajectory) -> Any:
        return 1.0


class Closes(World):
    def __init__(self) -> None:
        self.closed: list[str] = []


class ClosesUnderAnotherName(Closes):
    @hookimpl(specname="close")
    async def release(self, reason: str) -> None:
        self.closed.append(reason)


class WrapsItsClose(Closes):
    @hookimpl(wrapper=True, specname="close")
    def release(self, reason: str) -> Generator[None, None, None]:
        self.closed.append(reason)
        yield


@pytest.mark.parametrize("cls", [ClosesUnderAnotherName, WrapsItsClose])
async def test_close_fires_however_it_is_implemented(cls: type[Closes]) -> None:
    world = cls()
    async with client({"world": world}) as served:
        async with served.episode("world") as episode:
            await episode.verify()
        async with served.episode("world"):
            pass
    assert world.closed == ["verified", "closed"]


@pytest.mark.parametrize("answer", ["look", ["look", "leap"], [7], 5])
async def test_a_choice_of_tools_that_is_none_fails_the_seed(answer: Any) -> None:
    class Chooses(World):
        async def allowed_tools(self, session: Session, task: Task) -> Any:
            return answer

    async with client({"world": Chooses}) as served:
        with pytest.raises(ApiError) as caught:
            await served.seed("world")
        assert (caught.value.status, caught.value.failure_kind) == (502, "environment_error")
        assert served.host.mounts["world"].open_sessions == 0


async def test_a_call_tool_that_answers_no_outcome_fails_the_call() -> None:
    class Answers(World):
        async def call_tool(self, session: Session, call: ToolCall) -> Any:
            return "seen"

    async with client({"world": Answers}) as served:
        async with served.episode("world") as episode:
            answer = await episode.call_tool("look")
            assert (answer.text, answer.is_error) == ("The tool failed.", True)


async def test_an_environment_may_wrap_or_replace_its_tool_calls() -> None:
    class Counts(World):
        @hookimpl(wrapper=True)
        def call_tool(self, call: ToolCall) -> Generator[None, Any, Any]:  # type: ignore[override]
            outcome = yield
            return ToolOutcome.ok(f"{call.name}: {outcome.text}")

    class Replaces(World):
        async def call_tool(self, session: Session, call: ToolCall) -> ToolOutcome:
            if call.name == "leap":
                return ToolOutcome.ok("leapt")
            return await super().call_tool(session, call)

    async with client({"counts": Counts, "replaces": Replaces}) as served:
        async with served.episode("counts") as episode:
            assert (await episode.call_tool("look")).text == "look: seen sky"
        async with served.episode("replaces") as episode:
            assert (await episode.call_tool("look", {"at": "sea"})).text == "seen sea"
            assert (await episode.call_tool("leap")).text == "leapt"


async def test_a_score_may_be_a_number_or_a_result() -> None:
    class Scores(World):
        def __init__(self, score: Any) -> None:
            self.score = score

        async def verify(self, session: Session, trajectory: Trajectory) -> Any:
            return self.score

    scores = {"int": 1, "bool": True, "result": VerifyResult(reward=0.5, stars=3)}
    verdicts = {}
    async with client({name: Scores(score) for name, score in scores.items()}) as served:
        for name in scores:
            async with served.episode(name) as episode:
                verdicts[name] = await episode.verify()
    assert [verdict["reward"] for verdict in verdicts.values()] == [1.0, 1.0, 0.5]
    assert verdicts["result"]["stars"] == 3


async def test_a_tools_own_timeout_goes_before_the_limit() -> None:
    class Sleeps(World):
        @tool(timeout=0.02)
        async def nap(self) -> str:
            """Nap."""
            await anyio.sleep_forever()
            return ""

        @tool
        async def sleep(self) -> str:
            """Sleep."""
            await anyio.sleep_forever()
            return ""

    config = EnvironmentConfig(plugin=Sleeps, limits=Limits(tool_seconds=0.03))
    with anyio.fail_after(5):
        async with client({"world": config}) as served:
            async with served.episode("world") as episode:
                assert "longer than 0.02 s" in (await episode.call_tool("nap")).text
                assert "longer than 0.03 s" in (await episode.call_tool("sleep")).text


async def test_an_environment_with_more_stuck_threads_than_its_limit_is_degraded() -> None:
    release = threading.Event()

    class Blocks(World):
        @tool
        def block(self) -> str:
            """Block."""
            release.wait(10)
            return ""

    limits = Limits(tool_seconds=0.2, stuck_threads=1)
    try:
        with anyio.fail_after(10):
            async with client({"world": EnvironmentConfig(plugin=Blocks, limits=limits)}) as served:
                mount = served.host.mounts["world"]
                async with served.episode("world") as episode:
                    for expected in (False, True):
                        await episode.call_tool("block")
                        assert mount.degraded is expected
                    release.set()
                    while mount.threads.stuck:
                        await anyio.lowlevel.checkpoint()
                    assert not mount.degraded
    finally:
        release.set()


def middleware(mcp: MCPServer) -> None:
    mcp.middleware.append(lambda *args: None)  # type: ignore[arg-type]


def clash(mcp: MCPServer) -> None:
    mcp.add_tool(lambda: "twice", "look")


def leave(mcp: MCPServer) -> None:
    raise SystemExit(1)


@pytest.mark.parametrize(
    ("register", "reason"),
    [
        (middleware, "ToolDefinitionError: register_tools added middleware: only tools are served"),
        (clash, "ToolDefinitionError: two tools are named 'look'"),
        (leave, "it called sys.exit(1)"),
    ],
)
async def test_what_register_tools_may_not_do_fails_the_environment(
    register: Any, reason: str
) -> None:
    class Registers(World):
        def register_tools(self, mcp: MCPServer) -> None:
            register(mcp)

    async with client({"bad": Registers, "fine": World}, strict=False) as served:
        bad, fine = served.host.records
        assert (bad.status, fine.status) == ("failed", "up")
        assert bad.reason == f"'bad' could not be started: {reason}"
