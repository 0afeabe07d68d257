"""The async client: episodes over HTTP and MCP, and what becomes of their errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import httpx2
import pytest
from pydantic import BaseModel

from gymhost import Environment, EnvironmentConfig, Session, Task, Trajectory, testing, tool
from gymhost import client as client_module
from gymhost.client import ApiError, Client, McpMode
from gymhost.control_key import mint_key
from gymhost.limits import Limits
from tests.environments import Diary

both_modes = pytest.mark.parametrize("mode", ["auto", "legacy"])


class Reading(BaseModel):
    value: int


class Meter(Environment):
    """Its tool answers with a model; its score is what the trajectory says."""

    @tool
    async def read(self, value: int) -> Reading:
        return Reading(value=value)

    async def verify(self, session: Session, trajectory: Trajectory) -> float:
        return float(trajectory.final_text or len(trajectory.tool_calls))


class Toolless(Environment):
    async def verify(self, session: Session, trajectory: Trajectory) -> float:
        return 1.0


@both_modes
async def test_an_episode_keeps_what_was_done_as_a_trajectory(mode: McpMode) -> None:
    async with testing.client({"meter": Meter}) as client:
        async with client.episode("meter", mcp_mode=mode) as episode:
            assert await episode.tools() == ["read"]
            told = await episode.call_tool("read", {"value": 7})
            assert json.loads(told.text) == {"value": 7}
            assert told.structured_content == {"value": 7}
            assert not told.is_error
            refused = await episode.call_tool("read", {"value": "seven"})
            assert refused.is_error
            assert [item["type"] for item in episode.items] == [
                *("function_call", "function_call_output"),
                *("function_call", "function_call_output"),
            ]
            assert [item["call_id"] for item in episode.items] == [
                *("call_0", "call_0", "call_1", "call_1")
            ]
            assert episode.items[0]["arguments"] == '{"value": 7}'
            assert (await episode.verify())["reward"] == 2.0
            assert (await episode.record())["status"] == "verified"


async def test_verify_takes_an_answer_or_an_output_of_its_own() -> None:
    async with testing.client({"meter": Meter}) as client:
        async with client.episode("meter") as episode:
            assert (await episode.verify("0.5"))["reward"] == 0.5
        said = {"type": "message", "role": "assistant", "content": "0.25"}
        async with client.episode("meter") as episode:
            assert (await episode.verify(output=[said]))["reward"] == 0.25


async def test_a_reference_does_not_leave_the_client() -> None:
    task = Task(verifier_metadata={"x": 1}, extra={"reference": {"answer": "no"}, "level": 3})
    async with (
        testing.client({"diary": Diary}) as client,
        client.episode("diary", task) as episode,
    ):
        seeded = (await episode.record())["task"]
    assert seeded["level"] == 3
    assert seeded["verifier_metadata"] == {"x": 1}
    assert "reference" not in seeded


async def test_the_same_idempotency_key_gets_the_same_session() -> None:
    async with testing.client({"diary": Diary}) as client:
        first = await client.seed("diary", idempotency_key="one")
        again = await client.seed("diary", idempotency_key="one")
        other = await client.seed("diary", idempotency_key="two")
    assert first.session_id == again.session_id != other.session_id
    assert first.mcp != again.mcp  # a token each


async def test_an_environment_without_tools_has_no_connection() -> None:
    async with (
        testing.client({"toolless": Toolless}) as client,
        client.episode("toolless") as episode,
    ):
        assert episode.mcp is None
        assert await episode.tools() == []
        with pytest.raises(RuntimeError, match="'toolless' has no tools"):
            await episode.call_tool("read")
        assert (await episode.verify())["reward"] == 1.0


# -- how an episode ends ---------------------------------------------------------------------------


async def test_an_episode_that_is_not_verified_is_closed() -> None:
    diary = Diary()
    async with testing.client({"diary": diary}) as client:
        async with client.episode("diary") as episode:
            await episode.call_tool("write", {"note": "one"})
        assert diary.closed == [(episode.session_id, "closed")]
        async with client.episode("diary") as episode:
            await episode.verify()
    assert diary.closed[1:] == [(episode.session_id, "verified")]


async def test_a_failed_verify_is_no_verdict_and_the_episode_is_closed() -> None:
    diary = Diary()
    diary.reward = RuntimeError("the verifier broke")
    async with testing.client({"diary": diary}) as client, client.episode("diary") as episode:
        with pytest.raises(ApiError) as caught:
            await episode.verify()
        assert not episode.verified
        assert caught.value.status == 502
        assert caught.value.failure_kind == "environment_error"
        assert caught.value.problem["mask_sample"] is True
        assert str(caught.value).startswith("502 environment_error: verify of 'diary' failed")
    assert diary.closed == [(episode.session_id, "closed")]


@both_modes
async def test_the_callers_own_error_comes_out_as_it_is(mode: McpMode) -> None:
    diary = Diary()
    own, grouped = ValueError("mine"), ExceptionGroup("mine", [ValueError("inside")])
    async with testing.client({"diary": diary}) as client:
        for error in (own, grouped):
            with pytest.raises((ValueError, ExceptionGroup)) as caught:
                async with client.episode("diary", mcp_mode=mode):
                    raise error
            assert caught.value is error
    assert [reason for _, reason in diary.closed] == ["closed", "closed"]


async def test_a_cancelled_episode_is_closed_too() -> None:
    diary = Diary()
    with anyio.fail_after(10):
        async with testing.client({"diary": diary}) as client:
            with anyio.CancelScope() as scope:
                async with client.episode("diary"):
                    scope.cancel()
                    await anyio.lowlevel.checkpoint()
            assert scope.cancelled_caught
            assert [reason for _, reason in diary.closed] == ["closed"]


@both_modes
async def test_a_session_goes_on_where_another_left_it_and_stays_open(mode: McpMode) -> None:
    diary = Diary()
    async with testing.client({"diary": diary}) as client:
        seeded = await client.seed("diary")
        for note in ("one", "two"):
            async with client.resume("diary", seeded, mcp_mode=mode) as episode:
                await episode.call_tool("write", {"note": note})
        assert diary.closed == []
        calls = (await client.session(seeded.session_id))["calls"]
        assert [call["arguments"] for call in calls] == [{"note": "one"}, {"note": "two"}]
        assert "reward" in await client.verify("diary", seeded.session_id, "done")
    assert diary.closed == [(seeded.session_id, "verified")]


# -- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ask", "status", "kind"),
    [
        (lambda client: client.environment("nowhere"), 404, "unknown_environment"),
        (lambda client: client.seed("nowhere"), 404, "unknown_environment"),
        (lambda client: client.session("unknown"), 404, "session_lost"),
        (lambda client: client.request("GET", "/nowhere"), 404, "not_found"),
        (lambda client: client.environment("a?b#c"), 404, "unknown_environment"),
        (lambda client: client.session("a?b#c"), 404, "session_lost"),
    ],
)
async def test_a_refusal_carries_its_problem(
    ask: Callable[[Client], Any], status: int, kind: str
) -> None:
    async with testing.client({"diary": Diary}) as client:
        with pytest.raises(ApiError) as caught:
            await ask(client)
    error = caught.value
    assert (error.status, error.failure_kind) == (status, kind)
    assert error.problem["status"] == status
    assert str(error) == f"{status} {kind}: {error.problem['detail']}"


async def test_a_full_environment_says_so() -> None:
    one = EnvironmentConfig(plugin=Diary, limits=Limits(open_sessions=1))
    async with testing.client({"diary": one}) as client, client.episode("diary"):
        with pytest.raises(ApiError) as caught:
            async with client.episode("diary"):
                pytest.fail("there is no room")  # pragma: no cover
    assert (caught.value.status, caught.value.failure_kind) == (503, "over_capacity")


def answering(response: Callable[[], httpx2.Response], **options: Any) -> Client:
    """Return a client of a server that always answers alike."""
    transport = httpx2.MockTransport(lambda request: response())
    return Client("http://other.test", "key", transport=transport, **options)


@pytest.mark.parametrize(
    ("response", "text"),
    [
        (lambda: httpx2.Response(502, text="<h1>Bad Gateway</h1>"), "502: <h1>Bad Gateway</h1>"),
        (lambda: httpx2.Response(504), "504: Gateway Timeout"),
        (lambda: httpx2.Response(200, text="hello"), "200: hello"),
        (lambda: httpx2.Response(200, json=["a list"]), '200: ["a list"]'),
        (lambda: httpx2.Response(500, json={"detail": "odd"}), "500: odd"),
        (lambda: httpx2.Response(307, headers={"location": "/x"}), "307: Temporary Redirect"),
    ],
)
async def test_the_answer_of_some_other_server_is_an_error(
    response: Callable[[], httpx2.Response], text: str
) -> None:
    async with answering(response) as client:
        with pytest.raises(ApiError) as caught:
            await client.environments()
    assert str(caught.value) == text
    assert caught.value.failure_kind is None


async def test_a_seed_answer_of_some_other_server_is_an_error() -> None:
    async with answering(lambda: httpx2.Response(200, json={"session": 1})) as client:
        with pytest.raises(ApiError) as caught:
            await client.seed("diary")
    assert str(caught.value) == "200: {'session': 1}"
    assert caught.value.failure_kind is None


async def test_a_connection_that_fails_is_the_error_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with testing.client({"diary": Diary}) as client:

        async def fail(request: httpx2.Request) -> httpx2.Response:
            if request.url.path.endswith("/mcp"):
                raise httpx2.ConnectError("refused")
            return await passed(request)

        passed = client._transport.handle_async_request
        monkeypatch.setattr(client._transport, "handle_async_request", fail)
        with pytest.raises(httpx2.ConnectError, match="refused"):
            async with client.episode("diary"):
                pytest.fail("it connected")  # pragma: no cover
        assert (await client.environment("diary"))["use"]["open_sessions"] == 0


async def test_a_server_that_is_not_there_is_an_http_error() -> None:
    async with Client("http://127.0.0.1:9", "key") as client:
        with pytest.raises(httpx2.ConnectError):
            await client.seed("diary")


async def test_a_server_that_goes_away_during_an_episode_does_not_hide_the_callers_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def break_and_fail(client: testing.InProcessClient) -> None:
        async with client.episode("diary"):
            client.host.mounts.clear()
            raise ValueError("mine")

    async with testing.client({"diary": Diary}) as client:
        with pytest.raises(ValueError, match="mine"):
            await break_and_fail(client)
    assert "could not be closed: 404 unknown_environment" in caplog.text


async def test_a_session_that_is_not_there_any_more_is_closed_without_a_word(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with testing.client({"diary": Diary}) as client:
        await client.close("diary", "0" * 32)
    assert caplog.text == ""


# -- the key ---------------------------------------------------------------------------------------


def sent_key(client: Client) -> str | None:
    key: str | None = client._http.headers.get("authorization")
    return key


async def test_the_key_is_the_given_one_or_the_one_that_serve_has_minted(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("GYMHOST_API_KEY", raising=False)
    async with Client() as client:
        assert sent_key(client) is None
    minted = mint_key()
    async with Client() as client, Client(key="mine") as other:
        assert sent_key(client) == f"Bearer {minted}"
        assert sent_key(other) == "Bearer mine"
    monkeypatch.setenv("GYMHOST_API_KEY", "configured")
    async with Client() as client:
        assert sent_key(client) == "Bearer configured"


@pytest.mark.parametrize("url", ["https://gym.example", "http://203.0.113.7:8000"])
async def test_the_minted_key_does_not_leave_this_machine(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("GYMHOST_API_KEY", raising=False)
    minted = mint_key()
    async with Client(url) as client, Client("http://[::1]:8000") as here:
        assert sent_key(client) is None
        assert sent_key(here) == f"Bearer {minted}"
    monkeypatch.setenv("GYMHOST_API_KEY", "configured")
    async with Client(url) as client:
        assert sent_key(client) == "Bearer configured"


async def test_without_a_key_nothing_is_told() -> None:
    async with testing.client({"diary": Diary}) as client:
        transport = httpx2.ASGITransport(client.app)
        async with Client("http://gymhost.test", "wrong", transport=transport) as stranger:
            with pytest.raises(ApiError) as caught:
                await stranger.environments()
    assert (caught.value.status, caught.value.failure_kind) == (401, "unauthorized")


# -- the record ------------------------------------------------------------------------------------


async def test_sessions_are_read_page_by_page_up_to_a_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "PAGE", 2)
    async with testing.client({"diary": Diary, "other": Diary}) as client:
        seeded = [(await client.seed("diary")).session_id for _ in range(5)][::-1]
        await client.seed("other")

        async def found(**query: Any) -> list[str]:
            return [each["session_id"] async for each in client.sessions(**query)]

        assert await found(environment="diary") == seeded
        for limit in range(7):
            assert await found(environment="diary", limit=limit) == seeded[:limit]
        assert await found(status="verified") == []
        now = datetime.now(UTC)
        assert await found(environment="diary", since=now - timedelta(hours=1)) == seeded
        assert await found(since=now.astimezone().replace(tzinfo=None) + timedelta(hours=1)) == []
        assert len(await found(until=now + timedelta(hours=1))) == 6


async def test_a_session_is_deleted_and_old_ones_are_pruned() -> None:
    async with testing.client({"diary": Diary}) as client:
        one, two = await client.seed("diary"), await client.seed("diary")
        await client.delete(one.session_id)
        with pytest.raises(ApiError) as caught:
            await client.session(one.session_id)
        assert caught.value.failure_kind == "session_lost"
        with pytest.raises(ApiError, match="404 not_found"):  # it is no path, either
            await client.delete("../envs")
        await client.close("diary", two.session_id)
        later = datetime.now(UTC) + timedelta(hours=1)
        assert await client.prune(later, environment="other") == 0
        assert await client.prune(later) == 1


@pytest.mark.parametrize(
    "answer",
    [{}, {"sessions": []}, {"sessions": 1, "cursor": None}, {"sessions": [1], "cursor": None}],
    ids=str,
)
async def test_another_servers_list_is_an_error(answer: Any) -> None:
    transport = httpx2.MockTransport(lambda request: httpx2.Response(200, json=answer))
    async with Client(key="key", transport=transport) as client:
        with pytest.raises(ApiError):
            _ = [each async for each in client.sessions()]
        with pytest.raises(ApiError):
            await client.prune(datetime.now(UTC))
