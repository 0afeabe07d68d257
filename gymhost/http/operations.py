"""What is served, as a table: what answers a request, and what the document says of it."""

from __future__ import annotations

from typing import Any

from gymhost.aggregation import AggregateMetrics
from gymhost.errors import (
    AlreadyVerified,
    BodyTooLarge,
    EnvironmentDown,
    EnvironmentFailed,
    EnvironmentTimeout,
    InvalidBody,
    InvalidField,
    KeyConflict,
    SampleMasked,
    SessionEnded,
    SessionLost,
    StoreError,
    TaskMismatch,
    UnknownEnvironment,
)
from gymhost.http import schemas
from gymhost.http.api import COOKIE, Api
from gymhost.http.operation import ENVIRONMENT, JSON, Answer, Errors, Operation
from gymhost.http.record_operations import RECORD
from gymhost.models import JSONObject, SeedAnswer

__all__ = ["CONTROL_PLANE", "SESSION_COOKIE"]


def _header(name: str, description: str, **schema: Any) -> JSONObject:
    return {
        "name": name,
        "in": "header",
        "description": description,
        "schema": {"type": "string", **schema},
    }


IDEMPOTENCY_KEY = _header(
    "Idempotency-Key",
    "A repeated request with the same key and body gets the same session, and one more token.",
)
PREFER = _header("Prefer", "`return=minimal` leaves the echo of the body out.")
SESSION_COOKIE: JSONObject = {
    "name": COOKIE,
    "in": "cookie",
    "description": "The session, as seed_session sets it; a `session_id` in the body wins.",
    "schema": {"type": "string"},
}

NAMED: Errors = (UnknownEnvironment, EnvironmentDown)
BODY: Errors = (InvalidBody, InvalidField, BodyTooLarge)
HOOK: Errors = (EnvironmentFailed, EnvironmentTimeout)

TASK = {
    "responses_create_params": {
        "input": [{"role": "user", "content": "What is the weather in Paris?"}]
    },
    "verifier_metadata": {"expected_city": "Paris"},
}
OUTPUT = [
    {
        "type": "message",
        "role": "assistant",
        "content": [
            {"type": "output_text", "text": "The weather in Paris is sunny and 72 F."},
        ],
    }
]


def _on_the_session(operation_id: str) -> JSONObject:
    parameters = {"path.name": "$request.path.name", COOKIE: "$response.body#/session_id"}
    return {"operationId": operation_id, "parameters": parameters}


LINKS: JSONObject = {
    "verify": _on_the_session("verify"),
    "close_session": _on_the_session("close_session"),
    **{
        operation_id: {
            "operationId": operation_id,
            "parameters": {"session_id": "$response.body#/session_id"},
        }
        for operation_id in ("session", "delete_session")
    },
}


CONTROL_PLANE = (
    Operation(
        "POST",
        f"{ENVIRONMENT}/seed_session",
        "seed_session",
        Api.seed_session,
        "sessions",
        "Start a session",
        "Seeds a session from a task. The answer has the agent's MCP endpoint and its token, "
        "which is told here and nowhere else; without tools, `mcp` is absent.",
        {200: Answer("The session.", {JSON: SeedAnswer}, ("Set-Cookie",), LINKS)},
        (*BODY, *NAMED, *HOOK, KeyConflict, StoreError),
        body=schemas.SeedBody,
        example=TASK,
        parameters=(IDEMPOTENCY_KEY,),
    ),
    Operation(
        "POST",
        f"{ENVIRONMENT}/verify",
        "verify",
        Api.verify,
        "sessions",
        "Score an attempt",
        "Scores once: the same body joins the run in flight or gets the recorded answer, "
        "another one 409. A verify that failed may be tried again. The session is named by "
        "the cookie or in the body; an environment that is `stateless` needs none.",
        {200: Answer("The score.", {JSON: schemas.VerifyScore})},
        (
            *(*BODY, *NAMED, *HOOK, SampleMasked),
            *(SessionLost, SessionEnded, TaskMismatch, AlreadyVerified, StoreError),
        ),
        body=schemas.VerifyBody,
        example={"response": {"output": OUTPUT}},
        parameters=(SESSION_COOKIE, PREFER),
    ),
    Operation(
        "POST",
        f"{ENVIRONMENT}/close_session",
        "close_session",
        Api.close_session,
        "sessions",
        "End a session unscored",
        "Waits for the calls that run. A session that has ended stays as it is.",
        {200: Answer("How it has ended.", {JSON: schemas.Closed}, ("Set-Cookie",))},
        (*BODY, *NAMED, SessionLost, StoreError),
        body=schemas.SessionBody,
        parameters=(SESSION_COOKIE,),
    ),
    Operation(
        "POST",
        f"{ENVIRONMENT}/aggregate_metrics",
        "aggregate_metrics",
        Api.aggregate_metrics,
        "environments",
        "Compute statistics over many scores",
        "Each metric is `mean`, `max`, `min`, `median` or `std`, a slash and a field's name.",
        {200: Answer("The statistics.", {JSON: AggregateMetrics})},
        (*BODY, *NAMED, *HOOK),
        body=schemas.AggregateBody,
        example={"verify_responses": [{"reward": 1.0}, {"reward": 0.0}]},
    ),
    Operation(
        "GET",
        ENVIRONMENT,
        "environment",
        Api.environment,
        "environments",
        "Show one environment",
        "Its tools, limits and counts.",
        {200: Answer("The environment.", {JSON: schemas.Environment})},
        NAMED,
    ),
    Operation(
        "GET",
        "/envs",
        "environments",
        Api.environments,
        "environments",
        "List the environments",
        "And the extensions, and what failed and why.",
        {200: Answer("What is mounted, and what is not.", {JSON: schemas.Environments})},
    ),
    *RECORD,
    Operation(
        "GET",
        "/openapi.json",
        "openapi",
        Api.openapi,
        "server",
        "Describe the server",
        "This document.",
        {200: Answer("OpenAPI 3.1.", {JSON: JSONObject})},
    ),
    Operation(
        "GET",
        "/healthz",
        "health",
        Api.health,
        "server",
        "Whether the process answers",
        "It does while it can.",
        {200: Answer("It does.", {JSON: schemas.Health})},
        security="none",
    ),
    Operation(
        "GET",
        "/readyz",
        "ready",
        Api.ready,
        "server",
        "Whether new sessions are taken",
        "Not while the server stops, where no environment is mounted, or where the session store "
        "can't be written: that is tried, at most once a second.",
        {
            200: Answer("They are.", {JSON: schemas.Readiness}),
            503: Answer("They are not.", {JSON: schemas.Readiness}),
        },
        security="none",
    ),
    Operation(
        "GET",
        "/",
        "index",
        Api.index,
        "server",
        "Say what this is",
        "The version, and where to look next.",
        {200: Answer("This is gymhost.", {JSON: schemas.Index})},
        security="none",
    ),
)
"""What trainers and operators are served."""
