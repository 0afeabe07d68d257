"""A session's record as the wire has it; its tokens are not in it."""

from __future__ import annotations

from typing import Any, cast

import pydantic_core

from gymhost.http import record_schemas as schemas
from gymhost.models import ToolCall
from gymhost.stores import Page, SessionRow, SessionSummary, Verdict
from gymhost.times import rfc3339

__all__ = ["listed", "recorded"]


def listed(page: Page) -> schemas.Sessions:
    """Return a page of a list."""
    return {"sessions": [_summary(row) for row in page.rows], "cursor": page.cursor}


def recorded(row: SessionRow, calls: list[bytes]) -> schemas.SessionRecord:
    """Return what is known of a session."""
    return {
        "session_id": row.session_id,
        "environment": row.environment,
        "status": row.status,
        "task": pydantic_core.from_json(row.task),
        "state": pydantic_core.from_json(row.state),
        "allowed_tools": None if row.allowed_tools is None else list(row.allowed_tools),
        "calls": [_call(ToolCall.load(call)) for call in calls],
        "failures": dict(row.counts),
        "verdict": None if row.verdict is None else _verdict(row.verdict),
        "pinned": row.pinned,
        "created_at": rfc3339(row.created_at),
        "used_at": None if row.used_at is None else rfc3339(row.used_at),
        "ended_at": None if row.ended_at is None else rfc3339(row.ended_at),
    }


def _summary(row: SessionSummary) -> schemas.ListedSession:
    return {
        "session_id": row.session_id,
        "environment": row.environment,
        "status": row.status,
        "failures": dict(row.counts),
        "verdict": None if row.verdict is None else _short(row.verdict),
        "pinned": row.pinned,
        "created_at": rfc3339(row.created_at),
        "used_at": None if row.used_at is None else rfc3339(row.used_at),
        "ended_at": None if row.ended_at is None else rfc3339(row.ended_at),
    }


def _verdict(verdict: Verdict) -> schemas.RecordedVerdict:
    fields: dict[str, Any] = pydantic_core.from_json(verdict.result)
    fields.pop("reward")  # in its place is what `_short` says
    recorded = {**fields, **_short(verdict), "recorded_at": rfc3339(verdict.recorded_at)}
    return cast(schemas.RecordedVerdict, recorded)  # with the environment's own keys


def _short(verdict: Verdict) -> schemas.ShortVerdict:
    reward: float = pydantic_core.from_json(verdict.result)["reward"]
    kind = verdict.failure_kind
    if kind is None:
        return {"reward": reward, "mask_sample": False, "failure_kind": None}
    # as verify has answered it: a row that is read from here is no reward, either
    return {"unmasked_reward": reward, "mask_sample": True, "failure_kind": kind}


def _call(call: ToolCall) -> schemas.Call:
    assert call.outcome is not None
    return {
        "id": call.id,
        "name": call.name,
        "arguments": call.arguments,
        "kind": call.outcome.kind,
        "result": call.result,
        "error": call.error,
        "content": call.outcome.content,
        "structured_content": call.outcome.structured_content,
        "started_at": rfc3339(call.started_at),
        "duration": call.duration,
    }
