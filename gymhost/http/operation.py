"""What one method of one path is: what answers it, and what the document says of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gymhost.errors import RequestError
from gymhost.http.api import Api
from gymhost.http.http_exchange import HttpExchange
from gymhost.http.reply import Reply
from gymhost.models import JSONObject

__all__ = ["ENVIRONMENT", "JSON", "Answer", "Errors", "Handler", "Operation"]

Errors = tuple[type[RequestError], ...]
Handler = Callable[[Api, HttpExchange, str], Awaitable[Reply]]
Security = Literal["control key", "session token", "none"]

JSON = "application/json"
ENVIRONMENT = "/envs/{name}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What one status comes with."""

    description: str
    content: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """A type for each media type; str for text."""
    headers: tuple[str, ...] = ()
    """Always there."""
    links: JSONObject = field(default_factory=dict)


@dataclass(frozen=True, eq=False, slots=True)
class Operation:
    """One method of one path."""

    method: Literal["GET", "POST", "DELETE"]
    path: str
    operation_id: str
    handler: Handler | None
    """None: the agent plane's own application answers."""
    tag: Literal["sessions", "environments", "agents", "server"]
    summary: str
    description: str
    answers: Mapping[int, Answer]
    errors: Errors = ()
    """Those of its own: every operation may fail in gymhost itself, or while the server stops."""
    body: Any = None
    """The type of its body."""
    example: JSONObject | None = None
    """A body that is taken."""
    parameters: tuple[JSONObject, ...] = ()
    security: Security = "control key"
