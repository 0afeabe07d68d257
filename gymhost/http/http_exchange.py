"""One HTTP request and its one answer."""

from __future__ import annotations

from collections.abc import Mapping

import anyio
from starlette.types import Message, Receive, Scope, Send

from gymhost.errors import BodyTooLarge
from gymhost.http.body import ClientGone
from gymhost.http.reply import Reply

__all__ = ["Head", "HttpExchange"]

Head = Mapping[bytes, bytes]
"""A request's headers by their names in lower case; several of one name are joined."""

# How long the rest of a body is taken that was answered before it had come.
LINGER_SECONDS = 10.0


class HttpExchange:
    """One request's `receive` and `send`, which keep an early answer from ending too early.

    hypercorn closes the connection when an answer ends before its body has come. What is still
    on its way then makes the kernel reset the connection, and the client may never read the
    answer; and over HTTP/2, hypercorn fails over it. The app queue is the other trap: it holds
    ten pieces of a body, and ending an answer waits for room in it, for ever if nobody reads.

    starlette's own `Request` and `Response` do what few requests need, and cost as much as a tool
    call's whole record.
    """

    __slots__ = (
        "_receive",
        "_send",
        "body_ended",
        "end_held",
        "head",
        "repeats",
        "scope",
        "started",
        "stays",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, stays: bool = False) -> None:
        self.scope = scope
        self._receive = receive
        self._send = send
        self.body_ended = False
        """Whether all of the body has come, or its client has left."""
        self.end_held = False
        """Whether the end of an answer waits for the body's."""
        self.started = False
        """Whether there is an answer."""
        self.stays = stays
        """Whether it goes on when its client has left."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        head = dict(headers)
        self.repeats = len(head) != len(headers)
        """Whether a header comes more than once."""
        self.head: Head = _joined(headers) if self.repeats else head
        """Several of one name are one, as HTTP has it."""

    def header(self, name: bytes) -> str | None:
        """Return a header, None where it is absent."""
        value = self.head.get(name)
        return None if value is None else value.decode("latin-1")

    async def receive(self) -> Message:
        """Return what comes next, as ASGI has it."""
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body"):
            self.body_ended = True
        return message

    async def read_body(self, limit: int) -> bytes:
        """Return the body.

        Raises: BodyTooLarge: it is past the limit, and was not read whole; ClientGone.
        """
        declared = self.head.get(b"content-length")
        if declared is not None and declared.isdigit() and int(declared) > limit:
            raise BodyTooLarge(
                f"The body has {int(declared)} bytes, more than the {limit} taken here."
            )
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            self.body_ended = True  # in one piece, as nearly all
            chunks = [message.get("body", b"")]
        else:
            chunks = await self._read_pieces(message, limit)
        body: bytes = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if len(body) > limit:
            raise BodyTooLarge(f"The body has more than the {limit} bytes taken here.")
        return body

    async def _read_pieces(self, message: Message, limit: int) -> list[bytes]:
        chunks: list[bytes] = []
        size = 0
        while True:
            if message["type"] != "http.request":
                self.body_ended = True
                raise ClientGone("The body ended before it was whole.")
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if not message.get("more_body"):
                self.body_ended = True
                return chunks
            if size > limit:
                return chunks
            message = await self._receive()

    async def send(self, message: Message) -> None:
        """Answer, as ASGI has it."""
        self.started = True
        ends = message["type"] == "http.response.body" and not message.get("more_body")
        if ends and not self.body_ended:
            self.end_held = True
            message = {**message, "more_body": True}
        await self._send(message)

    async def answer(self, reply: Reply) -> None:
        """Answer, once: a stop may have been first."""
        if self.started:
            return
        send = self._send if self.body_ended else self.send
        self.started = True
        await send({"type": "http.response.start", "status": reply.status, "headers": reply.head()})
        await send({"type": "http.response.body", "body": reply.body})

    async def finish(self) -> None:
        """End an answer that is held, when its body has come, or has had its time."""
        if not self.end_held:
            return
        with anyio.move_on_after(LINGER_SECONDS):
            await self._discard()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._discard)
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
            tasks.cancel_scope.cancel()

    async def _discard(self) -> None:
        while not self.body_ended:
            await self.receive()


def _joined(headers: list[tuple[bytes, bytes]]) -> Head:
    head: dict[bytes, bytes] = {}
    for name, value in headers:
        separator = b"; " if name == b"cookie" else b", "
        head[name] = head[name] + separator + value if name in head else value
    return head
