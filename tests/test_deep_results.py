"""An agent can't spoil its own sample by making a tool's result nest deeper than parsers go."""

from typing import Any

import pytest

from gymhost import Environment, Session, Trajectory, testing, tool


class Nest(Environment):
    @tool
    async def nest(self, value: Any) -> dict[str, Any]:
        return {"a": {"b": {"c": value}}}

    async def verify(self, session: Session, trajectory: Trajectory) -> float:
        return float(len(session.calls))


@pytest.mark.parametrize(
    ("depth", "kind"),
    [(1, "ok"), (150, "ok"), (190, "ok"), (196, "limit"), (197, "limit"), (198, "limit")],
)
async def test_a_result_as_deep_as_an_agent_can_make_it_leaves_the_record_readable(
    depth: int, kind: str
) -> None:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    async with testing.client({"nest": Nest}) as client:
        seeded = await client.seed("nest")
        assert seeded.mcp is not None
        (token,) = seeded.mcp.headers.values()
        await client.host.call_tool("nest", token, "nest", {"value": value})
        (call,) = (await client.session(seeded.session_id))["calls"]
        assert call["kind"] == kind
        body = {"session_id": seeded.session_id}
        assert (await client.request("POST", "/envs/nest/verify", body))["reward"] == 1.0
