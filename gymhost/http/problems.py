"""Every error of the control plane, as `application/problem+json` (RFC 9457)."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

import pydantic_core
from starlette.requests import Request

from gymhost.errors import InternalError, NotFound, RequestError, StoreError, StoreReason
from gymhost.http.reply import Reply

__all__ = ["EXCEPTION_HANDLERS", "answer_to", "problem"]

logger = logging.getLogger("gymhost.http")

PROBLEM = b"application/problem+json"

# A store's own words are for the log: they may name its file or its server.
STORE_FAILURES: dict[StoreReason, str] = {
    "failed": "failed",
    "full": "is full",
    "locked": "is locked by another program",
    "read-only": "can't be written",
    "corrupt": "is damaged",
    "newer": "was written by a later gymhost",
    "foreign": "is another program's",
    "gone": "was deleted or replaced",
    "stalled": "does not answer",
}


def problem(error: RequestError) -> Reply:
    """Return an error as an answer."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": str(error),
        "failure_kind": error.failure_kind,
        "mask_sample": True,
        **error.extra,
    }
    headers = tuple((name.encode(), value.encode()) for name, value in error.headers.items())
    return Reply(pydantic_core.to_json(body), error.status, PROBLEM, headers)


def answer_to(error: Exception) -> Reply:
    """Return what a request is answered that has failed."""
    if isinstance(error, StoreError):
        logger.error("the session store failed", exc_info=error)
        what = STORE_FAILURES[error.reason]
        told = StoreError(f"The session store {what}. The log has the cause. Try again.")
        told.headers = error.headers
        return problem(told)
    if isinstance(error, RequestError):
        return problem(error)
    return problem(InternalError("gymhost failed. The log has the cause."))  # the server logs it


async def _answer(request: Request, error: Exception) -> Reply:
    return answer_to(error)


async def _not_found(request: Request, error: Exception) -> Reply:
    """Starlette's own: no such route."""
    return problem(NotFound(f"{request.method} {request.url.path}: Not Found."))


# starlette calls what they return as an application, which is all that it is typed to be
EXCEPTION_HANDLERS: Any = {RequestError: _answer, 404: _not_found, Exception: _answer}
