"""The record's part of what is served: the sessions, one and all."""

from __future__ import annotations

from typing import Any, get_args

from gymhost.errors import EnvironmentMissing, InvalidField, SessionLost, StoreError
from gymhost.http import record_schemas as schemas
from gymhost.http.api import MOST_SESSIONS, Api
from gymhost.http.operation import JSON, Answer, Operation
from gymhost.models import JSONObject
from gymhost.stores import Status

__all__ = ["RECORD"]


def _query(name: str, description: str, **schema: Any) -> JSONObject:
    return {
        "name": name,
        "in": "query",
        "description": description,
        "schema": {"type": "string", **schema},
    }


SESSION_ID: JSONObject = {
    "name": "session_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1},
}
OF_ENVIRONMENT = _query("environment", "Those of one environment, be it mounted or not.")
ENDED_BEFORE = {
    **_query("ended_before", "Those that ended before then.", format="date-time"),
    "required": True,
}
FILTERS = (
    OF_ENVIRONMENT,
    _query("status", "Those of one status.", enum=list(get_args(Status))),
    _query("since", "Those created then or later.", format="date-time"),
    _query("until", "Those created before then.", format="date-time"),
    _query("cursor", "The `cursor` of the page before."),
    _query(
        "limit",
        "The most on a page.",
        type="integer",
        minimum=1,
        maximum=MOST_SESSIONS,
        default=100,
    ),
)

RECORD = (
    Operation(
        "GET",
        "/sessions",
        "sessions",
        Api.sessions,
        "sessions",
        "List the sessions",
        "Newest first, without their tasks, states and calls. What all parameters say must be so.",
        {200: Answer("A page.", {JSON: schemas.Sessions})},
        (InvalidField, StoreError),
        parameters=FILTERS,
    ),
    Operation(
        "DELETE",
        "/sessions",
        "prune_sessions",
        Api.prune_sessions,
        "sessions",
        "Forget old sessions",
        "Those that have ended: one that lives stays, unless its environment is not served, and "
        "nobody has used it for a day. One whose environment is yet to be told that it has ended "
        "stays, too.",
        {200: Answer("They are forgotten.", {JSON: schemas.Pruned})},
        (InvalidField, StoreError),
        parameters=(ENDED_BEFORE, OF_ENVIRONMENT),
    ),
    Operation(
        "GET",
        "/sessions/{session_id}",
        "session",
        Api.session,
        "sessions",
        "Show a session's record",
        "Its task, state, tool calls and verdict; a session that has ended is kept a while.",
        {200: Answer("The record.", {JSON: schemas.SessionRecord})},
        (SessionLost, StoreError),
        parameters=(SESSION_ID,),
    ),
    Operation(
        "DELETE",
        "/sessions/{session_id}",
        "delete_session",
        Api.delete_session,
        "sessions",
        "Forget a session",
        "One that lives is closed first, after the calls that run; its tokens open nothing then.",
        {204: Answer("It is forgotten.")},
        (SessionLost, EnvironmentMissing, StoreError),
        parameters=(SESSION_ID,),
    ),
)
"""What is known of sessions, and how it is forgotten."""
