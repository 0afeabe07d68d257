"""JSON-RPC's two answers."""

from __future__ import annotations

from typing import Any

from gymhost.http.reply import Reply, reply_json
from gymhost.models import JSONObject

__all__ = ["rpc_error", "rpc_result"]

RequestId = str | int | None


def rpc_result(request_id: RequestId, result: JSONObject) -> Reply:
    """Return a request's result as an answer."""
    return reply_json({"jsonrpc": "2.0", "id": request_id, "result": result})


def rpc_error(
    request_id: RequestId, code: int, message: str, data: Any = None, *, status: int = 200
) -> Reply:
    """Return a request's error as an answer."""
    error = {"code": code, "message": message}
    if data is not None:
        error["data"] = data
    return reply_json({"jsonrpc": "2.0", "id": request_id, "error": error}, status)
