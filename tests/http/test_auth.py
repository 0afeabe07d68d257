"""Who may use the control plane: whoever has a key; without keys, this machine alone."""

from __future__ import annotations

import hmac
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace

import httpx2
import pytest

from gymhost.errors import Unauthorized
from gymhost.host import Host
from gymhost.http.app import create_app
from gymhost.http.auth import Guard, KeyGuard, LoopbackGuard
from gymhost.http.mcp import TOKEN_HEADER
from tests.environments import Diary
from tests.served import tool_call

KEYS = ("first-key", "schlüssel-für-später à")

PAGES = [
    ("GET", "/envs"),
    ("GET", "/envs/diary"),
    ("GET", "/envs/nowhere"),
    ("GET", "/envs/diary/nothing"),
    ("GET", "/envs/diary/verify"),
    ("POST", "/envs/diary/seed_session"),
    ("POST", "/envs/nowhere/seed_session"),
    ("POST", "/envs/diary/verify"),
    ("POST", "/envs/diary/close_session"),
    ("GET", "/sessions"),
    ("DELETE", "/sessions?ended_before=2026-01-31T12:00:00Z"),
    ("GET", "/sessions/" + "0" * 32),
    ("DELETE", "/sessions/" + "0" * 32),
]

WRONG = {
    "none": None,
    "empty": b"",
    "a scheme alone": b"Bearer",
    "an empty key": b"Bearer  ",
    "another scheme": b"Basic first-key",
    "no scheme": b"first-key",
    "another key": b"Bearer second-key",
    "part of a key": b"Bearer first-ke",
    "more than a key": b"Bearer first-keys",
    "two keys": b"Bearer first-key, first-key",
    "another case": b"Bearer First-Key",
    "not ASCII": "Bearer schlüssel".encode(),
    "not UTF-8": b"Bearer \xff\xfe\xa0",
    "the key as Latin-1": "Bearer schlüssel-für-später à".encode("latin-1"),
}


@asynccontextmanager
async def guarded(guard: Guard) -> AsyncGenerator[httpx2.AsyncClient]:
    """A client, without any key of its own, of an application behind a guard."""
    app = create_app(Host({"diary": Diary()}, discover=False), guard)
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with app.router.lifespan_context(app):
        async with httpx2.AsyncClient(transport=transport, base_url="http://gymhost.test") as http:
            yield http


async def test_without_the_key_nothing_is_told_not_even_which_environments_there_are() -> None:
    async with guarded(KeyGuard(KEYS)) as http:
        bodies = set()
        for name, value in WRONG.items():
            for method, path in PAGES:
                headers = {} if value is None else {"authorization": value}
                answer = await http.request(method, path, headers=headers)
                assert answer.status_code == 401, (name, path)
                assert answer.headers["www-authenticate"] == 'Bearer realm="gymhost"'
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.json()["failure_kind"] == "unauthorized"
                assert "set-cookie" not in answer.headers
                bodies.add(answer.text)
        assert len(bodies) == 2  # send one, or a right one: for all pages alike
        assert not any("diary" in body for body in bodies)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "BEARER   {} "])
async def test_each_of_several_keys_opens_the_control_plane(key: str, form: str) -> None:
    headers = {"authorization": form.format(key).encode()}
    async with guarded(KeyGuard([f" {key}\n", "another"])) as http:
        assert (await http.get("/envs", headers=headers)).status_code == 200
        assert (await http.get("/envs/nowhere", headers=headers)).status_code == 404
        seeded = await http.post("/envs/diary/seed_session", headers=headers)
        assert seeded.status_code == 200


@pytest.mark.parametrize(
    "keys",
    [
        (b"Bearer first-key", b"Bearer first-key"),
        (b"Bearer first-key", b"Bearer wrong"),
        (b"Bearer wrong", b"Bearer first-key"),
        (b"Basic wrong", b"Bearer first-key"),
        (b"", b"Bearer first-key"),
    ],
)
async def test_a_key_that_is_sent_twice_opens_nothing(keys: tuple[bytes, bytes]) -> None:
    async with guarded(KeyGuard(KEYS)) as http:
        headers = [(b"authorization", key) for key in keys]
        assert (await http.get("/envs", headers=headers)).status_code == 401


async def test_a_huge_key_is_refused_as_any_other() -> None:
    async with guarded(KeyGuard(KEYS)) as http:
        for key in (b"first-key" * 500_000, b" " * 1_000_000, b"\xff" * 1_000_000):
            answer = await http.get("/envs", headers={"authorization": b"Bearer " + key})
            assert answer.status_code == 401
            assert len(answer.content) < 300  # nothing of it is repeated


@pytest.mark.parametrize("key", ["first", "second", "third", "none of them", "\xff" * 100])
def test_every_key_is_compared_and_in_constant_time(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[int, int]] = []

    def compare(given: bytes, expected: bytes) -> bool:
        compared.append((len(given), len(expected)))
        return hmac.compare_digest(given, expected)

    monkeypatch.setattr("gymhost.http.auth.hmac", SimpleNamespace(compare_digest=compare))
    guard = KeyGuard(["first", "second", "third"])
    head = {b"authorization": f"Bearer {key}".encode("latin-1")}
    if key in ("first", "second", "third"):
        guard.check(head)
    else:
        with pytest.raises(Unauthorized):
            guard.check(head)
    # neither which one it is, nor how long they are, changes what is done
    assert compared == [(32, 32)] * 3


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/"])
async def test_health_needs_no_key_and_names_no_environment(path: str) -> None:
    async with guarded(KeyGuard(KEYS)) as http:
        answer = await http.get(path)
        assert answer.status_code == 200
        assert "diary" not in answer.text


async def test_a_sessions_token_opens_nothing_but_its_tools() -> None:
    key = {"authorization": "Bearer first-key"}
    async with guarded(KeyGuard(KEYS)) as http:
        seeded = (await http.post("/envs/diary/seed_session", headers=key)).json()
        token = seeded["mcp"]["headers"][TOKEN_HEADER]
        for headers in (
            {"authorization": f"Bearer {token}"},
            {TOKEN_HEADER: token},
            {"cookie": f"gymhost_session={seeded['session_id']}"},
        ):
            for method, path in PAGES:
                assert (await http.request(method, path, headers=headers)).status_code == 401
        call = await http.post(
            "/envs/diary/mcp",
            json=tool_call("write", {"note": "a"}),
            headers={"accept": "application/json", TOKEN_HEADER: token},
        )
        assert call.json()["result"]["isError"] is False


@pytest.mark.parametrize("keys", [[], [""], ["good", ""], [" "]])
def test_an_empty_key_is_refused(keys: list[str]) -> None:
    with pytest.raises(ValueError, match="empty"):
        KeyGuard(keys)


LOCAL = [
    "localhost",
    "localhost:8000",
    "127.0.0.1",
    "127.0.0.1:1",
    "[::1]",
    "[::1]:80",
    "LocalHost",
]
FOREIGN = ["", "gym.example", "localhost.example", "127.0.0.1.nip.io", "127.0.0.2", "[::1", "::1"]


@pytest.mark.parametrize("host", LOCAL)
@pytest.mark.parametrize("origin", [None, "http://localhost:3000", "https://127.0.0.1"])
async def test_without_keys_requests_that_name_this_machine_are_taken(
    host: str, origin: str | None
) -> None:
    headers = {"host": host} if origin is None else {"host": host, "origin": origin}
    async with guarded(LoopbackGuard()) as http:
        assert (await http.get("/envs", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        *[{"host": host} for host in FOREIGN],
        {"host": "localhost", "origin": "https://gym.example"},
        {"host": "localhost", "origin": "null"},
        {"host": "localhost", "origin": "http://localhost.example"},
        {"host": "localhost", "origin": "http://[::1"},
    ],
)
async def test_without_keys_requests_that_name_another_machine_are_refused(
    headers: dict[str, str],
) -> None:
    async with guarded(LoopbackGuard()) as http:
        for method, path in PAGES:
            answer = await http.request(method, path, headers=headers)
            assert (answer.status_code, answer.json()["failure_kind"]) == (403, "forbidden")
            assert "diary" not in answer.text
        assert (await http.get("/healthz", headers=headers)).status_code == 200


@pytest.mark.parametrize("guard", [lambda: KeyGuard(["k"]), LoopbackGuard])
def test_a_request_without_headers_passes_no_guard(guard: Callable[[], Guard]) -> None:
    with pytest.raises(Exception, match=r"Send the control key|Without a key"):
        guard().check({})
