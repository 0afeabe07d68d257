"""The control plane's answers: their shapes, their cookies, and the echo of a verify."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
from pydantic import BaseModel, ConfigDict

from gymhost import Environment, Session, Trajectory, VerifyResult, hookimpl
from gymhost.config import EnvironmentConfig
from gymhost.host import Host
from gymhost.http.app import create_app
from gymhost.http.auth import KeyGuard
from gymhost.http.mcp import TOKEN_HEADER
from gymhost.limits import Limits
from tests.environments import Broken, Diary, Judge
from tests.faulty_store import FaultyStore
from tests.served import NO_ANSWER, HandClock, Seeded, serve


async def test_seed_answers_where_the_tools_are_and_what_opens_them() -> None:
    clock = HandClock()
    async with serve({"diary": Diary()}, clock=clock) as served:
        answer = await served.post("diary", "seed_session", {})
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        body = answer.json()
        session_id = body["session_id"]
        token = body["mcp"]["headers"][TOKEN_HEADER]
        assert len(token) >= 43  # 256 bits
        assert body == {
            "session_id": session_id,
            "expires_at": datetime.fromtimestamp(clock.now + 600, UTC).isoformat(),
            "mcp": {
                "server_name": "diary",
                "url_path": "/mcp",
                "url": "http://gymhost.test/envs/diary/mcp",
                "transport": "http",
                "headers": {TOKEN_HEADER: token},
            },
        }
        cookie = f"gymhost_session={session_id}; Path=/envs/diary; HttpOnly; SameSite=Lax"
        assert answer.headers["set-cookie"] == cookie


async def test_an_environment_without_tools_answers_without_mcp() -> None:
    async with serve({"judge": Judge()}) as served:
        answer = (await served.post("judge", "seed_session", {})).json()
        assert set(answer) == {"session_id", "expires_at"}


@pytest.mark.parametrize(
    ("public_url", "expected"),
    [
        (None, "http://gym.example:8000"),
        ("https://gym.example/base/", "https://gym.example/base"),
        ("https://gym.example", "https://gym.example"),
    ],
)
async def test_the_url_is_the_public_one_or_else_what_the_client_called(
    public_url: str | None, expected: str
) -> None:
    host = Host({"diary": Diary()}, discover=False)
    app = create_app(host, KeyGuard(["key"]), public_url=public_url)
    async with app.router.lifespan_context(app):
        async with httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app),
            base_url="http://gym.example:8000",
            headers={"authorization": "Bearer key"},
        ) as http:
            answer = (await http.post("/envs/diary/seed_session")).json()
    assert answer["mcp"]["url"] == f"{expected}/envs/diary/mcp"


async def test_a_client_that_keeps_cookies_needs_nothing_else() -> None:
    """As the clients of this wire do: one jar, several environments."""
    async with serve({"diary": Diary(), "other": Diary()}) as served:
        for name in ("diary", "other"):
            assert (await served.http.post(f"/envs/{name}/seed_session")).status_code == 200
        for name in ("diary", "other"):
            answer = await served.http.post(f"/envs/{name}/verify", json=NO_ANSWER)
            assert answer.json() == {**NO_ANSWER, "reward": 0.0}
            closed = await served.http.post(f"/envs/{name}/close_session")
            assert closed.json()["status"] == "verified"


@pytest.mark.parametrize(
    "cookie",
    [
        "gymhost_session={}",
        'gymhost_session="{}"',
        "a=1; gymhost_session={}; b=2",
        'theme={{"dark": true}}; gymhost_session={}',
        "gymhost_session=; gymhost_session={}; gymhost_session=old",
        "broken; gymhost_session={}",
    ],
)
async def test_a_session_is_named_by_the_first_cookie_of_that_name(cookie: str) -> None:
    async with serve({"diary": Diary()}) as served:
        session = await served.seed("diary")
        answer = await served.post("diary", "verify", NO_ANSWER, cookie=cookie.format(session.id))
        assert answer.status_code == 200
        assert answer.headers["set-cookie"].startswith(f"gymhost_session={session.id};")


async def test_the_body_wins_over_the_cookie() -> None:
    async with serve({"diary": Diary()}) as served:
        first, second = await served.seed("diary"), await served.seed("diary")
        body = {"session_id": second.id}
        answer = await served.post("diary", "verify", body, **first.cookie)
        assert answer.json() == {**body, "reward": 0.0}
        assert answer.headers["set-cookie"].startswith(f"gymhost_session={second.id};")
        statuses = [(await served.record(session))["status"] for session in (first, second)]
        assert statuses == ["open", "verified"]
        # null names none
        named = await served.post("diary", "verify", {"session_id": None}, **first.cookie)
        assert named.json() == {"session_id": None, "reward": 0.0}


@pytest.mark.parametrize("named", [1, True, [], {}, 1.5, ""])
@pytest.mark.parametrize("page", ["verify", "close_session"])
async def test_a_session_id_of_another_type_is_refused(page: str, named: Any) -> None:
    async with serve({"diary": Diary()}) as served:
        session = await served.seed("diary")
        answer = await served.post("diary", page, {"session_id": named}, **session.cookie)
        assert (answer.status_code, answer.json()["failure_kind"]) == (422, "invalid_request")
        assert (await served.record(session))["status"] == "open"


@pytest.mark.parametrize("page", ["verify", "close_session"])
@pytest.mark.parametrize("cookie", ["", "gymhost_session=", "other=1", "gymhost_session"])
async def test_a_request_that_names_no_session_is_refused(page: str, cookie: str) -> None:
    async with serve({"diary": Diary()}) as served:
        answer = await served.post("diary", page, {}, cookie=cookie)
        assert (answer.status_code, answer.json()["failure_kind"]) == (422, "invalid_request")


async def test_every_answer_that_belongs_to_a_session_sets_the_cookie_again() -> None:
    """Clients go on with the cookies of the last answer: an error must not lose the session."""
    diary, store = Diary(), FaultyStore()
    async with serve({"diary": diary}, store=store) as served:
        failed, crashed, closed, other = [await served.seed("diary") for _ in range(4)]
        answers: list[tuple[int, Seeded, httpx2.Response]] = []

        async def verify(status: int, session: Seeded, body: Any = NO_ANSWER) -> None:
            answers.append((status, session, await served.verify(session, body)))

        diary.reward = ValueError("no")
        await verify(502, failed)
        diary.reward = None
        await verify(200, failed)
        await verify(409, failed, {})
        await served.call(crashed, "crash")
        await verify(502, crashed)
        await verify(502, crashed)
        answers.append((200, closed, await served.close(closed)))
        await verify(410, closed)
        await verify(409, other, {"verifier_metadata": {"a": 1}})
        store.fail("transition")
        await verify(503, other)
        answers.append((503, other, await served.close(other)))
        store.broken.clear()
        minimal = await served.verify(other, prefer="return=minimal")
        answers.append((200, other, minimal))
        for status, session, answer in answers:
            cookie = f"gymhost_session={session.id}; Path=/envs/diary; HttpOnly; SameSite=Lax"
            assert (answer.status_code, answer.headers["set-cookie"]) == (status, cookie)


@pytest.mark.parametrize("named", ["0" * 32, "x\r\nset-cookie: a=b", "\u2028", "a;b"])
async def test_what_names_no_session_sets_no_cookie(named: str) -> None:
    store = FaultyStore()
    async with serve({"diary": Diary()}, store=store) as served:
        lost = await served.post("diary", "verify", {"session_id": named})
        assert (lost.status_code, lost.json()["failure_kind"]) == (404, "session_lost")
        assert "set-cookie" not in lost.headers
        store.fail("get")
        failed = await served.post("diary", "verify", {"session_id": named})
        assert failed.status_code == 503
        assert failed.headers.get("set-cookie", f"gymhost_session={'0' * 32};").startswith(
            f"gymhost_session={'0' * 32};"
        )


ECHOES = [
    b"{}",
    b"{ }",
    b"",
    b'{"a":1}',
    b'{\n  "response": {"output": []},\n  "b" : [ 1, 2.50, 1e2 ]\n}',
    b'{"a":1} \n\t ',
    '{"Grüße": "Zürich 👋"}'.encode(),
    b'{"a": "\\u00fc \\/ \\ud83d\\ude00"}',
    b'{"a": "cut off: \\ud83d"}',
    b'{"a": 123456789012345678901234567890, "b": -0.0}',
    b'{"a": 1, "a": 2}',
]


@pytest.mark.parametrize("raw", ECHOES)
async def test_verify_echoes_the_body_byte_for_byte_in_front_of_what_it_adds(raw: bytes) -> None:
    diary = Diary()
    diary.reward = VerifyResult(reward=1, note="ü")
    added = '"reward":1.0,"note":"ü"}'.encode()
    async with serve({"diary": diary}) as served:
        session = await served.seed("diary")
        answer = await served.verify(session, raw)
        assert answer.status_code == 200
        echo = raw.rstrip()[:-1].rstrip()
        expected = b"{" + added if echo in (b"", b"{") else raw.rstrip()[:-1] + b"," + added
        assert answer.content == expected
        assert answer.json()["reward"] == 1.0
        if b"ud83d" not in raw:
            body = json.loads(raw or b"{}")
            assert answer.json() == {**body, "reward": 1.0, "note": "ü"}


@pytest.mark.parametrize(
    ("raw", "echo"),
    [
        (b'{"reward": 0.25, "a": "\\u00fc", "z": 1}', {"a": "ü", "z": 1}),
        (b'{"note": null}', {}),
        (b'{"reward": "\\ud83d", "cut": "\\ud83d"}', {"cut": "\ufffd"}),
        (
            b'{"a": 123456789012345678901234567890, "reward": 1}',
            {"a": 123456789012345678901234567890},
        ),
    ],
)
async def test_what_verify_adds_replaces_what_the_body_has_under_the_same_name(
    raw: bytes, echo: dict[str, Any]
) -> None:
    diary = Diary()
    diary.reward = VerifyResult(reward=1, note="ü")
    async with serve({"diary": diary}) as served:
        answer = await served.verify(await served.seed("diary"), raw)
        pairs = json.loads(answer.content, object_pairs_hook=list)
        assert len(pairs) == len(dict(pairs))  # no name twice
        assert dict(pairs) == {**echo, "reward": 1.0, "note": "ü"}


async def test_a_recorded_answer_echoes_the_body_of_its_own_request() -> None:
    async with serve({"diary": Diary()}) as served:
        session = await served.seed("diary")
        raw = b'{ "a" : "Gr\xc3\xbc\xc3\x9fe" }'
        answers = [(await served.verify(session, raw)).content for _ in range(2)]
        assert answers == [b'{ "a" : "Gr\xc3\xbc\xc3\x9fe" ,"reward":0.0}'] * 2


@pytest.mark.parametrize(
    "prefer", ["return=minimal", "respond-async, Return = Minimal", "return=minimal; foo"]
)
async def test_prefer_return_minimal_leaves_the_echo_out(prefer: str) -> None:
    async with serve({"diary": Diary()}) as served:
        answer = await served.verify(await served.seed("diary"), prefer=prefer)
        assert answer.content == b'{"reward":0.0}'


async def test_prefer_return_representation_keeps_the_echo() -> None:
    async with serve({"diary": Diary()}) as served:
        session = await served.seed("diary")
        answer = await served.verify(session, prefer="return=representation")
        assert answer.json() == {**NO_ANSWER, "reward": 0.0}


async def test_an_environments_page_shows_its_tools_limits_use_and_counts() -> None:
    config = EnvironmentConfig(plugin=Diary(), limits=Limits(open_sessions=5))
    async with serve({"diary": config, "judge": Judge()}) as served:
        session = await served.seed("diary")
        await served.call(session, "write", note="a")
        page = (await served.http.get("/envs/diary")).json()
        tools = {each["name"]: each for each in page.pop("tools")}
        assert set(tools) == {"write", "wait", "look", "refuse", "crash"}
        assert tools["write"] == {
            "name": "write",
            "description": "Write a note down, and read all of them.",
            "inputSchema": {
                "type": "object",
                "properties": {"note": {"type": "string"}},
                "required": ["note"],
                "additionalProperties": False,
            },
        }
        limits = page.pop("limits")
        assert (limits["open_sessions"], limits["tool_seconds"]) == (5, 60.0)
        assert page == {
            "name": "diary",
            "status": "up",
            "distribution": None,
            "version": None,
            "url_path": "/envs/diary",
            "stateless": False,
            "use": {**dict.fromkeys(page["use"], 0), "open_sessions": 1, "session_calls": 1},
            "limits_hit": {},
            "counts": {"calls": 1, "seeded": 1},
        }
        judge = (await served.http.get("/envs/judge")).json()
        assert (judge["stateless"], judge["tools"]) == (True, [])


async def test_the_list_of_environments_says_what_failed_and_why() -> None:
    class Watching:
        @hookimpl(wrapper=True)
        def verify(self) -> Any:
            return (yield)

    environments = {"diary": Diary(), "beta": Diary(), "broken": Broken("startup", OSError("disk"))}
    async with serve(environments, extensions=[Watching], strict=False) as served:
        listed = (await served.http.get("/envs")).json()
        assert [each["name"] for each in listed["environments"]] == ["beta", "diary"]
        assert listed["environments"][1] == (await served.http.get("/envs/diary")).json()
        (extension,) = listed["extensions"]
        assert (extension["name"], extension["kind"], extension["status"]) == (
            "Watching",
            "extension",
            "up",
        )
        (failed,) = listed["failed"]
        assert (failed["name"], failed["kind"], failed["status"]) == (
            "broken",
            "environment",
            "failed",
        )
        assert "disk" in failed["reason"]
        down = await served.http.get("/envs/broken")
        assert (down.status_code, down.json()["failure_kind"]) == (503, "environment_error")
        assert "disk" in down.json()["detail"]


async def test_a_sessions_page_is_its_record() -> None:
    clock = HandClock()
    task = {
        "responses_create_params": {"input": "?"},
        "verifier_metadata": {"tools": ["write", "crash"]},
        "id": 1,
    }
    async with serve({"diary": Diary()}, clock=clock) as served:
        session = await served.seed("diary", task)
        at = "2023-11-14T22:13:20+00:00"
        assert await served.record(session) == {
            "session_id": session.id,
            "environment": "diary",
            "status": "open",
            "task": task,
            "state": {"notes": []},
            "allowed_tools": ["crash", "write"],
            "calls": [],
            "failures": {},
            "verdict": None,
            "pinned": False,
            "created_at": at,
            "used_at": None,
            "ended_at": None,
        }
        clock.now += 1
        await served.call(session, "write", note="a")
        await served.verify(session)
        record = await served.record(session)
        later = "2023-11-14T22:13:21+00:00"
        assert record["verdict"] == {
            "reward": 1.0,
            "mask_sample": False,
            "failure_kind": None,
            "recorded_at": later,
        }
        assert (record["used_at"], record["ended_at"]) == (later, later)
        assert (record["status"], record["state"]) == ("verified", {"notes": ["a"]})
        assert session.token not in json.dumps(record)
        lost = await served.http.get("/sessions/nowhere")
        assert (lost.status_code, lost.json()["failure_kind"]) == (404, "session_lost")


class Limit(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="constants")

    limit: float = math.inf


async def test_a_sessions_page_is_json_though_its_state_holds_an_infinity() -> None:
    class Unlimited(Environment[Limit]):
        async def verify(self, session: Session[Limit], trajectory: Trajectory) -> float:
            return float(session.state.limit == math.inf)

    async with serve({"unlimited": Unlimited()}) as served:
        session = await served.seed("unlimited")
        assert (await served.record(session))["state"] == {"limit": "Infinity"}
        assert (await served.verify(session)).json()["reward"] == 1.0


async def test_an_echo_that_is_written_anew_is_json_whatever_came() -> None:
    async with serve({"diary": Diary()}) as served:
        session = await served.seed("diary")
        answer = await served.verify(session, b'{"reward": 7, "x": 1e400}')
        assert answer.json() == {"reward": 0.0, "x": None}
