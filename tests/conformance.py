"""Holds every answer that a test gets to `/openapi.json`: a plugin of the tests.

An application in this process is watched as a whole; of a server in another process, what its
clients get. A violation fails the test in which it happened.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from subprocess import Popen
from typing import Any
from urllib.parse import unquote
from weakref import WeakKeyDictionary

import httpx2
import jsonschema_rs
import pytest
from starlette.types import Message, Receive, Scope, Send

from gymhost.host import Host
from gymhost.http.app import GymhostApp, create_app
from gymhost.http.auth import KeyGuard, LoopbackGuard
from gymhost.models import JSONObject

# Of the agent plane: answers that may have no body.
EMPTY = {("mcp", "405"), ("mcp", "406")}
# What only an answer that says so may carry.
HEADERS = ("allow", "retry-after", "set-cookie", "www-authenticate")

_serve = GymhostApp.__call__
_violations: list[str] = []
_contracts: WeakKeyDictionary[GymhostApp, Contract] = WeakKeyDictionary()
_servers: dict[str, tuple[Contract, Popen[str] | None]] = {}
"""By where they are, such as `http://127.0.0.1:8000`: what they must answer, and their process."""


class Contract:
    """What one document says of answers."""

    def __init__(self, document: JSONObject) -> None:
        self._document = document
        self._paths = [(_pattern(path), item) for path, item in document["paths"].items()]

    def complaint(
        self, method: str, path: str, status: int, headers: Mapping[str, str], body: bytes | None
    ) -> str | None:
        """Return how an answer differs from the document; `body` is None where it is not known."""
        operation, answers = self._answers(method, path)
        answer = answers.get(str(status))
        if answer is None:
            return f"the status is not documented: {', '.join(answers)} are"
        for name in HEADERS:
            if name in headers and name not in map(str.lower, answer["headers"]):
                return f"the header {name} is not documented"
        for name, header in answer["headers"].items():
            if header["required"] and name.lower() not in headers:
                return f"the header {name} is missing"
        content = answer["content"]
        empty = not content or (operation, str(status)) in EMPTY
        if method == "HEAD" or (empty and not body):
            return None
        media_type = headers.get("content-type", "").partition(";")[0]
        if media_type not in content:
            return f"the media type {media_type!r} is not documented: {[*content]} are"
        if body is None or not media_type.endswith("json"):
            return None
        return self._body_complaint(content[media_type]["schema"], body)

    def _body_complaint(self, schema: JSONObject, body: bytes) -> str | None:
        validator = _validator(_ById(schema), _ById(self._document["components"]["schemas"]))
        try:
            value = json.loads(body, parse_constant=_refuse_constant)
        except ValueError as exc:
            return f"the body is not JSON: {exc}"
        error = next(validator.iter_errors(value), None)
        if error is None:
            return None
        place = "/".join(map(str, error.instance_path)) or "the body"
        return f"{place}: {error.message[:1000]}"

    def _answers(self, method: str, path: str) -> tuple[str | None, JSONObject]:
        shared = self._document["components"]["responses"]
        wrong = {"404": shared["NotFound"], "405": shared["MethodNotAllowed"]}
        item = next((each for pattern, each in self._paths if pattern.fullmatch(path)), None)
        if item is None:  # what is below /envs is refused as an environment is
            item = self._document["paths"]["/envs/{name}" if path.startswith("/envs/") else "/"]
        else:
            operation = item.get("get" if method == "HEAD" else method.lower())
            if operation is not None:
                return operation["operationId"], operation["responses"]
        operations = (each for key, each in item.items() if key != "parameters")
        known = {k: v for each in operations for k, v in each["responses"].items() if k > "3"}
        return "mcp" if path.rstrip("/").endswith("/mcp") else None, {**known, **wrong}


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is none")


@cache
def _pattern(path: str) -> re.Pattern[str]:
    # a path below /envs may end in a slash
    return re.compile(re.sub(r"\{\w+\}", "[^/]+", path) + ("/?" if "{name}" in path else ""))


@dataclass(frozen=True)
class _ById:
    """A part of a document as a cache's key: all applications of one table share their parts."""

    part: JSONObject

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ById) and self.part is other.part

    def __hash__(self) -> int:
        return id(self.part)


@cache
def _validator(schema: _ById, components: _ById) -> jsonschema_rs.Validator:
    # closed: what is answered must be documented, but where the document takes more
    closed = {
        name: {"additionalProperties": False, **each} if "properties" in each else each
        for name, each in components.part.items()
    }
    whole = {**schema.part, "components": {"schemas": closed}}
    return jsonschema_rs.Draft202012Validator(whole, validate_formats=True)


async def _watched(app: GymhostApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve a request as the application does, and note how its answer differs."""
    if scope["type"] != "http":
        await _serve(app, scope, receive, send)
        return
    if app not in _contracts:
        _contracts[app] = Contract(app.openapi.document)
    answer = _Answer(send)
    try:
        await _serve(app, scope, receive, answer.send)
    except Exception:  # it is answered, and raised for the server to log
        answer.check(_contracts[app], scope)
        raise
    answer.check(_contracts[app], scope)


class _Answer:
    """What goes by."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._status = 0
        self._headers: dict[str, str] = {}
        self._pieces: list[bytes] = []

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = message.get("headers", [])
            self._headers = {
                key.decode().lower(): value.decode("latin-1") for key, value in headers
            }
        elif message["type"] == "http.response.body":
            self._pieces.append(message.get("body", b""))
        await self._send(message)

    def check(self, contract: Contract, scope: Scope) -> None:
        _check(
            contract,
            scope["method"],
            scope["path"],
            self._status,
            self._headers,
            b"".join(self._pieces),
        )


def _check(
    contract: Contract,
    method: str,
    path: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes | None,
) -> None:
    complaint = contract.complaint(method, path, status, headers, body)
    if complaint is not None:
        text = "" if body is None else body[:500].decode(errors="replace")
        _violations.append(f"{method} {path} was answered {status}: {complaint}\n    {text}")


def _check_response(response: httpx2.Response, *, stream: bool) -> None:
    request = response.request
    url = f"{request.url.scheme}://{request.url.netloc.decode()}"
    contract, process = _servers.get(url, (None, None))
    if process is not None and process.poll() is not None:
        del _servers[url]  # another program has the port now
    elif contract is not None:
        body = None if stream else response.content
        path = unquote(request.url.path)
        _check(contract, request.method, path, response.status_code, response.headers, body)


def watch(url: str, *, has_key: bool, process: Popen[str] | None = None) -> None:
    """Hold what clients get from a server in another process to the document, while that lives."""
    _servers[url] = _contract(has_key), process


@cache
def _contract(has_key: bool) -> Contract:
    guard = KeyGuard(["key"]) if has_key else LoopbackGuard()
    return Contract(create_app(Host({}, discover=False), guard).openapi.document)


@contextmanager
def tolerated(reason: str) -> Generator[list[str]]:
    """Let answers differ in this block, for a reason; they are in the list, at its end."""
    assert reason
    found: list[str] = []
    outside = list(_violations)
    _violations.clear()
    try:
        yield found
    finally:
        found += _violations
        _violations[:] = outside


def pytest_configure(config: pytest.Config) -> None:
    patch = pytest.MonkeyPatch()
    config.add_cleanup(patch.undo)
    patch.setattr(GymhostApp, "__call__", _watched)
    for kind in (httpx2.Client, httpx2.AsyncClient):
        patch.setattr(kind, "send", _checking(kind.send))


def _checking(send: Callable[..., Any]) -> Callable[..., Any]:
    """Return a client's `send` that checks what it returns."""
    if inspect.iscoroutinefunction(send):

        async def send_async(*args: Any, stream: bool = False, **options: Any) -> httpx2.Response:
            response: httpx2.Response = await send(*args, stream=stream, **options)
            _check_response(response, stream=stream)
            return response

        return send_async

    def send_sync(*args: Any, stream: bool = False, **options: Any) -> httpx2.Response:
        response: httpx2.Response = send(*args, stream=stream, **options)
        _check_response(response, stream=stream)
        return response

    return send_sync


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None]:
    yield from _holding()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None]:
    yield from _holding()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Generator[None]:
    yield from _holding()


def _holding() -> Generator[None]:
    """Fail what runs inside, where an answer has differed; also where it has failed already."""
    try:
        yield
    except BaseException as exc:
        if _violations:
            exc.add_note(_report())
        raise
    else:
        if _violations:
            pytest.fail(_report(), pytrace=False)
    finally:
        _violations.clear()


def _report() -> str:
    return "\n".join(["answers that differ from /openapi.json:", *_violations])
