"""One attempt, as a client plays it: its session, its tools over MCP, its score."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

import httpx2

from gymhost.models import JSONObject, McpConnection, SeedAnswer, Task

if TYPE_CHECKING:
    import mcp

__all__ = [
    "TIMEOUT",
    "Episode",
    "McpMode",
    "ToolAnswer",
    "answer_item",
    "bare_error",
    "call_items",
    "connected",
]

McpMode = Literal["auto", "legacy"]
"""`auto` speaks 2026-07-28 where the server does; `legacy` begins with `initialize`."""

READ_SECONDS = 600  # how long an answer may take
TIMEOUT = httpx2.Timeout(30, read=READ_SECONDS)


class ControlPlane(Protocol):
    """What an episode asks of its client."""

    async def session(self, session_id: str) -> JSONObject:
        """Return a session's record."""
        ...

    async def verify(
        self,
        name: str,
        session_id: str,
        answer: str | None = None,
        *,
        output: Sequence[JSONObject] = (),
    ) -> JSONObject:
        """Score a session."""
        ...


@dataclass(frozen=True, slots=True)
class ToolAnswer:
    """What an agent gets back from a tool."""

    text: str
    is_error: bool
    structured_content: JSONObject | None = None
    content: Sequence[JSONObject] = ()
    """MCP's content blocks, of which `text` has the texts."""


@dataclass
class Episode:
    """One attempt: its session, its tools, and what has been done in it."""

    client: ControlPlane
    environment: str
    task: Task
    seeded: SeedAnswer
    mcp: mcp.Client | None = None
    items: list[JSONObject] = field(default_factory=list)
    """The trajectory so far, as Responses API items."""
    verified: bool = False

    @property
    def session_id(self) -> str:
        """The session's id, for the control plane."""
        return self.seeded.session_id

    async def tools(self) -> list[str]:
        """Return the names of the tools this session may use."""
        if self.mcp is None:
            return []
        return [tool.name for tool in (await self.mcp.list_tools()).tools]

    async def call_tool(self, name: str, arguments: JSONObject | None = None) -> ToolAnswer:
        """Call a tool as an agent does.

        Raises: mcp.MCPError: what answers does not speak MCP, or did not answer in ten minutes.
        """
        if self.mcp is None:
            raise RuntimeError(f"{self.environment!r} has no tools")
        result = await self.mcp.call_tool(name, arguments or {})
        text = "\n".join(block.text for block in result.content if block.type == "text")
        call_id = f"call_{len(self.items) // 2}"
        self.items += call_items(call_id, name, arguments or {}, text)
        content = [
            block.model_dump(mode="json", by_alias=True, exclude_none=True)
            for block in result.content
        ]
        return ToolAnswer(text, bool(result.is_error), result.structured_content, content)

    async def verify(
        self, answer: str | None = None, *, output: Sequence[JSONObject] | None = None
    ) -> JSONObject:
        """Score the attempt: the calls made here and a final `answer`, or an `output` of its own.

        Raises: ApiError: no score; the error says whether to leave the sample out.
        """
        items = self.items if output is None else output
        verdict = await self.client.verify(self.environment, self.session_id, answer, output=items)
        self.verified = True
        return verdict

    async def record(self) -> JSONObject:
        """Return what the server has recorded of the session.

        Raises: ApiError.
        """
        return await self.client.session(self.session_id)


def answer_item(text: str) -> JSONObject:
    """Return what an agent says, as a Responses API item."""
    content = [{"type": "output_text", "text": text}]
    return {"type": "message", "role": "assistant", "content": content}


def call_items(call_id: str, name: str, arguments: JSONObject, output: str) -> list[JSONObject]:
    """Return a tool call and its output, as Responses API items."""
    return [
        {
            "type": "function_call",
            "call_id": call_id,
            "name": name,
            "arguments": json.dumps(arguments),
        },
        {"type": "function_call_output", "call_id": call_id, "output": output},
    ]


@asynccontextmanager
async def connected(
    episode: Episode, mode: McpMode, transport: httpx2.AsyncBaseTransport | None
) -> AsyncGenerator[None]:
    """Connect to the tools of an episode, if it has any, for as long as the block runs."""
    error: BaseException | None = None
    try:
        async with AsyncExitStack() as stack:
            if episode.seeded.mcp is not None:
                episode.mcp = await stack.enter_async_context(
                    _connect(episode.seeded.mcp, mode, transport)
                )
            try:
                yield
            except BaseException as exc:
                error = exc
                raise
    except BaseExceptionGroup as group:
        bare = bare_error(group, error)
        raise bare from bare.__cause__


@asynccontextmanager
async def _connect(
    connection: McpConnection, mode: McpMode, transport: httpx2.AsyncBaseTransport | None
) -> AsyncGenerator[mcp.Client]:
    # here: it takes most of a second to import, and the control plane does without
    import mcp
    from mcp.client.streamable_http import streamable_http_client

    async with httpx2.AsyncClient(
        headers=connection.headers, timeout=TIMEOUT, transport=transport
    ) as http:
        streams = streamable_http_client(connection.url, http_client=http)
        # of its own: HTTP's does not see an answer that never comes while others do
        async with mcp.Client(streams, mode=mode, read_timeout_seconds=READ_SECONDS) as client:
            yield client


def bare_error(
    group: BaseExceptionGroup[BaseException], error: BaseException | None
) -> BaseException:
    """Return what the MCP client's task groups have wrapped: `error`, or the only one there is."""
    leaves = _leaves(group)
    # not by identity: on trio, a group that passes a nursery becomes another one
    if error is not None and leaves == _leaves(error):
        return error
    return leaves[0] if len(leaves) == 1 else group


def _leaves(error: BaseException) -> list[BaseException]:
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for part in error.exceptions for leaf in _leaves(part)]
