"""The plugin that holds every answer to the document."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import httpx2
import pytest
from starlette.responses import JSONResponse
from starlette.routing import Route

import gymhost
from gymhost.host import Host
from gymhost.http.app import create_app
from gymhost.http.auth import KeyGuard
from tests import conformance
from tests.conformance import Contract, tolerated
from tests.environments import Diary
from tests.served import serve

CONTRACT = Contract(create_app(Host({}, discover=False), KeyGuard(["key"])).openapi.document)
JSON = {"content-type": "application/json"}
COOKIE = {**JSON, "set-cookie": "gymhost_session=1"}
PROBLEM = {"content-type": "application/problem+json"}
HEALTH = {"status": "ok", "version": "1"}
CLOSED = {"session_id": "x", "status": "closed"}
NOT_FOUND = {
    "type": "about:blank",
    "title": "Not Found",
    "status": 404,
    "detail": "There is none.",
    "failure_kind": "not_found",
    "mask_sample": True,
}
CLOSE = "/envs/diary/close_session"


def complaint(method: str, path: str, status: int, headers: dict[str, str], body: Any) -> str:
    content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    return CONTRACT.complaint(method, path, status, headers, content) or ""


@pytest.mark.parametrize(
    ("method", "path", "status", "headers", "body"),
    [
        ("GET", "/healthz", 200, JSON, HEALTH),
        ("HEAD", "/healthz", 200, JSON, b""),
        ("POST", CLOSE, 200, COOKIE, CLOSED),
        ("POST", f"{CLOSE}/", 200, COOKIE, CLOSED),
        ("GET", "/nowhere", 404, PROBLEM, NOT_FOUND),
        ("POST", "/healthz", 404, PROBLEM, NOT_FOUND),
        ("POST", "/envs/diary/mcp", 202, {}, b""),
        ("POST", "/envs/diary/mcp", 200, {"content-type": "text/event-stream"}, None),
        ("GET", "/envs/diary/mcp", 405, {"allow": "POST"}, b""),
    ],
)
def test_what_is_documented_passes(
    method: str, path: str, status: int, headers: dict[str, str], body: Any
) -> None:
    assert complaint(method, path, status, headers, body) == ""


@pytest.mark.parametrize(
    ("method", "path", "status", "headers", "body", "said"),
    [
        ("GET", "/healthz", 418, JSON, HEALTH, "status is not documented: 200, 503 are"),
        ("GET", "/healthz", 500, JSON, HEALTH, "status is not documented"),
        ("GET", "/nowhere", 200, JSON, HEALTH, "status is not documented"),
        ("GET", "/healthz", 200, JSON, {"status": "ok"}, '"version" is a required property'),
        ("GET", "/healthz", 200, JSON, {**HEALTH, "version": 1}, "version: 1 is not of type"),
        ("GET", "/healthz", 200, JSON, {**HEALTH, "more": 1}, "Additional properties"),
        ("GET", "/healthz", 200, JSON, b"{", "the body is not JSON"),
        ("GET", "/healthz", 200, JSON, b'{"status": NaN}', "the body is not JSON: NaN"),
        ("GET", "/healthz", 200, JSON, b"", "the body is not JSON"),
        ("GET", "/healthz", 200, {"content-type": "text/html"}, b"", "'text/html' is not doc"),
        ("GET", "/healthz", 200, {}, HEALTH, "the media type '' is not documented"),
        ("GET", "/healthz", 200, COOKIE, HEALTH, "the header set-cookie is not documented"),
        ("POST", CLOSE, 200, JSON, CLOSED, "the header Set-Cookie is missing"),
        ("POST", CLOSE, 200, COOKIE, {**CLOSED, "status": "gone"}, "status: "),
        ("GET", "/nowhere", 404, PROBLEM, {**NOT_FOUND, "status": 410}, "status: 404 was expected"),
        ("GET", "/nowhere", 404, PROBLEM, {**NOT_FOUND, "failure_kind": "no"}, "failure_kind: "),
        ("PUT", "/healthz", 405, PROBLEM, NOT_FOUND, "the header Allow is missing"),
        ("POST", "/envs/diary/mcp", 202, JSON, HEALTH, "the media type 'application/json'"),
    ],
)
def test_what_is_not_documented_is_complained_of(
    method: str, path: str, status: int, headers: dict[str, str], body: Any, said: str
) -> None:
    assert said in complaint(method, path, status, headers, body)


async def test_an_application_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gymhost, "__version__", 7)
    with tolerated("a version that is a number") as found:
        async with serve({"diary": Diary()}) as served:
            await served.http.get("/healthz")
            await served.http.get("/envs")
    (violation,) = found
    assert violation.startswith("GET /healthz was answered 200: version: 7 is not of type")


async def test_a_route_beside_the_table_is_found() -> None:
    async def teapot(request: object) -> JSONResponse:
        return JSONResponse({}, 418)

    with tolerated("a route that is not in the table") as found:
        async with serve({"diary": Diary()}) as served:
            served.client.app.router.routes.insert(0, Route("/teapot", teapot))
            await served.http.get("/teapot")
    (violation,) = found
    assert violation.startswith("GET /teapot was answered 418: the status is not documented")


def answering(request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(200, json={"status": "ok"})


async def test_clients_of_a_server_that_is_watched_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conformance, "_servers", {})
    url = "http://other.test:1"
    transport = httpx2.MockTransport(answering)
    with tolerated("an answer that lacks the version") as found:
        async with httpx2.AsyncClient(transport=transport) as http:
            await http.get(f"{url}/healthz")
            conformance.watch(url, has_key=True)
            await http.get(f"{url}/healthz")
            async with http.stream("GET", f"{url}/nowhere"):
                pass
        with httpx2.Client(transport=transport) as http_sync:
            http_sync.get(f"{url}/healthz")
    assert [violation.partition(" was")[0] for violation in found] == [
        "GET /healthz",
        "GET /nowhere",
        "GET /healthz",
    ]


def test_whoever_has_the_port_of_a_server_that_has_ended_is_not_watched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(conformance, "_servers", {})
    url = "http://other.test:1"
    with subprocess.Popen([sys.executable], stdin=subprocess.PIPE, text=True) as process:
        conformance.watch(url, has_key=True, process=process)
        with (
            httpx2.Client(transport=httpx2.MockTransport(answering)) as http,
            tolerated("an answer that lacks the version") as found,
        ):
            http.get(f"{url}/healthz")
            process.communicate()
            http.get(f"{url}/healthz")
    assert len(found) == 1
    assert conformance._servers == {}


FAILING = """
import pytest
from tests import conformance

def note():
    conformance._violations.append("GET /x was answered 200")

def test_that_would_pass():
    note()

def test_that_fails():
    note()
    assert False, "its own reason"

@pytest.fixture
def noting():
    note()

def test_with_a_fixture(noting):
    pass

def test_that_is_fine():
    pass

def test_that_says_why():
    with conformance.tolerated("it is meant") as found:
        note()
    assert found == ["GET /x was answered 200"]
"""


def test_the_test_in_which_an_answer_differs_fails(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(FAILING)
    result = pytester.runpytest("-rN", plugins=[conformance])  # in CI, the summary tells all again
    result.assert_outcomes(passed=2, failed=2, errors=1)
    text = result.stdout.str()
    assert text.count("answers that differ from /openapi.json:") == 3
    assert "its own reason" in text
