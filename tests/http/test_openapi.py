"""The document of what is served: valid, whole, and true of every status that it names."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

import anyio
import httpx2
import jsonschema_rs
import pytest
import schemathesis
from gym_env_weather import Weather

from gymhost.config import EnvironmentConfig
from gymhost.host import Host
from gymhost.http import app as app_module
from gymhost.http.app import Page, create_app
from gymhost.http.auth import Guard, KeyGuard, LoopbackGuard
from gymhost.http.mcp import TOKEN_HEADER, McpEndpoint
from gymhost.http.operations import CONTROL_PLANE
from gymhost.limits import Limits
from tests.environments import Broken, Diary
from tests.faulty_store import FaultyStore
from tests.http.wire import MODERN, modern_meta
from tests.served import NO_ANSWER, Served, raw_client, serve
from tests.stores.sessions import acquire, new

KEY = KeyGuard(["key"])


def document(guard: Guard = KEY, **options: Any) -> Any:
    return create_app(Host({"diary": Diary}, discover=False), guard, **options).openapi.document


def operations(document: Any) -> Iterator[tuple[str, str, Any]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                yield method.upper(), path, operation


@pytest.mark.parametrize("guard", [KEY, LoopbackGuard()], ids=["key", "no-key"])
def test_the_document_is_openapi(guard: Guard) -> None:
    written = json.loads(json.dumps(document(guard, mcp_allowed_hosts=["gym.example"])))
    assert written["openapi"].startswith("3.1.")
    schemathesis.openapi.from_dict(written).validate()
    for schema in written["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema)
    jsonschema_rs.Draft202012Validator({"$ref": "#/components/schemas/Environments", **written})


def test_every_operation_says_what_it_is() -> None:
    written = document()
    tags = {tag["name"] for tag in written["tags"]}
    ids = [operation["operationId"] for _, _, operation in operations(written)]
    assert sorted(ids) == sorted(set(ids))
    for _, _, operation in operations(written):
        assert operation["summary"]
        assert operation["description"].endswith(".")
        assert set(operation["tags"]) <= tags
        assert all(answer["description"] for answer in operation["responses"].values())
    for name, schema in written["components"]["schemas"].items():
        assert schema["description"], name


def test_no_other_5xx_is_documented_than_502_503_and_504() -> None:
    statuses = {int(s) for _, _, each in operations(document()) for s in each["responses"]}
    assert {status for status in statuses if status >= 500} == {502, 503, 504}


def test_the_control_plane_needs_the_key_but_for_its_health() -> None:
    open_to_all = {
        path
        for _, path, operation in operations(document())
        if operation["security"] != [{"controlKey": []}]
    }
    assert open_to_all == {"/", "/healthz", "/readyz", "/envs/{name}/mcp"}
    assert document()["components"]["securitySchemes"]["controlKey"]["scheme"] == "bearer"


def test_without_a_key_none_is_documented() -> None:
    written = document(LoopbackGuard())
    assert "controlKey" not in json.dumps(written)
    for _, path, operation in operations(written):
        assert "401" not in operation["responses"]
        guarded = path not in ("/", "/healthz", "/readyz", "/envs/{name}/mcp")
        assert ("403" in operation["responses"]) == guarded


def test_refusals_of_a_host_are_documented_where_hosts_are_checked() -> None:
    for hosts, expected in (([], False), (["gym.example"], True)):
        answers = document(mcp_allowed_hosts=hosts)["paths"]["/envs/{name}/mcp"]["post"][
            "responses"
        ]
        assert ("421" in answers) == ("403" in answers) == expected


def test_the_server_is_where_clients_reach_it() -> None:
    assert document()["servers"] == [{"url": "/"}]
    assert document(public_url="https://gym.example")["servers"] == [{"url": "https://gym.example"}]


async def test_what_is_mounted_is_what_may_be_named() -> None:
    environments = {"b": Diary(), "a": Diary(), "broken": Broken("startup", OSError("disk"))}
    async with serve(environments, strict=False) as served:
        answer = await served.http.get("/openapi.json")
        (parameter,) = answer.json()["components"]["parameters"].values()
        assert parameter["schema"]["enum"] == ["a", "b"]
    async with serve({}) as served:
        answer = await served.http.get("/openapi.json")
        (parameter,) = answer.json()["components"]["parameters"].values()
        assert parameter["schema"] == {"type": "string"}  # an enum of nothing is none


def test_a_thousand_environments_add_their_names_alone() -> None:
    sizes = []
    for number in (1, 1_000):
        host = Host({"diary": Diary}, discover=False)
        (mount,) = host.mounts.values()
        host.mounts = {f"environment-{i}": mount for i in range(number)}
        sizes.append(len(json.dumps(create_app(host, KEY).openapi.document)))
    assert sizes[0] < 70_000
    assert sizes[1] - sizes[0] < 1_000 * len('"environment-999", ')


async def test_it_is_written_when_it_is_asked_for_and_once() -> None:
    app = create_app(Host({"diary": Diary()}, discover=False), KEY)
    assert "document" not in vars(app.openapi)
    async with serve({"diary": Diary()}) as served:
        answer = await served.http.get("/openapi.json")
        openapi = served.client.app.openapi
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == openapi.document
        assert await openapi.json() is await openapi.json()
        assert answer.content == await openapi.json()


async def test_what_the_table_has_is_served_and_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    more = replace(CONTROL_PLANE[-1], path="/more", operation_id="more", summary="More")
    deeper = replace(more, path="/envs/{name}/more", operation_id="deeper", method="DELETE")
    monkeypatch.setattr(app_module, "CONTROL_PLANE", (*CONTROL_PLANE, more, deeper))
    async with serve({"diary": Diary()}) as served:
        assert (await served.http.get("/more")).status_code == 200
        assert (await served.http.delete("/envs/diary/more")).status_code == 200
        assert (await served.http.get("/envs/diary/more")).headers["allow"] == "DELETE"
        paths = served.client.app.openapi.document["paths"]
        assert paths["/more"]["get"]["summary"] == "More"
        assert "delete" in paths["/envs/{name}/more"]


async def test_the_examples_are_an_episode() -> None:
    async with serve({"weather": Weather()}) as served:
        examples = {
            operation["operationId"]: operation["requestBody"]["content"]["application/json"]
            for _, _, operation in operations(served.client.app.openapi.document)
            if "requestBody" in operation
        }
        seeded = await served.seed("weather", examples["seed_session"]["example"])
        called = await served.http.post(
            "/envs/weather/mcp",
            json=examples["mcp"]["example"],
            headers={"accept": "application/json", TOKEN_HEADER: seeded.token},
        )
        assert "Paris" in called.json()["result"]["content"][0]["text"]
        verdict = await served.verify(seeded, examples["verify"]["example"])
        assert verdict.json()["reward"] == 1.0
        example = examples["aggregate_metrics"]["example"]
        metrics = await served.post("weather", "aggregate_metrics", example)
        assert metrics.json()["key_metrics"] == {"mean/reward": 0.5}


# -- every status that is documented is reached -----------------------------------------------

Ask = Callable[[Served], Awaitable[httpx2.Response]]


def ask(
    method: str, path: str, body: Any = None, *, broken: str = "", key: bool = True, **headers: str
) -> Ask:
    """Return what sends a request, while a verb of the store is broken."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {name.replace("_", "-"): value for name, value in headers.items()}

    async def send(served: Served) -> httpx2.Response:
        store = served.host.store
        assert isinstance(store, FaultyStore)
        if broken:
            store.fail(broken)
        async with raw_client(served.client, key="" if key else None) as http:
            try:
                return await http.request(method, path, content=content, headers=sent)
            finally:
                store.broken.clear()

    return send


def in_session(page: str, body: Any = None, *, of: str = "diary", **options: Any) -> Ask:
    """Return what sends a body for a session of its own."""

    async def send(served: Served) -> httpx2.Response:
        session = await served.seed(of)
        path = f"/envs/{of}/{page}"
        return await ask("POST", path, body or {}, **session.cookie, **options)(served)

    return send


async def _record(served: Served) -> httpx2.Response:
    session = await served.seed("diary")
    return await served.http.get(f"/sessions/{session.id}")


async def _deleted(served: Served) -> httpx2.Response:
    session = await served.seed("diary")
    return await served.http.delete(f"/sessions/{session.id}")


async def _of_no_environment(served: Served) -> httpx2.Response:
    made = new(environment="gone")
    await served.host.store.create(made)
    return await served.http.delete(f"/sessions/{made.session_id}")


async def _key_conflict(served: Served) -> httpx2.Response:
    await served.post("diary", "seed_session", {}, idempotency_key="k")
    return await served.post("diary", "seed_session", {"a": 1}, idempotency_key="k")


async def _full(served: Served) -> httpx2.Response:
    await served.seed("small")
    return await served.post("small", "seed_session", {})


async def _verified_twice(served: Served) -> httpx2.Response:
    session = await served.seed("diary")
    await served.verify(session)
    return await served.verify(session, {"another": True})


async def _closed(served: Served) -> httpx2.Response:
    session = await served.seed("diary")
    await served.close(session)
    return await served.verify(session)


async def _lost(served: Served) -> httpx2.Response:
    session = await served.seed("diary")
    lease = await acquire(served.host.store, session.id, served.host.clock.time(), 30)
    assert lease is not None
    await served.host.store.transition(lease, ["open"], "lost", served.host.clock.time())
    await served.host.store.release(lease)
    served.mount("diary").open_sessions -= 1  # what a host that finds it lost would do
    return await served.verify(session)


async def _expired(served: Served) -> httpx2.Response:
    session = await served.seed("pinned")
    (slot,) = served.host.registry.pinned("pinned")
    await served.host._ending.end(served.mount("pinned"), slot, "expired", "expired")
    return await served.verify(session)


def _masked(kind: str) -> Ask:
    async def send(served: Served) -> httpx2.Response:
        session = await served.seed("diary")
        lease = await acquire(served.host.store, session.id, served.host.clock.time(), 30)
        assert lease is not None
        await served.host.store.commit(lease, counted=kind)
        await served.host.store.release(lease)
        return await served.verify(session)

    return send


async def _not_ready(served: Served) -> httpx2.Response:
    served.host.stopping = True
    try:
        return await served.http.get("/readyz")
    finally:
        served.host.stopping = False


def mcp(body: Any, version: str = "2025-06-18", **headers: str) -> Ask:
    """Return what sends a message to the agent plane."""
    given = {"accept": "application/json", "content_type": "application/json", **headers}
    return ask("POST", "/envs/diary/mcp", body, key=False, mcp_protocol_version=version, **given)


PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
UNKNOWN = {**PING, "method": "no/such", "params": {"_meta": modern_meta()}}
DOWN = (503, "environment_error")
NAMED = {(404, "unknown_environment"): "nowhere", DOWN: "startup"}
BODIES: dict[tuple[int, str], Any] = {
    (400, "invalid_request"): b"{",
    (413, "body_too_large"): b"x" * 101,
}
BEFORE = "ended_before=1970-01-01T00:00:00Z"
GUARDED = {
    "environment": ("GET", "/envs/diary"),
    "environments": ("GET", "/envs"),
    "sessions": ("GET", "/sessions"),
    "prune_sessions": ("DELETE", f"/sessions?{BEFORE}"),
    "session": ("GET", "/sessions/x"),
    "delete_session": ("DELETE", "/sessions/x"),
    "openapi": ("GET", "/openapi.json"),
    "seed_session": ("POST", "/envs/diary/seed_session"),
    "verify": ("POST", "/envs/diary/verify"),
    "close_session": ("POST", "/envs/diary/close_session"),
    "aggregate_metrics": ("POST", "/envs/diary/aggregate_metrics"),
}
POSTED = [name for name, (method, _) in GUARDED.items() if method == "POST"]
ROWS = {"verify_responses": []}

Reached = dict[tuple[str, int, str], Ask]

REACHED: Reached = {
    **{(name, 401, "unauthorized"): ask(*GUARDED[name], key=False) for name in GUARDED},
    **{
        (page, status, kind): ask("POST", f"/envs/{name}/{page}", {})
        for (status, kind), name in NAMED.items()
        for page in POSTED
    },
    **{
        ("environment", status, kind): ask("GET", f"/envs/{name}")
        for (status, kind), name in NAMED.items()
    },
    **{
        (page, status, kind): ask("POST", f"/envs/small/{page}", body)
        for (status, kind), body in BODIES.items()
        for page in POSTED
    },
    **{
        (page, 422, "invalid_request"): ask(
            "POST", f"/envs/diary/{page}", {"verifier_metadata": 1, "session_id": 1}
        )
        for page in POSTED
    },
    **{
        (page, 404, "session_lost"): ask("POST", f"/envs/diary/{page}", {"session_id": "x"})
        for page in ("verify", "close_session")
    },
    ("environment", 200, ""): ask("GET", "/envs/diary"),
    ("environments", 200, ""): ask("GET", "/envs"),
    ("openapi", 200, ""): ask("GET", "/openapi.json"),
    ("health", 200, ""): ask("GET", "/healthz", key=False),
    ("ready", 200, ""): ask("GET", "/readyz", key=False),
    ("ready", 503, ""): _not_ready,
    ("index", 200, ""): ask("GET", "/", key=False),
    ("sessions", 200, ""): ask("GET", "/sessions"),
    ("sessions", 422, "invalid_request"): ask("GET", "/sessions?limit=0"),
    ("sessions", 503, "store_error"): ask("GET", "/sessions", broken="list"),
    ("prune_sessions", 200, ""): ask("DELETE", f"/sessions?{BEFORE}"),
    ("prune_sessions", 422, "invalid_request"): ask("DELETE", "/sessions"),
    ("prune_sessions", 503, "store_error"): ask("DELETE", f"/sessions?{BEFORE}", broken="prune"),
    ("delete_session", 204, ""): _deleted,
    ("delete_session", 404, "session_lost"): ask("DELETE", "/sessions/x"),
    ("delete_session", 409, "environment_missing"): _of_no_environment,
    ("delete_session", 503, "store_error"): ask("DELETE", "/sessions/x", broken="get"),
    ("session", 200, ""): _record,
    ("session", 404, "session_lost"): ask("GET", "/sessions/x"),
    ("session", 503, "store_error"): ask("GET", "/sessions/x", broken="get"),
    ("seed_session", 200, ""): ask("POST", "/envs/diary/seed_session", {}),
    ("seed_session", 409, "idempotency_conflict"): _key_conflict,
    ("seed_session", 502, "environment_error"): ask("POST", "/envs/seed/seed_session", {}),
    ("seed_session", 504, "environment_timeout"): ask("POST", "/envs/hang/seed_session", {}),
    ("seed_session", 503, "over_capacity"): _full,
    ("seed_session", 503, "store_error"): ask(
        "POST", "/envs/diary/seed_session", {}, broken="create"
    ),
    ("verify", 200, ""): in_session("verify"),
    ("verify", 409, "task_mismatch"): in_session("verify", {"verifier_metadata": {"a": 1}}),
    ("verify", 409, "already_verified"): _verified_twice,
    ("verify", 410, "session_closed"): _closed,
    ("verify", 410, "session_expired"): _expired,
    ("verify", 410, "session_lost"): _lost,
    ("verify", 502, "cancelled"): _masked("cancelled"),
    ("verify", 502, "environment_error"): in_session("verify", of="verify"),
    ("verify", 502, "environment_timeout"): _masked("environment_timeout"),
    ("verify", 502, "store_error"): _masked("store_error"),
    ("verify", 503, "store_error"): in_session("verify", broken="acquire"),
    ("verify", 504, "environment_timeout"): in_session("verify", of="slow"),
    ("close_session", 200, ""): in_session("close_session"),
    ("close_session", 503, "store_error"): in_session("close_session", broken="acquire"),
    ("aggregate_metrics", 200, ""): ask("POST", "/envs/diary/aggregate_metrics", ROWS),
    ("aggregate_metrics", 502, "environment_error"): ask(
        "POST", "/envs/metrics/aggregate_metrics", ROWS
    ),
    ("aggregate_metrics", 504, "environment_timeout"): ask(
        "POST", "/envs/slow/aggregate_metrics", ROWS
    ),
    ("mcp", 200, ""): mcp(PING),
    ("mcp", 202, ""): mcp({"jsonrpc": "2.0", "method": "notifications/initialized"}),
    ("mcp", 400, ""): mcp(b"{"),
    ("mcp", 404, ""): mcp(UNKNOWN, MODERN, mcp_method="no/such"),
    ("mcp", 406, ""): mcp(PING, accept="text/html"),
    ("mcp", 413, ""): mcp(b" " * 300),
    ("mcp", 404, "not_found"): ask("POST", "/envs/nowhere/mcp", PING, key=False),
}

# Those of every operation have tests of their own, below, and so has what only a socket shows.
ELSEWHERE = {
    ("mcp", 400, "invalid_request"): "the client left: tests/http/test_body.py",
    ("*", 503, "over_capacity"): "the server stops",
    ("*", 503, "internal_error"): "a bug",
}


class Pinned(Diary):
    """Its sessions end with the process."""

    pinned = True


class Unmeasured(Diary):
    """Has no metrics: it fails, or takes for ever."""

    def __init__(self, how: Exception | None) -> None:
        super().__init__()
        self.how = how

    async def aggregate_metrics(self, results: Any) -> Any:
        await self.fail()

    async def verify(self, session: Any, trajectory: Any) -> Any:
        await self.fail()

    async def fail(self) -> None:
        if self.how is not None:
            raise self.how
        await anyio.sleep_forever()


def test_every_documented_status_has_a_test() -> None:
    documented = set()
    for _, _, operation in operations(document()):
        for status, answer in operation["responses"].items():
            name = operation["operationId"]
            media_types = {**answer.get("content", {})}
            problem = media_types.pop("application/problem+json", None)
            if media_types or problem is None:
                documented.add((name, int(status), ""))
            if problem is not None:
                kinds = problem["schema"]["properties"]["failure_kind"]["enum"]
                documented |= {(name, int(status), kind) for kind in kinds}
    assert set(REACHED) <= documented
    missing = documented - set(REACHED) - set(ELSEWHERE)
    assert {("*", status, kind) for _, status, kind in missing} <= set(ELSEWHERE)


# It names the backend: pytest would give the asyncio one's host to the tests on trio otherwise.
@pytest.fixture(scope="module")
async def served(anyio_backend: str) -> AsyncGenerator[Served]:
    def config(plugin: Any, **limits: Any) -> EnvironmentConfig:
        return EnvironmentConfig(plugin=plugin, limits=Limits(**limits))

    environments = {
        "diary": config(Diary(), mcp_body_bytes=299),
        "small": config(Diary(), open_sessions=1, body_bytes=100),
        "pinned": Pinned(),
        "startup": Broken("startup", ValueError("it has no disk")),
        "seed": Broken("seed", ValueError("no seed")),
        "hang": config(Broken("seed", None), seed_seconds=0.05),
        "verify": Broken("verify", ValueError("no score")),
        "metrics": Unmeasured(ValueError("no metrics")),
        "slow": config(Unmeasured(None), verify_seconds=0.05),
    }
    async with serve(environments, store=FaultyStore(), strict=False) as served:
        yield served


@pytest.mark.parametrize("case", REACHED, ids=lambda case: "-".join(map(str, case)).strip("-"))
async def test_a_documented_status_is_reached(served: Served, case: tuple[str, int, str]) -> None:
    _, status, kind = case
    with anyio.fail_after(10):
        answer = await REACHED[case](served)
    assert answer.status_code == status, answer.text
    is_problem = answer.headers.get("content-type") == "application/problem+json"
    assert (answer.json()["failure_kind"] if is_problem else "") == kind


EVERYWHERE = [
    (method, path.format(name="diary", session_id="x"))
    for method, path, _ in operations(document())
]


@pytest.mark.parametrize(("method", "path"), EVERYWHERE)
async def test_a_bug_is_answered_as_documented_wherever_it_is(
    monkeypatch: pytest.MonkeyPatch, method: str, path: str
) -> None:
    async def crash(*arguments: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Page, "answer", crash)
    monkeypatch.setattr(McpEndpoint, "__call__", crash)
    async with serve({"diary": Diary()}) as served:
        answer = await served.http.request(method, path)
        assert (answer.status_code, answer.json()["failure_kind"]) == (503, "internal_error")


@pytest.mark.parametrize(("method", "path"), EVERYWHERE)
async def test_a_stop_is_answered_as_documented_wherever_it_is(
    monkeypatch: pytest.MonkeyPatch, method: str, path: str
) -> None:
    reached = anyio.Event()

    async def hang(*arguments: Any) -> None:
        reached.set()
        await anyio.sleep_forever()

    monkeypatch.setattr(Page, "answer", hang)
    monkeypatch.setattr(McpEndpoint, "__call__", hang)
    answers: list[httpx2.Response] = []
    async with serve({"diary": Diary()}) as served:

        async def send() -> None:
            answers.append(await served.http.request(method, path))

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(send)
                await reached.wait()
                await served.client.app.drain(0)
        (answer,) = answers
        assert (answer.status_code, answer.json()["failure_kind"]) == (503, "over_capacity")


async def test_an_old_verdict_in_the_body_is_not_echoed_as_the_new_one() -> None:
    """An answer to an earlier verify may be the body of the next."""
    old = {
        "reward": 0.25,
        "reward_components": {"old": 1.0},
        "mask_sample": True,
        "failure_kind": "store_error",
        "unmasked_reward": 0.5,
        "mine": 1,
    }
    async with serve({"diary": Diary()}) as served:
        answer = await served.verify(await served.seed("diary"), {**NO_ANSWER, **old})
        assert answer.json() == {**NO_ANSWER, "mine": 1, "reward": 0.0}
