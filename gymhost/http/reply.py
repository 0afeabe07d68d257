"""An answer to an HTTP request: whole, and small enough to be made for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pydantic_core
from starlette.types import Receive, Scope, Send

__all__ = ["JSON", "Header", "Reply", "reply_json"]

JSON = b"application/json"
Header = tuple[bytes, bytes]


@dataclass(slots=True)
class Reply:
    """A status, headers and a body. As an ASGI application, it answers every request with them."""

    body: bytes = b""
    status: int = 200
    media_type: bytes = JSON
    """Empty: there is none, as there is no body."""
    headers: tuple[Header, ...] = ()
    """Besides the body's type and length."""

    def head(self) -> list[Header]:
        """Return all of the headers."""
        head = [*self.headers]
        if self.media_type:
            head.append((b"content-type", self.media_type))
        if self.status != 204:
            head.append((b"content-length", b"%d" % len(self.body)))
        return head

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": self.head()})
        await send({"type": "http.response.body", "body": self.body})


def reply_json(value: Any, status: int = 200) -> Reply:
    """Return an answer that is JSON."""
    return Reply(pydantic_core.to_json(value), status)
