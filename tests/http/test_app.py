"""The table of routes, what it refuses, and the application's life."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import anyio
import pytest

import gymhost
from gymhost.errors import PluginLoadError
from gymhost.host import Host
from gymhost.http.app import create_app
from gymhost.http.auth import KeyGuard
from tests.environments import Broken, Diary, Gate
from tests.served import Served, serve


# It names the backend: pytest would give the asyncio one's host to the tests on trio otherwise.
@pytest.fixture(scope="module")
async def served(anyio_backend: str) -> AsyncGenerator[Served]:
    async with serve({"diary": Diary(), "a-b_c9": Diary()}) as served:
        yield served


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/envs", "GET, HEAD"),
        ("/healthz", "GET, HEAD"),
        ("/sessions", "GET, HEAD, DELETE"),
        ("/sessions/x", "GET, HEAD, DELETE"),
        ("/envs/diary", "GET, HEAD"),
        ("/envs/diary/seed_session", "POST"),
        ("/envs/diary/verify", "POST"),
        ("/envs/diary/close_session", "POST"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_a_page_under_another_method_says_which_is_allowed(
    served: Served, path: str, allow: str, method: str
) -> None:
    answer = await served.http.request(method, path)
    assert (answer.status_code == 405) == (method not in allow)
    if answer.status_code != 405:
        return
    if method != "HEAD":
        assert answer.json()["failure_kind"] == "method_not_allowed"
    assert sorted(answer.headers["allow"].split(", ")) == sorted(allow.split(", "))


@pytest.mark.parametrize("path", ["/envs", "/envs/diary", "/sessions", "/healthz", "/readyz", "/"])
async def test_head_answers_as_get_does(served: Served, path: str) -> None:
    head, get = await served.http.head(path), await served.http.get(path)
    assert (head.status_code, get.status_code) == (200, 200)
    assert head.headers == get.headers


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/envs/diary/nothing",
        "/envs/diary/verify/deeper",
        "/envs/nowhere",
        "/envs/",
        "/envs//",
        "/envs/DIARY",
        "/envs/diary%2Fverify/x",
        "/envs/..%2f..%2fetc",
        "/envs/%F0%9F%91%8B",
        "/sessions/",
        "/sessions/a/b",
        "/healthz/",
        "/docs",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_there_is_no_other_page(served: Served, path: str, method: str) -> None:
    answer = await served.http.request(method, path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["failure_kind"] in ("not_found", "unknown_environment")


@pytest.mark.parametrize("path", ["/envs/diary", "/envs/diary/", "/envs/a-b_c9"])
async def test_an_environments_page_has_two_slash_forms_and_no_redirect(
    served: Served, path: str
) -> None:
    answer = await served.http.get(path)
    assert answer.status_code == 200
    assert answer.json()["url_path"] == path.rstrip("/")
    seeded = await served.http.post(f"{path.rstrip('/')}/seed_session/")
    assert seeded.status_code == 200


async def test_health_says_the_version(served: Served) -> None:
    answer = await served.http.get("/healthz")
    assert answer.json() == {"status": "ok", "version": gymhost.__version__}
    index = await served.http.get("/")
    assert index.json()["environments"] == "/envs"


async def test_readiness_is_whether_new_sessions_are_taken() -> None:
    async with serve({"diary": Diary()}) as served:
        answer = await served.http.get("/readyz")
        ready = {"status": "ready", "degraded": 0, "failed": 0, "store": "ok"}
        assert (answer.status_code, answer.json()) == (200, ready)
        await served.client.app.drain(0)
        answer = await served.http.get("/readyz")
        assert (answer.status_code, answer.json()["status"]) == (503, "stopping")
        assert (await served.http.get("/healthz")).status_code == 200
        seed = await served.post("diary", "seed_session", {})
        assert (seed.status_code, seed.json()["failure_kind"]) == (503, "over_capacity")
        assert "retry-after" in seed.headers
    async with serve({"broken": Broken("startup", OSError("disk"))}, strict=False) as served:
        answer = await served.http.get("/readyz")
        assert (answer.status_code, answer.json()) == (
            503,
            {"status": "no environments", "degraded": 0, "failed": 1, "store": "ok"},
        )


async def test_the_application_lives_with_its_host() -> None:
    order: list[str] = []

    class Ordered(Diary):
        async def startup(self) -> None:
            order.append("startup")

        async def shutdown(self) -> None:
            order.append("shutdown")

    app = create_app(Host({"ordered": Ordered()}, discover=False), KeyGuard(["key"]))
    async with app.router.lifespan_context(app):
        assert order == ["startup"]
    assert order == ["startup", "shutdown"]


async def test_a_strict_application_does_not_start_where_something_failed() -> None:
    stopped: list[str] = []

    class Fine(Diary):
        async def shutdown(self) -> None:
            stopped.append("fine")

    environments = {
        "fine": Fine(),
        "one": Broken("startup", OSError("no disk")),
        "two": Broken("startup", OSError("no net")),
    }
    app = create_app(Host(environments, discover=False), KeyGuard(["key"]), strict=True)
    with anyio.fail_after(5):
        with pytest.raises(PluginLoadError) as caught:
            async with app.router.lifespan_context(app):
                pytest.fail("it started")
    assert "no disk" in str(caught.value)
    assert "no net" in str(caught.value)
    assert stopped == ["fine"]


async def test_a_strict_application_starts_where_nothing_failed() -> None:
    app = create_app(Host({"diary": Diary()}, discover=False), KeyGuard(["key"]), strict=True)
    async with app.router.lifespan_context(app):
        assert set(app.served.mounts) == {"diary"}


async def test_a_drain_waits_for_requests_and_cancels_those_that_do_not_end() -> None:
    diary = Diary()
    diary.seed_gate = gate = Gate()
    answers: list[Any] = []
    async with serve({"diary": diary}) as served:

        async def seed() -> None:
            answers.append(await served.post("diary", "seed_session", {}))

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(seed)
                await gate.reached.wait()
                assert await served.client.app.drain(0) == 1
        (answer,) = answers
        assert (answer.status_code, answer.json()["failure_kind"]) == (503, "over_capacity")
        assert served.mount("diary").open_sessions == 0


async def test_the_mcp_endpoint_is_there_without_a_key_for_what_is_served() -> None:
    """An agent has no key; a 401 would make its client begin an OAuth discovery."""
    async with serve({"diary": Diary()}) as served:
        served.http.headers.pop("authorization")
        assert (await served.http.get("/envs/diary/mcp")).status_code == 405
        for path in ("/envs/nowhere/mcp", "/envs/nowhere/mcp/", "/envs/diary/mcp/more"):
            assert (await served.http.post(path, json={})).status_code == 404
            assert (await served.http.get(path)).status_code == 404
