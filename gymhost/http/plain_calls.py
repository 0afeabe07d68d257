"""Plain `tools/call` requests, which are nearly all: told apart, and answered without the SDK.

The SDK's own way, `serve_one`, costs seventy microseconds of models, contexts and sieves. A plain
request has nothing for them to do: exactly the members that it needs, each of its type, and an
answer of text alone. Whatever else comes is the SDK's, and so is every error. The tests of the wire
hold both ways to the same answers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from mcp.shared.inbound import (
    MCP_METHOD_HEADER,
    MCP_NAME_HEADER,
    InboundModernRoute,
    classify_inbound_request,
)
from mcp_types import SERVER_INFO_META_KEY, methods
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from gymhost.http.http_exchange import Head
from gymhost.http.reply import JSON
from gymhost.models import JSONObject, ToolOutcome

__all__ = ["PlainCall", "is_plain_head", "plain_call", "wire_result"]

ACCEPTS = frozenset({JSON, b"application/json, text/event-stream", b"*/*"})
VERSION_HEADER = b"mcp-protocol-version"
PARAM_PREFIX = b"mcp-param-"

MEMBERS = frozenset({"jsonrpc", "id", "method", "params"})
PARAMS = frozenset({"name", "arguments", "_meta"})
LEGACY_META = frozenset({"progressToken"})
STRUCTURED = frozenset({"2025-06-18", "2025-11-25", *MODERN_PROTOCOL_VERSIONS})
"""Versions that know `structuredContent`, which earlier ones must not be sent."""


class PlainCall(NamedTuple):
    """What there is to do, and in which version to answer."""

    request_id: str | int
    name: str
    arguments: JSONObject
    version: str


def is_plain_head(head: Head) -> bool:
    """Whether a request speaks JSON, and takes it."""
    return head.get(b"content-type") == JSON and head.get(b"accept") in ACCEPTS


def plain_call(head: Head, message: Any, default_version: str) -> PlainCall | None:
    """Return what a request asks for, where that is a plain `tools/call`."""
    if type(message) is not dict or message.keys() != MEMBERS:
        return None
    request_id, params = message["id"], message["params"]
    if message["method"] != "tools/call" or message["jsonrpc"] != "2.0":
        return None
    if type(request_id) not in (int, str) or type(params) is not dict:
        return None
    name, arguments = params.get("name"), params.get("arguments")
    if type(name) is not str or type(arguments) is not dict or not params.keys() <= PARAMS:
        return None
    sent = head.get(VERSION_HEADER)
    version = default_version if sent is None else sent.decode("latin-1")
    if version in HANDSHAKE_PROTOCOL_VERSIONS:
        plain = "_meta" not in params or _is_plain_meta(params["_meta"])
    else:
        plain = _is_plain_modern(head, message, version)
    return PlainCall(request_id, name, arguments, version) if plain else None


def _is_plain_meta(meta: Any) -> bool:
    if type(meta) is not dict or not meta.keys() <= LEGACY_META:
        return False
    return all(type(token) in (int, str) for token in meta.values())


def _is_plain_modern(head: Head, message: JSONObject, version: str) -> bool:
    """Whether a request passes the SDK's own checks of 2026-07-28, without mirrored parameters."""
    if version not in MODERN_PROTOCOL_VERSIONS:
        return False
    if any(name.startswith(PARAM_PREFIX) for name in head):
        return False
    named = {
        name: value.decode("latin-1")
        for name, value in (
            ("mcp-protocol-version", head.get(VERSION_HEADER)),
            (MCP_METHOD_HEADER, head.get(MCP_METHOD_HEADER.encode())),
            (MCP_NAME_HEADER, head.get(MCP_NAME_HEADER.encode())),
        )
        if value is not None
    }
    if not isinstance(classify_inbound_request(message, headers=named), InboundModernRoute):
        return False
    try:
        methods.validate_client_request("tools/call", version, message["params"])
    except ValidationError:
        return False
    return True


def wire_result(outcome: ToolOutcome, version: str, server_info: JSONObject) -> JSONObject:
    """Return an outcome as a version of MCP has it.

    Raises: ValueError: an author's content is none that MCP knows.
    """
    modern = version in MODERN_PROTOCOL_VERSIONS
    result: JSONObject = {"content": outcome.content, "isError": outcome.is_error}
    if outcome.structured_content is not None:
        result["structuredContent"] = outcome.structured_content
    if modern:
        result["resultType"] = "complete"
    if not _is_text(outcome.content) or (
        outcome.structured_content is not None and version not in STRUCTURED
    ):
        result = methods.serialize_server_result("tools/call", version, result)
    if modern:
        result["_meta"] = {SERVER_INFO_META_KEY: server_info}
    return result


def _is_text(content: list[JSONObject]) -> bool:
    for block in content:
        if len(block) != 2 or block.get("type") != "text" or type(block.get("text")) is not str:
            return False
    return True
