"""Tools registered on a real MCPServer: one road with the marked ones, through the host."""

import functools
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from anyio import to_thread
from mcp.server.mcpserver import Context, MCPServer

from gymhost import Session
from gymhost.client import Episode, ToolAnswer
from gymhost.mcp_tools import inject
from gymhost.testing import client
from tests.worlds import Place, Visits, World, playing, registering


async def failure_of(world: World) -> str:
    """Why a world does not load."""
    async with client({"world": world}, strict=False) as served:
        (record,) = served.host.records
        assert record.status == "failed"
        assert record.reason is not None
        return record.reason


# -- beside the marked tools -----------------------------------------------------------------------


async def test_a_registered_tool_stands_beside_the_marked_ones_and_in_the_record() -> None:
    def visit(session: Session[Visits], place: Place, session_id: str, note: str = "ü") -> str:
        """Go somewhere."""
        assert session.id == session_id
        session.state.places.append(place.name)
        return f"{place.name} {note}"

    async with playing(registering(visit)) as episode:
        assert await episode.tools() == ["marked", "visit"]
        listed = await episode.client.environment("world")
        schema = next(each for each in listed["tools"] if each["name"] == "visit")
        assert schema["description"] == "Go somewhere."
        assert list(schema["inputSchema"]["properties"]) == ["place", "note"]
        assert schema["inputSchema"]["required"] == ["place"]

        answer = await episode.call_tool("visit", {"place": {"name": "Zürich"}})
        text = {"type": "text", "text": "Zürich ü"}
        assert answer == ToolAnswer("Zürich ü", is_error=False, content=[text])
        assert (await episode.call_tool("marked")).text == '["Zürich"]'
        calls = (await episode.record())["calls"]
        assert [(each["name"], each["kind"]) for each in calls] == [
            ("visit", "ok"),
            ("marked", "ok"),
        ]
        assert calls[0]["arguments"] == {"place": {"name": "Zürich"}}
        assert (await episode.verify("done"))["reward"] == 1.0


async def test_a_call_without_a_token_does_not_reach_a_registered_tool() -> None:
    called: list[int] = []
    async with client({"world": registering(ping=lambda: called.append(1))}) as served:
        outcome = await served.host.call_tool("world", None, "ping", {})
        assert outcome.kind == "no_session"
        assert called == []


async def test_postponed_annotations_are_resolved_also_beside_a_session() -> None:
    source = """
from __future__ import annotations
from gymhost import Session
from pydantic import BaseModel
class Spot(BaseModel):
    name: str
def visit(session: Session[Spot], place: Spot) -> str:
    return place.name
async def look(session_id: str, place: Spot) -> Spot:
    return place
"""
    namespace: dict[str, Any] = {"__name__": "postponed"}
    exec(compile(source, "postponed.py", "exec"), namespace)
    async with playing(registering(namespace["visit"], namespace["look"])) as episode:
        place = {"place": {"name": "Rigi"}}
        assert (await episode.call_tool("visit", place)).text == "Rigi"
        assert (await episode.call_tool("look", place)).structured_content == {"name": "Rigi"}


def loudly(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


class Caller:
    def __init__(self, greeting: str) -> None:
        self._greeting = greeting

    def plain(self, session: Session[Visits], name: str) -> str:
        return f"{self._greeting} {name} {session.environment}"

    async def awaited(self, session: Session[Visits], name: str) -> str:
        return self.plain(session, name)

    @loudly
    async def hidden(self, session: Session[Visits], name: str) -> str:
        return self.plain(session, name)

    def promised(self, session: Session[Visits], name: str) -> Any:
        return self.awaited(session, name)

    async def __call__(self, session: Session[Visits], name: str) -> str:
        return self.plain(session, name)


@pytest.mark.parametrize(
    "function",
    [
        Caller("hi").plain,
        Caller("hi").awaited,
        Caller("hi").hidden,
        Caller("hi").promised,
        Caller("hi"),
        functools.partial(Caller.plain, Caller("hi")),
        inject(Caller("hi").plain),
        inject(Caller("hi").awaited),
        inject(Caller("hi").hidden),
    ],
    ids=["plain", "async", "hidden", "promised", "object", "partial", "i1", "i2", "i3"],
)
async def test_every_kind_of_callable_is_called_and_gets_its_session(function: Any) -> None:
    async with playing(registering(greet=function)) as episode:
        assert (await episode.call_tool("greet", {"name": "ann"})).text == "hi ann world"


async def test_inject_leaves_a_function_without_a_session_as_it_is() -> None:
    def plain(name: str) -> str:
        return name

    assert inject(plain) is plain


async def test_after_a_call_a_function_has_no_session_any_more() -> None:
    who = inject(lambda session_id: session_id)
    async with client({"world": registering(who=who)}) as served:
        async with served.episode("world") as episode:
            (token,) = episode.seeded.mcp.headers.values()  # type: ignore[union-attr]
            outcome = await served.host.call_tool("world", token, "who", {})
            assert outcome.text == episode.session_id
            with pytest.raises(LookupError):
                who()


async def test_concurrent_sessions_each_get_their_own() -> None:
    inside = 0
    both = anyio.Event()

    async def who(session: Session[Visits]) -> str:
        nonlocal inside
        inside += 1
        if inside == 2:
            both.set()
        await both.wait()
        return session.id

    answers: dict[str, str] = {}

    async def ask(episode: Episode) -> None:
        answers[episode.session_id] = (await episode.call_tool("who")).text

    async with client({"world": registering(who)}) as served:
        async with served.episode("world") as one, served.episode("world") as two:
            with anyio.fail_after(5):
                async with anyio.create_task_group() as asking:
                    asking.start_soon(ask, one)
                    asking.start_soon(ask, two)
            assert answers == {each.session_id: each.session_id for each in (one, two)}


async def test_a_plain_def_runs_in_the_environments_threads_and_not_in_the_shared_ones() -> None:
    seen = []
    release = threading.Event()

    def work(session: Session[Visits]) -> str:
        seen.append((threading.get_ident(), served.host.mounts["world"].threads.in_use))
        return "worked"

    shared = to_thread.current_default_thread_limiter()
    size = shared.total_tokens
    async with client({"world": registering(work)}) as served:
        async with served.episode("world") as episode, anyio.create_task_group() as holding:
            shared.total_tokens = 1
            try:
                holding.start_soon(to_thread.run_sync, release.wait)
                await anyio.wait_all_tasks_blocked()
                assert shared.available_tokens == 0
                with anyio.fail_after(5):
                    assert (await episode.call_tool("work")).text == "worked"
            finally:
                release.set()
                shared.total_tokens = size
    ((ident, in_use),) = seen
    assert ident != threading.get_ident()
    assert in_use == 1


# -- what fails the load ---------------------------------------------------------------------------


def misfits() -> dict[str, tuple[Callable[[World, MCPServer], Any], str]]:
    async def with_context(city: str, ctx: Context) -> str: ...  # type: ignore[type-arg,empty-body]
    def unresolvable(session: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821
    def numeric_id(session_id: int) -> None: ...
    def anything(session_id: str, **anything: str) -> None: ...
    def request(request: str) -> None: ...
    async def middleware(context: Any, call_next: Any) -> Any: ...
    async def route(request: Any) -> Any: ...

    def twice(world: World, mcp: MCPServer) -> None:
        mcp.add_tool(lambda: 1, "one")
        mcp.add_tool(lambda: 2, "one")

    return {
        "prompt": (lambda _, mcp: mcp.prompt()(str_of), "registered prompts"),
        "resource": (
            lambda _, mcp: mcp.resource("data://all")(misfits),
            "registered resources: only tools are served",
        ),
        "template": (
            lambda _, mcp: mcp.resource("data://{key}")(str_of),
            "registered resources: only tools are served",
        ),
        "middleware": (lambda _, mcp: mcp.middleware.append(middleware), "added middleware"),
        "route": (lambda _, mcp: mcp.custom_route("/x", ["GET"])(route), "registered a route"),
        "completion": (lambda _, mcp: mcp.completion()(route), "registered completions"),
        "marked name": (
            lambda _, mcp: mcp.add_tool(lambda: 1, "marked"),
            "two tools are named 'marked'",
        ),
        "one name twice": (twice, "two tools are named 'one'"),
        "reserved": (lambda _, mcp: mcp.add_tool(lambda: 1, "verify"), "'verify' is reserved"),
        "bad name": (lambda _, mcp: mcp.add_tool(lambda: 1, "a.b"), "tool name 'a.b'"),
        "context": (lambda _, mcp: mcp.tool()(with_context), "parameter 'ctx' is a Context"),
        "unresolvable": (lambda _, mcp: mcp.tool()(unresolvable), "name 'Nowhere' is not defined"),
        "numeric id": (lambda _, mcp: mcp.tool()(numeric_id), "'session_id' is the session's own"),
        "kwargs": (lambda _, mcp: mcp.tool()(anything), "'**anything: str' has no schema"),
        "request": (lambda _, mcp: mcp.tool()(request), "can't be named 'request'"),
        "exit": (lambda _, mcp: exit(3), "it called sys.exit(3)"),
    }


def str_of(key: str) -> str:
    return key


@pytest.mark.parametrize("case", misfits())
async def test_what_can_not_be_served_fails_the_load(case: str) -> None:
    register, says = misfits()[case]
    assert says in await failure_of(World(register))


async def test_the_other_environments_serve_where_one_registers_what_can_not_be_served() -> None:
    def register(world: World, mcp: MCPServer) -> None:
        raise RuntimeError("register_tools fails")

    worlds = {"bad": World(register), "good": registering(ping=lambda: "pong")}
    async with client(worlds, strict=False) as served:
        statuses = {each.name: each.status for each in served.host.records}
        assert statuses == {"bad": "failed", "good": "up"}
        async with served.episode("good") as episode:
            assert (await episode.call_tool("ping")).text == "pong"
