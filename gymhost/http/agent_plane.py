"""What agents are served, as its document says; `mcp.py` answers it."""

from __future__ import annotations

from functools import cache

from mcp_types import DEFAULT_NEGOTIATED_VERSION
from mcp_types.version import SUPPORTED_PROTOCOL_VERSIONS

from gymhost.errors import InvalidBody, NotFound
from gymhost.http import schemas
from gymhost.http.operation import ENVIRONMENT, JSON, Answer, Operation
from gymhost.models import JSONObject

__all__ = ["agent_plane"]

CALL = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "get_weather", "arguments": {"city": "Paris"}},
}

VERSION: JSONObject = {
    "name": "MCP-Protocol-Version",
    "in": "header",
    "description": f"{DEFAULT_NEGOTIATED_VERSION} where it is absent.",
    "schema": {"type": "string", "enum": [*SUPPORTED_PROTOCOL_VERSIONS]},
}


@cache
def agent_plane(*, checks_hosts: bool) -> tuple[Operation, ...]:
    """Return what agents are served. Their own application answers it."""
    answers = {
        200: Answer(
            "The answer to a request. A tool call that failed is one, too, with `isError: true`: "
            "also where the token is missing, wrong or of a session that has ended. "
            "`subscriptions/listen` answers with a stream, which stays open.",
            {JSON: schemas.JsonRpcAnswer, "text/event-stream": str},
        ),
        202: Answer("A notification was taken."),
        400: Answer(
            "Not one JSON-RPC message, not `application/json`, or a protocol version or header "
            "that does not fit.",
            {JSON: schemas.JsonRpcError, "text/plain": str},
        ),
        404: Answer("A method that 2026-07-28 does not have.", {JSON: schemas.JsonRpcError}),
        406: Answer(
            "`Accept` leaves `application/json` out; for `subscriptions/listen`, "
            "`text/event-stream`, without a body.",
            {JSON: schemas.JsonRpcError},
        ),
        413: Answer("The body is past its limit.", {JSON: schemas.JsonRpcError}),
    }
    if checks_hosts:
        answers[421] = Answer("The Host header is not one of those allowed.", {"text/plain": str})
        answers[403] = Answer("The Origin header is not one of those allowed.", {"text/plain": str})
    return (
        Operation(
            "POST",
            f"{ENVIRONMENT}/mcp",
            "mcp",
            None,
            "agents",
            "Speak MCP",
            "The Model Context Protocol over Streamable HTTP, without sessions of its own, from "
            "2025-03-26 to 2026-07-28. `tools/call` needs the token that seed_session answered. "
            "GET and DELETE are 405, without a body: there is no stream to ask for, and no "
            "session of MCP's to end.",
            answers,
            (NotFound, InvalidBody),
            body=schemas.JsonRpcMessage,
            example=CALL,
            parameters=(VERSION,),
            security="session token",
        ),
    )
