"""The table of what the agent plane answers to one POST, and the SDK's own transport beside it.

A row names a request; its answers to the handshake's versions and to 2026-07-28, as an HTTP status
and what the body is; and, where the SDK's own server answers otherwise, that answer and the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.http.wire import (
    CLIENT,
    MODERN,
    Post,
    call,
    modern_meta,
    post,
)

Kind = tuple[int, str | int | None]
RESULT: Kind = (200, "result")
TOOL_ERROR: Kind = (200, "tool error")
ACCEPTED: Kind = (202, None)
NO_METHOD: Kind = (404, -32601)  # in 2026-07-28, which has more statuses
BAD_PARAMS: Kind = (400, -32602)
UNKNOWN: tuple[Kind, Kind] = (200, -32601), NO_METHOD
INVALID: tuple[Kind, Kind] = (200, -32602), BAD_PARAMS
BAD_ENVELOPE: Kind = (400, -32600)
NOT_JSON: Kind = (400, -32700)
NOT_ACCEPTABLE: Kind = (406, -32600)
MISMATCH: Kind = (400, -32020)
PLAIN_400: Kind = (400, None)

# Why we differ. The first: the SDK prints pydantic's text, with the input and a URL, under a code
# that says the parameters are wrong; we say what 2026-07-28 says.
NO_PYDANTIC = {"sdk": (400, -32602), "why": "no pydantic text on the wire; one code for all eras"}
NO_NOTIFICATION = {"sdk": ACCEPTED, "why": "the SDK takes it for a notification: no answer comes"}
NO_TOKENS = {"sdk": RESULT, "sdk_new": RESULT, "why": "the SDK knows no session tokens"}
NO_NAN = "NaN is no JSON, and no record takes it"
JSON_406 = {"sdk_new": (406, None), "why": "we say in JSON what is wrong, in all eras"}


@dataclass(frozen=True)
class Row:
    """One request and its answers."""

    name: str
    sent: Callable[[str, str], Post]
    """From a version and a valid token."""
    old: Kind
    new: Kind
    """In 2026-07-28."""
    sdk: Kind | None = None
    sdk_new: Kind | None = None
    """What the SDK answers, where that differs."""
    why: str = ""


def row(
    name: str, sent: Callable[[str, str], Post], old: Kind, new: Kind | None = None, **sdk: Any
) -> Row:
    return Row(name, sent, old, old if new is None else new, **sdk)


def request(method: str, params: dict[str, Any] | None = None) -> Callable[[str, str], Post]:
    return lambda version, token: post(version, method, params, token=token)


def listing(**headers: str | None) -> Callable[[str, str], Post]:
    """A `tools/list` with other headers."""
    return lambda version, token: post(version, "tools/list").with_headers(**headers)


def body(**members: Any) -> Callable[[str, str], Post]:
    """A `tools/list` with other members of its body."""
    return lambda version, token: post(version, "tools/list").with_body(**members)


def whole(content: Any) -> Callable[[str, str], Post]:
    """A POST with another body altogether."""
    return lambda version, token: Post(content, post(version, "tools/list").headers)


def lacking(method: str, *members: str, **params: Any) -> Callable[[str, str], Post]:
    return lambda version, token: post(version, method, params, token=token).without(*members)


def initialize(asked: str | None = None, **headers: str | None) -> Callable[[str, str], Post]:
    def sent(version: str, token: str) -> Post:
        params = {"protocolVersion": asked or version, "capabilities": {}, "clientInfo": CLIENT}
        return post(version, "initialize", params).with_headers(**headers)

    return sent


def echo(**arguments: Any) -> Callable[[str, str], Post]:
    return lambda version, token: call(version, "echo", token, **(arguments or {"text": "hi"}))


METHODS = [
    row("initialize", initialize(), RESULT, NO_METHOD),
    row("initialize without a version header", initialize(mcp_protocol_version=None), RESULT),
    row("initialize with a version nobody knows", initialize("1999-01-01"), RESULT, NO_METHOD),
    row("initialize without params", request("initialize"), INVALID[0], NO_METHOD),
    row("ping", request("ping"), RESULT, NO_METHOD),
    row("ping with params", request("ping", {}), RESULT, NO_METHOD),
    row("server/discover", request("server/discover"), UNKNOWN[0], RESULT),
    row("tools/list", request("tools/list"), RESULT),
    row("tools/list with a cursor", request("tools/list", {"cursor": "next"}), RESULT),
    row("a cursor that is none", request("tools/list", {"cursor": 5}), *INVALID),
    row("tools/call", echo(), RESULT),
    row("tools/call, non-ASCII", echo(text="Zürich 東京 🌦️ \u0000"), RESULT),
    row(
        "a call without a token",
        lambda v, _: call(v, "echo", None, text="hi"),
        TOOL_ERROR,
        **NO_TOKENS,
    ),
    row(
        "a call with a bad token",
        lambda v, _: call(v, "echo", "no", text="x"),
        TOOL_ERROR,
        **NO_TOKENS,
    ),
    row("an unknown tool", lambda v, token: call(v, "nothing", token), TOOL_ERROR),
    row(
        "a call without a name",
        request("tools/call", {"arguments": {}}),
        *INVALID,
    ),
    row(
        "arguments that are a list",
        request("tools/call", {"name": "echo", "arguments": ["hi"]}),
        *INVALID,
    ),
    row("a call without params", request("tools/call"), *INVALID),
    row("an unknown method", request("no/such"), *UNKNOWN),
    row("an empty method", request(""), *UNKNOWN),
    row("resources, which are not served", request("resources/list"), *UNKNOWN),
    row("prompts, which are not served", request("prompts/list"), *UNKNOWN),
]

NO_ANSWER = [
    row("a notification", lacking("notifications/initialized", "id"), ACCEPTED),
    row("a cancellation", lacking("notifications/cancelled", "id", requestId=1), ACCEPTED),
    row("an unknown notification", lacking("no/such", "id"), ACCEPTED),
    row("a call as a notification", lacking("tools/call", "id", name="echo"), ACCEPTED),
    row(
        "a posted response",
        whole({"jsonrpc": "2.0", "id": 1, "result": {}}),
        ACCEPTED,
        BAD_ENVELOPE,
    ),
    row(
        "a posted error",
        whole({"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "no"}}),
        ACCEPTED,
        BAD_ENVELOPE,
    ),
    row(
        "a posted error to no request",
        whole({"jsonrpc": "2.0", "id": None, "error": {"code": 1, "message": "no"}}),
        ACCEPTED,
        BAD_ENVELOPE,
    ),
]

PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
ENVELOPES = [
    row("a batch", whole([PING, PING]), BAD_ENVELOPE, **NO_PYDANTIC),
    row("an empty batch", whole([]), BAD_ENVELOPE, **NO_PYDANTIC),
    row("a string", whole("ping"), BAD_ENVELOPE, **NO_PYDANTIC),
    row("a number", whole(5), BAD_ENVELOPE, **NO_PYDANTIC),
    row("null", whole(b"null"), BAD_ENVELOPE, **NO_PYDANTIC),
    row("an empty object", whole({}), BAD_ENVELOPE, **NO_PYDANTIC),
    *(
        row(f"id {i!r}", body(id=i), BAD_ENVELOPE, **NO_NOTIFICATION)
        for i in (None, True, 1.5, {}, [])
    ),
    *(row(f"id {i!r}", body(id=i), RESULT) for i in (0, -1, 10**30, "", "zürich")),
    *(
        row(f"params {p!r}", body(params=p), BAD_ENVELOPE, **NO_PYDANTIC)
        for p in ([], [1], "x", 5, True)
    ),
    row("params null", body(params=None), RESULT, BAD_PARAMS),
    row(
        "a notification's params a list",
        lambda v, _: post(v, "no/such").without("id").with_body(params=[1]),
        BAD_ENVELOPE,
        **NO_PYDANTIC,
    ),
    *(
        row(f"jsonrpc {j!r}", body(jsonrpc=j), BAD_ENVELOPE, **NO_PYDANTIC)
        for j in ("1.0", "2", 2.0, None)
    ),
    row("no jsonrpc", lacking("tools/list", "jsonrpc"), BAD_ENVELOPE, **NO_PYDANTIC),
    row("no method", lacking("tools/list", "method"), BAD_ENVELOPE, **NO_PYDANTIC),
    *(
        row(f"method {m!r}", body(method=m), BAD_ENVELOPE, **NO_PYDANTIC)
        for m in (5, None, ["ping"])
    ),
    row(
        "a result that is a list",
        whole({"jsonrpc": "2.0", "id": 1, "result": []}),
        BAD_ENVELOPE,
        **NO_PYDANTIC,
    ),
    row("a member more", body(more=5), RESULT),
]

NOT_JSON_BODIES = [
    *(
        row(f"not JSON: {text[:24]!r}", whole(text), NOT_JSON)
        for text in (
            b"",
            b"{",
            b"nul",
            b'{"jsonrpc":"2.0","id":1,"method":"ping"',
            b'{"jsonrpc":"2.0","id":1,"method":"ping"}x',
            b'{"jsonrpc":"2.0","id":1,"method":"p\xff"}',
            b"\xed\xa0\x80",
            b"[" * 100_000,
            b'{"a":' * 100_000,
            b'{"jsonrpc":"2.0","id":' + b"9" * 5_000 + b',"method":"ping"}',
        )
    ),
    row(
        "a byte order mark",
        whole(b"\xef\xbb\xbf{}"),
        NOT_JSON,
        sdk_new=BAD_ENVELOPE,
        why="RFC 8259 forbids it; one answer for all eras",
    ),
    row("NaN", whole(b"NaN"), NOT_JSON, sdk=(400, -32602), sdk_new=BAD_ENVELOPE, why=NO_NAN),
    row(
        "NaN in the arguments",
        whole(b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"x":[NaN]}}'),
        NOT_JSON,
        sdk=RESULT,
        sdk_new=BAD_PARAMS,
        why=NO_NAN,
    ),
]

HEADERS = [
    *(
        row(f"Accept: {accept}", listing(accept=accept), RESULT)
        for accept in (
            "application/json, text/event-stream",
            "application/json",
            "application/*",
            "*/*",
            "text/event-stream;q=0.1, application/json;q=0.5",
            "text/html, */*;q=0.8",
            "APPLICATION/JSON",
        )
    ),
    *(
        row(f"Accept: {accept}", listing(accept=accept), NOT_ACCEPTABLE, **JSON_406)
        for accept in (None, "", "text/html", "text/event-stream", "text/*, application/xml")
    ),
    row("a charset", listing(content_type="application/json; charset=utf-8"), RESULT),
    row(
        "Content-Type in capitals",
        listing(content_type="APPLICATION/JSON"),
        RESULT,
        sdk=(415, -32600),
        why="media types know no case, says RFC 9110; the SDK's 2026-07-28 agrees",
    ),
    *(
        row(f"Content-Type: {content_type}", listing(content_type=content_type), PLAIN_400)
        for content_type in (None, "", "text/plain", "application/x-www-form-urlencoded")
    ),
    row("no version: 2025-03-26", listing(mcp_protocol_version=None), RESULT),
    row("another handshake version", listing(mcp_protocol_version="2024-11-05"), RESULT),
    row("initialize asks for another version", initialize("2025-06-18"), RESULT, NO_METHOD),
    *(
        row(
            f"a version nobody knows: {v!r}",
            listing(mcp_protocol_version=v),
            BAD_PARAMS,
            MISMATCH,
        )
        for v in ("1999-01-01", "2027-01-01", "garbage", "")
    ),
    row(
        "2026-07-28 without its envelope",
        listing(mcp_protocol_version=MODERN, mcp_method="tools/list"),
        BAD_PARAMS,
        RESULT,
    ),
    row("a session id of another server", listing(mcp_session_id="4f2c"), RESULT),
    row("a stream to resume", listing(last_event_id="7"), RESULT),
]


def enveloped(meta: Any) -> Callable[[str, str], Post]:
    return lambda version, token: post(version, "tools/list").with_body(params={"_meta": meta})


MODERN_ONLY = [
    row("no _meta", body(params={}), BAD_PARAMS),
    row("_meta is a list", enveloped([]), BAD_PARAMS),
    row("no params", lacking("tools/list", "params"), BAD_PARAMS),
    row("no version in it", enveloped(modern_meta(protocolVersion=None)), BAD_PARAMS),
    row("no capabilities in it", enveloped(modern_meta(clientCapabilities=None)), BAD_PARAMS),
    row("capabilities that are none", enveloped(modern_meta(clientCapabilities=5)), BAD_PARAMS),
    row("no client in it", enveloped(modern_meta(clientInfo=None)), RESULT),
    row("a client that is none", enveloped(modern_meta(clientInfo=5)), BAD_PARAMS),
    row("another version in it", enveloped(modern_meta(protocolVersion="2025-06-18")), MISMATCH),
    row("a version that is a number", enveloped(modern_meta(protocolVersion=5)), MISMATCH),
    row(
        "a version nobody knows, twice",
        lambda v, _: (
            post(v, "tools/list")
            .with_headers(mcp_protocol_version="2027-01-01")
            .with_body(params={"_meta": modern_meta(protocolVersion="2027-01-01")})
        ),
        (400, -32022),
    ),
    row("no method header", listing(mcp_method=None), MISMATCH),
    row("another method header", listing(mcp_method="tools/call"), MISMATCH),
    row(
        "no name header",
        lambda v, t: call(v, "echo", t, text="hi").with_headers(mcp_name=None),
        MISMATCH,
    ),
    row(
        "another name",
        lambda v, t: call(v, "echo", t, text="hi").with_headers(mcp_name="x"),
        MISMATCH,
    ),
    row(
        "a stream without text/event-stream",
        lambda v, t: post(v, "subscriptions/listen", {"notifications": {}}, token=t).with_headers(
            accept="application/json"
        ),
        (406, None),
    ),
]

TABLE = [*METHODS, *NO_ANSWER, *ENVELOPES, *NOT_JSON_BODIES, *HEADERS]
