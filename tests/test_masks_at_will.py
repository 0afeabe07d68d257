"""What an agent with its token alone may try to have its sample left out of training."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import anyio
import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcp.server.mcpserver import MCPServer
from pydantic import BaseModel
from typing_extensions import TypedDict

from gymhost import Environment, Session, Trajectory, tool
from gymhost.config import EnvironmentConfig
from gymhost.limits import Limits
from gymhost.models import MASKING_KINDS
from tests.environments import Diary, Gate
from tests.faulty_store import FaultyStore
from tests.http.wire import ERAS, call
from tests.served import Seeded, Served, serve


class Point(BaseModel):
    x: float
    far: float = float("inf")
    """A default is the author's."""


@dataclass
class Dot:
    x: float
    far: float = float("inf")


class Pair(TypedDict):
    x: float


class Mirror(Environment):
    """Says what it is told, in each way in which a number may come."""

    @tool
    async def number(self, x: float) -> float:
        return x

    @tool
    async def numbers(self, x: list[float]) -> list[float]:
        return x

    @tool
    async def maybe(self, x: float | None = None) -> float | None:
        return x

    @tool
    async def point(self, x: Point) -> float:
        return x.x

    @tool
    async def points(self, x: dict[str, list[Point]]) -> list[float]:
        return [each.x for each in x["a"]]

    @tool
    async def dot(self, x: Dot) -> float:
        return x.x

    @tool
    async def pair(self, x: Pair) -> float:
        return x["x"]

    @tool
    async def anything(self, x: Any) -> Any:
        return x

    def register_tools(self, mcp: MCPServer[Any]) -> None:
        @mcp.tool()
        def registered(x: float, far: float = float("inf")) -> float:
            return x

        @mcp.tool()
        def registered_point(x: Point) -> float:
            return x.x

    async def verify(self, session: Session, trajectory: Trajectory) -> float:
        return 0.0


WRAPPED = {
    "number": lambda x: x,
    "numbers": lambda x: [1.0, x],
    "maybe": lambda x: x,
    "point": lambda x: {"x": x},
    "points": lambda x: {"a": [{"x": 1.0}, {"x": x}]},
    "dot": lambda x: {"x": x},
    "pair": lambda x: {"x": x},
    "registered": lambda x: x,
    "registered_point": lambda x: {"x": x},
}


@pytest.mark.parametrize("name", WRAPPED)
async def test_a_number_that_json_does_not_have_is_an_invalid_argument(name: str) -> None:
    """pydantic reads a NaN in "nan": a tool that says it again would fail, which masks."""
    async with serve({"mirror": Mirror()}) as served:
        session = await served.seed("mirror")
        tries = ("nan", "NaN", "inf", "-Infinity", "1e400", 10**400)
        for number in tries:
            outcome = await served.call(session, name, x=WRAPPED[name](number))
            assert outcome.is_error
            assert outcome.text.startswith("Invalid arguments for")
            assert str(number) not in outcome.text
        assert not (await served.call(session, name, x=WRAPPED[name](1.5))).is_error
        record = await served.record(session)
        assert record["failures"] == {"invalid_arguments": len(tries)}
        assert (await served.verify(session)).json()["reward"] == 0.0


async def send(served: Served, session: Seeded, era: str, content: bytes) -> httpx2.Response:
    """Send a body over MCP, in the shape of a protocol version, with a session's token."""
    sent = call(era, "write", session.token)
    headers = {name: value for name, value in sent.headers.items() if value is not None}
    return await served.http.post(
        f"/envs/{session.environment}/mcp", content=content, headers=headers
    )


def message(params: Any) -> bytes:
    return json.dumps(
        {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    ).encode()


DEEP = b'{"a":' * 300 + b"1" + b"}" * 300
ODD_BODIES = [
    message(None),
    message([]),
    message("write"),
    message({}),
    message({"name": 7, "arguments": {}}),
    message({"name": None}),
    message({"name": ["write"]}),
    message({"name": "write", "arguments": []}),
    message({"name": "write", "arguments": "note"}),
    message({"name": "write", "arguments": 1}),
    message({"name": "write", "arguments": {"note": {}}}),
    message({"name": "write", "arguments": {"note": [None] * 1000}}),
    message({"name": "write", "arguments": {"": "", "session": "x", "session_id": "y"}}),
    message({"name": "write", "arguments": {"self": 1}}),
    message({"name": "write" * 10_000, "arguments": {}}),
    message({"name": "__class__", "arguments": {}}),
    message({"name": "write", "arguments": {"note": "a"}, "_meta": []}),
    message({"name": "write", "arguments": {"note": "a"}, "_meta": {"progressToken": {}}}),
    message({"name": "write", "arguments": {"note": "\ud800"}}),
    message({"name": "\udfff", "arguments": {}}),
    message({"name": "write", "arguments": {"note": "\x00"}}),
    message({"name": "write", "arguments": {"note": "#"}}).replace(b"#", b"\xff\xfe"),
    message({"name": "write", "arguments": {"note": "#"}}).replace(b'"#"', b"NaN"),
    message({"name": "write", "arguments": {"note": "#"}}).replace(b'"#"', b"1e999"),
    message({"name": "write", "arguments": {"note": "#"}}).replace(b'"#"', b"9" * 10_000),
    message({"name": "write", "arguments": {"note": "#"}}).replace(b'"#"', b"9" * 4_000),
    message({"name": "write", "arguments": {"note": "#"}}).replace(b'"#"', DEEP),
    message({"name": "write", "arguments": {"note": "#"}}).replace(b'"#"', b"[" * 100_000),
    b"",
    b"null",
    b"[]",
    b'{"jsonrpc": "2.0", "id": true, "method": "tools/call"}',
    b'{"jsonrpc": "2.0", "id": 1, "method": "verify", "params": {}}',
    b'{"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}',
]


@pytest.mark.parametrize("era", ERAS)
async def test_no_odd_message_masks_or_counts_as_a_failure_of_the_environment(era: str) -> None:
    async with serve({"diary": Diary(), "beside": Diary()}) as served:
        session = await served.seed("diary")
        for body in ODD_BODIES:
            answer = await send(served, session, era, body)
            assert answer.status_code in (200, 202, 400, 404), body[:200]
        record = await served.record(session)
        for kind in MASKING_KINDS:
            assert kind not in record["failures"]
            assert kind not in served.mount("diary").counts
        assert "reward" in (await served.verify(session)).json()
        assert not served.mount("beside").counts


async def test_calls_during_and_after_verify_change_nothing() -> None:
    diary = Diary()
    async with serve({"diary": diary}) as served:
        session = await served.seed("diary")
        diary.verify_gate = gate = Gate()
        answers: list[Any] = []

        async def verify() -> None:
            answers.append(await served.verify(session))

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(verify)
                await gate.reached.wait()
                for name in ("write", "crash", "look", "nothing"):
                    assert (await served.call(session, name)).text == "The session has ended."
                gate.open()
        assert answers[0].json()["reward"] == 0.0
        assert served.mount("diary").counts["session_ended"] == 4


async def test_a_flood_of_calls_masks_nothing_and_is_counted() -> None:
    diary = Diary()
    config = EnvironmentConfig(plugin=diary, limits=Limits(calls_in_flight=4, session_queue=2))
    async with serve({"diary": config}) as served:
        sessions = [await served.seed("diary") for _ in range(3)]
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                for session in sessions:
                    for name in ("wait", "look", "write", "crashing") * 5:
                        tasks.start_soon(served.call, session, name)
                await anyio.wait_all_tasks_blocked()
                diary.call_gate.open()
        counts = served.mount("diary").counts
        refused = counts["over_capacity"] + counts["session_queue"]
        assert refused
        assert counts["calls"] + refused == 60
        for session in sessions:
            assert "reward" in (await served.verify(session)).json()


# -- what is counted -------------------------------------------------------------------------------

CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "ok": ("write", {"note": "a"}),
    "tool_error": ("refuse", {}),
    "unknown_tool": ("nothing", {}),
    "invalid_arguments": ("write", {}),
    "limit": ("refuse", {"why": "x" * 200}),
    "timeout": ("hang", {}),
    "environment_timeout": ("hang_and_mask", {}),
    "environment_error": ("crash", {}),
    "store_error": ("write", {"note": "lost"}),
}


class Everything(Diary):
    """A call can end in each way that there is."""

    @tool(timeout=0.01)
    async def hang(self) -> str:
        await anyio.sleep_forever()
        return ""

    @tool(timeout=0.01, timeout_masks=True)
    async def hang_and_mask(self) -> str:
        return await self.hang()


def has_room(record: dict[str, Any], limits: Limits) -> bool:
    """Whether the session may make one more call; one too many never begins."""
    return len(record["calls"]) < limits.session_calls


@given(plans=st.lists(st.lists(st.sampled_from(sorted(CALLS)), max_size=6), max_size=3))
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_an_environments_counts_are_the_sum_of_its_sessions_failures(
    plans: list[list[str]],
) -> None:
    store = FaultyStore()
    limits = Limits(result_bytes=100, session_calls=5)
    config = EnvironmentConfig(plugin=Everything(), limits=limits)
    async with serve({"all": config}, store=store) as served:
        failures: Counter[str] = Counter()
        calls = 0
        for plan in plans:
            session = await served.seed("all")
            lost = 0
            for kind in plan:
                if kind == "store_error":
                    store.fail("commit")
                    lost += has_room(await served.record(session), limits)
                name, arguments = CALLS[kind]
                await served.call(session, name, **arguments)
                store.broken.clear()
                await served.host.maintain()  # which writes down what the store has failed
            record = await served.record(session)
            kinds = [each["kind"] for each in record["calls"]]
            recorded = Counter(kinds) + Counter(store_error=lost)
            del recorded["ok"]
            assert recorded == record["failures"]
            failures.update(record["failures"])
            calls += len(kinds)
            masked = any(kind in record["failures"] for kind in MASKING_KINDS)
            assert (await served.verify(session)).status_code == (502 if masked else 200)
        counts = served.mount("all").counts
        session_bound = {kind: n for kind, n in counts.items() if kind in CALLS}
        assert session_bound == dict(failures)
        assert counts["calls"] == calls


async def test_what_the_control_plane_refuses_is_counted_by_its_failure_kind() -> None:
    store = FaultyStore()
    async with serve({"diary": Diary(), "beside": Diary()}, store=store) as served:
        session = await served.seed("diary")
        await served.post("diary", "seed_session", b"[]")
        await served.post("diary", "seed_session", {"verifier_metadata": 1})
        await served.post("diary", "verify", {"session_id": "0" * 32})
        await served.post(
            "diary", "verify", {"session_id": session.id, "verifier_metadata": {"a": 1}}
        )
        store.fail("create")
        await served.post("diary", "seed_session", {})
        store.broken.clear()
        await served.verify(session)
        await served.verify(session, {"response": []})
        other = await served.seed("diary")
        await served.close(other)
        await served.verify(other)
        counts = served.mount("diary").counts
        assert counts == {
            "already_verified": 1,
            "invalid_request": 2,
            "no_session": 1,
            "seeded": 2,
            "session_ended": 1,
            "store_error": 1,
            "task_mismatch": 1,
            "verified": 1,
        }
        assert not served.mount("beside").counts


async def test_a_call_that_a_stop_refuses_masks_which_no_agent_can_cause() -> None:
    async with serve({"diary": Diary()}) as served:
        session, other = await served.seed("diary"), await served.seed("diary")
        served.host.stopping = True
        for _ in range(2):
            assert (await served.call(session, "write", note="a")).text == "The server is stopping."
        await served.host.call_tool("diary", "forged", "write", {})
        served.host.stopping = False
        assert (await served.record(session))["failures"] == {"cancelled": 1}
        masked = await served.verify(session)
        assert (masked.status_code, masked.json()["failure_kind"]) == (502, "cancelled")
        assert (await served.verify(other)).status_code == 200
        counts = served.mount("diary").counts
        assert (counts["refused"], counts["cancelled"], counts["calls"]) == (3, 1, 0)
