"""Every error of the control plane: its shape, and what it never tells."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, Callable
from typing import Any

import anyio
import httpx2
import pytest

from gymhost.config import EnvironmentConfig
from gymhost.errors import RequestError
from gymhost.http.mcp import TOKEN_HEADER
from gymhost.http.problems import problem
from gymhost.limits import Limits
from tests.environments import Broken, Diary
from tests.faulty_store import CANARY as STORE_CANARY
from tests.faulty_store import FaultyStore
from tests.served import NO_ANSWER, Served, raw_client, serve

CANARY = "canary-of-the-environment"
HIDDEN = (CANARY, STORE_CANARY, "Traceback", 'File "', ".py", "site-packages", "/work")


def subclasses(kind: type[RequestError]) -> list[type[RequestError]]:
    return [kind, *(each for child in kind.__subclasses__() for each in subclasses(child))]


def make(kind: type[RequestError]) -> RequestError:
    """Make an error of any kind."""
    error = kind.__new__(kind)
    RequestError.__init__(error, "what happened")
    return error


@pytest.mark.parametrize("kind", subclasses(RequestError), ids=lambda kind: kind.__name__)
def test_an_error_is_a_problem_that_says_what_failed_and_masks_the_sample(
    kind: type[RequestError],
) -> None:
    error = make(kind)
    error.failure_kind = getattr(kind, "failure_kind", "session_closed")
    reply = problem(error)
    assert reply.status == error.status >= 400
    assert (b"content-type", b"application/problem+json") in reply.head()
    body = json.loads(reply.body)
    assert set(body) == {"type", "title", "status", "detail", "failure_kind", "mask_sample"}
    assert body["status"] == error.status
    assert body["detail"] == "what happened"
    assert body["mask_sample"] is True
    assert body["failure_kind"]
    assert body["title"]


Request = Callable[[Served], Any]


def post(path: str, body: Any = None, **headers: str) -> Request:
    async def send(served: Served) -> httpx2.Response:
        content = body if isinstance(body, bytes) else None
        json = None if isinstance(body, bytes) else body
        served.http.cookies.clear()
        return await served.http.post(path, content=content, json=json, headers=headers)

    return send


def get(path: str, method: str = "GET") -> Request:
    async def send(served: Served) -> httpx2.Response:
        return await served.http.request(method, path)

    return send


async def crashed(served: Served) -> httpx2.Response:
    session = await served.seed("diary")
    await served.call(session, "crash")
    return await served.verify(session)


async def failed(served: Served) -> httpx2.Response:
    session = await served.seed("verify")
    return await served.verify(session)


async def closed(served: Served) -> httpx2.Response:
    session = await served.seed("diary")
    await served.close(session)
    return await served.verify(session)


async def conflicting(served: Served) -> httpx2.Response:
    session = await served.seed("diary")
    await served.verify(session)
    return await served.verify(session, {"another": True})


async def mismatched(served: Served) -> httpx2.Response:
    session = await served.seed("diary")
    return await served.verify(session, {"verifier_metadata": {"answer": CANARY}})


async def store_down(served: Served) -> httpx2.Response:
    store = served.host.store
    assert isinstance(store, FaultyStore)
    store.fail("create")
    try:
        return await served.post("diary", "seed_session", {})
    finally:
        store.broken.clear()


async def bug(served: Served) -> httpx2.Response:
    store = served.host.store
    assert isinstance(store, FaultyStore)
    store.broken["create"] = RuntimeError(CANARY)
    try:
        return await served.post("diary", "seed_session", {})
    finally:
        store.broken.clear()


async def keyless(served: Served) -> httpx2.Response:
    async with raw_client(served.client, key=CANARY) as http:
        return await http.get("/envs")


async def full(served: Served) -> httpx2.Response:
    await served.seed("small")
    return await served.post("small", "seed_session", {})


PROBLEMS: dict[str, tuple[Request, int, str]] = {
    "no page": (get("/nothing"), 404, "not_found"),
    "no page of an environment": (get("/envs/diary/nothing"), 404, "not_found"),
    "no deeper page": (get("/envs/diary/verify/deeper"), 404, "not_found"),
    "a wrong method": (get("/envs/diary/verify"), 405, "method_not_allowed"),
    "a wrong method of a route": (get("/envs", "POST"), 405, "method_not_allowed"),
    "no environment": (get("/envs/nowhere"), 404, "unknown_environment"),
    "no environment's seed": (post("/envs/nowhere/seed_session"), 404, "unknown_environment"),
    "no session": (get("/sessions/nothing"), 404, "session_lost"),
    "no key": (keyless, 401, "unauthorized"),
    "not JSON": (post("/envs/diary/seed_session", b"{"), 400, "invalid_request"),
    "no object": (post("/envs/diary/verify", []), 400, "invalid_request"),
    "a wrong type": (post("/envs/diary/verify", {"session_id": 1}), 422, "invalid_request"),
    "no session named": (post("/envs/diary/verify", {}), 422, "invalid_request"),
    "too large": (post("/envs/small/verify", b"x" * 101), 413, "body_too_large"),
    "too many sessions": (full, 503, "over_capacity"),
    "an environment that is down": (get("/envs/startup"), 503, "environment_error"),
    "a seed that fails": (post("/envs/seed/seed_session", {}), 502, "environment_error"),
    "a seed that hangs": (post("/envs/hang/seed_session", {}), 504, "environment_timeout"),
    "a verify that fails": (failed, 502, "environment_error"),
    "a session that is masked": (crashed, 502, "environment_error"),
    "a session that was closed": (closed, 410, "session_closed"),
    "another body": (conflicting, 409, "already_verified"),
    "another task": (mismatched, 409, "task_mismatch"),
    "a store that is down": (store_down, 503, "store_error"),
    "a bug of ours": (bug, 503, "internal_error"),
}


class Crashing(Diary):
    async def verify(self, session: Any, trajectory: Any) -> float:
        return 0.0


# It names the backend: pytest would give the asyncio one's host to the tests on trio otherwise.
@pytest.fixture(scope="module")
async def served(anyio_backend: str) -> AsyncGenerator[Served]:
    def config(where: str, how: BaseException | None) -> EnvironmentConfig:
        return EnvironmentConfig(plugin=Broken(where, how), limits=Limits(seed_seconds=0.05))

    environments = {
        "diary": Diary(),
        "small": EnvironmentConfig(plugin=Diary(), limits=Limits(open_sessions=1, body_bytes=100)),
        "startup": config("startup", ValueError("it has no disk")),
        "seed": config("seed", ValueError(CANARY)),
        "hang": config("seed", None),
        "verify": config("verify", ExceptionGroup(CANARY, [OSError(CANARY)])),
    }
    async with serve(environments, store=FaultyStore(), strict=False) as served:
        yield served


@pytest.mark.parametrize("name", PROBLEMS)
async def test_every_error_is_a_problem_and_tells_nothing_it_should_not(
    served: Served, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    request, status, kind = PROBLEMS[name]
    with anyio.fail_after(10):
        answer = await request(served)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["status"], body["failure_kind"], body["mask_sample"]) == (status, kind, True)
    assert body["type"] == "about:blank"
    assert body["detail"]
    assert "reward" not in body
    everything = f"{answer.text} {answer.headers}"
    for hidden in (*HIDDEN, served.client.key):
        assert hidden not in everything
    # a good request after it
    assert (await served.verify(await served.seed("diary"))).json() == {**NO_ANSWER, "reward": 0.0}


async def test_what_failed_is_in_the_log_with_its_cause(caplog: pytest.LogCaptureFixture) -> None:
    diary = Diary()
    diary.reward = ValueError(CANARY)
    caplog.set_level(logging.ERROR)
    async with serve({"diary": diary}) as served:
        session = await served.seed("diary")
        await served.verify(session)
        await served.call(session, "crash")
    (logged,) = [record for record in caplog.records if record.name == "gymhost.environment"]
    assert logged.exc_info is not None
    assert CANARY in str(logged.exc_info[1])


async def test_tokens_and_keys_are_in_no_answer_and_in_no_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The token is told once, by the seed that made it."""
    caplog.set_level(logging.DEBUG)
    store = FaultyStore()
    async with serve({"diary": Diary()}, store=store) as served:
        session = await served.seed("diary", {"verifier_metadata": {"notes": []}})
        answers = []
        for name, arguments in (("write", {"note": "a"}), ("crash", {}), ("nothing", {})):
            answers.append(str(await served.call(session, name, **arguments)))
        store.fail("commit")
        answers.append(str(await served.call(session, "write", note="b")))
        store.broken.clear()
        for path in ("/envs", "/envs/diary", f"/sessions/{session.id}", "/readyz", "/healthz"):
            response = await served.http.get(path)
            answers.append(f"{response.text} {response.headers}")
        for response in (
            await served.verify(session),
            await served.verify(session, {"a": 1}),
            await served.close(session),
            await served.post("diary", "verify", {"session_id": session.token}),
        ):
            answers.append(response.text.replace(repr(session.token), "what was sent"))
        answers.append(str(await served.call(session, "write", note="late")))
        forged = session.token[:-1] + ("A" if session.token[-1] != "A" else "B")
        response = await served.http.post(
            "/envs/diary/mcp",
            json={
                "jsonrpc": "2.0",
                "id": 1,
                "method": "tools/call",
                "params": {"name": "write", "arguments": {"note": "a"}},
            },
            headers={"accept": "application/json", TOKEN_HEADER: forged},
        )
        assert forged not in response.text
        key = served.client.key
    logged = "\n".join(f"{record.getMessage()} {record.exc_text}" for record in caplog.records)
    for text in (*answers, logged):
        assert session.token not in text
        assert forged not in text
        assert key not in text
    assert "the cause" in logged  # the crash, with its traceback
    assert not any("the cause" in answer for answer in answers)
