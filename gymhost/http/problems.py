"""Every error of the control plane, as `application/problem+json` (RFC 9457)."""

from __future__ import annotations

import logging
from http import HTTPStatus

import pydantic_core
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gymhost.errors import RequestError, StoreError
from gymhost.http.body import ClientGone

__all__ = ["EXCEPTION_HANDLERS", "problem"]

logger = logging.getLogger("gymhost.http")


def problem(error: RequestError) -> Response:
    """Return an error as a response."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": str(error),
        "failure_kind": error.failure_kind,
        "mask_sample": True,
        **error.extra,
    }
    return Response(
        pydantic_core.to_json(body),
        error.status,
        headers=error.headers,
        media_type="application/problem+json",
    )


async def _request_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    if isinstance(error, StoreError):
        # a store's own words may name its file or its server
        logger.error("the session store failed", exc_info=error)
        told = StoreError("The session store failed. The log has the cause. Try again.")
        told.headers = error.headers
        return problem(told)
    return problem(error)


async def _http_exception(request: Request, error: Exception) -> Response:
    """Starlette's own: no such route."""
    assert isinstance(error, HTTPException)
    wrapped = RequestError(f"{request.method} {request.url.path}: {error.detail}.")
    wrapped.status = error.status_code
    wrapped.failure_kind = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
    wrapped.headers = dict(error.headers or {})
    return problem(wrapped)


async def _client_gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # nobody reads it


async def _internal_error(request: Request, error: Exception) -> Response:
    return problem(RequestError("gymhost failed. The log has the cause."))


EXCEPTION_HANDLERS = {
    RequestError: _request_error,
    HTTPException: _http_exception,
    ClientGone: _client_gone,
    Exception: _internal_error,
}
